"""One WebSocket connection: reads requests, writes frames, never blocks on a client that does not read."""

import asyncio
import fcntl
import struct
import termios
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from aiohttp import WebSocketError, WSMsgType, web

from pocket_agent import events
from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import (
    InternalError,
    InvalidMessageError,
    PocketAgentError,
    RateLimitedError,
    ResourceLimitError,
)
from pocket_agent.hub import Channel, Cursor, GapError, Hub
from pocket_agent.model import ConversationId, Device, project_of
from pocket_agent.protocol.frame import deflate, encode_data, encode_frame, websocket_frame
from pocket_agent.protocol.frame_parser import ClientFrame, decode, request_id_of
from pocket_agent.protocol.push import ErrorData, IncomingData
from pocket_agent.server.limits import Quota
from pocket_agent.server.peer import Peer
from pocket_agent.settings import CurrentSettings


@dataclass
class Feed:
    """Statistics that a connection requested at an interval."""

    interval: float  # seconds between two frames, above 0
    read: Callable[[], object | None]  # the `data` of the next frame; None when there is nothing new
    due: float  # the time of the next frame, in seconds of the monotonic clock


CLOSE_GOING_AWAY: Final = 1001
CLOSE_POLICY: Final = 1008
CLOSE_INTERNAL_ERROR: Final = 1011
CLOSE_UNAUTHORIZED: Final = 4001
CLOSE_SLOW_CONSUMER: Final = 4008
CLOSE_REVOKED: Final = 4009

_COUNTED: Final = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING})  # messages that count for the quota
_PING: Final = b"\x89\x00"  # RFC 6455 section 5.5.2, without a payload
_MAX_IN_FLIGHT: Final = 32  # requests of one connection that run at a time
_MAX_FOLLOWED: Final = 8  # sessions of terminals that one connection follows
_PLACE_BYTES: Final = 256 * 1024
"""A request takes one place for each such part of its size, which bounds the memory of all."""
_DEFLATE_BYTES: Final = 1024  # smaller pages of history are not compressed
_ANNOUNCED_BYTES: Final = 16 * 1024  # larger writes are announced to clients that requested it: 4 s on a link of 4 kB/s
_LINGER_SECONDS: Final = 30.0  # the limit for a client to read the send buffer and the close frame behind it
_POLL_SECONDS: Final = (0.001, 0.05)  # the interval of checks of a congested transport: at first, and at most


class Done(NamedTuple):
    """The result of a request: its conversation, if it has one, and the reply."""

    conversation_id: ConversationId | None
    reply: object


@dataclass(frozen=True, slots=True)
class Call:
    """One request and its sender; `correlation_id` names it in logs, events and traces."""

    connection: "Connection"
    frame: ClientFrame
    correlation_id: str

    @property
    def device(self) -> Device:
        return self.connection.device


class Handler(Protocol):
    def prepare(
        self, connection: "Connection", frame: ClientFrame, correlation_id: str
    ) -> Callable[[], Awaitable[Done | None]]:
        """Find the project of a request without waiting; the result executes the request and replies.

        `correlation_id` names the request in logs, events and traces.
        """

    def left(self, conversation_id: ConversationId) -> None:
        """A connection ended that was subscribed to this conversation."""

    def renew_watch(self, connection: "Connection") -> None: ...


