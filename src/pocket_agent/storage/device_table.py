"""Devices and the pairing codes of new ones, for the store and for commands that run next to the server."""

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent.errors import ForbiddenError, ResourceLimitError, ValidationError
from pocket_agent.model import Credential, Device, Execution, Milliseconds, Pairing, ProcessRecord, is_stored
from pocket_agent.storage import database
from pocket_agent.storage.tables import DEVICE, EXECUTION, PAIRING, PROCESS

_MAX_PAIRINGS: Final = 100
"""Pairing codes that may be open at a time."""
_CLOCK_TOLERANCE_MS: Final = 60_000
"""How far in the future a code may seem to have been made, since clocks are corrected by small steps."""


def add_device(connection: sqlite3.Connection, device: Device) -> None:
    """Store a new device. Raises ValidationError when one of this name exists."""
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
    """Record when and where a device was last seen; nothing happens when it was removed."""
    connection.execute("UPDATE device SET last_seen = ?, last_address = ? WHERE id = ?", (when, address, device_id))


def device_named(connection: sqlite3.Connection, name: str) -> Device | None:
    """The device of this name."""
    return DEVICE.first(connection, "WHERE name = ?", name)


def rename_device(connection: sqlite3.Connection, device_id: str, name: str) -> Device | None:
    """Rename and return a device; None when it does not exist. Raises ValidationError when the name is taken."""
    other = device_named(connection, name)
    if other is not None and other.id != device_id:
        raise _taken(name)
    connection.execute("UPDATE device SET name = ? WHERE id = ?", (name, device_id))
    return DEVICE.first(connection, "WHERE id = ?", device_id)


def rotate_device(
    connection: sqlite3.Connection,
    device_id: str,
    token_hash: str,
    credential: Credential = Credential.TOKEN,
    public_key: bytes | None = None,
) -> Device | None:
    """Replace a device's credential, and delete the pairing codes that it made.

    Args:
        token_hash: of the new secret.
        credential: how the device sends the new secret.
        public_key: the key that the device proves the new cookie with.

    Returns:
        The device, with another generation; None when it does not exist.
    """
    # The generation alone voids the device's open codes; deleting them keeps them out of the list.
    connection.execute(
        "UPDATE device SET token_hash = ?, credential = ?, public_key = ?, generation = generation + 1 WHERE id = ?",
        (token_hash, credential.value, public_key, device_id),
    )
    connection.execute("DELETE FROM pairing WHERE device_id = ?", (device_id,))
    return DEVICE.first(connection, "WHERE id = ?", device_id)


def enroll_device(
    connection: sqlite3.Connection, device: Device, token_hash: str, public_key: bytes | None
) -> Device | None:
    """Turn a browser's old credential into a cookie, proven with a key where it can hold one.

    Args:
        device: as it authenticated; one that has a key already, or whose secret has changed since, stays as it is.
        token_hash: of the new cookie's value.
        public_key: DER; None where the browser cannot hold a key.

    Returns:
        The device as it is now; None when nothing was changed.
    """
    changed = connection.execute(
        "UPDATE device SET token_hash = ?, credential = ?, public_key = ? "
        "WHERE id = ? AND token_hash = ? AND public_key IS NULL",
        (token_hash, Credential.COOKIE.value, public_key, device.id, device.token_hash),
    )
    return DEVICE.first(connection, "WHERE id = ?", device.id) if changed.rowcount else None


def remove_device(connection: sqlite3.Connection, device_id: str) -> Device | None:
    """Remove a device and its open pairing codes, and return it; None when it does not exist."""
    device = DEVICE.first(connection, "WHERE id = ?", device_id)
    if device is not None:
        connection.execute("DELETE FROM device WHERE id = ?", (device.id,))
        connection.execute("DELETE FROM pairing WHERE device_id = ?", (device.id,))
    return device


def let_in_by(found: Iterable[Device], device_id: str) -> list[Device]:
    """The devices that were paired by codes of one device, and by codes of those."""
    found = list(found)
    paired, makers = [], {device_id}
    while more := [device for device in found if device.paired_by in makers and device not in paired]:
        paired += more
        makers |= {device.id for device in more}
    return paired


def remove_devices(connection: sqlite3.Connection, device_id: str, *, paired: bool) -> list[Device]:
    """Remove a device, and if `paired` those of `let_in_by`, inside the caller's transaction; returns the removed."""
    others = let_in_by(devices(connection), device_id) if paired else []
    removed = (remove_device(connection, found) for found in (device_id, *(device.id for device in others)))
    return [device for device in removed if device is not None]


