"""Who may come in: a device with a token, which a program sends as a header and a browser as a cookie."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from pocket_agent.config.settings import ServerSettings
from pocket_agent.errors import FileOperationError, UnauthorizedError
from pocket_agent.model import Device, Milliseconds, ProjectId
from pocket_agent.server.cookie import cookie_name, read_cookie
from pocket_agent.server.network import Networks
from pocket_agent.server.peer import Peer
from pocket_agent.server.throttle import Throttle
from pocket_agent.session.log import now
from pocket_agent.storage import Store

_TOKEN_BYTES: Final = 32  # 256 bits
_TOKEN_PREFIX: Final = "pa_"  # noqa: S105 - lets people and secret scanners recognise a token
_NO_TOKEN: Final = ""
"""What stands for the hash of a token where there is none: the hash of no token is empty."""
USER_PREFIX: Final = "user-"
"""What the ids of users begin with whom a proxy has signed in."""
_LOCAL: Final = Device(id="local", name="local", token_hash=_NO_TOKEN, created_at=Milliseconds(0))


def new_token() -> str:
    """A random token of 256 bits; only `hash_token` of it may be stored."""
    return _TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def hash_token(token: str) -> str:
    """What the server keeps of a token: its SHA-256, which is enough for a value with 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_device(
    name: str, *, view_only: bool = False, projects: tuple[ProjectId, ...] | None = None
) -> tuple[Device, str]:
    """A device, and its token."""
    token = new_token()
    device = Device(
        id=secrets.token_hex(8),
        name=name,
        token_hash=hash_token(token),
        created_at=now(),
        view_only=view_only,
        projects=projects,
    )
    return device, token


class Authenticator:
    """Finds the device of a request."""

    def __init__(self, store: Store, settings: ServerSettings) -> None:
        self._store = store
        self._required = settings.auth
        self._settings = settings
        self._throttle = Throttle()

    async def device(self, peer: Peer, headers: Mapping[str, str], *, ambient: bool) -> Device:
        """The device that a request's headers prove; without tokens everybody is the device "local".

        Args:
            peer: who asks.
            headers: of the request.
            ambient: whether that counts which is added whatever page it was that asked: the cookie, by
                the browser, and the user's name, by a proxy that signs people in.

        Raises:
            UnauthorizedError: no token, or one that belongs to no device.
            RateLimitedError: the same, after many such attempts from this address. A valid token is
                accepted even then, so that nobody can lock out others.
        """
        if not self._required:
            return _LOCAL
        token = _bearer(headers)
        if token is None and ambient:
            cookie = self.cookie(peer, headers)
            user = self._user(peer, headers)
            if cookie is None and user is not None:
                return user
            # Not counted when it is wrong: a browser goes on showing the cookie of a device that was revoked.
            return await self._find(cookie)
        try:
            return await self._find(token)
        except UnauthorizedError:
            self._throttle.check(peer.address)
            if token is not None:
                self._throttle.failed(peer.address)
            raise

    async def _find(self, token: str | None) -> Device:
        if token is None:
            raise UnauthorizedError("A token is needed: send it as `Authorization: Bearer TOKEN`.")
        digest = hash_token(token)
        device = await self._store.device_by_hash(digest)
        if device is None or not hmac.compare_digest(device.token_hash, digest):
            raise UnauthorizedError("This token is not valid here; make one with `pocket-agent devices add NAME`.")
        return device

    def _user(self, peer: Peer, headers: Mapping[str, str]) -> Device | None:
        """Whom a trusted proxy has signed in; None when it names nobody who may come in."""
        header = self._settings.sso.header
        if header is None or peer.direct not in Networks(self._settings.trusted_proxies):
            return None
        return self.user(headers.get(header, "").strip())

    def user(self, name: str) -> Device | None:
        """What stands for a user whom a trusted proxy signs in; None when nobody of this name may come in."""
        sso = self._settings.sso
        if name not in {*sso.users, *sso.viewers}:
            return None
        identity = USER_PREFIX + hashlib.sha256(name.encode()).hexdigest()[:16]
        view_only = name not in sso.users
        return Device(id=identity, name=name, token_hash=_NO_TOKEN, created_at=Milliseconds(0), view_only=view_only)

    def cookie(self, peer: Peer, headers: Mapping[str, str]) -> str | None:
        """The token in the cookie of a request that shows no other; None when there is none."""
        if _bearer(headers) is not None:
            return None
        return read_cookie(headers.get("Cookie", ""), cookie_name(self._store.instance, peer))

    async def devices(self) -> Mapping[str, Device]:
        """All devices that may connect now, by their ids."""
        return {device.id: device for device in await self._store.devices()}

    async def seen(self, device: Device, address: str) -> None:
        """Note that a device has connected; a disk that refuses does not keep it out."""
        if device.token_hash:
            with suppress(FileOperationError):
                await self._store.touch_device(device.id, now(), address)


def _bearer(headers: Mapping[str, str]) -> str | None:
    """The token that a program shows (RFC 6750, section 2.1)."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None
