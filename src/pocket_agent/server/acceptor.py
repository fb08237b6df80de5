"""Takes connections in, one at a time, so that whoever makes thousands of them holds nobody up."""

import asyncio
import contextlib
import errno
import http
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

from aiohttp import web

from pocket_agent.events import Observer, TaskFaulted
from pocket_agent.server.answer import HEADERS
from pocket_agent.server.limits import Admission
from pocket_agent.supervision import supervise

_BACKLOG: Final = 1024
_HANDSHAKE_SECONDS: Final = 10.0
_HEAD_SECONDS: Final = 20.0
"""How long a connection may take to send the head of its first request, or of the next one."""
_PAUSE_SECONDS: Final = 0.2
"""How long to wait when the system has no room for another connection."""
_BREATH_SECONDS: Final = 0.001
"""How long to look after the others when a connection was dropped: dropping thousands must not be all that is done."""
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: a connection that is dropped leaves nothing behind (socket(7))."""


async def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on all addresses of a host; a port of 0 becomes the same free one for all.

    Raises:
        OSError: an address cannot be listened on.
    """
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
                    one.close()  # a name that also stands for an address that this machine has not (IPv6 is off)
                    continue
                raise
            one.listen(_BACKLOG)
            opened.append(one)
        if not opened:
            raise OSError(errno.EADDRNOTAVAIL, "this machine has no such address")
        undo.pop_all()
    return opened


class HttpConnection(web.RequestHandler):
    """One connection's HTTP; reports its first request and its end."""

    __slots__ = ("_heard", "_left")

    def __init__(self, server: web.Server, heard: Callable[[], None], left: Callable[[], None]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # which the library documents
            keepalive_timeout=_HEAD_SECONDS,
            auto_decompress=False,
        )
        self._heard = heard
        self._left = left

    def heard(self) -> None:
        """The head of a request has come, whole."""
        self._heard()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, without the versions and the parser's findings that the library would show."""
        super().handle_error(request, status, exc, message)
        text = f"{status}: {http.HTTPStatus(status).phrase}\n"
        answer = web.Response(status=status, text=text, headers={**HEADERS, "Server": "pocket-agent"})
        answer.force_close()
        return answer

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell so."""
        super().connection_lost(exc)
        self._left()


class Acceptor:
    """Serves listening sockets.

    Args:
        server: answers requests.
        context: for TLS.
        admission: which connections may be.
        patience: tells after how many seconds the system gives up a connection whose other end takes nothing.
        observer: gets a TaskFaulted event for each fault of the server's own that a connection runs into.
    """

    def __init__(
        self,
        server: web.Server,
        context: ssl.SSLContext | None,
        admission: Admission,
        patience: Callable[[], float],
        observer: Observer,
    ) -> None:
        self._server = server
        self._context = context
        self._admission = admission
        self._patience = patience
        self._observer = observer
        self._arriving: set[asyncio.Task[None]] = set()
        self._silent: dict[contextlib.ExitStack, Callable[[], object]] = {}
        """What drops each connection that has sent no request yet, the oldest first, by its place."""

    @contextlib.asynccontextmanager
    async def serving(self, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Take connections in until the block is left; those that are in stay."""
        try:
            async with asyncio.TaskGroup() as tasks:
                loops = [
                    tasks.create_task(supervise("accept", partial(self._accept, one, tasks), self._observer))
                    for one in sockets
                ]
                try:
                    yield
                finally:
                    for task in (*loops, *self._arriving):
                        task.cancel()
        except BaseExceptionGroup as group:  # which wraps what the block itself raises, too
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
                # It was gone before it was taken, or the system has no room (accept(2), "Error handling").
                await asyncio.sleep(0 if error.errno == errno.ECONNABORTED else _PAUSE_SECONDS)
                continue
            if self._admission.full:
                self._drop_oldest()
            if not self._admission.enter(address[0]):
                drop(connected)
                await asyncio.sleep(_BREATH_SECONDS)
                continue
            place = contextlib.ExitStack()
            place.callback(self._admission.leave, address[0])
            place.callback(self._silent.pop, place, None)
            task = tasks.create_task(self._take_in(connected, place))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
            self._silent[place] = partial(_shut, connected)
            if len(self._silent) > self._admission.most_silent:
                self._drop_oldest()
                await asyncio.sleep(_BREATH_SECONDS)

    def _drop_oldest(self) -> None:
        """Make room: end the connection that has been silent for longest, if there is one."""
        if self._silent:
            place, end = next(iter(self._silent.items()))
            place.close()
            end()

    async def _take_in(self, connected: socket.socket, place: contextlib.ExitStack) -> None:
        def heard() -> None:
            self._silent.pop(place, None)

        try:
            _limit_patience(connected, self._patience())
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: HttpConnection(self._server, heard, place.close),
                connected,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if self._context is not None else None,
            )
            if place in self._silent:
                self._silent[place] = transport.abort
        except OSError:  # no TLS, or not in time
            connected.close()
            place.close()
        except Exception as error:  # noqa: BLE001 - the border of a connection: a fault in one must not end the server
            connected.close()
            place.close()
            self._observer.emit(TaskFaulted("accept", error))
        except BaseException:
            connected.close()
            place.close()
            raise


def _shut(connected: socket.socket) -> None:
    """Let a TLS handshake that is under way fail, so that the transport ends as after any other failure."""
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def drop(connected: socket.socket) -> None:
    """End a connection without a word."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connected.close()


def _limit_patience(connected: socket.socket, seconds: float) -> None:
    """Let the system give up the connection when what was sent is not taken for so long (tcp(7))."""
    if sys.platform == "linux":
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(int(seconds * 1000), 2**31 - 1))
