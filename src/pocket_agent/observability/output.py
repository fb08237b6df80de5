"""Where log lines are written to: a standard stream, or a file that rotates.

An output never raises when it writes: it tells how many lines it took. A line that a full disk cut in
the middle is taken back, so that what is there can be read.
"""

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

from pocket_agent.config.settings import LoggingSettings
from pocket_agent.errors import ConfigurationError

_STREAMS: Final = {"stdout": 1, "stderr": 2}
_WAIT_MILLISECONDS: Final = 1000


class Output(Protocol):
    """Takes lines, from one thread."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Write lines in order; returns how many were written whole, fewer when it is refused."""

    def close(self) -> None:
        """Let go of it."""


class StreamOutput:
    """A descriptor that cannot be opened again: a pipe, a terminal, a device. A write may block."""

    def __init__(self, descriptor: int, *, owned: bool = False) -> None:
        """Take it; `owned`: it is closed at the end."""
        self._descriptor = descriptor
        self._owned = owned
        self._torn = False

    def write(self, lines: Sequence[bytes]) -> int:
        """See `Output`."""
        head = b"\n" if self._torn else b""  # who reads on sees that the line before was cut
        data = memoryview(head + b"".join(lines))
        done = 0
        with contextlib.suppress(OSError):  # the reader is gone, or the device is full
            while done < len(data):
                try:
                    done += os.write(self._descriptor, data[done:])
                except BlockingIOError:  # somebody who shares it made it non-blocking
                    poll = select.poll()
                    poll.register(self._descriptor, select.POLLOUT)
                    poll.poll(_WAIT_MILLISECONDS)
        written, size = whole_lines(lines, done - len(head))
        self._torn = size < done - len(head) or (self._torn and done == 0)
        return written

    def close(self) -> None:
        """See `Output`."""
        if self._owned:
            os.close(self._descriptor)


class FileOutput:
    """A file of mode 0600; when it is full it becomes FILE.1, and the one before FILE.2, and so on.

    A file that somebody else moved or removed (logrotate) is made anew at the next line.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_files: int) -> None:
        """Open it.

        Args:
            path: the file; missing directories are made, for the owner alone.
            max_bytes: its largest size; 0: no limit.
            max_files: how many full ones are kept beside it.

        Raises:
            OSError: it cannot be opened.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._descriptor = -1
        self._open()

    def _open(self) -> None:
        self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Read as well, to see whether the last line is whole.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def write(self, lines: Sequence[bytes]) -> int:
        """See `Output`."""
        written = 0
        with contextlib.suppress(OSError):
            self._follow()
            while written < len(lines):
                size = os.fstat(self._descriptor).st_size
                if self._is_full(size, lines[written]):
                    self._rotate()
                    size = os.fstat(self._descriptor).st_size
                part = self._fitting(size, lines[written:])
                count = self._append(part, size)
                written += count
                if count < len(part):
                    break
        return written

    def _follow(self) -> None:
        """Open the file again when its name no longer leads to it."""
        if self._descriptor >= 0:
            mine = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(mine, self._path.stat()):
                    return
        self._open()

    def _is_full(self, size: int, line: bytes) -> bool:
        return 0 < self._max_bytes < size + len(line) and size > 0

    def _fitting(self, size: int, lines: Sequence[bytes]) -> Sequence[bytes]:
        """The first lines, at least one, that go into a file of this size."""
        if not self._max_bytes:
            return lines
        for number, line in enumerate(lines):
            size += len(line)
            if number and size > self._max_bytes:
                return lines[:number]
        return lines

    def _append(self, lines: Sequence[bytes], size: int) -> int:
        """Add lines to a file of this size; returns how many it took."""
        head = b"\n" if self._torn else b""
        data = memoryview(head + b"".join(lines))
        done = 0
        with contextlib.suppress(OSError):
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        if done == len(data):
            self._torn = False
            return len(lines)
        written, kept = whole_lines(lines, done - len(head))
        os.ftruncate(self._descriptor, size + (kept + len(head) if written else 0))
        self._torn = self._torn and not written
        return written

    def _rotate(self) -> None:
        with contextlib.suppress(OSError):  # in a directory that cannot be written it goes on as it is
            for number in range(self._max_files, 0, -1):
                older = self._path.with_name(f"{self._path.name}.{number}")
                newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
                with contextlib.suppress(FileNotFoundError):
                    newer.replace(older)
            if not self._max_files:
                self._path.unlink()
            self._open()

    def close(self) -> None:
        """See `Output`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def whole_lines(lines: Sequence[bytes], size: int) -> tuple[int, int]:
    """How many lines the first `size` bytes of them hold whole, and the bytes of those."""
    kept = 0
    for number, line in enumerate(lines):
        if kept + len(line) > size:
            return number, kept
        kept += len(line)
    return len(lines), kept


def open_output(settings: LoggingSettings) -> Output:
    """The output that the settings name.

    Raises:
        ConfigurationError: it cannot be written to.
    """
    match settings.output:
        case "stdout" | "stderr" as name:
            return _standard(name)
        case path:
            assert isinstance(path, Path)
            try:
                return _file(path, settings)
            except OSError as error:
                reason = "nobody reads it" if error.errno == errno.ENXIO else error.strerror or str(error)
                raise ConfigurationError(f"The log {path} (logging.output) cannot be written: {reason}.") from error


def _standard(name: Literal["stdout", "stderr"]) -> StreamOutput:
    # Python has no stream where the descriptor was closed at the start: it may be another file's by now.
    if getattr(sys, f"__{name}__") is None:
        raise ConfigurationError(f"The log's {name} (logging.output) is closed; choose stdout, stderr or a file.")
    return StreamOutput(_STREAMS[name])


def _file(path: Path, settings: LoggingSettings) -> Output:
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return StreamOutput(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), owned=True)
    return FileOutput(path, max_bytes=settings.max_size, max_files=settings.max_files)


def is_terminal(settings: LoggingSettings) -> bool:
    """Whether people read the log on a terminal."""
    return isinstance(settings.output, str) and os.isatty(_STREAMS[settings.output])
