"""Line written to line received: 1,000 lines a second to 100 subscribers, against an echo on the same socket."""

from pathlib import Path

from benchmarks import stage
from benchmarks.row import Row, median, percentile

_CONNECTIONS = 100
_SAMPLED = 5
_RATE = 1000
_ROUNDS = 3


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure the age of lines when they arrive, and pings on the same sockets meanwhile; medians of the rounds."""
    figures: dict[str, list[float]] = {}
    async with stage.server(folder) as made:
        project_id = await stage.project(made)
        task = stage.task_of(made, _CONNECTIONS, project_id, sampled=_SAMPLED)
        for _ in range(_ROUNDS):
            async with stage.readers(task) as readers, made.client() as client:
                await client.execute(project_id, f"paced {int(5_000 * scale)} {_RATE}")
                report = await readers.report()
            for name in ("ages", "echoes"):
                for percent in (50, 99):
                    figures.setdefault(f"{name}{percent}", []).append(percentile(report[name], percent))
    over = [age - echo for age, echo in zip(figures["ages99"], figures["echoes99"], strict=True)]
    return [
        Row("latency: line to socket, p50", median(figures["ages50"]), "ms"),
        Row("latency: line to socket, p99", median(figures["ages99"]), "ms"),
        Row("latency: echo, p50", median(figures["echoes50"]), "ms"),
        Row("latency: echo, p99", median(figures["echoes99"]), "ms"),
        Row("latency: p99 over the echo's p99", median(over), "ms", "at most 3", median(over) <= 3),
    ]
