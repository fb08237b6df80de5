"""The HTTP API: trade a pairing code for a cookie or a token, replace them, log out."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from pocket_agent import errors
from pocket_agent.audit import AuditLog
from pocket_agent.errors import ForbiddenError, InvalidMessageError, UnauthorizedError, ValidationError
from pocket_agent.events import ConnectionRejected, DevicePaired, Observer
from pocket_agent.model import Credential, Device
from pocket_agent.policy import Policy
from pocket_agent.protocol.requests import RunningData
from pocket_agent.server.answer import answer, refusal
from pocket_agent.server.audited_handler import record
from pocket_agent.server.auth import Authenticator, end_cookie, hash_token, new_device, new_token, set_cookie
from pocket_agent.server.devices import Devices
from pocket_agent.server.limits import Throttle
from pocket_agent.server.pairing import check_name, redeem
from pocket_agent.server.peer import PEER, Origins, Peer
from pocket_agent.server.proof import HEADER, KEY_HEADER, Nonces, proven_by, read_key, signed_text
from pocket_agent.storage import Store

_MAX_BODY: Final = 4096
_BODY_SECONDS: Final = 10.0
_JSON: Final = "application/json"

Body = TypeVar("Body", bound=Struct)


class _Pair(Struct, frozen=True):
    """`token`: put a token in the answer, for programs, instead of a cookie.

    `key`: the public key of the browser, see `proof.read_key`.
    """

    code: str
    name: str
    token: bool = False
    key: str | None = None


class _Enroll(Struct, frozen=True):
    key: str | None = None


class _Logout(Struct, frozen=True):
    kill: bool = False


class _Nothing(Struct, frozen=True):
    pass


class _SignedInDevice(Struct, frozen=True):
    """The device of the client; `projects` null means all."""

    id: str
    name: str
    view_only: bool
    projects: tuple[str, ...] | None


class _Paired(Struct, frozen=True, omit_defaults=True):
    device: _SignedInDevice
    token: str | None = None
    bound: bool = False


class _Session(Struct, frozen=True, omit_defaults=True):
    """`bound`: the cookie is valid only together with the browser's key, which signs `nonce` for the next request.

    `enroll`: the cookie has no key yet, and `/api/enroll` trades it for one that has; `required` for one of an older
    version, which opens no WebSocket.
    """

    device: _SignedInDevice
    bound: bool = False
    enroll: Literal["required", "offered"] | None = None
    nonce: str | None = None


class _Ended(Struct, frozen=True, omit_defaults=True):
    """`withdrawn`: the number of the device's withdrawn prompts. `running`: its executions that go on."""

    withdrawn: int = 0
    running: list[RunningData] = []


class _Rotated(_Ended, frozen=True, omit_defaults=True, kw_only=True):
    device: _SignedInDevice
    token: str | None = None


class _Client(NamedTuple):
    """The device of a request, and the value of its cookie, if it has one."""

    device: Device
    cookie: str | None


