"""Conversations other than the main one, as clients of several kinds see them."""

import json
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.conversation.conversation_log import entry_draft
from pocket_agent.model import StrayWorktree
from tests.harness.follow import eventually
from tests.harness.repository import git, repository
from tests.server.room import Room, Wire, open_room, until
from tests.server.test_server_permission import wire_of


def code(frame: dict[str, Any]) -> str | None:
    """The error's code, None for a reply."""
    return frame["data"]["code"] if frame["type"] == "error" else None


async def begin(wire: Wire, project_id: str, **data: object) -> str:
    """Begin a conversation; its id."""
    made = await wire.ask("conversation_create", data, project_id=project_id)
    assert made["type"] == "conversation_create", made
    assert made["data"]["conversation_id"] == made["conversation_id"] != project_id
    return str(made["conversation_id"])


async def test_only_who_knows_of_them_gets_their_frames(room: Room) -> None:
    project_id = (await room.project()).state.record.id
    async with room.wire() as old, room.wire() as new:
        await old.ask("watch")
        assert "conversations" not in (await old.ask("watch"))["data"]
        watched = await new.ask("watch", {"conversations": True})
        assert watched["data"]["conversations"] == []
        async with room.wire() as third:
            other = await begin(third, project_id, title="Other")
        pushed = await new.frame()
        assert (pushed["type"], pushed["conversation_id"]) == ("project_state", other)
        assert (pushed["data"]["id"], pushed["data"]["title"]) == (project_id, "Other")
        assert [c["conversation_id"] for c in (await new.ask("watch"))["data"]["conversations"]] == [other]
        await room.projects.get(other).state.log.write([entry_draft("agent_message", {"n": 1})])
        listed = await old.ask("project_list")  # any frame before it would be an answer that fits nothing
        assert [(p["id"], p["offset"], "title" in p) for p in listed["data"]["projects"]] == [(project_id, 0, False)]
        joined = await old.ask("project_join", {"since": 0}, project_id=project_id)
        assert joined["data"]["offset"] == 0
        state = await old.frame()
        assert state["type"] == "project_state" and "conversation_id" not in state
        await new.ask("conversation_delete", conversation_id=other)
        await old.send({"type": "project_list", "request_id": "last"})
        while (frame := await old.frame()).get("request_id") != "last":
            assert "conversation_id" not in frame


async def test_a_new_one_has_nothing_of_the_main_one_but_its_choices(room: Room) -> None:
    main = await room.project()
    before = entry_draft("agent_message", {}, said="said before")
    await main.state.log.write([before], record={"model": "m", "permission_mode": "plan"})
    assert main.state.record.last_line is not None
    async with room.wire() as wire:
        began = room.projects.get(await begin(wire, main.state.record.id)).state.record
    expected = (None, None, None, 0, "m", "plan")
    found = (began.last_line, began.transcript, began.session_id, began.head, began.model, began.permission_mode)
    assert found == expected


async def test_a_conversation_is_named_in_the_envelope(room: Room) -> None:
    session = await room.project()
    project_id, elsewhere = session.state.record.id, (await room.project("two")).state.record.id
    async with room.wire() as wire:
        other = await begin(wire, project_id)
        for fields in ({"conversation_id": other}, {"conversation_id": other, "project_id": project_id}):
            reply = await wire.ask("project_join", {"since": 0}, **fields)
            assert (reply["project_id"], reply["conversation_id"]) == (project_id, other)
            assert reply["data"]["project_id"] == project_id
        reply = await wire.ask("set_model", {"model": "opus"})
        assert reply["conversation_id"] == other, "the only one that it has joined"
        assert session.state.record.model is None
        wrong = await wire.ask("set_model", {"model": "opus"}, conversation_id=other, project_id=elsewhere)
        assert code(wrong) == "VALIDATION_FAILED"
        for unknown in (f"{project_id}.none", f"{project_id}.", "none.none", other + "x"):
            missing = await wire.ask("set_model", {"model": "opus"}, conversation_id=unknown)
            assert code(missing) == "PROJECT_NOT_FOUND"
            assert "conversation" in missing["data"]["message"] or "." not in unknown
        same = await wire.ask("set_model", {"model": "haiku"}, conversation_id=project_id)
        assert "conversation_id" not in same, "the main one bears the project's id"
        assert code(await wire.ask("project_delete", conversation_id=other)) == "VALIDATION_FAILED"
    records = [record for record in room.trail.records if record.details.get("conversation_id") == other]
    assert {record.action for record in records} >= {"conversation_create", "set_model", "project_delete"}
    assert {record.project_id for record in records} == {project_id}


