"""Streams: every entry once and in order, whatever the connection does."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_agent.client import Backoff, Client, Frame, ProtocolViolationError, StreamState, Subscription
from pocket_agent.errors import ProjectNotFoundError
from pocket_agent.model import Position
from tests.client.scripted import Json, Peer, ScriptedServer, scripted_server, until
from tests.harness import DEADLINE_SECONDS

QUICK = Backoff(initial=0.001, maximum=0.005)


def connect(server: ScriptedServer, **options: Any) -> Client:
    return Client(server.url, backoff=QUICK, **options)


async def take(stream: Subscription, last: int) -> list[Frame]:
    """Frames up to the entry `last`."""
    frames: list[Frame] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for frame in stream:
            frames.append(frame)
            if frame.offset == last:
                return frames
    return frames


def offsets(frames: list[Frame]) -> list[int]:
    return [frame.offset for frame in frames if frame.offset is not None]


async def test_without_since_only_what_happens_from_now_on(server: ScriptedServer) -> None:
    await server.append()
    async with connect(server) as client, client.subscribe("p") as stream:
        assert stream.position == Position("e1", 1)
        assert stream.state is StreamState.LIVE
        await server.append(text="new")
        frames = await take(stream, 2)
        assert [frame.type for frame in frames] == ["project_join", "project_state", "agent_message"]
        assert frames[-1].data == {"n": 2, "text": "new"}
        assert stream.position == Position("e1", 2)
        assert not frames[0].gap
        assert stream.joined is not None
        assert stream.joined.queue == []


async def test_from_the_beginning(server: ScriptedServer) -> None:
    for _ in range(5):
        await server.append()
    async with connect(server) as client, client.subscribe("p", 0) as stream:
        assert stream.state is StreamState.CATCHING_UP
        assert offsets(await take(stream, 5)) == [1, 2, 3, 4, 5]
        assert str(stream.state) == "live"


async def test_from_a_time(server: ScriptedServer) -> None:
    for _ in range(3):
        await server.append()
    server.first = 2
    async with connect(server) as client, client.subscribe("p", "2026-01-31T12:00:00Z") as stream:
        assert stream.position is None
        assert offsets(await take(stream, 3)) == [2, 3]
        assert stream.position == Position("e1", 3)


async def test_frames_without_an_offset_come_too(server: ScriptedServer) -> None:
    async with connect(server) as client, client.subscribe("p") as stream:
        await until(lambda: server.peers[0].joined)
        await server.push("agent_message", {"type": "stream_event"}, project_id="p")
        await server.append()
        frames = await take(stream, 1)
        assert {"type": "stream_event"} in [frame.data for frame in frames]


async def test_200_random_disconnections_leave_exactly_the_log(server: ScriptedServer) -> None:
    chance = random.Random(20260131)  # noqa: S311 - a seeded test
    wanted = 3000

    async def disturb() -> None:
        drops = 0
        while drops < 200 or len(server.entries) < wanted:
            for _ in range(chance.randrange(0, 30)):
                await server.append(text="x" * chance.randrange(0, 400))
            if drops < 200 and server.peers:
                chance.choice(server.peers)
                await server.hang_up(chance.choice([1001, 1006, 1006, 4008]))
                drops += 1
            await asyncio.sleep(0 if chance.random() < 0.5 else 0.001)
        await server.append(text="the end")

    got: list[Json] = []
    async with connect(server) as client, client.subscribe("p", 0) as stream, asyncio.TaskGroup() as group:
        group.create_task(disturb())
        async for frame in stream:
            assert not frame.gap
            if frame.offset is not None:
                assert frame.data["n"] == frame.offset
                got.append(frame.data)
                if frame.data.get("text") == "the end":
                    break
    assert got == server.entries
    assert server.connections > 50


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["entry", "entries", "1001", "1006", "restart", "yield", "cancel"]), max_size=25))
async def test_any_order_of_events_leaves_exactly_the_log(events: list[str]) -> None:
    got: list[int] = []
    async with scripted_server() as server:
        async with connect(server) as client, client.subscribe("p", 0) as stream:
            for event in events:
                match event:
                    case "entry":
                        await server.append()
                    case "entries":
                        await asyncio.gather(*(server.append() for _ in range(10)))
                    case "restart":
                        await server.stop()
                        await server.start()
                    case "yield":
                        await asyncio.sleep(0.001)
                    case "cancel":
                        got += await _take_for_a_moment(stream)
                    case code:
                        await server.hang_up(int(code))
            last = await server.append()
            got += offsets(await take(stream, last))
        assert got == list(range(1, last + 1))


async def _take_for_a_moment(stream: Subscription) -> list[int]:
    found: list[int] = []
    try:
        async with asyncio.timeout(0.002):
            async for frame in stream:
                if frame.offset is not None:
                    found.append(frame.offset)  # noqa: PERF401 - a comprehension would lose them at the timeout
    except TimeoutError:
        pass
    return found


async def test_another_epoch_shows_as_a_gap(server: ScriptedServer) -> None:
    for _ in range(3):
        await server.append()
    async with connect(server) as client, client.subscribe("p", 0) as stream:
        await take(stream, 3)
        server.epoch = "e2"
        server.entries = [{"n": 1}, {"n": 2}]
        await server.hang_up(1006)
        frames = await take(stream, 2)
        assert [frame.type for frame in frames if frame.gap] == ["project_join"]
        assert offsets(frames) == [1, 2]
        assert stream.position == Position("e2", 2)


async def test_pruned_entries_show_as_a_gap(server: ScriptedServer) -> None:
    await server.append()
    async with connect(server) as client, client.subscribe("p", 0) as stream:
        await take(stream, 1)
        for peer in server.peers:
            peer.joined = False  # the connection is dead, nobody knows yet
        for _ in range(9):
            await server.append()
        server.first = 6
        await server.hang_up(1006)
        frames = await take(stream, 10)
        assert [frame.gap for frame in frames if frame.type == "project_join"] == [True]
        assert offsets(frames) == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("offset", [1, 3, 7])
async def test_a_hole_or_a_repetition_in_the_log_is_an_error(server: ScriptedServer, offset: int) -> None:
    await server.append()
    async with connect(server) as client, client.subscribe("p", 0) as stream:
        await until(lambda: server.peers[0].joined)
        await server.push("agent_message", {}, project_id="p", offset=offset)
        with pytest.raises(ProtocolViolationError, match=f"entry {offset} came where entry 2 was due"):
            while True:
                await anext(stream)
        assert stream.position == Position("e1", 1)


async def test_a_wrong_continuation_is_an_error(server: ScriptedServer) -> None:
    server.extra_join = {"recovered": True}
    with pytest.raises(ProtocolViolationError, match="epoch e1 was given as the continuation of epoch e0"):
        async with connect(server) as client, client.subscribe("p", Position("e0", 0)):
            pass


async def test_an_unreadable_join_is_an_error(server: ScriptedServer) -> None:
    server.extra_join = {"offset": "x"}
    with pytest.raises(ProtocolViolationError, match="unreadable"):
        async with connect(server) as client, client.subscribe("p"):
            pass


async def test_a_project_that_does_not_exist(server: ScriptedServer) -> None:
    async def missing(peer: Peer, frame: Json) -> Json:
        return {"type": "error", "data": {"code": "PROJECT_NOT_FOUND", "message": "no such project"}}

    server.handlers["project_join"] = missing
    async with connect(server) as client:
        with pytest.raises(ProjectNotFoundError):
            async with client.subscribe("p"):
                pass
        del server.handlers["project_join"]
        async with client.subscribe("p") as stream:  # the failed one is out of the way
            assert stream.state is StreamState.LIVE


async def test_a_join_that_is_refused_for_its_rate_is_tried_again(server: ScriptedServer) -> None:
    async def busy(peer: Peer, frame: Json) -> Json:
        if len(server.requests) == 2:
            del server.handlers["project_join"]
        return {"type": "error", "data": {"code": "RATE_LIMITED", "message": "slower"}}

    server.handlers["project_join"] = busy
    async with connect(server) as client, client.subscribe("p") as stream:
        assert stream.state is StreamState.LIVE
    assert [frame["type"] for frame in server.requests].count("project_join") == 3


async def test_a_deleted_project_ends_the_stream(server: ScriptedServer) -> None:
    async with connect(server) as client, client.subscribe("p") as stream:
        await until(lambda: server.peers[0].joined)
        await server.push("project_deleted", {"project_id": "p"}, project_id="p")
        frames = [frame async for frame in stream]
        assert frames[-1].type == "project_deleted"


async def test_one_stream_of_a_project_for_each_client(server: ScriptedServer) -> None:
    async with connect(server) as client:
        async with client.subscribe("p"):
            with pytest.raises(ValueError, match="already"):
                async with client.subscribe("p"):
                    pass
        async with client.subscribe("p") as stream:
            await until(lambda: server.peers[0].joined)
            await server.append()
            assert offsets(await take(stream, 1)) == [1]
        await until(lambda: not server.peers[0].joined)


@pytest.mark.parametrize("limit", [{"max_frames": 10}, {"max_bytes": 1000}])
async def test_a_slow_consumer_keeps_little_and_loses_nothing(server: ScriptedServer, limit: dict[str, int]) -> None:
    async def answer(peer: Peer, frame: Json) -> Json:
        return {"data": {"project_id": "p", "old_session_id": None, "status": "reset"}}

    server.handlers["agent_new_session"] = answer
    async with connect(server) as client, client.subscribe("p", 0, **limit) as stream:
        for _ in range(200):
            await server.append(text="x" * 100)
        # A request from the same task, while more frames than fit are under way.
        await client.new_session("p")
        await until(lambda: any(frame["type"] == "project_leave" for frame in server.requests))
        assert len(stream._buffer) <= 10
        got: list[int] = []
        async for frame in stream:
            assert len(stream._buffer) <= 10
            if frame.offset is not None:
                got.append(frame.offset)
                if frame.offset == 200:
                    break
        assert got == list(range(1, 201))
        assert not stream._failure


async def test_state_is_offline_without_a_connection(server: ScriptedServer) -> None:
    async with connect(server) as client, client.subscribe("p") as stream:
        await server.stop()
        await until(lambda: stream.state is StreamState.OFFLINE)
        assert not client.online
