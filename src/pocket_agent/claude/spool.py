"""The spool of one CLI process: its output as a file, its input as a FIFO.

The process writes to an ordinary file and holds its own input open, so it neither notices nor cares
when the server dies; a new server goes on reading where the old one stopped.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pocket_agent.claude.fifo import SpoolWriter
from pocket_agent.claude.watcher import SpoolWatcher
from pocket_agent.errors import ExecutionFailedError, ResourceLimitError

__all__ = ["Spool", "SpoolReader", "SpoolWatcher", "SpoolWriter"]

_PRIVATE_FILE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700
_ERROR_BYTES: Final = 1024 * 1024
_ERROR_KEPT_BYTES: Final = 64 * 1024
_SUFFIXES: Final = (".out", ".err", ".in")
_CREATE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Spool:
    """Where the files of one process are.

    Args:
        directory: the folder of all spools.
        id: names the process; a plain file name.
    """

    def __init__(self, directory: Path, id: str) -> None:  # noqa: A002  # the field's word
        if not id or "/" in id or "\0" in id or id.startswith("."):
            raise ValueError(f"not a spool id: {id!r}")
        self.directory = directory
        self.id = id
        self.output = directory / f"{id}.out"
        self.errors = directory / f"{id}.err"
        self.input = directory / f"{id}.in"

    def create(self) -> None:
        """Make the three files, for the user alone, whatever the umask.

        Raises:
            ResourceLimitError: the disk is full, or there are too many open files.
            ExecutionFailedError: they cannot be made for another reason.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
            self.directory.chmod(_PRIVATE_FOLDER)
            for path in (self.output, self.errors):
                descriptor = os.open(path, _CREATE, _PRIVATE_FILE)
                try:
                    os.fchmod(descriptor, _PRIVATE_FILE)
                finally:
                    os.close(descriptor)
            os.mkfifo(self.input, _PRIVATE_FILE)
            self.input.chmod(_PRIVATE_FILE)
        except FileExistsError as error:
            raise ExecutionFailedError("The files for the agent's output exist already.") from error
        except OSError as error:
            self.remove()
            text = f"The files for the agent's output could not be made: {error.strerror}."
            raise ResourceLimitError(text) from error

    @property
    def exists(self) -> bool:
        """Whether the output file is there."""
        return self.output.exists()

    @property
    def size(self) -> int:
        """Bytes that the process has written to its standard output; 0 when the file is gone."""
        try:
            return self.output.stat().st_size
        except FileNotFoundError:
            return 0

    def error_tail(self, max_bytes: int = 4096) -> str:
        """The end of what the process wrote to its standard error, for a person."""
        try:
            descriptor = os.open(self.errors, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            return _tail(descriptor, max_bytes).decode("utf-8", "replace").strip()
        finally:
            os.close(descriptor)

    def trim_errors(self) -> bool:
        """Cut the standard error down to its last 64 KiB when it is over 1 MiB.

        The process writes in append mode, so it goes on at the new end.

        Returns:
            Whether it was cut.
        """
        try:
            descriptor = os.open(self.errors, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if os.fstat(descriptor).st_size <= _ERROR_BYTES:
                return False
            kept = _tail(descriptor, _ERROR_KEPT_BYTES)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, kept)
        finally:
            os.close(descriptor)
        return True

    def remove(self) -> None:
        """Delete the files; those that are gone already do no harm."""
        for path in (self.output, self.errors, self.input):
            with contextlib.suppress(OSError):
                path.unlink()

    @staticmethod
    def list(directory: Path) -> Iterator["Spool"]:
        """All spools in a folder, whether or not anybody knows their processes."""
        try:
            names = sorted(path.name for path in directory.iterdir() if path.suffix in _SUFFIXES)
        except FileNotFoundError:
            return
        for id_ in dict.fromkeys(name.rpartition(".")[0] for name in names):
            if id_ and not id_.startswith("."):
                yield Spool(directory, id_)


def _tail(descriptor: int, max_bytes: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, max_bytes, max(0, size - max_bytes))


_POLL_FAST_SECONDS: Final = 0.001
_POLL_SLOW_SECONDS: Final = 0.05


class SpoolReader:
    """Reads a process's output from a byte offset on, and waits for more.

    Args:
        spool: whose output.
        offset: the first byte to read.
        watcher: shared by all readers of a server.

    Raises:
        ExecutionFailedError: the output file is gone, or is not a file.
    """

    def __init__(self, spool: Spool, offset: int, watcher: SpoolWatcher) -> None:
        self._spool = spool
        self._path = spool.output
        self._watcher = watcher
        self._offset = offset
        self._waiters: set[asyncio.Future[None]] = set()
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            text = f"The agent's output cannot be read: {error.strerror}."
            raise ExecutionFailedError(text) from error
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self.close()
            raise ExecutionFailedError("The agent's output is not a file.")

    @property
    def offset(self) -> int:
        """The next byte to read."""
        return self._offset

    @property
    def size(self) -> int:
        """Bytes that the process has written so far; what was read, once the reader is closed."""
        return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else self._offset

    def read(self, max_bytes: int = 256 * 1024) -> bytes:
        """The next bytes, empty when there are none now or the reader is closed. Never waits."""
        if self._descriptor < 0:
            return b""
        data = os.pread(self._descriptor, max_bytes, self._offset)
        self._offset += len(data)
        return data

    async def wait_for_growth(self, until: "asyncio.Future[int | None] | None" = None) -> bool:
        """Wait until there is something to read, or until `until` is done.

        Returns:
            Whether there is something to read.
        """
        while True:
            if self._descriptor < 0:
                return False
            # Watching comes before looking: a write in between is then told of.
            told = self._watch()
            if self.size > self._offset:
                return True
            if until is not None and until.done():
                return False
            await self._wait(until, told=told)

    def _watch(self) -> bool:
        if os.fstat(self._descriptor).st_nlink == 0:
            return False  # it was removed, and inotify reports nothing for files that have left the directory
        if self._watcher.watches(self._path):
            return True
        self._watcher.add(self._spool.errors, self._spool.trim_errors)
        return self._watcher.add(self._path, self.wake)

    async def _wait(self, until: "asyncio.Future[int | None] | None", *, told: bool) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)

        def release(_: object) -> None:  # its own, since others may wait for the same end
            if not waiter.done():
                waiter.set_result(None)

        if until is not None:
            until.add_done_callback(release)
        poll = None if told else _Poll(loop, self, self._spool)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if poll is not None:
                poll.cancel()
            if until is not None:
                until.remove_done_callback(release)

    def wake(self, _: object = None) -> None:
        """Let all who wait look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Stop reading; who waits is woken."""
        self._watcher.remove(self._path)
        self._watcher.remove(self._spool.errors)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.wake()


class _Poll:
    """Looks at the size again and again, ever more seldom, until the reader has something to read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reader: SpoolReader, spool: Spool) -> None:
        self._loop = loop
        self._reader = reader
        self._spool = spool
        self._delay = _POLL_FAST_SECONDS
        self._handle = loop.call_later(self._delay, self._look)

    def _look(self) -> None:
        if self._reader.size > self._reader.offset:
            self._reader.wake()
            return
        self._spool.trim_errors()
        self._delay = min(self._delay * 1.5, _POLL_SLOW_SECONDS)
        self._handle = self._loop.call_later(self._delay, self._look)

    def cancel(self) -> None:
        self._handle.cancel()
