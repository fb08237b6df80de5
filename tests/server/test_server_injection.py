"""Bytes that want to be more than data: line ends in headers, compressed frames, input that drips."""

import asyncio
import json
import zlib
from typing import Any

import pytest

from pocket_agent.events import ConnectionClosed, ConnectionRejected, RequestFaulted
from tests.harness import DEADLINE_SECONDS
from tests.server.room import Room

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nAuthorization: Bearer {}\r\n\r\n"
)


async def ask(room: Room, request: bytes) -> bytes:
    """All that the server says to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            writer.write(request)
            return await reader.read()
    finally:
        writer.transport.abort()


def paths(room: Room) -> list[str]:
    """A path of each route that there is."""
    resources = room.endpoint.application().router.resources()
    found = {resource.canonical.replace("{name}", "x") for resource in resources}
    assert {"/ws", "/health", "/api/session"} <= found
    return sorted(found)


INJECTED = "%0d%0aX-Injected:%20yes%0d%0a%0d%0a<script>"


async def test_no_part_of_an_address_becomes_a_header(room: Room) -> None:
    for path in paths(room):
        for target in (path + INJECTED, f"{path}?{INJECTED}", f"{path}/{INJECTED}", f"/{INJECTED}{path}", f"/{path}"):
            head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            answer = (await ask(room, head.encode())).lower()
            status, _, rest = answer.partition(b"\r\n")
            assert status.startswith(b"http/1.1 "), target
            assert not status.startswith((b"http/1.1 5", b"http/1.1 3")), (target, "nothing leads away")
            assert b"x-injected" not in rest.partition(b"\r\n\r\n")[0], target
            assert b"<script>" not in answer, target


HEADERS = {
    "a bare line feed": b"X-A: a\nX-Injected: yes\r\n",
    "a bare carriage return": b"X-A: a\rX-Injected: yes\r\n",
    "a NUL": b"X-A: a\0b\r\n",
    "a fold": b"X-A: a\r\n Authorization: x\r\n",
    "a blank in a name": b"X A: a\r\n",
    "a blank before the colon": b"Authorization : Bearer x\r\n",
    "no name": b": a\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n",
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "a negative length": b"Content-Length: -1\r\n",
    "a signed length": b"Content-Length: +5\r\n",
}


@pytest.mark.parametrize("case", HEADERS)
async def test_headers_that_two_programs_read_differently_are_refused(room: Room, case: str) -> None:
    """Behind a proxy they would smuggle in a request of their own."""
    request = b"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\n" + HEADERS[case] + b"\r\n"
    smuggled = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    answer = await ask(room, request + smuggled)
    assert answer.split()[1] == b"400", answer
    assert b"\r\n\r\nok\n" not in answer, "nothing behind them is a request"
    async with room.wire() as wire:
        await wire.works()


async def test_names_with_line_ends_reach_no_header_and_no_record_in_two(room: Room) -> None:
    async with room.wire() as wire:
        code = (await wire.ask("pairing_start"))["data"]["code"]
    name = "x\r\nSet-Cookie: evil=1\r\n"
    body = json.dumps({"code": code, "name": name}).encode()
    head = (
        f"POST /api/pair HTTP/1.1\r\nHost: 127.0.0.1:{room.port}\r\nOrigin: {room.url}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    answer = await ask(room, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"set-cookie" not in answer.partition(b"\r\n\r\n")[0].lower()


async def upgraded(room: Room, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A connection whose handshake was these bytes, and the head of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE_SECONDS):
        return reader, writer, await reader.readuntil(b"\r\n\r\n")


def frame(payload: bytes, *, first: int = 0x81) -> bytes:
    """A masked frame with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + size.to_bytes(8)
    return bytes([first]) + length + bytes(4) + payload


