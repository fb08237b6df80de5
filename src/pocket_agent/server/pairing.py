"""Pairing codes: a new device redeems one, once and within five minutes, and gets a token."""

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import UnauthorizedError, ValidationError
from pocket_agent.model import Device, Milliseconds, Pairing, ProjectId
from pocket_agent.storage import Store

PAIRING_SECONDS: Final = 300
MAX_NAME: Final = 100  # characters of a device's name

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Base 32 without letters that look like digits (https://www.crockford.com/base32.html)."""
_ALIKE: Final = str.maketrans("OIL", "011", " -")
_CHARACTERS: Final = 12  # 60 bits: five minutes of thousands of guesses each second succeed once in 10^12 times
_GROUP: Final = 4


def new_code() -> str:
    """A random code of 60 bits, in groups for reading aloud."""
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))
    return "-".join(code[start : start + _GROUP] for start in range(0, _CHARACTERS, _GROUP))


def hash_code(code: str) -> str:
    """The SHA-256 of a code, after typing variants are normalised; the server stores nothing else of it."""
    typed = code.upper().translate(_ALIKE)
    return hashlib.sha256(typed.encode("utf-8", "surrogatepass")).hexdigest()


def check_name(name: str) -> str:
    """Strip a device's name; raises ValidationError for one that is empty, too long or not printable."""
    name = name.strip()
    if not name or not name.isprintable() or len(name) > MAX_NAME:
        raise ValidationError(f"A device's name is 1 to {MAX_NAME} printable characters.")
    return name


def new_pairing(
    name: str | None = None,
    *,
    view_only: bool = False,
    projects: tuple[ProjectId, ...] | None = None,
    maker: Device | None = None,
) -> tuple[Pairing, str]:
    """A pairing to store, and its code. The parameters are those of the new device, see `Device`.

    Args:
        name: None lets it choose one.
        maker: the requesting device, with which the code ends; None for the server and commands on its machine.

    Raises:
        ValidationError: the name is invalid.
    """
    code, at = new_code(), now()
    pairing = Pairing(
        code_hash=hash_code(code),
        name=check_name(name) if name is not None else None,
        view_only=view_only,
        projects=projects,
        created_at=at,
        expires_at=Milliseconds(at + PAIRING_SECONDS * 1000),
        id=secrets.token_hex(4),
        device_id=maker.id if maker is not None else None,
        generation=maker.generation if maker is not None else 0,
    )
    return pairing, code


async def redeem(store: Store, code: str, device: Device, check_maker: Callable[[str | None], None]) -> Device:
    """Redeem a code as typed: store a device of `auth.new_device` with the permissions of the code.

    Raises UnauthorizedError when it is wrong, expired or used, and what `check_maker` raises (`Policy.check_maker`).
    """
    paired = await store.redeem_pairing(hash_code(code), device, check_maker)
    if paired is None:
        raise UnauthorizedError(
            "This code is wrong, was used, or has expired; get another with `pocket-agent pair`.",
        )
    return paired
