"""Hooks of terminals at the socket: who may ask, what is shown, when it is withdrawn. No CLI is needed for that."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.claude import hook_relay
from pocket_agent.claude.process_tree import read_row
from pocket_agent.events import ApprovalRequested, ApprovalResolved
from pocket_agent.observability.catalogue import APPROVALS_PENDING
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.sessions import name_of
from tests.server.room import Room, Wire
from tests.server.test_server_handlers import code, until_type
from tests.server.test_server_permission import wire_of


@contextlib.asynccontextmanager
async def listening(room: Room) -> AsyncIterator[Path]:
    """The server's socket is open; gives the data directory."""
    data_dir = room.settings.data.dir
    task = asyncio.create_task(room.endpoint.terminal_approvals.listen(data_dir))
    await eventually((data_dir / hook_relay.SOCKET).exists, "the socket is there")
    try:
        yield data_dir
    finally:
        task.cancel()
        await asyncio.wait({task})


def hook(cwd: Path | str, session: int = 1, event: str = "PermissionRequest", **more: object) -> dict[str, Any]:
    """The input of a hook."""
    request = {"tool_name": "Bash", "tool_input": {"command": "ls"}} if event == "PermissionRequest" else {}
    return {"session_id": name_of(session), "cwd": str(cwd), "hook_event_name": event, **request, **more}


async def relay(data_dir: Path, given: dict[str, Any] | bytes, **environment: str) -> asyncio.subprocess.Process:
    """Start the command of a hook."""
    text = given if isinstance(given, bytes) else json.dumps(given).encode()
    event = given["hook_event_name"] if isinstance(given, dict) else "PermissionRequest"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", hook_relay.__file__, str(data_dir), event),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environment},
    )
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(text)
        await process.stdin.drain()
        process.stdin.close()
    return process


