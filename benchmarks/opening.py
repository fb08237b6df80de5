"""Opening a project over a slow link, whose log holds a large file that was written and edited often."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness.browser import PHONE, WAIT_MS, browsing
from tests.harness.proxy import Pace, running_proxy
from tests.harness.screen import screen
from tests.harness.server import ServerProcess

from benchmarks.row import Row, median
from benchmarks.stage import fill
from benchmarks.web import OPEN
from pocket_agent.client import Client
from pocket_agent.model import project_of

SLOW = Pace(bytes_per_second=50_000, latency=0.2)
EDITS = 20
PROJECT = project_of("00000000-0000-4000-8000-000000000001")
_ROUNDS = 3


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure what a person waits for, and a program."""
    made = ServerProcess(folder, env={"PA_LOG_LEVEL": "info", "PA_CLAUDE_BINARY": "/nonexistent"})
    await fill(made, folder / "project", lines())
    try:
        await made.start()
        async with running_proxy(made.port, pace=SLOW) as proxy:
            seen = await _seen(made, proxy.port)
            read = await _read(made, proxy.port)
    finally:
        await made.clean_up()
    return [
        Row("opening at 50 kB/s and 200 ms: newest entries in the browser", seen, "s", "below 5", seen < 5),
        Row("opening at 50 kB/s and 200 ms: the same by the client library", read, "s", "below 5", read < 5),
    ]


async def _seen(made: ServerProcess, port: int) -> float:
    times = []
    async with browsing() as browser, screen(browser, made, size=PHONE, port=port) as shown:
        for _ in range(_ROUNDS):
            await shown.go("/")
            await shown.page.wait_for_selector(".project", timeout=WAIT_MS)
            times.append(float(await shown.page.evaluate(OPEN, [f"/p/{PROJECT}", ".row-result"])) / 1000)
    return median(times)


async def _read(made: ServerProcess, port: int) -> float:
    times = []
    async with Client(f"ws://127.0.0.1:{port}/ws", token=made.token) as client:
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            page = await client.messages(PROJECT, limit=200, max_bytes=131_072, large="reference")
            times.append(time.perf_counter() - began)
            assert page.messages[-1].offset == page.metadata.last_offset
    return median(times)


def lines() -> Iterator[tuple[str, dict[str, Any]]]:
    """A write and edits, as the CLI (2.1.330) prints them: the result of an edit carries the whole original file."""
    text = "".join(f"    value_{number} = compute({number * 7919 % 10_007}, key={number})\n" for number in range(2500))
    yield "prompt", {"execution_id": "e1", "prompt": "Write the table, and mend it.", "by": "phone"}
    for number in range(EDITS + 1):
        old = f"    value_{number} = "
        given = {"file_path": "/project/table.py"}
        given |= {"content": text} if number == 0 else {"old_string": old, "new_string": f"    entry_{number} = "}
        call = {"type": "tool_use", "id": f"t{number}", "name": "Edit" if number else "Write", "input": given}
        yield "agent_message", {"type": "assistant", "message": {"role": "assistant", "content": [call]}}
        result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": "The file has been updated."}
        yield (
            "agent_message",
            {
                "type": "user",
                "message": {"role": "user", "content": [result]},
                "tool_use_result": {**given, "originalFile": text if number else None},
            },
        )
    yield "agent_message", {"type": "result", "is_error": False, "duration_ms": 12_345}
