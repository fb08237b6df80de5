"""A small file beside the database that tells a database which went back: an old copy that was put back.

The mark holds the head of each log at the last checkpoint, and which file the database is. It is flushed to the
disk, by the thread that flushes the database. A log that ends before its marked head, within the same epoch, has
lost entries that clients may have seen. A database that is another file was copied here: whether it is the latest
one cannot be known.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

import msgspec

from pocket_agent.storage.connection import PRIVATE


class Mark(msgspec.Struct, frozen=True):
    """What is known of a database outside it.

    Attributes:
        inode: of the database's file.
        heads: by the number of a project, the epoch of its log and the offset of its last entry.
    """

    inode: int
    heads: dict[int, tuple[str, int]]


def mark_path(database: Path) -> Path:
    """The file of the mark."""
    return database.with_name(database.name + ".mark")


def write_mark(database: Path, connection: sqlite3.Connection) -> None:
    """Write what is committed now; a disk that refuses leaves the mark before, which is only less strict.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    heads = {number: (epoch, head) for number, epoch, head in _heads(connection)}
    path = mark_path(database)
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(OSError):
        mark = Mark(database.stat().st_ino, heads)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(mark))
            file.flush()
            os.fsync(descriptor)
        new.replace(path)


def outdated(database: Path, connection: sqlite3.Connection) -> set[int]:
    """The numbers of the projects whose logs went back, or may have; empty without a mark.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    try:
        mark = msgspec.json.decode(mark_path(database).read_bytes(), type=Mark)
        copied = mark.inode != database.stat().st_ino
    except (OSError, msgspec.MsgspecError):
        return set()
    found = set()
    for number, epoch, head in _heads(connection):
        marked_epoch, marked_head = mark.heads.get(number, (epoch, 0))
        if copied or (epoch == marked_epoch and head < marked_head):
            found.add(number)
    return found


def _heads(connection: sqlite3.Connection) -> list[tuple[int, str, int]]:
    return connection.execute("SELECT number, epoch, head FROM project").fetchall()
