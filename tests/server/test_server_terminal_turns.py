"""Turns that a terminal makes in a conversation of the server: in its log afterwards, in order, once."""

import json
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.claude.transcripts import Continued, Transcripts
from pocket_agent.errors import FileOperationError
from pocket_agent.events import ExecutionFinished
from pocket_agent.model import ExecutionStatus
from tests.conversation.test_conversation_pause import limit
from tests.harness.repository import git, repository
from tests.harness.sessions import AT, Machine, answer
from tests.server.room import Room, Wire, until
from tests.server.test_server_conversations import begin
from tests.server.test_server_handlers import CONVERSATION, code, execute, until_type
from tests.server.test_server_terminal import machine_of, run_in_terminal

TERMINAL: dict[str, Any] = {"entrypoint": "cli"}
PRINT: dict[str, Any] = {"entrypoint": "sdk-cli"}
OWN = ("test: hello there", "hello", "there")
"""The turn of the server."""


class Desk:
    """A conversation with one turn of the server, and the file of its session, which has that turn."""

    def __init__(self, machine: Machine, project_id: str, execution_id: str) -> None:
        self.machine = machine
        self.project_id = project_id
        self.file = machine.path().with_name(f"{CONVERSATION}.jsonl")
        self.append(machine.prompt("hello there", **PRINT, uuid=execution_id), answer("one", **PRINT))

    def append(self, *records: dict[str, Any]) -> None:
        """Write records, as a CLI does."""
        with self.file.open("a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))

    def turn(self, text: str, by: dict[str, Any] = TERMINAL) -> None:
        """A turn that a CLI makes in a terminal."""
        self.append(self.machine.prompt(text, **by, uuid=f"id of {text}"), answer(f"answer to {text}", **by))


async def desk_of(room: Room, wire: Wire) -> Desk:
    """Let the agent of a conversation run once."""
    machine, project_id = await machine_of(room)
    await wire.ask("project_join", project_id=project_id)
    begun = await execute(wire, room.projects.get(project_id), "hello there")
    await until_type(wire, "project_state", state="IDLE")
    return Desk(machine, project_id, begun["data"]["execution_id"])


async def log_of(wire: Wire, project_id: str) -> list[str]:
    """The prompts, answers and other entries of the log, each as a word or two."""
    page = (await wire.ask("get_messages", {"limit": 1000}, project_id=project_id))["data"]
    return [shown for one in page["messages"] if (shown := _shown(one["type"], one["message"]))]


def _shown(kind: str, data: dict[str, Any]) -> str:
    match kind:
        case "prompt":
            return f"{data['by']}: {data['prompt']}"
        case "agent_message":
            content = data.get("message", {}).get("content")
            return str(content[0]["text"]) if data["type"] == "assistant" and isinstance(content, list) else ""
        case "terminal_turns":
            return "lost" if data.get("lost") else "terminal"
    return kind


async def test_turns_of_a_terminal_are_in_the_log_in_order_once(room: Room) -> None:
    async with room.wire() as wire:
        desk = await desk_of(room, wire)
        desk.turn("a quince")
        await wire.ask("session_release", project_id=desk.project_id)
        prompt = await until_type(wire, "prompt", by="terminal")
        assert prompt["data"] == {
            "execution_id": "id of a quince",
            "prompt": "a quince",
            "by": "terminal",
            "typed_at": AT,
        }
        assert (await until_type(wire, "agent_message"))["data"]["type"] == "assistant"
        desk.append(answer("more of it", **TERMINAL))  # the turn goes on
        await until_type(wire, "agent_message")
        last = room.projects.get(desk.project_id).state.record.last_line
        assert last is not None and (last.text, last.by) == ("more of it", "agent")
        desk.turn("a medlar")
        assert (await execute(wire, room.projects.get(desk.project_id), "again"))["type"] == "execute"
        await until_type(wire, "project_state", state="IDLE")
        taken = ["terminal", "terminal: a quince", "answer to a quince", "more of it"]
        more = ["terminal: a medlar", "answer to a medlar"]
        expected = [*OWN, *taken, *more, "test: again", "again"]
        assert await log_of(wire, desk.project_id) == expected
        room.projects.get(desk.project_id).loops.terminal.wake.set()
        await wire.ask("session_release", project_id=desk.project_id)
        assert await log_of(wire, desk.project_id) == expected


async def test_an_idle_agent_that_lacks_turns_of_a_terminal_is_replaced(room: Room) -> None:
    async with room.wire() as wire:
        desk = await desk_of(room, wire)
        before = await room.store.process(room.projects.get(desk.project_id).state.record.id)
        desk.turn("by hand")
        await execute(wire, room.projects.get(desk.project_id), "again")
        await until_type(wire, "project_state", state="IDLE")
        after = await room.store.process(room.projects.get(desk.project_id).state.record.id)
        assert before is not None
        assert after is not None
        assert before.id != after.id
        expected = [*OWN, "terminal", "terminal: by hand", "answer to by hand", "test: again", "again"]
        assert await log_of(wire, desk.project_id) == expected


async def test_a_terminal_that_goes_on_working_is_not_mixed_with_an_agent(room: Room) -> None:
    async with room.wire() as wire:
        desk = await desk_of(room, wire)
        desk.turn("by hand")
        record = run_in_terminal(desk.machine, CONVERSATION)
        refused = await execute(wire, room.projects.get(desk.project_id), "again")
        assert code(refused) == "PROCESS_ACTIVE"
        assert "end the CLI there first" in refused["data"]["message"]
        record.unlink()
        assert (await execute(wire, room.projects.get(desk.project_id), "again"))["type"] == "execute"


async def test_only_turns_of_terminals_are_taken_in(room: Room) -> None:
    async with room.wire() as wire:
        desk = await desk_of(room, wire)
        desk.append({**desk.machine.prompt("typed into the turn", **PRINT, uuid="steered"), "isMeta": True})
        desk.append(desk.machine.prompt("[Request interrupted by user]", **PRINT, uuid="of the CLI"))
        desk.append(answer("a turn of its own", **PRINT))
        desk.turn("a quince")
        desk.append(answer("a turn of the agent", **PRINT), {"type": "unknown", **TERMINAL})
        await wire.ask("session_release", project_id=desk.project_id)
        await until_type(wire, "agent_message", type="unknown")
        found = await log_of(wire, desk.project_id)
        assert found == [*OWN, "terminal", "terminal: a quince", "answer to a quince", "terminal"]


async def test_a_file_that_was_replaced_or_is_broken_harms_nothing(room: Room) -> None:
    async with room.wire() as wire:
        desk = await desk_of(room, wire)
        await wire.ask("session_release", project_id=desk.project_id)
        desk.turn("a quince")
        await until_type(wire, "agent_message", type="assistant")
        desk.file.write_text(json.dumps(desk.machine.prompt("another file")) + "\n")
        lost = await until_type(wire, "terminal_turns")
        assert lost["data"] == {"session_id": CONVERSATION, "lost": True}
        desk.turn("a medlar")
        with desk.file.open("ab") as file:
            file.write(b'{"type": "user", \xff\n' + b"x" * (room.settings.claude.max_line + 1) + b"\n{unfinished")
        kinds = [(await until_type(wire, "error"))["data"]["code"] for _ in range(2)]
        assert kinds == ["INVALID_MESSAGE", "RESOURCE_LIMIT"]
        desk.file.unlink()
        assert (await execute(wire, room.projects.get(desk.project_id), "again"))["type"] == "execute"
        await until_type(wire, "project_state", state="IDLE")
        assert (await log_of(wire, desk.project_id))[-2:] == ["test: again", "again"]


async def test_history_of_a_continued_session_is_not_taken_in(room: Room) -> None:
    machine, project_id = await machine_of(room)
    path = machine.write(machine.prompt("at the desk", **TERMINAL), answer("one", **TERMINAL))
    async with room.wire() as wire:
        data = {"session_id": path.stem}
        begun = await wire.ask("conversation_create", data, project_id=project_id)
        conversation_id = begun["data"]["conversation_id"]
        await wire.ask("project_join", {"since": 0}, conversation_id=conversation_id)
        resumed = await until_type(wire, "session_resumed")
        assert resumed["data"] == {**data, "fork": False, "title": "at the desk", "end": path.stat().st_size}
        machine.append(machine.prompt("later", **TERMINAL), answer("two", **TERMINAL))
        assert (await until_type(wire, "prompt"))["data"]["prompt"] == "later"
        taken = await wire.ask("session_resume", data, project_id=project_id)
        assert code(taken) == "VALIDATION_FAILED"


async def test_turns_right_after_the_begin_of_a_conversation_are_no_history(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    continued, calls = Transcripts.continued, iter(range(1000))

    async def readable_once(*arguments: Any) -> Continued:
        if next(calls) > 0:
            raise FileOperationError("The disk does not answer.")
        return await continued(*arguments)

    machine, project_id = await machine_of(room)
    path = machine.write(machine.prompt("at the desk", **TERMINAL), answer("one", **TERMINAL))
    async with room.wire() as wire:
        with monkeypatch.context() as patch:
            patch.setattr(Transcripts, "continued", readable_once)
            begun = await wire.ask("conversation_create", {"session_id": path.stem}, project_id=project_id)
            machine.append(machine.prompt("later", **TERMINAL))
        await wire.ask("project_join", {"since": 0}, conversation_id=begun["data"]["conversation_id"])
        assert (await until_type(wire, "prompt"))["data"]["prompt"] == "later"


async def test_history_of_a_copy_is_not_taken_in(room: Room) -> None:
    machine, project_id = await machine_of(room)
    machine.write(machine.prompt("at the desk", **TERMINAL), answer("one", **TERMINAL))
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        data = {"session_id": machine.path().stem, "fork": True}
        assert (await wire.ask("session_resume", data, project_id=project_id))["type"] == "session_resume"
        # The stand-in gives its copy the same id, so that the file begins with the history, as that of a copy does.
        await execute(wire, room.projects.get(project_id), "hello there")
        state = room.projects.get(project_id).state
        await until(lambda: state.record.transcript is not None)
        machine.append(machine.prompt("a quince", **TERMINAL))
        await wire.ask("session_release", project_id=project_id)
        assert (await until_type(wire, "prompt", by="terminal"))["data"]["prompt"] == "a quince"


async def test_a_prompt_that_has_run_is_known_while_a_terminal_has_the_session(room: Room) -> None:
    """A client that lost the reply sends it again, and must not take it for refused."""
    async with room.wire() as wire:
        desk = await desk_of(room, wire)
        again = {"prompt": "once", "prompt_id": "p-1"}
        first = await wire.ask("execute", again, project_id=desk.project_id)
        await until_type(wire, "project_state", state="IDLE")
        await wire.ask("session_release", project_id=desk.project_id)
        run_in_terminal(desk.machine, CONVERSATION)
        second = await wire.ask("execute", again, project_id=desk.project_id)
        assert second["data"]["execution_id"] == first["data"]["execution_id"]
        new = await wire.ask("execute", {"prompt": "twice"}, project_id=desk.project_id)
        assert (code(new), "with fork" in new["data"]["message"]) == ("PROCESS_ACTIVE", True)


async def test_prompts_that_wait_do_not_start_while_a_terminal_has_the_session(room: Room) -> None:
    """They keep their place, as behind a usage limit that is reset while the terminal works."""
    async with room.wire() as wire:
        desk = await desk_of(room, wire)
        conversation = room.projects.get(desk.project_id)
        begun = await execute(wire, conversation, f"first {limit(600)}")
        await until(lambda: conversation.state.record.queue_hold is not None)
        desk.append(desk.machine.prompt("first", **PRINT, uuid=begun["data"]["execution_id"]))
        await execute(wire, conversation, "second")
        await wire.ask("session_release", project_id=desk.project_id)
        record = run_in_terminal(desk.machine, CONVERSATION)
        desk.turn("by hand")
        assert (await wire.ask("queue_resume", project_id=desk.project_id))["type"] == "queue_resume"
        said = await until_type(wire, "error")
        assert (code(said), "terminal" in said["data"]["message"]) == ("PROCESS_ACTIVE", True)
        # A client that comes later sees it too.
        page = (await wire.ask("get_messages", {"limit": 1000}, project_id=desk.project_id))["data"]
        assert [one["message"] for one in page["messages"] if one["type"] == "error"] == [said["data"]]
        assert conversation.process is None
        assert [execution.prompt.split()[0] for execution in conversation.state.queue] == ["first", "second"]
        record.unlink()
        await until(lambda: len(room.seen.of(ExecutionFinished)) == 3)
        assert {event.status for event in room.seen.of(ExecutionFinished)} == {ExecutionStatus.SUCCESS}


@pytest.mark.parametrize("kind", ["a folder of a repository", "a worktree"])
async def test_a_worktree_of_a_project_that_is_no_repository_itself(room: Room, kind: str) -> None:
    top, project = room.folder / "repository", room.folder / "repository" / "part"
    project.mkdir(parents=True)
    repository(top)
    if kind == "a worktree":
        project = room.folder / "linked"
        git(top, "worktree", "add", "--quiet", str(project))
    project_id = (await room.projects.create(str(project))).state.record.id
    async with room.wire() as wire:
        key = await begin(wire, project_id, worktree={})
        conversation = room.projects.get(key)
        await wire.ask("project_join", conversation_id=key)
        await execute(wire, conversation, "hello there")
        await until_type(wire, "project_state", state="IDLE")
        place = Path(conversation.state.record.real_path)
        machine = Machine(room.folder / ".claude", place)
        file = machine.write(machine.prompt("hello there", **PRINT), answer("one", **PRINT))
        file = file.rename(file.with_name(f"{CONVERSATION}.jsonl"))
        (listed,) = (await wire.ask("session_list", project_id=project_id))["data"]["sessions"]
        assert (listed["directory"], listed["turns"]) == (str(place), 1)
        await wire.ask("session_release", conversation_id=key)
        with file.open("a") as more:
            more.write(json.dumps(machine.prompt("by hand", **TERMINAL)) + "\n")
        assert (await until_type(wire, "prompt", by="terminal"))["conversation_id"] == key