async def test_a_limited_device_sees_those_of_its_projects_only(room: Room) -> None:
    mine, other = (await room.project("mine")).state.record, (await room.project("other")).state.record
    async with room.wire() as owner:
        hidden, seen = await begin(owner, other.id), await begin(owner, mine.id)
    async with wire_of(room, projects=(mine.project_id,)) as wire:
        assert code(await wire.ask("project_join", conversation_id=hidden)) == "PROJECT_NOT_FOUND"
        watched = (await wire.ask("watch", {"conversations": True}))["data"]
        assert [c["conversation_id"] for c in watched["conversations"]] == [seen]
        assert code(await wire.ask("conversation_create", project_id=other.id)) == "PROJECT_NOT_FOUND"
        assert (await wire.ask("conversation_create", project_id=mine.id))["type"] == "conversation_create"
    async with wire_of(room, "viewer", view_only=True) as wire:
        assert (await wire.ask("conversation_list", project_id=mine.id))["type"] == "conversation_list"
        for kind in ("conversation_create", "conversation_archive", "conversation_delete"):
            assert code(await wire.ask(kind, conversation_id=seen)) == "FORBIDDEN"


async def test_a_prompt_takes_a_conversation_out_of_the_archive(room: Room) -> None:
    """Lists leave an archived one out, with the approvals that it waits for."""
    project_id = (await room.project()).state.record.id
    async with room.wire() as wire:
        other = await begin(wire, project_id)
        assert (await wire.ask("conversation_archive", conversation_id=other))["data"]["archived"]
        assert (await wire.ask("execute", {"prompt": "ask Bash"}, conversation_id=other))["type"] == "execute"
        await until(lambda: bool(room.projects.get(other).state.approvals))
        listed = (await wire.ask("conversation_list", project_id=project_id))["data"]["conversations"]
        assert [(one.get("conversation_id"), one["pending_approvals"]) for one in listed] == [(None, 0), (other, 1)]
        await wire.ask("agent_kill", conversation_id=other)


async def test_their_number_is_limited_and_nothing_is_left_of_one_too_many(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__conversations=2) as room, room.wire() as wire:
        session = await room.project()
        repository(Path(session.state.record.real_path))
        project_id = session.state.record.id
        await begin(wire, project_id, worktree={})
        refused = await wire.ask("conversation_create", {"worktree": {}}, project_id=project_id)
        assert code(refused) == "RESOURCE_LIMIT"
        assert "limits.conversations" in refused["data"]["message"]
        assert len([*(tmp_path / "data-worktrees").iterdir()]) == 1


