"""Stopping: an interrupt keeps the agent warm, a kill leaves nothing."""

import asyncio
from pathlib import Path

import psutil
import pytest
from tests.harness.follow import entry_types, follow, until
from tests.harness.recorder import said
from tests.harness.scene import Scene, Stage, init_of, is_over, one_said_by_cli, scene, sleeper, state_after, texts

from pocket_agent.client import Frame
from pocket_agent.errors import ApprovalNotFoundError, ProcessNotFoundError

pytestmark = pytest.mark.asyncio(loop_scope="session")


def is_text(frame: Frame) -> bool:
    """Whether it is a piece of text of the answer."""
    return frame.type == "agent_message" and frame.data.get("event", {}).get("type") == "content_block_delta"


async def warm(here: Scene) -> psutil.Process:
    """Let the agent answer once; gives its process."""
    await here.run("demo:text")
    return here.server.agent(here.project_id)


async def stays_warm(here: Scene, process: psutil.Process, session_id: str) -> None:
    """The next prompt is answered by the same process in the same conversation."""
    seen = await here.run("demo:text after the interrupt")
    assert state_after(seen) == "IDLE"
    assert "a plain answer" in texts(seen)
    assert init_of(seen)["session_id"] == session_id
    assert here.server.agent(here.project_id) == process


async def test_an_interrupt_while_text_streams(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        process = await warm(here)
        receipt = await here.first.execute(here.project_id, "demo:slow=60s")
        await follow(here.one, is_text)
        reply = await here.second.interrupt(here.project_id)
        assert (reply.execution_id, reply.status) == (receipt.execution_id, "interrupting")
        seen = await until(here.one, "project_state", state="IDLE")
        assert one_said_by_cli(seen, "result")["terminal_reason"] == "aborted_streaming"
        assert "error" not in entry_types(seen), "it is what the user wanted"
        session = one_said_by_cli(seen, "result")["session_id"]
        await stays_warm(here, process, session)


async def test_an_interrupt_while_an_approval_waits(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        process = await warm(here)
        asked = await here.ask("demo:bash=touch late.txt")
        await here.second.interrupt(here.project_id)
        seen = await until(here.one, "project_state", state="IDLE")
        (cancelled,) = [frame for frame in seen if frame.type == "approval_cancelled"]
        assert cancelled.data["approval_id"] == asked.approval_id
        assert cancelled.offset is not None
        assert seen[-1].data["pending_approvals"] == 0
        with pytest.raises(ApprovalNotFoundError) as late:
            await here.first.approve(here.project_id, asked.approval_id)
        assert late.value.details == {"behavior": "cancelled"}
        await stays_warm(here, process, one_said_by_cli(seen, "result")["session_id"])
    assert not (folder / "late.txt").exists()


async def test_an_interrupt_while_a_tool_runs_ends_the_tool(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        process = await warm(here)
        asked = await here.ask("demo:bash=touch begun.txt; sleep 600")
        await here.first.approve(here.project_id, asked.approval_id)
        tool = await sleeper(process)
        await here.second.interrupt(here.project_id)
        seen = await until(here.one, "project_state", state="IDLE")
        assert one_said_by_cli(seen, "result")["terminal_reason"] == "aborted_tools"
        await is_over(tool)
        await stays_warm(here, process, one_said_by_cli(seen, "result")["session_id"])


async def test_a_kill_leaves_no_process_and_the_next_prompt_resumes(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        session = init_of(await here.run("demo:text remember the mirabelle"))["session_id"]
        process = here.server.agent(here.project_id)
        asked = await here.ask("demo:bash=touch begun.txt; sleep 600")
        await here.first.approve(here.project_id, asked.approval_id)
        tool = await sleeper(process)
        reply = await here.second.kill(here.project_id)
        assert (reply.execution_id, reply.status) == (asked.execution_id, "killed")
        seen = await until(here.one, "project_state", state="IDLE")
        (killed,) = [frame for frame in seen if frame.type == "process_killed"]
        assert killed.offset is not None
        assert killed.data["execution_id"] == asked.execution_id
        assert "error" not in entry_types(seen)
        await asyncio.gather(is_over(tool), is_over(process))

        seen = await here.run("demo:text which fruit")
        assert init_of(seen)["session_id"] == session
        assert f"--resume={session}" in here.server.agent(here.project_id).cmdline()
        assert any("mirabelle" in said(body) for body in stage.model.saw("which fruit"))


async def test_a_kill_withdraws_the_approval(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await here.ask("demo:bash=touch never.txt")
        queued = await here.first.execute(here.project_id, "demo:text next in line")
        assert queued.status == "queued"
        await here.second.kill(here.project_id)
        seen = await until(here.one, "prompt", execution_id=queued.execution_id)
        kinds = entry_types(seen)
        assert kinds.count("approval_cancelled") == 1
        assert kinds.count("process_killed") == 1
        with pytest.raises(ApprovalNotFoundError):
            await here.first.approve(here.project_id, asked.approval_id)
        # What waited behind it runs.
        assert "a plain answer" in texts(await until(here.one, "project_state", state="IDLE"))
    assert not (folder / "never.txt").exists()


async def test_nothing_to_stop(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        for _ in range(2):
            with pytest.raises(ProcessNotFoundError):
                await here.first.interrupt(here.project_id)
            with pytest.raises(ProcessNotFoundError):
                await here.first.kill(here.project_id)
            process = await warm(here)
        await stays_warm(here, process, (await here.first.sessions(here.project_id))[0].session_id)
