"""Clients whose network breaks off anywhere, also within a frame: each holds exactly the stored log."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import (
    eventually,
    follow,
    is_result,
    lines,
    numbers,
    stored,
    until,
)
from tests.harness.proxy import running_proxy
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.client import Backoff, Client, Frame

LINES = 2000
LINES_PER_CUT = 10
BLOCKS_PER_CUT = 5
CUTS = pytest.mark.parametrize("cuts", [25, pytest.param(200, marks=pytest.mark.soak)])
QUICK = Backoff(initial=0.001, maximum=0.02)


@pytest.fixture(params=["4MiB", "8KiB"], ids=["from the tail", "from the store"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that keeps much of a log in memory, or hardly anything."""
    binary = write_standin(tmp_path)
    env = {"PA_CLAUDE_BINARY": str(binary), "PA_WEBSOCKET_TAIL_SIZE": request.param, "PA_LOG_LEVEL": "warning"}
    async with running_server(tmp_path, env=env) as running:
        yield running


@CUTS
async def test_disconnected_at_random_points(server: ServerProcess, folder: Path, cuts: int) -> None:
    seed = 200
    print("seed", seed)
    chance = random.Random(seed)  # noqa: S311 - it has to be the same each time
    # From within the handshake (about 200 bytes) to a dozen entries behind the reply (about 600).
    budgets = [chance.randint(100, 3000) for _ in range(cuts)]
    async with server.client() as steady, running_proxy(server.port, [10**9, *budgets]) as proxy:
        project = await steady.create_project(str(folder))
        unsteady = Client(f"ws://127.0.0.1:{proxy.port}/ws", token=server.token, backoff=QUICK)
        async with unsteady, unsteady.subscribe(project.id, 0) as stream:
            await until(stream, "project_state")
            await steady.execute(project.id, f"lines {cuts * LINES_PER_CUT} 300")
            proxy.break_off()
            frames = await follow(stream, is_result)
            assert proxy.cuts == cuts + 1
        log = await stored(steady, project.id)
    assert numbers(frames) == list(range(1, cuts * LINES_PER_CUT + 1))
    assert lines(frames) == log


@CUTS
async def test_disconnected_at_random_points_from_the_real_cli(
    demo_server: ServerProcess, folder: Path, cuts: int
) -> None:
    seed = 201
    print("seed", seed)
    chance = random.Random(seed)  # noqa: S311 - it has to be the same each time
    budgets = [chance.randint(100, 3000) for _ in range(cuts)]
    async with demo_server.client() as steady, running_proxy(demo_server.port, [10**9, *budgets]) as proxy:
        project = await steady.create_project(str(folder))
        unsteady = Client(f"ws://127.0.0.1:{proxy.port}/ws", token=demo_server.token, backoff=QUICK)
        async with unsteady, unsteady.subscribe(project.id, 0) as stream:
            await until(stream, "project_state")
            await steady.execute(project.id, f"demo:blocks={cuts * BLOCKS_PER_CUT}")
            proxy.break_off()
            frames = await follow(stream, is_result)
            assert proxy.cuts == cuts + 1
        log = await stored(steady, project.id)
    held = lines(frames)
    assert len(held) > cuts * BLOCKS_PER_CUT
    # The CLI prints a little more after its result.
    assert held == log[: len(held)]


async def test_joins_during_a_flood(server: ServerProcess, folder: Path) -> None:
    """Whoever joins from the beginning while the agent writes fast gets all of it, whenever it joined."""

    async def watch(after: int) -> list[Frame]:
        await eventually(lambda: len(seen) > after, f"{after} entries")
        async with server.client() as client, client.subscribe(project.id, 0) as stream:
            return await follow(stream, is_result)

    def note(frame: Frame) -> bool:
        if frame.offset is not None:
            seen.append(frame)
        return is_result(frame)

    seed = 10
    print("seed", seed)
    chance = random.Random(seed)  # noqa: S311 - it has to be the same each time
    seen: list[Frame] = []
    async with server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream, asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(watch(chance.randrange(LINES))) for _ in range(10)]
            await client.execute(project.id, f"lines {LINES}")
            await follow(stream, note)
        log = await stored(client, project.id)
    assert lines(seen) == log
    for watched in watching:
        assert lines(watched.result()) == log


async def test_joins_and_leaves_of_one_connection(server: ServerProcess, folder: Path) -> None:
    """A client that leaves and joins again with what it has last misses nothing and gets nothing twice."""
    seed = 30
    print("seed", seed)
    chance = random.Random(seed)  # noqa: S311 - it has to be the same each time
    frames: list[Frame] = []
    async with server.client() as client:
        project = await client.create_project(str(folder))
        await client.execute(project.id, f"lines {LINES} 100")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (frames and is_result(frames[-1])):
                left = chance.randint(1, 200)
                async with client.subscribe(project.id, frames[-1].position if frames else 0) as stream:
                    async for frame in stream:
                        if frame.offset is not None:
                            frames.append(frame)
                            left -= 1
                        if left == 0 or is_result(frame):
                            break
        log = await stored(client, project.id)
    assert lines(frames) == log
