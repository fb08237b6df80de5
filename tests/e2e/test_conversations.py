"""Several conversations of one project with the real CLI: side by side, in worktrees, and unseen by old clients."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from tests.harness.follow import eventually, until
from tests.harness.repository import git, repository
from tests.harness.scene import Stage, texts
from tests.harness.server import running_server, write_standin

from pocket_agent.client import Client
from pocket_agent.errors import ProcessActiveError, ProjectNotFoundError, ValidationError
from pocket_agent.protocol.push import LastLineData, ProjectStateData, WorktreeData
from pocket_agent.protocol.requests import WorktreeRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")


def key_of(state: ProjectStateData) -> str:
    """The id of a conversation that is not the main one."""
    assert isinstance(state.conversation_id, str)
    return state.conversation_id


async def run(client: Client, conversation_id: str, prompt: str) -> str:
    """Run a prompt to its end, allowing what it asks; what the agent said."""
    async with client.subscribe(conversation_id) as stream:
        await client.execute(conversation_id, prompt)
        seen = await until(stream, "project_state", state="EXECUTING")
        async for frame in stream:
            seen.append(frame)
            if frame.type == "approval_requested":
                await client.approve(conversation_id, frame.data["approval_id"])
            if frame.type == "project_state" and frame.data["state"] != "EXECUTING":
                assert frame.data["state"] == "IDLE"
                break
        assert {frame.conversation_id for frame in seen} == {conversation_id}
        return texts(seen)


async def test_three_at_once_two_in_worktrees(stage: Stage, folder: Path) -> None:
    repository(folder)
    async with stage.server.client() as client, stage.server.client() as old:
        project = await client.create_project(str(folder))
        one = await client.create_conversation(project.id, title="One", worktree=WorktreeRequest())
        two = await client.create_conversation(project.id, title="Two", worktree=WorktreeRequest(branch="other"))
        names = [project.id, key_of(one), key_of(two)]
        async with old.subscribe(project.id) as seen_by_old:
            said = await asyncio.gather(
                *(run(client, name, "demo:bash=echo changed >> note.md; pwd") for name in names)
            )
            assert len({*said}) == 3, "each works in a directory of its own"
            frames = await until(seen_by_old, "project_state", state="IDLE")
        assert all("conversation_id" not in frame.raw.decode() for frame in frames), "an old client sees the main one"
        folders = [folder, Path(one.path), Path(two.path)]
        assert [(path / "note.md").read_text() for path in folders] == ["one\nchanged\n"] * 3
        assert isinstance(one.worktree, WorktreeData)
        assert [git(path, "branch", "--show-current") for path in folders[1:]] == [one.worktree.branch, "other"]
        listed = await client.conversations(project.id)
        assert [found.conversation_id for found in listed.conversations][1:] == names[1:]
        assert len([found for found in await old.projects() if found.path == str(folder)]) == 1
        with pytest.raises(ValidationError, match="1 changes"):
            await client.delete_conversation(names[1])
        git(folders[2], "commit", "--quiet", "--all", "--message=second")
        with pytest.raises(ValidationError, match="1 commits"):
            await client.delete_conversation(names[2])
        assert await run(client, names[2], "demo:text still here"), "a refused deletion changes nothing"
        assert (await client.delete_conversation(names[1], discard=True)).kept_branch is None
        assert (await client.delete_conversation(names[2], discard=True)).kept_branch == "other"
        assert not any(path.exists() for path in folders[1:])
        assert (folder / "note.md").read_text() == "one\nchanged\n", "the project's own working tree is untouched"
        assert git(folder, "branch", "--format=%(refname:short)").split() == ["main", "other"]
        await client.delete_project(project.id)


async def test_each_has_its_own_log_queue_model_and_session(stage: Stage, folder: Path) -> None:
    async with stage.server.client() as client:
        project = await client.create_project(str(folder))
        assert (await client.conversations(project.id)).worktrees == "The directory is not in a git repository."
        with pytest.raises(ValidationError, match="not in a git repository"):
            await client.create_conversation(project.id, worktree=WorktreeRequest())
        other = key_of(await client.create_conversation(project.id))
        await run(client, project.id, "demo:text first")
        await client.set_model(other, "opus")
        await client.set_permission_mode(other, "plan")
        async with client.subscribe(other) as stream:
            await client.execute(other, "demo:text second")
            asked = (await until(stream, "project_state", state="EXECUTING"))[-1].data["last_line"]
            frames = await until(stream, "project_state", state="IDLE")
        assert (asked["text"], asked["by"]) == ("demo:text second", "user")
        said = frames[-1].data["last_line"]
        assert (said["text"], said["by"]) == ("This is a plain answer of the demo model.", "agent")
        main, second = (await client.conversations(project.id)).conversations
        assert second.last_line == LastLineData(**said)
        assert (main.model, second.model, second.permission_mode) == (None, "opus", "plan")
        assert main.session_id != second.session_id
        pages = [await client.messages(key) for key in (project.id, other)]
        prompts = [[m for m in page.messages if m.type == "prompt"] for page in pages]
        assert [len(found) for found in prompts] == [1, 1]
        assert b"first" in bytes(prompts[0][0].message) and b"second" in bytes(prompts[1][0].message)
        assert pages[0].metadata.epoch != pages[1].metadata.epoch
        with pytest.raises(ValidationError, match="Another conversation"):
            await client.create_conversation(project.id, session_id=main.session_id)
        assert main.session_id is not None
        with pytest.raises(ValidationError, match="Another conversation"):
            await client.resume(other, main.session_id)
        copy = key_of(await client.create_conversation(project.id, session_id=main.session_id, fork=True))
        await run(client, copy, "demo:text third")
        assert (await client.conversations(project.id)).conversations[2].session_id not in {main.session_id, None}
        await client.rename_conversation(other, "The other one")
        await client.archive_conversation(other)
        assert [c.conversation_id for c in (await client.conversations(project.id)).conversations][1:] == [copy]
        archived = (await client.conversations(project.id, archived=True)).conversations
        assert [(c.title, c.archived) for c in archived if c.conversation_id == other] == [("The other one", True)]
        with pytest.raises(ValidationError, match="main conversation"):
            await client.delete_conversation(project.id)
        async with client.subscribe(copy) as stream:
            await client.execute(copy, "demo:slow=60s")
            await until(stream, "project_state", state="EXECUTING")
            with pytest.raises(ProcessActiveError):
                await client.delete_project(project.id)
            await client.kill(copy)
            await until(stream, "project_state", state="IDLE")
        await client.delete_project(project.id)
        with pytest.raises(ProjectNotFoundError):
            await client.messages(copy)


async def test_a_restart_brings_all_back_and_goes_on(tmp_path: Path, folder: Path) -> None:
    repository(folder)
    (tmp_path / "server").mkdir()
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path / "server", env=env) as server:
        async with server.client() as client:
            project = await client.create_project(str(folder))
            other = await client.create_conversation(project.id, title="Other", worktree=WorktreeRequest())
            for key in (project.id, key_of(other)):
                await client.execute(key, "lines 30 30000")
        await server.kill()
        await server.start()
        async with server.client() as client:
            for key in (project.id, key_of(other)):
                async with client.subscribe(key, 0) as stream:
                    seen = await until(stream, "project_state", state="IDLE")
                    offsets = [frame.offset for frame in seen if frame.offset is not None]
                    assert offsets == list(range(1, len(offsets) + 1))
            states = (await client.conversations(project.id)).conversations
            assert [(state.title, state.path) for state in states[1:]] == [("Other", other.path)]


GIT = """#!/bin/sh
case " $* " in *" $(cat "{0}/at" 2>/dev/null || echo never) "*)
    case $(cat "{0}/when") in
        before) kill -9 $PPID; exit 1;;
        during) kill -9 $PPID; sleep 0.5;;
        after) "{1}" "$@"; kill -9 $PPID; exit 0;;
    esac;;
