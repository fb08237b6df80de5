"""The spool of one CLI process: its output as a file that is followed as it grows, its input as a FIFO."""

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocket_agent.errors import ExecutionFailedError, ProcessNotFoundError, ResourceLimitError

if TYPE_CHECKING:
    from asyncinotify import Inotify

# ----------------------------------------------------------------------
# Notification when a spool grows: inotify on Linux, polling elsewhere and where inotify is not available.
#
# One inotify instance serves all spools of a server, with one watch for each folder. Its events are decoded here:
# asyncinotify's `get` adds and removes the reader of the event loop for each batch, and iterating over an `Inotify`
# does not return while a process keeps writing.

_HEADER: Final = struct.Struct("iIII")
"""struct inotify_event without its name: wd, mask, cookie, len (inotify(7))."""

_MODIFY: Final = 0x2
_DELETE: Final = 0x200
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_BUFFER_BYTES: Final = 64 * 1024


class SpoolWatcher:
    """Calls a function after its file was written to. All methods run in one event loop."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._unavailable = not sys.platform.startswith("linux")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._folders: dict[Path, int] = {}
        self._names: dict[int, dict[bytes, Callable[[], object]]] = {}

    def add(self, path: Path, wake: Callable[[], object]) -> bool:
        """Call `wake` after each write to `path` from now on, often once for several writes.

        Returns:
            Whether the system notifies; otherwise the caller has to poll.
        """
        descriptor = self._folder(path.parent)
        if descriptor is None:
            return False
        self._names[descriptor][os.fsencode(path.name)] = wake
        return True

    def watches(self, path: Path) -> bool:
        """Whether `add` still holds for this file."""
        descriptor = self._folders.get(path.parent)
        return descriptor is not None and os.fsencode(path.name) in self._names[descriptor]

    def remove(self, path: Path) -> None:
        """Stop watching a file; harmless when it is not watched."""
        descriptor = self._folders.get(path.parent)
        if descriptor is not None:
            self._names[descriptor].pop(os.fsencode(path.name), None)

    def close(self) -> None:
        """Stop watching everything."""
        self._unavailable = True
        self._folders.clear()
        self._names.clear()
        if self._inotify is not None and self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _folder(self, folder: Path) -> int | None:
        # Added each time: a folder that was removed and made again has the same path and another watch, and the old
        # watch stays while files that were in the folder are open.
        inotify = self._open()
        if inotify is None:
            return None
        from asyncinotify import Mask  # noqa: PLC0415  # it cannot be imported on other systems

        try:
            descriptor = inotify.add_watch(folder, Mask.MODIFY | Mask.DELETE | Mask.ONLYDIR).wd
        except OSError:  # ENOSPC: the user's limit of watches is reached; ENOENT: the folder is gone
            return None
        self._folders[folder] = descriptor
        self._names.setdefault(descriptor, {})
        return descriptor

    def _open(self) -> "Inotify | None":
        if self._inotify is None and not self._unavailable:
            from asyncinotify import Inotify  # noqa: PLC0415  # it cannot be imported on other systems

            try:
                self._inotify = Inotify()
            except OSError:  # EMFILE: the user's limit of inotify instances is reached
                self._unavailable = True
                return None
            os.set_blocking(self._inotify.fd, False)
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._inotify.fd, self._read)
        return self._inotify

    def _read(self) -> None:
        if self._inotify is None:
            return
        try:
            events = os.read(self._inotify.fd, _BUFFER_BYTES)
        except BlockingIOError:
            return
        woken: dict[Callable[[], object], None] = {}
        position = 0
        while position < len(events):
            descriptor, mask, _, length = _HEADER.unpack_from(events, position)
            position += _HEADER.size
            name = events[position : position + length].rstrip(b"\0")
            position += length
            if mask & _OVERFLOW:
                woken.update((wake, None) for names in self._names.values() for wake in names.values())
            elif mask & _IGNORED:
                woken.update((wake, None) for wake in self._forget(descriptor))
            elif mask & (_MODIFY | _DELETE) and (wake := self._names.get(descriptor, {}).get(name)) is not None:
                woken[wake] = None
        for wake in woken:
            wake()

    def _forget(self, descriptor: int) -> list[Callable[[], object]]:
        """Drop the watch of a folder that is gone; returns its callbacks, whose owners must poll."""
        self._folders = {folder: known for folder, known in self._folders.items() if known != descriptor}
        return list(self._names.pop(descriptor, {}).values())


# ----------------------------------------------------------------------
# The writing end of the input FIFO: whole lines, in order, without blocking.

_PIPE_BYTES: Final = 1024 * 1024
"""Linux lets any user have pipes of up to fs.pipe-max-size, 1 MiB by default (pipe(7))."""

_GONE: Final = "The agent's process has ended."
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors of open(2) that prove nothing about the file."""


