"""Line written to line received: 1,000 lines a second to 100 subscribers, against an echo on the same socket."""

from pathlib import Path

from benchmarks import stage
from benchmarks.row import Row, median, percentile

_CONNECTIONS = 100
_SAMPLED = 5
_RATE = 1000


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure the age of lines when they arrive, and pings on the same sockets meanwhile."""
    async with stage.server(folder) as made:
        project_id = await stage.project(made)
        task = stage.task_of(made, _CONNECTIONS, project_id, sampled=_SAMPLED)
        async with stage.readers(task) as readers, made.client() as client:
            await client.execute(project_id, f"paced {int(10_000 * scale)} {_RATE}")
            report = await readers.report()
    ages, echoes = report["ages"], report["echoes"]
    difference = percentile(ages, 99) - percentile(echoes, 99)
    return [
        Row("latency: line to socket, p50", median(ages), "ms"),
        Row("latency: line to socket, p99", percentile(ages, 99), "ms"),
        Row("latency: echo, p50", median(echoes), "ms"),
        Row("latency: echo, p99", percentile(echoes, 99), "ms"),
        Row("latency: p99 over the echo's p99", difference, "ms", "at most 3", difference <= 3),
    ]
