"""A page of history: its cost must not grow with the log."""

import time
from itertools import repeat
from pathlib import Path

from tests.harness.server import ServerProcess

from benchmarks.row import Row, median
from benchmarks.stage import fill

_ROUNDS = 40
_LINE = ("agent_message", {"type": "user", "text": "x" * 275})


async def run(folder: Path, scale: float) -> list[Row]:
    """Compare pages out of a long log and out of a short one."""
    long, short = int(1_000_000 * scale), max(4_000, int(10_000 * scale))
    made = ServerProcess(folder, env={"PA_LOG_LEVEL": "info", "PA_STORAGE_MAX_ENTRIES": "0"})
    ids = {count: await fill(made, folder / f"log-{count}", repeat(_LINE, count)) for count in (long, short)}
    try:
        await made.start()
        times: dict[tuple[int, int], list[float]] = {}
        async with made.client() as client:
            for _ in range(_ROUNDS):
                for count, project_id in ids.items():
                    for limit in (10, 1000):
                        began = time.perf_counter()
                        page = await client.messages(project_id, since=count // 2, limit=limit)
                        times.setdefault((count, limit), []).append((time.perf_counter() - began) * 1000)
                        assert len(page.messages) == limit
    finally:
        await made.clean_up()
    ratio = median(times[long, 1000]) / median(times[short, 1000])
    few = median(times[long, 10]) / median(times[long, 1000])
    return [
        Row(f"history: 1,000 entries out of {long:,}", median(times[long, 1000]), "ms"),
        Row(f"history: 1,000 entries out of {short:,}", median(times[short, 1000]), "ms"),
        Row("history: the long log against the short one", ratio, "x", "at most 1.5", ratio <= 1.5),
        Row("history: 10 entries against 1,000", few, "x", "below 1", few < 1),
    ]
