"""Proof of possession of a cookie: the browser signs a nonce with a key of the page's origin.

The page makes an ECDSA P-256 key that scripts cannot export (WebCrypto), and keeps it in IndexedDB, which belongs to
one origin: scheme, host and port. A page of another port of the same host gets the cookie, but not the key. The signed
text has the origin, so that a signature for another page is not valid here.
"""

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Iterable
from typing import Final

from pocket_agent.errors import UnauthorizedError, ValidationError
from pocket_agent.model import Device

HEADER: Final = "Pocket-Agent-Proof"  # of a request over HTTP: `NONCE SIGNATURE`, the nonce from `GET /api/session`
KEY_HEADER: Final = "Pocket-Agent-Key"
"""Of `GET /api/session`: the SHA-256 (hexadecimal) of the public key that the page holds, `none` without one."""
WEBSOCKET: Final = "GET /ws"  # the action that a page signs to open a WebSocket
_CONTEXT: Final = "pocket-agent proof"
_SECONDS: Final = 60.0
_HALF: Final = 32  # bytes of each half of a signature: r and s, as WebCrypto gives them (IEEE P1363)


class Nonces:
    """Nonces of this server, each valid once and for a minute."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._used: dict[str, float] = {}

    def new(self) -> str:
        """A nonce. It is stored only when it is used, so that requests for many take no memory."""
        made = f"{int(time.monotonic())}.{secrets.token_hex(16)}"
        return f"{made}.{self._sign(made)}"

    def take(self, nonce: str) -> bool:
        """Use a nonce up; false when this server did not make it within the last minute, or it was used before."""
        at = time.monotonic()
        self._used = {used: until for used, until in self._used.items() if until > at}
        made, _, mac = nonce.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._sign(made).encode()):
            return False
        if nonce in self._used or at - int(made.partition(".")[0]) > _SECONDS:
            return False
        self._used[nonce] = at + _SECONDS + 1
        return True

    def _sign(self, made: str) -> str:
        return hmac.digest(self._secret, made.encode("utf-8", "surrogatepass"), "sha256").hex()


def read_key(text: str) -> bytes:
    """A browser's public key, out of SubjectPublicKeyInfo in DER, as base64url without padding.

    Raises ValidationError when it is not an ECDSA P-256 key.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        der = _decode(text)
        key = load_der_public_key(der)
    except (ValueError, TypeError) as error:
        raise ValidationError("key: not a public key (SubjectPublicKeyInfo in DER, base64url).") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValidationError("key: not an ECDSA P-256 key.")
    return der


def signed_text(origin: str, action: str, nonce: str) -> bytes:
    """The text that a browser signs; `origin` as the browser spells it, `action` such as `POST /api/logout`."""
    return "\n".join((_CONTEXT, origin, action, nonce)).encode("utf-8", "surrogatepass")


def proven_by(devices: Iterable[Device], signature: str, text: bytes) -> Device:
    """The device whose key has signed a text of `signed_text`; the signature is r and s, as base64url without padding.

    Raises UnauthorizedError when no device has.
    """
    try:
        raw = _decode(signature)
    except ValueError:
        raw = b""
    if len(raw) == 2 * _HALF:
        for device in devices:
            if device.public_key is not None and _verifies(device.public_key, raw, text):
                return device
    raise UnauthorizedError("This browser did not prove that the cookie is its own; pair it again.")


def _verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    halves = int.from_bytes(signature[:_HALF]), int.from_bytes(signature[_HALF:])
    try:
        key.verify(utils.encode_dss_signature(*halves), text, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _decode(text: str) -> bytes:
    """Base64url without padding. Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
