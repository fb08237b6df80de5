"""Time limits and waits by the monotonic clock, which no change of the wall clock moves."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.client import Client
from pocket_agent.conversation.accounting import Budget
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.events import ApprovalResolved, ExecutionContinued, ExecutionFinished, ProcessSpawned
from pocket_agent.model import ExecutionStatus, Spending
from pocket_agent.storage import Change
from tests.conversation.test_conversation_pause import is_paused, limit, lose_agent
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
            (shown,) = room.report.overview().running
            assert 0 <= shown.duration_ms < HOUR * 1000
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


async def test_a_prompt_stays_behind_a_paused_one_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch)
    async with open_room(tmp_path, limits__resume_after_reset="off") as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, f"first {limit(600)}")
        await is_paused(room, session)
        clocks.wall = -DAY
        given = [await client.execute(project_id, prompt, when="now") for prompt in ("third", "second")]
        await client.promote_prompt(project_id, given[1].execution_id)
        assert [found.prompt.split()[0] for found in session.state.queue] == ["first", "second", "third"]
        assert session.state.record.queue_hold is not None


async def test_a_hold_of_a_clock_that_was_ahead_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reset seemed to be over, so the hold would end soon by that clock: a year later by the right one."""
    clocks = Clocks(monkeypatch)
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        prompt = limit(600)
        clocks.wall = 365 * DAY
        await client.execute(session.state.record.id, prompt)
        await is_paused(room, session)
        clocks.wall = 0
        session.loops.tick.set()
        await room.eventually(ExecutionContinued)


async def test_a_start_while_the_clock_is_ahead_keeps_the_budget_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = "2030-01-02"
    monkeypatch.setattr(Budget, "today", property(lambda _: today))
    async with open_room(tmp_path) as room:
        project_id = (await room.project()).state.record.project_id
        await room.store.commit(Change(spent=(Spending(today, project_id, "project", "opus", cost_usd=2.0),)))
    today = "2031-01-02"
    async with open_room(tmp_path) as room:
        assert room.projects.budget.spent_usd == 0
        today = "2030-01-02"
        assert room.projects.budget.spent_usd == 2


async def continue_anew(client: Client, session: Conversation) -> None:
    """Continue a paused execution with its own prompt."""
    await client.new_session(session.state.record.id)
    await client.resume_queue(session.state.record.id)
    await until(lambda: session.state.work.turn == "prompt")
    await is_checked(session)
    assert session.state.current is not None


@pytest.mark.parametrize("boot", ["another boot", None])
async def test_the_time_in_which_the_machine_was_off_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str | None
) -> None:
    clocks = Clocks(monkeypatch)
    project_id = await lose_agent(tmp_path, ["lines 1 sleep 600"], boot=boot)
    clocks.wall = clocks.monotonic = 10 * HOUR
    async with open_room(tmp_path, timeouts__execution="60m") as room, room.client() as client:
        session = room.projects.get(project_id)
        await continue_anew(client, session)
        clocks.monotonic += HOUR
        session.loops.tick.set()
        finished = await room.eventually(ExecutionFinished)
        assert finished.status is ExecutionStatus.TIMEOUT


async def test_a_wall_clock_that_jumps_before_a_pause_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a machine that was suspended before its agent met a usage limit."""
    clocks = Clocks(monkeypatch)
    settings: dict[str, Any] = {"timeouts__execution": "60m", "limits__resume_after_reset": "off"}
    async with open_room(tmp_path, **settings) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        gate = tmp_path / "gate"
        gate.touch()
        await client.execute(project_id, f"metered {gate} 1 {limit(600)}")
        await until(lambda: session.state.work.turn == "prompt")
        clocks.wall, clocks.monotonic = DAY, HOUR // 2
        gate.write_bytes(b"1")
        await is_paused(room, session)
        gate.write_bytes(b"")
        await continue_anew(client, session)
        clocks.monotonic += HOUR // 2
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
        assert continued.waited > HOUR, "all but the time in which it ran"
        await is_checked(session)
        assert ExecutionStatus.TIMEOUT not in [event.status for event in room.seen.of(ExecutionFinished)]
