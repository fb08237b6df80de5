"""What viewers and devices of some projects may ask for: every request there is is tried."""

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from pocket_agent.directory import worktrees_folder
from pocket_agent.errors import ForbiddenError
from pocket_agent.model import Device, Milliseconds, project_of
from pocket_agent.protocol.requests import REQUESTS, Need
from pocket_agent.server.auth import new_device
from pocket_agent.server.handlers import check_permission
from tests.harness.repository import repository
from tests.harness.sessions import Machine, name_of
from tests.server.room import Room, Wire, until

FULL = Device("d", "full", "h", Milliseconds(0))
VIEWER = Device("d", "viewer", "h", Milliseconds(0), view_only=True)
LIMITED = Device("d", "limited", "h", Milliseconds(0), projects=(project_of("p-1"),))
BOTH = Device("d", "both", "h", Milliseconds(0), view_only=True, projects=(project_of("p-1"),))

SAMPLES: dict[str, dict[str, Any]] = {
    "project_create": {"path": "/nowhere"},
    "project_list": {},
    "project_delete": {},
    "conversation_create": {},
    "conversation_list": {},
    "conversation_rename": {"title": "the tests"},
    "conversation_archive": {},
    "conversation_delete": {},
    "project_join": {},
    "project_leave": {},
    "execute": {"prompt": "one"},
    "agent_kill": {},
    "agent_interrupt": {},
    "agent_new_session": {},
    "get_messages": {},
    "approval_respond": {"approval_id": "a-1", "behavior": "allow"},
    "prompt_edit": {"execution_id": "e-1", "prompt": "two"},
    "stop_task": {"task_id": "t-1"},
    "agent_report": {"report": "context"},
    "rewind_files": {"execution_id": "e-1"},
    "prompt_promote": {"execution_id": "e-1"},
    "prompt_cancel": {"execution_id": "e-1"},
    "queue_resume": {},
    "set_model": {"model": "opus"},
    "set_permission_mode": {"mode": "plan"},
    "session_list": {},
    "session_resume": {"session_id": str(uuid.UUID(int=1))},
    "session_release": {},
    "session_history": {"session_id": name_of(1)},
    "session_follow": {"session_id": name_of(1)},
    "session_unfollow": {"session_id": name_of(1)},
    "execution_list": {},
    "device_list": {},
    "device_rename": {"device_id": "d-1", "name": "mine"},
    "device_revoke": {"device_id": "d-1"},
    "device_rotate": {"device_id": "none"},
    "pairing_start": {},
    "pairing_cancel": {"pairing_id": "none"},
    "watch": {},
    "path_complete": {"path": "/"},
    "path_inspect": {"path": "/"},
    "project_trust": {"hash": "0" * 64},
    "health_check": {},
    "server_stats": {"interval": 1},
    "server_history": {"range": 60},
    "server_overview": {},
}
"""A well-formed request of each type."""

FIGURES = {"server_stats", "server_history", "server_overview"}
WATCHING = {
    *(
        "project_list",
        "conversation_list",
        "project_join",
        "project_leave",
        "get_messages",
        "session_list",
        "execution_list",
    ),
    *("watch", "health_check", "agent_report", "session_history", "session_follow", "session_unfollow", *FIGURES),
}
OF_SERVER = {
    *("project_create", "project_trust", "path_complete", "path_inspect", *FIGURES),
    *("device_list", "device_rename", "device_revoke", "device_rotate", "pairing_start", "pairing_cancel"),
}


def allowed(device: Device, kind: str) -> bool:
    """Whether a device may make this request."""
    try:
        check_permission(device, REQUESTS[kind].spec.needs)
    except ForbiddenError:
        return False
    return True


def test_every_request_has_its_sample() -> None:
    assert set(SAMPLES) == set(REQUESTS)


def test_who_may_ask_for_what() -> None:
    requests = set(REQUESTS)
    assert {kind for kind in requests if allowed(FULL, kind)} == requests
    assert {kind for kind in requests if allowed(VIEWER, kind)} == WATCHING
    assert {kind for kind in requests if allowed(LIMITED, kind)} == requests - OF_SERVER
    assert {kind for kind in requests if allowed(BOTH, kind)} == WATCHING - OF_SERVER


def test_nothing_that_changes_something_is_for_viewers() -> None:
    assert {kind for kind in REQUESTS if REQUESTS[kind].spec.needs is Need.WATCH} == WATCHING - FIGURES


@contextlib.asynccontextmanager
async def wire_of(room: Room, name: str = "guest", **access: Any) -> AsyncIterator[Wire]:
    """A connection of a device that may do so much."""
    device, token = new_device(name, **access)
    await room.store.add_device(device)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{room.url}/ws", headers=headers) as socket:
        yield Wire(socket)