class _PendingInput:
    """A queued line: the bytes that are not written yet, and the future of its caller."""

    __slots__ = ("done", "rest", "started")

    def __init__(self, line: bytes, done: "asyncio.Future[None] | None") -> None:
        self.rest = memoryview(line)
        self.done = done
        self.started = False


class SpoolWriter:
    """Writes lines to a process's input. Create it when the process holds the FIFO open.

    A started line is always finished, even if the caller is cancelled: half a line would end the CLI.
    A line that fits is written with one write(2), so that a killed server leaves no half.

    Args:
        spool: whose input.
        resync: write an empty line first, which the CLI ignores. After a server was killed within a
            long line, this separates the next line from that line's beginning.
        pid: the process that reads; on Linux its input is found even when the FIFO was removed, or has another file
            in its place (proc_pid_fd(5)).

    Raises:
        ProcessNotFoundError: no process holds the FIFO.
        ResourceLimitError: there are too many open files.
    """

    def __init__(self, spool: "Spool", *, resync: bool = False, pid: int | None = None) -> None:
        self._queue: deque[_PendingInput] = deque()
        self._loop = asyncio.get_running_loop()
        self._waiting = False
        self._descriptor = -1
        try:
            self._descriptor = _open(spool, pid)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise ResourceLimitError(f"The agent's input cannot be opened: {error.strerror}.") from error
            raise ProcessNotFoundError(_GONE) from error  # ENXIO: no process reads; ENOENT: it was removed
        if not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            self.close()  # another file has the FIFO's name
            raise ProcessNotFoundError(_GONE)
        if sys.platform.startswith("linux"):
            with contextlib.suppress(OSError):  # EPERM: the user's pipes hold too much already
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        if resync:
            self._queue.append(_PendingInput(b"\n", None))
            self._flush()

    def write(self, line: bytes) -> "asyncio.Future[None]":
        """Append a line to the queue, and write as much as the FIFO takes. Never waits.

        Args:
            line: ends with its only newline.

        Returns:
            Done when the whole line is in the FIFO; at once, if it fits. It fails with ProcessNotFoundError when
            the process ends or the writer is closed before that. Cancelling it withdraws a line that has not started.

        Raises:
            ProcessNotFoundError: the process is gone, or the writer is closed.
        """
        if self._descriptor < 0:
            raise ProcessNotFoundError(_GONE)
        done = self._loop.create_future()
        self._queue.append(_PendingInput(line, done))
        if len(self._queue) == 1:
            self._flush()
        return done

    def close(self) -> None:
        """Close the FIFO; queued lines fail."""
        if self._descriptor >= 0:
            self._unwatch()
            os.close(self._descriptor)
            self._descriptor = -1
        while self._queue:
            done = self._queue.popleft().done
            if done is not None and not done.done():
                done.set_exception(ProcessNotFoundError(_GONE))
                done.exception()  # marks it as retrieved: not every caller waits for the end of its line

    def _flush(self) -> None:
        """Write as much as the FIFO takes."""
        while self._queue:
            pending = self._queue[0]
            if not pending.started and pending.done is not None and pending.done.cancelled():
                self._queue.popleft()
                continue
            try:
                written = os.write(self._descriptor, pending.rest)
            except BlockingIOError:
                self._watch()
                return
            except OSError:  # EPIPE: the last reader is gone
                self.close()
                return
            pending.started = True
            pending.rest = pending.rest[written:]
            if not pending.rest:
                self._queue.popleft()
                if pending.done is not None and not pending.done.done():
                    pending.done.set_result(None)
        self._unwatch()

    def _watch(self) -> None:
        if not self._waiting:
            self._loop.add_writer(self._descriptor, self._flush)
            self._waiting = True

    def _unwatch(self) -> None:
        if self._waiting:
            self._loop.remove_writer(self._descriptor)
            self._waiting = False


def _open(spool: "Spool", pid: int | None) -> int:
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(spool.input, flags | os.O_NOFOLLOW)
    except OSError as error:
        if pid is None or not sys.platform.startswith("linux") or error.errno in _EXHAUSTED:
            raise
        return os.open(f"/proc/{pid}/fd/0", flags)


# ----------------------------------------------------------------------
# The files of a spool, and the reader of its output.
#
# The process writes to an ordinary file and holds its own input open, so it does not notice when the server
# dies. A new server continues to read where the old one stopped.

_PRIVATE_FILE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700
_ERROR_BYTES: Final = 1024 * 1024
_ERROR_KEPT_BYTES: Final = 64 * 1024


