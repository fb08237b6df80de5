"""Finds the Claude Code CLI and its version, notices when it was replaced or hangs, and checks its login."""

import asyncio
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import psutil

from pocket_agent.errors import ClaudeNotFoundError

if TYPE_CHECKING:
    from io import FileIO

# ----------------------------------------------------------------------
# The program and its version.

MINIMUM_VERSION: Final = (2, 1, 100)
"""The oldest version that was tried with this server.

2.0.0 ends at an empty line of its input, which a server writes to a process that it adopts.
"""


class Advisory(NamedTuple):
    """A published security advisory of the CLI. All of `ADVISORIES` affect `MINIMUM_VERSION`.

    Attributes:
        id: at https://github.com/anthropics/claude-code/security/advisories.
        cve: its CVE number.
        fixed: the first version that is not affected.
        what: the hole in one line.
    """

    id: str
    cve: str
    fixed: tuple[int, int, int]
    what: str


ADVISORIES: Final = (
    Advisory(
        "GHSA-4vp2-6q8c-pvq2", "CVE-2026-46406", (2, 1, 128), "/copy writes to a known path that all users can read"
    ),
    Advisory(
        "GHSA-5j29-h97v-84ch", "CVE-2026-103435", (2, 1, 129), "a link swapped in takes a write out of the project"
    ),
    Advisory(
        "GHSA-7835-87q9-rgvv", "CVE-2026-55607", (2, 1, 163), "a git worktree runs programs outside the CLI's sandbox"
    ),
    Advisory("GHSA-fg94-h982-f3mm", "CVE-2026-54316", (2, 1, 163), "WebFetch may carry data to huggingface.co unasked"),
    Advisory(
        "GHSA-pq7j-f95f-qfcv", "CVE-2026-86063", (2, 1, 179), "a branch named like a pinned commit replaces a plugin"
    ),
    Advisory(
        "GHSA-gfvf-j8jh-jxxw", "CVE-2026-103012", (2, 1, 260), "a stored API key leaves out an organization's policy"
    ),
)
"""Those published until October 2026 that were fixed after `MINIMUM_VERSION`."""

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)\b")
"""What `claude --version` begins with: `2.1.330 (Claude Code)`."""