async def test_a_viewer_that_tries_everything_changes_nothing(room: Room) -> None:
    session = await room.project(entries=3)
    machine = Machine(room.folder / ".claude", room.folder / "project")
    machine.write(machine.prompt("at the desk"))
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
    before = (session.state.record, await room.store.devices())
    async with wire_of(room, view_only=True) as viewer:
        for kind, data in SAMPLES.items():
            answer = await viewer.ask(kind, data, project_id=project_id)
            code = answer["data"].get("code")
            assert (code == "FORBIDDEN") == (kind not in WATCHING), kind
            if kind in WATCHING:  # no process runs that could report
                assert (answer["type"] == "error") == (kind == "agent_report"), kind
    assert session.state.record == before[0]
    assert [device.id for device in await room.store.devices()][:1] == [device.id for device in before[1]]
    assert len(room.projects) == 1


async def test_a_viewer_that_asks_an_agent_again_and_again_keeps_no_request_waiting(room: Room) -> None:
    """Each question to an agent that does not answer takes 5 seconds, in which no other request is carried out."""
    session = await room.project()
    project_id = session.state.record.id
    order: list[str] = []
    async with wire_of(room, view_only=True) as viewer, room.wire() as wire:
        await wire.ask("execute", {"prompt": "mute ask Bash"}, project_id=project_id)
        await until(lambda: bool(session.state.approvals))
        asked = {"type": "agent_report", "project_id": project_id, "data": {"report": "context"}}

        async def answered(client: Wire, request_id: str) -> None:
            await client.answer(request_id)
            order.append(request_id)

        for number in range(5):
            await viewer.send({**asked, "request_id": f"report {number}"})
        await viewer.works()
        async with asyncio.TaskGroup() as tasks:
            await wire.send({"type": "agent_kill", "project_id": project_id, "request_id": "kill"})
            tasks.create_task(answered(wire, "kill"))
            for number in range(5):
                await answered(viewer, f"report {number}")
    assert order.index("kill") <= 2, order


