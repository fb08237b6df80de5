"""A network that fails: a TCP relay in front of the server that breaks connections off where it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable


class Proxy:
    """Relays to a port on loopback.

    Attributes:
        port: where it listens.
        cuts: how many connections it has broken off.
    """

    def __init__(self, target: int, budgets: Iterable[int]) -> None:
        """Prepare.

        Args:
            target: the server's port.
            budgets: for each connection in turn the bytes towards the client after which it is broken
                off, without a goodbye; connections after the last of them live.
        """
        self.port = 0
        self.cuts = 0
        self._target = target
        self._budgets = iter(budgets)
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        budget = next(self._budgets, None)
        upstream, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(writer)
        try:
            async with asyncio.TaskGroup() as relays:
                up = relays.create_task(_relay(reader, to_server, None))
                down = relays.create_task(_relay(upstream, writer, budget))
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
async def running_proxy(target: int, budgets: Iterable[int] = ()) -> AsyncIterator[Proxy]:
    """A relay to `target`, ended with all its connections."""
    proxy = Proxy(target, budgets)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
