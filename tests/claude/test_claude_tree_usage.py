"""Memory and CPU time of process trees, measured with real processes."""

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from pocket_agent.claude import process_tree
from pocket_agent.claude.process import ClaudeProcess, spawn
from pocket_agent.claude.process_tree import TreeMeter
from pocket_agent.claude.spool import Spool
from tests.harness.follow import eventually

MEBIBYTE = 2**20
LARGE = 64 * MEBIBYTE
WAIT = "import time; time.sleep(600)"
# The child leaves the session and clears its environment: only its parent leads to it.
PARENT = f"""
import subprocess, sys
held = b"x" * {LARGE}
subprocess.Popen([sys.executable, "-S", "-c", "held = b'x' * {LARGE}; {WAIT}"], env={{}}, start_new_session=True)
{WAIT}
"""
BUSY = "while True: pass"


@contextlib.asynccontextmanager
async def running(folder: Path, **programs: str) -> AsyncIterator[dict[str, ClaudeProcess]]:
    """Python programs, each marked with its name."""
    processes: dict[str, ClaudeProcess] = {}
    try:
        for name, text in programs.items():
            spool = Spool(folder / "spool", name)
            spool.create()
            argv = [sys.executable, "-S", "-c", text]
            processes[name] = await spawn(argv, cwd=folder, environment={"PATH": os.environ["PATH"]}, spool=spool)
        yield processes
    finally:
        for process in processes.values():
            await process.terminate(terminate_grace=1, idle=False)


async def test_a_tree_has_the_memory_of_all_its_processes_and_of_no_other(tmp_path: Path) -> None:
    async with running(tmp_path, large=PARENT, small=WAIT):
        meter = TreeMeter()
        await eventually(lambda: meter.read(["large"])["large"].memory_bytes > 2 * LARGE, "both processes are large")
        usage = meter.read(["large", "small", "nobody"])
        assert usage.keys() == {"large", "small"}
        assert usage["small"].memory_bytes < LARGE
    assert meter.read(["large", "small"]) == {}


async def test_cpu_time_grows_with_work(tmp_path: Path) -> None:
    async with running(tmp_path, busy=BUSY, idle=WAIT):
        meter = TreeMeter()
        await eventually(lambda: meter.read(["busy"])["busy"].cpu_seconds > 0.3, "it has worked")
        usage = meter.read(["busy", "idle"])
        assert usage["idle"].cpu_seconds < usage["busy"].cpu_seconds


async def test_cpu_time_of_ended_children_stays(tmp_path: Path) -> None:
    work = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {work!r}]); {WAIT}"
    async with running(tmp_path, parent=text) as processes:
        pid = processes["parent"].pid
        await eventually(lambda: sum(psutil.Process(pid).cpu_times()[2:4]) >= 0.2, "the child has ended")
        assert TreeMeter().read(["parent"])["parent"].cpu_seconds >= 0.2


async def test_the_environment_of_a_process_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, one=WAIT) as processes:
        meter = TreeMeter()
        read: list[int] = []
        real = process_tree._read_environment

        def counted(pid: int) -> dict[str, str] | None:
            read.append(pid)
            return real(pid)

        monkeypatch.setattr(process_tree, "_read_environment", counted)
        await eventually(lambda: "one" in meter.read(["one"]), "it is found")
        read.clear()
        assert "one" in meter.read(["one"])
        assert processes["one"].pid not in read