async def test_a_viewer_sees_what_happens(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with wire_of(room, view_only=True) as viewer, room.wire() as wire:
        assert (await viewer.ask("project_join", {"since": 0}, project_id=project_id))["type"] == "project_join"
        assert (await wire.ask("execute", {"prompt": "one"}, project_id=project_id))["type"] == "execute"
        while True:
            frame = await viewer.frame()
            if frame["type"] == "agent_message":
                break


async def test_a_viewer_sees_projects_that_are_created_later(room: Room) -> None:
    async with wire_of(room, view_only=True) as viewer:
        assert (await viewer.ask("project_list"))["data"]["total"] == 0
        session = await room.project()
        listed = (await viewer.ask("project_list"))["data"]["projects"]
        assert [project["id"] for project in listed] == [session.state.record.id]


async def test_a_limited_device_sees_and_touches_its_projects_alone(room: Room) -> None:
    mine, other = await room.project("mine", entries=2), await room.project("other", entries=2)
    own_id, other_id = mine.state.record.id, other.state.record.id
    async with wire_of(room, projects=(own_id,)) as guest:
        listed = (await guest.ask("project_list"))["data"]
        assert ([project["id"] for project in listed["projects"]], listed["total"]) == ([own_id], 1)
        assert [project["id"] for project in (await guest.ask("watch"))["data"]["projects"]] == [own_id]
        assert (await guest.ask("health_check"))["data"]["projects"]["count"] == 1
        for kind, data in SAMPLES.items():
            if kind in OF_SERVER:
                assert (await guest.ask(kind, data))["data"]["code"] == "FORBIDDEN", kind
            elif kind not in {"project_list", "watch", "health_check"}:
                answers = [
                    await guest.ask(kind, data, project_id=other_id),
                    await guest.ask(kind, {**data, "project_id": other_id}),
                    await guest.ask(kind, data, project_id="there-is-none"),
                ]
                codes = [(answer["data"].get("code"), answer["data"].get("message")) for answer in answers]
                assert set(codes) == {("PROJECT_NOT_FOUND", "There is no such project.")}, kind
        assert (await guest.ask("project_join", {"since": 0}, project_id=own_id))["data"]["project_id"] == own_id
        assert len((await guest.ask("get_messages"))["data"]["messages"]) == 2
        assert (await guest.ask("project_delete", project_id=own_id))["type"] == "project_deleted"
    assert [session.state.record.id for session in room.projects.all()] == [other_id]


async def test_a_limited_device_does_not_hear_of_other_projects(room: Room) -> None:
    mine = await room.project("mine")
    own_id = mine.state.record.id
    folder = room.folder / "secret"
    folder.mkdir()
    async with wire_of(room, projects=(own_id,)) as guest, room.wire() as wire:
        await guest.works()
        created = await wire.ask("project_create", {"path": str(folder)})
        await wire.ask("project_delete", project_id=created["data"]["id"])
        await wire.ask("project_delete", project_id=own_id)
        heard = await guest.frame()
        assert (heard["type"], heard["data"]["project_id"]) == ("project_deleted", own_id)


async def test_a_limited_device_that_watches_hears_of_its_own_projects_alone(room: Room) -> None:
    mine, other = await room.project("mine"), await room.project("other")
    own_id = mine.state.record.id
    async with wire_of(room, projects=(own_id,)) as guest, room.wire() as wire:
        await guest.ask("watch")
        for session in (other, mine):
            await wire.ask("execute", {"prompt": "one"}, project_id=session.state.record.id)
        frame = await guest.frame()
        assert (frame["type"], frame["project_id"]) == ("project_state", own_id)


async def test_a_device_limited_to_nothing_sees_nothing(room: Room) -> None:
    await room.project()
    async with wire_of(room, projects=()) as guest:
        assert (await guest.ask("project_list"))["data"] == {"projects": [], "total": 0}


async def test_a_limited_device_takes_no_questions_away(room: Room) -> None:
    """It may ask the agent for anything, but what it allows is what a person of the server would be asked for."""
    session = await room.project()
    project_id = session.state.record.id
    refused = {
        "allowed_tools": {"allowed_tools": ["Bash"]},
        "mcp_config": {"mcp_config": '{"mcpServers":{"x":{"command":"sh"}}}'},
        "add_dirs": {"add_dirs": [str(room.folder)]},
        "append_system_prompt": {"append_system_prompt": "obey"},
        "dangerously_skip_permissions": {"dangerously_skip_permissions": True},
    } | {mode: {"permission_mode": mode} for mode in ("acceptEdits", "auto", "dontAsk", "bypassPermissions")}
    async with wire_of(room, projects=(project_id,)) as guest, room.wire() as wire:
        for kind, options in refused.items():
            answer = await guest.ask("execute", {"prompt": "one", "options": options}, project_id=project_id)
            assert answer["data"]["code"] == "FORBIDDEN", kind
        for mode in ("acceptEdits", "bypassPermissions"):
            answer = await guest.ask("set_permission_mode", {"mode": mode}, project_id=project_id)
            assert answer["data"]["code"] == "FORBIDDEN", mode
        assert (await guest.ask("set_permission_mode", {"mode": "plan"}, project_id=project_id))["type"] != "error"
        # What somebody else chose for the project does not hold for its prompts.
        await wire.ask("set_permission_mode", {"mode": "acceptEdits"}, project_id=project_id)
        allowed = {"prompt": "ask Bash", "options": {"model": "opus", "disallowed_tools": ["WebFetch"]}}
        assert (await guest.ask("execute", allowed, project_id=project_id))["type"] == "execute"
        await until(lambda: bool(session.state.approvals))
        current = session.state.current
        assert current is not None
        assert current.options.permission_mode == "default"
        (approval,) = session.state.approvals
        answer = {"approval_id": approval, "behavior": "allow"}
        for more in ({"updated_input": {"command": "id"}}, {"remember": True}):
            told = await guest.ask("approval_respond", {**answer, **more}, project_id=project_id)
            assert told["data"]["code"] == "FORBIDDEN", more
        queued = await wire.ask("execute", {"prompt": "theirs"}, project_id=project_id)
        edit = {"execution_id": queued["data"]["execution_id"], "prompt": "mine"}
        assert (await guest.ask("prompt_edit", edit, project_id=project_id))["data"]["code"] == "FORBIDDEN"
        own = await guest.ask("execute", {"prompt": "own"}, project_id=project_id)
        edit = {"execution_id": own["data"]["execution_id"], "prompt": "print own"}
        assert (await guest.ask("prompt_edit", edit, project_id=project_id))["type"] == "prompt_edit"
        for waiting in (queued, own):
            cancel = {"execution_id": waiting["data"]["execution_id"]}
            await wire.ask("prompt_cancel", cancel, project_id=project_id)
        assert (await guest.ask("approval_respond", answer, project_id=project_id))["type"] == "approval_resolved"


async def test_what_a_limited_device_has_an_agent_run_runs_as_the_servers_user(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with wire_of(room, projects=(project_id,)) as guest:
        await guest.ask("execute", {"prompt": "ask Bash"}, project_id=project_id)
        await until(lambda: bool(session.state.approvals))
        process = await room.store.process(project_id)
        assert process is not None
        assert psutil.Process(process.pid).uids().effective == os.geteuid()
        await guest.ask("agent_kill", project_id=project_id)


async def test_a_limited_device_answers_a_question_and_changes_nothing_else_of_it(room: Room) -> None:
    """A question is answered by `updated_input`, as the CLI takes it."""
    session = await room.project()
    project_id = session.state.record.id
    asked = {"command": "date"}  # what the stand-in asks with, whatever the tool
    async with wire_of(room, projects=(project_id,)) as guest:
        for tool, updated, code in (
            ("Bash", {**asked, "answers": {"Which?": "this"}}, "FORBIDDEN"),
            ("AskUserQuestion", {"command": "id", "answers": {"Which?": "this"}}, "FORBIDDEN"),
            ("AskUserQuestion", {**asked, "more": 1, "answers": {"Which?": "this"}}, "FORBIDDEN"),
            ("AskUserQuestion", {"answers": {"Which?": "this"}}, "FORBIDDEN"),
            ("AskUserQuestion", {**asked, "answers": {"Which?": "this"}}, None),
        ):
            await guest.ask("execute", {"prompt": f"ask {tool}"}, project_id=project_id)
            await until(lambda: bool(session.state.approvals))
            (approval,) = session.state.approvals
            answer = {"approval_id": approval, "behavior": "allow", "updated_input": updated}
            told = await guest.ask("approval_respond", answer, project_id=project_id)
            assert told["data"].get("code") == code, (tool, updated)
            if code is not None:
                deny = {"approval_id": approval, "behavior": "deny"}
                await guest.ask("approval_respond", deny, project_id=project_id)
            await until(lambda: session.state.current is None)


async def test_a_limited_device_answers_a_question_of_an_mcp_server_and_a_viewer_does_not(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    request = {"subtype": "elicitation", "mcp_server_name": "crm", "message": "Who?", "requested_schema": schema}
    asking = json.dumps({"type": "control_request", "request_id": "r-1", "request": request}, separators=(",", ":"))
    async with wire_of(room, projects=(project_id,)) as guest, wire_of(room, "viewer", view_only=True) as viewer:
        await guest.ask("execute", {"prompt": f"print {asking} sleep 600"}, project_id=project_id)
        await until(lambda: bool(session.state.approvals))
        (approval,) = session.state.approvals
        answer = {"approval_id": approval, "behavior": "allow", "content": {"name": "Ada"}}
        for wire, more, code in (
            (viewer, {}, "FORBIDDEN"),
            (guest, {"updated_input": {"message": "x"}}, "FORBIDDEN"),
            (guest, {"content": None}, "VALIDATION_FAILED"),
            (guest, {}, None),
        ):
            reply = await wire.ask("approval_respond", {**answer, **more}, project_id=project_id)
            assert reply["data"].get("code") == code, more
        assert reply["data"]["content"] == {"name": "Ada"}
        await guest.ask("agent_kill", project_id=project_id)


async def test_a_limited_device_makes_worktrees_of_its_projects_alone(room: Room) -> None:
    """They are the one thing that it has the server write outside the directories of its projects."""
    mine, other = await room.project("mine"), await room.project("other")
    for session in (mine, other):
        repository(Path(session.state.record.real_path))
    own_id, other_id = mine.state.record.id, other.state.record.id
    asked = {"worktree": {"branch": "side"}}
    async with wire_of(room, projects=(own_id,)) as guest, wire_of(room, "viewer", view_only=True) as viewer:
        for wire, project_id, code in ((guest, other_id, "PROJECT_NOT_FOUND"), (viewer, own_id, "FORBIDDEN")):
            reply = await wire.ask("conversation_create", asked, project_id=project_id)
            assert reply["data"].get("code") == code
        made = (await guest.ask("conversation_create", asked, project_id=own_id))["data"]
        folder = worktrees_folder(room.projects._settings.current)
        assert Path(made["path"]).is_relative_to(folder)
        gone = await guest.ask("conversation_delete", project_id=made["conversation_id"])
        assert gone["type"] == "conversation_delete"
        assert not Path(made["path"]).exists()


async def test_a_session_of_another_project_is_not_resumed(room: Room) -> None:
    mine, other = await room.project("mine"), await room.project("other")
    own_id = mine.state.record.id
    async with wire_of(room, projects=(own_id,)) as guest, room.wire() as wire:
        await wire.ask("execute", {"prompt": "one"}, project_id=other.state.record.id)
        await until(lambda: other.state.record.session_id is not None and other.state.current is None)
        for client in (guest, wire):
            data = {"session_id": other.state.record.session_id}
            answer = await client.ask("session_resume", data, project_id=own_id)
            assert answer["data"]["code"] == "VALIDATION_FAILED"
        assert mine.state.record.session_id is None
