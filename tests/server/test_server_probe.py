"""A probe shows whether clients would get in, without a token and without being one."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from pocket_agent.events import ConnectionOpened, ConnectionRejected
from pocket_agent.protocol.frame import PROBE
from tests.server.room import Room, open_room


async def probe(room: Room, *offered: str, **headers: str) -> tuple[int, str | None]:
    """The status and the protocol that a probe gets; with 101 also the code of the close frame in its place."""
    async with aiohttp.ClientSession() as http:
        try:
            async with http.ws_connect(f"{room.url}/ws", protocols=offered or (PROBE,), headers=headers) as socket:
                async with asyncio.timeout(60):
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
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: pocket-agent.probe\r\n\r\n"
    )
    async with asyncio.timeout(60):
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


async def test_a_probe_sees_that_the_server_is_full(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_connections=1) as room, room.wire() as wire:
        await wire.works()
        assert await probe(room) == (503, None)
        assert room.seen.of(ConnectionRejected) == [], "no client was turned away"


async def test_a_probe_sees_that_the_server_stops(room: Room) -> None:
    room.endpoint.refuse_new_work()
    assert await probe(room) == (503, None)
