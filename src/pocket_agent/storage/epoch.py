"""Epochs: a position (epoch, offset) that a client holds never silently means another entry.

The database and a small file next to it prove a restored backup, an old copy, or lost commits.
"""

import contextlib
import fcntl
import os
import secrets
import sqlite3
import struct
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import psutil

from pocket_agent.model import StrayWorktree
from pocket_agent.storage.database import PRIVATE, Synchronous, mark_path, transaction

# ----------------------------------------------------------------------
# Offsets count on within an epoch. When commits that clients may have seen can be missing, every project gets a new
# epoch, and clients learn from it that their position is void. That is the case
# - when the file is a restored backup: the log went on after it was made;
# - when the file is another one than before, or a log ends before its marked head (see `Mark`): a copy was put back;
# - when the machine went down under a server that did not flush each commit ("normal"): SQLite keeps the database
#   whole, but the last commits may be gone (https://www.sqlite.org/wal.html, "Performance Considerations").
# Killing the server loses nothing: the kernel has the data that it wrote.

_LINUX_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Identifies the current boot of the machine (random(4) on Linux, the boot time elsewhere)."""
    if _LINUX_BOOT_ID.exists():
        return _LINUX_BOOT_ID.read_text(encoding="ascii").strip()
    return str(int(psutil.boot_time()))


def new_epoch() -> str:
    """A random epoch of 8 hexadecimal digits."""
    return secrets.token_hex(4)


def begin_run(
    connection: sqlite3.Connection, *, synchronous: Synchronous, boot: str, outdated: Collection[int] = ()
) -> bool:
    """Renew epochs if need be, and record the start of a run; returns whether any epoch was renewed.

    The caller has set the connection to `synchronous = full` for this: if the record were lost with the power, the
    next run would take the loss for a clean end.

    Args:
        synchronous: of this run.
        boot: the boot of the machine.
        outdated: the numbers of the conversations whose logs went back.
    """
    with transaction(connection):
        known = meta(connection)
        lost = not known["clean"] and known.get("synchronous") == "normal" and known.get("boot_id") != boot
        numbers = {number for (number,) in connection.execute("SELECT number FROM conversation")}
        if not (known["backup"] or lost):
            numbers &= set(outdated)
        connection.executemany(
            "UPDATE conversation SET epoch = ? WHERE number = ?", [(new_epoch(), number) for number in numbers]
        )
        set_meta(connection, clean=0, backup=0, boot_id=boot, synchronous=synchronous)
    return bool(known["backup"]) or lost or bool(numbers)


def end_run(connection: sqlite3.Connection) -> None:
    """Record that the run ended cleanly. The last commit of a run."""
    with transaction(connection):
        set_meta(connection, clean=1)


def audit_head(connection: sqlite3.Connection) -> tuple[int, str] | None:
    """The number and the hash of the last known record of the audit log."""
    found = meta(connection).get("audit_head")
    if found is None:
        return None
    seq, _, digest = str(found).partition(":")
    return int(seq), digest


def advance_audit_head(connection: sqlite3.Connection, seq: int, digest: str) -> None:
    """Store the last record of the audit log, unless a command next to the server has stored a later one."""
    known = audit_head(connection)
    if known is None or known[0] < seq:
        set_meta(connection, audit_head=f"{seq}:{digest}")


def remember_settings(connection: sqlite3.Connection, shown: Mapping[str, object]) -> dict[str, object]:
    """Store settings as they are printed, without secrets; returns those of the run before, empty at the first."""
    before = msgspec.json.decode(str(meta(connection).get("settings", "{}")), type=dict[str, object])
    set_meta(connection, settings=msgspec.json.encode(shown).decode())
    return before


def stray_worktrees(connection: sqlite3.Connection) -> dict[str, StrayWorktree]:
    """The noted worktrees without a conversation, by their directories."""
    return msgspec.json.decode(str(meta(connection).get("worktrees", "{}")), type=dict[str, StrayWorktree])


def note_worktrees(
    connection: sqlite3.Connection, strays: Iterable[StrayWorktree] = (), *, settled: Collection[str] = ()
) -> None:
    """Note worktrees that may lose the server before they get or lose their conversation; forget `settled` ones."""
    noted = stray_worktrees(connection) | {stray.worktree.root: stray for stray in strays}
    kept = {root: stray for root, stray in noted.items() if root not in settled}
    set_meta(connection, worktrees=msgspec.json.encode(kept).decode())


def meta(connection: sqlite3.Connection) -> dict[str, str | int]:
    """Facts about the database itself."""
    return dict(connection.execute("SELECT key, value FROM meta").fetchall())


def set_meta(connection: sqlite3.Connection, /, **values: str | int) -> None:
    """Write facts about the database itself, inside the caller's transaction."""
    connection.executemany(
        "INSERT INTO meta(key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        values.items(),
    )


