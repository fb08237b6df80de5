"""The client: one connection that comes back by itself, requests on it, and streams."""

import asyncio
import contextlib
import ssl as tls
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from pocket_agent import __version__
from pocket_agent.client.address import Address, tls_context
from pocket_agent.client.backoff import Backoff
from pocket_agent.client.call import Calls
from pocket_agent.client.connection import MESSAGE_TOO_BIG, POLICY_VIOLATION, Connection
from pocket_agent.client.fault import (
    CertificateError,
    ConnectionLostError,
    ProtocolViolationError,
    UnreachableError,
    again,
)
from pocket_agent.client.frame import Frame
from pocket_agent.client.subscription import (
    MAX_BUFFERED_BYTES,
    MAX_BUFFERED_FRAMES,
    Since,
    Subscription,
)
from pocket_agent.errors import ForbiddenError, PocketAgentError, UnauthorizedError
from pocket_agent.protocol.request import REQUESTS

_NEVER_REPEATED_AFTER: Final = frozenset({MESSAGE_TOO_BIG, POLICY_VIOLATION})
"""Close codes that a request in flight may have caused, and would cause again."""

_DEFAULT_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Status:
    """A change of the connection.

    Attributes:
        online: whether it is open now.
        reason: why it is not, for a person; empty when it is.
        attempt: how many attempts to reconnect have failed since it ended.
        retry_seconds: when the next attempt will be; 0 when there is none.
    """

    online: bool
    reason: str = ""
    attempt: int = 0
    retry_seconds: float = 0.0