_VERSION_SECONDS: Final = 10.0
"""How long the CLI may take to name its version."""
_EXIT_SECONDS: Final = 1.0
"""How long a CLI that named no version may take to end, so that its exit code tells what that means."""
_LOOK_SECONDS: Final = 0.1
"""How often who waits for a program looks whether that is still wanted."""
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

    @property
    def advisories(self) -> tuple[Advisory, ...]:
        """The published advisories that affect this version; none when the version is not known."""
        if self.version is None:
            return ()
        version = _numbers(self.version)
        return tuple(advisory for advisory in ADVISORIES if version < advisory.fixed)

    @property
    def vulnerability(self) -> str:
        """What `advisories` says, in a sentence with the version that has all fixes; empty when none affects it."""
        found = self.advisories
        if not found:
            return ""
        fixed = _dotted(max(advisory.fixed for advisory in found))
        ids = ", ".join(advisory.id for advisory in found)
        known = f"Version {self.version} of the Claude Code CLI has known vulnerabilities ({ids})."
        return f"{known} Update it to {fixed} or newer."


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program does when it is asked for its version.

    Attributes:
        version: such as "2.1.330"; None when it names none.
        fault: the end of a sentence about the CLI, when it does not answer; else None.
    """

    version: str | None
    fault: str | None = None


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
        self._known: _Known | None = None
        self._lock = asyncio.Lock()

    async def find(self) -> Installation:
        """The CLI as it is now.

        Raises:
            ClaudeNotFoundError: there is none, it is not a program, or it is too old.
        """
        return (await self._look(float("inf"))).installation()

    async def check(self, max_age: float) -> Installation:
        """The CLI, which was seen to answer at most `max_age` seconds ago; one that did not is asked again.

        Raises:
            ClaudeNotFoundError: as `find`; or it crashes, or does not answer.
        """
        known = await self._look(max_age)
        found = known.installation()
        if known.answer.fault is not None:
            raise ClaudeNotFoundError(f"The Claude Code CLI {known.answer.fault} when it is asked for its version.")
        return found

    async def _look(self, max_age: float) -> "_Known":
        """What is known of the program, asked again if that is older than `max_age` seconds."""
        # Off the loop: the program, or a directory of PATH, may lie on a network disk that hangs.
        fingerprint = await asyncio.to_thread(self._fingerprint)
        known = self._known
        if known is not None and known.serves(fingerprint, max_age):
            return known  # without the lock: who starts an agent does not wait for a check
        async with self._lock:
            known = self._known
            if known is None or not known.serves(fingerprint, max_age):
                answer = await ask_version(fingerprint.path, self._environment)
                known = self._known = _Known(fingerprint, answer, time.monotonic())
        return known

    def _fingerprint(self) -> "_Fingerprint":
        return _Fingerprint.of(self._locate())

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


@dataclass(frozen=True, slots=True)
class _Known:
    """What a program answered, and when (`time.monotonic`)."""

    fingerprint: _Fingerprint
    answer: Answer
    at: float

    def serves(self, fingerprint: _Fingerprint, max_age: float) -> bool:
        """Whether this is about that program and young enough; for a limited age, only a good answer is."""
        if self.fingerprint != fingerprint:
            return False
        return max_age == float("inf") or (self.answer.fault is None and time.monotonic() - self.at < max_age)

    def installation(self) -> Installation:
        """The CLI, if it is new enough.

        Raises:
            ClaudeNotFoundError: it is too old.
        """
        found = self.answer.version
        if found is not None and _numbers(found) < MINIMUM_VERSION:
            oldest = _dotted(MINIMUM_VERSION)
            raise ClaudeNotFoundError(f"The Claude Code CLI is version {found}; {oldest} or newer is needed. {ADVICE}")
        return Installation(self.fingerprint.path, found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


async def ask_version(binary: Path, environment: Mapping[str, str], *, seconds: float = _VERSION_SECONDS) -> Answer:
    """Run `BINARY --version` and see what it prints; a program that goes on is killed.

    Args:
        binary: the program.
        environment: what it gets, as for an execution.
        seconds: how long to wait for it.

    Raises:
        ClaudeNotFoundError: it cannot be started.
    """
    abandoned = threading.Event()
    try:
        return await asyncio.to_thread(_ask, [str(binary), "--version"], environment, seconds, abandoned)
    finally:
        abandoned.set()  # so that the end of the server does not wait for a program that hangs


def _ask(argv: Sequence[str], environment: Mapping[str, str], seconds: float, abandoned: threading.Event) -> Answer:
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
    with process, cast("FileIO", process.stdout) as stdout:
        try:
            output = _first_line(stdout, seconds, abandoned)
            match = _VERSION.match((output or b"").decode("utf-8", "replace").lstrip())
            ended = output is not None and match is None and _ends(process.pid)
        finally:
            # The pid is not given out again before `with process` reaps it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if match is not None:
        return Answer(".".join(match.groups()))
    if output is None:
        return Answer(None, f"says nothing for {seconds:g} s")
    if ended and process.returncode:
        return Answer(None, _name_of(process.returncode))
    # It has said something, after its own fashion, or has ended without a fault.
    return Answer(None, None if ended or output else "closes its output without a word")


def _first_line(stdout: "FileIO", seconds: float, abandoned: threading.Event) -> bytes | None:
    """What a program prints up to the end of a line, or its end; None when that does not come in time."""
    output = b""
    deadline = time.monotonic() + seconds
    poll = select.poll()  # not select(2), which refuses descriptors over 1023
    poll.register(stdout, select.POLLIN)
    while b"\n" not in output and len(output) < _VERSION_BYTES:
        left = max(0.0, deadline - time.monotonic())
        if poll.poll(min(left, _LOOK_SECONDS) * 1000):
            data = stdout.read(_VERSION_BYTES)
            if not data:
                break
            output += data
        elif left == 0 or abandoned.is_set():
            return output or None
    return output


def _ends(pid: int) -> bool:
    """Whether a child ends by itself soon; looked at without reaping it, so that its exit code is its own."""
    child = psutil.Process(pid)
    deadline = time.monotonic() + _EXIT_SECONDS
    while child.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_EXIT_SECONDS / 100)
    return True


def _name_of(code: int) -> str:
    """An exit code (negative: a signal's number) as the end of a sentence."""
    return f"ends with exit code {code}" if code > 0 else f"crashes ({signal.strsignal(-code) or -code})"


# ----------------------------------------------------------------------
# The login of the CLI.

_SECONDS: Final = 10.0


async def is_logged_in(binary: Path, environment: Mapping[str, str]) -> bool | None:
    """What `claude auth status` (2.1.330) says; None for a program that does not tell.

    A key in the environment counts as a login there; nothing is asked over the network.
    """
    return await asyncio.to_thread(_ask_login, binary, environment)


def _ask_login(binary: Path, environment: Mapping[str, str]) -> bool | None:
    try:
        done = subprocess.run(  # noqa: S603 - a list, no shell reads it
            [str(binary), "auth", "status"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            timeout=_SECONDS,
            start_new_session=True,
            check=False,
        )
        told = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    found = told.get("loggedIn") if isinstance(told, dict) else None
    return found if isinstance(found, bool) else None
