"""Time limits and waits by the monotonic clock, which no change of the wall clock moves."""

import os
import signal
import time
from pathlib import Path

import pytest

from pocket_agent.conversation.conversation import Conversation
from pocket_agent.events import ApprovalResolved, ExecutionContinued, ExecutionFinished, ProcessSpawned
from pocket_agent.model import ExecutionStatus
from tests.server.room import open_room, until

HOUR = 3600
DAY = 24 * HOUR


class Clocks:
    """The clocks of the machine, moved by a test; the loop's own timers go on as they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.monotonic = 0
        wall, monotonic = time.time_ns, time.monotonic_ns
        monkeypatch.setattr(time, "time_ns", lambda: wall() + self.wall * 10**9)
        monkeypatch.setattr(time, "time", lambda: (wall() + self.wall * 10**9) / 10**9)
        monkeypatch.setattr(time, "monotonic_ns", lambda: monotonic() + self.monotonic * 10**9)


async def is_checked(conversation: Conversation) -> None:
    """Let the project's clock check what is due."""
    conversation.loops.tick.set()
    await until(lambda: not conversation.loops.tick.is_set())
    async with conversation.loops.mutex:
        pass


async def test_a_wall_clock_that_jumps_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at once nor after a restart, and the limit is kept in the sum of both runs of the server."""
    clocks = Clocks(monkeypatch)
    async with open_room(tmp_path, agents_stay=True, timeouts__execution="60m") as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "sleep 600")
        for wall in (100 * DAY, -100 * DAY):
            clocks.wall = wall
            await is_checked(session)
            assert session.state.current is not None
        clocks.monotonic = HOUR // 2
        await is_checked(session)
        assert session.state.current is not None
    clocks.wall = 3 * DAY
    async with open_room(tmp_path, timeouts__execution="60m") as room:
        session = room.projects.get(project_id)
        await is_checked(session)
        assert session.state.current is not None
        clocks.monotonic = HOUR + 1
        session.loops.tick.set()
        finished = await room.eventually(ExecutionFinished)
        assert finished.status is ExecutionStatus.TIMEOUT
        assert HOUR < finished.duration < 2 * HOUR


async def test_a_wait_for_an_approval_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    async with open_room(tmp_path, timeouts__execution="60m") as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "ask Bash sleep 600")
        await until(lambda: bool(session.state.approvals))
        clocks.wall, clocks.monotonic = -DAY, 2 * HOUR
        await is_checked(session)
        await client.approve(project_id, next(iter(session.state.approvals)))
        await is_checked(session)
        assert session.state.current is not None
        assert 2 * HOUR <= session.state.current.waited_ms / 1000 < 3 * HOUR
        assert 2 * HOUR <= room.seen.of(ApprovalResolved)[0].waited < 3 * HOUR
        clocks.monotonic = 3 * HOUR + 60
        session.loops.tick.set()
        finished = await room.eventually(ExecutionFinished)
        assert finished.status is ExecutionStatus.TIMEOUT


async def test_a_wall_clock_that_jumps_ends_no_execution_that_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was set during the run, and the process was lost afterwards."""
    clocks = Clocks(monkeypatch)
    async with (
        open_room(tmp_path, timeouts__execution="60m", executions__resume_interrupted="always") as room,
        room.client() as client,
    ):
        session = await room.project()
        await client.execute(session.state.record.id, "lines 1 sleep 600")
        await until(lambda: room.hub.channels[session.state.record.id].head > 2)
        clocks.wall, clocks.monotonic = 2 * HOUR, HOUR // 2
        os.kill(room.seen.of(ProcessSpawned)[0].pid, signal.SIGKILL)
        continued = await room.eventually(ExecutionContinued)
        assert HOUR < continued.waited < 2 * HOUR, "all but the half hour in which it ran"
        await is_checked(session)
        assert ExecutionStatus.TIMEOUT not in [event.status for event in room.seen.of(ExecutionFinished)]
