"""How long the command takes to start, the server until it takes work, and its memory then."""

import asyncio
import os
import sys
import time
from pathlib import Path

import psutil

from benchmarks import stage
from benchmarks.row import Row, median


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure `pocket-agent --version` against Python doing nothing, and a server's start and resident memory."""
    rounds = max(3, int(10 * scale))
    command = [await _run([str(Path(sys.executable).with_name("pocket-agent")), "--version"]) for _ in range(rounds)]
    nothing = [await _run([sys.executable, "-c", "pass"]) for _ in range(rounds)]
    began = time.perf_counter()
    async with stage.server(folder) as made:
        ready = time.perf_counter() - began
        await asyncio.sleep(2)  # the first checks of its health
        assert made.process is not None
        memory = psutil.Process(made.process.pid).memory_info().rss / 2**20
    return [
        Row("start: pocket-agent --version", median(command), "s", "below 0.5", median(command) < 0.5),
        Row("start: Python doing nothing", median(nothing), "s"),
        Row("start: the server until it is ready", ready, "s"),
        Row("start: resident memory of the server", memory, "MiB", "at most 65", memory <= 65),
    ]


async def _run(command: list[str]) -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, env={"PATH": os.environ["PATH"]}
    )
    assert await process.wait() == 0
    return time.perf_counter() - began
