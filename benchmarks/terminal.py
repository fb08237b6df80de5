"""Sessions of terminals: lists and pages of a huge one, and the hook that a permission request waits for."""

import asyncio
import json
import sys
import time
from pathlib import Path

import psutil
from tests.harness.server import ServerProcess
from tests.harness.sessions import Machine, answer, name_of

from benchmarks.row import Row, median, percentile
from pocket_agent.claude import hook_relay
from pocket_agent.claude.hook_settings import command

_ROUNDS = 20
_HOOKS = 40
_BATCH = 1000


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure a session of 500 MB, of which each round finds another size, so that nothing comes from a cache."""
    size = int(500 * 2**20 * scale)
    home = folder / "user"
    made = ServerProcess(folder / "server", env={"PA_LOG_LEVEL": "info", "HOME": str(home)})
    machine = Machine(home / ".claude", folder / "project")
    path = machine.write(machine.prompt("begin"))
    _grow(path, size)
    listing: list[float] = []
    paging: list[float] = []
    older: list[float] = []
    try:
        await made.start()
        async with made.client() as client:
            project_id = (await client.create_project(str(machine.project))).id
            assert made.process is not None
            process = psutil.Process(made.process.pid)
            before = process.memory_info().rss
            for _ in range(_ROUNDS):
                _grow(path, path.stat().st_size + 1)
                began = time.perf_counter()
                (found,) = await client.sessions(project_id)
                listing.append((time.perf_counter() - began) * 1000)
                assert found.size is not None
                assert found.size > size
                began = time.perf_counter()
                page = await client.session_history(project_id, name_of(1))
                paging.append((time.perf_counter() - began) * 1000)
                assert len(page.messages) == 100
                began = time.perf_counter()
                middle = await client.session_history(project_id, name_of(1), before=size // 2)
                older.append((time.perf_counter() - began) * 1000)
                assert len(middle.messages) == 100
            hooks = [await _hook(made.data_dir) for _ in range(_HOOKS)]
            grown = (process.memory_info().rss - before) / 2**20
    finally:
        await made.clean_up()
    megabytes = f"{size // 2**20:,} MB"
    return [
        Row(f"transcripts: list with {megabytes}, worst", max(listing), "ms", "below 200", max(listing) < 200),
        Row(f"transcripts: list with {megabytes}", median(listing), "ms"),
        Row(f"transcripts: last page of {megabytes}, worst", max(paging), "ms", "below 300", max(paging) < 300),
        Row(f"transcripts: last page of {megabytes}", median(paging), "ms"),
        Row("transcripts: a page from the middle, p90", percentile(older, 90), "ms"),
        Row("transcripts: memory of the server", grown, "MB", "below 100", grown < 100),
        Row("hook: from its start to its end", median(hooks), "ms", "below 100", median(hooks) < 100),
    ]


async def _hook(data_dir: Path) -> float:
    """Milliseconds of a hook as the CLI runs it, for a directory that is in no project, so that the server answers."""
    shell = command(sys.executable, Path(hook_relay.__file__), data_dir, "PermissionRequest")
    given = {"session_id": name_of(1), "cwd": "/", "hook_event_name": "PermissionRequest"}
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", shell, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(json.dumps(given).encode())
    assert (process.returncode, out) == (0, b"")
    return (time.perf_counter() - began) * 1000


def _grow(path: Path, size: int) -> None:
    """Append turns up to a size."""
    turn = [
        {"type": "user", "message": {"role": "user", "content": "please " * 20}, "timestamp": "2026-11-30T03:22:06Z"},
        *(answer("x" * 2000) for _ in range(20)),
    ]
    text = "".join(json.dumps(record) + "\n" for record in turn)
    with path.open("a") as file:
        while file.tell() < size:
            file.write(text * max(1, min(_BATCH, (size - file.tell()) // len(text))))