class Client(Calls):
    """A client of one server; use it with `async with`.

    It reconnects by itself until it is closed, unless the server refuses its token or its certificate is
    not trusted: then every call raises that error.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ssl: tls.SSLContext | Path | str | None = None,
        name: str = "library",
        backoff: Backoff | None = None,
        heartbeat: float = 20.0,
        connect_timeout: float = 10.0,
        on_status: Callable[[Status], None] | None = None,
        on_push: Callable[[Frame], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Prepare; nothing is sent before `async with`.

        Args:
            url: e.g. wss://127.0.0.1:8443/ws.
            token: the device's token.
            ssl: a context, or the file of the certificate to trust; None trusts the system's authorities.
            name: tells this client from others in the server's log.
            backoff: the waits between attempts to reconnect.
            heartbeat: seconds between pings, which find out that a link is dead.
            connect_timeout: the bound of one attempt to connect, in seconds.
            on_status: called when the connection goes and comes back; must be quick and not raise.
            on_push: called with each push that belongs to no stream; must be quick and not raise.
            check: called before each attempt to connect; raises UnreachableError where the token must not go now.

        Raises:
            UnreachableError: the certificate file cannot be read.
        """
        self._address = Address(
            url=url,
            token=token,
            tls=tls_context(ssl),
            agent=f"pocket-agent/{__version__} ({name})",
            heartbeat_seconds=heartbeat,
            connect_seconds=connect_timeout,
            check=check,
        )
        self._backoff = backoff or Backoff()
        self._on_status = on_status
        self._on_push = on_push
        self._streams: dict[str, Subscription] = {}
        self._connection: Connection | None = None
        self._failure: PocketAgentError | None = None
        self._changed = asyncio.Event()
        self._closing = False
        self._session: aiohttp.ClientSession | None = None
        self._group: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            UnauthorizedError: the server does not accept the token.
            ForbiddenError: the token may not connect.
            CertificateError: the server's certificate is not trusted.
            UnreachableError: nobody answers there.
        """
        session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        try:
            connection = await Connection.open(session, self._address)
        except BaseException:
            await session.close()
            raise
        self._session = session
        self._group = await asyncio.TaskGroup().__aenter__()
        self._online(connection)
        self._runner = self._group.create_task(self._run(session, connection), name="pocket-agent client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        connection = self._connection
        self._give_up(ConnectionLostError("The client is closed."))
        try:
            if connection is not None:
                await connection.close()
        finally:
            await self._end(kind, error, trace)

    async def _end(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            self._runner.cancel()
        try:
            if self._group is not None:
                # The group would wrap an error of the caller's block; only cancellation is its business.
                cancelled = error if isinstance(error, asyncio.CancelledError) else None
                await self._group.__aexit__(kind if cancelled else None, cancelled, trace if cancelled else None)
        finally:
            if self._session is not None:
                await self._session.close()

    @property
    def online(self) -> bool:
        """Whether the connection is open."""
        return self._connection is not None

    async def request(
        self,
        kind: str,
        data: Mapping[str, object] | None = None,
        *,
        project_id: str | None = None,
        timeout: float | None = _DEFAULT_TIMEOUT_SECONDS,
    ) -> Frame:
        """Send a request, as soon as the connection is open, and wait for its reply.

        Args:
            kind: the request's `type`.
            data: its `data`; values that msgspec can encode.
            project_id: the project that it is about.
            timeout: seconds for all of it, waiting for the connection included; None waits on.

        Raises:
            TimeoutError: no reply in time.
            ConnectionLostError: the connection ended before the reply came, and the request is not one
                that may be sent twice.
            PocketAgentError: the class of errors.py whose code the server's error carries.
        """
        body = dict(data or {})
        repeatable = kind in REQUESTS and REQUESTS[kind].spec.repeatable
        repeatable = repeatable or (kind == "execute" and body.get("prompt_id") is not None)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    connection = await self.connected()
                    try:
                        return await connection.request(kind, body, project_id=project_id)
                    except ConnectionLostError as error:
                        if not repeatable or error.details.get("close_code") in _NEVER_REPEATED_AFTER:
                            raise
        except TimeoutError as error:
            raise TimeoutError(f"No reply to {kind} in {timeout:g} s.") from error

    def subscribe(
        self,
        project_id: str,
        since: Since = None,
        *,
        max_frames: int = MAX_BUFFERED_FRAMES,
        max_bytes: int = MAX_BUFFERED_BYTES,
    ) -> Subscription:
        """A stream of a project, to be entered with `async with`; one for each project and client.

        Args:
            project_id: the project.
            since: what the caller has already: a position, an offset or a time; None is now, 0 everything.
            max_frames: how many frames wait for a slow consumer at most.
            max_bytes: how many bytes of frames wait for it at most.
        """
        return Subscription(self, project_id, since, max_frames=max_frames, max_bytes=max_bytes)

    async def connected(self) -> Connection:
        """The open connection, as soon as there is one.

        Raises:
            PocketAgentError: there will be none: the client is closed, or was refused.
        """
        while self._connection is None:
            if self._failure is not None:
                raise again(self._failure)
            await self._changed.wait()
        return self._connection

    def attach(self, subscription: Subscription) -> None:
        """Route a project's frames to a stream. Called by the stream."""
        if subscription.project_id in self._streams:
            raise ValueError(f"This client has a stream of project {subscription.project_id} already.")
        self._streams[subscription.project_id] = subscription

    async def detach(self, subscription: Subscription) -> None:
        """Stop routing a project's frames, and leave it. Called by the stream."""
        if self._streams.get(subscription.project_id) is subscription:
            del self._streams[subscription.project_id]
        if self._connection is not None:
            await _leave(self._connection, subscription.project_id)

    def delay(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt` of something that failed."""
        return self._backoff.delay(attempt)

    async def _run(self, session: aiohttp.ClientSession, first: Connection) -> None:
        connection: Connection | None = first
        attempt = 0
        while connection is not None:
            reason = await self._serve(connection)
            if self._closing:
                return
            if not isinstance(reason, ConnectionLostError):
                self._give_up(reason)
                return
            attempt = 0 if connection.proved else attempt + 1
            connection = await self._reconnect(session, reason, attempt)

    async def _serve(self, connection: Connection) -> PocketAgentError:
        """Hand out frames until the connection ends; says why it did."""
        violation: ProtocolViolationError | None = None
        try:
            async for frame in connection.frames():
                await self._dispatch(connection, frame)
        except ProtocolViolationError as error:
            violation = error
        reason = connection.end()
        if not self._closing:  # who closes, waits for the end of the handshake of the close itself
            self._offline()
            await connection.close()
        return violation or reason

    async def _dispatch(self, connection: Connection, frame: Frame) -> None:
        if frame.request_id is not None and frame.offset is None:
            return  # a reply; whoever waits for it has it
        stream = self._streams.get(frame.project_id) if frame.project_id is not None else None
        if stream is None:
            if self._on_push is not None:
                self._on_push(frame)
        elif not stream.accept(frame):
            await _leave(connection, stream.project_id)

    async def _reconnect(
        self, session: aiohttp.ClientSession, reason: PocketAgentError, attempt: int
    ) -> Connection | None:
        while True:
            wait = self._backoff.delay(attempt)
            self._tell(Status(False, reason.message, attempt, wait))
            await asyncio.sleep(wait)
            try:
                connection = await Connection.open(session, self._address)
            except (UnauthorizedError, ForbiddenError, CertificateError) as error:
                self._give_up(error)
                return None
            except UnreachableError as error:
                reason = error
                attempt += 1
            else:
                self._online(connection)
                return connection

    def _online(self, connection: Connection) -> None:
        self._connection = connection
        self._changed.set()
        self._tell(Status(True))

    def _offline(self) -> None:
        self._connection = None
        self._changed.clear()
        for stream in self._streams.values():
            stream.release(None)

    def _give_up(self, failure: PocketAgentError) -> None:
        self._connection = None
        self._failure = self._failure or failure
        self._changed.set()
        for stream in self._streams.values():
            stream.release(self._failure)
        if not self._closing:
            self._tell(Status(False, failure.message))

    def _tell(self, status: Status) -> None:
        if self._on_status is not None:
            self._on_status(status)


async def _leave(connection: Connection, project_id: str) -> None:
    """Leave a project. Nobody waits for the reply: what comes before it is not routed to anybody."""
    with contextlib.suppress(ConnectionLostError):
        await connection.send("project_leave", {"project_id": project_id}, request_id=f"leave {project_id}")
