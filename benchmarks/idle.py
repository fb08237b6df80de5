"""1,000 idle connections: what each costs in memory, and all together in time."""

import asyncio
from pathlib import Path

import psutil

from benchmarks import stage
from benchmarks.reader import Task
from benchmarks.row import Row


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure the server's resident memory before and with the connections, and its time while they idle."""
    count = max(20, int(1000 * scale))
    async with stage.server(folder) as made:
        assert made.process is not None
        process = psutil.Process(made.process.pid)
        # The first connections pay for what all share.
        async with stage.readers(Task(made.port, 20, made.token, "", "never")):
            await asyncio.sleep(1)
        await asyncio.sleep(2)
        before = process.memory_info().rss
        async with stage.readers(Task(made.port, count, made.token, "", "never")):
            await asyncio.sleep(2)
            each = (process.memory_info().rss - before) / count
            used, seconds = process.cpu_times(), max(2.0, 10 * scale)
            await asyncio.sleep(seconds)
            after = process.cpu_times()
    busy = (after.user + after.system - used.user - used.system) / seconds * 100
    return [
        Row(f"{count:,} idle connections: memory of each", each / 1000, "KB", "at most 25", each <= 25_000),
        Row(f"{count:,} idle connections: processor", busy, "% of a core"),
    ]
