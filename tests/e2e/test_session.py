"""Conversations: begin, list, resume, fork; another model, another permission mode."""

from pathlib import Path

import psutil
import pytest
from tests.harness.follow import entry_types, until
from tests.harness.recorder import said
from tests.harness.scene import Stage, init_of, scene, state_after

from pocket_agent.errors import ForbiddenError, ProcessActiveError, ValidationError
from pocket_agent.model import ExecuteOptions

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_new_session_knows_nothing_of_the_old_one(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        old = init_of(await here.run("demo:text the word is persimmon"))["session_id"]
        reply = await here.second.new_session(here.project_id)
        assert reply.old_session_id == old
        seen = await until(here.one, "session_reset")
        assert seen[-1].offset is not None
        assert (await until(here.one, "project_state"))[-1].data["session_id"] is None
        new = init_of(await here.run("demo:text what was the word, again"))["session_id"]
        assert new != old
    assert ["persimmon" in said(body) for body in stage.model.saw("what was the word, again")] == [False]


async def test_sessions_are_listed_resumed_and_forked(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        first = init_of(await here.run("demo:text one quince"))["session_id"]
        await here.second.new_session(here.project_id)
        second = init_of(await here.run("demo:text two medlars"))["session_id"]
        listed = await here.second.sessions(here.project_id)
        assert [(session.session_id, session.title, session.current) for session in listed] == [
            (second, "demo:text two medlars", True),
            (first, "demo:text one quince", False),
        ]

        reply = await here.second.resume(here.project_id, first)
        assert (reply.session_id, reply.fork) == (first, False)
        assert init_of(await here.run("demo:text three rowans"))["session_id"] == first
        (body,) = stage.model.saw("three rowans")
        assert "one quince" in said(body)
        assert "two medlars" not in said(body)

        await here.second.resume(here.project_id, first, fork=True)
        fork = init_of(await here.run("demo:text four sloes"))["session_id"]
        assert fork not in {first, second}
        (body,) = stage.model.saw("four sloes")
        assert "three rowans" in said(body)
        # The fork goes on by itself ...
        assert init_of(await here.run("demo:text five damsons"))["session_id"] == fork
        assert "four sloes" in said(stage.model.saw("five damsons")[0])
        # ... and the original is as it was.
        await here.second.resume(here.project_id, first)
        assert init_of(await here.run("demo:text six bullaces"))["session_id"] == first
        (body,) = stage.model.saw("six bullaces")
        assert "three rowans" in said(body)
        assert "four sloes" not in said(body)
        listed = await here.second.sessions(here.project_id)
        assert {session.session_id for session in listed} == {first, second, fork}
        assert [session.session_id for session in listed if session.current] == [first]


async def test_a_conversation_that_is_gone_is_said_so_and_the_next_prompt_begins_anew(
    stage: Stage, folder: Path
) -> None:
    async with scene(stage.server, folder) as here:
        with pytest.raises(ValidationError, match="no such session"):
            await here.first.resume(here.project_id, "00000000-0000-4000-8000-000000000000")
        known = init_of(await here.run("demo:text"))["session_id"]
        await here.second.new_session(here.project_id)
        (kept,) = stage.server.folder.rglob(f"{known}.jsonl")
        kept.unlink()
        await here.first.resume(here.project_id, known)
        await here.first.execute(here.project_id, "demo:text")
        seen = await until(here.one, "project_state", state="ERROR")
        (error,) = [frame.data for frame in seen if frame.type == "error"]
        assert error["code"] == "EXECUTION_FAILED"
        assert "no longer exists" in error["message"]
        assert state_after(await here.run("demo:text")) == "IDLE"


async def test_nothing_of_this_while_an_execution_runs(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        session = init_of(await here.run("demo:text"))["session_id"]
        asked = await here.ask("demo:bash=touch running.txt")
        with pytest.raises(ProcessActiveError):
            await here.second.new_session(here.project_id)
        with pytest.raises(ProcessActiveError):
            await here.second.resume(here.project_id, session)
        with pytest.raises(ProcessActiveError):
            await here.second.delete_project(here.project_id)
        await here.allow(asked)
    assert (folder / "running.txt").exists()


async def test_the_model_changes_in_a_cold_and_in_a_warm_process(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        await here.second.set_model(here.project_id, "opus")
        assert (await until(here.one, "project_state", model="opus"))[-1].project_id == here.project_id
        cold = init_of(await here.run("demo:text in the cold"))
        assert "opus" in cold["model"]
        process = here.server.agent(here.project_id)
        await here.second.set_model(here.project_id, "haiku")
        warm = init_of(await here.run("demo:text in the warm"))
        assert "haiku" in warm["model"]
        # For one prompt only:
        once = init_of(await here.run("demo:text this once", ExecuteOptions(model="opus")))
        assert once["model"] == cold["model"]
        again = init_of(await here.run("demo:text as before"))
        assert again["model"] == warm["model"]
        await here.second.set_model(here.project_id, None)
        default = init_of(await here.run("demo:text by default"))
        assert default["model"] not in {cold["model"], warm["model"]} or "opus" in default["model"]
        assert here.server.agent(here.project_id) == process
        assert {line["session_id"] for line in (cold, warm, once, again, default)} == {cold["session_id"]}
    asked = [stage.model.saw(f"demo:text {words}")[0]["model"] for words in ("in the cold", "in the warm", "this once")]
    assert asked == [line["model"] for line in (cold, warm, once)]


async def test_the_permission_mode_changes_in_a_cold_and_in_a_warm_process(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        await here.second.set_permission_mode(here.project_id, "acceptEdits")
        await until(here.one, "project_state", permission_mode="acceptEdits")
        cold = await here.run("demo:edit=cold.md")
        assert init_of(cold)["permissionMode"] == "acceptEdits"
        assert "approval_requested" not in entry_types(cold)
        assert "wrote and edited this" in (folder / "cold.md").read_text()
        process = here.server.agent(here.project_id)
        await here.second.set_permission_mode(here.project_id, "default")
        asked = await here.ask("demo:edit=asked.md")
        assert asked.frame.data["tool_name"] == "Write"
        await here.second.deny(here.project_id, asked.approval_id, "no")
        await until(here.one, "project_state", state="IDLE")
        assert not (folder / "asked.md").exists()
        await here.second.set_permission_mode(here.project_id, "acceptEdits")
        warm = await here.run("demo:edit=warm.md")
        assert "approval_requested" not in entry_types(warm)
        assert "wrote and edited this" in (folder / "warm.md").read_text()
        assert here.server.agent(here.project_id) == process


async def test_leave_to_do_everything_is_refused_by_default(stage: Stage, folder: Path) -> None:
    async with scene(stage.server, folder) as here:
        with pytest.raises(ForbiddenError, match="allow_dangerously_skip_permissions"):
            await here.first.set_permission_mode(here.project_id, "bypassPermissions")
        for options in (
            ExecuteOptions(dangerously_skip_permissions=True),
            ExecuteOptions(permission_mode="bypassPermissions"),
        ):
            with pytest.raises(ForbiddenError, match="allow_dangerously_skip_permissions"):
                await here.first.execute(here.project_id, "demo:bash=touch never.txt", options=options)
        assert (await here.first.messages(here.project_id)).messages == []
        with pytest.raises(psutil.NoSuchProcess):
            here.server.agent(here.project_id)
    assert not (folder / "never.txt").exists()
