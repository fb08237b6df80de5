"""Requests about sessions of terminals: listed, read, followed, resumed, handed over."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from pocket_agent.claude.process_tree import read_row
from pocket_agent.model import project_of
from tests.harness.repository import git, repository
from tests.harness.sessions import Machine, answer, name_of
from tests.server.room import Room, Wire
from tests.server.test_server_handlers import CONVERSATION, code, execute, until_type
from tests.server.test_server_permission import wire_of


async def machine_of(room: Room) -> tuple[Machine, str]:
    """A machine whose directory is a project of the server, with the project's id."""
    session = await room.project()
    return Machine(room.folder / ".claude", room.folder / "project"), session.state.record.id


def run_in_terminal(machine: Machine, session_id: str = name_of(1)) -> Path:
    """Have this process appear as a CLI that has a session open; returns the record of it."""
    row = read_row(os.getpid())
    assert row is not None
    folder = machine.configuration / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"pid": row.pid, "sessionId": session_id, "procStart": row.start_time}
    path = folder / f"{row.pid}.json"
    path.write_text(json.dumps(record))
    return path


async def sessions(wire: Wire, project_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await wire.ask("session_list", project_id=project_id))["data"]["sessions"]
    return found


async def test_sessions_of_terminals_are_listed_with_the_servers(room: Room) -> None:
    machine, project_id = await machine_of(room)
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        await execute(wire, room.projects.get(project_id), "hello there")
        await until_type(wire, "project_state", state="IDLE")
        machine.write(machine.prompt("at the desk"), answer("one"))
        listed = await sessions(wire, project_id)
        (own,) = [one for one in listed if one["origin"] == "server"]
        assert (own["session_id"], own["resume_command"]) == (CONVERSATION, None)
        (other,) = [one for one in listed if one["origin"] == "terminal"]
        assert (other["session_id"], other["title"], other["turns"]) == (name_of(1), "at the desk", 1)
        assert other["resume_command"] == f"cd {machine.project} && claude --resume={name_of(1)}"
        assert (other["active"], other["size"]) == (False, machine.path().stat().st_size)
        # The file of the server's own session.
        machine.write(machine.prompt("hello there")).rename(machine.path().with_name(f"{CONVERSATION}.jsonl"))
        (own,) = await sessions(wire, project_id)
        assert (own["origin"], own["turns"], own["current"]) == ("server", 1, True)


async def test_the_command_for_a_shell_has_no_character_that_a_terminal_obeys(room: Room) -> None:
    name = "-a'b\x03\x1b[201~\ntouch ran #\u202e\\é"
    session = await room.project(name)
    directory, project_id = session.state.record.real_path, session.state.record.id
    machine = Machine(room.folder / ".claude", Path(directory))
    machine.write(machine.prompt("x"))
    async with room.wire() as wire:
        (found,) = await sessions(wire, project_id)
    command = found["resume_command"]
    assert command.isprintable() and command.isascii()
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", 'claude() { printf "%s|" "$PWD" "$@"; }; ' + command), stdout=asyncio.subprocess.PIPE
    )
    assert (await shell.communicate())[0].decode() == f"{directory}|--resume={name_of(1)}|"


async def test_the_list_without_the_directory_says_why(room: Room) -> None:
    machine, project_id = await machine_of(room)
    machine.configuration.mkdir()
    (machine.configuration / "projects").write_text("no folder")
    async with room.wire() as wire:
        data = (await wire.ask("session_list", project_id=project_id))["data"]
    assert data["sessions"] == []
    assert "cannot be read" in data["unavailable"]


