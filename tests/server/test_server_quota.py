"""Messages of one device: too many are refused, and who does not listen is closed."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pocket_agent.events import ConnectionClosed, ConnectionRejected, RequestHandled
from tests.server.room import Room, open_room

pytestmark = pytest.mark.usefixtures("without_refill")

FEW: dict[str, Any] = {"limits__exempt_addresses": [], "limits__messages_per_second": 1}
ASKED = '{"type":"project_list","request_id":"r-1"}'


@contextlib.asynccontextmanager
async def limited(folder: Path, **limits: Any) -> AsyncIterator[Room]:
    """A server that exempts nobody."""
    async with open_room(folder, **{**FEW, **limits}) as room:
        yield room


async def test_too_many_messages_are_refused_by_name_and_then_the_connection_ends(tmp_path: Path) -> None:
    async with limited(tmp_path) as room, room.wire() as wire:
        answers = []
        for _ in range(9):
            await wire.send(ASKED)
            answers.append(await wire.answer("r-1"))
        kinds = [answer["type"] for answer in answers]
        assert kinds[:5] == ["project_list_response"] * 5
        assert kinds[-2:] == ["error"] * 2
        assert answers[-1]["data"]["code"] == "RATE_LIMITED"
        assert answers[-1]["data"]["details"]["retry_after"] > 0
        for _ in range(10):
            await wire.send(ASKED)
        assert await wire.closed() == 1008
    closed = await room.eventually(ConnectionClosed)
    assert (closed.code, closed.initiator) == (1008, "server")
    assert {event.code for event in room.seen.of(RequestHandled)} == {None, "RATE_LIMITED"}


@pytest.mark.parametrize("kind", [aiohttp.WSMsgType.PING, aiohttp.WSMsgType.BINARY])
async def test_what_is_no_request_counts_too(tmp_path: Path, kind: aiohttp.WSMsgType) -> None:
    async with limited(tmp_path) as room, room.wire(autoping=False) as wire:
        for _ in range(30):
            await wire.socket.send_frame(b"x", kind)
        assert await wire.closed() == 1008


async def test_other_connections_of_a_device_share_its_quota_and_other_devices_do_not(tmp_path: Path) -> None:
    async with limited(tmp_path) as room, room.wire() as one, room.wire() as two:
        code = [(await one.ask("pairing_start"))["data"]["code"] for _ in range(5)][-1]
        await two.send(ASKED)
        assert (await two.answer("r-1"))["data"]["code"] == "RATE_LIMITED"
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{room.url}/api/pair", json={"code": code, "name": "other", "token": True}) as answer,
        ):
            token = (await answer.json())["token"]
        async with room.wire(headers={"Authorization": f"Bearer {token}"}) as other:
            await other.works()


async def test_large_messages_are_refused_by_their_size(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "limits__messages_per_second": 1000,
        "limits__bytes_per_second": 1024,
        "limits__message_size": 4096,
    }
    async with limited(tmp_path, **limits) as room, room.wire() as wire:
        answers = [await wire.ask("project_list", {"padding": "x" * 3000}) for _ in range(5)]
        assert [answer["type"] for answer in answers[:3]] == ["project_list_response"] * 3
        assert answers[-1]["data"]["code"] == "RATE_LIMITED"


async def test_a_device_has_so_many_connections_and_no_more(tmp_path: Path) -> None:
    async with limited(tmp_path, limits__connections_per_device=2, limits__messages_per_second=100) as room:
        async with room.wire() as one, room.wire():
            headers = {"Authorization": f"Bearer {room.token}"}
            assert await room.status(headers) == 503
            await one.works()
        await room.until_connections(0)
        assert await room.status(headers) == 101
    assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["limit"]


async def test_this_machine_may_send_what_it_likes(room: Room) -> None:
    async with room.wire() as wire:
        for _ in range(2000):
            await wire.send(ASKED)
        for _ in range(2000):
            assert (await wire.answer("r-1"))["type"] == "project_list_response"
