"""What ends with a device: its pairing codes, its queued prompts, and on demand what it runs and whom it let in."""

import contextlib
import errno
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pocket_agent.conversation.conversation import Conversation
from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import ForbiddenError
from pocket_agent.model import Device, Execution, ExecutionId, ExecutionStatus
from pocket_agent.server.auth import hash_token, new_device, new_token
from pocket_agent.server.pairing import new_pairing
from pocket_agent.storage import Change, Store, device_table
from tests.conversation.test_conversation_hold import begin
from tests.harness.follow import eventually
from tests.server.room import Room, Wire, open_room, until


@dataclass
class Guest:
    """A device that is connected."""

    device: Device
    token: str
    wire: Wire


@contextlib.asynccontextmanager
async def guest(room: Room, name: str = "phone") -> AsyncIterator[Guest]:
    """Another device of the room."""
    device, token = new_device(name)
    await room.store.add_device(device)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{room.url}/ws", headers=headers) as socket:
        yield Guest(device, token, Wire(socket))


async def pair(room: Room, code: str) -> int:
    """The status that a program gets for a code."""
    body = {"code": code, "name": "back", "token": True}
    async with aiohttp.ClientSession() as http, http.post(f"{room.url}/api/pair", json=body) as answer:
        return answer.status


async def busy(room: Room, phone: Guest, *, own: bool = False) -> tuple[Conversation, str]:
    """A project with a running prompt, and behind it a queued one of the guest; that one's id."""
    session = await room.project()
    project_id = session.state.record.id
    if own:
        await phone.wire.ask("execute", {"prompt": "ask Bash"}, project_id=project_id)
    else:
        async with room.wire() as wire:
            await wire.ask("execute", {"prompt": "ask Bash"}, project_id=project_id)
    await until(lambda: bool(session.state.approvals))
    queued = await phone.wire.ask("execute", {"prompt": "print later"}, project_id=project_id)
    assert queued["data"]["status"] == "queued"
    return session, queued["data"]["execution_id"]


async def stored(room: Room, execution_id: str) -> Execution:
    """An execution as it is stored."""
    found = await room.store.execution(ExecutionId(execution_id))
    assert found is not None
    return found


async def test_a_revoked_device_does_not_come_back_by_its_own_code(room: Room) -> None:
    async with room.wire() as wire, guest(room) as phone:
        for end in ("device_revoke", "device_rotate"):
            async with guest(room, end) as other:
                code = (await other.wire.ask("pairing_start"))["data"]["code"]
                listed = (await wire.ask("device_list"))["data"]["pairings"]
                assert [found["device_id"] for found in listed] == [other.device.id]
                await wire.ask(end, {"device_id": other.device.id})
                assert (await wire.ask("device_list"))["data"]["pairings"] == []
                assert await pair(room, code) == 401, end
        code = (await phone.wire.ask("pairing_start"))["data"]["code"]
        async with aiohttp.ClientSession() as http:
            bearer = {"Authorization": f"Bearer {phone.token}"}
            async with http.post(f"{room.url}/api/logout", json={}, headers=bearer) as answer:
                assert (answer.status, await answer.json()) == (200, {})
        assert await pair(room, code) == 401
        code = (await wire.ask("pairing_start"))["data"]["code"]
        assert await pair(room, code) == 200, "codes of others stay"


async def test_neither_side_of_a_race_with_the_revocation_lets_in(room: Room) -> None:
    """A code that is stored after its maker went, and one that is redeemed then: commits are in one order."""
    device, _ = new_device("phone")
    await room.store.add_device(device)
    late, _ = new_pairing(maker=device)
    early, code = new_pairing(maker=device)
    await room.store.add_pairing(early)
    revoking = room.store.remove_device(device.id)
    assert await revoking is not None
    with pytest.raises(ForbiddenError):
        await room.store.add_pairing(late)
    assert await pair(room, code) == 401
    # Restored by a backup, say: the code is there, and its maker is not.
    async with room.wire() as wire:
        assert (await wire.ask("device_list"))["data"]["pairings"] == []


async def test_an_open_code_is_cancelled(room: Room) -> None:
    async with room.wire() as wire:
        made = (await wire.ask("pairing_start", {"name": "tablet"}))["data"]
        (listed,) = (await wire.ask("device_list"))["data"]["pairings"]
        assert (listed["id"], listed["name"], listed["device_id"]) == (made["id"], "tablet", "d-1")
        assert made["code"] not in str(listed)
        answer = await wire.ask("pairing_cancel", {"pairing_id": made["id"]})
        assert answer["data"] == {"pairing_id": made["id"]}
        assert (await wire.ask("pairing_cancel", {"pairing_id": made["id"]}))["data"]["code"] == "VALIDATION_FAILED"
    assert await pair(room, made["code"]) == 401


