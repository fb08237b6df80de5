"""HTTP for getting in and out: a browser or a program trades a pairing code for a cookie or a token."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from pocket_agent.audit.trail import Trail
from pocket_agent.errors import (
    ForbiddenError,
    InvalidMessageError,
    PocketAgentError,
    RateLimitedError,
    UnauthorizedError,
    ValidationError,
)
from pocket_agent.events import ConnectionRejected, DevicePaired, DeviceRevoked, DeviceRotated, Observer
from pocket_agent.model import Device
from pocket_agent.server.answer import answer, refusal
from pocket_agent.server.auth import Authenticator, hash_token, new_token
from pocket_agent.server.cookie import end_cookie, set_cookie
from pocket_agent.server.device import Devices
from pocket_agent.server.origin import Origins
from pocket_agent.server.pairing import redeem
from pocket_agent.server.peer import PEER, Peer
from pocket_agent.server.throttle import Throttle
from pocket_agent.server.witness import record
from pocket_agent.storage import Store

_MAX_BODY: Final = 4096
_BODY_SECONDS: Final = 10.0
_JSON: Final = "application/json"

Body = TypeVar("Body", bound=Struct)


class _Pair(Struct, frozen=True):
    """`token`: whether the token is wanted in the answer, as programs do, instead of a cookie."""

    code: str
    name: str
    token: bool = False


class _Nothing(Struct, frozen=True):
    pass


class DeviceData(Struct, frozen=True):
    """A device as its owner sees it; `projects` null means all."""

    id: str
    name: str
    view_only: bool
    projects: tuple[str, ...] | None


class _Paired(Struct, frozen=True, omit_defaults=True):
    device: DeviceData
    token: str | None = None


class Api:
    """The routes below `/api`.

    Args:
        devices: whose connections are closed when one ends itself or renews its token.
    """

    def __init__(
        self,
        store: Store,
        authenticator: Authenticator,
        origins: Origins,
        observer: Observer,
        devices: Devices,
        trail: Trail,
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._origins = origins
        self._throttle = Throttle()
        self._observer = observer
        self._devices = devices
        self._trail = trail

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/api/pair", self._answered(self._pair, "pair"))
        router.add_get("/api/session", self._answered(self._session, "login"), allow_head=False)
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
        # Counted before it is tried, so that many guesses at once are not tried together.
        self._throttle.failed(peer.address)
        device, token = await redeem(self._store, wanted.code, wanted.name)
        self._throttle.succeeded(peer.address)
        await self._authenticator.seen(device, peer.address)
        self._observer.emit(DevicePaired(device.name, peer.address))
        self._trail.note(record("pair", device, peer, details={"token": wanted.token}))
        if wanted.token:
            return answer(_Paired(_view(device), token))
        response = answer(_Paired(_view(device)))
        set_cookie(response, self._store.instance, peer, token)
        return response

    async def _session(self, request: web.Request) -> web.Response:
        peer = request[PEER]
        self._origins.check_own(peer, request.headers)
        device, cookie = await self._device(request, peer)
        response = answer(_Paired(_view(device)))
        if cookie is not None:
            set_cookie(response, self._store.instance, peer, cookie)
        return response

    async def _rotate(self, request: web.Request) -> web.Response:
        device, cookie = await self._asking(request)
        token = new_token()
        if await self._store.rotate_device(device.id, hash_token(token)) is None:
            raise ValidationError("This is no device that has a token.")
        peer = request[PEER]
        self._observer.emit(DeviceRotated(device.name, device.name))
        self._trail.note(record("device_rotate", device, peer, details={"device_id": device.id}))
        self._devices.reconnect(device.id)
        if cookie is None:
            return answer(_Paired(_view(device), token))
        response = answer(_Paired(_view(device)))
        set_cookie(response, self._store.instance, peer, token)
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        device, cookie = await self._asking(request)
        peer = request[PEER]
        if await self._store.remove_device(device.id) is not None:
            self._observer.emit(DeviceRevoked(device.name, device.name))
            self._trail.note(record("logout", device, peer))
            self._devices.disconnect(device.id)
        response = answer({})
        if cookie is not None:
            end_cookie(response, self._store.instance, peer)
        return response

    async def _asking(self, request: web.Request) -> tuple[Device, str | None]:
        """As `_device`, for a request that changes something."""
        peer = request[PEER]
        self._origins.check_own(peer, request.headers)
        await _body(request, _Nothing)
        device, cookie = await self._device(request, peer)
        if cookie is not None and "Origin" not in request.headers:
            raise ForbiddenError("Only the server's own pages may do this.")
        return device, cookie

    def _shows_something(self, request: web.Request) -> bool:
        cookie = self._authenticator.cookie(request[PEER], request.headers)
        return cookie is not None or "Authorization" in request.headers

    async def _device(self, request: web.Request, peer: Peer) -> tuple[Device, str | None]:
        """Who asks, and the token of the cookie by which it is known; None when that was no cookie."""
        device = await self._authenticator.device(peer, request.headers, ambient=True)
        return device, self._authenticator.cookie(peer, request.headers)


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


def _view(device: Device) -> DeviceData:
    return DeviceData(device.id, device.name, device.view_only, device.projects)
