"""Devices: who holds a token, and who may get one. Also for commands that run beside the server."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent.errors import ResourceLimitError, ValidationError
from pocket_agent.model import Device, Milliseconds, Pairing
from pocket_agent.storage.connection import connect, create_private
from pocket_agent.storage.fault import faults_mapped
from pocket_agent.storage.lock import DataLock
from pocket_agent.storage.record import DEVICE, PAIRING
from pocket_agent.storage.schema import MIGRATIONS, check_version, migrate

_MAX_PAIRINGS: Final = 100
"""Pairing codes that may wait to be used at a time."""
_CLOCK_TOLERANCE_MS: Final = 60_000
"""How far a code may seem to have been made in the future, since clocks are corrected by little."""


def add_device(connection: sqlite3.Connection, device: Device) -> None:
    """Store a new device.

    Raises:
        ValidationError: a device of this name exists.
        sqlite3.Error: the disk refused.
    """
    if device_named(connection, device.name) is not None:
        raise _taken(device.name)
    DEVICE.insert(connection, device)


def devices(connection: sqlite3.Connection) -> list[Device]:
    """All devices, the oldest first."""
    return DEVICE.find(connection, "ORDER BY created_at, name")


def device_by_hash(connection: sqlite3.Connection, token_hash: str) -> Device | None:
    """The device whose token has this SHA-256."""
    return DEVICE.first(connection, "WHERE token_hash = ?", token_hash)


def touch_device(connection: sqlite3.Connection, device_id: str, when: Milliseconds, address: str) -> None:
    """Note when and where a device was last seen; nothing happens when it was removed."""
    connection.execute("UPDATE device SET last_seen = ?, last_address = ? WHERE id = ?", (when, address, device_id))


def device_named(connection: sqlite3.Connection, name: str) -> Device | None:
    """The device of this name."""
    return DEVICE.first(connection, "WHERE name = ?", name)


def rename_device(connection: sqlite3.Connection, device_id: str, name: str) -> Device | None:
    """Give a device another name and return it; None when there is none of this id.

    Raises:
        ValidationError: another device has this name.
    """
    other = device_named(connection, name)
    if other is not None and other.id != device_id:
        raise _taken(name)
    connection.execute("UPDATE device SET name = ? WHERE id = ?", (name, device_id))
    return DEVICE.first(connection, "WHERE id = ?", device_id)


def rotate_device(connection: sqlite3.Connection, device_id: str, token_hash: str) -> Device | None:
    """Replace a device's token and return the device; None when there is none of this id."""
    connection.execute("UPDATE device SET token_hash = ? WHERE id = ?", (token_hash, device_id))
    return DEVICE.first(connection, "WHERE id = ?", device_id)


def remove_device(connection: sqlite3.Connection, device_id: str) -> Device | None:
    """Remove a device and return it; None when there is none of this id."""
    device = DEVICE.first(connection, "WHERE id = ?", device_id)
    if device is not None:
        connection.execute("DELETE FROM device WHERE id = ?", (device.id,))
    return device


def add_pairing(connection: sqlite3.Connection, pairing: Pairing) -> None:
    """Store leave for one device, and forget what has expired.

    Raises:
        ResourceLimitError: too many wait to be used.
        sqlite3.Error: the disk refused.
    """
    now = pairing.created_at
    connection.execute("DELETE FROM pairing WHERE expires_at <= ? OR created_at > ?", (now, now + _CLOCK_TOLERANCE_MS))
    if connection.execute("SELECT count(*) FROM pairing").fetchone()[0] >= _MAX_PAIRINGS:
        raise ResourceLimitError(f"{_MAX_PAIRINGS} pairing codes wait to be used; they expire within minutes.")
    PAIRING.insert(connection, pairing)


def redeem_pairing(connection: sqlite3.Connection, code_hash: str, device: Device) -> Device | None:
    """Use up a pairing: add the device with what the pairing says of it; None when there is no such pairing.

    Meant for one transaction, so that a code that two devices show at once lets in one.

    Args:
        connection: inside a transaction.
        code_hash: of the code that was shown.
        device: a new one, made now; a name that is taken gets a number.
    """
    # A clock that was set back must not make a code valid for longer.
    where = "WHERE code_hash = ? AND expires_at > ? AND created_at <= ?"
    now = device.created_at
    pairing = PAIRING.first(connection, where, code_hash, now, now + _CLOCK_TOLERANCE_MS)
    if pairing is None:
        return None
    connection.execute("DELETE FROM pairing WHERE code_hash = ?", (code_hash,))
    allowed = msgspec.structs.replace(
        device,
        name=_free_name(connection, pairing.name or device.name),
        view_only=pairing.view_only,
        projects=pairing.projects,
    )
    DEVICE.insert(connection, allowed)
    return allowed


def _free_name(connection: sqlite3.Connection, wanted: str) -> str:
    taken = {name for (name,) in connection.execute("SELECT name FROM device")}
    numbered = (f"{wanted} {number}" for number in itertools.count(2))
    return next(name for name in (wanted, *itertools.islice(numbered, len(taken))) if name not in taken)


def _taken(name: str) -> ValidationError:
    return ValidationError(f"There is a device named {name!r} already.")


@contextmanager
def connection_beside(path: Path, *, busy_timeout: float = 5.0) -> Iterator[sqlite3.Connection]:
    """A short-lived, blocking connection for a command; a server may be running on the same data.

    Makes the database when there is none yet (a device may be added before the first start).
    Statements commit one by one.

    Raises:
        SchemaTooNewError: a newer version of this program wrote the database.
        FileOperationError: the database cannot be used.
    """
    with faults_mapped():
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                create_private(path)
        with closing(connect(path, busy_timeout=busy_timeout)) as connection:
            if check_version(connection) < len(MIGRATIONS):
                _migrate_alone(path, connection)
            yield connection


def _migrate_alone(path: Path, connection: sqlite3.Connection) -> None:
    """Migrate, but not underneath a running server of an older version."""
    lock = DataLock.acquire(path)
    try:
        migrate(connection)
    finally:
        lock.release()
