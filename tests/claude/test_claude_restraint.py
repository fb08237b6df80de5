"""What an agent may use of the machine."""

import asyncio
import resource
import sys
from pathlib import Path

import pytest

from pocket_agent.claude.confinement import scoped
from pocket_agent.claude.process import ClaudeProcess, spawn
from pocket_agent.claude.spool import Spool
from pocket_agent.errors import ExecutionFailedError
from pocket_agent.settings import AgentLimitSettings
from tests.harness import DEADLINE_SECONDS

MEBIBYTE = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2)")


def limits(**chosen: object) -> AgentLimitSettings:
    """These, and no others."""
    return AgentLimitSettings.model_validate(chosen)


async def run(
    tmp_path: Path, code: str, chosen: AgentLimitSettings, *, path: str = "/usr/bin:/bin"
) -> tuple[ClaudeProcess, str]:
    """A program under these limits to its end, and what it printed."""
    spool = Spool(tmp_path / "spool", "s-1")
    spool.create()
    argv = [sys.executable, "-S", "-c", f"import os; os.read(0, 1)\n{code}"]
    process = await spawn(argv, cwd=tmp_path.resolve(), environment={"PATH": path}, spool=spool, limits=chosen)
    spool.input.write_bytes(b"1")  # its limits hold
    async with asyncio.timeout(DEADLINE_SECONDS):
        await process.wait()
    return process, spool.output.read_text()


def test_without_limits_nothing_is_put_in_front() -> None:
    assert scoped(["claude", "-p"], limits(), user=True) == ["claude", "-p"]
    assert scoped(["claude", "-p"], limits(memory="1GiB"), user=True) == ["claude", "-p"]
    assert scoped(["claude", "-p"], limits(by="systemd"), user=True) == ["claude", "-p"]


def test_systemd_makes_a_scope() -> None:
    chosen = limits(by="systemd", memory="2GiB", processes=100, cpus=1.5)
    assert scoped(["claude", "-p", "--model=--x"], chosen, user=True) == [
        *("systemd-run", "--user", "--scope", "--quiet", "--collect"),
        *("--property=MemoryMax=2147483648", "--property=MemorySwapMax=0"),
        *("--property=TasksMax=100", "--property=CPUQuota=150%", "--", "claude", "-p", "--model=--x"),
    ]
    assert "--user" not in scoped(["claude"], chosen, user=False)


@linux
async def test_limits_of_the_kernel_are_the_processs_own(tmp_path: Path) -> None:
    chosen = limits(memory="512MiB", processes=4000, cpu_time="1h")
    code = (
        "import resource\n"
        "for n in (resource.RLIMIT_DATA, resource.RLIMIT_NPROC, resource.RLIMIT_CPU): print(*resource.getrlimit(n))"
    )
    before = resource.getrlimit(resource.RLIMIT_DATA)
    _, told = await run(tmp_path, code, chosen)
    assert told.split() == [str(512 * MEBIBYTE)] * 2 + ["4000"] * 2 + ["3600"] * 2
    assert resource.getrlimit(resource.RLIMIT_DATA) == before, "the server itself has none"


@linux
async def test_who_wants_more_memory_does_not_get_it(tmp_path: Path) -> None:
    code = "try: x = bytearray(2**30); print('got it')\nexcept MemoryError: print('refused')"
    _, told = await run(tmp_path, code, limits(memory="256MiB"))
    assert told.strip() == "refused"


@linux
async def test_who_computes_too_long_is_ended(tmp_path: Path) -> None:
    process, _ = await run(tmp_path, "while True: pass", limits(cpu_time="1s"))
    assert process.exit_code in {-24, -9}, "SIGXCPU, or SIGKILL at the hard limit"


@linux
async def test_what_it_starts_is_limited_too(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "inner = 'import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0])'\n"
        "print(subprocess.run([sys.executable, '-S', '-c', inner], capture_output=True, text=True).stdout)"
    )
    _, told = await run(tmp_path, code, limits(memory="512MiB"))
    assert told.strip() == str(512 * MEBIBYTE)


@linux
async def test_what_runs_in_a_scope_is_the_same_process(tmp_path: Path) -> None:
    """With a stand-in for systemd-run that becomes the program, as the real one does."""
    fake = tmp_path / "systemd-run"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    fake.chmod(0o700)
    chosen = limits(by="systemd", processes=50)
    process, told = await run(tmp_path, "import os; print(os.getpid())", chosen, path=f"{tmp_path}:/usr/bin:/bin")
    assert told.strip() == str(process.pid)


@linux
async def test_without_systemd_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExecutionFailedError, match="systemd-run is missing"):
        await run(tmp_path, "", limits(by="systemd", processes=50), path="/nowhere")
