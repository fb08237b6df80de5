"""Accept loop with admission control; a flood of connections cannot starve the event loop."""

import asyncio
import contextlib
import errno
import http
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from aiohttp import web

from pocket_agent.events import Observer, TaskFaulted
from pocket_agent.server.answer import HEADERS
from pocket_agent.server.limits import Admission
from pocket_agent.supervision import supervise

_BACKLOG: Final = 1024
_HANDSHAKE_SECONDS: Final = 10.0
_HEAD_SECONDS: Final = 20.0  # the limit for the head of the first request of a connection, and of the next one
_PAUSE_SECONDS: Final = 0.2  # the wait when the system cannot accept another connection
_YIELD_SECONDS: Final = 0.001
"""Time for other tasks after a connection was dropped, so that a flood does not take all of it."""
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: closing sends RST, and leaves no state behind (socket(7))."""


async def bind(host: str, port: int) -> list[socket.socket]:
    """Open listening sockets on all addresses of a host; port 0 is the same free one for all. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as undo:
        opened: list[socket.socket] = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = undo.enter_context(socket.socket(family, kind, protocol))
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = opened[0].getsockname()[1] if opened and not port else port
            try:
                one.bind((address[0], chosen, *address[2:]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    one.close()  # the name also has an address that this machine does not have (IPv6 is off)
                    continue
                raise
            one.listen(_BACKLOG)
            opened.append(one)
        if not opened:
            raise OSError(errno.EADDRNOTAVAIL, "this machine has no such address")
        undo.pop_all()
    return opened


class HttpConnection(web.RequestHandler):
    """The HTTP of one connection; calls `heard` at the head of each request, and `left` at its end."""

    __slots__ = ("_left", "heard")

    def __init__(self, server: web.Server, heard: Callable[[], None], left: Callable[[], None]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # which the library documents
            keepalive_timeout=_HEAD_SECONDS,
            auto_decompress=False,
        )
        self.heard = heard
        self._left = left

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer invalid HTTP, without the versions and parser messages that aiohttp would show."""
        super().handle_error(request, status, exc, message)
        text = f"{status}: {http.HTTPStatus(status).phrase}\n"
        answer = web.Response(status=status, text=text, headers={**HEADERS, "Server": "pocket-agent"})
        answer.force_close()
        return answer

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._left()


@dataclass(eq=False)
class Acceptor:
    """Serves listening sockets."""

    server: web.Server
    context: ssl.SSLContext | None
    admission: Admission
    patience: Callable[[], float]  # seconds after which the system closes a connection that acknowledges nothing
    observer: Observer
    _arriving: set[asyncio.Task[None]] = field(default_factory=set)
    _silent: dict[contextlib.ExitStack, Callable[[], object]] = field(default_factory=dict)
    """For each connection that has sent no request yet, the oldest first: its admission, and what aborts it."""

    @contextlib.asynccontextmanager
    async def serving(self, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Accept connections until the block is left; open ones stay."""
        try:
            async with asyncio.TaskGroup() as tasks:
                loops = [
                    tasks.create_task(supervise("accept", partial(self._accept, one, tasks), self.observer))
                    for one in sockets
                ]
                try:
                    yield
                finally:
                    for task in (*loops, *self._arriving):
                        task.cancel()
        except BaseExceptionGroup as group:  # which wraps exceptions of the block, too
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
        finally:
            for one in sockets:
                one.close()

    async def _accept(self, listening: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, address = await loop.sock_accept(listening)
            except OSError as error:
                # The client closed before the accept, or the system lacks resources (accept(2), "Error handling").
                await asyncio.sleep(0 if error.errno == errno.ECONNABORTED else _PAUSE_SECONDS)
                continue
            if self.admission.full:
                self._drop_oldest()
            if not self.admission.enter(address[0]):
                drop(connected)
                await asyncio.sleep(_YIELD_SECONDS)
                continue
            place = contextlib.ExitStack()
            place.callback(self.admission.leave, address[0])
            place.callback(self._silent.pop, place, None)
            task = tasks.create_task(self._serve(connected, place))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
            self._silent[place] = partial(_shut, connected)
            if len(self._silent) > self.admission.most_silent:
                self._drop_oldest()
                await asyncio.sleep(_YIELD_SECONDS)

    def _drop_oldest(self) -> None:
        if self._silent:
            place, end = next(iter(self._silent.items()))
            place.close()
            end()

    async def _serve(self, connected: socket.socket, place: contextlib.ExitStack) -> None:
        def heard() -> None:
            self._silent.pop(place, None)

        try:
            _set_user_timeout(connected, self.patience())
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: HttpConnection(self.server, heard, place.close),
                connected,
                ssl=self.context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if self.context is not None else None,
            )
            if place in self._silent:
                self._silent[place] = transport.abort
        except OSError:  # no TLS, or not in time
            connected.close()
            place.close()
        except Exception as error:  # noqa: BLE001 - the border of a connection
            connected.close()
            place.close()
            self.observer.emit(TaskFaulted("accept", error))
        except BaseException:
            connected.close()
            place.close()
            raise


def _shut(connected: socket.socket) -> None:
    """Make a TLS handshake in progress fail, so that the transport ends as after any other failure."""
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def drop(connected: socket.socket) -> None:
    """Close a connection with RST."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connected.close()


def _set_user_timeout(connected: socket.socket, seconds: float) -> None:
    """Have the system close a connection when data stays unacknowledged for this time (tcp(7))."""
    if sys.platform == "linux":
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(int(seconds * 1000), 2**31 - 1))