async def test_times_that_are_no_dates_are_left_out(room: Room) -> None:
    """The last one is in the year 10000 in UTC."""
    machine, project_id = await machine_of(room)
    times = ("0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "yesterday", "9999-12-31T23:59:59.999-12:00")
    for number, at in enumerate(times, 1):
        machine.write(machine.prompt(at, timestamp=at), answer("one", timestamp=at), number=number)
    async with room.wire() as wire:
        assert {one["title"] for one in await sessions(wire, project_id)} == set(times)
        for number in range(1, len(times) + 1):
            page = await wire.ask("session_history", {"session_id": name_of(number)}, project_id=project_id)
            assert len(page["data"]["messages"]) == 2, page


async def test_a_watched_list_reports_what_terminals_do(room: Room) -> None:
    machine, project_id = await machine_of(room)
    watch = {"watch": True}
    async with wire_of(room, view_only=True) as wire:
        assert (await wire.ask("session_list", watch, project_id=project_id))["data"]["sessions"] == []
        machine.write(machine.prompt("at the desk"))
        (begun,) = (await until_type(wire, "sessions_changed"))["data"]["sessions"]
        assert (begun["session_id"], begun["title"], begun["active"]) == (name_of(1), "at the desk", False)
        run_in_terminal(machine)
        (opened,) = (await until_type(wire, "sessions_changed"))["data"]["sessions"]
        assert opened == {**begun, "active": True}
        with machine.path().open("a") as file:
            file.write(json.dumps({"type": "ai-title", "aiTitle": "Desk work"}) + "\n")
        (titled,) = (await until_type(wire, "sessions_changed"))["data"]["sessions"]
        assert titled["title"] == "Desk work"
        machine.path().unlink()
        assert (await until_type(wire, "sessions_changed"))["data"]["gone"] == [name_of(1)]


async def test_a_list_is_watched_only_while_a_client_asks_for_it(room: Room) -> None:
    machine, project_id = await machine_of(room)
    machine.write(machine.prompt("at the desk"))
    async with room.wire() as wire:
        await wire.ask("session_list", {"watch": True}, project_id=project_id)
        assert len(room.connection().followed) == 1
        await wire.ask("session_list", project_id=project_id)
        assert len(room.connection().followed) == 1
        unfollowed = await wire.ask("session_unfollow", project_id=project_id)
        assert unfollowed["data"] == {"project_id": project_id, "session_id": None}
        assert room.connection().followed == {}


async def test_history_is_read_by_pages_and_followed(room: Room) -> None:
    machine, project_id = await machine_of(room)
    texts = [f"{number}" for number in range(30)]
    path = machine.write(machine.prompt("begin"), *map(answer, texts))
    name = {"session_id": name_of(1)}
    async with wire_of(room, view_only=True) as wire:
        found: list[dict[str, Any]] = []
        before: dict[str, int] = {}
        while before.get("before") != 0:
            request = {**name, **before, "limit": 8}
            page = (await wire.ask("session_history", request, project_id=project_id))["data"]
            before = {"before": page["before"]}
            found = page["messages"] + found
        assert found[0]["message"] == {"execution_id": "u", "prompt": "begin", "by": "terminal"}
        assert [one["message"]["message"]["content"][0]["text"] for one in found[1:]] == texts
        newest = (await wire.ask("session_history", name, project_id=project_id))["data"]
        place = {"epoch": newest["epoch"], "after": newest["end"]}
        first = await wire.ask("session_follow", {**name, **place}, project_id=project_id)
        assert (first["data"]["messages"], first["data"]["active"]) == ([], False)
        with path.open("a") as file:
            file.write(json.dumps(answer("more")) + "\n")
        pushed = await until_type(wire, "session_lines")
        assert pushed["project_id"] == project_id
        assert [one["message"]["type"] for one in pushed["data"]["messages"]] == ["assistant"]
        run_in_terminal(machine)
        pushed = await until_type(wire, "session_lines")
        assert (pushed["data"]["messages"], pushed["data"]["active"]) == ([], True)
        path.unlink()
        assert (await until_type(wire, "session_lines"))["data"]["ended"] == "deleted"


async def test_what_is_followed_is_bounded_and_ends(room: Room) -> None:
    machine, project_id = await machine_of(room)
    for number in range(10):
        machine.write(machine.prompt("begin"), number=number)
    async with room.wire() as wire:
        for number in range(8):
            data = {"session_id": name_of(number)}
            assert (await wire.ask("session_follow", data, project_id=project_id))["type"] == "session_lines"
        data = {"session_id": name_of(8)}
        assert code(await wire.ask("session_follow", data, project_id=project_id)) == "RESOURCE_LIMIT"
        await wire.ask("session_unfollow", {"session_id": name_of(0)}, project_id=project_id)
        again = {"session_id": name_of(1)}
        assert (await wire.ask("session_follow", again, project_id=project_id))["type"] == "session_lines"
        assert (await wire.ask("session_follow", data, project_id=project_id))["type"] == "session_lines"
        assert len(room.connection().followed) == 8
        await room.projects.delete(project_of(project_id))
        with machine.path(8).open("a") as file:
            file.write(json.dumps(answer("more")) + "\n")
        assert code(await until_type(wire, "error")) == "PROJECT_NOT_FOUND"
        tasks = list(room.connection().followed.values())
    await asyncio.wait(tasks)


async def test_a_session_of_a_terminal_is_resumed_unless_it_is_open(room: Room) -> None:
    machine, project_id = await machine_of(room)
    machine.write(machine.prompt("at the desk"), number=2)
    run_in_terminal(machine, name_of(2))
    data = {"session_id": name_of(2)}
    async with room.wire() as wire:
        refused = await wire.ask("session_resume", data, project_id=project_id)
        assert code(refused) == "PROCESS_ACTIVE"
        assert "terminal" in refused["data"]["message"]
        forked = await wire.ask("session_resume", {**data, "fork": True}, project_id=project_id)
        assert forked["type"] == "session_resume"
        (machine.configuration / "sessions" / f"{os.getpid()}.json").unlink()
        assert (await wire.ask("session_resume", data, project_id=project_id))["type"] == "session_resume"
        state = room.projects.get(project_id).state
        assert (state.record.session_id, state.record.fork) == (name_of(2), False)
        (listed,) = await sessions(wire, project_id)
        assert (listed["origin"], listed["current"], listed["title"]) == ("server", True, "at the desk")
        unknown = await wire.ask("session_resume", {"session_id": name_of(3)}, project_id=project_id)
        assert code(unknown) == "VALIDATION_FAILED"


async def test_a_conversation_continues_a_session_of_a_terminal(room: Room) -> None:
    machine, project_id = await machine_of(room)
    machine.write(machine.prompt("at the desk"), number=2)
    run_in_terminal(machine, name_of(2))
    data = {"session_id": name_of(2)}
    async with room.wire() as wire:
        assert code(await wire.ask("conversation_create", data, project_id=project_id)) == "PROCESS_ACTIVE"
        (machine.configuration / "sessions" / f"{os.getpid()}.json").unlink()
        begun = await wire.ask("conversation_create", data, project_id=project_id)
        assert (begun["data"]["session_id"], begun["data"]["session_title"]) == (name_of(2), "at the desk")
        unknown = {"session_id": name_of(3)}
        assert code(await wire.ask("conversation_create", unknown, project_id=project_id)) == "VALIDATION_FAILED"


async def test_a_session_that_is_continued_has_the_id_of_one(room: Room) -> None:
    """Else an id is a path, and a part of the command that a user copies into a shell."""
    machine, project_id = await machine_of(room)
    folder = machine.write(machine.prompt("at the desk")).parent
    planted = machine.project / "x; touch ran #.jsonl"
    planted.write_text(json.dumps(machine.prompt("planted")) + "\n")
    async with wire_of(room, projects=(project_id,)) as guest:
        paths = (os.path.relpath(planted, folder), str(planted), f"../{folder.name}/{name_of(1)}.jsonl")
        for session_id in (*(path.removesuffix(".jsonl") for path in paths), "\0"):
            data = {"session_id": session_id}
            for kind in ("conversation_create", "session_resume", "session_history", "session_follow"):
                reply = await guest.ask(kind, data, project_id=project_id)
                assert code(reply) == "VALIDATION_FAILED", (kind, session_id)
        assert len(room.projects.of(project_id)) == 1


async def test_the_list_names_the_conversation_that_continues_a_session(room: Room) -> None:
    machine, project_id = await machine_of(room)
    machine.write(machine.prompt("at the desk"))
    data = {"session_id": name_of(1)}
    async with room.wire() as wire:
        forked = {**data, "fork": True}
        await wire.ask("conversation_create", forked, project_id=project_id)  # it does not continue the session itself
        (listed,) = await sessions(wire, project_id)
        assert listed["conversation_id"] is None
        begun = await wire.ask("conversation_create", data, project_id=project_id)
        (listed,) = await sessions(wire, project_id)
        assert listed["conversation_id"] == begun["data"]["conversation_id"]
        refused = await wire.ask("session_resume", data, project_id=project_id)
        assert refused["data"]["details"] == {"conversation_id": listed["conversation_id"]}


async def test_prompts_of_the_history_have_their_makers(room: Room) -> None:
    machine, project_id = await machine_of(room)
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        begun = await execute(wire, room.projects.get(project_id), "hello there")
        await until_type(wire, "project_state", state="IDLE")
        own = machine.prompt("mine", entrypoint="sdk-cli", uuid=begun["data"]["execution_id"])
        typed = machine.prompt("typed", entrypoint="cli", uuid="t")
        unknown = machine.prompt("continue", entrypoint="sdk-cli", uuid="c")
        path = machine.write(own, typed, unknown)
        assert await _makers(wire, project_id, name_of(1)) == ["test", "terminal", "terminal"]  # `claude -p` by hand
        path.rename(path.with_name(f"{CONVERSATION}.jsonl"))
        assert await _makers(wire, project_id, CONVERSATION) == ["test", "terminal", "server"]


async def _makers(wire: Wire, project_id: str, session_id: str) -> list[str]:
    """The devices that gave the prompts of a session, in its history and for a client that follows it."""
    data = {"session_id": session_id}
    page = (await wire.ask("session_history", data, project_id=project_id))["data"]
    found = [one["message"]["by"] for one in page["messages"]]
    place = {**data, "epoch": page["epoch"], "after": 0}
    followed = (await wire.ask("session_follow", place, project_id=project_id))["data"]
    assert [one["message"]["by"] for one in followed["messages"]] == found
    return found


async def test_another_project_cannot_be_read(room: Room) -> None:
    machine, _ = await machine_of(room)
    other = await room.project("other")
    machine.write(machine.prompt("secret"))
    data = {"session_id": name_of(1)}
    async with room.wire() as wire:
        for kind in ("session_history", "session_follow", "session_resume"):
            answered = await wire.ask(kind, data, project_id=other.state.record.id)
            assert code(answered) == "VALIDATION_FAILED", kind
        assert await sessions(wire, other.state.record.id) == []


async def test_the_idle_process_is_released_for_a_terminal(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        assert (await wire.ask("session_release", project_id=project_id))["data"]["resume_command"] is None
        await execute(wire, session, "hello there")
        await until_type(wire, "project_state", state="IDLE")
        assert (await _process(room, project_id)) is not None
        released = (await wire.ask("session_release", project_id=project_id))["data"]
        assert released["resume_command"].endswith(f" && claude --resume={CONVERSATION}")
        assert (await _process(room, project_id)) is None
        await execute(wire, session, "ask Bash")
        assert code(await wire.ask("session_release", project_id=project_id)) == "PROCESS_ACTIVE"


async def test_a_conversation_that_a_terminal_has_open_takes_no_prompt(room: Room) -> None:
    machine, project_id = await machine_of(room)
    machine.write(machine.prompt("at the desk"))
    async with room.wire() as wire:
        await wire.ask("session_resume", {"session_id": name_of(1)}, project_id=project_id)
        run_in_terminal(machine)
        refused = await wire.ask("execute", {"prompt": "one"}, project_id=project_id)
        assert (code(refused), "terminal" in refused["data"]["message"]) == ("PROCESS_ACTIVE", True)
        (machine.configuration / "sessions" / f"{os.getpid()}.json").unlink()
        assert (await wire.ask("execute", {"prompt": "one"}, project_id=project_id))["type"] == "execute"
        run_in_terminal(machine)  # the agent's process is there already
        assert (await wire.ask("execute", {"prompt": "two"}, project_id=project_id))["type"] == "execute"


async def _process(room: Room, project_id: str) -> int | None:
    """The pid of the agent's process, as it is stored."""
    record = await room.store.process(project_of(project_id))
    return record.pid if record is not None else None


async def test_two_conversations_that_resume_a_session_at_once(room: Room) -> None:
    machine, project_id = await machine_of(room)
    machine.write(machine.prompt("at the desk"), answer("one"))
    name = {"session_id": name_of(1)}
    async with room.wire() as one, room.wire() as two, room.wire() as three:
        other = (await one.ask("conversation_create", project_id=project_id))["conversation_id"]
        replies = await asyncio.gather(
            one.ask("session_resume", name, project_id=project_id),
            two.ask("session_resume", name, conversation_id=other),
            three.ask("conversation_create", name, project_id=project_id),
        )
    assert [code(reply) for reply in replies].count("VALIDATION_FAILED") == 2
    having = [one.state.record.session_id for one in room.projects.of(project_id)]
    assert having.count(name_of(1)) == 1


async def test_sessions_of_a_worktree_that_is_a_project_are_those_of_that_project(room: Room) -> None:
    machine, project_id = await machine_of(room)
    tree = room.folder / "tree"
    repository(machine.project)
    git(machine.project, "worktree", "add", "--quiet", str(tree))
    machine.write(machine.prompt("in a tree", tree), directory=tree)
    async with room.wire() as wire:
        assert [one["title"] for one in await sessions(wire, project_id)] == ["in a tree"]
    other = (await room.projects.create(str(tree))).state.record.project_id
    name = {"session_id": name_of(1)}
    async with wire_of(room, projects=(project_id,)) as wire:
        assert await sessions(wire, project_id) == []
        for kind in ("session_history", "session_follow", "session_resume", "conversation_create"):
            assert code(await wire.ask(kind, name, project_id=project_id)) == "VALIDATION_FAILED", kind
    async with room.wire() as wire:
        assert [one["title"] for one in await sessions(wire, other)] == ["in a tree"]
        assert (await wire.ask("session_history", name, project_id=other))["type"] == "session_history"
