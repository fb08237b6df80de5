"""Settings of a project that arrive or change later run only once a person has accepted them."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pocket_agent.client import Client
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.errors import ValidationError
from pocket_agent.events import ExecutionFinished, ExecutionStarted, ProcessSpawned, ProjectTrusted
from pocket_agent.model import HoldReason
from pocket_agent.protocol.requests import PathInspectData
from tests.conversation.test_conversation_hold import hold, waiting
from tests.server.room import Room, open_room, until


def write(folder: Path, name: str, content: object) -> None:
    """A file of the directory, JSON unless it is text."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def hooks(command: str, event: str = "SessionStart") -> dict[str, object]:
    """Settings with one hook."""
    return {"hooks": {event: [{"hooks": [{"type": "command", "command": command}]}]}}


def plant(folder: Path) -> None:
    """Settings of each kind, which the project has from the beginning."""
    write(folder, ".claude/settings.json", hooks("./format"))
    write(folder, ".mcp.json", {"mcpServers": {"docs": {"command": "docs-server"}}})
    write(folder, ".claude/skills/ship/SKILL.md", "---\nname: ship\n---\nShip it.")
    write(folder, "elsewhere.json", hooks("./other"))
    write(folder, ".claude/settings.local.json", "x" * 1024 * 1024 + "a")


def link(folder: Path) -> None:
    """The file of settings becomes a link to another one."""
    (folder / ".claude/settings.json").unlink()
    (folder / ".claude/settings.json").symlink_to(folder / "elsewhere.json")


def grow(folder: Path) -> None:
    """A file that is too long to be read changes in its last byte, behind what is read."""
    with (folder / ".claude/settings.local.json").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"b")


def hide(folder: Path) -> None:
    """The file of servers becomes something that cannot be read."""
    (folder / ".mcp.json").unlink()
    (folder / ".mcp.json").mkdir()


CHANGES: dict[str, Callable[[Path], None]] = {
    "a hook": lambda folder: write(folder, ".claude/settings.json", {**hooks("./format"), "apiKeyHelper": "id"}),
    "a server": lambda folder: write(folder, ".mcp.json", {"mcpServers": {"docs": {"command": "evil"}}}),
    "a line of a skill": lambda folder: write(folder, ".claude/skills/ship/SKILL.md", "---\nname: ship\n---\n!`id`"),
    "a command": lambda folder: write(folder, ".claude/commands/go.md", "---\nallowed-tools: Bash\n---\nGo."),
    "a rule": lambda folder: write(folder, ".claude/settings.json", {**hooks("./format"), "outputStyle": "x"}),
    "a file that cannot be parsed": lambda folder: write(folder, ".mcp.json", "{"),
    "a link": link,
    "a huge file": grow,
    "a file that cannot be read": hide,
}


async def held(conversation: Conversation) -> None:
    """Wait until the queue is on hold for this reason."""
    await until(lambda: hold(conversation) is HoldReason.TRUST)


async def idle(conversation: Conversation) -> None:
    """Wait until nothing runs or waits."""
    await until(lambda: conversation.state.current is None and not conversation.state.queue)


def prompts(room: Room, conversation: Conversation) -> int:
    """How many prompts of a project have started."""
    started = room.seen.of(ExecutionStarted)
    return sum(event.context.project_id == conversation.state.record.id for event in started)


async def inspect(client: Client, conversation: Conversation) -> PathInspectData:
    """What a client is told of the settings."""
    return await client.inspect_path(conversation.state.record.path)


