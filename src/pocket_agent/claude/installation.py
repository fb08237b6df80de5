"""Finds the Claude Code CLI and its version, and notices when it was replaced."""

import asyncio
import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pocket_agent.errors import ClaudeNotFoundError

if TYPE_CHECKING:
    from io import FileIO

MINIMUM_VERSION: Final = (2, 0, 0)
"""The oldest version whose control protocol this server speaks."""

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)\b")
"""What `claude --version` begins with: `2.1.330 (Claude Code)`."""

_VERSION_SECONDS: Final = 10.0
_VERSION_BYTES: Final = 4096
ADVICE: Final = (
    "Install it with `npm install -g @anthropic-ai/claude-code`, "
    "or set claude.binary (PA_CLAUDE_BINARY) to where it is."
)


@dataclass(frozen=True, slots=True)
class Installation:
    """A usable CLI.

    Attributes:
        path: the program, absolute.
        version: such as "2.1.330"; None for a stand-in that names none.
    """

    path: Path
    version: str | None


class Installer:
    """Finds the CLI each time it is asked, and runs it for its version only when it has changed.

    Args:
        binary: the user's choice: a path, or a name on PATH; None for `claude` on PATH.
        candidates: where else to look when there is no choice and none on PATH.
        environment: what the CLI gets; its PATH is searched.
    """

    def __init__(
        self,
        binary: Path | None = None,
        candidates: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._binary = binary
        self._candidates = tuple(candidates)
        self._environment = dict(os.environ if environment is None else environment)
        self._known: tuple[_Fingerprint, str | None] | None = None
        self._lock = asyncio.Lock()

    async def find(self) -> Installation:
        """The CLI as it is now.

        Raises:
            ClaudeNotFoundError: there is none, it is not a program, or it is too old.
        """
        path = self._locate()
        async with self._lock:
            fingerprint = _Fingerprint.of(path)
            if self._known is None or self._known[0] != fingerprint:
                self._known = fingerprint, await version(path, self._environment)
            found = self._known[1]
        if found is not None and tuple(map(int, found.split("."))) < MINIMUM_VERSION:
            oldest = ".".join(map(str, MINIMUM_VERSION))
            raise ClaudeNotFoundError(f"The Claude Code CLI is version {found}; {oldest} or newer is needed. {ADVICE}")
        return Installation(path, found)

    def _locate(self) -> Path:
        search = self._environment.get("PATH")
        if self._binary is not None:
            # `which` takes a path too, and then checks that it may be run.
            found = shutil.which(str(self._binary.expanduser()), path=search)
            if found is None:
                raise ClaudeNotFoundError(f"claude.binary is not a program that can be run. {ADVICE}")
            return Path(found).absolute()
        for name in ("claude", *map(str, self._candidates)):
            found = shutil.which(name, path=search)
            if found is not None:
                return Path(found).absolute()
        raise ClaudeNotFoundError(f"The Claude Code CLI was not found. {ADVICE}")


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """Tells whether a program was replaced."""

    path: Path
    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> "_Fingerprint":
        """Of the file that `path` leads to."""
        try:
            status = path.stat()
        except OSError as error:
            raise ClaudeNotFoundError(f"The Claude Code CLI was removed just now. {ADVICE}") from error
        return cls(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


async def version(binary: Path, environment: Mapping[str, str], *, seconds: float = _VERSION_SECONDS) -> str | None:
    """What `BINARY --version` prints; None when that is no version, or nothing in time.

    Args:
        binary: the program.
        environment: what it gets, as for an execution.
        seconds: how long to wait for it.

    Raises:
        ClaudeNotFoundError: it cannot be started.
    """
    output = await asyncio.to_thread(_first_line, [str(binary), "--version"], environment, seconds)
    match = _VERSION.match(output.decode("utf-8", "replace").lstrip())
    return ".".join(match.groups()) if match is not None else None


def _first_line(argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> bytes:
    """Run a program until it has printed a line; then, or when the time is up, it is killed."""
    try:
        process = subprocess.Popen(  # noqa: S603  # argv is a list, no shell reads it
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        text = f"The Claude Code CLI cannot be run: {error.strerror}. {ADVICE}"
        raise ClaudeNotFoundError(text) from error
    output = b""
    deadline = time.monotonic() + seconds
    with process, cast("FileIO", process.stdout) as stdout:
        poll = select.poll()  # not select(2), which refuses descriptors over 1023
        poll.register(stdout, select.POLLIN)
        try:
            while b"\n" not in output and len(output) < _VERSION_BYTES:
                ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
                data = stdout.read(_VERSION_BYTES) if ready else b""
                if not data:
                    break
                output += data
        finally:
            # The pid is not given out again before `with process` reaps it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return output