async def printed(process: asyncio.subprocess.Process) -> bytes:
    """What the command prints; its exit status is 0, whatever happens."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        text = await process.stdout.read()
        assert await process.wait() == 0
    return text


async def asked(wire: Wire) -> dict[str, Any]:
    """The next approval that a client is asked for."""
    data: dict[str, Any] = (await until_type(wire, "approval_requested"))["data"]
    return data


async def test_a_hook_gets_the_first_answer(room: Room) -> None:
    project_id = (await room.project()).state.record.id
    async with listening(room) as data_dir, room.wire() as wire, room.wire() as other:
        await wire.ask("watch")
        await other.ask("project_join", project_id=project_id)
        rule = {"type": "addRules", "behavior": "allow", "rules": [{"toolName": "Bash"}], "destination": "session"}
        given = hook(room.folder / "project", permission_suggestions=[rule])
        process = await relay(data_dir, given)
        data = await asked(wire)
        assert data == await asked(other)
        assert (data["input"], data["execution_id"]) == ({"command": "ls"}, None)
        assert data["terminal"] == {"session_id": name_of(1), "directory": given["cwd"]}
        assert (await until_type(wire, "project_state"))["data"]["pending_approvals"] == 1
        assert (await room.observed.core.collect())[APPROVALS_PENDING] == {(): 1}
        joined = await wire.ask("project_join", project_id=project_id)
        assert [one["approval_id"] for one in joined["data"]["approvals"]] == [data["approval_id"]]
        answer = {"approval_id": data["approval_id"], "behavior": "allow", "remember": True}
        answer["updated_input"] = {"command": "ls -l"}
        assert (await wire.ask("approval_respond", answer, project_id=project_id))["type"] == "approval_resolved"
        decision = json.loads(await printed(process))["hookSpecificOutput"]["decision"]
        assert decision == {
            "behavior": "allow",
            "updatedInput": {"command": "ls -l"},
            "updatedPermissions": [rule],
        }
        assert (await until_type(other, "approval_resolved"))["data"]["by"] == "test"
        late = await other.ask("approval_respond", {**answer, "behavior": "deny"}, project_id=project_id)
        assert (code(late), late["data"]["details"]) == ("APPROVAL_NOT_FOUND", {"behavior": "allow", "by": "test"})
        assert (await wire.ask("watch"))["data"]["approvals"] == []
        assert (await room.observed.core.collect())[APPROVALS_PENDING] == {(): 0}
    assert [event.tool for event in room.seen.of(ApprovalRequested)] == ["Bash"]
    assert [(event.behavior, event.by) for event in room.seen.of(ApprovalResolved)] == [("allow", "test")]


async def test_a_denial_has_a_reason_and_limited_devices_may_give_it(room: Room) -> None:
    project_id = (await room.project()).state.record.id
    async with listening(room) as data_dir, wire_of(room, projects=(project_id,)) as wire:
        await wire.ask("project_join", project_id=project_id)
        process = await relay(data_dir, hook(room.folder / "project" / "inside"))
        answer = {"approval_id": (await asked(wire))["approval_id"], "behavior": "allow"}
        more: dict[str, Any]
        for more in ({"remember": True}, {"updated_input": {}}):
            assert code(await wire.ask("approval_respond", {**answer, **more}, project_id=project_id)) == "FORBIDDEN"
        denial = {**answer, "behavior": "deny", "message": "no"}
        assert (await wire.ask("approval_respond", denial, project_id=project_id))["type"] == "approval_resolved"
        decision = json.loads(await printed(process))["hookSpecificOutput"]["decision"]
        assert decision == {"behavior": "deny", "message": "no"}


async def test_a_limited_device_answers_a_question_of_a_terminal(room: Room) -> None:
    """As one of an agent: the answers are the only change of the input that it may make."""
    project_id = (await room.project()).state.record.id
    question = {"questions": [{"question": "Which?"}]}
    async with listening(room) as data_dir, wire_of(room, projects=(project_id,)) as wire:
        await wire.ask("project_join", project_id=project_id)
        given = hook(room.folder / "project", tool_name="AskUserQuestion", tool_input=question)
        process = await relay(data_dir, given)
        answer = {"approval_id": (await asked(wire))["approval_id"], "behavior": "allow"}
        updated = {**question, "answers": {"Which?": "this"}}
        other = {**answer, "updated_input": {**updated, "more": 1}}
        assert code(await wire.ask("approval_respond", other, project_id=project_id)) == "FORBIDDEN"
        reply = await wire.ask("approval_respond", {**answer, "updated_input": updated}, project_id=project_id)
        assert reply["type"] == "approval_resolved"
        assert json.loads(await printed(process))["hookSpecificOutput"]["decision"]["updatedInput"] == updated


async def test_an_answer_is_unknown_in_other_projects(room: Room) -> None:
    project_id = (await room.project()).state.record.id
    other_id = (await room.project("other")).state.record.id
    async with listening(room) as data_dir, room.wire() as wire, wire_of(room, projects=(other_id,)) as guest:
        await wire.ask("project_join", project_id=project_id)
        process = await relay(data_dir, hook(room.folder / "project"))
        answer = {"approval_id": (await asked(wire))["approval_id"], "behavior": "deny"}
        before = await guest.ask("approval_respond", answer, project_id=other_id)
        assert code(before) == "APPROVAL_NOT_FOUND"
        await wire.ask("approval_respond", answer, project_id=project_id)
        assert (await guest.ask("approval_respond", answer, project_id=other_id))["data"] == before["data"]
        await printed(process)


async def test_text_that_is_cut_within_a_pair_is_asked(room: Room) -> None:
    """JavaScript writes such text as an escaped lone surrogate."""
    project_id = (await room.project()).state.record.id
    async with listening(room) as data_dir, room.wire() as wire:
        await wire.ask("watch")
        given = hook(room.folder / "project", tool_input={"command": "echo \ud83d", "n": 2**70})
        process = await relay(data_dir, given)
        data = await asked(wire)
        assert data["input"]["command"] == "echo \ufffd"
        answer = {"approval_id": data["approval_id"], "behavior": "allow"}
        assert (await wire.ask("approval_respond", answer, project_id=project_id))["type"] == "approval_resolved"
        decision = json.loads(await printed(process))["hookSpecificOutput"]["decision"]
        assert decision == {"behavior": "allow"}, "the CLI runs its own input"


async def test_what_no_client_is_asked(room: Room, tmp_path: Path) -> None:
    await room.project()
    here = room.folder / "project"
    async with listening(room) as data_dir, room.wire() as wire:
        await wire.ask("watch")
        for given in (
            hook(tmp_path / "project-x"),
            hook("no/path\0at all"),
            hook(here, tool_input=[]),
            hook(here, tool_name=""),
            # A text frame that is not UTF-8 would end the connection of each client (RFC 6455 section 8.1).
            json.dumps(hook(here)).encode().replace(b'"ls"', b'"\xff"'),
            b"not json",
            b"",
            b"[" * 100_000,
            b'{"session_id":"' + b"x" * hook_relay.MAX_INPUT + b'"}',
        ):
            assert await printed(await relay(data_dir, given)) == b""
        # An agent of a server, and a CLI without a terminal, do not even connect.
        assert await printed(await relay(data_dir, hook(here), POCKET_AGENT_PROCESS="x")) == b""
        assert await printed(await relay(data_dir, hook(here), CLAUDE_CODE_ENTRYPOINT="sdk-cli")) == b""
        state = await wire.ask("watch")
        assert state["data"]["approvals"] == []
    assert room.seen.of(ApprovalRequested) == []
    assert await printed(await relay(data_dir, hook(here))) == b""  # there is no server


async def test_a_process_of_an_agent_cannot_ask(room: Room) -> None:
    await room.project()
    async with listening(room) as data_dir:
        source = f"import os,socket;os.chdir({str(data_dir)!r});s=socket.socket(socket.AF_UNIX);s.connect('hook.sock')"
        text = json.dumps(hook(room.folder / "project"))
        source += f";s.sendall(b'%d\\n' % {len(text)} + {text.encode()!r});print(s.recv(10))"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", source),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "POCKET_AGENT_PROCESS": "an agent"},
        )
        await process.communicate()
    assert room.seen.of(ApprovalRequested) == []


@pytest.mark.parametrize("end", ["Stop", "SessionEnd", "another request", "the hook", "the server"])
async def test_what_withdraws_an_approval(room: Room, end: str) -> None:
    project_id = (await room.project()).state.record.id
    here = room.folder / "project"
    async with contextlib.AsyncExitStack() as stack:
        wire = await stack.enter_async_context(room.wire())
        async with listening(room) as data_dir:
            await wire.ask("watch")
            process = await relay(data_dir, hook(here))
            data = await asked(wire)
            match end:
                case "the hook":
                    process.kill()
                    await process.wait()
                case "another request":
                    second = await relay(data_dir, hook(here))
                    stack.push_async_callback(printed, second)
                case "the server":
                    pass
                case event:
                    await printed(await relay(data_dir, hook(here, session=2, event=event)))  # of another session
                    await printed(await relay(data_dir, hook(here, event=event)))
            if end != "the server":
                assert (await until_type(wire, "approval_cancelled"))["data"]["approval_id"] == data["approval_id"]
        if end == "the server":
            await until_type(wire, "approval_cancelled")
        if end != "the hook":
            assert await printed(process) == b""
        gone = {"approval_id": data["approval_id"], "behavior": "allow"}
        assert code(await wire.ask("approval_respond", gone, project_id=project_id)) == "APPROVAL_NOT_FOUND"


async def test_the_status_of_the_terminal_withdraws_an_approval(room: Room) -> None:
    await room.project()
    row = read_row(os.getpid())
    assert row is not None
    record = {"pid": row.pid, "sessionId": name_of(1), "procStart": row.start_time}
    folder = room.folder / ".claude" / "sessions"
    folder.mkdir(parents=True)

    def write(status: str, at: float) -> None:
        temporary = folder / "new"
        temporary.write_text(json.dumps({**record, "status": status, "statusUpdatedAt": at}))
        temporary.replace(folder / f"{row.pid}.json")

    async with listening(room) as data_dir, room.wire() as wire:
        await wire.ask("watch")
        write("busy", 1)
        approvals = room.endpoint.terminal_approvals
        for status, at in (("busy", 5e12), ("waiting", 4e12), ("idle", 4e12)):
            process = await relay(data_dir, hook(room.folder / "project"))
            data = await asked(wire)
            write("waiting", 3e12)
            await eventually(partial(approvals.sees_dialog, data["approval_id"]), "the dialog is seen")
            write(status, at)
            cancelled = (await until_type(wire, "approval_cancelled"))["data"]
            assert cancelled["reason"] == "It was answered in the terminal."
            assert await printed(process) == b""
        process = await relay(data_dir, hook(room.folder / "project"))
        data = await asked(wire)
        write("waiting", 3e12)
        await eventually(partial(approvals.sees_dialog, data["approval_id"]), "the dialog is seen")
        (folder / f"{row.pid}.json").unlink()
        cancelled = (await until_type(wire, "approval_cancelled"))["data"]
        assert cancelled["reason"] == "The terminal's session has ended."
        assert await printed(process) == b""


async def test_connections_are_bounded(room: Room) -> None:
    """Each takes a file descriptor, without which no client could connect either."""
    project_id = (await room.project()).state.record.id
    async with listening(room) as data_dir, room.wire() as wire:
        await wire.ask("project_join", project_id=project_id)
        silent = [await asyncio.open_unix_connection(str(data_dir / hook_relay.SOCKET)) for _ in range(120)]
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert [await reader.read() for reader, _ in silent[100:]] == [b""] * 20
        assert not any(reader.at_eof() for reader, _ in silent[:100])
        for _, writer in silent:
            writer.close()
        await eventually(lambda: room.endpoint.terminal_approvals._connections == 0, "all are closed")
        process = await relay(data_dir, hook(room.folder / "project"))
        answer = {"approval_id": (await asked(wire))["approval_id"], "behavior": "allow"}
        await wire.ask("approval_respond", answer, project_id=project_id)
        assert b"allow" in await printed(process)


async def test_the_socket_is_private_and_may_have_a_long_path(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = room.folder / ("d" * 120)
    directory.mkdir()
    task = asyncio.create_task(room.endpoint.terminal_approvals.listen(directory))
    path = directory / hook_relay.SOCKET
    await eventually(path.exists, "the socket is there")
    assert path.stat().st_mode & 0o777 == 0o600
    assert await printed(await relay(directory, hook("/nowhere"))) == b""
    task.cancel()
    await asyncio.wait({task})
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as left:  # by a server that was killed
        monkeypatch.chdir(directory)
        left.bind(hook_relay.SOCKET)
    task = asyncio.create_task(room.endpoint.terminal_approvals.listen(directory))
    await eventually(lambda: path.stat().st_mode & 0o777 == 0o600, "the socket is replaced")
    task.cancel()
    await asyncio.wait({task})