def require_maker(connection: sqlite3.Connection, device_id: str | None, generation: int) -> None:
    """Raise ForbiddenError when a device was revoked, or its credential replaced, since it made a request.

    Devices without a row (commands, the server itself, users of single sign-on) are judged by `policy`.
    """
    if not is_stored(device_id):
        return
    found = connection.execute("SELECT 1 FROM device WHERE id = ? AND generation = ?", (device_id, generation))
    if found.fetchone() is None:
        raise ForbiddenError("The device that asked for this was revoked, or its token was replaced.")


def open_pairings(connection: sqlite3.Connection, at: Milliseconds) -> list[Pairing]:
    """The pairing codes that can be redeemed at this time, the oldest first."""
    where = "WHERE expires_at > ? AND created_at <= ? ORDER BY created_at, id"
    return PAIRING.find(connection, where, at, at + _CLOCK_TOLERANCE_MS)


def cancel_pairing(connection: sqlite3.Connection, pairing_id: str) -> bool:
    """Delete an open pairing code; false when there is no code of this id (any more)."""
    return bool(connection.execute("DELETE FROM pairing WHERE id = ?", (pairing_id,)).rowcount)


def process_of(connection: sqlite3.Connection, conversation_id: str) -> ProcessRecord | None:
    """The process of a conversation; None without a process."""
    return PROCESS.first(connection, "WHERE conversation_id = ? ORDER BY started_at DESC", conversation_id)


def running_of(connection: sqlite3.Connection, device_id: str) -> list[Execution]:
    """The executions of a device that have started and are not over."""
    where = "WHERE status IN ('starting', 'running') AND device_id = ? ORDER BY created_at"
    return EXECUTION.find(connection, where, device_id)


def add_pairing(connection: sqlite3.Connection, pairing: Pairing) -> None:
    """Store a pairing code, and delete expired ones.

    Raises:
        ResourceLimitError: too many codes are open.
        ForbiddenError: the device that makes it was revoked.
    """
    require_maker(connection, pairing.device_id, pairing.generation)
    now = pairing.created_at
    connection.execute("DELETE FROM pairing WHERE expires_at <= ? OR created_at > ?", (now, now + _CLOCK_TOLERANCE_MS))
    if connection.execute("SELECT count(*) FROM pairing").fetchone()[0] >= _MAX_PAIRINGS:
        raise ResourceLimitError(f"{_MAX_PAIRINGS} pairing codes wait to be used; they expire within minutes.")
    PAIRING.insert(connection, pairing)


def redeem_pairing(
    connection: sqlite3.Connection, code_hash: str, device: Device, check_maker: Callable[[str | None], None]
) -> Device | None:
    """Use up a pairing code: add its device, with the access of the pairing; None when there is no such code.

    Call it in one transaction, so that of two devices that send a code at once only one is added.

    Args:
        code_hash: of the code that was sent.
        device: a new one, made now; a name that is taken gets a number.
        check_maker: raises ForbiddenError for the id of a maker without a row that has lost its access.
    """
    # Setting the clock back must not make a code valid for longer.
    where = "WHERE code_hash = ? AND expires_at > ? AND created_at <= ?"
    now = device.created_at
    pairing = PAIRING.first(connection, where, code_hash, now, now + _CLOCK_TOLERANCE_MS)
    if pairing is None:
        return None
    connection.execute("DELETE FROM pairing WHERE code_hash = ?", (code_hash,))
    try:
        check_maker(pairing.device_id)
        require_maker(connection, pairing.device_id, pairing.generation)
    except ForbiddenError:
        return None
    allowed = msgspec.structs.replace(
        device,
        name=_free_name(connection, pairing.name or device.name),
        view_only=pairing.view_only,
        projects=pairing.projects,
        paired_by=pairing.device_id,
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

    Creates the database if need be (a device may be added before the first start). Statements commit one by one.

    Raises:
        SchemaTooNewError: a newer version of this program wrote the database.
        FileOperationError: the database cannot be used.
    """
    with database.faults_mapped():
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                database.create_private(path)
        with closing(database.connect(path, busy_timeout=busy_timeout)) as connection:
            if database.check_version(connection) < len(database.MIGRATIONS):
                lock = database.DataLock.acquire(path)  # a server of an older version may be running
                try:
                    database.migrate(connection)
                finally:
                    lock.release()
            yield connection
