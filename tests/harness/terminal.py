"""The real CLI in a terminal, as its users run it: interactive, in a pseudo-terminal."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from pocket_agent.claude.transcripts import folder_name
from tests.harness.follow import eventually

_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_]|[()][A-B0-2])")


def prepare_home(home: Path, *directories: Path) -> None:
    """Answer what the CLI (2.1.332) asks at its first start in a terminal: theme, key, trust in the directories."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / ".claude.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    settings |= {"hasCompletedOnboarding": True, "theme": "dark"}
    settings["customApiKeyResponses"] = {"approved": ["demo"], "rejected": []}
    trusted = settings.setdefault("projects", {})
    for directory in directories:
        trusted[str(directory)] = {"hasTrustDialogAccepted": True}
    path.write_text(json.dumps(settings))


class Terminal:
    """A CLI that runs in a pseudo-terminal.

    Attributes:
        pid: its process.
    """

    def __init__(self, pid: int, descriptor: int, home: Path, directory: Path) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._home = home
        self._directory = directory
        self._output = b""
        self._ended = False
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # EIO: the last process has closed it
            data = b""
        if not data:
            self._ended = True
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._output += data

    @property
    def written(self) -> str:
        """What it has written since `forget`, without escapes and spaces, which cursor movements often replace."""
        return re.sub(r"\s+", "", _ESCAPES.sub("", self._output.decode("utf-8", "replace")))

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self._output = b""

    async def shows(self, text: str) -> None:
        """Wait until it has written a text."""
        wanted = re.sub(r"\s+", "", text)
        try:
            await eventually(lambda: wanted in self.written, f"the terminal shows {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.written[-3000:]}") from error

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    async def prompt(self, text: str) -> None:
        """Give a prompt, once the CLI takes one."""
        await eventually(lambda: self.status == "idle", "the CLI takes a prompt")
        self.type(text)
        await self.shows(text)
        self.type("\r")

    async def accept(self) -> None:
        """Choose the first answer of the dialog, which ignores keys in its first moments."""
        await eventually(lambda: self.status == "waiting", "the CLI shows its dialog")
        turns = count()

        def accepted() -> bool:
            if self.status == "waiting" and next(turns) % 25 == 0:
                self.type("\r")
            return self.status != "waiting"

        await eventually(accepted, "the CLI takes the answer")

    @property
    def _record(self) -> dict[str, object]:
        path = self._home / ".claude" / "sessions" / f"{self.pid}.json"
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, object] = json.loads(path.read_text())
            return found
        return {}

    @property
    def status(self) -> object:
        """`idle`, `busy` or `waiting`, as the CLI says; None before it has started."""
        return self._record.get("status")

    @property
    def session_id(self) -> str:
        """The session that it has open."""
        return str(self._record["sessionId"])

    @property
    def transcript(self) -> Path:
        """The file of its session."""
        folder = self._home / ".claude" / "projects" / folder_name(str(self._directory))
        return folder / f"{self.session_id}.jsonl"

    @property
    def answers(self) -> int:
        """How many answers of the model a CLI in a terminal has written to the file of its session."""
        records = [json.loads(line) for line in self.transcript.read_text().splitlines()]
        return sum(one["type"] == "assistant" and one.get("entrypoint") == "cli" for one in records)

    async def close(self) -> None:
        """End it with all that it has started."""
        if not self._ended:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, self.pid, 0)


@contextlib.asynccontextmanager
async def in_terminal(
    argv: Sequence[str], directory: Path, home: Path, environment: Mapping[str, str]
) -> AsyncIterator[Terminal]:
    """Run the CLI in a terminal of 120 columns and 40 lines, until the block is left."""
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment}
    pid, descriptor = pty.fork()
    if pid == 0:
        try:
            os.chdir(directory)
            os.execve(argv[0], list(argv), dict(environment))  # noqa: S606 - the program of the test
        finally:
            os._exit(127)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    os.set_blocking(descriptor, False)
    terminal = Terminal(pid, descriptor, home, directory)
    try:
        yield terminal
    finally:
        await terminal.close()
