"""One WebSocket connection: reads requests, writes frames, never waits for a client that does not read."""

import asyncio
import fcntl
import struct
import termios
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple, Protocol

from aiohttp import WebSocketError, WSMsgType, web

from pocket_agent.errors import InternalError, InvalidMessageError, PocketAgentError, RateLimitedError
from pocket_agent.events import (
    ConnectionClosed,
    ConnectionOpened,
    ConsumerDropped,
    Observer,
    PongReceived,
    RequestFaulted,
    RequestHandled,
)
from pocket_agent.hub import Channel, Cursor, GapError, Hub
from pocket_agent.model import Device, ProjectId
from pocket_agent.protocol.frame import deflate, encode_data, encode_frame, websocket_frame
from pocket_agent.protocol.push import ErrorData, IncomingData
from pocket_agent.protocol.requests import ClientFrame, decode, request_id_of
from pocket_agent.server.limits import Quota
from pocket_agent.server.peer import Peer
from pocket_agent.session.project_log import now
from pocket_agent.settings import CurrentSettings

# ----------------------------------------------------------------------
# Statistics that a connection requested at an interval.


class Feed:
    """One of them.

    Args:
        interval: seconds between two frames, above 0.
        read: the `data` of the next frame; None when there is nothing new.
        now: the present time, in seconds of the monotonic clock; the reply to the request was the first frame.

    Attributes:
        interval: the same.
        due: when the next frame is due.
    """

    def __init__(self, interval: float, read: Callable[[], object | None], now: float) -> None:
        self.interval = interval
        self.due = now + interval
        self._read = read

    def take(self, now: float) -> object | None:
        """What is to be sent, once it is due; None when there is nothing new."""
        self.due = now + self.interval
        return self._read()


# ----------------------------------------------------------------------
# The connection.

CLOSE_GOING_AWAY: Final = 1001
CLOSE_POLICY: Final = 1008
CLOSE_INTERNAL_ERROR: Final = 1011
CLOSE_UNAUTHORIZED: Final = 4001
CLOSE_SLOW_CONSUMER: Final = 4008
CLOSE_REVOKED: Final = 4009

_COUNTED: Final = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING})
"""What a client says of its own accord."""
_PING: Final = b"\x89\x00"  # RFC 6455 section 5.5.2, without a payload
_MAX_IN_FLIGHT: Final = 32
"""Requests of one connection that may be under way at a time."""
_PLACE_BYTES: Final = 256 * 1024
"""A large request counts for so many as fill its size, so that those under way bound the memory that they take."""
_DEFLATE_BYTES: Final = 1024
"""A page of history below this is not worth compressing."""
_ANNOUNCED_BYTES: Final = 16 * 1024
"""More than this at once is announced to clients that want that: 4 s on a link of 4 kB/s."""
_LINGER_SECONDS: Final = 30.0
"""How long a client that is closed has to take what waits for it, and the code of the close behind that."""
_POLL_SECONDS: Final = (0.001, 0.05)
"""How often a congested transport is looked at: at first, and at most."""


class Done(NamedTuple):
    """A request that was carried out: for which project, if it was for one, and what was replied."""

    project_id: ProjectId | None
    reply: object


class Handler(Protocol):
    """What answers the requests of a connection."""

    def prepare(
        self, connection: "Connection", frame: ClientFrame, correlation_id: str
    ) -> Callable[[], Awaitable[Done | None]]:
        """Decide at once which project a request is for; the result carries it out and replies.

        Args:
            connection: who asks.
            frame: what for.
            correlation_id: names the request in whatever the server tells of it.
        """

    def left(self, project_id: ProjectId) -> None:
        """A connection that ended followed this project."""

    def renew_watch(self, connection: "Connection") -> None:
        """Send the state of all projects, instead of the changes that a congested connection did not get."""


