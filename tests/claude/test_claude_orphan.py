"""Processes that no record knows, as a server leaves one that is killed just after it started it."""

import asyncio
import os
import sys
from pathlib import Path

from pocket_agent.claude.process import kill_orphans, spawn
from pocket_agent.claude.spool import Spool
from tests.harness import DEADLINE_SECONDS


async def test_who_has_no_record_is_ended_and_others_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    argv = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    processes = {}
    for name in ("known", "orphan"):
        spool = Spool(folder, name)
        spool.create()
        processes[name] = await spawn(argv, cwd=tmp_path, environment={"PATH": os.environ["PATH"]}, spool=spool)
    try:
        assert await kill_orphans(folder, {"known"}) == 1
        async with asyncio.timeout(DEADLINE_SECONDS):
            await processes["orphan"].wait()
        assert not processes["known"].has_exited
        assert {path.stem for path in folder.iterdir()} == {"known"}
        assert await kill_orphans(folder, {"known"}) == 0
    finally:
        for process in processes.values():
            await process.terminate(terminate_grace=1, idle=False)


async def test_there_need_not_be_any_spool(tmp_path: Path) -> None:
    assert await kill_orphans(tmp_path / "none", set()) == 0
