"""One server per data directory: an advisory lock that ends with its process, however it ends."""

import fcntl
import os
from pathlib import Path
from typing import Self

import psutil

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.connection import PRIVATE


def _lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def lock_owner(database: Path) -> int | None:
    """The process that has the lock, without touching it; None when nobody has, or when that cannot be known.

    The file alone tells nothing, since it stays: its process may be gone, and the number another's by now.
    """
    path = _lock_path(database)
    try:
        pid = int(path.read_text("ascii"))
        held = any(path.samefile(opened.path) for opened in psutil.Process(pid).open_files())
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if held else None


class DataLock:
    """Holds `FILE.lock` beside the database. The file stays; only the lock on it counts."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, database: Path) -> Self:
        """Take the lock, or say who has it.

        Raises:
            FileOperationError: another server uses the same data.
            OSError: the lock file cannot be opened.
        """
        path = _lock_path(database)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise FileOperationError(
                f"Another server (process {owner or 'unknown'}) uses this data directory. "
                "Stop it, or start this one with another --data-dir.",
                details={"reason": "data_in_use"},
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Give the data free; a second call does nothing."""
        if self._descriptor is not None:
            # Closing alone would leave it to a child that is just being started: until it runs its
            # program, it has a copy of every descriptor (flock(2)).
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None
