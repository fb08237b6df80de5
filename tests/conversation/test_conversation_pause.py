"""Paused executions: a usage limit, a lost process; how they continue, and that the queue waits for them."""

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from pocket_agent.claude.process import kill_leftovers
from pocket_agent.client import Backoff, Client
from pocket_agent.conversation.accounting import UsageLimits
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.events import ExecutionContinued, ExecutionFinished, ExecutionPaused
from pocket_agent.model import ExecutionStatus, HoldReason, Milliseconds, UsageWindow
from pocket_agent.protocol.requests import ExecutionData
from pocket_agent.settings import LiveSettings, load_settings
from pocket_agent.storage import Change, connection_beside
from pocket_agent.storage.database import database_path
from tests.conversation import sample
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually, stored
from tests.harness.server import ServerProcess
from tests.server.room import Room, open_room, until

REFUSED = {"type": "result", "is_error": True, "terminal_reason": "api_error", "api_error_status": 429, "result": "no"}


def limit(seconds: float, word: str = "limited") -> str:
    """A prompt that meets a usage limit which is reset after these seconds."""
    info = {"status": "rejected", "resetsAt": time.time() + seconds, "rateLimitType": "five_hour"}
    reported = {"type": "rate_limit_event", "rate_limit_info": info}
    lines = " print ".join(json.dumps(line, separators=(",", ":")) for line in (reported, REFUSED))
    return f"{word} noresult print {lines}"


def waiting(conversation: Conversation) -> list[tuple[str, ExecutionStatus]]:
    """The first words of the prompts that wait, and their status."""
    return [(execution.prompt.split()[0], execution.status) for execution in conversation.state.queue]


async def is_paused(room: Room, conversation: Conversation) -> None:
    """Wait until the execution of a project is paused."""
    await until(lambda: bool(conversation.state.queue) and conversation.state.queue[0].status.is_paused)


async def said(room: Room, conversation: Conversation) -> list[str]:
    """What the agent was given, in order."""
    log = conversation.state.log.record
    entries = await room.store.read(log, after=0, limit=1000, max_bytes=2**20)
    return [json.loads(entry.data)["prompt"].split()[0] for entry in entries if entry.type == "prompt"]


async def test_it_continues_after_the_reset_and_the_queue_behind_it(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, limit(0.5))
        await client.execute(project_id, "second")
        await client.execute(project_id, "third")
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 3)
        assert await said(room, session) == ["limited", "A", "second", "third"]
        (paused,) = room.seen.of(ExecutionPaused)
        (continued,) = room.seen.of(ExecutionContinued)
        assert (paused.reason, continued.reason) == (HoldReason.USAGE_LIMIT, HoldReason.USAGE_LIMIT)
        assert continued.context == paused.context == room.seen.of(ExecutionFinished)[0].context
        assert continued.waited > 0
        ended = room.seen.of(ExecutionFinished)
        assert ended[0].duration > continued.waited > ended[0].measured, "the time paused is no time of an execution"
        assert ended[1].measured == ended[1].duration
        assert session.state.record.queue_hold is None
        assert [event.status for event in room.seen.of(ExecutionFinished)] == [ExecutionStatus.SUCCESS] * 3


async def test_a_paused_prompt_is_before_those_that_were_promoted_while_it_ran(tmp_path: Path) -> None:
    """A prompt that had been promoted itself has a position next to that of the first one behind it."""
    first_gate, second_gate = tmp_path / "first-gate", tmp_path / "second-gate"
    first_gate.touch()
    second_gate.touch()
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, f"metered {first_gate} 1")
        await client.execute(project_id, "second")
        paused = await client.execute(project_id, f"metered {second_gate} 1 {limit(600)}")
        await client.promote_prompt(project_id, paused.execution_id)
        third = await client.execute(project_id, "third")
        first_gate.write_bytes(b"1")
        await until(lambda: session.state.current is not None and session.state.current.id == paused.execution_id)
        for execution_id in (third.execution_id, session.state.queue[0].id):
            await client.promote_prompt(project_id, execution_id)
        second_gate.write_bytes(b"1")
        await until(lambda: session.state.current is None)
        expected = [("metered", "waiting"), ("second", "queued"), ("third", "queued")]
        assert waiting(session) == expected
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        assert waiting(session) == expected
        await client.promote_prompt(project_id, third.execution_id)
        assert [prompt for prompt, _ in waiting(session)] == ["metered", "third", "second"]


async def test_it_waits_for_a_client_when_the_setting_is_off(tmp_path: Path) -> None:
    """The time until which it waits, its place and its status survive the server."""
    async with open_room(tmp_path, limits__resume_after_reset="off") as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, limit(600))
        await is_paused(room, session)
        hold = session.state.record.queue_hold
        assert hold is not None
        assert (hold.reason, hold.until) == (HoldReason.USAGE_LIMIT, None)
        assert session.loops._hold_left() is None
        queued = await client.execute(project_id, "second")
        assert queued.position == 2
        assert session.state.record.queue_hold == hold
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        assert waiting(session) == [("limited", ExecutionStatus.WAITING), ("second", ExecutionStatus.QUEUED)]
        assert session.state.record.queue_hold == hold
        assert [window.window for window in session.state.view().usage_windows] == ["five_hour"]
        await client.resume_queue(project_id)
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 2)
        assert await said(room, session) == ["limited", "A", "second"]