async def closed_with(reader: asyncio.StreamReader) -> int:
    """The code of the frame with which the server closes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        head = await reader.readexactly(2)
        assert head[0] == 0x88, head
        return int.from_bytes((await reader.readexactly(head[1]))[:2])


async def test_a_compressed_bomb_is_unpacked_no_further_than_a_message_may_be(
    room: Room, subtests: pytest.Subtests
) -> None:
    """Compression is agreed to, for pages of history; a client may use it, too, within the same bound."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(b" " * 500_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < room.settings.limits.message_size
    for first, code in ((0xC1, 1009), (0xC0, 1002), (0xA1, 1002), (0x91, 1002), (0xF1, 1002)):
        with subtests.test(first=hex(first)):
            room.seen.events.clear()
            reader, writer, head = await upgraded(room, HANDSHAKE.format(room.token).encode())
            assert b" 101 " in head
            assert b"permessage-deflate" in head
            writer.write(frame(bomb.removesuffix(b"\0\0\xff\xff"), first=first))
            assert await closed_with(reader) == code
            writer.transport.abort()
            assert (await room.eventually(ConnectionClosed)).code == code
            assert room.seen.of(RequestFaulted) == []
    async with room.wire() as wire:
        await wire.works()


async def test_one_byte_at_a_time_is_a_handshake_and_a_request_too(room: Room) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    request = frame(b'{"type":"project_list","request_id":"slow"}')
    for byte in HANDSHAKE.format(room.token).encode() + request:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert b'"request_id":"slow"' in await reader.readuntil(b"}}")
    writer.transport.abort()


async def test_fragments_without_end_are_bounded(room: Room) -> None:
    """Each is small; together they may be no more than one message."""
    reader, writer, _ = await upgraded(room, HANDSHAKE.format(room.token).encode())
    writer.write(frame(b"x", first=0x01))
    part = frame(b"x" * 1000, first=0x00)
    for _ in range(room.settings.limits.message_size // 1000 + 2):
        writer.write(part)
    assert await closed_with(reader) == 1009
    writer.transport.abort()


async def test_empty_fragments_end_by_themselves(room: Room) -> None:
    """They fill no memory, and others are served between them."""
    reader, writer, _ = await upgraded(room, HANDSHAKE.format(room.token).encode())
    writer.write(frame(b"", first=0x01) + frame(b"", first=0x00) * 100_000)
    async with room.wire() as wire:
        await wire.works()
    writer.write(frame(b'{"type":"project_list","request_id":"last"}', first=0x80))
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert b'"request_id":"last"' in await reader.readuntil(b"}}")
    writer.transport.abort()


VIEWS: dict[str, Any] = {"view_only": True}
OWN = {"/api/logout", "/api/rotate"}
"""What a viewer may post: it ends, or renews, its own token and nothing else."""


async def test_a_viewer_that_tries_every_route_changes_nothing(room: Room) -> None:
    """Beside the requests of the WebSocket (`test_server_permission`): all that HTTP offers, by every method."""
    async with room.wire() as wire:
        code = (await wire.ask("pairing_start", VIEWS))["data"]["code"]
    body = json.dumps({"code": code, "name": "viewer", "token": True}).encode()
    head = "POST /api/pair HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    answer = await ask(room, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    token = json.loads(answer.partition(b"\r\n\r\n")[2])["token"]
    before = await room.store.devices()
    for path in paths(room):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            if path in OWN and method == "POST":
                continue
            request = (
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
                "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
            )
            status = int((await ask(room, request.encode())).split()[1])
            # 400 and 426 are what a handshake gets that is none, or a code that is missing; 503 is ill health.
            allowed = {200, 400, 401, 404, 405, 426, 503} if method in {"GET", "HEAD"} else {400, 401, 404, 405, 429}
            assert status in allowed, (method, path, status)
    assert [(one.id, one.name, one.view_only) for one in await room.store.devices()] == [
        (one.id, one.name, one.view_only) for one in before
    ]


async def test_credentials_that_are_over_are_told_wherever_they_are_shown(room: Room) -> None:
    """Revoked ones, and made-up ones; a page that shows none yet is no attack."""
    for path in ("/ws", "/api/session"):
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer pa_over\r\nConnection: close\r\n\r\n"
        )
        assert (await ask(room, request.encode())).startswith(b"HTTP/1.1 401")
    name = f"pocket_agent_{room.store.instance}"
    for cookie, told in ((f"{name}=pa_revoked", 3), ("other=1", 3), (f"{name}=x; {name}=y", 4)):
        request = f"GET /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        assert (await ask(room, request.encode())).startswith(b"HTTP/1.1 401")
        assert len(room.seen.of(ConnectionRejected)) == told, cookie
