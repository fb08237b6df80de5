"""Pairing codes: a device shows one, once and soon, and gets a token."""

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

from pocket_agent.errors import UnauthorizedError, ValidationError
from pocket_agent.model import Device, Milliseconds, Pairing, ProjectId
from pocket_agent.session.project_log import now
from pocket_agent.storage import Store

PAIRING_SECONDS: Final = 300
MAX_NAME: Final = 100
"""Characters of a device's name."""

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Base 32 without letters that look like digits (https://www.crockford.com/base32.html)."""
_ALIKE: Final = str.maketrans("OIL", "011", " -")
_CHARACTERS: Final = 12  # 60 bits: guesses of a whole five minutes, thousands each second, hit once in 10^12 times
_GROUP: Final = 4


def new_code() -> str:
    """A random code of 60 bits, in groups that can be read aloud."""
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))
    return "-".join(code[start : start + _GROUP] for start in range(0, _CHARACTERS, _GROUP))


def hash_code(code: str) -> str:
    """What the server keeps of a code: the SHA-256 of it, however it was typed."""
    typed = code.upper().translate(_ALIKE)
    return hashlib.sha256(typed.encode("utf-8", "surrogatepass")).hexdigest()


def check_name(name: str) -> str:
    """A device's name, stripped.

    Raises:
        ValidationError: it is empty, too long, or would disturb a terminal or a log.
    """
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
    """Leave for one device, to be stored, and the code that it has to show.

    Args:
        name: what it will be called; None lets it say so itself.
        view_only: whether it may only watch.
        projects: those that it may see; None for all.
        maker: the device that asks for the code, with which the code ends; None for the server itself and for
            commands on its machine.

    Raises:
        ValidationError: the name cannot be one.
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
    """Use up a code: store a new device with what the code allows it.

    Args:
        store: where codes and devices are.
        code: as it was typed.
        device: as of `auth.new_device`.
        check_maker: as of `Policy.check_maker`.

    Raises:
        UnauthorizedError: the code is wrong, expired or used, or the device that made it was revoked.
    """
    paired = await store.redeem_pairing(hash_code(code), device, check_maker)
    if paired is None:
        raise UnauthorizedError(
            "This code is wrong, was used, or has expired; get another with `pocket-agent pair`.",
        )
    return paired
