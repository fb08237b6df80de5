"""A client that is in, while one address makes handshakes as fast as it can: what its requests take then."""

import asyncio
import sys
import time
from pathlib import Path

from tests.harness.tool import ROOT

from benchmarks import stage
from benchmarks.row import Row, median
from pocket_agent.client import Client

_ATTACKER = "127.0.0.2"
_PAUSE_SECONDS = 0.002


async def run(folder: Path, scale: float) -> list[Row]:
    """Compare the round trip of a request in peace, while a program floods another server, and while it floods ours.

    The second shows what the flooding program itself takes of the machine, which is no fault of the server's.
    """
    handshakes = max(500, int(10_000 * scale))
    env = {"PA_LIMITS_EXEMPT_ADDRESSES": "127.0.0.1"}
    async with (
        stage.server(folder / "ours", env=env) as made,
        stage.server(folder / "other", env=env) as other,
        made.client() as client,
    ):
        peace = await _times(client, asyncio.create_task(asyncio.sleep(3 * min(scale, 1.0) + 0.5)))
        beside = await _times(client, asyncio.create_task(_flood(other.port, handshakes)))
        under = await _times(client, asyncio.create_task(_flood(made.port, handshakes)))
    ratio = median(under) / median(peace)
    return [
        Row(f"{handshakes:,} handshakes from one address: a request in peace", median(peace), "ms"),
        Row("the same, while another server is flooded", median(beside), "ms"),
        Row("the same, while this one is flooded", median(under), "ms"),
        Row("ratio of this one in a flood to peace", ratio, "", "at most 2", ratio <= 2),
        Row("the slowest hundredth in peace", _slow(peace), "ms"),
        Row("the slowest hundredth while this one is flooded", _slow(under), "ms"),
    ]


def _slow(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


async def _times(client: Client, until: "asyncio.Task[None]") -> list[float]:
    """Milliseconds of requests, one after the other, until something is over."""
    times = []
    while not until.done():
        began = time.perf_counter()
        await client.projects()
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(_PAUSE_SECONDS)
    await until
    return times


async def _flood(port: int, handshakes: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.harness.flood", str(port), _ATTACKER, str(handshakes)),
        stdout=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
    )
    await process.wait()
