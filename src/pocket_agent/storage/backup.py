"""A copy of the database while the server runs."""

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.connection import create_private
from pocket_agent.storage.epoch import set_meta
from pocket_agent.storage.fault import faults_mapped
from pocket_agent.storage.schema import check_version

_STEP_PAGES: Final = 2048


def backup(source: Path, target: Path) -> None:
    """Copy the database to a new file, whole and consistent, whatever the server writes meanwhile.

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

    The read transaction stays open over all the steps: without it the backup would begin anew at each
    commit of the server, and never end on a busy one (https://www.sqlite.org/backup.html). A reader
    does not hold up the writer.
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
        # A file system without hard links (a memory stick): the last look is a moment before the rename.
        if target.exists():
            raise FileExistsError from None
        beside.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