class Connection:
    """An authenticated client. It is a `Sink` of the hub."""

    def __init__(
        self,
        socket: web.WebSocketResponse[Literal[False]],
        transport: asyncio.Transport,
        device: Device,
        peer: Peer,
        hub: Hub,
        settings: CurrentSettings,
        observer: events.Observer,
        quota: Quota | None = None,
        *,
        client: events.ClientKind = "other",
    ) -> None:
        self.id = uuid.uuid4().hex[:12]  # a random id, for logs
        self.device = device  # the device of the client
        self.client: events.ClientKind = client
        self.peer = peer  # its address, and how it has reached the server
        self.cursors: dict[ConversationId, Cursor] = {}  # the conversations that it has joined
        self.followed: dict[tuple[str, str], asyncio.Task[None]] = {}  # sessions of terminals, by project and session
        self.feeds: dict[str, Feed] = {}  # the statistics that it requested at an interval, by the type of their frames
        self.away = False  # no user is at the client
        self.conversations = False  # it knows of conversations other than the main ones
        self.announces = False  # it wants `incoming` before large writes
        self._socket = socket
        self._transport = transport
        self._hub = hub
        self._settings = settings
        self._observer = observer
        self._quota = quota
        self._limit = settings.current.websocket.send_buffer
        self._written = 0
        self._parked: dict[Cursor, None] = {}
        self._outdated = False  # frames for a watcher were dropped
        self._handler: Handler | None = None
        self._serving: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._in_flight = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._opened = time.monotonic()
        self._seen = self._opened
        self._last_ping = self._opened
        self._measured: float | None = None  # when the ping was sent whose pong is awaited
        self._pinged: float | None = None  # the same, until the client sends anything
        self._patience = self._opened
        """When the wait for the pong started, or the client last acknowledged bytes before the ping."""
        self._pinged_behind = 0  # the number of bytes written before the ping
        self._acknowledged = 0
        self._requests = 0
        self._closed_by: Literal["client", "server"] = "client"
        self._close_code: int | None = None

    @property
    def buffered(self) -> int:
        return self._transport.get_write_buffer_size()

    @property
    def congested(self) -> bool:
        return self.buffered > self._limit

    def write(self, data: bytes, frames: int) -> None:
        """Write whole frames to the transport, after an announcement of large ones to a client that wants it."""
        if self._transport.is_closing():
            return
        if self.announces and len(data) > _ANNOUNCED_BYTES:
            self.send("incoming", IncomingData(len(data), frames))
        self._transport.write(data)
        self._written += len(data)
        self._hub.sent += frames
        self._hub.sent_bytes += len(data)

    def notify(self, data: bytes, frames: int) -> bool:
        """Write frames about a conversation that it has not joined; False when it is congested and drops them."""
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

    def sees(self, conversation_id: ConversationId) -> bool:
        """Whether the device may see the project, and the client knows of conversations other than the main one."""
        return self.device.sees(conversation_id) and (
            self.conversations or project_of(conversation_id) == conversation_id
        )

    def park(self, cursor: Cursor) -> None:
        """Serve a cursor as the transport has space."""
        self._parked[cursor] = None
        if not cursor.behind:  # one that is, reads entries from before it joined
            self._hub.parked += 1
        self._serve()

    def _serve(self) -> None:
        if self._serving is None and self._tasks is not None:
            self._serving = self._tasks.create_task(self._serve_parked())

    def send(
        self, kind: str, data: object, *, conversation_id: str | None = None, request_id: str | None = None
    ) -> None:
        """Write one frame; `data` is a payload Struct, or bytes that are JSON already."""
        body = data if isinstance(data, bytes) else encode_data(data)
        payload = encode_frame(kind, body, now(), conversation_id=conversation_id, request_id=request_id)
        self.write(websocket_frame(payload), 1)
        self._hub.sent_by_type[kind] += 1

    async def send_page(self, kind: str, data: object, *, conversation_id: str | None, request_id: str | None) -> None:
        """Write one frame that may be large, compressed where the client has negotiated that (RFC 7692).

        Each frame is compressed by itself, so that no state is kept between two of them, and in a thread, since a
        page may have megabytes. Only history is compressed: the size of compressed text shows repetitions, so that it
        must not contain a secret.
        """
        payload = encode_frame(kind, encode_data(data), now(), conversation_id=conversation_id, request_id=request_id)
        window = int(self._socket.compress)
        compressed = bool(window) and len(payload) >= _DEFLATE_BYTES
        if compressed:
            payload = await asyncio.to_thread(deflate, payload, window)
        self.write(websocket_frame(payload, compressed=compressed), 1)
        self._hub.sent_by_type[kind] += 1

    def send_error(
        self, error: PocketAgentError, *, conversation_id: str | None = None, request_id: str | None = None
    ) -> None:
        data = ErrorData(error.code, error.message, error.details or None)
        self.send("error", data, conversation_id=conversation_id, request_id=request_id)

    def feed(self, kind: str, interval: float | None, read: Callable[[], object | None]) -> None:
        """Send statistics every `interval` seconds; 0 stops that, None changes nothing. See `Feed`."""
        if interval is None:
            return
        self.feeds.pop(kind, None)
        if interval > 0:
            self.feeds[kind] = Feed(interval, read, time.monotonic() + interval)

    def follow(self, project_id: str, session_id: str, run: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run a task that sends the records of a session, until `unfollow` or the end of the connection.

        Raises:
            ResourceLimitError: the connection follows too many.
        """
        key = project_id, session_id
        self.unfollow(*key)
        if len(self.followed) >= _MAX_FOLLOWED:
            raise ResourceLimitError(f"This connection follows {_MAX_FOLLOWED} sessions already; unfollow one first.")
        if self._tasks is None:  # it has just ended
            return
        task = self._tasks.create_task(run())
        self.followed[key] = task
        task.add_done_callback(lambda _: self.followed.pop(key, None) if self.followed.get(key) is task else None)

    def unfollow(self, project_id: str, session_id: str) -> None:
        """Stop to follow a session, if it is followed."""
        task = self.followed.pop((project_id, session_id), None)
        if task is not None:
            task.cancel()

    def join(self, channel: Channel, after: int | None, *, previews: bool = False) -> None:
        """Subscribe to a conversation; joining again moves the cursor. `previews`: send previews of large entries."""
        self.leave(channel.conversation_id)
        self.cursors[channel.conversation_id] = channel.attach(self, after, previews=previews)

    def attends(self, conversation_id: str) -> bool:
        """Whether a user is at this client, sees this conversation, and may answer approvals."""
        key = ConversationId(conversation_id)
        if self.away or self.device.view_only or not self.sees(key):
            return False
        return key in self.cursors or self in self._hub.watchers

    def leave(self, conversation_id: ConversationId) -> bool:
        """Unsubscribe from a conversation; False when it was not joined."""
        cursor = self.cursors.pop(conversation_id, None)
        if cursor is None:
            return False
        cursor.channel.detach(cursor)
        self._parked.pop(cursor, None)
        return True

    async def serve(self, handler: Handler) -> None:
        self._handler = handler
        self._hub.sinks[self] = None
        device = self.device
        self._observer.emit(
            events.ConnectionOpened(self.id, device.name, device.id, self.peer.address, client=self.client)
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._read(handler)
                if self._serving is not None:
                    self._serving.cancel()
                for task in self.followed.values():
                    task.cancel()
        finally:
            self._tasks = None
            del self._hub.sinks[self]
            self._hub.watchers.pop(self, None)
            for conversation_id in list(self.cursors):
                self.leave(conversation_id)
                handler.left(conversation_id)
            code = self._close_code or self._socket.close_code or 1006
            duration = time.monotonic() - self._opened
            self._observer.emit(
                events.ConnectionClosed(self.id, self.device.name, code, self._closed_by, duration, self.client)
            )

    async def _read(self, handler: Handler) -> None:
        while True:
            message = await self._socket.receive()
            self._seen = time.monotonic()
            if message.type is WSMsgType.PONG and self._measured is not None:
                self._observer.emit(events.PongReceived(self.id, self._seen - self._measured))
                self._measured = None
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
                # Requests of a client that does not read the replies are not read either.
                await self._drained()

    def _within_quota(self, data: bytes) -> bool:
        """Count a message; replies with an error and returns False when it exceeds the quota."""
        if self._quota is None or self._quota.take(len(data)):
            return True
        self._received(len(data))
        wait = round(self._quota.wait(), 3)
        error = RateLimitedError(f"Too many messages; wait {wait} seconds.", details={"retry_after": wait})
        request_id = request_id_of(data)
        self.send_error(error, request_id=request_id)
        self._observer.emit(events.RequestHandled("invalid", error.code, 0.0, None, self._correlation_id(request_id)))
        return False

    def _refuse_binary(self, data: bytes) -> None:
        self._received(len(data))
        error = InvalidMessageError("Binary frames are not supported; send JSON as text.")
        self.send_error(error)
        correlation_id = self._correlation_id(None)
        self._observer.emit(events.RequestHandled("invalid", error.code, 0.0, None, correlation_id, error.message))

    def _received(self, size: int) -> None:
        self._hub.received += 1
        self._hub.received_bytes += size

    def _correlation_id(self, request_id: str | None) -> str:
        """The client's id of its request, or one that is unique in this server."""
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
            self._observer.emit(events.RequestHandled(kind, error.code, duration, None, correlation_id, error.message))
            return
        if not frame.request.spec.waits:
            await self._execute(frame, act, began, correlation_id)
            return
        places = min(_MAX_IN_FLIGHT, 1 + len(text) // _PLACE_BYTES)
        for _ in range(places):
            await self._in_flight.acquire()
        assert self._tasks is not None
        task = self._tasks.create_task(self._execute(frame, act, began, correlation_id))
        for _ in range(places):
            task.add_done_callback(lambda _: self._in_flight.release())

    async def _execute(
        self, frame: ClientFrame, act: Callable[[], Awaitable[object]], began: float, correlation_id: str
    ) -> None:
        code: str | None = None
        message: str | None = None
        try:
            await act()
        except PocketAgentError as error:
            code, message = error.code, error.message
            self.send_error(error, conversation_id=frame.conversation_id, request_id=frame.request_id)
        except Exception as error:  # noqa: BLE001 - the border of a request
            code = InternalError.code
            self._observer.emit(events.RequestFaulted(frame.type, correlation_id, error))
            self.send_error(
                InternalError("Internal server error; see the server log."),
                conversation_id=frame.conversation_id,
                request_id=frame.request_id,
            )
        duration = time.perf_counter() - began
        self._observer.emit(
            events.RequestHandled(frame.type, code, duration, frame.project_id, correlation_id, message)
        )

    async def _serve_parked(self) -> None:
        """Advance parked cursors to the end, each a portion at a time, as the transport has space."""
        try:
            await self._drained()
            while (self._parked or self._outdated) and not self._transport.is_closing():
                await self._drained()
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

    async def _drained(self) -> None:
        """Wait until the transport has space; closes a connection that acknowledges nothing for too long."""
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
                self._observer.emit(events.ConsumerDropped(self.id, self.device.name))
                await self.close(CLOSE_SLOW_CONSUMER, "slow consumer")
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, longest)

    def _acknowledged_now(self) -> int:
        return self._written - self.buffered - self._unacknowledged()

    def _unacknowledged(self) -> int:
        """Unacknowledged bytes in the kernel; 0 where it does not report them. tcp(7), SIOCOUTQ, equal to TIOCOUTQ.

        The transport's buffer alone does not show progress: the kernel accepts more only when a third of its own
        buffer, which may be megabytes, is free again.
        """
        try:
            descriptor = self._transport.get_extra_info("socket").fileno()
            return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0])
        except (OSError, ValueError):  # not Linux, or closed just now
            return 0

    def keep_alive(self, at: float) -> None:
        """Ping a client, and abort one that did not answer; called about every second.

        A client that sends something, such as pings of its own, is pinged too: its round trip is measured.
        """
        timeouts = self._settings.current.timeouts
        if self.congested:
            # A connection that has joined no project must not buffer broadcasts for ever, either.
            self._serve()
        if self._pinged is not None:
            # The ping may be behind bytes that the client has yet to read: while it acknowledges some of them, it is
            # alive.
            acknowledged = self._acknowledged_now()
            if self._acknowledged < min(acknowledged, self._pinged_behind):
                self._acknowledged, self._patience = acknowledged, at
            if at - self._patience > timeouts.pong_timeout and not self.congested:
                self._closed_by, self._close_code = "server", 1006
                self._transport.abort()
        elif at - self._last_ping >= timeouts.ping_interval and not self._transport.is_closing():
            self._pinged = self._measured = self._patience = self._last_ping = at
            self._acknowledged, self._pinged_behind = self._acknowledged_now(), self._written
            self._transport.write(_PING)
            self._written += len(_PING)

    def end(self, code: int, reason: str) -> None:
        """Start to close from this side, without waiting."""
        if self._tasks is not None:
            self._tasks.create_task(self.close(code, reason))

    async def close(self, code: int, reason: str) -> None:
        """Close from this side; aborts a transport that has not sent the rest after _LINGER_SECONDS."""
        self._closed_by, self._close_code = "server", code
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.abort)
        await self._socket.close(code=code, message=reason.encode(), drain=False)


def _reason(text: str) -> str:
    """Truncate for a close frame: 123 bytes (RFC 6455 section 5.5)."""
    return text.encode()[:123].decode(errors="ignore")
