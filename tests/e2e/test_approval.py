"""Tool requests: shown to everybody, answered by whoever is first."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.harness.follow import entry_types, until
from tests.harness.scene import Stage, one_said_by_cli, scene, state_after, texts

from pocket_agent.client import Client
from pocket_agent.errors import ApprovalNotFoundError
from pocket_agent.protocol.push import ApprovalResolvedData

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_another_client_approves(stage: Stage, folder: Path) -> None:
    async with (
        scene(stage.server, folder) as here,
        Client(stage.server.url, token=stage.server.add_device("phone")) as phone,
        phone.subscribe(here.project_id) as view,
    ):
        await here.first.execute(here.project_id, "demo:bash=touch approved.txt")
        asked = (await until(view, "approval_requested"))[-1]
        assert asked.data["tool_name"] == "Bash"
        assert asked.data["input"]["command"] == "touch approved.txt"
        assert not (folder / "approved.txt").exists()
        state = (await until(view, "project_state"))[-1]
        assert (state.data["state"], state.data["pending_approvals"]) == ("EXECUTING", 1)
        reply = await phone.approve(here.project_id, asked.data["approval_id"])
        assert (reply.behavior, reply.by) == ("allow", "phone")
        for stream in (here.one, here.two, view):
            resolved = (await until(stream, "approval_resolved"))[-1]
            assert resolved.data["approval_id"] == asked.data["approval_id"]
            assert (resolved.data["behavior"], resolved.data["by"]) == ("allow", "phone")
            assert resolved.offset is not None
            assert state_after(await until(stream, "project_state", state="IDLE")) == "IDLE"
    assert (folder / "approved.txt").exists()


async def test_who_joins_later_sees_what_waits(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here, stage.server.client() as late:
        asked = await here.ask("demo:bash=touch later.txt")
        async with late.subscribe(here.project_id) as stream:
            assert stream.joined is not None
            (waiting,) = stream.joined.approvals
            assert (waiting.approval_id, waiting.execution_id) == (asked.approval_id, asked.execution_id)
            assert json.loads(bytes(waiting.input))["command"] == "touch later.txt"
            await late.approve(here.project_id, waiting.approval_id)
            await until(stream, "project_state", state="IDLE")
    assert (folder / "later.txt").exists()


async def test_the_model_reads_why_it_was_denied(stage: Stage, folder: Path) -> None:
    reason = "Not on a Tuesday, please use the other folder."
    async with scene(stage.server, folder) as here:
        asked = await here.ask("demo:bash=touch denied.txt")
        await here.second.deny(here.project_id, asked.approval_id, reason)
        seen = await until(here.one, "project_state", state="IDLE")
        assert [frame.data["message"] for frame in seen if frame.type == "approval_resolved"] == [reason]
        assert one_said_by_cli(seen, "result")["is_error"] is False
        assert reason in texts(seen)
    assert stage.model.saw(reason)
    assert not (folder / "denied.txt").exists()


async def test_a_denial_without_a_reason_is_a_denial(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await here.ask("demo:bash=touch denied.txt")
        await here.second.deny(here.project_id, asked.approval_id)
        seen = await until(here.one, "project_state", state="IDLE")
        assert "refused" in texts(seen)
    assert not (folder / "denied.txt").exists()


async def test_the_edited_command_is_the_one_that_runs(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await here.ask("demo:bash=touch first.txt")
        await here.second.approve(
            here.project_id, asked.approval_id, updated_input={"command": "touch second.txt", "description": "edited"}
        )
        seen = await until(here.one, "project_state", state="IDLE")
        assert one_said_by_cli(seen, "result")["is_error"] is False
    assert [path.name for path in folder.iterdir()] == ["second.txt"]


async def test_what_is_remembered_is_not_asked_again(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        asked = await here.ask("demo:bash=touch once.txt")
        await here.second.approve(here.project_id, asked.approval_id, remember=True)
        await until(here.one, "project_state", state="IDLE")
        (folder / "once.txt").unlink()
        seen = await here.run("demo:bash=touch once.txt")
        assert "approval_requested" not in entry_types(seen)
        assert (folder / "once.txt").exists()
        # It was this command that was remembered, for this session: neither all commands nor the user's settings.
        other = await here.ask("demo:bash=python3 -c 'print(1)' > other.txt")
        await here.first.deny(here.project_id, other.approval_id)
        await until(here.one, "project_state", state="IDLE")
    assert not (folder / ".claude").exists()


async def test_of_two_answers_at_once_the_first_wins(stage: Stage, folder: Path) -> None:
    async with (
        scene(stage.server, folder) as here,
        Client(stage.server.url, token=stage.server.add_device("tablet")) as tablet,
    ):
        asked = await here.ask("demo:bash=touch race.txt")
        answers = await asyncio.gather(
            here.first.approve(here.project_id, asked.approval_id),
            tablet.deny(here.project_id, asked.approval_id, "no"),
            return_exceptions=True,
        )
        (won,) = [answer for answer in answers if isinstance(answer, ApprovalResolvedData)]
        (lost,) = [answer for answer in answers if isinstance(answer, ApprovalNotFoundError)]
        assert lost.details == {"behavior": won.behavior, "by": won.by}
        assert won.by in {"test", "tablet"}
        seen = await until(here.one, "project_state", state="IDLE")
        resolved = [frame.data for frame in seen if frame.type == "approval_resolved"]
        assert [(data["behavior"], data["by"]) for data in resolved] == [(won.behavior, won.by)]
        assert (folder / "race.txt").exists() == (won.behavior == "allow")
        with pytest.raises(ApprovalNotFoundError) as again:
            await here.second.approve(here.project_id, asked.approval_id)
        assert again.value.details["by"] == won.by


async def test_several_requests_of_one_message(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        await here.first.execute(here.project_id, "demo:parallel=3")
        for _ in range(3):
            asked = (await until(here.one, "approval_requested"))[-1]
            await here.second.approve(here.project_id, asked.data["approval_id"])
        seen = await until(here.one, "project_state", state="IDLE")
    assert "I ran 3 commands at once." in texts(seen)
    assert sorted(path.name for path in folder.iterdir()) == [f"demo-parallel-{number}.txt" for number in (1, 2, 3)]
