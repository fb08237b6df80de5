"""Fan-out: lines of 300 bytes from the CLI's file to 100 sockets, stored, against a bare loop."""

import json
from pathlib import Path

from benchmarks import bare, stage
from benchmarks.reader import Task
from benchmarks.row import Row, median

_CONNECTIONS = 100
_ROUNDS = 3


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure, plain and under TLS."""
    rows = []
    for tls in (False, True):
        rows += await _compare(folder / ("tls" if tls else "plain"), scale, tls=tls)
    return rows


async def _compare(folder: Path, scale: float, *, tls: bool) -> list[Row]:
    lines = max(1000, int((10_000 if tls else 40_000) * scale) // 1000 * 1000)
    connections = max(2, int(_CONNECTIONS * min(1.0, scale * 2)))
    ours, theirs = [], []
    async with stage.server(folder, tls=tls) as made:
        project_id = await stage.project(made)
        async with made.client() as client:
            await client.execute(project_id, "flood 1000")
        for _ in range(_ROUNDS):
            theirs.append(await _bare(made.data_dir, connections, lines, tls=tls))
            async with stage.readers(stage.task_of(made, connections, project_id)) as readers, made.client() as client:
                await client.execute(project_id, f"flood {lines}")
                ours.append(lines * connections / (await readers.report())["seconds"])
    how = "TLS" if tls else "plain"
    ratio = median(ours) / median(theirs)
    return [
        Row(f"fan-out, {how}: the server", median(ours), "deliveries/s"),
        Row(f"fan-out, {how}: bare loop, ten frames joined", median(theirs), "deliveries/s"),
        Row(f"fan-out, {how}: the server against the bare loop", ratio, "x", "at least 0.5", ratio >= 0.5),
    ]


async def _bare(data_dir: Path, connections: int, lines: int, *, tls: bool) -> float:
    """Deliveries per second of the bare loop."""
    cert, key = data_dir / "tls" / "cert.pem", data_dir / "tls" / "key.pem"
    pair = [json.dumps([str(cert), str(key)])] if tls else []
    async with stage.module("benchmarks.bare", str(connections), str(lines), *pair) as loop:
        assert loop.stdout is not None
        assert loop.stdin is not None
        port = int(await loop.stdout.readline())
        task = Task(port, connections, "none", "", bare.END.decode(), ca=str(cert) if tls else None)
        async with stage.readers(task) as readers:
            loop.stdin.write(b"go\n")
            return lines * connections / float((await readers.report())["seconds"])
