"""One WebSocket to the server: open it, send, read, match replies to requests. It does not reconnect."""

import asyncio
import itertools
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec

from pocket_agent.client.address import Address
from pocket_agent.client.fault import CertificateError, ConnectionLostError, UnreachableError, error_from
from pocket_agent.client.frame import Frame
from pocket_agent.errors import ForbiddenError, PocketAgentError, UnauthorizedError

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""Larger than the longest line that a server takes from its CLI by default (16 MiB), escaped or not."""

CLOSE_TIMEOUT_SECONDS: Final = 2.0

_FORBIDDEN_CLOSES: Final = {
    4001: "The server does not accept this token (any more).",
    4009: "The server ended this device's access: it was revoked, or its token or the certificate was replaced.",
}
MESSAGE_TOO_BIG: Final = 1009
POLICY_VIOLATION: Final = 1008


class Connection:
    """An open WebSocket. One task reads `frames()`; any task sends and requests.

    Attributes:
        proved: whether anything came in yet, so that a server which accepts and hangs up counts as down.
    """

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._websocket = websocket
        self._pending: dict[str, _Pending] = {}
        # The server names requests by these in its log, where those of many clients stand together.
        self._name = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._lost: PocketAgentError | None = None
        self._ended = asyncio.Event()
        self.proved = False

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, address: Address) -> "Connection":
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
            raise CertificateError(
                f"The certificate of {address.url} is not trusted: {error}. "
                "Give the server's own certificate as the CA file."
            ) from error
        except TimeoutError as error:
            raise UnreachableError(f"{address.url} did not answer in {address.connect_seconds:g} s.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(f"Cannot reach {address.url}: {error}.") from error
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

        Args:
            kind: the request's `type`.
            data: its `data`.
            project_id: the project that it is about.
            on_reply: called with the reply before any later frame is read; must not raise.

        Raises:
            ConnectionLostError: the connection ended before the reply came; `end()` was called by then.
            UnauthorizedError: the server ended the connection for good.
            PocketAgentError: the exception that the server's error frame stands for.
        """
        request_id = f"{self._name}-{next(self._numbers)}"
        pending = _Pending(asyncio.get_running_loop().create_future(), on_reply)
        self._pending[request_id] = pending
        try:
            await self.send(kind, data, project_id=project_id, request_id=request_id)
            reply = await pending.future
        except ConnectionLostError:
            await self._ended.wait()  # so that whoever tries again finds another connection
            reply = None
        finally:
            del self._pending[request_id]
        if reply is None:
            raise self._lost_error()
        if reply.type == "error":
            raise error_from(reply.payload)
        return reply

    async def send(
        self, kind: str, data: Mapping[str, object], *, request_id: str, project_id: str | None = None
    ) -> None:
        """Send a request without waiting for its reply.

        Raises:
            ConnectionLostError: the connection has ended.
        """
        frame: dict[str, object] = {"type": kind, "data": data, "request_id": request_id}
        if project_id is not None:
            frame["project_id"] = project_id
        try:
            await self._websocket.send_str(_encode(frame))
        except (OSError, RuntimeError) as error:  # aiohttp says RuntimeError for a closed session
            raise ConnectionLostError(f"The connection ended while a {kind} was sent.") from error

    async def frames(self) -> AsyncIterator[Frame]:
        """Every frame in order of arrival, replies included, until the connection ends.

        Raises:
            ProtocolViolationError: something that is no frame.
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
        """Release everybody who waits, once `frames()` is over.

        Returns:
            Why it ended: UnauthorizedError where trying again is of no use, else ConnectionLostError.
        """
        code = self._websocket.close_code
        refused = _FORBIDDEN_CLOSES.get(code or 0)
        if refused is not None:
            self._lost = UnauthorizedError(refused)
        else:
            details: dict[str, object] = {} if code is None else {"close_code": code}
            self._lost = ConnectionLostError(f"The connection ended{_closing(code)}.", details=details)
        self._ended.set()
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_result(None)
        return self._lost

    async def close(self) -> None:
        """Say goodbye; bounded by CLOSE_TIMEOUT_SECONDS."""
        await self._websocket.close()

    def _lost_error(self) -> PocketAgentError:
        lost = self._lost
        if lost is None:
            return ConnectionLostError("The connection ended.")
        return type(lost)(lost.message, details=lost.details)


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


def _closing(code: int | None) -> str:
    reasons = {
        1001: "because the server is stopping",
        1008: "because of a policy of the server",
        1009: "because a message was larger than the server allows",
        4008: "because this client was too slow",
    }
    if code is None or code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
        return ""
    return f" {reasons.get(code, '')} (close code {code})".replace("  ", " ")


def _refusal(error: aiohttp.WSServerHandshakeError, address: Address) -> PocketAgentError:
    match error.status:
        case 401 if address.token is None:
            return UnauthorizedError(f"{address.url} wants a token, and none was given.")
        case 401:
            return UnauthorizedError(f"{address.url} does not know this token; it may have been revoked.")
        case 403:
            return ForbiddenError(f"{address.url} does not allow this client to connect.")
        case status:
            return UnreachableError(f"{address.url} answered with HTTP {status}: {error.message}.")
