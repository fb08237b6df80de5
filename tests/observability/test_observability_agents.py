"""The memory and CPU of agents by state, and the agents with the highest values."""

import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from pocket_agent.claude.process_tree import TreeUsage
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.observability import agents, catalogue
from pocket_agent.observability.agents import AgentMonitor
from pocket_agent.observability.metrics import HistogramValue
from pocket_agent.settings import Settings
from tests.harness.follow import eventually
from tests.server.room import Room, open_room, until


class Readings:
    """What the process table says; raises `error` instead, or waits until `free` is set."""

    def __init__(self) -> None:
        self.found: dict[str, TreeUsage] = {}
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()
        self.read = 0

    def __call__(self, marks: Sequence[str]) -> Mapping[str, TreeUsage]:
        self.read += 1
        self.free.wait(30)
        if self.error is not None:
            raise self.error
        return {mark: self.found[mark] for mark in marks if mark in self.found}


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_room(tmp_path) as opened:
        yield opened


def mark_of(conversation: Conversation) -> str:
    assert conversation.process is not None
    return conversation.process.id


async def values(room: Room, name: str) -> dict[tuple[str, ...], float]:
    """The values of one metric above 0."""
    metric = next(metric for metric in catalogue.CATALOGUE if metric.name == catalogue.PREFIX + name)
    found = (await room.core.collect())[metric]
    assert not isinstance(found, HistogramValue)
    return {key: value for key, value in found.items() if value}


async def test_usage_by_state_and_the_largest_agent(room: Room) -> None:
    readings = Readings()
    clock = [100.0]
    monitor = AgentMonitor(room.projects.all, room.settings, readings, lambda: clock[0])
    room.core.agents = monitor
    sessions = [await room.project(name) for name in ("one", "two", "three")]
    async with room.client() as client:
        for session, prompt in zip(sessions, ("sleep 600", "sleep 600", "ask Bash"), strict=True):
            await client.execute(session.state.record.id, prompt)
        await until(lambda: bool(sessions[2].state.approvals))
        one, two, three = map(mark_of, sessions)
        readings.found = {one: TreeUsage(1_000, 50.0), two: TreeUsage(3_000, 7.0), three: TreeUsage(500, 0.0)}
        await monitor.update()
        memory = {("executing", "sum"): 4_000, ("executing", "max"): 3_000, ("waiting", "sum"): 500}
        assert await values(room, "agent_memory_bytes") == {**memory, ("waiting", "max"): 500}
        assert await values(room, "agent_cpu_cores") == {}, "the first reading only starts the measurement"
        assert list(await values(room, "agent_top_memory_ratio")) == [("two",)]
        clock[0] += 10
        readings.found[one] = TreeUsage(1_000, 65.0)
        await monitor.update()
        assert await values(room, "agent_cpu_cores") == {("executing", "sum"): 1.5, ("executing", "max"): 1.5}
        assert list(await values(room, "agent_top_cpu_ratio")) == [("one",)]
        for session in sessions:
            await client.kill(session.state.record.id)
    assert await values(room, "agent_memory_bytes") == {}
    assert await values(room, "agent_top_memory_ratio") == {}


async def test_a_reading_that_fails_is_counted_and_changes_nothing(room: Room) -> None:
    readings = Readings()
    monitor = AgentMonitor(room.projects.all, room.settings, readings)
    room.core.agents = monitor
    session = await room.project("one")
    async with room.client() as client:
        await client.execute(session.state.record.id, "sleep 600")
        await until(lambda: session.process is not None)
        readings.found = {mark_of(session): TreeUsage(1_000, 0.0)}
        await monitor.update()
        for error in (PermissionError("no"), ValueError("not a number")):
            readings.error = error
            await monitor.update()
        assert await values(room, "agent_readings_failed_total") == {(): 2}
        assert (await values(room, "agent_memory_bytes"))["executing", "sum"] == 1_000
        await client.kill(session.state.record.id)


async def test_a_reading_that_hangs_is_given_up_and_none_starts_next_to_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "_READING_SECONDS", 0.01)
    readings = Readings()
    monitor = AgentMonitor(room.projects.all, room.settings, readings)
    session = await room.project("one")
    async with room.client() as client:
        await client.execute(session.state.record.id, "sleep 600")
        await until(lambda: session.process is not None)
        readings.free.clear()
        for _ in range(3):
            await monitor.update()
        assert (monitor.failed, readings.read) == (3, 1)
        readings.free.set()
        monkeypatch.setattr(agents, "_READING_SECONDS", 30)
        await monitor.update()
        assert monitor.failed == 3
        await client.kill(session.state.record.id)


async def test_without_agents_nothing_is_read(room: Room) -> None:
    readings = Readings()
    await AgentMonitor(room.projects.all, room.settings, readings).update()
    assert readings.read == 0


def test_a_slow_reading_is_followed_by_a_long_pause() -> None:
    monitor = AgentMonitor(list, Settings())
    assert [monitor.pause(took) for took in (0.001, 2.0)] == [15.0, 200.0]


async def test_silence_counts_while_the_agent_works_and_waits_for_nobody(room: Room) -> None:
    session = await room.project("quiet")
    state = session.state
    assert state.silence == 0
    async with room.client() as client:
        await client.execute(state.record.id, "lines 1 ask Bash sleep 600")
        await until(lambda: bool(state.approvals))
        state.heard_at -= 1_000
        assert state.silence == 0, "an approval is pending"
        (approval_id,) = state.approvals
        await client.approve(state.record.id, approval_id)
        assert 0 < state.silence < 1_000, "an answer is a new start"

        async def silent() -> bool:
            state.heard_at = time.monotonic() - 1_000  # until the output that follows the answer is read
            return (await values(room, "agent_silence_seconds")).get(("quiet",), 0) >= 1_000

        await eventually(silent, "its silence is exported")
        await client.kill(state.record.id)
    assert state.silence == 0
    assert await values(room, "agent_silence_seconds") == {}


async def test_a_name_that_is_not_text_breaks_no_scrape(room: Room) -> None:
    assert agents.top({}) == (0, "")
    session = await room.project("x" * 200)
    session.state.log.record = replace(session.state.record, name="\udcff" + "y" * 200)
    found = agents.top({session: 1.0})
    assert found == (1.0, "?" + "y" * 99)
