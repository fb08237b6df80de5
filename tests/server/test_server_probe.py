"""A probe shows whether clients would get in, without a token and without being one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pocket_agent.events import ConnectionOpened, ConnectionRejected
from pocket_agent.protocol.frame import PROBE
from pocket_agent.server import guard as module
from tests.harness import DEADLINE_SECONDS
from tests.server.room import Room, open_room, until

REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: pocket-agent.probe\r\n\r\n"
)


async def probe(room: Room, *offered: str, **headers: str) -> tuple[int, str | None]:
    """The status and the protocol that a probe gets; with 101 also the code of the close frame in its place."""
    async with aiohttp.ClientSession() as http:
        try:
            async with http.ws_connect(f"{room.url}/ws", protocols=offered or (PROBE,), headers=headers) as socket:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    message = await socket.receive()
                assert message.type is aiohttp.WSMsgType.CLOSE
                return message.data, socket.protocol
        except aiohttp.WSServerHandshakeError as error:
            return error.status, None


async def test_a_probe_is_upgraded_and_closed_without_a_token(room: Room) -> None:
    assert await probe(room) == (1000, PROBE)
    assert room.endpoint.connections() == []
    assert room.seen.of(ConnectionOpened) == room.seen.of(ConnectionRejected) == []


async def test_a_probe_that_hangs_up_at_once_leaves_nothing(room: Room) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    writer.write(REQUEST)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
    writer.close()
    await writer.wait_closed()
    async with room.wire() as wire:
        await wire.works()


@pytest.mark.parametrize("offered", [("chat",), (PROBE, "chat")])
async def test_other_protocols_need_a_token(room: Room, offered: tuple[str, ...]) -> None:
    assert await probe(room, *offered) == (401, None)


async def test_a_page_of_a_browser_is_no_probe(room: Room) -> None:
    assert await probe(room, Origin="https://evil.example") == (403, None)


async def test_a_probe_is_answered_by_a_server_that_is_full(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_connections=1) as room, room.wire() as wire:
        await wire.works()
        assert await probe(room) == (1000, PROBE)
        assert room.seen.of(ConnectionRejected) == []
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {room.token}"}) as http:
                await http.ws_connect(f"{room.url}/ws")


@contextlib.asynccontextmanager
async def hanging(room: Room, address: str) -> AsyncIterator[None]:
    """A probe of this address that never answers the close frame."""
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    writer.write(REQUEST.replace(b"\r\n\r\n", f"\r\nX-Forwarded-For: {address}\r\n\r\n".encode()))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        yield
    finally:
        writer.close()
        await writer.wait_closed()


async def test_probes_that_stay_keep_out_no_clients_and_no_probes_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 60.0)
    settings: dict[str, Any] = {"server__trusted_proxies": ["127.0.0.1"], "limits__max_connections": 1}
    async with open_room(tmp_path, **settings) as room, contextlib.AsyncExitStack() as stack:
        for _ in range(module.MOST_OF_A_SOURCE):
            await stack.enter_async_context(hanging(room, "192.0.2.1"))
        assert await probe(room, **{"X-Forwarded-For": "192.0.2.1"}) == (503, None)
        assert await probe(room, **{"X-Forwarded-For": "192.0.2.2"}) == (1000, PROBE)
        for number in range(module.MOST - module.MOST_OF_A_SOURCE):
            await stack.enter_async_context(hanging(room, f"192.0.2.{10 + number}"))
        assert await probe(room, **{"X-Forwarded-For": "192.0.2.2"}) == (503, None)
        async with room.wire() as wire:
            await wire.works()
        await stack.aclose()
        await until(lambda: not room.endpoint._probes._open)
        assert await probe(room, **{"X-Forwarded-For": "192.0.2.1"}) == (1000, PROBE)


async def test_a_probe_sees_that_the_server_stops(room: Room) -> None:
    room.endpoint.refuse_new_work()
    assert await probe(room) == (503, None)