@pytest.mark.parametrize("by", ["reload", "restart"])
async def test_a_setting_that_is_switched_off_while_it_waits_ends_the_time(tmp_path: Path, by: str) -> None:
    """Clients show no time at which nothing happens."""
    off = "off" if by == "restart" else "on"
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, limit(600))
        await is_paused(room, session)
    async with open_room(tmp_path, limits__resume_after_reset=off) as room:
        session = room.projects.get(project_id)
        if by == "reload":
            hold = session.state.record.queue_hold
            assert hold is not None
            assert hold.until is not None
            room.reload(limits__resume_after_reset="off")

        def is_open_ended() -> bool:
            hold = session.state.record.queue_hold
            return hold is not None and hold.until is None and " at " not in hold.message

        await until(is_open_ended)


async def test_the_conversation_is_another_one_when_it_continues(tmp_path: Path) -> None:
    """Its session has not got the prompt, so it gets it again."""
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, f"first {limit(600)}")
        await is_paused(room, session)
        await client.new_session(project_id)
        await client.resume_queue(project_id)
        await until(lambda: len(room.seen.of(ExecutionPaused)) == 2)
        assert await said(room, session) == ["first", "first"]
        assert session.state.queue[0].continuations == 0


async def test_a_revoked_device_loses_its_paused_prompt(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        await client.execute(session.state.record.id, limit(600))
        await is_paused(room, session)
        withdrawn = await session.prompts.withdraw(lambda execution: execution.device_id == "d-1")
        assert (withdrawn.count, waiting(session), session.state.record.queue_hold) == (1, [], None)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
async def test_a_server_killed_around_the_reset(standin_server: ServerProcess, folder: Path, kills: int) -> None:
    """Wherever it is killed between the refusal and the end of the continuation, that runs once, and in order."""
    seed = 16
    print("seed", seed)
    chance = random.Random(seed)  # noqa: S311 - it has to be the same each time
    server = standin_server
    async with server.client(backoff=Backoff(initial=0.01, maximum=0.1)) as client:
        project = await client.create_project(str(folder))
        for number in range(kills):
            await client.execute(project.id, limit(0.4, f"limited-{number}"), timeout=DEADLINE_SECONDS)
            last = await client.execute(project.id, f"after-{number}", timeout=DEADLINE_SECONDS)
            await asyncio.sleep(chance.uniform(0, 0.8))
            await server.kill()
            await server.start()

            async def is_over(execution_id: str = last.execution_id) -> bool:
                found = await _executions(client, project.id)
                return found[execution_id].status == "success"

            await eventually(is_over, "the prompt behind the limit has run")
        log = await stored(client, project.id)
        assert {found.status for found in (await _executions(client, project.id)).values()} == {"success"}
    given = [json.loads(line.data)["prompt"].split()[0] for line in log if line.type == "prompt"]
    assert given == [word for number in range(kills) for word in (f"limited-{number}", "A", f"after-{number}")]
    continued = [line for line in log if line.type == "agent_message" and b'"text": "reset:"' in line.data]
    assert len(continued) == kills


async def _executions(client: Client, project_id: str) -> dict[str, ExecutionData]:
    page = await client.executions(project_id, limit=200)
    return {found.execution_id: found for found in page.executions}


async def lose_agent(folder: Path, prompts: list[str], *, boot: str | None) -> str:
    """Run prompts until the first asks for an approval, stop the server, and end the agent; returns the project's id.

    Args:
        folder: of the server.
        prompts: the first one runs; one that asks does so before.
        boot: the boot of the machine in which the agent is recorded; None for the present one, as in a container whose
            PID 1 is the server.
    """
    async with open_room(folder, agents_stay=True) as room, room.client() as client:
        session = await room.project()
        for prompt in prompts:
            await client.execute(session.state.record.id, prompt)
        await until(lambda: session.state.work.turn == "prompt")
        await until(lambda: bool(session.state.approvals) or "ask" not in prompts[0])
        record = await room.store.process(session.state.record.id)
        assert record is not None
    await kill_leftovers(record.pid, record.start_time, record.boot_id, record.id)
    os.kill(record.pid, signal.SIGKILL)
    if boot is not None:
        with connection_beside(database_path(folder / "data")) as connection, connection:
            connection.execute("UPDATE process SET boot_id = ?", (boot,))
    return str(session.state.record.id)


@pytest.mark.parametrize("boot", ["another boot", None])
async def test_a_reboot_asks(tmp_path: Path, boot: str | None) -> None:
    """The queue waits for the answer: continue, or drop."""
    project_id = await lose_agent(tmp_path, ["first lines 1 ask Bash", "second"], boot=boot)
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        (paused,) = room.seen.of(ExecutionPaused)
        assert (paused.reason, paused.until) == (HoldReason.LOST, None)
        assert waiting(session) == [("first", ExecutionStatus.INTERRUPTED), ("second", ExecutionStatus.QUEUED)]
        hold = session.state.record.queue_hold
        assert hold is not None
        assert (hold.reason, hold.until, session.state.record.state) == (HoldReason.LOST, None, "IDLE")
        assert session.state.approvals == {}
        await client.execute(project_id, "third")
        assert session.state.record.queue_hold == hold
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        assert session.state.record.queue_hold == hold
        await client.resume_queue(project_id)
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 3)
        assert await said(room, session) == ["first", "Your", "second", "third"]
        assert [event.status for event in room.seen.of(ExecutionFinished)] == [ExecutionStatus.SUCCESS] * 3
        assert room.seen.of(ExecutionFinished)[0].waited > 0


