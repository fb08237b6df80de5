"""What being observed costs: fan-out with everything on against everything off, and what a scrape does to a client."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from tests.harness.server import ServerProcess, free_port

from benchmarks import stage
from benchmarks.row import Row, median, percentile

_CONNECTIONS = 100
_ROUNDS = 100
"""One flood varies by a tenth or more on a shared machine; the sum of many does not."""
_LINES = 8000
"""Few enough to stay in the hub's tail: readers that fall behind it are read to from the store, which costs more."""
_SCRAPES = 60
_REST_SECONDS = 0.15
_OFF = {"PA_METRICS_ENABLED": "false", "PA_LOG_LEVEL": "error", "PA_TRACES_ENABLED": "false"}


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure both."""
    return [*await _fanout(folder, scale), *await _scrape(folder, scale)]


def _on(metrics_port: int, traces_port: int) -> dict[str, str]:
    return {
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(metrics_port),
        "PA_LOG_LEVEL": "info",
        "PA_TRACES_ENABLED": "true",
        "PA_TRACES_SAMPLE_RATIO": "0.1",
        "PA_TRACES_ENDPOINT": f"http://127.0.0.1:{traces_port}",
    }


async def _fanout(folder: Path, scale: float) -> list[Row]:
    """Two servers in turn: what a second of their processor's time delivers, and a second of the clock."""
    rounds = max(3, int(_ROUNDS * min(scale, 1.0)))
    port = free_port()
    async with (
        _collecting() as collector,
        stage.server(folder / "on", env=_on(port, collector)) as on,
        stage.server(folder / "off", env=_OFF) as off,
    ):
        projects = {made: await stage.project(made) for made in (on, off)}
        for made in (on, off):
            await _flood(made, projects[made], 1000)
        floods: dict[ServerProcess, list[_Flood]] = {on: [], off: []}
        for number in range(rounds):
            # Whoever comes second finds a warmer machine, so they take turns.
            for made in (on, off) if number % 2 else (off, on):
                floods[made].append(await _flood(made, projects[made], _LINES))
    used = {made: sum(flood.processor for flood in found) for made, found in floods.items()}
    passed = {made: median([flood.clock for flood in found]) for made, found in floods.items()}
    work, ratio = rounds * _LINES * _CONNECTIONS, used[off] / used[on]
    name = "telemetry: fan-out with metrics, logs and 10 % traces"
    return [
        Row(f"{name}, of the processor", work / used[on], "deliveries/s"),
        Row("telemetry: fan-out without, of the processor", work / used[off], "deliveries/s"),
        Row(f"{name} against without", ratio, "x", "at least 0.97", ratio >= 0.97),
        Row(f"{name} against without, by the clock", passed[off] / passed[on], "x"),
    ]


class _Flood(NamedTuple):
    """What a flood took, in seconds: of the clock, and of the server's processor time."""

    clock: float
    processor: float


async def _flood(made: ServerProcess, project_id: str, lines: int) -> _Flood:
    """Send lines to all connections."""
    assert made.process is not None
    process = psutil.Process(made.process.pid)
    async with stage.readers(stage.task_of(made, _CONNECTIONS, project_id)) as readers, made.client() as client:
        before = process.cpu_times()
        await client.execute(project_id, f"flood {lines}")
        clock = float((await readers.report())["seconds"])
        after = process.cpu_times()
    return _Flood(clock, after.user + after.system - before.user - before.system)


@contextlib.asynccontextmanager
async def _collecting() -> AsyncIterator[int]:
    """The port of something that takes whatever spans it is sent."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(
                    (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0"
                )
                await reader.readexactly(int(size.partition(b":")[2]))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _scrape(folder: Path, scale: float) -> list[Row]:
    """How much longer the slowest answer to a client takes during a scrape than during an answer of no content."""
    port = free_port()
    scrapes = max(10, int(_SCRAPES * scale))
    worst: dict[str, list[float]] = {}
    async with stage.server(folder / "scraped", env={**_on(port, free_port()), "PA_TRACES_ENABLED": "false"}) as made:
        project_id = await stage.project(made)
        async with made.client() as client:
            await client.execute(project_id, "flood 1000")
            for path in ("/metrics", "/nothing") * 2:
                worst.setdefault(path, []).extend(await _slowest(client.projects, port, path, scrapes))
    delays = [percentile(worst["/metrics"], percent) - percentile(worst["/nothing"], percent) for percent in (50, 90)]
    return [
        Row("telemetry: a client's slowest answer during a scrape, p50", percentile(worst["/metrics"], 50), "ms"),
        Row("telemetry: the same during a page of no content, p50", percentile(worst["/nothing"], 50), "ms"),
        Row("telemetry: delay of a client by a scrape, p50", delays[0], "ms", "at most 5", delays[0] <= 5),
        Row("telemetry: delay of a client by a scrape, p90", delays[1], "ms", "at most 5", delays[1] <= 5),
    ]


async def _slowest(ask: Callable[[], Awaitable[object]], port: int, path: str, count: int) -> list[float]:
    """For each answer that a scraper got, the longest time in milliseconds that `ask` took meanwhile."""
    asked: list[tuple[int, int]] = []
    arguments = (str(port), path, str(count), str(_REST_SECONDS))
    async with stage.module("benchmarks.scraper", *arguments) as scraper:
        report = asyncio.create_task(stage.Readers(scraper).report())
        while not report.done():
            began = time.monotonic_ns()
            await ask()
            asked.append((began, time.monotonic_ns()))
        spans = (await report)["spans"]
    return [
        max((end - begin for begin, end in asked if begin <= last and end >= first), default=0) / 1e6
        for first, last in spans
    ]