class Spool:
    """The paths of one process's files.

    Args:
        directory: the folder of all spools.
        id: identifies the process; a plain file name.
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
        """Create the three files, readable for the user only, whatever the umask.

        Raises:
            ResourceLimitError: the disk is full, there are too many open files, or the folder cannot be used.
            ExecutionFailedError: the files exist.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
            self.directory.chmod(_PRIVATE_FOLDER)
            for path in (self.output, self.errors):
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                descriptor = os.open(path, flags, _PRIVATE_FILE)
                try:
                    os.fchmod(descriptor, _PRIVATE_FILE)
                finally:
                    os.close(descriptor)
            os.mkfifo(self.input, _PRIVATE_FILE)
            self.input.chmod(_PRIVATE_FILE)
        except OSError as error:
            if isinstance(error, FileExistsError) and self.directory.is_dir():
                raise ExecutionFailedError("The files for the agent's output exist already.") from error
            self.remove()
            reason = "their folder is another file" if isinstance(error, FileExistsError) else error.strerror
            text = f"The files for the agent's output could not be made: {reason}."
            raise ResourceLimitError(text) from error

    def error_tail(self, max_bytes: int = 4096) -> str:
        """The end of the process's standard error as text; empty when the file is gone."""
        try:
            with self.errors.open("rb") as file:
                return _tail(file.fileno(), max_bytes).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def trim_errors(self) -> bool:
        """Truncate the standard error to its last 64 KiB when it is over 1 MiB; returns whether it was truncated.

        The process writes in append mode, so it continues at the new end.
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
        """Delete the files; missing files are ignored."""
        for path in (self.output, self.errors, self.input):
            with contextlib.suppress(OSError):
                path.unlink()

    @staticmethod
    def list(directory: Path) -> Iterator["Spool"]:
        """All spools in a folder, also those without a stored process; none if the folder cannot be read."""
        try:
            names = sorted(path.name for path in directory.iterdir() if path.suffix in {".out", ".err", ".in"})
        except OSError:
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
        ResourceLimitError: there are too many open files.
    """

    def __init__(self, spool: Spool, offset: int, watcher: SpoolWatcher) -> None:
        self._spool = spool
        self._path = spool.output
        self._watcher = watcher
        self.offset = offset
        self._waiters: set[asyncio.Future[None]] = set()
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            text = f"The agent's output cannot be read: {error.strerror}."
            raise (ResourceLimitError if error.errno in _EXHAUSTED else ExecutionFailedError)(text) from error
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self.close()
            raise ExecutionFailedError("The agent's output is not a file.")

    @property
    def size(self) -> int:
        """Bytes that the process has written so far; after `close`, the bytes that were read."""
        return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else self.offset

    def read(self, max_bytes: int = 256 * 1024) -> bytes:
        """The next bytes, empty when there are none now or the reader is closed. Never waits."""
        if self._descriptor < 0:
            return b""
        data = os.pread(self._descriptor, max_bytes, self.offset)
        self.offset += len(data)
        return data

    def skip_truncated(self) -> bool:
        """Continue at the new end of a file that another program has truncated; returns whether it was truncated."""
        truncated = self.size < self.offset
        if truncated:
            self.offset = self.size
        return truncated

    async def wait_for_growth(self, until: "asyncio.Future[int | None] | None" = None) -> bool:
        """Wait until the size is another one than what was read (True), or `until` is done or the reader closed."""
        while self._descriptor >= 0:
            # The watch comes before the check of the size, so that a write in between is notified.
            notified = self._watch()
            if self.size != self.offset:
                return True
            if until is not None and until.done():
                return False
            await self._wait(until, poll=not notified)
        return False

    def _watch(self) -> bool:
        """Whether the system notifies of writes."""
        if os.fstat(self._descriptor).st_nlink == 0:
            return False  # the file was removed, and inotify reports nothing for files that have left the directory
        if self._watcher.watches(self._path):
            return True
        self._watcher.add(self._spool.errors, self._spool.trim_errors)
        return self._watcher.add(self._path, self.wake)

    async def _wait(self, until: "asyncio.Future[int | None] | None", *, poll: bool) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)

        def release(_: object) -> None:  # one for each waiter, since several may wait for the same `until`
            if not waiter.done():
                waiter.set_result(None)

        if until is not None:
            until.add_done_callback(release)
        polling = asyncio.ensure_future(self._poll()) if poll else None
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if polling is not None:
                polling.cancel()
            if until is not None:
                until.remove_done_callback(release)

    async def _poll(self) -> None:
        """Check the size, with growing pauses, until it changes."""
        pause = _POLL_FAST_SECONDS
        await asyncio.sleep(pause)
        while self.size == self.offset:
            self._spool.trim_errors()
            pause = min(pause * 1.5, _POLL_SLOW_SECONDS)
            await asyncio.sleep(pause)
        self.wake()

    def wake(self) -> None:
        """Let all waiters check again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Stop reading and wake all waiters."""
        self._watcher.remove(self._path)
        self._watcher.remove(self._spool.errors)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.wake()