async def test_a_lost_execution_is_dropped(tmp_path: Path) -> None:
    project_id = await lose_agent(tmp_path, ["first lines 1 ask Bash", "second"], boot="another boot")
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        await client.cancel_prompt(project_id, session.state.queue[0].id)
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 1)
        assert await said(room, session) == ["first", "second"]
        page = await client.executions(project_id)
        assert [found.status for found in page.executions] == ["success", "cancelled"]


async def test_always_continues_and_never_ends_it(tmp_path: Path) -> None:
    for setting, words, status in (
        ("always", ["first", "Your", "second"], ExecutionStatus.SUCCESS),
        ("never", ["first", "second"], ExecutionStatus.ERROR),
    ):
        folder = tmp_path / setting
        folder.mkdir()
        project_id = await lose_agent(folder, ["first lines 1 ask Bash", "second"], boot="another boot")
        async with open_room(folder, executions__resume_interrupted=setting) as room:
            session = room.projects.get(project_id)
            await until(lambda: len(room.seen.of(ExecutionFinished)) == 2)
            assert await said(room, session) == words
            assert room.seen.of(ExecutionFinished)[0].status is status
            assert session.state.record.queue_hold is None


async def test_an_agent_that_something_else_ends(tmp_path: Path) -> None:
    """Such as the kernel, when memory runs out."""
    async with open_room(tmp_path, executions__resume_interrupted="always") as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "first lines 1 sleep 600")
        await until(lambda: session.state.work.turn == "prompt")
        record = session._agent.record
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 1)
        assert await said(room, session) == ["first", "Your"]


async def test_a_prompt_that_nothing_was_heard_of_is_given_again(tmp_path: Path) -> None:
    """Under its own uuid, by which a session that has it skips it."""
    async with open_room(tmp_path) as room:
        session = await room.project()
        lost = sample.execution(
            id="e-9",
            conversation_id=session.state.record.id,
            status=ExecutionStatus.STARTING,
            prompt="again",
        )
        await room.store.commit(Change(executions=(lost,)))
        project_id = session.state.record.id
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        assert waiting(session) == [("again", ExecutionStatus.INTERRUPTED)]
        await client.resume_queue(project_id)
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 1)
        assert await said(room, session) == ["again"]


def test_when_it_continues() -> None:
    """After the reset, up to a minute later; later and later while the reset is over and the limit is not."""
    at = Milliseconds(1_000_000_000)
    limits = UsageLimits(clock=lambda: at)
    for seconds, most in ((10, 1), (600, 60), (604_800, 60)):
        reset = Milliseconds(at + seconds * 1000)
        found = {limits.resumes_at(reset, 0) for _ in range(20)}
        assert all(until is not None and reset <= until <= reset + most * 1000 for until in found)
        assert len(found) > 1
    late = [limits.resumes_at(Milliseconds(at - 1), continuations) or at for continuations in range(12)]
    assert late[0] >= at + 5_000
    assert late[-1] <= at + 3_660_000
    assert late[2] > late[1] > late[0]


def test_windows_end_with_their_reset(tmp_path: Path) -> None:
    at = [Milliseconds(1_000)]
    noted: list[tuple[UsageWindow, ...]] = []
    live = LiveSettings(load_settings(config=None, environ={}, flags={"data.dir": tmp_path}))
    limits = UsageLimits(live, lambda: at[0], noted.append)
    short, long = UsageWindow("five_hour", 0.5, Milliseconds(2_000)), UsageWindow("seven_day", 0.1, Milliseconds(9_000))
    assert limits.report([short, long])
    assert not limits.report([long])
    assert limits.windows == (short, long)
    at[0] = Milliseconds(2_000)
    assert list(limits.windows) == [long]
    assert noted == [(short, long)]
    assert limits.resumes