async def test_a_queued_prompt_ends_with_its_device(room: Room) -> None:
    async with room.wire() as wire, guest(room) as phone:
        session, queued = await busy(room, phone)
        (_, shown) = (await wire.ask("device_list"))["data"]["devices"]
        assert (shown["queued"], shown["running"]) == (1, [])
        told = (await wire.ask("device_revoke", {"device_id": phone.device.id}))["data"]
        assert (told["withdrawn"], told["running"]) == (1, [])
        assert session.state.queue == []
        assert (await stored(room, queued)).status is ExecutionStatus.CANCELLED
        assert session.state.current is not None, "the prompt of another device goes on"
        await wire.ask("agent_kill", project_id=session.state.record.id)


@pytest.mark.parametrize("kill", [False, True])
async def test_what_a_revoked_device_runs_is_named_or_killed(room: Room, kill: bool) -> None:
    async with room.wire() as wire, guest(room) as phone:
        session, _ = await busy(room, phone, own=True)
        running = session.state.current
        assert running is not None
        named = [{"project_id": session.state.record.id, "execution_id": running.id}]
        (_, shown) = (await wire.ask("device_list"))["data"]["devices"]
        assert (shown["queued"], shown["running"]) == (1, named)
        told = (await wire.ask("device_revoke", {"device_id": phone.device.id, "kill": kill}))["data"]
        assert told["withdrawn"] == 1
        if kill:
            assert told["running"] == []
            assert (await stored(room, running.id)).status is ExecutionStatus.KILLED
        else:
            assert told["running"] == named
            assert session.state.current is not None
            await wire.ask("agent_kill", project_id=session.state.record.id)


