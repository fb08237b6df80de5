"""Opening the database file: private from its first moment, ours, in WAL mode."""

import os
import sqlite3
from pathlib import Path
from typing import Final, Literal

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.fault import faults_mapped
from pocket_agent.storage.schema import check_version

Synchronous = Literal["normal", "full"]

PRIVATE: Final = 0o600
LOG_LIMIT_BYTES: Final = 64 * 2**20
"""What the file of the write-ahead log is cut back to when the log begins anew."""

_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables


def create_private(path: Path) -> None:
    """Create an empty file that only its owner may read, whatever the umask.

    SQLite gives its -wal and -shm files the mode of the database file (os_unix.c, findCreateFileMode).

    Raises:
        FileExistsError: the file is there already.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        os.fchmod(descriptor, PRIVATE)
    finally:
        os.close(descriptor)


def tighten(path: Path) -> None:
    """Take the database away from everybody but its owner, if it ever was readable to others."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists() and file.stat().st_mode & 0o077:
            file.chmod(PRIVATE)


def connect(path: Path, *, busy_timeout: float, synchronous: Synchronous = "normal") -> sqlite3.Connection:
    """Open an existing database file. The connection may be handed to another thread.

    Args:
        path: the file; it must exist (see `create_private`).
        busy_timeout: seconds to wait for a lock of another program.
        synchronous: "normal" may lose the last commits when the power fails, never the consistency;
            "full" flushes each commit. https://www.sqlite.org/pragma.html#pragma_synchronous

    Raises:
        SchemaTooNewError: a newer version of this program wrote the database.
        FileOperationError: the file cannot be used, or belongs to another program.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise FileOperationError(
            f"Python was built with SQLite {sqlite3.sqlite_version}; 3.37 or newer is needed.",
            details={"reason": "sqlite_too_old"},
        )
    with faults_mapped():
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            # Before anything is changed: a file that is not ours stays as it is.
            check_version(connection)
            _prepare(connection, synchronous)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise FileOperationError(
            "The file system of the data directory cannot share memory between programs, "
            "which the database needs (a network drive?). Choose a local directory.",
            details={"reason": "no_wal"},
        )
    set_synchronous(connection, synchronous)
    # The store checkpoints in a thread of its own, so that no commit waits for a flush of the disk.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
    connection.execute("PRAGMA trusted_schema = OFF")


def set_synchronous(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    """Choose what a commit waits for; see `connect`."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    # fsync alone does not reach the platter on macOS; on other systems this has no effect.
    connection.execute(f"PRAGMA fullfsync = {'ON' if synchronous == 'full' else 'OFF'}")
