"""What runs without a prompt, in processes that a stand-in plays: the limits that hold for it, and its end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pocket_agent.client import Client
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.errors import ApprovalNotFoundError, ProcessActiveError
from pocket_agent.events import ExecutionFinished, ProcessExited
from pocket_agent.model import ExecuteOptions, ProjectState
from pocket_agent.protocol.requests import ExecuteData
from tests.harness.follow import alive, eventually, follow
from tests.harness.server import ServerProcess
from tests.server.room import Room, open_room, until


def lines(*values: dict[str, object]) -> str:
    """Words that make the stand-in print these lines after its result."""
    return "after " + " ".join(f"print {json.dumps(value, separators=(',', ':'))}" for value in values)


def tasks(*types: str) -> dict[str, object]:
    """The CLI's line about what runs in the background."""
    told = [{"task_id": f"t-{kind}", "task_type": kind, "description": kind} for kind in types]
    return {"type": "system", "subtype": "background_tasks_changed", "tasks": told}


SUBAGENT = tasks("local_agent")
COMMAND = tasks("local_bash")
NOTHING = tasks()
INIT: dict[str, object] = {"type": "system", "subtype": "init"}
REQUEST = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "date"}, "agent_id": "t-local_agent"}
ASKS: dict[str, object] = {"type": "control_request", "request_id": "r-1", "request": REQUEST}


async def run(client: Client, conversation: Conversation, prompt: str, ended: Callable[[], bool]) -> None:
    """Give a prompt and wait until what it leaves behind is known."""
    await client.execute(conversation.state.record.id, f"hello {prompt}")
    await until(ended)


@pytest.mark.parametrize("line", [SUBAGENT, INIT], ids=["subagent", "own turn"])
async def test_the_time_limit_holds_without_a_prompt(tmp_path: Path, line: dict[str, object]) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        state = session.state
        await run(client, session, lines(line), lambda: state.works_alone)
        await room.eventually(ExecutionFinished)
        room.reload(timeouts__execution="1ms")
        await room.eventually(ProcessExited)
        await until(lambda: not state.works_alone)
        assert state.shown is ProjectState.ERROR
        page = await client.messages(state.record.id, since=0)
        (error,) = [json.loads(bytes(message.message)) for message in page.messages if message.type == "error"]
        assert error["code"] == "EXECUTION_TIMEOUT"


async def test_an_answer_that_is_awaited_stops_the_time_limit(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        state = session.state
        await run(client, session, lines(SUBAGENT, ASKS), lambda: bool(state.approvals))
        room.reload(timeouts__execution="1ms")
        clock = session.loops.runner.alone
        elapsed = clock.elapsed
        assert clock.elapsed == elapsed
        (approval,) = state.approvals.values()
        await client.approve(state.record.id, approval.id)
        await room.eventually(ProcessExited)


async def test_work_without_a_prompt_holds_an_execution_slot(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_executions=1, claude__max_processes=1) as room, room.client() as client:
        first, second = await room.project("one"), await room.project("two")
        await run(client, first, lines(SUBAGENT), lambda: first.state.works_alone)
        assert room.projects.capacity.executing == 1
        waiting = await client.execute(second.state.record.id, "hello")
        assert waiting.status == "queued"
        # The project itself has the slot already.
        began = await client.execute(first.state.record.id, f"again {lines(NOTHING)}")
        assert began.status == "started"
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 3)
        await until(lambda: room.projects.capacity.executing == 0)


async def test_a_command_keeps_its_process_and_nothing_else(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"limits__max_executions": 1, "claude__max_processes": 1}
    async with open_room(tmp_path, **settings) as room, room.client() as client:
        first, second = await room.project("one"), await room.project("two")
        await run(client, first, lines(COMMAND), lambda: bool(first.state.work.tasks))
        assert first.state.shown is ProjectState.IDLE
        assert room.projects.capacity.executing == 0
        room.reload(timeouts__idle=0.2)
        for project in (second, first, second):
            assert (await client.execute(project.state.record.id, "hello")).status == "started"
            await until(lambda: room.projects.capacity.executing == 0)
        await room.eventually(ProcessExited)  # the second project's, for idling
        await refuses_other_options(client, first)
        await room.projects.close_idle()
        assert room.seen.of(ProcessExited)[-1].project_id == second.state.record.id
        assert first.state.work.tasks


