"""Folders, stand-in programs, and the promise that no test leaves a process behind."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from pocket_agent.claude.process import ClaudeProcess, spawn
from pocket_agent.claude.process_tree import read_marker, read_row
from pocket_agent.claude.spool import Spool, SpoolWatcher

# The machine is shared: how long an example takes says nothing.
settings.register_profile("claude", deadline=None)
settings.load_profile("claude")


def alive(pid: int) -> bool:
    """Whether a process runs. An orphan that ended is a zombie until process 1 takes note of it."""
    row = read_row(pid)
    return row is not None and not row.zombie


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool with its files; whatever still carries its mark after the test is a failure."""
    value = Spool(tmp_path / "spool", f"t{os.urandom(8).hex()}")
    value.create()
    yield value
    left = [pid for pid in psutil.pids() if alive(pid) and read_marker(pid) == value.id]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes were left behind: {left}"


@pytest.fixture
async def watcher() -> AsyncIterator[SpoolWatcher]:
    """A watcher that is closed after the test."""
    value = SpoolWatcher()
    yield value
    value.close()


Start = Callable[..., Awaitable[ClaudeProcess]]


@pytest.fixture
async def start(spool: Spool, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a Python program on the spool; it is ended after the test."""
    started: list[ClaudeProcess] = []

    async def run(source: str, *arguments: str) -> ClaudeProcess:
        argv = [sys.executable, "-c", source, *arguments]
        started.append(await spawn(argv, cwd=tmp_path, environment={"PATH": os.environ["PATH"]}, spool=spool))
        return started[-1]

    yield run
    for process in started:
        await process.terminate(terminate_grace=0, idle=False)
        process.release()
