"""HTTP for getting in and out: a browser or a program trades a pairing code for a cookie or a token."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from pocket_agent.audit.audit_log import AuditLog
from pocket_agent.errors import (
    ForbiddenError,
    InvalidMessageError,
    PocketAgentError,
    RateLimitedError,
    UnauthorizedError,
    ValidationError,
)
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
    """`token`: whether a token is wanted in the answer, as programs do, instead of a cookie.

    `key`: the public key of the browser that pairs, as of `proof.read_key`.
    """

    code: str
    name: str
    token: bool = False
    key: str | None = None


class _Enroll(Struct, frozen=True):
    key: str | None = None


class _Logout(Struct, frozen=True):
    """`kill`: whether to kill what the device runs, too."""

    kill: bool = False


class _Nothing(Struct, frozen=True):
    pass


class _SignedInDevice(Struct, frozen=True):
    """A device as its owner sees it; `projects` null means all."""

    id: str
    name: str
    view_only: bool
    projects: tuple[str, ...] | None


class _Paired(Struct, frozen=True, omit_defaults=True):
    """`bound`: the cookie counts only together with the browser's key."""

    device: _SignedInDevice
    token: str | None = None
    bound: bool = False


class _Session(Struct, frozen=True, omit_defaults=True):
    """`bound`: the cookie counts only together with the browser's key, which signs `nonce` for the next request.

    `enroll`: the cookie has no key yet, and may be traded for one that has at `/api/enroll`; `required` where it is
    from an older version, which opens no WebSocket.
    """

    device: _SignedInDevice
    bound: bool = False
    enroll: Literal["required", "offered"] | None = None
    nonce: str | None = None


class _Ended(Struct, frozen=True, omit_defaults=True):
    """`withdrawn`: queued prompts of the device that were withdrawn. `running`: its executions that go on."""

    withdrawn: int = 0
    running: list[RunningData] = []


class _Renewed(Struct, frozen=True, omit_defaults=True):
    device: _SignedInDevice
    token: str | None = None
    withdrawn: int = 0
    running: list[RunningData] = []


class _Asking(NamedTuple):
    """A device that asks, and the value of the cookie by which it is known; None when that was no cookie."""

    device: Device
    cookie: str | None


