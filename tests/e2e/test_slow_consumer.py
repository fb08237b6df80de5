"""Clients that do not read, or read slowly: nobody waits for them, and they miss nothing either."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, follow, is_result, lines, run, stored
from tests.harness.raw import CLOSE, TEXT, RawClient, RawFrame, raw_client
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.client import Frame
from pocket_agent.model import Position

SMALL = 4096
FLOOD = "long 65536 " * 200
"""13 MB: more than the kernel keeps for a connection, so that a stalled one is felt."""

SLOW_BYTES = 2**20
"""Read at 100 KB/s these take two write timeouts, while the kernel does not ask for more."""


def settings(folder: Path, **more: str) -> dict[str, str]:
    """The settings of a server with small buffers, and without pings, which a raw client does not answer."""
    return {
        "PA_CLAUDE_BINARY": str(write_standin(folder)),
        "PA_WEBSOCKET_SEND_BUFFER": "256KiB",
        "PA_LOG_LEVEL": "info",
        "PA_PING_INTERVAL": "1h",
        **more,
    }


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that gives up nobody within a test."""
    async with running_server(tmp_path, env=settings(tmp_path, PA_WEBSOCKET_WRITE_TIMEOUT="5m")) as server:
        yield server


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that gives up soon who takes nothing, but later than TCP repeats what a full buffer made it drop."""
    async with running_server(tmp_path, env=settings(tmp_path, PA_WEBSOCKET_WRITE_TIMEOUT="5s")) as server:
        yield server


async def joined(client: RawClient, project_id: str) -> Position:
    """Follow a project; gives where the log was then."""
    await client.request("project_join", project_id=project_id, request_id="join")
    data = (await client.reply("join"))["data"]
    return Position(epoch=data["epoch"], offset=data["offset"])


async def rest(client: RawClient) -> list[RawFrame]:
    """Everything up to the end of the connection."""
    frames: list[RawFrame] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (frame := await client.frame()) is not None:
            frames.append(frame)
            if frame.opcode == CLOSE:
                break
    return frames


def offsets(frames: list[RawFrame]) -> list[int]:
    """The numbers of the entries among the frames."""
    said = [frame.json for frame in frames if frame.opcode == TEXT]
    return [frame["offset"] for frame in said if "offset" in frame]


async def test_a_stalled_viewer_delays_none_of_the_others(patient: ServerProcess, folder: Path) -> None:
    async def watch() -> list[Frame]:
        async with patient.client() as client, client.subscribe(project.id, 0) as stream:
            return await follow(stream, is_result)

    async with patient.client() as client, raw_client(patient, receive_buffer=SMALL) as stalled:
        project = await client.create_project(str(folder))
        await joined(stalled, project.id)
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(watch()) for _ in range(19)]
            await client.execute(project.id, FLOOD)
        # All others have everything; the stalled one is still connected and has not been read from.
        log = await stored(client, project.id)
        for watched in watching:
            assert lines(watched.result()) == log

        async def only_these_two() -> bool:
            return (await client.health()).connections.active == 2

        await eventually(only_these_two, "the others are gone, and the stalled one is connected")
        # And when it reads at last, it gets all of it too.
        received: list[int] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(received) < len(log):
                frame = await stalled.frame()
                assert frame is not None
                received += offsets([frame])
        assert received == [line.offset for line in log]


async def test_a_stalled_viewer_among_20_of_the_real_cli(tmp_path: Path, folder: Path) -> None:
    env = {
        "PA_CLAUDE_BINARY": str(require_claude()),
        "PA_WEBSOCKET_SEND_BUFFER": "256KiB",
        "PA_WEBSOCKET_WRITE_TIMEOUT": "1s",
        "PA_LOG_LEVEL": "info",
    }

    async def watch() -> list[Frame]:
        async with server.client() as client, client.subscribe(project.id, 0) as stream:
            return await follow(stream, is_result)

    async with running_server(tmp_path, env=env, flags=["--demo"]) as server, server.client() as client:
        project = await client.create_project(str(folder))
        async with raw_client(server, receive_buffer=SMALL) as stalled:
            start = await joined(stalled, project.id)
            async with asyncio.TaskGroup() as tasks:
                watching = [tasks.create_task(watch()) for _ in range(19)]
                await client.execute(project.id, "demo:huge=8MiB")
            await eventually(lambda: "slow consumer dropped" in server.log, "it is given up")
            received = await rest(stalled)
        assert received[-1].close_code == 4008
        log = await stored(client, project.id)
        for watched in watching:
            held = lines(watched.result())
            assert held == log[: len(held)]
            assert held[-1].offset >= log[-1].offset - 1, "all but what the CLI prints after its result"
        seen = offsets(received)
        after = Position(start.epoch, seen[-1] if seen else start.offset)
        async with client.subscribe(project.id, after) as stream:
            missed = await follow(stream, is_result)
        both = [*seen, *(line.offset for line in lines(missed))]
        assert both == list(range(start.offset + 1, start.offset + 1 + len(both)))


async def test_a_stalled_viewer_is_closed_and_misses_nothing(strict: ServerProcess, folder: Path) -> None:
    async with strict.client() as client:
        project = await client.create_project(str(folder))
        async with raw_client(strict, receive_buffer=SMALL) as stalled:
            start = await joined(stalled, project.id)
            async with client.subscribe(project.id) as stream:
                await run(client, stream, FLOOD)
            await eventually(lambda: "slow consumer dropped" in strict.log, "it is given up")
            received = await rest(stalled)
        assert received[-1].opcode == CLOSE
        assert received[-1].close_code == 4008
        assert received[-1].payload[2:].startswith(b"slow consumer")
        seen = offsets(received)
        log = await stored(client, project.id)
        assert seen == list(range(1, len(seen) + 1))
        assert len(seen) < len(log)
        since = Position(epoch=start.epoch, offset=len(seen))
        async with client.subscribe(project.id, since) as stream:
            frames = await follow(stream, is_result)
    assert lines(frames) == log[len(seen) :]


async def test_a_slow_but_steady_reader_is_not_closed(strict: ServerProcess, folder: Path) -> None:
    """It takes little at a time, but never stops taking, however rarely the kernel asks for more."""
    frames: list[RawFrame] = []

    async def read(is_over: Callable[[], bool]) -> None:
        taken = sum(len(frame.payload) for frame in frames)
        while not is_over():
            data = await slow.receive(SMALL)
            assert data, "the connection was closed"
            taken += len(data)
            while (frame := slow.buffered()) is not None:
                assert frame.opcode != CLOSE, frame
                frames.append(frame)
            if taken < SLOW_BYTES:
                await asyncio.sleep(0.04)

    def has_result() -> bool:
        last = [frame.json for frame in frames[-SMALL // 100 :] if frame.opcode == TEXT and len(frame.payload) < SMALL]
        return any(frame["type"] == "agent_message" and frame["data"].get("type") == "result" for frame in last)

    async with strict.client() as client, raw_client(strict, receive_buffer=SMALL) as slow:
        project = await client.create_project(str(folder))
        await joined(slow, project.id)
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
            # From the beginning: on a slow machine the prompt takes longer than a write may.
            reading = tasks.create_task(read(has_result))
            async with client.subscribe(project.id) as stream:
                await run(client, stream, FLOOD)
            await reading
            log = await stored(client, project.id)
            await read(lambda: len(offsets(frames)) >= len(log))
    assert offsets(frames) == [line.offset for line in log]
    assert "slow consumer dropped" not in strict.log


async def test_stalled_viewers_cost_little_memory(patient: ServerProcess, folder: Path) -> None:
    """What a connection holds is bounded by its send buffer and one write, not by what it has missed."""
    assert patient.process is not None
    status = Path(f"/proc/{patient.process.pid}/status")
    if not status.exists():
        pytest.skip("the peak of a process's memory is known on Linux only")
    async with patient.client() as client, contextlib.AsyncExitStack() as stack:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await run(client, stream, FLOOD)  # so that everything is loaded, and the tail is full
            before = peak_bytes(status)
            for _ in range(10):
                await joined(await stack.enter_async_context(raw_client(patient, receive_buffer=SMALL)), project.id)
            for _ in range(6):
                await run(client, stream, FLOOD)
            grown = peak_bytes(status) - before
        assert (await client.health()).connections.active == 11
    # Without a bound each of the ten would hold 80 MB, less what the kernel keeps. What is written at a
    # time is one batch of lines, about 256 KiB.
    assert grown < 10 * 2 * (256 + 256) * 1024 + 32 * 2**20, f"{grown / 2**20:.0f} MiB"


def peak_bytes(status: Path) -> int:
    """The most memory that a process has held (proc(5), VmHWM)."""
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
