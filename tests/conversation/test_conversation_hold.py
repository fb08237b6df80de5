"""The queue on hold, and what stops an execution stops no other one."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pocket_agent.client import Client
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.errors import ExecutionFailedError, ProcessNotFoundError
from pocket_agent.events import ExecutionDelayed, ExecutionFinished, ExecutionStarted, ProcessExited
from pocket_agent.model import ExecuteOptions, ExecutionId, ExecutionStatus, HoldReason
from tests.conversation.sample import execution
from tests.server.room import Room, open_room, until

NOBODY = "00000000-0000-4000-8000-000000000000"


def waiting(conversation: Conversation) -> list[str]:
    """The prompts that wait."""
    return [execution.prompt for execution in conversation.state.queue]


def hold(conversation: Conversation) -> HoldReason | None:
    """Why they do not start."""
    found = conversation.state.record.queue_hold
    return found.reason if found is not None else None


def _is_held(room: Room, conversation: Conversation, ended: int) -> bool:
    return hold(conversation) is not None and len(ends(room)) == ended


async def until_prompt(conversation: Conversation, prompt: str) -> None:
    """Wait until this prompt runs."""
    await until(lambda: conversation.state.current is not None and conversation.state.current.prompt == prompt)


def ends(room: Room) -> list[ExecutionStatus]:
    """How the executions ended, in order."""
    return [event.status for event in room.seen.of(ExecutionFinished)]


@pytest.mark.parametrize(("stop", "reason"), [("kill", HoldReason.KILLED), ("interrupt", HoldReason.INTERRUPTED)])
async def test_a_stop_that_holds_the_queue(tmp_path: Path, stop: str, reason: HoldReason) -> None:
    """It survives the server, and ends with `queue_resume`."""
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        first = await client.execute(project_id, "ask Bash")
        await client.execute(project_id, "ask Bash second")
        await client.execute(project_id, "third")
        await until(lambda: bool(session.state.approvals))
        async with client.subscribe(project_id) as stream:
            act: Any = getattr(client, stop)
            reply = await act(project_id, execution_id=first.execution_id, hold_queue=True)
            assert reply.execution_id == first.execution_id
            async for frame in stream:
                if frame.type == "queue_state":
                    told = frame.data
                    break
        await until(lambda: session.state.current is None)
        assert (told["queue_hold"]["reason"], len(told["queue"])) == (reason, 2)
        assert (await client.projects())[0].queue_hold is not None
        assert (hold(session), waiting(session)) == (reason, ["ask Bash second", "third"])
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        assert (hold(session), waiting(session)) == (reason, ["ask Bash second", "third"])
        assert session.state.current is None
        assert (await client.resume_queue(project_id)).status == "resumed"
        await until_prompt(session, "ask Bash second")
        assert (await client.projects())[0].queue_hold is None
        # Without the wish, the next one starts as ever; without a hold, resuming changes nothing.
        await client.resume_queue(project_id)
        await client.kill(project_id)
        await until(lambda: len(ends(room)) == 2)
        assert ends(room) == [ExecutionStatus.KILLED, ExecutionStatus.SUCCESS]


@pytest.mark.parametrize(("stop", "reason"), [("kill", HoldReason.KILLED), ("interrupt", HoldReason.INTERRUPTED)])
async def test_a_stop_of_work_without_a_prompt_holds_the_queue(tmp_path: Path, stop: str, reason: HoldReason) -> None:
    async with open_room(tmp_path, claude__interrupt_grace="1ms") as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, 'lines 1 after print {"type":"system","subtype":"init"} sleep 600')
        await until(lambda: session.state.works_alone)
        await client.execute(project_id, "second")
        await getattr(client, stop)(project_id, hold_queue=True)
        await until(lambda: not session.state.is_busy)
        assert (hold(session), waiting(session)) == (reason, ["second"])
        await client.resume_queue(project_id)
        await until(lambda: ends(room) == [ExecutionStatus.SUCCESS] * 2)


async def begin(client: Client, session: Conversation, gate: Path) -> None:
    """Let a prompt run until the gate opens, in a turn that takes up others."""
    await client.execute(session.state.record.id, f"metered {gate} 1")
    await until(lambda: session.state.work.turn == "prompt")
    async with session.loops.mutex:  # as a CLI that reports the states of prompts
        work = replace(session.state.work, prompt="started")
        session.state.account = replace(session.state.account, work=work)


async def steer(client: Client, session: Conversation, gate: Path) -> None:
    """Let a prompt run until the gate opens, and write another one into its turn."""
    await begin(client, session, gate)
    assert (await client.execute(session.state.record.id, "steered", when="now")).status == "steering"


async def test_prompts_that_the_turn_has_not_taken_up_keep_their_order(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await begin(client, session, gate)
        given = [await client.execute(project_id, prompt) for prompt in ("second", "first", "third")]
        for prompt in (given[1], given[0]):
            await client.promote_prompt(project_id, prompt.execution_id)
        assert [execution.prompt for execution in session.state.steering] == ["first", "second"]
        await client.kill(project_id, hold_queue=True)
        assert waiting(session) == ["first", "second", "third"]
    async with open_room(tmp_path) as room:
        assert waiting(room.projects.get(project_id)) == ["first", "second", "third"]


@pytest.mark.parametrize(("stop", "reason"), [("kill", HoldReason.KILLED), ("interrupt", HoldReason.INTERRUPTED)])
async def test_a_stop_holds_a_prompt_that_the_turn_has_not_taken_up(
    tmp_path: Path, stop: str, reason: HoldReason
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with open_room(tmp_path, claude__interrupt_grace="1ms") as room, room.client() as client:
        session = await room.project()
        await steer(client, session, gate)
        await getattr(client, stop)(session.state.record.id, hold_queue=True)
        await until(lambda: session.state.current is None)
        assert (hold(session), waiting(session)) == (reason, ["steered"])
        gate.write_bytes(b"1")
        await client.resume_queue(session.state.record.id)
        await until(lambda: ends(room) == [ExecutionStatus.KILLED, ExecutionStatus.SUCCESS])


async def test_a_hold_ends_when_its_prompts_run_in_a_turn_of_the_agent(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        await steer(client, session, gate)
        await client.interrupt(session.state.record.id, hold_queue=True)
        gate.write_bytes(b"1")
        await until(lambda: len(ends(room)) == 2)
        assert (hold(session), waiting(session)) == (None, [])


async def test_a_hold_ends_with_a_new_prompt_or_with_the_last_that_waits(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "ask Bash")
        queued = await client.execute(project_id, "queued", prompt_id="p-1")
        await client.kill(project_id, hold_queue=True)
        await client.execute(project_id, "queued", prompt_id="p-1")
        await client.edit_prompt(project_id, queued.execution_id, "edited")
        assert (hold(session), waiting(session)) == (HoldReason.KILLED, ["edited"])
        await client.cancel_prompt(project_id, queued.execution_id)
        assert hold(session) is None

        await client.execute(project_id, "ask Bash")
        await client.execute(project_id, "ask Bash one")
        await client.kill(project_id, hold_queue=True)
        newest = await client.execute(project_id, "two")
        assert (newest.status, newest.position, hold(session)) == ("queued", 2, None)
        await until_prompt(session, "ask Bash one")
        assert waiting(session) == ["two"]

        # Nothing waits, so nothing is held.
        await client.cancel_prompt(project_id, newest.execution_id)
        await client.kill(project_id, hold_queue=True)
        assert hold(session) is None


async def test_a_stop_that_names_an_execution_stops_no_other(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        over = await client.execute(project_id, "lines 1")
        await room.eventually(ExecutionFinished)
        running = await client.execute(project_id, "ask Bash")
        queued = await client.execute(project_id, "later")
        for act in (client.kill, client.interrupt):
            for execution_id in (over.execution_id, queued.execution_id, NOBODY):
                with pytest.raises(ProcessNotFoundError, match="not running"):
                    await act(project_id, execution_id=execution_id, hold_queue=True)
        assert (hold(session), waiting(session)) == (None, ["later"])
        assert session.state.current is not None
        assert session.state.current.id == running.execution_id
        assert session.state.end_status is None


async def test_the_deadline_of_an_interrupt_ends_with_its_execution(tmp_path: Path) -> None:
    """The next execution starts before the clock runs again, and is not what the deadline ends."""
    async with open_room(tmp_path, claude__interrupt_grace="1ms") as room, room.client() as client:
        session = await room.project()
        project_id, life, state = session.state.record.id, session.loops, session.state
        await client.execute(project_id, "ask Bash")
        await until(lambda: bool(state.approvals))
        following = execution(
            id=ExecutionId("e-2"), conversation_id=project_id, prompt="ask Bash next", status=ExecutionStatus.QUEUED
        )
        async with life.mutex:
            await life.interrupt()
            while not ends(room):
                if not await life.runner.ingest_batch():
                    await session._agent.activity()
            assert await life.start_now(following)
        await until(lambda: not life.tick.is_set() and not life.mutex.locked())
        async with life.mutex:
            assert [state.current and state.current.id, state.end_status] == ["e-2", None]
        assert ends(room) == [ExecutionStatus.KILLED]


async def test_the_deadline_of_an_interrupt_ends_with_its_own_turn(tmp_path: Path) -> None:
    """The agent begins another one at once, for a task that has ended too."""
    async with open_room(tmp_path, claude__interrupt_grace="1ms") as room, room.client() as client:
        session = await room.project()
        project_id, life, state = session.state.record.id, session.loops, session.state
        gate = tmp_path / "gate"
        gate.touch()
        begin, end = '{"type":"system","subtype":"init"}', '{"type":"result","is_error":true}'
        words = f"metered {gate} 1 print {end} print {begin} metered {gate} 2 print {end}"
        await client.execute(project_id, f"hello after print {begin} {words}")
        await until(lambda: state.works_alone)
        results = state.results
        async with life.mutex:
            await life.interrupt()
            gate.write_bytes(b"1")
            while state.results == results or not state.works_alone:
                if not await life.runner.ingest_batch():
                    await session._agent.activity()
        life.tick.set()
        await until(lambda: not life.tick.is_set() and not life.mutex.locked())
        async with life.mutex:
            assert not room.seen.of(ProcessExited)
        gate.write_bytes(b"12")
        await until(lambda: not state.works_alone)
        assert not room.seen.of(ProcessExited)


LIMIT = r'noresult print {"type":"result","is_error":true,"terminal_reason":"api_error","api_error_status":429}'
"""A prompt that meets a usage limit, as the CLI tells it."""


async def test_a_fault_that_is_not_the_prompts_ends_one_of_them_alone(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, f"ask Bash {LIMIT}")
        for number in range(5):
            await client.execute(project_id, f"{number} {LIMIT}")
        await until(lambda: bool(session.state.approvals))
        await client.approve(project_id, next(iter(session.state.approvals)))
        await until(lambda: hold(session) is not None)
        assert (hold(session), len(waiting(session)), ends(room)) == ("usage_limit", 5, [ExecutionStatus.ERROR])
        assert session.state.record.state == "ERROR"
        (delayed,) = room.seen.of(ExecutionDelayed)
        assert "usage limit" in delayed.reason
        # Each resumption is one more attempt.
        await client.resume_queue(project_id)
        await until(lambda: hold(session) is not None and len(ends(room)) == 2)
        assert len(waiting(session)) == 4
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        assert (hold(session), len(waiting(session))) == ("usage_limit", 4)
        await client.execute(project_id, "last")
        await until(lambda: hold(session) is not None and len(ends(room)) == 1)
        assert waiting(session)[-1] == "last"


@pytest.mark.parametrize("what", ["project", "added", "servers.json"])
async def test_the_directory_is_away_for_a_moment(tmp_path: Path, what: str) -> None:
    """Nothing is lost, and the queue goes on by itself, also when a process waits that was started there."""
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        (tmp_path / "added").mkdir()
        (tmp_path / "servers.json").write_text("{}")
        options = ExecuteOptions(add_dirs=(str(tmp_path / "added"),), mcp_config=str(tmp_path / "servers.json"))
        await client.execute(project_id, "ask Bash", options=options)
        for number in range(3):
            await client.execute(project_id, f"word-{number}", options=options)
        await until(lambda: bool(session.state.approvals))
        (tmp_path / what).rename(tmp_path / "away")
        await client.kill(project_id)
        await until(lambda: hold(session) is not None)
        assert (hold(session), len(waiting(session))) == ("directory", 3)
        assert not await session.loops._is_cause_gone()
        (tmp_path / "away").rename(tmp_path / what)
        await until(lambda: len(ends(room)) == 4)
        assert ends(room) == [ExecutionStatus.KILLED, *[ExecutionStatus.SUCCESS] * 3]
        assert hold(session) is None


async def test_a_warm_process_gets_no_prompt_while_its_directory_is_away(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "first")
        await until(lambda: ends(room) == [ExecutionStatus.SUCCESS])
        (tmp_path / "project").rename(tmp_path / "away")
        with pytest.raises(ExecutionFailedError, match="directory is gone"):
            await client.execute(project_id, "second")
        (tmp_path / "away").rename(tmp_path / "project")
        await client.execute(project_id, "third")
        await until(lambda: ends(room) == [ExecutionStatus.SUCCESS] * 2)
        assert [event.warm for event in room.seen.of(ExecutionStarted)] == [False, True]


async def test_the_cli_is_away_for_a_moment(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "ask Bash")
        await client.execute(project_id, "word")
        (tmp_path / "claude").rename(tmp_path / "elsewhere")
        await client.kill(project_id)
        await until(lambda: hold(session) is not None)
        assert (hold(session), waiting(session)) == ("cli", ["word"])
        (tmp_path / "elsewhere").rename(tmp_path / "claude")
        await until(lambda: len(ends(room)) == 2)
        assert hold(session) is None


async def test_a_cli_that_cannot_start_ends_one_prompt_alone(tmp_path: Path) -> None:
    """Neither with an error result before its `init`, nor without a word; the conversation stays."""
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "ask Bash")
        await until(lambda: bool(session.state.approvals))
        for prompt in ("one", "two"):
            await client.execute(project_id, prompt)
        kept = session.state.record.session_id
        assert kept is not None
        program = tmp_path / "claude"
        works = program.read_text()
        broken = r'{"type":"result","is_error":true,"session_id":"another","errors":["Configuration error in x"]}'
        for number, body in enumerate((f"echo '{broken}'", "true"), 1):
            program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo 9.9.9 && exit\n{body}\nexit 1\n')
            if number == 1:
                await client.kill(project_id)
            else:
                await client.execute(project_id, "three")
            await until(partial(_is_held, room, session, 1 + number))
            assert (hold(session), session.state.record.session_id) == ("start", kept)
        program.write_text(works)
        await client.resume_queue(project_id)
        await until(lambda: not waiting(session) and session.state.current is None)
        assert ends(room)[-1] is ExecutionStatus.SUCCESS
        assert session.state.record.session_id == kept
