"""One WebSocket connection to the server: address, TLS, frames, replies, and pauses between attempts."""

import asyncio
import itertools
import json
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from pocket_agent.client import client_errors
from pocket_agent.errors import ForbiddenError, PocketAgentError, UnauthorizedError
from pocket_agent.model import project_of

if TYPE_CHECKING:
    from pocket_agent.model import Position


@dataclass(frozen=True)
class ServerAddress:
    """The server's address, and the parameters of connections."""

    url: str  # ws:// or wss://, with the path
    token: str | None  # None for a server without authentication
    tls: ssl.SSLContext | None  # None trusts the system's authorities
    agent: str  # User-Agent
    heartbeat_seconds: float  # the interval of pings; without a pong in half of it the link is dead
    connect_seconds: float  # the limit for one attempt to connect
    check: Callable[[], None] | None = None  # called before each attempt; raises UnreachableError to prevent it


def tls_context(given: ssl.SSLContext | Path | str | None) -> ssl.SSLContext | None:
    """A context as it is, or one that trusts the certificate in a file; None stays None.

    Raises:
        UnreachableError: the file cannot be used.
    """
    if given is None or isinstance(given, ssl.SSLContext):
        return given
    try:
        return ssl.create_default_context(cafile=str(given))
    except (OSError, ssl.SSLError) as error:
        raise client_errors.UnreachableError(f"The certificate file {given} cannot be used: {error}.") from error


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter (AWS architecture blog), so that clients do not reconnect in step."""

    initial: float = 0.25  # the longest first wait, in seconds
    maximum: float = 15.0  # the longest wait, in seconds

    def delay(self, attempt: int) -> float:
        """A random wait in seconds before attempt number `attempt`, counted from 0."""
        bound = min(self.maximum, self.initial * 2 ** min(attempt, 32))
        return random.uniform(0, bound)  # noqa: S311 - spreads load, guards no secret


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    data: msgspec.Raw
    project_id: str | None = None
    conversation_id: str | None = None
    timestamp: str = ""
    request_id: str | None = None
    offset: int | None = None


_decode: Final = msgspec.json.Decoder(_Envelope).decode


class Frame:
    """One message of the server; its `data` is parsed at its first use.

    `raw` is the whole frame and `payload` the JSON of `data`, byte for byte; docs/protocol.md has the other fields.

    Attributes:
        gap: True on a `project_join` frame after which the log does not continue where it ended:
            its epoch is another one, or entries were pruned. Entries from before it must be loaded again.
        conversation_id: of the conversation that it is about; the project's id for the main one.
        position: the position of a stream after this frame, for entries and joins that a stream yields.
    """

    def __init__(self, raw: bytes) -> None:
        """Read the envelope. Raises ProtocolViolationError when `raw` is not a frame of the server."""
        envelope = _envelope(raw)
        self.raw = raw
        self.payload = bytes(envelope.data)
        self.type = envelope.type
        self.project_id = envelope.project_id
        self.conversation_id = envelope.conversation_id or envelope.project_id
        self.offset = envelope.offset
        self.request_id = envelope.request_id
        self.timestamp = envelope.timestamp
        self.gap = False
        self.position: Position | None = None

    @cached_property
    def data(self) -> dict[str, Any]:
        """The object of `data`, as plain Python values; strings may hold lone surrogates, as the CLI's do.

        Raises:
            ProtocolViolationError: it is not an object.
        """
        try:
            found = json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise client_errors.ProtocolViolationError(
                f"The data of a {self.type} frame is unreadable: {error}."
            ) from error
        if not isinstance(found, dict):
            raise client_errors.ProtocolViolationError(f"The data of a {self.type} frame is not an object.")
        return found

    def __repr__(self) -> str:
        return f"Frame({self.type!r}, project_id={self.project_id!r}, offset={self.offset!r})"


def _envelope(raw: bytes) -> _Envelope:
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        # A line of the CLI may hold lone surrogates, or be nested deeper than msgspec reads. `data` comes
        # last in a frame, and no text before it can hold these bytes, since its quotes would be escaped.
        head, separator, rest = raw.partition(b',"data":')
        try:
            envelope = _decode(head + b',"data":{}}')
        except (msgspec.MsgspecError, UnicodeError):
            raise client_errors.ProtocolViolationError(f"The server sent an unreadable frame: {error}.") from error
        if not separator or not rest.startswith(b"{") or not rest.endswith(b"}}"):
            raise client_errors.ProtocolViolationError(f"The server sent an unreadable frame: {error}.") from error
        return msgspec.structs.replace(envelope, data=msgspec.Raw(rest[:-1]))


MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""Larger than the longest line that a server takes from its CLI by default (16 MiB), escaped or not."""

CLOSE_TIMEOUT_SECONDS: Final = 2.0

_FORBIDDEN_CLOSES: Final = {
    4001: "The server does not accept this token (any more).",
    4009: "The server ended this device's access: it was revoked, or its token or the certificate was replaced.",
}
MESSAGE_TOO_BIG: Final = 1009
POLICY_VIOLATION: Final = 1008


