"""The writing end of a CLI process's input FIFO: whole lines, in order, without blocking."""

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from pocket_agent.errors import ProcessNotFoundError

if TYPE_CHECKING:
    from pocket_agent.claude.spool import Spool

_PIPE_BYTES: Final = 1024 * 1024
"""Linux lets any user have pipes of up to fs.pipe-max-size, 1 MiB by default (pipe(7))."""

_GONE: Final = "The agent's process has ended."


class _Pending:
    """A line on its way: what is left of it, and who waits."""

    __slots__ = ("done", "rest", "started")

    def __init__(self, line: bytes, done: "asyncio.Future[None] | None") -> None:
        self.rest = memoryview(line)
        self.done = done
        self.started = False


class SpoolWriter:
    """Writes lines to a process's input. To be made when the process holds the FIFO open.

    A line that has begun is always finished, even if the caller is cancelled: half a line would
    end the CLI. An ordinary line goes in with one write(2), so that a killed server leaves no half.

    Args:
        spool: whose input.
        resync: write an empty line first, which the CLI ignores. After a server was killed within a
            long line, this keeps the next line from being glued to its beginning.
        pid: the process that reads; on Linux its input is found even when the FIFO was removed (proc_pid_fd(5)).

    Raises:
        ProcessNotFoundError: no process holds the FIFO.
    """

    def __init__(self, spool: "Spool", *, resync: bool = False, pid: int | None = None) -> None:
        self._queue: deque[_Pending] = deque()
        self._loop = asyncio.get_running_loop()
        self._waiting = False
        self._descriptor = -1
        try:
            self._descriptor = _open(spool, pid)
        except OSError as error:  # ENXIO: no process reads; ENOENT: it was removed
            if error.errno in {errno.ENXIO, errno.ENOENT, errno.ESRCH}:
                raise ProcessNotFoundError(_GONE) from error
            raise
        if not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            self.close()  # another file has its name
            raise ProcessNotFoundError(_GONE)
        if sys.platform.startswith("linux"):
            with contextlib.suppress(OSError):  # EPERM: the user's pipes hold too much already
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        if resync:
            self._queue.append(_Pending(b"\n", None))
            self._flush()

    def write(self, line: bytes) -> "asyncio.Future[None]":
        """Append a line to the queue, and write as much as the FIFO takes. Never waits.

        Args:
            line: ends with its only newline.

        Returns:
            Done when all of it is in the FIFO; at once, if there is room. It fails with ProcessNotFoundError when
            the process ends or the writer is closed before that. Cancelling it takes back a line that has not begun.

        Raises:
            ProcessNotFoundError: the process is gone, or the writer is closed.
        """
        if self._descriptor < 0:
            raise ProcessNotFoundError(_GONE)
        done = self._loop.create_future()
        self._queue.append(_Pending(line, done))
        if len(self._queue) == 1:
            self._flush()
        return done

    def close(self) -> None:
        """Let go of the FIFO; lines that wait fail."""
        if self._descriptor >= 0:
            self._unwatch()
            os.close(self._descriptor)
            self._descriptor = -1
        while self._queue:
            done = self._queue.popleft().done
            if done is not None and not done.done():
                done.set_exception(ProcessNotFoundError(_GONE))
                done.exception()  # not every caller waits for the end of its line

    def _flush(self) -> None:
        """Write as much as there is room for."""
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
    except FileNotFoundError:
        if pid is None or not sys.platform.startswith("linux"):
            raise
        return os.open(f"/proc/{pid}/fd/0", flags)