@pytest.mark.parametrize("kill", [False, True])
async def test_a_prompt_in_the_turn_of_another_device_is_named_or_killed(
    room: Room, tmp_path: Path, kill: bool
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with room.client() as client, room.wire() as wire, guest(room) as phone:
        session = await room.project()
        project_id = session.state.record.id
        await begin(client, session, gate)
        running = session.state.current
        assert running is not None
        await phone.wire.ask("execute", {"prompt": "steered", "when": "now"}, project_id=project_id)
        (steered,) = session.state.steering
        told = (await wire.ask("device_revoke", {"device_id": phone.device.id, "kill": kill}))["data"]
        named = [{"project_id": project_id, "execution_id": running.id}]
        assert (told["withdrawn"], told["running"]) == ((1, []) if kill else (0, named))
        if kill:
            assert (await stored(room, running.id)).status is ExecutionStatus.KILLED
            assert (await stored(room, steered.id)).status is ExecutionStatus.CANCELLED
        else:
            await wire.ask("agent_kill", project_id=project_id)


async def test_a_replaced_token_ends_the_prompts_of_the_old_one_alone(room: Room) -> None:
    async with room.wire() as wire, guest(room) as phone:
        session, queued = await busy(room, phone)
        told = (await wire.ask("device_rotate", {"device_id": phone.device.id}))["data"]
        assert told["withdrawn"] == 1
        assert (await stored(room, queued)).status is ExecutionStatus.CANCELLED
        headers = {"Authorization": f"Bearer {told['token']}"}
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{room.url}/ws", headers=headers) as socket:
            again = Wire(socket)
            answer = await again.ask("execute", {"prompt": "print new"}, project_id=session.state.record.id)
            assert answer["data"]["status"] == "queued"
        await wire.ask("agent_kill", project_id=session.state.record.id)
        await eventually_over(room, answer["data"]["execution_id"], ExecutionStatus.SUCCESS)


async def test_a_browser_that_renews_its_cookie_ends_its_prompts_and_codes(room: Room) -> None:
    """The same by the device itself, as a page does."""
    async with room.wire() as wire, guest(room) as phone, aiohttp.ClientSession() as http:
        session, queued = await busy(room, phone)
        code = (await phone.wire.ask("pairing_start"))["data"]["code"]
        bearer = {"Authorization": f"Bearer {phone.token}"}
        async with http.post(f"{room.url}/api/rotate", json={}, headers=bearer) as answer:
            assert answer.status == 200
        await eventually_over(room, queued, ExecutionStatus.CANCELLED)
        assert await pair(room, code) == 401
        await wire.ask("agent_kill", project_id=session.state.record.id)


async def eventually_over(room: Room, execution_id: str, status: ExecutionStatus) -> None:
    """Wait until an execution is over, and how."""

    async def over() -> bool:
        return (await stored(room, execution_id)).status.is_final

    await eventually(over, "the execution is over")
    assert (await stored(room, execution_id)).status is status


async def test_a_command_beside_the_server_ends_queued_prompts_too(room: Room) -> None:
    """Nobody is connected any more who could be thrown out; the queue alone names the device."""
    async with guest(room) as phone:
        session, queued = await busy(room, phone)
    await room.until_connections(0)
    await room.store.remove_device(phone.device.id)
    await eventually_over(room, queued, ExecutionStatus.CANCELLED)
    assert session.state.current is not None


async def test_a_prompt_that_is_edited_is_the_editors(room: Room) -> None:
    async with room.wire() as wire, guest(room) as phone, guest(room, "other") as other:
        session, queued = await busy(room, phone)
        project_id = session.state.record.id
        edit = {"execution_id": queued, "prompt": "print edited"}
        assert (await other.wire.ask("prompt_edit", edit, project_id=project_id))["type"] == "prompt_edit"
        told = (await wire.ask("device_revoke", {"device_id": phone.device.id}))["data"]
        assert told["withdrawn"] == 0
        told = (await wire.ask("device_revoke", {"device_id": other.device.id}))["data"]
        assert told["withdrawn"] == 1
        await wire.ask("agent_kill", project_id=project_id)


async def test_the_devices_that_it_let_in_are_revoked_on_demand(room: Room) -> None:
    async with room.wire() as wire, guest(room) as phone:
        code = (await phone.wire.ask("pairing_start", {"name": "second"}))["data"]["code"]
        assert await pair(room, code) == 200
        (_, second) = [device for device in await room.store.devices() if device.id != "d-1"]
        assert second.paired_by == phone.device.id
        third, _ = new_device("third")
        await room.store.add_device(msgspec.structs.replace(third, paired_by=second.id))
        told = (await wire.ask("device_revoke", {"device_id": phone.device.id, "paired": True}))["data"]
        assert told["revoked"] == [phone.device.id, second.id, third.id]
        assert [device.name for device in await room.store.devices()] == ["test"]


async def test_either_all_or_none_of_them_are_revoked(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses, like a kill, between the first and the second."""
    async with room.wire() as wire, guest(room) as phone:
        second, _ = new_device("second")
        await room.store.add_device(msgspec.structs.replace(second, paired_by=phone.device.id))
        remove = device_table.remove_device

        def refused(connection: sqlite3.Connection, device_id: str) -> Device | None:
            if device_id == second.id:
                raise OSError(errno.EIO, "input or output error")
            return remove(connection, device_id)

        monkeypatch.setattr(device_table, "remove_device", refused)
        revoked = await wire.ask("device_revoke", {"device_id": phone.device.id, "paired": True})
        assert revoked["data"]["code"] == "FILE_OPERATION"
        assert {device.name for device in await room.store.devices()} == {"test", "phone", "second"}


async def test_a_prompt_does_not_start_after_a_restart_when_its_device_is_gone(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, guest(room) as phone:
        session, queued = await busy(room, phone)
        project_id = session.state.record.id
    path = tmp_path / "data" / "pocket-agent.db"
    store = Store.open(path)
    (before,) = [found for found in await store.open_executions(project_id) if found.id == queued]
    assert before.status is ExecutionStatus.QUEUED
    await store.remove_device(phone.device.id)
    # What the start of a prompt commits is refused by the store itself, whoever asks.
    starting = msgspec.structs.replace(before, status=ExecutionStatus.STARTING)
    with pytest.raises(ForbiddenError):
        await store.commit(Change(executions=(starting,), admits=starting))
    assert await store.execution(before.id) == before
    await store.close()
    async with open_room(tmp_path) as room:

        async def over() -> bool:
            return (await stored(room, queued)).status.is_final

        await eventually(over, "the prompt is withdrawn")
        assert (await stored(room, queued)).status in {ExecutionStatus.CANCELLED, ExecutionStatus.ERROR}
        entries = await room.store.read(
            room.projects.get(project_id).state.record, after=0, limit=1000, max_bytes=10**7
        )
        assert not [entry for entry in entries if b"print later" in entry.data]
        async with room.wire() as wire:
            await wire.ask("agent_kill", project_id=project_id)


async def test_users_of_single_sign_on_end_with_the_settings(tmp_path: Path) -> None:
    """They have no row among the devices: `server.sso.users` says who may come in."""
    sso: dict[str, Any] = {
        "server__sso__header": "X-User",
        "server__sso__users": ["anna"],
        "server__trusted_proxies": ["127.0.0.1"],
    }
    headers = {"X-User": "anna"}
    async with open_room(tmp_path, **sso) as room:
        headers["Origin"] = room.url
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{room.url}/ws", headers=headers) as socket:
            anna = Wire(socket)
            code = (await anna.ask("pairing_start"))["data"]["code"]
            other = (await anna.ask("pairing_start"))["data"]["code"]
            session, queued = await busy(room, Guest(Device("", "", "", now()), "", anna))
        assert await pair(room, other) == 200
        object.__setattr__(room.settings.server.sso, "users", ())
        assert await pair(room, code) == 401
        await eventually_over(room, queued, ExecutionStatus.CANCELLED)
        assert session.state.current is not None


async def test_a_token_is_unknown_after_it_was_rotated_by_a_command(room: Room) -> None:
    async with guest(room) as phone:
        await room.store.rotate_device(phone.device.id, hash_token(new_token()))
        assert await phone.wire.closed() == 4009