class ClientConnection:
    """An open WebSocket. One task reads `frames()`; any task sends and requests."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._websocket = websocket
        self._pending: dict[str, _Pending] = {}
        # The server's log names requests by their ids, so that those of two clients must differ.
        self._name = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._lost: PocketAgentError | None = None
        self._ended = asyncio.Event()
        self.proved = False  # whether anything came in yet, so that a server which accepts and hangs up counts as down

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, address: ServerAddress) -> "ClientConnection":
        """Connect and authenticate.

        Raises:
            UnauthorizedError: the server wants another token (401).
            ForbiddenError: the token may not connect (403).
            CertificateError: the server's certificate is not trusted.
            UnreachableError: anything else that kept the connection from being opened.
        """
        if address.check is not None:
            address.check()
        headers = {"User-Agent": address.agent}
        if address.token is not None:
            headers["Authorization"] = f"Bearer {address.token}"
        try:
            async with asyncio.timeout(address.connect_seconds):
                websocket = await session.ws_connect(
                    address.url,
                    headers=headers,
                    heartbeat=address.heartbeat_seconds,
                    max_msg_size=MAX_FRAME_BYTES,
                    compress=15,
                    decode_text=False,
                    ssl=True if address.tls is None else address.tls,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_SECONDS),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise _refusal(error, address) from error
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError) as error:
            raise client_errors.CertificateError(
                f"The certificate of {address.url} is not trusted: {error}. "
                "Give the server's own certificate as the CA file."
            ) from error
        except TimeoutError as error:
            raise client_errors.UnreachableError(
                f"{address.url} did not answer in {address.connect_seconds:g} s."
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise client_errors.UnreachableError(f"Cannot reach {address.url}: {error}.") from error
        return cls(websocket)

    async def request(
        self,
        kind: str,
        data: Mapping[str, object],
        *,
        project_id: str | None = None,
        on_reply: Callable[[Frame], None] | None = None,
    ) -> Frame:
        """Send a request and wait for its reply.

        `on_reply` is called with the reply before any later frame is read; it must not raise.

        Raises:
            ConnectionLostError: the connection ended before the reply came; `end()` was called by then.
            UnauthorizedError: the server ended the connection for good.
            PocketAgentError: the exception of the server's error frame.
        """
        request_id = f"{self._name}-{next(self._numbers)}"
        pending = _Pending(asyncio.get_running_loop().create_future(), on_reply)
        self._pending[request_id] = pending
        try:
            await self.send(kind, data, project_id=project_id, request_id=request_id)
            reply = await pending.future
        except client_errors.ConnectionLostError:
            await self._ended.wait()  # so that a caller that tries again gets another connection
            reply = None
        finally:
            del self._pending[request_id]
        if reply is None:
            raise client_errors.copy_error(self._lost or client_errors.ConnectionLostError("The connection ended."))
        if reply.type == "error":
            raise client_errors.error_from(reply.payload)
        return reply

    async def send(
        self, kind: str, data: Mapping[str, object], *, request_id: str, project_id: str | None = None
    ) -> None:
        """Send a request without waiting for its reply; `project_id` may be the id of any conversation.

        Raises:
            ConnectionLostError: the connection has ended.
        """
        frame: dict[str, object] = {"type": kind, "data": data, "request_id": request_id}
        if project_id is not None:
            frame["project_id"] = project_of(project_id)
            if frame["project_id"] != project_id:
                frame["conversation_id"] = project_id
        try:
            await self._websocket.send_str(_encode(frame))
        except (OSError, RuntimeError) as error:  # aiohttp raises RuntimeError for a closed session
            raise client_errors.ConnectionLostError(f"The connection ended while a {kind} was sent.") from error

    async def frames(self) -> AsyncIterator[Frame]:
        """Every frame in order of arrival, replies included, until the connection ends.

        Raises:
            ProtocolViolationError: something that is not a frame.
        """
        async for message in self._websocket:
            if message.type is aiohttp.WSMsgType.TEXT:
                frame = Frame(message.data)
                self.proved = True
                self._settle(frame)
                yield frame

    def _settle(self, frame: Frame) -> None:
        pending = self._pending.get(frame.request_id) if frame.request_id is not None else None
        if pending is None or pending.future.done():
            return
        if pending.on_reply is not None and frame.type != "error":
            pending.on_reply(frame)
        pending.future.set_result(frame)

    def end(self) -> PocketAgentError:
        """Wake all pending requests, once `frames()` is over.

        Returns:
            Why it ended: UnauthorizedError where trying again is of no use, else ConnectionLostError.
        """
        code = self._websocket.close_code
        refused = _FORBIDDEN_CLOSES.get(code or 0)
        if refused is not None:
            self._lost = UnauthorizedError(refused)
        else:
            details: dict[str, object] = {} if code is None else {"close_code": code}
            self._lost = client_errors.ConnectionLostError(
                f"The connection ended{_close_reason(code)}.", details=details
            )
        self._ended.set()
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_result(None)
        return self._lost

    async def close(self) -> None:
        """Close; waits at most CLOSE_TIMEOUT_SECONDS."""
        await self._websocket.close()


@dataclass(frozen=True)
class _Pending:
    future: "asyncio.Future[Frame | None]"
    on_reply: Callable[[Frame], None] | None


def _encode(frame: Mapping[str, object]) -> str:
    try:
        return msgspec.json.encode(frame).decode()
    except UnicodeEncodeError:
        # A lone surrogate, which UTF-8 cannot hold but JSON can escape; the server decides about it.
        return json.dumps(frame)


def _close_reason(code: int | None) -> str:
    reasons = {
        1001: "because the server is stopping",
        1008: "because of a policy of the server",
        1009: "because a message was larger than the server allows",
        4008: "because this client was too slow",
    }
    if code is None or code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
        return ""
    return f" {reasons.get(code, '')} (close code {code})".replace("  ", " ")


def _refusal(error: aiohttp.WSServerHandshakeError, address: ServerAddress) -> PocketAgentError:
    match error.status:
        case 401 if address.token is None:
            return UnauthorizedError(f"{address.url} wants a token, and none was given.")
        case 401:
            return UnauthorizedError(f"{address.url} does not know this token; it may have been revoked.")
        case 403:
            return ForbiddenError(f"{address.url} does not allow this client to connect.")
        case status:
            return client_errors.UnreachableError(f"{address.url} answered with HTTP {status}: {error.message}.")
