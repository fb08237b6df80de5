"""A network that fails or is slow: a TCP relay in front of the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass


class Proxy:
    """Relays to a port on loopback.

    Attributes:
        port: where it listens.
        cuts: how many connections it has broken off.
    """

    def __init__(self, target: int, budgets: Iterable[int], pace: "Pace | None" = None) -> None:
        """Prepare.

        Args:
            target: the server's port.
            budgets: for each connection in turn the bytes towards the client after which it is broken
                off, without a goodbye; connections after the last of them live.
            pace: how fast bytes go, in each direction; None lets them go as they come.
        """
        self.port = 0
        self.cuts = 0
        self._target = target
        self._budgets = iter(budgets)
        self._links = (None, None) if pace is None else (_Link(pace), _Link(pace))
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        budget = next(self._budgets, None)
        upstream, to_server = await asyncio.open_connection("127.0.0.1", self._target, limit=_SMALL)
        self._writers.add(writer)
        try:
            async with asyncio.TaskGroup() as relays:
                to, back = self._links
                up = relays.create_task(_relay(reader, to_server, None) if to is None else to.relay(reader, to_server))
                down = relays.create_task(
                    _relay(upstream, writer, budget) if back is None else back.relay(upstream, writer)
                )
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
            if not down.cancelled() and down.result():
                self.cuts += 1
        finally:
            self._writers.discard(writer)
            to_server.transport.abort()
            writer.transport.abort()

    def break_off(self) -> None:
        """Break off the connections there are."""
        for writer in list(self._writers):
            self.cuts += 1
            writer.transport.abort()


@dataclass(frozen=True)
class Pace:
    """How fast a link is.

    Attributes:
        bytes_per_second: what all connections together get, in each direction.
        latency: seconds from one end to the other.
    """

    bytes_per_second: float
    latency: float


class _Link:
    """One direction of a slow link, shared by all connections; what is under way is bounded, so that senders wait."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._free = 0.0

    async def relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> bool:
        """Pass bytes on until the end, each when it would be there."""
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                at, data = await under_way.get()
                await asyncio.sleep(at - clock())
                if not data:
                    return
                sink.write(data)
                await sink.drain()

        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(arrive())
                while data := await source.read(_SMALL):
                    self._free = max(self._free, clock()) + len(data) / self._pace.bytes_per_second
                    under_way.put_nowait((self._free + self._pace.latency, data))
                    await asyncio.sleep(self._free - clock())
                under_way.put_nowait((clock() + self._pace.latency, b""))
        return False


_SMALL = 1400


async def _relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: int | None) -> bool:
    """Pass bytes on until the end; True when the budget ended it."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            if budget is not None and len(data) >= budget:
                sink.write(data[:budget])
                return True
            budget = None if budget is None else budget - len(data)
            sink.write(data)
            await sink.drain()
    return False


@contextlib.asynccontextmanager
async def running_proxy(target: int, budgets: Iterable[int] = (), pace: Pace | None = None) -> AsyncIterator[Proxy]:
    """A relay to `target`, ended with all its connections."""
    proxy = Proxy(target, budgets, pace)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=_SMALL)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