class Api:
    """The routes below `/api`.

    Args:
        devices: whose connections are closed when one ends itself or renews its token.
        policy: judges who made a pairing code.
        nonces: what browsers sign.
    """

    def __init__(
        self,
        store: Store,
        authenticator: Authenticator,
        origins: Origins,
        observer: Observer,
        devices: Devices,
        trail: AuditLog,
        policy: Policy,
        nonces: Nonces,
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._origins = origins
        self._throttle = Throttle()
        self._observer = observer
        self._devices = devices
        self._trail = trail
        self._policy = policy
        self._nonces = nonces

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/api/pair", self._answered(self._pair, "pair"))
        router.add_get("/api/session", self._answered(self._session, "login"), allow_head=False)
        router.add_post("/api/enroll", self._answered(self._enroll, "login"))
        router.add_post("/api/rotate", self._answered(self._rotate, "login"))
        router.add_post("/api/logout", self._answered(self._logout, "login"))

    def _answered(
        self, handle: Callable[[web.Request], Awaitable[web.Response]], attempt: Literal["login", "pair"]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The one place where an exception becomes an answer, and a refusal is told."""

        async def handler(request: web.Request) -> web.Response:
            address = request[PEER].address
            try:
                return await handle(request)
            except PocketAgentError as error:
                match error:
                    # A page that has not been let in yet asks who it is, and shows nothing.
                    case UnauthorizedError() if attempt == "pair" or self._shows_something(request):
                        self._observer.emit(ConnectionRejected("unauthorized", address, attempt=attempt))
                    case RateLimitedError():
                        self._observer.emit(ConnectionRejected("throttled", address, attempt=attempt))
                    case ForbiddenError():
                        self._observer.emit(ConnectionRejected("origin", address, attempt=attempt))
                return refusal(error)
            except TimeoutError:
                return refusal(InvalidMessageError("The request did not come in time."), 408)

        return handler

    async def _pair(self, request: web.Request) -> web.Response:
        peer = request[PEER]
        self._origins.check_own(peer, request.headers)
        self._throttle.check(peer.address)
        wanted = await _body(request, _Pair)
        if not wanted.token and "Origin" not in request.headers:
            raise ValidationError('A cookie is for browsers; a program asks for its token with `"token": true`.')
        device, token = new_device(
            check_name(wanted.name),
            credential=Credential.TOKEN if wanted.token else Credential.COOKIE,
            public_key=read_key(wanted.key) if wanted.key is not None and not wanted.token else None,
        )
        # Counted before it is tried, so that many guesses at once are not tried together.
        self._throttle.failed(peer.address)
        device = await redeem(self._store, wanted.code, device, self._policy.check_maker)
        self._throttle.succeeded(peer.address)
        await self._authenticator.seen(device, peer.address)
        self._observer.emit(DevicePaired(device.name, peer.address))
        details = {"token": wanted.token, "bound": device.public_key is not None}
        self._trail.append(record("pair", device, peer, details=details))
        if wanted.token:
            return answer(_Paired(_view(device), token))
        response = answer(_Paired(_view(device), bound=device.public_key is not None))
        set_cookie(response, self._store.instance, peer, token)
        return response

    async def _session(self, request: web.Request) -> web.Response:
        peer = request[PEER]
        self._origins.check_own(peer, request.headers)
        device, cookie = await self._device(request, peer)
        bound = device.public_key is not None
        enroll: Literal["required", "offered"] | None = None
        if cookie is not None and not bound:
            enroll = "required" if device.credential is Credential.EITHER else "offered"
        response = answer(_Session(_view(device), bound, enroll, self._nonces.new() if bound else None))
        if cookie is not None:
            set_cookie(response, self._store.instance, peer, cookie)
        return response

    async def _enroll(self, request: web.Request) -> web.Response:
        """Trade a cookie that has no key yet for another one, bound to the browser's key where there is one."""
        peer = request[PEER]
        self._origins.check_own(peer, request.headers)
        wanted = await _body(request, _Enroll)
        key = read_key(wanted.key) if wanted.key is not None else None
        shown = [device for device, _ in await self._authenticator.cookies(peer, request.headers)]
        unbound = [device for device in shown if device.public_key is None]
        if not unbound:
            raise UnauthorizedError("No cookie of this server that has no key yet.")
        if "Origin" not in request.headers:
            raise ForbiddenError("Only the server's own pages may do this.")
        value = new_token()
        device = await self._store.enroll_device(unbound[0], hash_token(value), key)
        if device is None:
            raise UnauthorizedError("This cookie was replaced by a newer one; load the page again.")
        self._trail.append(record("device_enroll", device, peer, details={"bound": key is not None}))
        self._devices.reconnect(device.id)
        response = answer(_Paired(_view(device), bound=key is not None))
        set_cookie(response, self._store.instance, peer, value)
        return response

    async def _rotate(self, request: web.Request) -> web.Response:
        await _body(request, _Nothing)
        device, cookie = await self._asking(request)
        token = new_token()
        done = await self._devices.renew(device, token)
        if done is None:
            raise ValidationError("This is no device that has a token.")
        peer = request[PEER]
        self._trail.append(record("device_rotate", device, peer, details={"device_id": device.id}))
        if cookie is None:
            return answer(_Renewed(_view(device), token, *done))
        response = answer(_Renewed(_view(device), None, *done))
        set_cookie(response, self._store.instance, peer, token)
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        wanted = await _body(request, _Logout)
        device, cookie = await self._asking(request)
        peer = request[PEER]
        done = await self._devices.leave(device, kill=wanted.kill)
        if done is not None:
            self._trail.append(record("logout", device, peer))
        response = answer(_Ended(*(done or ())))
        if cookie is not None:
            end_cookie(response, self._store.instance, peer)
        return response

    async def _asking(self, request: web.Request) -> _Asking:
        """As `_device`, for a request that changes something: a bound cookie needs its proof."""
        peer = request[PEER]
        self._origins.check_own(peer, request.headers)
        asking = await self._device(request, peer)
        if asking.cookie is None:
            return asking
        if "Origin" not in request.headers:
            raise ForbiddenError("Only the server's own pages may do this.")
        if asking.device.public_key is None:
            return asking
        nonce, _, signature = request.headers.get(HEADER, "").partition(" ")
        if not self._nonces.take(nonce):
            raise UnauthorizedError(f"A proof by the browser's key is needed ({HEADER}, docs/protocol.md).")
        shown = await self._authenticator.cookies(peer, request.headers)
        text = signed_text(request.headers["Origin"], f"{request.method} {request.path}", nonce)
        proven = proven_by([device for device, _ in shown], signature, text)
        return next(_Asking(device, value) for device, value in shown if device.id == proven.id)

    def _shows_something(self, request: web.Request) -> bool:
        return self._authenticator.shows_cookie(request[PEER], request.headers) or "Authorization" in request.headers

    async def _device(self, request: web.Request, peer: Peer) -> _Asking:
        """Who asks. A cookie that is bound to a key says who asks, and proves nothing."""
        shown = await self._authenticator.cookies(peer, request.headers)
        wanted = request.headers.get(KEY_HEADER)
        if shown:
            # Of several, the one of the key that the page holds; the others were set by pages of other ports.
            of_key = [found for found in shown if _thumbprint(found[0]) == wanted]
            if not of_key and wanted is not None:
                of_key = [found for found in shown if found[0].public_key is None]
            if not of_key and wanted is not None:
                raise UnauthorizedError(
                    "This browser has lost the key that its cookie belongs to; pair it again.",
                    details={"reason": "key"},
                )
            return _Asking(*(of_key or shown)[0])
        return _Asking(await self._authenticator.device(peer, request.headers, ambient=True), None)


def _thumbprint(device: Device) -> str:
    """Names the key of a device; `none` for one without."""
    return hashlib.sha256(device.public_key).hexdigest() if device.public_key is not None else "none"


async def _body(request: web.Request, kind: type[Body]) -> Body:
    """The JSON of a request; no form of a page can send it (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).

    Raises:
        InvalidMessageError: it is not what is asked for.
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
        raise InvalidMessageError(f"Not what is asked for: {error}.") from error


def _view(device: Device) -> _SignedInDevice:
    return _SignedInDevice(device.id, device.name, device.view_only, device.projects)
