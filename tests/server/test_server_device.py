"""The requests of a page for devices."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pocket_agent.events import DeviceRevoked, DeviceRotated
from pocket_agent.model import Device, Milliseconds, project_of
from pocket_agent.server.auth import new_device
from tests.harness.follow import eventually
from tests.server.room import Room, Wire, open_room


@contextlib.asynccontextmanager
async def phone(room: Room, name: str = "phone") -> AsyncIterator[Wire]:
    """A connection of another device."""
    device, token = new_device(name)
    await room.store.add_device(device)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{room.url}/ws", headers=headers) as socket:
        yield Wire(socket)


async def noted(room: Room, name: str) -> Device:
    """A device, as soon as it is noted that it was seen here; its connection does not wait for that."""
    found: list[Device] = []

    async def seen() -> bool:
        found[:] = [device for device in await room.store.devices() if device.name == name]
        return found[0].last_address == "127.0.0.1"

    await eventually(seen, f"{name} was seen")
    return found[0]


async def test_devices_are_listed_with_what_is_known_of_them(room: Room) -> None:
    async with room.wire() as wire, phone(room) as other:
        await wire.works()
        await other.works()
        await noted(room, "phone")
        told = (await wire.ask("device_list"))["data"]
    test, found = told["devices"]
    assert told["auth"] is True
    assert (test["name"], test["current"], test["connections"]) == ("test", True, 1)
    assert (found["name"], found["current"], found["connections"]) == ("phone", False, 1)
    assert found["last_address"] == "127.0.0.1"
    assert found["last_seen"] is not None
    assert (found["view_only"], found["projects"]) == (False, None)
    assert "token" not in "".join(found)


async def test_a_device_is_renamed_while_it_is_connected(room: Room) -> None:
    async with room.wire() as wire, phone(room) as other:
        await other.works()
        device_id = (await wire.ask("device_list"))["data"]["devices"][1]["id"]
        renamed = (await wire.ask("device_rename", {"device_id": device_id, "name": " kitchen "}))["data"]
        assert (renamed["id"], renamed["name"], renamed["connections"]) == (device_id, "kitchen", 1)
        assert {connection.device.name for connection in room.endpoint.connections()} == {"test", "kitchen"}
        for name, says in (("test", "already"), (" ", "printable"), ("\x1b[31m", "printable")):
            answer = await wire.ask("device_rename", {"device_id": device_id, "name": name})
            assert answer["data"]["code"] == "VALIDATION_FAILED"
            assert says in answer["data"]["message"]
        assert (await wire.ask("device_rename", {"device_id": device_id, "name": "kitchen"}))["type"] == "device_rename"
        answer = await wire.ask("device_rename", {"device_id": "none", "name": "x"})
        assert answer["data"]["message"] == "There is no such device."
        await other.works()


async def test_a_device_is_revoked_and_its_connections_with_it(room: Room) -> None:
    async with room.wire() as wire, phone(room) as other:
        await other.works()
        device_id = (await wire.ask("device_list"))["data"]["devices"][1]["id"]
        told = (await wire.ask("device_revoke", {"device_id": device_id}))["data"]
        assert told == {"device_id": device_id, "revoked": [device_id], "withdrawn": 0, "running": []}
        assert await other.closed() == 4009
        assert (await wire.ask("device_revoke", {"device_id": device_id}))["data"]["code"] == "VALIDATION_FAILED"
        await wire.works()
    assert room.seen.of(DeviceRevoked) == [DeviceRevoked("phone", "test")]


async def test_what_a_device_may_do_does_not_change_afterwards(room: Room) -> None:
    device, _ = new_device("guest", view_only=True, projects=(project_of("p-1"),))
    await room.store.add_device(device)
    async with room.wire() as wire:
        for kind in ("device_rename", "device_rotate"):
            more = {"name": "renamed", "view_only": False, "projects": None}
            assert (await wire.ask(kind, {"device_id": device.id, **more}))["type"] == kind
    (_, found) = await room.store.devices()
    assert (found.name, found.view_only, found.projects) == ("renamed", True, ("p-1",))


async def test_a_device_may_end_itself(room: Room) -> None:
    async with room.wire() as wire:
        assert (await wire.ask("device_revoke", {"device_id": "d-1"}))["type"] == "device_revoke"
        assert await wire.closed() == 4009
    assert await room.status({"Authorization": f"Bearer {room.token}"}) == 401


async def test_a_token_is_replaced_and_what_the_old_one_has_opened_is_closed(room: Room) -> None:
    async with room.wire() as wire, phone(room) as other:
        await other.works()
        device_id = (await wire.ask("device_list"))["data"]["devices"][1]["id"]
        rotated = (await wire.ask("device_rotate", {"device_id": device_id}))["data"]
        assert await other.closed() == 4009
        assert rotated["device_id"] == device_id
        assert await room.status({"Authorization": f"Bearer {rotated['token']}"}) == 101
        answer = await wire.ask("device_rotate", {"device_id": "none"})
        assert answer["data"]["message"] == "There is no such device."
        await wire.works()
        names = [found["name"] for found in (await wire.ask("device_list"))["data"]["devices"]]
        assert names == ["test", "phone"]
    assert room.seen.of(DeviceRotated) == [DeviceRotated("phone", "test")]
    assert rotated["token"] not in str(room.trail.records)


async def test_a_device_that_replaces_its_own_token_still_hears_the_new_one(room: Room) -> None:
    async with room.wire() as wire:
        token = (await wire.ask("device_rotate", {"device_id": "d-1"}))["data"]["token"]
        assert await wire.closed() == 4009
    assert await room.status({"Authorization": f"Bearer {room.token}"}) == 401
    assert await room.status({"Authorization": f"Bearer {token}"}) == 101


async def test_a_device_was_last_seen_when_it_went(room: Room) -> None:
    async with phone(room) as other:
        await other.works()
        device = await noted(room, "phone")
        await room.store.touch_device(device.id, Milliseconds(1), "192.0.2.7")
    assert (await noted(room, "phone")).last_address == "127.0.0.1"


async def test_one_device_lets_another_in(room: Room) -> None:
    session = await room.project()
    allowed = {"name": "guest", "view_only": True, "projects": [session.state.record.id]}
    async with room.wire() as wire, aiohttp.ClientSession() as http:
        pairing = (await wire.ask("pairing_start", allowed))["data"]
        assert pairing["urls"] == [f"{room.url}/pair#{pairing['code']}"]
        (qr,) = pairing["qr"]
        assert {len(row) for row in qr} == {len(qr)}
        assert set("".join(qr)) == {"0", "1"}
        assert qr[0].startswith("1111111")
        assert pairing["expires_in"] == 300
        body = {"code": pairing["code"], "name": "itself", "token": True}
        async with http.post(f"{room.url}/api/pair", json=body) as answer:
            device = (await answer.json())["device"]
    assert device | {"id": ""} == {"id": "", **allowed}


async def test_what_a_pairing_cannot_be(room: Room) -> None:
    async with room.wire() as wire:
        for data, code in (
            ({"projects": ["none"]}, "PROJECT_NOT_FOUND"),
            ({"projects": []}, "VALIDATION_FAILED"),
            ({"name": "\n"}, "VALIDATION_FAILED"),
            ({"name": "x" * 101}, "VALIDATION_FAILED"),
        ):
            assert (await wire.ask("pairing_start", data))["data"]["code"] == code


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        ({"server__public_url": "https://agent.example"}, "https://agent.example"),
        ({"server__host": "192.0.2.7"}, "https://192.0.2.7:8443"),
        ({"server__host": "box.local", "server__port": 443}, "https://box.local"),
    ],
)
async def test_the_best_link_comes_first(tmp_path: Path, changed: dict[str, Any], first: str) -> None:
    async with open_room(tmp_path, **changed) as room, room.wire() as wire:
        pairing = (await wire.ask("pairing_start"))["data"]
        assert pairing["urls"] == [f"{base}/pair#{pairing['code']}" for base in (first, room.url)]
        assert len(pairing["qr"]) == 2
        assert pairing["qr"][0] != pairing["qr"][1]
