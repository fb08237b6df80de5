"""What idles: 1,000 connections and 100 conversations, what each costs in memory, and all together in time."""

import asyncio
from pathlib import Path

import psutil

from benchmarks import stage
from benchmarks.reader import Task
from benchmarks.row import Row


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure the server's resident memory before and with connections and conversations, and its time meanwhile."""
    count, conversations = max(20, int(1000 * scale)), max(10, int(100 * scale))
    env = {"PA_LIMITS_CONVERSATIONS": str(conversations + 1)}
    async with stage.server(folder, env=env) as made:
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
            busy, _ = await _activity(process, max(2.0, 10 * scale))
        project_id = await stage.project(made)
        await asyncio.sleep(2)
        quiet, idle_wakeups = await _activity(process, max(2.0, 10 * scale))
        before = process.memory_info().rss
        async with made.client() as client:
            for _ in range(conversations):
                await client.create_conversation(project_id)
        await asyncio.sleep(2)
        size = (process.memory_info().rss - before) / conversations
        with_them, wakeups = await _activity(process, max(2.0, 10 * scale))
    return [
        Row(f"{count:,} idle connections: memory of each", each / 1000, "KB", "at most 25", each <= 25_000),
        Row(f"{count:,} idle connections: processor", busy, "% of a core"),
        Row(f"{conversations} idle conversations: memory of each", size / 1000, "KB"),
        Row(f"{conversations} idle conversations: processor, without them {quiet:.1f}", with_them, "% of a core"),
        Row(f"{conversations} idle conversations: wake-ups, without them {idle_wakeups:.0f}", wakeups, "/s"),
    ]


async def _activity(process: psutil.Process, seconds: float) -> tuple[float, float]:
    """The processor time of a process in percent of a core, and how often a second it went to sleep and woke up."""
    used, switches = process.cpu_times(), process.num_ctx_switches().voluntary
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    busy = (after.user + after.system - used.user - used.system) / seconds * 100
    return busy, (process.num_ctx_switches().voluntary - switches) / seconds
