"""Authentication: the device of a request, by its token (a header of programs) or its cookie (browsers)."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from aiohttp import web

from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import FileOperationError, UnauthorizedError
from pocket_agent.model import LOCAL_DEVICE, Credential, Device, Milliseconds, ProjectId
from pocket_agent.policy import user_id
from pocket_agent.server.limits import Throttle
from pocket_agent.server.peer import Networks, Peer
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Store

# ----------------------------------------------------------------------
# The cookie of a paired browser. No script can read it, and its value is not a bearer token.
#
# Browsers send a host's cookies to every port of it, so any program that listens on another port gets the value. The
# cookie is valid only together with a proof by a key that the browser keeps for this origin alone (`proof`).

_SECONDS: Final = 400 * 86400
"""The longest lifetime of a cookie (draft-ietf-httpbis-rfc6265bis, section 5.5); each visit renews it."""


def cookie_name(instance: str, peer: Peer) -> str:
    """The name of the cookie, which differs by server, since browsers send a host's cookies to all of its ports.

    With TLS it has the prefix `__Host-`: no other host and no plain connection can have set it (rfc6265bis,
    section 4.1.3.2). The plain listener needs another name, since it may not replace a Secure cookie.
    """
    return f"{'__Host-' if peer.secure else ''}pocket_agent_{instance}"


def read_cookies(header: str, name: str) -> list[str]:
    """The distinct values of all cookies of this name in a `Cookie` header."""
    parts = (part.strip().partition("=") for part in header.split(";"))
    return list(dict.fromkeys(value for key, _, value in parts if key == name))


def set_cookie(response: web.StreamResponse, instance: str, peer: Peer, token: str) -> None:
    name, secure = cookie_name(instance, peer), peer.secure
    response.set_cookie(name, token, path="/", max_age=_SECONDS, httponly=True, secure=secure, samesite="Strict")


def end_cookie(response: web.StreamResponse, instance: str, peer: Peer) -> None:
    response.del_cookie(cookie_name(instance, peer), path="/", secure=peer.secure, httponly=True, samesite="Strict")


# ----------------------------------------------------------------------
# The device of a request, by its token or cookie.

_TOKEN_PREFIX: Final = "pa_"  # noqa: S105 - users and secret scanners recognise a token by it
_NO_TOKEN: Final = ""  # in place of the hash of a token; no token has an empty hash
_LOCAL: Final = Device(id=LOCAL_DEVICE, name="local", token_hash=_NO_TOKEN, created_at=Milliseconds(0))


def new_token() -> str:
    """A random token of 256 bits; only `hash_token` of it may be stored."""
    return _TOKEN_PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """The SHA-256 of a token, which is enough for 256 random bits; the server stores nothing else of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_device(
    name: str,
    *,
    view_only: bool = False,
    projects: tuple[ProjectId, ...] | None = None,
    credential: Credential = Credential.TOKEN,
    public_key: bytes | None = None,
) -> tuple[Device, str]:
    """A device, and its secret: a bearer token, or the value of a cookie."""
    token = new_token()
    device = Device(
        id=secrets.token_hex(8),
        name=name,
        token_hash=hash_token(token),
        created_at=now(),
        view_only=view_only,
        projects=projects,
        credential=credential,
        public_key=public_key,
    )
    return device, token


class Authenticator:
    """Finds the device of a request, and limits failures by address."""

    def __init__(self, store: Store, settings: CurrentSettings) -> None:
        self._store = store
        self._required = settings.current.server.auth
        self._settings = settings
        self._throttle = Throttle()

    async def device(self, peer: Peer, headers: Mapping[str, str], *, ambient: bool) -> Device:
        """The device that a request's headers prove; with `server.auth` off every client is the device "local".

        A cookie that is bound to a browser's key proves nothing by itself: see `cookies` and `proof`.

        Args:
            peer: the client.
            headers: of the request.
            ambient: accept credentials that are added whatever page sent the request: the cookie, by the browser, and
                the user's name, by a single sign-on proxy. Only for the server's own pages.

        Raises:
            UnauthorizedError: no token, or an unknown one.
            RateLimitedError: the same, after many such attempts from this address. A valid token is accepted even
                then, so that an attacker cannot lock out others.
        """
        if not self._required:
            return _LOCAL
        token = _bearer(headers)
        if token is None and ambient:
            # A wrong one is not counted: a browser keeps sending the cookie of a device that was revoked.
            for found, _ in await self.cookies(peer, headers):
                if found.public_key is None and found.credential is Credential.COOKIE:
                    return found
            if (user := self._user(peer, headers)) is not None:
                return user
            raise _needed()
        try:
            return await self._find(token)
        except UnauthorizedError:
            self._throttle.check(peer.address)
            if token is not None:
                self._throttle.failed(peer.address)
            raise

    async def cookies(self, peer: Peer, headers: Mapping[str, str]) -> list[tuple[Device, str]]:
        """The devices of a request's cookies, each with the value of its cookie.

        A page of another port can set a cookie of the same name for a longer path, which browsers send first, so
        all of them are tried.
        """
        if not self._required or _bearer(headers) is not None:
            return []
        values = read_cookies(headers.get("Cookie", ""), cookie_name(self._store.instance, peer))
        found = [(await self._store.device_by_hash(hash_token(value)), value) for value in values]
        return [
            (device, value)
            for device, value in found
            if device is not None and device.credential is not Credential.TOKEN
        ]

    def shows_cookie(self, peer: Peer, headers: Mapping[str, str]) -> bool:
        """Whether a request has a cookie of this server, valid or not."""
        return bool(read_cookies(headers.get("Cookie", ""), cookie_name(self._store.instance, peer)))

    async def _find(self, token: str | None) -> Device:
        if token is None:
            raise _needed()
        digest = hash_token(token)
        device = await self._store.device_by_hash(digest)
        if (
            device is None
            or device.credential is Credential.COOKIE
            or not hmac.compare_digest(device.token_hash, digest)
        ):
            raise UnauthorizedError("This token is not valid here; make one with `pocket-agent devices add NAME`.")
        return device

    def _user(self, peer: Peer, headers: Mapping[str, str]) -> Device | None:
        """The user whom a trusted proxy has signed in, if this user has access."""
        header = self._settings.current.server.sso.header
        if header is None or peer.direct not in Networks(self._settings.current.server.trusted_proxies):
            return None
        return self.user(headers.get(header, "").strip())

    def user(self, name: str) -> Device | None:
        """The device of a single sign-on user; None for one without access."""
        sso = self._settings.current.server.sso
        if name not in {*sso.users, *sso.viewers}:
            return None
        view_only = name not in sso.users
        return Device(
            id=user_id(name), name=name, token_hash=_NO_TOKEN, created_at=Milliseconds(0), view_only=view_only
        )

    async def devices(self) -> Mapping[str, Device]:
        return {device.id: device for device in await self._store.devices()}

    async def seen(self, device: Device, address: str) -> None:
        """Store that a device has connected; a disk error does not refuse it."""
        if device.token_hash:
            with suppress(FileOperationError):
                await self._store.touch_device(device.id, now(), address)


def _needed() -> UnauthorizedError:
    return UnauthorizedError("A token is needed: send it as `Authorization: Bearer TOKEN`.")


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None