async def refuses_other_options(client: Client, conversation: Conversation) -> None:
    """What would end the process is refused in words."""
    project_id = conversation.state.record.id
    other = ExecuteOptions(append_system_prompt="Be brief.")
    with pytest.raises(ProcessActiveError, match="local_bash"):
        await client.execute(project_id, "hello", options=other)
    for refused in (client.new_session(project_id), client.delete_project(project_id)):
        with pytest.raises(ProcessActiveError):
            await refused


async def test_a_prompt_with_other_options_waits_for_a_subagent(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        gate = tmp_path / "gate"
        gate.touch()
        words = f"{lines(SUBAGENT)} metered {gate} 1 {lines(NOTHING).removeprefix('after ')}"
        await run(client, session, words, lambda: session.state.works_alone)
        receipt = await execute_otherwise(client, session)
        assert receipt.status == "queued"
        gate.write_bytes(b"1")
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 2)
        assert [found.status for found in room.seen.of(ExecutionFinished)] == ["success", "success"]


async def execute_otherwise(client: Client, conversation: Conversation) -> ExecuteData:
    """Give a prompt that needs another process."""
    options = ExecuteOptions(append_system_prompt="Be brief.")
    return await client.execute(conversation.state.record.id, "hello", options=options)


async def test_a_turn_of_its_own_holds_up_a_prompt_and_no_process_is_closed_before_it(tmp_path: Path) -> None:
    """The CLI tells that a task has ended before it begins a turn for it."""
    ended: dict[str, object] = {
        "type": "system",
        "subtype": "task_notification",
        "task_id": "t-local_bash",
        "status": "completed",
    }
    async with open_room(tmp_path, claude__max_processes=1, limits__max_executions=1) as room, room.client() as client:
        first, second = await room.project("one"), await room.project("two")
        await run(client, first, lines(ended), lambda: first.state.is_turn_due)
        await client.execute(second.state.record.id, "hello")
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 2)
        assert not room.seen.of(ProcessExited)
        await run(client, first, lines(INIT), lambda: first.state.work.turn == "own")
        receipt = await client.execute(first.state.record.id, "hello")
        assert receipt.status == "queued"
        assert first.state.current is None


async def test_a_request_ends_with_its_process(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        state = session.state
        async with client.subscribe(state.record.id) as stream:
            await run(client, session, lines(SUBAGENT, ASKS), lambda: bool(state.approvals))
            (approval,) = state.approvals.values()
            agent = await agent_of(room, session)
            agent.kill()
            await until(lambda: not alive(agent))
            with pytest.raises(ApprovalNotFoundError):
                await client.approve(state.record.id, approval.id)
            seen = await follow(stream, lambda frame: frame.type == "error")
            assert [frame.data["approval_id"] for frame in seen if frame.type == "approval_cancelled"] == [approval.id]
            assert "local_agent" in seen[-1].data["message"]
        assert (state.approvals, state.work.tasks, state.works_alone) == ({}, (), False)


async def agent_of(room: Room, conversation: Conversation) -> psutil.Process:
    """The process of a project."""
    record = await room.store.process(conversation.state.record.id)
    assert record is not None
    return psutil.Process(record.pid)


async def test_a_request_ends_with_its_process_while_the_server_is_away(
    standin_server: ServerProcess, folder: Path
) -> None:
    """kill -9 of both: the next server withdraws what nobody would read the answer to."""
    server = standin_server
    async with server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, f"hello {lines(SUBAGENT, ASKS)}")
            asked = (await follow(stream, lambda frame: frame.type == "approval_requested"))[-1]
        agent = server.agent(project.id)
        await server.kill()
        agent.kill()
        await eventually(lambda: not alive(agent), "it is gone")
    await server.start()
    async with server.client() as client, client.subscribe(project.id, since=0) as stream:
        assert stream.joined is not None
        assert stream.joined.approvals == []
        assert stream.joined.state is not ProjectState.EXECUTING
        seen = await follow(stream, lambda frame: frame.type == "approval_cancelled")
        assert seen[-1].data["approval_id"] == asked.data["approval_id"]
        with pytest.raises(ApprovalNotFoundError):
            await client.approve(project.id, asked.data["approval_id"])
