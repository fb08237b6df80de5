"""Who may come in: tokens and origins."""

import asyncio
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError, RateLimitedError, UnauthorizedError
from pocket_agent.events import ConnectionRejected
from pocket_agent.model import Device, Milliseconds
from pocket_agent.server.auth import hash_token, new_token
from pocket_agent.server.peer import Peer
from tests.harness.follow import eventually
from tests.server.room import Room, open_room


def test_tokens_differ_and_hold_256_bits() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("pa_") and len(token) == 3 + 43 for token in tokens)


def test_a_hash_tells_nothing_and_tells_tokens_apart() -> None:
    token = new_token()
    assert token not in hash_token(token)
    assert hash_token(token) == hash_token(token) != hash_token(token + "x")
    assert len(hash_token("\udcff")) == 64, "whatever bytes a header holds"


PEER = Peer("192.0.2.7", secure=True, host="box.local:8443")
BAD_TOKENS = {
    "none": {},
    "empty": {"Authorization": ""},
    "no token": {"Authorization": "Bearer"},
    "blank token": {"Authorization": "Bearer   "},
    "another scheme": {"Authorization": "Basic dGVzdDp0ZXN0"},
    "no scheme": {"Authorization": "TOKEN"},
    "wrong": {"Authorization": "Bearer pa_wrong"},
    "wrong case": {"Authorization": "Bearer SWAP"},
    "two": {"Authorization": "Bearer TOKEN TOKEN"},
    "quoted": {"Authorization": 'Bearer "TOKEN"'},
    "beginning": {"Authorization": "Bearer HALF"},
    "non-ASCII": {"Authorization": "Bearer pä_ü€😀"},
    "long": {"Authorization": "Bearer " + "x" * 7000},
    "its hash": {"Authorization": "Bearer HASH"},
    "as a cookie": {"Cookie": "token=TOKEN"},
}


@pytest.mark.parametrize("case", BAD_TOKENS)
async def test_nobody_comes_in_without_a_valid_token(room: Room, case: str) -> None:
    token = room.token
    words = {"TOKEN": token, "SWAP": token.swapcase(), "HALF": token[:-1], "HASH": hash_token(token)}
    headers = {}
    for name, value in BAD_TOKENS[case].items():
        for word, meaning in words.items():
            value = value.replace(word, meaning)  # noqa: PLW2901 - the value with its words filled in
        headers[name] = value
    assert await room.status(headers) == 401
    assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["unauthorized"]


async def test_a_header_that_http_does_not_hold_is_refused_and_the_server_goes_on(room: Room) -> None:
    assert await room.status({"Authorization": "Bearer " + "x" * 100_000}) == 400
    assert await room.status({"Authorization": f"Bearer {room.token}"}) == 101


async def test_a_token_in_the_address_does_not_count(room: Room) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    writer.write(
        f"GET /ws?token={room.token}&access_token={room.token} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "\r\n".encode()
    )
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_schemes_case_does_not_matter(room: Room, scheme: str) -> None:
    assert await room.status({"Authorization": f"{scheme} {room.token}"}) == 101


async def test_the_refusal_tells_programs_what_to_send(room: Room) -> None:
    with pytest.raises(UnauthorizedError, match="Authorization: Bearer"):
        await room.authenticator.device(PEER, {}, ambient=False)


async def test_a_removed_device_does_not_come_in(room: Room) -> None:
    token = new_token()
    await room.store.add_device(Device("d-2", "phone", hash_token(token), Milliseconds(1)))
    assert await room.status({"Authorization": f"Bearer {token}"}) == 101
    await room.store.remove_device("d-2")
    assert await room.status({"Authorization": f"Bearer {token}"}) == 401


async def test_when_a_device_was_last_seen_is_noted(room: Room) -> None:
    async def seen() -> bool:
        return (await room.store.devices())[0].last_seen is not None

    assert not await seen()
    async with room.wire() as wire:
        await wire.works()
        await eventually(seen, "the device was seen")  # nobody who comes in waits for the database


async def test_a_disk_that_refuses_keeps_nobody_out(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise FileOperationError("The disk is full.")

    monkeypatch.setattr(room.store, "touch_device", refuse)
    async with room.wire() as wire:
        await wire.works()


async def test_who_shows_many_wrong_tokens_waits_and_a_valid_one_comes_in(room: Room) -> None:
    statuses = [await room.status({"Authorization": f"Bearer wrong-{number}"}) for number in range(8)]
    assert statuses == [401] * 6 + [429] * 2
    assert await room.status({"Authorization": f"Bearer {room.token}"}) == 101
    assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["unauthorized"] * 6 + ["throttled"] * 2
    other = Peer("192.0.2.8", secure=False, host=f"127.0.0.1:{room.port}")
    with pytest.raises(UnauthorizedError):
        await room.authenticator.device(other, {"Authorization": "Bearer wrong"}, ambient=False)
    with pytest.raises(RateLimitedError):
        await room.authenticator.device(
            Peer("127.0.0.1", secure=False, host=""), {"Authorization": "Bearer wrong"}, ambient=False
        )


async def test_without_tokens_everybody_is_local(tmp_path: Path) -> None:
    async with open_room(tmp_path, server__auth=False) as room:
        assert await room.status({}) == 101
        local = await room.authenticator.device(PEER, {"Authorization": "Bearer nonsense"}, ambient=False)
        assert local.name == "local"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://["])
async def test_a_strange_origin_is_refused_before_the_token_counts(room: Room, origin: str) -> None:
    assert await room.status({"Authorization": f"Bearer {room.token}", "Origin": origin}) == 403
    assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["origin"]


async def test_the_servers_own_page_comes_in(room: Room) -> None:
    assert await room.status({"Authorization": f"Bearer {room.token}", "Origin": room.url}) == 101


async def test_a_page_without_a_token_sees_a_close_code(room: Room) -> None:
    """A script cannot read the status of a refused handshake."""
    assert await room.status({"Origin": room.url}) == 4001