esac
exec "{1}" "$@"
"""


@pytest.mark.parametrize("when", ["before", "during", "after"])
async def test_a_kill_leaves_no_worktree_without_a_conversation(tmp_path: Path, folder: Path, when: str) -> None:
    """git kills the server before, during or after a step of it."""
    repository(folder)
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(GIT.format(tmp_path, shutil.which("git")))
    program.chmod(0o755)
    (tmp_path / "when").write_text(when)
    (tmp_path / "server").mkdir()
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    async def killed(client: Client, at: str, request: Callable[[], Awaitable[object]]) -> None:
        (tmp_path / "at").write_text(at)
        asking = asyncio.ensure_future(request())
        assert server.process is not None
        await server.process.wait()
        (tmp_path / "at").unlink()
        asking.cancel()
        await server.start()

    def left() -> tuple[list[str], int]:
        branches = git(folder, "branch", "--format=%(refname:short)").split()
        return branches, len(list((tmp_path / "server" / "data-worktrees").glob("*")))

    async with running_server(tmp_path / "server", env=env) as server, server.client() as client:
        project = await client.create_project(str(folder))
        other = partial(client.create_conversation, project.id, worktree=WorktreeRequest())
        await killed(client, "worktree add", other)
        await eventually(lambda: left() == (["main"], 0), "the worktree is gone")
        made = await other()
        await killed(client, "worktree remove", partial(client.delete_conversation, key_of(made)))
        assert len((await client.conversations(project.id)).conversations) == 2
        await client.delete_conversation(key_of(made))
        assert left() == (["main"], 0)
        changed, _ = await other(), await other()
        (Path(changed.path) / "new.txt").write_text("x")
        await killed(client, "branch", partial(client.delete_project, project.id))
        await eventually(lambda: len(left()[0]) == 2 and left()[1] == 1, "only the worktree with work is left")
        assert (Path(changed.path) / "new.txt").exists()