@dataclass
class Api:
    store: Store
    authenticator: Authenticator
    origins: Origins
    observer: Observer
    devices: Devices
    trail: AuditLog
    policy: Policy
    nonces: Nonces
    _throttle: Throttle = field(default_factory=Throttle)

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/api/pair", self._guarded(self._pair, "pair"))
        router.add_get("/api/session", self._guarded(self._session, "login"), allow_head=False)
        router.add_post("/api/enroll", self._guarded(self._enroll, "login"))
        router.add_post("/api/rotate", self._guarded(self._rotate, "login"))
        router.add_post("/api/logout", self._guarded(self._logout, "login"))

    def _guarded(
        self, handle: Callable[[web.Request], Awaitable[web.Response]], attempt: Literal["login", "pair"]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            address = request[PEER].address
            try:
                return await handle(request)
            except errors.PocketAgentError as error:
                match error:
                    # A page that is not paired yet asks for its session, without credentials.
                    case UnauthorizedError() if attempt == "pair" or self._has_credentials(request):
                        self.observer.emit(ConnectionRejected("unauthorized", address, attempt=attempt))
                    case errors.RateLimitedError():
                        self.observer.emit(ConnectionRejected("throttled", address, attempt=attempt))
                    case ForbiddenError():
                        self.observer.emit(ConnectionRejected("origin", address, attempt=attempt))
                return refusal(error)
            except TimeoutError:
                return refusal(InvalidMessageError("The request did not come in time."), 408)

        return handler

    async def _pair(self, request: web.Request) -> web.Response:
        peer = request[PEER]
        self.origins.check_own(peer, request.headers)
        self._throttle.check(peer.address)
        wanted = await _body(request, _Pair)
        if not wanted.token and "Origin" not in request.headers:
            raise ValidationError('A cookie is for browsers; a program asks for its token with `"token": true`.')
        device, token = new_device(
            check_name(wanted.name),
            credential=Credential.TOKEN if wanted.token else Credential.COOKIE,
            public_key=read_key(wanted.key) if wanted.key is not None and not wanted.token else None,
        )
        # Counted before the attempt, so that parallel guesses are limited, too.
        self._throttle.failed(peer.address)
        device = await redeem(self.store, wanted.code, device, self.policy.check_maker)
        self._throttle.succeeded(peer.address)
        await self.authenticator.seen(device, peer.address)
        self.observer.emit(DevicePaired(device.name, peer.address))
        details = {"token": wanted.token, "bound": device.public_key is not None}
        self.trail.append(record("pair", device, peer, details=details))
        if wanted.token:
            return answer(_Paired(_view(device), token))
        return self._with_cookie(peer, token, _Paired(_view(device), bound=device.public_key is not None))

    async def _session(self, request: web.Request) -> web.Response:
        peer = request[PEER]
        self.origins.check_own(peer, request.headers)
        device, cookie = await self._client(request, peer)
        bound = device.public_key is not None
        enroll: Literal["required", "offered"] | None = None
        if cookie is not None and not bound:
            enroll = "required" if device.credential is Credential.EITHER else "offered"
        body = _Session(_view(device), bound, enroll, self.nonces.new() if bound else None)
        return answer(body) if cookie is None else self._with_cookie(peer, cookie, body)

    async def _enroll(self, request: web.Request) -> web.Response:
        """Replace a cookie without a key by one that is bound to the browser's key, if it has one."""
        peer = request[PEER]
        self.origins.check_own(peer, request.headers)
        wanted = await _body(request, _Enroll)
        key = read_key(wanted.key) if wanted.key is not None else None
        shown = [device for device, _ in await self.authenticator.cookies(peer, request.headers)]
        unbound = [device for device in shown if device.public_key is None]
        if not unbound:
            raise UnauthorizedError("No cookie of this server that has no key yet.")
        if "Origin" not in request.headers:
            raise ForbiddenError("Only the server's own pages may do this.")
        value = new_token()
        device = await self.store.enroll_device(unbound[0], hash_token(value), key)
        if device is None:
            raise UnauthorizedError("This cookie was replaced by a newer one; load the page again.")
        self.trail.append(record("device_enroll", device, peer, details={"bound": key is not None}))
        self.devices.reconnect(device.id)
        return self._with_cookie(peer, value, _Paired(_view(device), bound=key is not None))

    async def _rotate(self, request: web.Request) -> web.Response:
        await _body(request, _Nothing)
        device, cookie = await self._authorized(request)
        token = new_token()
        done = await self.devices.renew(device, token)
        if done is None:
            raise ValidationError("This device has no token.")
        peer = request[PEER]
        self.trail.append(record("device_rotate", device, peer, details={"device_id": device.id}))
        if cookie is None:
            return answer(_Rotated(*done, device=_view(device), token=token))
        return self._with_cookie(peer, token, _Rotated(*done, device=_view(device)))

    async def _logout(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Logout)
        device, cookie = await self._authorized(request)
        peer = request[PEER]
        done = await self.devices.leave(device, kill=wanted.kill)
        if done is not None:
            self.trail.append(record("logout", device, peer))
        response = answer(_Ended(*(done or ())))
        if cookie is not None:
            end_cookie(response, self.store.instance, peer)
        return response

    def _with_cookie(self, peer: Peer, secret: str, body: Struct) -> web.Response:
        response = answer(body)
        set_cookie(response, self.store.instance, peer, secret)
        return response

    async def _authorized(self, request: web.Request) -> _Client:
        """As `_client`, for a request that changes something: a bound cookie needs its proof."""
        peer = request[PEER]
        self.origins.check_own(peer, request.headers)
        client = await self._client(request, peer)
        if client.cookie is None:
            return client
        if "Origin" not in request.headers:
            raise ForbiddenError("Only the server's own pages may do this.")
        if client.device.public_key is None:
            return client
        nonce, _, signature = request.headers.get(HEADER, "").partition(" ")
        if not self.nonces.take(nonce):
            raise UnauthorizedError(f"A proof by the browser's key is needed ({HEADER}, docs/protocol.md).")
        shown = await self.authenticator.cookies(peer, request.headers)
        text = signed_text(request.headers["Origin"], f"{request.method} {request.path}", nonce)
        proven = proven_by([device for device, _ in shown], signature, text)
        return next(_Client(device, value) for device, value in shown if device.id == proven.id)

    def _has_credentials(self, request: web.Request) -> bool:
        return self.authenticator.shows_cookie(request[PEER], request.headers) or "Authorization" in request.headers

    async def _client(self, request: web.Request, peer: Peer) -> _Client:
        """The device of a request; a cookie that is bound to a key names it, and proves nothing."""
        shown = await self.authenticator.cookies(peer, request.headers)
        wanted = request.headers.get(KEY_HEADER)
        if shown:
            # Of several, the one of the page's key; pages of other ports have set the others.
            of_key = [found for found in shown if _thumbprint(found[0]) == wanted]
            if not of_key and wanted is not None:
                of_key = [found for found in shown if found[0].public_key is None]
            if not of_key and wanted is not None:
                raise UnauthorizedError(
                    "This browser has lost the key that its cookie belongs to; pair it again.",
                    details={"reason": "key"},
                )
            return _Client(*(of_key or shown)[0])
        return _Client(await self.authenticator.device(peer, request.headers, ambient=True), None)


def _thumbprint(device: Device) -> str:
    """The name of a device's key; `none` without one."""
    return hashlib.sha256(device.public_key).hexdigest() if device.public_key is not None else "none"


async def _body(request: web.Request, kind: type[Body]) -> Body:
    """Decode the JSON of a request, which no HTML form can send (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).

    Raises InvalidMessageError when it is too long, or does not fit `kind`.
    """
    if request.content_type != _JSON:
        raise InvalidMessageError(f"Send {_JSON}.")
    content = b""
    async with asyncio.timeout(_BODY_SECONDS):
        async for part in request.content.iter_any():
            content += part
            if len(content) > _MAX_BODY:
                raise InvalidMessageError(f"Longer than {_MAX_BODY} bytes.")
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidMessageError(f"Invalid body: {error}.") from error


def _view(device: Device) -> _SignedInDevice:
    return _SignedInDevice(device.id, device.name, device.view_only, device.projects)
