"""Gives back to the disk what deleted entries have left in the database's file."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.connection import connect
from pocket_agent.storage.fault import faults_mapped
from pocket_agent.storage.lock import DataLock, lock_owner
from pocket_agent.storage.space import Space, read_space

_BUSY_SECONDS: Final = 5.0
_COPIES: Final = 2
"""What is kept is written twice: into a temporary file, and from there into the write-ahead log (VACUUM)."""
_SPARE_BYTES: Final = 16 * 2**20


def compact(database: Path) -> tuple[Space, Space]:
    """Write the database anew without its empty pages; returns what it took before and takes now.

    Blocking, for as long as the disk needs to read and write what is kept. Nothing else changes: positions of clients
    stay valid. When it is interrupted, even by kill -9, the database is as it was.

    Raises:
        FileOperationError: there is no database, a server uses it, the disk has no room for it, or it is damaged.
        SchemaTooNewError: a newer version of this program wrote the database.
    """
    read_space(database)  # else opening would make one
    with _alone(database), faults_mapped(), _temporary_files_in(database.parent):
        # "full", so that the new file is on the disk before the old one is let go of.
        with closing(connect(database, busy_timeout=_BUSY_SECONDS, synchronous="full")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            before = read_space(database)
            _require_room(database.parent, before)
            _require_health(connection)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, read_space(database)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Keep servers away."""
    try:
        with faults_mapped():
            lock = DataLock.acquire(database)
    except FileOperationError as error:
        if error.details.get("reason") != "data_in_use":
            raise
        owner = lock_owner(database)
        who = f"The server (process {owner})" if owner is not None else "A server"
        raise FileOperationError(
            f"{who} uses this database. Stop it (systemctl stop pocket-agent, or Ctrl-C), compact, and start it again: "
            "agents that work go on meanwhile, and clients come back by themselves.",
            details=error.details,
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    """Let SQLite keep its copy on the disk that was looked at: /tmp may be small, and in memory."""
    before = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = str(directory)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SQLITE_TMPDIR"]
        else:
            os.environ["SQLITE_TMPDIR"] = before


def _require_room(directory: Path, space: Space) -> None:
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    needed = _COPIES * space.used_bytes + _SPARE_BYTES
    if free < needed:
        raise FileOperationError(
            f"Compacting needs {_mebibytes(needed)} of free space in {directory} for a while, and there are "
            f"{_mebibytes(free)}. Free some space there first; nothing was changed.",
            details={"reason": "disk_full", "needed_bytes": needed, "free_bytes": free},
        )


def _require_health(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise FileOperationError("The database is damaged. Restore a backup of it.", details={"reason": "corrupt"})


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
