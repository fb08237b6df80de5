"""What the agent does besides a prompt: subagents, commands in the background, and turns that the CLI begins itself.

With the real CLI (2.1.330 and later), whose `Agent` tool is asynchronous.
"""

import json
from pathlib import Path

import pytest
from tests.harness.follow import eventually, follow, until
from tests.harness.scene import Scene, Stage, is_over, scene, sleeper
from tests.harness.server import ServerProcess

from pocket_agent.client import Frame, Subscription
from pocket_agent.errors import ApprovalNotFoundError, ProcessActiveError, ProcessNotFoundError
from pocket_agent.model import ExecuteOptions

on_stage = pytest.mark.asyncio(loop_scope="session")


async def result_of(stream: Subscription, execution_id: str) -> list[Frame]:
    """The frames up to the `result` that names a prompt."""
    return await follow(
        stream,
        lambda frame: (
            frame.offset is not None
            and frame.data.get("type") == "result"
            and execution_id in frame.data.get("user_message_uuids", [])
        ),
    )


async def subagent_asks(here: Scene, command: str) -> str:
    """A subagent that asks for an approval after its prompt is over; returns the approval's id."""
    receipt = await here.first.execute(here.project_id, f"demo:agent=demo:bash={command}")
    asked, over = "", False

    def last(frame: Frame) -> bool:
        nonlocal asked, over
        if frame.type == "approval_requested":
            asked = frame.data["approval_id"]
            assert frame.data["agent_id"]
        assert frame.type != "approval_cancelled", frame.data
        over = over or (frame.data.get("type") == "result" and receipt.execution_id in frame.data["user_message_uuids"])
        return bool(asked and over)

    await follow(here.one, last)
    return asked


async def state_of(here: Scene) -> tuple[str, list[str], int]:
    """The project's state, the types of its tasks, and how many approvals wait."""
    (project,) = [found for found in await here.first.projects() if found.id == here.project_id]
    return project.state, [task.type for task in project.tasks], project.pending_approvals