async def test_worktrees_are_allowed_where_projects_are_restricted(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    repository(tmp_path / "project")
    roots, trees = [tmp_path / "project"], tmp_path / "trees"
    opened = open_room(tmp_path, projects__allowed_roots=roots, projects__worktrees=trees)
    async with opened as room, room.client() as client:
        project = await client.create_project(str(tmp_path / "project"))
        other = await client.create_conversation(project.id, worktree=None)
        assert isinstance(other.conversation_id, str)
        async with room.wire() as wire:
            tree = await begin(wire, project.id, worktree={"branch": "b"})
            assert (await wire.ask("execute", {"prompt": "lines 1"}, conversation_id=tree))["type"] == "execute"
            complete = await wire.ask("path_complete", {"path": f"{tmp_path}/"})
            assert [entry["path"] for entry in complete["data"]["entries"]] == [str(tmp_path / "project")]


async def test_a_deleted_project_takes_clean_worktrees_with_it_and_leaves_the_others(room: Room) -> None:
    session = await room.project()
    folder, project_id = Path(session.state.record.real_path), session.state.record.id
    repository(folder)
    async with room.wire() as wire:
        clean, changed = [await begin(wire, project_id, worktree={"branch": name}) for name in ("clean", "changed")]
        paths = [Path(room.projects.get(key).state.record.real_path) for key in (clean, changed)]
        (paths[1] / "new.txt").write_text("x")
        assert (await wire.ask("project_delete", project_id=project_id))["type"] == "project_deleted"
    assert [path.exists() for path in paths] == [False, True]
    assert git(folder, "branch", "--format=%(refname:short)").split() == ["changed", "main"]
    assert await room.store.conversations() == []


async def test_only_half_a_checkout_is_deleted_with_its_files(tmp_path: Path) -> None:
    """As with a backup that was made while the worktrees were, and restored when they had work."""
    async with open_room(tmp_path) as room, room.wire() as wire:
        session = await room.project()
        folder = Path(session.state.record.real_path)
        repository(folder)
        strays = []
        for branch in ("half", "used"):
            key = await begin(wire, session.state.record.id, worktree={"branch": branch})
            record = room.projects.get(key).state.record
            assert record.worktree is not None
            strays.append(StrayWorktree(record.worktree, is_new=True))
            (Path(record.path) / "new.txt").write_text("x")
            await room.store.delete_project(record)
        await room.store.note_worktrees(strays)
        half, used = (Path(stray.worktree.root) for stray in strays)
        (folder / ".git" / "worktrees" / half.name / "index").unlink()
    async with open_room(tmp_path) as room:

        async def settled() -> bool:
            return not await room.store.stray_worktrees()

        await eventually(settled, "the strays are settled")
        assert (half.exists(), (used / "new.txt").exists()) == (False, True)
        assert git(folder, "branch", "--format=%(refname:short)").split() == ["main", "used"]


@pytest.mark.parametrize("fault", ["queue", "running"])
async def test_one_that_works_is_neither_archived_nor_deleted(room: Room, fault: str) -> None:
    session = await room.project()
    async with room.wire() as wire:
        other = await begin(wire, session.state.record.id)
        for prompt in ["ask Bash", "lines 1"][: 2 if fault == "queue" else 1]:
            await wire.ask("execute", {"prompt": prompt}, conversation_id=other)
        for kind in ("conversation_archive", "conversation_delete"):
            assert code(await wire.ask(kind, conversation_id=other)) == "PROCESS_ACTIVE"
        await wire.ask("agent_kill", {"hold_queue": True}, conversation_id=other)


async def test_what_is_accepted_in_a_worktree_takes_nothing_from_the_project(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / ".claude").mkdir(parents=True)
    settings = folder / ".claude" / "settings.json"

    def allow(rule: str) -> None:
        settings.write_text(json.dumps({"permissions": {"allow": [rule]}}))
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message=rule")

    async with open_room(tmp_path) as room, room.wire() as wire:
        repository(folder)
        git(folder, "checkout", "--quiet", "-b", "other")
        allow("Bash(make *)")
        git(folder, "checkout", "--quiet", "main")
        settings.parent.mkdir(exist_ok=True)
        allow("Bash(ls *)")
        session = await room.projects.create(str(folder))
        tree = await begin(wire, session.state.record.id, worktree={"branch": "other"})
        other = room.projects.get(tree)
        await wire.ask("execute", {"prompt": "lines 1"}, conversation_id=tree)
        await until(lambda: other.state.record.queue_hold is not None)
        found = (await wire.ask("path_inspect", {"path": other.state.record.real_path}))["data"]
        assert [claim["text"] for claim in found["claims"]] and found["new"] == 1
        await wire.ask("project_trust", {"hash": found["hash"]}, conversation_id=tree)
        await until(lambda: other.state.last is not None)
        started = await wire.ask("execute", {"prompt": "lines 1"}, project_id=session.state.record.id)
        assert started["data"]["status"] == "started", "nothing is asked again in the project's own directory"


async def test_settings_of_the_main_working_tree_hold_a_worktree_once_they_change(room: Room) -> None:
    """The CLI reads them there, too; what is accepted in the one counts in the other."""
    folder = room.folder / "project"
    (folder / ".claude").mkdir(parents=True)
    repository(folder)
    local = folder / ".claude" / "settings.local.json"
    local.write_text(json.dumps({"permissions": {"allow": ["Bash(ls *)"]}}))
    project_id = (await room.project()).state.record.id
    async with room.wire() as wire:
        tree = await begin(wire, project_id, worktree={})
        started = await wire.ask("execute", {"prompt": "lines 1"}, conversation_id=tree)
        assert started["data"]["status"] == "started"
        other = room.projects.get(tree)
        await until(lambda: other.state.last is not None)
        assert other.state.record.queue_hold is None
        local.write_text(json.dumps({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "touch x"}]}]}}))
        await wire.ask("execute", {"prompt": "lines 1"}, conversation_id=tree)
        await until(lambda: other.state.record.queue_hold is not None)