class Connection:
    """A client that is in. It is a `Sink` of the hub.

    Attributes:
        id: names it in logs.
        device: who it is.
        peer: where it is, and how it has reached the server.
        cursors: the projects that it has joined.
        feeds: the figures that it asked for again and again, by the type of their frames.
        away: whether it says that nobody looks at it.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse[Literal[False]],
        transport: asyncio.Transport,
        device: Device,
        peer: Peer,
        hub: Hub,
        settings: CurrentSettings,
        observer: Observer,
        quota: Quota | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.device = device
        self.peer = peer
        self.cursors: dict[ProjectId, Cursor] = {}
        self.feeds: dict[str, Feed] = {}
        self.away = False
        self.announces = False
        self._socket = socket
        self._transport = transport
        self._hub = hub
        self._settings = settings
        self._observer = observer
        self._quota = quota
        self._limit = settings.current.websocket.send_buffer
        self._written = 0
        self._parked: dict[Cursor, None] = {}
        self._outdated = False
        """Whether changes were left out that a watcher gets."""
        self._handler: Handler | None = None
        self._serving: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._in_flight = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._opened = time.monotonic()
        self._seen = self._opened
        self._pinged: float | None = None
        self._patience = self._opened
        """When the wait for the pong began, or the client last took something of what is before it."""
        self._pinged_behind = 0
        """How many bytes were written before the ping."""
        self._acknowledged = 0
        self._requests = 0
        self._closed_by: Literal["client", "server"] = "client"
        self._close_code: int | None = None

    @property
    def buffered(self) -> int:
        """Bytes that the transport holds unsent."""
        return self._transport.get_write_buffer_size()

    @property
    def congested(self) -> bool:
        """Whether the transport holds as many unsent bytes as it may."""
        return self._transport.get_write_buffer_size() > self._limit

    def write(self, data: bytes, frames: int) -> None:
        """Hand whole frames to the transport, behind an announcement where the client wants that of so many bytes."""
        if self._transport.is_closing():
            return
        if self.announces and len(data) > _ANNOUNCED_BYTES:
            self.send("incoming", IncomingData(len(data), frames))
        self._transport.write(data)
        self._written += len(data)
        self._hub.sent += frames
        self._hub.sent_bytes += len(data)

    def notify(self, data: bytes, frames: int) -> bool:
        """Hand over frames about a project that it has not joined; False when it is congested and takes none."""
        if not self.congested:
            self.write(data, frames)
            return True
        if self in self._hub.watchers:
            self._outdated = True
            self._serve()
        elif self.buffered <= 2 * self._limit:
            self.write(data, frames)
            return True
        else:
            self.end(CLOSE_SLOW_CONSUMER, "slow consumer")
        return False

    def sees(self, project_id: ProjectId) -> bool:
        """Whether its device may know of a project."""
        return self.device.sees(project_id)

    def park(self, cursor: Cursor) -> None:
        """Serve a cursor from here on as the transport has room."""
        self._parked[cursor] = None
        if not cursor.behind:  # one that is, catches up with what was there before it came
            self._hub.parked += 1
        self._serve()

    def _serve(self) -> None:
        if self._serving is None and self._tasks is not None:
            self._serving = self._tasks.create_task(self._serve_parked())

    def send(self, kind: str, data: object, *, project_id: str | None = None, request_id: str | None = None) -> None:
        """Write one frame; `data` is a payload Struct, or bytes that are JSON already."""
        body = data if isinstance(data, bytes) else encode_data(data)
        payload = encode_frame(kind, body, now(), project_id=project_id, request_id=request_id)
        self.write(websocket_frame(payload), 1)
        self._hub.sent_by_type[kind] += 1

    async def send_page(self, kind: str, data: object, *, project_id: str | None, request_id: str | None) -> None:
        """Write one frame that may be large, compressed where the client has offered to take that (RFC 7692).

        Each frame is compressed by itself, so that nothing is kept between two of them, and in a thread, since a
        page may have megabytes. Only history is sent so: what is compressed together shows by its size how much of
        it is alike, so that no secret may be among it.
        """
        payload = encode_frame(kind, encode_data(data), now(), project_id=project_id, request_id=request_id)
        window = int(self._socket.compress)
        if window and len(payload) >= _DEFLATE_BYTES:
            payload = await asyncio.to_thread(deflate, payload, window)
            self.write(websocket_frame(payload, compressed=True), 1)
        else:
            self.write(websocket_frame(payload), 1)
        self._hub.sent_by_type[kind] += 1

    def send_error(
        self, error: PocketAgentError, *, project_id: str | None = None, request_id: str | None = None
    ) -> None:
        """Write an `error` frame."""
        data = ErrorData(error.code, error.message, error.details or None)
        self.send("error", data, project_id=project_id, request_id=request_id)

    def feed(self, kind: str, interval: float | None, read: Callable[[], object | None]) -> None:
        """Send figures again and again; an interval of 0 seconds ends that, None leaves it as it is.

        Args:
            kind: the type of the frames.
            interval: seconds between two of them.
            read: the `data` of the next; None when there is nothing new.
        """
        if interval is None:
            return
        self.feeds.pop(kind, None)
        if interval > 0:
            self.feeds[kind] = Feed(interval, read, time.monotonic())

    def join(self, channel: Channel, after: int | None, *, previews: bool = False) -> None:
        """Follow a project; joining again moves the cursor. `previews`: large entries come as previews."""
        self.leave(channel.project_id)
        self.cursors[channel.project_id] = channel.attach(self, after, previews=previews)

    def attends(self, project_id: str) -> bool:
        """Whether somebody looks at a project here, or at all of them, and could answer for it."""
        if self.away or self.device.view_only or not self.device.sees(project_id):
            return False
        return ProjectId(project_id) in self.cursors or self in self._hub.watchers

    def leave(self, project_id: ProjectId) -> bool:
        """Stop following a project; False when it was not followed."""
        cursor = self.cursors.pop(project_id, None)
        if cursor is None:
            return False
        cursor.channel.detach(cursor)
        self._parked.pop(cursor, None)
        return True

    async def serve(self, handler: Handler) -> None:
        """Answer requests until the connection ends."""
        self._handler = handler
        self._hub.sinks[self] = None
        self._observer.emit(ConnectionOpened(self.id, self.device.name, self.device.id, self.peer.address))
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._read(handler)
                if self._serving is not None:
                    self._serving.cancel()
        finally:
            self._tasks = None
            del self._hub.sinks[self]
            self._hub.watchers.pop(self, None)
            for project_id in list(self.cursors):
                self.leave(project_id)
                handler.left(project_id)
            code = self._close_code or self._socket.close_code or 1006
            duration = time.monotonic() - self._opened
            self._observer.emit(ConnectionClosed(self.id, self.device.name, code, self._closed_by, duration))

    async def _read(self, handler: Handler) -> None:
        while True:
            message = await self._socket.receive()
            self._seen = time.monotonic()
            if message.type is WSMsgType.PONG and self._pinged is not None:
                self._observer.emit(PongReceived(self.id, self._seen - self._pinged))
            self._pinged = None
            if message.type in _COUNTED and not self._within_quota(message.data):
                if self._quota is not None and self._quota.exhausted:
                    await self.close(CLOSE_POLICY, "too many messages")
                    return
            elif message.type is WSMsgType.TEXT:
                await self._request(handler, message.data)
            elif message.type is WSMsgType.BINARY:
                self._refuse_binary(message.data)
            elif message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                if message.type is WSMsgType.ERROR:
                    self._closed_by = "server"
                    if isinstance(message.data, WebSocketError):  # e.g. 1009, which aiohttp has sent
                        self._close_code = message.data.code
                return
            if self.congested:
                # A client that asks and does not read is not read either.
                await self._room()

    def _within_quota(self, data: bytes) -> bool:
        """Whether the device may send this message, too; it is told when not."""
        if self._quota is None or self._quota.take(len(data)):
            return True
        self._received(len(data))
        wait = round(self._quota.wait(), 3)
        error = RateLimitedError(f"Too many messages; wait {wait} seconds.", details={"retry_after": wait})
        request_id = request_id_of(data)
        self.send_error(error, request_id=request_id)
        self._observer.emit(RequestHandled("invalid", error.code, 0.0, None, self._correlation_id(request_id)))
        return False

    def _refuse_binary(self, data: bytes) -> None:
        self._received(len(data))
        error = InvalidMessageError("Binary frames are not used here; send JSON as text.")
        self.send_error(error)
        correlation_id = self._correlation_id(None)
        self._observer.emit(RequestHandled("invalid", error.code, 0.0, None, correlation_id, error.message))

    def _received(self, size: int) -> None:
        self._hub.received += 1
        self._hub.received_bytes += size

    def _correlation_id(self, request_id: str | None) -> str:
        """The client's own id of its request, or one that no other request of this server has."""
        self._requests += 1
        return request_id or f"{self.id}-{self._requests}"

    async def _request(self, handler: Handler, text: bytes) -> None:
        self._received(len(text))
        began = time.perf_counter()
        frame: ClientFrame | None = None
        try:
            frame = decode(text)
            correlation_id = self._correlation_id(frame.request_id)
            act = handler.prepare(self, frame, correlation_id)
        except PocketAgentError as error:
            request_id = request_id_of(text)
            self.send_error(error, request_id=request_id)
            kind = "invalid" if frame is None else frame.type
            duration = time.perf_counter() - began
            correlation_id = self._correlation_id(request_id)
            self._observer.emit(RequestHandled(kind, error.code, duration, None, correlation_id, error.message))
            return
        if not frame.request.spec.waits:
            await self._carry_out(frame, act, began, correlation_id)
            return
        places = min(_MAX_IN_FLIGHT, 1 + len(text) // _PLACE_BYTES)
        for _ in range(places):
            await self._in_flight.acquire()
        assert self._tasks is not None
        task = self._tasks.create_task(self._carry_out(frame, act, began, correlation_id))
        task.add_done_callback(lambda _: self._leave_places(places))

    def _leave_places(self, count: int) -> None:
        for _ in range(count):
            self._in_flight.release()

    async def _carry_out(
        self, frame: ClientFrame, act: Callable[[], Awaitable[object]], began: float, correlation_id: str
    ) -> None:
        """The one place where an exception becomes an `error` frame."""
        code: str | None = None
        message: str | None = None
        try:
            await act()
        except PocketAgentError as error:
            code, message = error.code, error.message
            self.send_error(error, project_id=frame.project_id, request_id=frame.request_id)
        except Exception as error:  # noqa: BLE001 - the border: a fault is told, and ends nothing else
            code = InternalError.code
            self._observer.emit(RequestFaulted(frame.type, correlation_id, error))
            self.send_error(
                InternalError("The server met a fault of its own; its log tells more."),
                project_id=frame.project_id,
                request_id=frame.request_id,
            )
        duration = time.perf_counter() - began
        self._observer.emit(RequestHandled(frame.type, code, duration, frame.project_id, correlation_id, message))

    async def _serve_parked(self) -> None:
        """Bring parked cursors up to the end, each a portion at a time, as the transport has room."""
        try:
            await self._room()
            while (self._parked or self._outdated) and not self._transport.is_closing():
                await self._room()
                if self._outdated and self._handler is not None and not self._transport.is_closing():
                    self._outdated = False
                    self._handler.renew_watch(self)
                for cursor in list(self._parked):
                    if self.congested:
                        break
                    if cursor in self._parked and await cursor.advance():
                        self._parked.pop(cursor, None)
        except GapError:
            await self.close(CLOSE_SLOW_CONSUMER, "slow consumer: older entries are gone, join again")
        except PocketAgentError as error:
            await self.close(CLOSE_INTERNAL_ERROR, _reason(error.message))
        finally:
            self._serving = None

    async def _room(self) -> None:
        """Wait until the transport has room; closes the connection when it takes nothing for too long."""
        loop = asyncio.get_running_loop()
        delay, longest = _POLL_SECONDS
        taken, patience = -1, 0.0
        while not self._transport.is_closing():
            waiting = self._transport.get_write_buffer_size()
            if waiting <= self._limit // 2:
                return
            acknowledged = self._acknowledged_now()
            if acknowledged != taken:
                taken = acknowledged
                patience = loop.time() + self._settings.current.websocket.write_timeout
            elif loop.time() > patience:
                self._observer.emit(ConsumerDropped(self.id, self.device.name))
                await self.close(CLOSE_SLOW_CONSUMER, "slow consumer")
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, longest)

    def _acknowledged_now(self) -> int:
        """Bytes that the client has taken, as far as the kernel knows."""
        return self._written - self.buffered - self._unacknowledged()

    def _unacknowledged(self) -> int:
        """Bytes that the kernel holds for a client which has not taken them; 0 where that is not told.

        The kernel asks for more only when a third of its buffer, which may be megabytes, is free again:
        a slow client would seem to take nothing meanwhile. tcp(7), SIOCOUTQ, the same as TIOCOUTQ.
        """
        try:
            descriptor = self._transport.get_extra_info("socket").fileno()
            return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0])
        except (OSError, ValueError):  # not Linux, or closed just now
            return 0

    def keep_alive(self, at: float) -> None:
        """Ping a silent client, and give up one that did not answer; called every second or so."""
        timeouts = self._settings.current.timeouts
        if self.congested:
            # Also one that follows no project must not let what all are told pile up for ever.
            self._serve()
        if self._pinged is not None:
            # The ping, and with it the pong, may be stuck behind what the client has yet to read: as long as it takes
            # some of that, and has not got as far as the ping, it is alive.
            acknowledged = self._acknowledged_now()
            if self._acknowledged < min(acknowledged, self._pinged_behind):
                self._acknowledged, self._patience = acknowledged, at
            if at - self._patience > timeouts.pong_timeout and not self.congested:
                self._closed_by, self._close_code = "server", 1006
                self._transport.abort()
        elif at - self._seen >= timeouts.ping_interval and not self._transport.is_closing():
            self._pinged = self._patience = at
            self._acknowledged, self._pinged_behind = self._acknowledged_now(), self._written
            self._transport.write(_PING)
            self._written += len(_PING)

    def end(self, code: int, reason: str) -> None:
        """Begin to close from this side; nobody waits for it."""
        if self._tasks is not None:
            self._tasks.create_task(self.close(code, reason))

    async def close(self, code: int, reason: str) -> None:
        """Close from this side; a transport that does not take the rest is cut after a while."""
        self._closed_by, self._close_code = "server", code
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.abort)
        await self._socket.close(code=code, message=reason.encode(), drain=False)


def _reason(text: str) -> str:
    """`text` as a close frame can hold it: 123 bytes at most (RFC 6455 section 5.5)."""
    return text.encode()[:123].decode(errors="ignore")