@on_stage
async def test_a_subagents_request_outlives_the_turn_and_is_answered(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        approval_id = await subagent_asks(here, "touch sub.txt")
        assert await state_of(here) == ("EXECUTING", ["local_agent"], 1)
        # Another prompt runs next to it, and its result withdraws nothing either.
        text = await here.first.execute(here.project_id, "demo:text")
        await result_of(here.one, text.execution_id)
        assert await state_of(here) == ("EXECUTING", ["local_agent"], 1)
        await here.second.approve(here.project_id, approval_id)
        # To the result of the turn in which the model was told, which may come in one batch with the end of the task.
        seen = await until(here.one, "agent_message", type="result")
        assert "approval_cancelled" not in [frame.type for frame in seen]
        await eventually((folder / "sub.txt").exists, "the subagent has done what was allowed")
        await eventually_idle(here)


async def eventually_idle(here: Scene) -> None:
    """Wait until nothing runs."""

    async def idle() -> bool:
        return await state_of(here) == ("IDLE", [], 0)

    await eventually(idle, "the project is idle")


@on_stage
async def test_an_interrupt_stops_a_subagent_and_withdraws_its_request(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        approval_id = await subagent_asks(here, "touch never.txt")
        reply = await here.second.interrupt(here.project_id)
        assert reply.execution_id is None
        await until(here.one, "approval_cancelled", approval_id=approval_id)
        await eventually_idle(here)
        with pytest.raises(ApprovalNotFoundError):
            await here.first.approve(here.project_id, approval_id)
        assert await here.run("demo:text")
    assert not (folder / "never.txt").exists()


@on_stage
async def test_a_kill_ends_a_subagent_and_a_command_in_the_background(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        approval_id = await subagent_asks(here, "touch never.txt")
        assert (await here.second.kill(here.project_id)).execution_id is None
        seen = await until(here.one, "process_killed")
        assert [frame.data["approval_id"] for frame in seen if frame.type == "approval_cancelled"] == [approval_id]
        await eventually_idle(here)
        await here.run("demo:background=sleep 300")
        command = await sleeper(stage.server.agent(here.project_id))
        # It is seen, does not hold up the next prompt, and does not make the project busy.
        assert await state_of(here) == ("IDLE", ["local_bash"], 0)
        await here.run("demo:text")
        with pytest.raises(ProcessActiveError):
            await here.first.new_session(here.project_id)
        with pytest.raises(ProcessActiveError, match="Run in the background"):
            await here.first.execute(here.project_id, "demo:text", options=ExecuteOptions(append_system_prompt="x"))
        assert await state_of(here) == ("IDLE", ["local_bash"], 0)
        await here.second.kill(here.project_id)
        await is_over(command)
        await eventually_idle(here)
        with pytest.raises(ProcessNotFoundError):
            await here.second.kill(here.project_id)


@on_stage
async def test_an_interrupt_stops_a_command_when_nothing_else_runs(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        await here.run("demo:background=sleep 300")
        command = await sleeper(stage.server.agent(here.project_id))
        await here.second.interrupt(here.project_id)
        await is_over(command)
        await eventually_idle(here)
        assert stage.server.agent(here.project_id).is_running()


@on_stage
async def test_an_own_turn_is_shown_and_interrupted(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        receipt = await here.first.execute(here.project_id, "demo:wake=demo:slow=60s")
        await result_of(here.one, receipt.execution_id)
        await until(here.one, "agent_message", subtype="init")
        await until(here.one, "project_state", state="EXECUTING")
        await here.second.interrupt(here.project_id)
        seen = await until(here.one, "project_state", state="IDLE")
        (ended,) = [frame.data for frame in seen if frame.data.get("type") == "result"]
        assert ended["origin"]["kind"] == "task-notification"
        assert stage.server.agent(here.project_id).is_running()


@on_stage
async def test_a_prompt_during_an_own_turn_succeeds(stage: Stage, folder: Path) -> None:
    """Also one that the CLI folds into that turn, which is over before the turn's result."""
    async with scene(stage.server, folder) as here:
        receipt = await here.first.execute(here.project_id, "demo:wake=demo:loop=10")
        await until(here.one, "prompt", execution_id=receipt.execution_id)
        more = [await here.first.execute(here.project_id, "demo:text") for _ in range(5)]
        given = [receipt.execution_id, *(found.execution_id for found in more)]

        async def done() -> bool:
            listed = (await here.first.executions(here.project_id)).executions
            ended = {found.execution_id: found.status for found in listed if found.execution_id in given}
            return set(ended.values()) == {"success"} and len(ended) == len(given)

        await eventually(done, "all succeed")


@on_stage
async def test_the_permission_mode_that_holds_is_shown(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        await here.first.set_permission_mode(here.project_id, "plan")
        asked = await here.ask("demo:plan")
        assert asked.frame.data["tool_name"] == "ExitPlanMode"
        await until(here.two, "project_state", permission_mode="plan")
        await here.second.approve(here.project_id, asked.approval_id)
        write = (await until(here.one, "approval_requested"))[-1]
        await until(here.two, "project_state", permission_mode="default")
        # There is no rule for it, so "always" means all edits, and says so.
        assert write.data["suggestions"] == [{"type": "setMode", "mode": "acceptEdits", "destination": "session"}]
        await here.first.approve(here.project_id, write.data["approval_id"], remember=True)
        await until(here.two, "project_state", permission_mode="acceptEdits")
        await until(here.one, "project_state", state="IDLE")
        # The next prompt goes on in it, and so does a choice of the user.
        await here.run("demo:edit")
        await here.first.set_permission_mode(here.project_id, "default")
        asked = await here.ask("demo:edit")
        await here.first.deny(here.project_id, asked.approval_id)


@on_stage
async def test_always_is_the_rule_for_the_tool(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await here.ask("demo:bash=touch one.txt")
        (update,) = asked.frame.data["suggestions"]
        assert update["rules"] == [{"toolName": "Bash", "ruleContent": "touch one.txt"}]
        await here.first.approve(here.project_id, asked.approval_id, remember=True)
        await until(here.one, "project_state", state="IDLE")
        await here.run("demo:bash=touch one.txt")
        edit = await here.ask("demo:edit")
        assert edit.frame.data["tool_name"] == "Write"
        await here.first.deny(here.project_id, edit.approval_id)
        await until(here.one, "project_state", state="IDLE")


@on_stage
async def test_a_prompt_that_a_hook_blocks_is_no_success(stage: Stage, folder: Path) -> None:
    hook = {"type": "command", "command": "echo not today >&2; exit 2"}
    (folder / ".claude").mkdir()
    settings = {"hooks": {"UserPromptSubmit": [{"hooks": [hook]}]}}
    (folder / ".claude" / "settings.json").write_text(json.dumps(settings))
    async with scene(stage.server, folder) as here:
        seen = await here.run("demo:text")
        (error,) = [frame.data for frame in seen if frame.type == "error"]
        assert "not today" in error["message"]
        (ended,) = (await here.first.executions(here.project_id)).executions
        assert (ended.status, ended.code) == ("error", "EXECUTION_FAILED")


async def test_what_works_is_neither_closed_as_idle_nor_by_a_stop(demo_server: ServerProcess, folder: Path) -> None:
    """A subagent that waits for an approval, and a command: past `timeouts.idle`, a SIGTERM, and the next server."""
    server = demo_server
    await server.stop()
    server.env["PA_TIMEOUTS_IDLE"] = "1s"
    await server.start()
    async with scene(server, folder) as here:
        await here.run("demo:background=sleep 300")
        approval_id = await subagent_asks(here, "touch sub.txt")
        agent = server.agent(here.project_id)
        command = await sleeper(agent)
        project_id = here.project_id
    other = folder.with_name("other")
    other.mkdir()
    # Another project's process is closed as idle in the meantime.
    async with scene(server, other) as there:
        await there.run("demo:text")
        await is_over(server.agent(there.project_id))
    await server.stop()
    assert agent.is_running()
    await server.start()
    async with server.client() as client, client.subscribe(project_id, since=0) as stream:
        assert stream.joined is not None
        assert stream.joined.state == "EXECUTING"
        assert [waiting.approval_id for waiting in stream.joined.approvals] == [approval_id]
        await client.approve(project_id, approval_id)
        await eventually((folder / "sub.txt").exists, "the subagent has done what was allowed")
        assert command.is_running()
        await client.kill(project_id)
        await is_over(command)
