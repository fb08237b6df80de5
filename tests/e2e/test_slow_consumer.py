"""Clients that do not read, or read slowly: nobody waits for them, and they miss nothing either."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.follow import SECONDS, eventually, follow, is_result, lines, run, stored
from tests.harness.raw import CLOSE, TEXT, RawClient, RawFrame, raw_client
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.client import Frame
from pocket_agent.model import Position

SMALL = 4096
FLOOD = "long 65536 " * 200
"""13 MB: more than the kernel keeps for a connection, so that a stalled one is felt."""


def settings(folder: Path, **more: str) -> dict[str, str]:
    """The settings of a server with small buffers."""
    return {
        "PA_CLAUDE_BINARY": str(write_standin(folder)),
        "PA_WEBSOCKET_SEND_BUFFER": "256KiB",
        "PA_LOG_LEVEL": "info",
        **more,
    }


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that gives up nobody within a test."""
    async with running_server(tmp_path, env=settings(tmp_path, PA_WEBSOCKET_WRITE_TIMEOUT="5m")) as server:
        yield server


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that gives up soon who takes nothing."""
    async with running_server(tmp_path, env=settings(tmp_path, PA_WEBSOCKET_WRITE_TIMEOUT="1s")) as server:
        yield server


async def joined(client: RawClient, project_id: str) -> Position:
    """Follow a project; gives where the log was then."""
    await client.request("project_join", project_id=project_id, request_id="join")
    data = (await client.reply("join"))["data"]
    return Position(epoch=data["epoch"], offset=data["offset"])


async def rest(client: RawClient) -> list[RawFrame]:
    """Everything up to the end of the connection."""
    frames: list[RawFrame] = []
    async with asyncio.timeout(SECONDS):
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
        assert (await client.health()).connections.active == 2
        # And when it reads at last, it gets all of it too.
        received: list[int] = []
        async with asyncio.timeout(SECONDS):
            while len(received) < len(log):
                frame = await stalled.frame()
                assert frame is not None
                received += offsets([frame])
        assert received == [line.offset for line in log]


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
    """It takes several times the write timeout for all of it, and never stops taking."""
    async with strict.client() as client, raw_client(strict, receive_buffer=SMALL) as slow:
        project = await client.create_project(str(folder))
        await joined(slow, project.id)
        async with client.subscribe(project.id) as stream:
            await run(client, stream, FLOOD)
        received: list[int] = []
        async with asyncio.timeout(SECONDS):
            while True:
                while (frame := slow.buffered()) is not None:
                    assert frame.opcode != CLOSE, frame
                    received += offsets([frame])
                    if frame.opcode == TEXT and frame.json["data"].get("type") == "result":
                        break
                else:
                    assert await slow.receive(SMALL)
                    await asyncio.sleep(0.001)
                    continue
                break
        log = await stored(client, project.id)
    assert received == [line.offset for line in log]
    assert "slow consumer dropped" not in strict.log
