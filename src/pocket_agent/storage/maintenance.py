"""Commands on the database's file: backup, unused space, compaction."""

import os
import secrets
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.database import (
    MAIN_CONVERSATION,
    DataLock,
    check_version,
    connect,
    create_private,
    faults_mapped,
    lock_owner,
)
from pocket_agent.storage.epoch import set_meta

# ----------------------------------------------------------------------
# A copy of the database while the server runs.

_STEP_PAGES: Final = 2048


def backup(source: Path, target: Path) -> None:
    """Copy the database to a new file, whole and consistent, while a server may write.

    Blocking; meant for a process of its own. The copy is one file of mode 0600, checked, and marked:
    a server that opens it gives every project a new epoch, since its log ends in the past.

    Raises:
        FileOperationError: the target exists, the source cannot be read, the disk refused, or the
            copy is damaged. No target is left behind.
        SchemaTooNewError: a newer version of this program wrote the database.
    """
    if target.exists():
        raise FileOperationError("The backup's file exists already.", details={"reason": "target_exists"})
    with faults_mapped():
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        create_private(beside)
        try:
            _copy(source, beside)
            _seal(beside)
            _name(beside, target)
        finally:
            for leftover in (beside, beside.with_name(beside.name + "-journal")):
                leftover.unlink(missing_ok=True)


def _copy(source: Path, beside: Path) -> None:
    """Copy from one snapshot.

    The read transaction stays open over all the steps: without it the backup would start again at each
    commit of the server, and never end on a busy one (https://www.sqlite.org/backup.html). A reader
    does not block the writer.
    """
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as reader,
        closing(sqlite3.connect(beside, isolation_level=None)) as copy,
    ):
        reader.execute("PRAGMA query_only = ON")
        reader.execute("BEGIN")
        check_version(reader)
        reader.backup(copy, pages=_STEP_PAGES)
        reader.execute("ROLLBACK")


def _seal(beside: Path) -> None:
    """Mark the copy, make it one file without a write-ahead log, check it, and flush it."""
    with closing(sqlite3.connect(beside, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")
        copy.execute("PRAGMA synchronous = FULL")
        set_meta(copy, backup=1)
        found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise FileOperationError("The copy is damaged: so is the database.", details={"reason": "corrupt"})


def _name(beside: Path, target: Path) -> None:
    try:
        os.link(beside, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (a memory stick): the check comes right before the rename.
        if target.exists():
            raise FileExistsError from None
        beside.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# ----------------------------------------------------------------------
# The free space within the file, read without opening the database.


@dataclass(frozen=True, slots=True)
class Space:
    """The database's file, as it was when the write-ahead log was last moved into it.

    Attributes:
        size_bytes: of the file.
        unused_bytes: of its empty pages, which SQLite uses again for new data.
    """

    size_bytes: int
    unused_bytes: int

    @property
    def used_bytes(self) -> int:
        """The size without the empty pages."""
        return self.size_bytes - self.unused_bytes


def read_space(database: Path) -> Space:
    """Read the space from the file's header (https://www.sqlite.org/fileformat.html); takes no lock.

    Raises:
        FileOperationError: the file does not exist, cannot be read, or is not a database.
    """
    if not database.exists():
        raise FileOperationError(f"There is no database at {database}.", details={"reason": "cannot_open"})
    with faults_mapped():
        size = database.stat().st_size
        with database.open("rb") as file:
            header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise FileOperationError("The file is not a database.", details={"reason": "not_a_database"})
    (page,) = struct.unpack_from(">H", header, 16)
    (unused,) = struct.unpack_from(">I", header, 36)
    return Space(size, min(size, unused * (page if page > 1 else 65536)))  # 1 is how the header writes 65536


# ----------------------------------------------------------------------
# An inspection while the server may run.


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What a database has.

    Attributes:
        damage: the first fault that SQLite found; empty without one.
        complete: whether the whole file was checked within the time.
        directories: those of the projects, by the name of the project.
    """

    damage: str
    complete: bool
    directories: tuple[tuple[str, Path], ...]


def inspect(database: Path, seconds: float) -> DatabaseState:
    """Check the pages of a database for some seconds, and list the directories of its projects; blocking.

    Raises:
        FileOperationError: it cannot be opened, or is not a database.
    """
    read_space(database)  # otherwise opening would create one
    deadline = time.monotonic() + seconds
    complete, damage = True, ""
    log = database.with_name(f"{database.name}-wal")
    # Without a log nothing writes, and SQLite need not create one; with it, `ro` neither moves nor deletes it.
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    uri = f"{database.absolute().as_uri()}?{mode}"
    with faults_mapped(), closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=seconds)) as reader:
        reader.execute("PRAGMA query_only = ON")
        reader.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
        try:
            found = str(reader.execute("PRAGMA quick_check(1)").fetchone()[0])
            damage = "" if found == "ok" else found.rpartition("\n")[2]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            complete = False
        except sqlite3.DatabaseError as error:
            damage = str(error)
        reader.set_progress_handler(None, 0)
        directories: list[tuple[str, Path]] = []
        with suppress(sqlite3.Error):  # of another version, or damaged
            rows = reader.execute(f"SELECT name, path FROM conversation WHERE {MAIN_CONVERSATION}").fetchall()  # noqa: S608 - a constant
            directories = [(os.fsdecode(name), Path(os.fsdecode(path))) for name, path in rows]
    return DatabaseState(damage, complete, tuple(directories))


_PROGRESS_STEPS: Final = 10_000
"""Instructions of SQLite's virtual machine between two checks of the time."""


# ----------------------------------------------------------------------
# Compaction: gives that space back to the disk.

_BUSY_SECONDS: Final = 5.0
_COPIES: Final = 2
"""VACUUM writes the data twice: into a temporary file, and from there into the write-ahead log."""
_SPARE_BYTES: Final = 16 * 2**20


def compact(database: Path) -> tuple[Space, Space]:
    """Rewrite the database without its empty pages; returns the space before and after.

    Blocking. Nothing else changes: positions of clients stay valid. When it is interrupted, even by kill -9, the
    database is as it was.

    Raises:
        FileOperationError: there is no database, a server uses it, the disk has too little space, or it is damaged.
        SchemaTooNewError: a newer version of this program wrote the database.
    """
    read_space(database)  # else opening would make one
    with _alone(database), faults_mapped(), _temporary_files_in(database.parent):
        # "full", so that the new pages are on the disk before the old ones are overwritten.
        with closing(connect(database, busy_timeout=_BUSY_SECONDS, synchronous="full")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            before = read_space(database)
            _require_space(database.parent, before)
            _require_health(connection)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, read_space(database)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Hold the lock of the data, so that no server starts."""
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
            "running agents go on while it is stopped, and clients reconnect by themselves.",
            details=error.details,
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    """Let SQLite write its copy to the disk whose space was checked: /tmp may be small, and in memory."""
    before = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = str(directory)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SQLITE_TMPDIR"]
        else:
            os.environ["SQLITE_TMPDIR"] = before


def _require_space(directory: Path, space: Space) -> None:
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
