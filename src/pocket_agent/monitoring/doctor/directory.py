"""The data directory: whether it can be written, who else can read it, and how much room is left."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pocket_agent.config import format_size
from pocket_agent.config.settings import Settings
from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, runbook, skipped, warning
from pocket_agent.storage.location import database_path
from pocket_agent.storage.space import read_space

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SPACE: Final = (
    "Free some space on that disk. A lower storage.max_size or storage.max_age keeps the database from growing; "
    f"`pocket-agent storage compact` gives back what it does not use: {runbook('DiskSpaceLow')}"
)
_UNUSED_SHARE: Final = 0.5
_UNUSED_BYTES: Final = 64 * 2**20
"""So much, and such a share, of the database may hold nothing before it is worth a word."""
_INODES: Final = 1000
"""Free inodes below which new files will soon be refused, however many bytes are free."""


def examine_directory(settings: Settings) -> list[Finding]:
    """Everything about the data directory; blocking, and for as long as a disk that hangs."""
    directory = settings.data.dir
    try:
        directory.stat()
    except OSError as error:
        fix = "Start the server once, which makes it; or name the right one (data.dir, PA_DATA_DIR, --data-dir)."
        return [failed("data directory", f"{directory} is not there: {os.strerror(error.errno or 0).lower()}", fix)]
    return [_writable(directory), _private(directory), _disk(settings), *_database(directory)]


def _writable(directory: Path) -> Finding:
    name = "data directory"
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".doctor-"):
            pass
    except OSError as error:
        if error.errno == errno.EROFS:
            fix = "Mount its file system read-write; the kernel's log (dmesg) tells whether its disk has failed."
            return failed(name, f"{directory} cannot be written: its file system is read-only", fix)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return failed(name, f"{directory} cannot be written: {os.strerror(error.errno).lower()}", _SPACE)
        fix = f"Give it to the server's user (chown -R USER {directory}), and run this as that user."
        return failed(name, f"{directory} cannot be written: {error.strerror or error}", fix)
    return ok(name, f"{directory} can be written")


def _private(directory: Path) -> Finding:
    """What the server makes is its owner's alone; somebody may have changed that."""
    name = "data directory mode"
    exposed = [str(path) for path in _secrets(directory) if _mode(path) & _OTHERS]
    mode = _mode(directory)
    if exposed:
        what = f"other users of this machine can get at {', '.join(exposed)}"
        return failed(name, what, f"chmod -R go= {' '.join(exposed)}")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return failed(name, f"other users of this machine can write to {directory}", f"chmod 700 {directory}")
    if mode & (stat.S_IRGRP | stat.S_IROTH):  # to pass through may be meant: the certificate is for all
        return warning(name, f"other users of this machine can look into {directory}", f"chmod 700 {directory}")
    return ok(name, "it and what is in it are its owner's alone")


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:  # gone since it was listed
        return 0


def _secrets(directory: Path) -> Iterator[Path]:
    """What agents said, and what lets somebody in."""
    database = database_path(directory)
    for path in (
        *(database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm")),
        directory / "tls" / "key.pem",
        directory / "metrics-token",
        directory / "chat.token",
        directory / "spool",
    ):
        if path.exists():
            yield path


def _disk(settings: Settings) -> Finding:
    name = "disk"
    try:
        disk = os.statvfs(settings.data.dir)
    except OSError as error:
        return skipped(name, f"cannot be asked: {error.strerror}")
    free = disk.f_bavail * disk.f_frsize
    text = f"{_readable(free)} free for the data directory"
    if free < settings.limits.min_free_disk:
        least = format_size(settings.limits.min_free_disk)
        return failed(name, f"{text}, less than {least}: new executions are refused (limits.min_free_disk)", _SPACE)
    if free < settings.health.low_disk:
        return warning(name, f"{text}, less than {format_size(settings.health.low_disk)} (health.low_disk)", _SPACE)
    if disk.f_files > 0 and disk.f_favail < _INODES:  # file systems without a number of inodes say 0
        return warning(name, f"{text}, but only {disk.f_favail} inodes", "Remove files: many small ones fill the disk.")
    return ok(name, text)


def _database(directory: Path) -> Iterator[Finding]:
    """Whether most of the database's file is left over from what was deleted; nothing where there is none yet."""
    name, database = "database", database_path(directory)
    if not database.exists():
        return
    try:
        space = read_space(database)
    except FileOperationError as error:
        yield skipped(name, f"{database} cannot be looked at: {error.message}")
        return
    text = f"{_readable(space.size_bytes)}, of which {_readable(space.unused_bytes)} hold nothing"
    if space.unused_bytes > max(_UNUSED_BYTES, _UNUSED_SHARE * space.size_bytes):
        yield warning(name, text, "They are used again as projects grow. To give them back: stop the server, run "
                      "pocket-agent storage compact, start it again.")  # fmt: skip
    else:
        yield ok(name, text)


def _readable(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