async def test_what_is_new_or_changed_is_asked_for_and_the_queue_keeps_its_order(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        faults = []
        for number, (name, change) in enumerate(CHANGES.items()):
            folder = tmp_path / f"project-{number}"
            folder.mkdir()
            plant(folder)
            session = await room.project(folder.name)
            project_id = session.state.record.id
            await client.execute(project_id, "one")
            await idle(session)
            change(folder)
            for text in ("two", "three"):
                assert (await client.execute(project_id, text)).status == "queued"
            await held(session)
            found = await inspect(client, session)
            before = prompts(room, session), waiting(session), found.new
            await client.trust_project(project_id, found.hash)
            await idle(session)
            spawned = [event for event in room.seen.of(ProcessSpawned) if event.project_id == project_id]
            after = prompts(room, session), len(spawned), (await inspect(client, session)).new, hold(session)
            if (before, after) != ((1, ["two", "three"], 1), (3, 2, 0, None)):
                faults.append((name, before, after))
        assert not faults
        assert len(room.seen.of(ProjectTrusted)) == len(CHANGES)
        assert {event.code for event in room.seen.of(ExecutionFinished)} == {None}


async def test_only_the_state_that_a_person_has_seen_is_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    async with open_room(tmp_path) as room, room.client() as client:
        folder.mkdir()
        plant(folder)
        seen = await client.inspect_path(str(folder))
        assert (seen.new, seen.project_id) == (seen.total, None) != (0, None)
        write(folder, ".claude/settings.json", hooks("./first"))
        with pytest.raises(ValidationError):
            await client.create_project(str(folder), shown=seen.hash)
        assert await client.projects() == []
        seen = await client.inspect_path(str(folder))
        project_id = (await client.create_project(str(folder), shown=seen.hash)).id
        session = room.projects.get(project_id)
        write(folder, ".claude/settings.json", hooks("./second"))
        await client.execute(project_id, "one")
        await held(session)
        shown = await inspect(client, session)
        assert (shown.new, shown.claims[0].text) == (1, "SessionStart: command: ./second")
        write(folder, ".mcp.json", {"mcpServers": {}})
        write(folder, ".claude/commands/go.md", "!`id`")
        for stale in (seen.hash, shown.hash):
            with pytest.raises(ValidationError) as caught:
                await client.trust_project(project_id, stale)
        assert (hold(session), waiting(session)) == (HoldReason.TRUST, ["one"])
        # What came meanwhile is told, too.
        await until(lambda: "go.md" in str(session.state.record.queue_hold))
        assert "./second" not in str(session.state.record.queue_hold), "those who may not decide hear where, not what"
        assert caught.value.details["hash"] == (await inspect(client, session)).hash
        await client.trust_project(project_id, str(caught.value.details["hash"]))
        await idle(session)


async def test_neither_another_prompt_nor_resuming_the_queue_accepts_anything(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        write(tmp_path / "project", ".mcp.json", {"mcpServers": {"docs": {"command": "docs-server"}}})
        await client.execute(project_id, "one")
        await held(session)
        since = session.state.record.queue_hold
        await client.execute(project_id, "two")
        assert session.state.record.queue_hold == since
        await client.resume_queue(project_id)
        await held(session)
        assert (prompts(room, session), waiting(session)) == (0, ["one", "two"])


async def test_what_is_gone_is_not_asked_for_and_a_hold_ends_when_the_change_is_taken_back(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    async with open_room(tmp_path) as room, room.client() as client:
        folder.mkdir()
        plant(folder)
        session = await room.project()
        project_id = session.state.record.id
        kept = (folder / ".claude/settings.json").read_text()
        write(folder, ".claude/settings.json", {})
        await client.execute(project_id, "one")
        await idle(session)
        write(folder, ".claude/settings.json", kept)
        await client.execute(project_id, "two")
        await idle(session)
        write(folder, ".claude/settings.json", hooks("./evil"))
        await client.execute(project_id, "three")
        await held(session)
        write(folder, ".claude/settings.json", kept)
        await idle(session)
        assert (prompts(room, session), hold(session)) == (3, None)
        # The last acceptance says all that is accepted.
        write(folder, ".claude/settings.json", {})
        await client.trust_project(project_id, (await inspect(client, session)).hash)
        write(folder, ".claude/settings.json", kept)
        await client.execute(project_id, "four")
        await held(session)


async def test_a_restart_keeps_the_hold_and_what_was_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    async with open_room(tmp_path, agents_stay=True) as room, room.client() as client:
        folder.mkdir()
        plant(folder)
        session = await room.project()
        project_id = session.state.record.id
        write(folder, ".claude/settings.json", hooks("./evil"))
        for text in ("one", "two"):
            await client.execute(project_id, text)
        await held(session)
    async with open_room(tmp_path, agents_stay=True) as room, room.client() as client:
        session = room.projects.get(project_id)
        assert (hold(session), waiting(session)) == (HoldReason.TRUST, ["one", "two"])
        found = await inspect(client, session)
        assert [claim.text for claim in found.claims[: found.new]] == ["SessionStart: command: ./evil"]
        await client.trust_project(project_id, found.hash)
        await idle(session)
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        await client.execute(project_id, "three")
        await idle(session)
        assert prompts(room, session) == 1


async def test_a_project_of_an_earlier_version_accepts_what_is_there_at_its_first_start(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    async with open_room(tmp_path) as room:
        folder.mkdir()
        plant(folder)
        project_id = (await room.project()).state.record.id
    with sqlite3.connect(tmp_path / "data" / "pocket-agent.db") as database:
        database.execute("DELETE FROM trust")
    database.close()
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        assert (await inspect(client, session)).new == 0
        await client.execute(project_id, "one")
        await idle(session)
    async with open_room(tmp_path) as room, room.client() as client:
        session = room.projects.get(project_id)
        write(folder, ".mcp.json", {"mcpServers": {"docs": {"command": "evil"}}})
        await client.execute(project_id, "two")
        await held(session)


async def test_settings_that_the_cli_does_not_read_are_not_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    async with open_room(tmp_path, claude__setting_sources=["user", "local"]) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        write(folder, ".claude/settings.json", hooks("./evil"))
        await client.execute(project_id, "one")
        await idle(session)
        write(folder, ".claude/settings.local.json", hooks("./evil"))
        await client.execute(project_id, "two")
        await held(session)
        found = await inspect(client, session)
        assert [claim.file for claim in found.claims] == [".claude/settings.local.json"]


async def test_a_change_while_the_agent_works_is_asked_for_before_the_next_prompt(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        project_id = session.state.record.id
        await client.execute(project_id, "ask Bash")
        await until(lambda: bool(session.state.approvals))
        write(tmp_path / "project", ".claude/settings.json", hooks("./evil"))
        await client.execute(project_id, "two")
        await client.approve(project_id, next(iter(session.state.approvals)))
        await held(session)
        assert [event.status for event in room.seen.of(ExecutionFinished)] == ["success"]
        assert waiting(session) == ["two"]
        await client.cancel_prompt(project_id, session.state.queue[0].id)
        assert hold(session) is None


async def test_an_acceptance_is_in_the_audit_log_with_the_state_that_it_names(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, room.client() as client:
        session = await room.project()
        found = await inspect(client, session)
        await client.trust_project(session.state.record.id, found.hash)
        (note,) = [record for record in room.trail.records if record.action == "project_trust"]
        assert (note.outcome, note.details, note.project_id) == ("ok", {"hash": found.hash}, session.state.record.id)