# ----------------------------------------------------------------------
# The mark: a small file next to the database that shows whether an old copy was put back.
#
# It has the head of each log at the last checkpoint, and the inode of the database. The thread that checkpoints the
# database flushes it to the disk. A log that ends before its marked head, within the same epoch, has lost entries
# that clients may have seen. A database with another inode was copied here: whether it is the latest one cannot be
# known. So was one next to a mark that has been copied: ext4 gives the number of a deleted inode to the next new file,
# with another generation. (Closing the database's own file here would release SQLite's locks on it, fcntl_locking(2).)

_GET_VERSION: Final = 2 << 30 | struct.calcsize("l") << 16 | ord("v") << 8 | 1
"""FS_IOC_GETVERSION, as most architectures number it; ext4, XFS and Btrfs support it."""


class Mark(msgspec.Struct, frozen=True):
    """The contents of the mark.

    Attributes:
        inode: of the database's file.
        heads: by the number of a project, the epoch of its log and the offset of its last entry.
        own: the inode of the mark itself and its generation, 0 where the file system has none; (0, 0) in an old mark.
    """

    inode: int
    heads: dict[int, tuple[str, int]]
    own: tuple[int, int] = (0, 0)


def write_mark(database: Path, connection: sqlite3.Connection) -> None:
    """Write the mark of the committed state; when the disk refuses, the older mark stays, which is only less strict."""
    heads = {number: (epoch, head) for number, epoch, head in _heads(connection)}
    path = mark_path(database)
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(OSError):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            mark = Mark(database.stat().st_ino, heads, _identity(descriptor))
            file.write(msgspec.json.encode(mark))
            file.flush()
            os.fsync(descriptor)
        new.replace(path)


def outdated(database: Path, connection: sqlite3.Connection) -> set[int]:
    """The numbers of the projects whose logs went back, or may have; empty without a mark."""
    try:
        with mark_path(database).open("rb") as file:
            mark = msgspec.json.decode(file.read(), type=Mark)
            copied = mark.inode != database.stat().st_ino or mark.own not in {(0, 0), _identity(file.fileno())}
    except (OSError, msgspec.MsgspecError):
        return set()
    found = set()
    for number, epoch, head in _heads(connection):
        marked_epoch, marked_head = mark.heads.get(number, (epoch, 0))
        if copied or (epoch == marked_epoch and head < marked_head):
            found.add(number)
    return found


def _identity(descriptor: int) -> tuple[int, int]:
    """The inode and its generation, of a file that SQLite does not use."""
    generation = bytes(struct.calcsize("l"))
    with contextlib.suppress(OSError):
        generation = fcntl.ioctl(descriptor, _GET_VERSION, generation)
    return os.fstat(descriptor).st_ino, struct.unpack("l", generation)[0]


def _heads(connection: sqlite3.Connection) -> list[tuple[int, str, int]]:
    return connection.execute("SELECT number, epoch, head FROM conversation").fetchall()
