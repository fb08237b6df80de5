"""Devices: who holds a token. Also for commands that run beside the server."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from pocket_agent.errors import ValidationError
from pocket_agent.model import Device, Milliseconds
from pocket_agent.storage.connection import connect, create_private
from pocket_agent.storage.fault import faults_mapped
from pocket_agent.storage.lock import DataLock
from pocket_agent.storage.record import DEVICE
from pocket_agent.storage.schema import MIGRATIONS, check_version, migrate


def add_device(connection: sqlite3.Connection, device: Device) -> None:
    """Store a new device.

    Raises:
        ValidationError: a device of this name exists.
        sqlite3.Error: the disk refused.
    """
    if connection.execute("SELECT 1 FROM device WHERE name = ?", (device.name,)).fetchone() is not None:
        raise ValidationError(f"There is a device named {device.name!r} already.")
    DEVICE.insert(connection, device)


def devices(connection: sqlite3.Connection) -> list[Device]:
    """All devices, the oldest first."""
    return DEVICE.find(connection, "ORDER BY created_at, name")


def device_by_hash(connection: sqlite3.Connection, token_hash: str) -> Device | None:
    """The device whose token has this SHA-256."""
    return DEVICE.first(connection, "WHERE token_hash = ?", token_hash)


def touch_device(connection: sqlite3.Connection, device_id: str, when: Milliseconds) -> None:
    """Note when a device was last seen; nothing happens when it was removed."""
    connection.execute("UPDATE device SET last_seen = ? WHERE id = ?", (when, device_id))


def remove_device(connection: sqlite3.Connection, name: str) -> Device | None:
    """Remove the device of this name and return it; None when there is none."""
    device = DEVICE.first(connection, "WHERE name = ?", name)
    if device is not None:
        connection.execute("DELETE FROM device WHERE id = ?", (device.id,))
    return device


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
