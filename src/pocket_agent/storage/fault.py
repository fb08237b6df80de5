"""Faults of SQLite and of the file system, turned into errors that a person can act on."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pocket_agent.errors import FileOperationError, InternalError, PocketAgentError

# The primary result code is the low byte of an extended one: https://www.sqlite.org/rescode.html
_PRIMARY: Final = 0xFF

# SQLite codes -> (reason for programs, message for people).
_REASON: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_FULL: (
        "disk_full",
        "The disk is full: nothing was stored. Free some space in the data directory's file system.",
    ),
    sqlite3.SQLITE_BUSY: (
        "busy",
        "The database is locked by another program: nothing was stored. Close it and try again.",
    ),
    sqlite3.SQLITE_LOCKED: ("busy", "The database is locked: nothing was stored. Try again."),
    sqlite3.SQLITE_READONLY: (
        "read_only",
        "The database cannot be written: its file or its file system is read-only.",
    ),
    sqlite3.SQLITE_PERM: ("permission", "The server may not open its database: check who owns the file."),
    sqlite3.SQLITE_AUTH: ("permission", "The server may not open its database: check who owns the file."),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot_open",
        "The database cannot be opened: check that the data directory exists and belongs to you.",
    ),
    sqlite3.SQLITE_CORRUPT: ("corrupt", "The database is damaged. Restore a backup of it."),
    sqlite3.SQLITE_NOTADB: (
        "not_a_database",
        "The file is not a database, or is damaged. Restore a backup, or choose another data directory.",
    ),
    sqlite3.SQLITE_IOERR: (
        "io_error",
        "The disk refused a read or a write of the database: it may be full or failing.",
    ),
}


def error_of(fault: sqlite3.Error | OSError) -> PocketAgentError:
    """Turn a fault into an error of the tree, with the fault as its `__cause__`.

    A fault of the disk or of the file is a FileOperationError, whose `details["reason"]` is stable;
    anything else (a broken constraint, wrong SQL) is a fault of the server: an InternalError.
    """
    error: PocketAgentError
    if isinstance(fault, OSError):
        error = FileOperationError(
            f"The data directory refused an operation: {fault.strerror or 'input or output error'}.",
            details={"reason": "io_error"},
        )
    else:
        # Faults that the Python module raises by itself have no code.
        code = getattr(fault, "sqlite_errorcode", 0) & _PRIMARY
        if code in _REASON:
            reason, message = _REASON[code]
            error = FileOperationError(message, details={"reason": reason})
        else:
            error = InternalError("The store refused a change that contradicts itself.")
    error.__cause__ = fault
    return error


@contextmanager
def faults_mapped() -> Iterator[None]:
    """Raise what `error_of` makes of a fault that happens inside."""
    try:
        yield
    except (sqlite3.Error, OSError) as fault:
        raise error_of(fault) from fault
