"""Who may come in: a device with a token, from an origin that is the server's own."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from pocket_agent.config import is_loopback
from pocket_agent.errors import FileOperationError, ForbiddenError, UnauthorizedError
from pocket_agent.model import Device, Milliseconds
from pocket_agent.session.log import now
from pocket_agent.storage import Store

_TOKEN_BYTES: Final = 32  # 256 bits
_TOKEN_PREFIX: Final = "pa_"  # noqa: S105 - lets people and secret scanners recognise a token
_LOCAL: Final = Device(id="local", name="local", token_hash="", created_at=Milliseconds(0))


def new_token() -> str:
    """A random token of 256 bits; only `hash_token` of it may be stored."""
    return _TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def hash_token(token: str) -> str:
    """What the server keeps of a token: its SHA-256, which is enough for a value with 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Authenticator:
    """Finds the device of a connection.

    Args:
        required: whether a token is needed; without, everybody is the device "local".
        allowed_origins: web origins that may connect beside the server's own.
    """

    def __init__(self, store: Store, *, required: bool, allowed_origins: Sequence[str]) -> None:
        self._store = store
        self._required = required
        self._allowed_origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)

    async def device(self, headers: Mapping[str, str]) -> Device:
        """The device that a handshake's headers prove.

        Raises:
            UnauthorizedError: no token, or one that belongs to no device.
        """
        if not self._required:
            return _LOCAL
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnauthorizedError("A token is needed: send it as `Authorization: Bearer TOKEN`.")
        digest = hash_token(token.strip())
        device = await self._store.device_by_hash(digest)
        if device is None or not hmac.compare_digest(device.token_hash, digest):
            raise UnauthorizedError("This token is not valid here; make one with `pocket-agent devices add NAME`.")
        return device

    async def device_ids(self) -> frozenset[str]:
        """The ids of all devices that may connect now."""
        return frozenset(device.id for device in await self._store.devices())

    async def seen(self, device: Device) -> None:
        """Note that a device has connected; a disk that refuses does not keep it out."""
        if device.token_hash:
            with suppress(FileOperationError):
                await self._store.touch_device(device.id, now())

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refuse web pages of other sites (RFC 6455 section 10.2); programs send no Origin.

        Raises:
            ForbiddenError: the page is neither the server's own nor configured.
        """
        origin = headers.get("Origin")
        if origin is None or origin.rstrip("/").lower() in self._allowed_origins:
            return
        try:
            parts = urlsplit(origin)
            own, host = parts.netloc.lower(), parts.hostname or ""
        except ValueError:  # such as a bracket that is never closed
            own = host = ""
        # Without tokens a name that an attacker points at loopback must not count as the server's own.
        if own and own == headers.get("Host", "").lower() and (self._required or is_loopback(host)):
            return
        raise ForbiddenError("Pages of this origin may not connect (server.allowed_origins).")
