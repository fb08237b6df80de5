"""Raw WebSocket frames, right and wrong: the server answers or closes, lives on, and keeps nothing."""

import asyncio
import json
import os
import struct
from typing import NamedTuple

import pytest
from hypothesis import strategies as st

from pocket_agent.events import RequestFaulted
from pocket_agent.protocol.requests import REQUESTS
from tests.fuzz.choice import JSON, chosen, holding
from tests.harness import DEADLINE_SECONDS
from tests.server.room import Room

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    "Authorization: Bearer {}\r\n\r\n"
)


class Frame(NamedTuple):
    """A frame as RFC 6455, section 5.2, describes it, with every field chosen."""

    first: int
    masked: bool
    length: int | None
    payload: bytes

    def encode(self) -> bytes:
        """Its bytes; a length that is given is told instead of the true one."""
        size = len(self.payload) if self.length is None else self.length
        mask = 0x80 if self.masked else 0
        if size <= 125:
            head = struct.pack("!BB", self.first, mask | size)
        elif size <= 0xFFFF:
            head = struct.pack("!BBH", self.first, mask | 126, size)
        else:
            head = struct.pack("!BBQ", self.first, mask | 127, size)
        if not self.masked:
            return head + self.payload
        key = os.urandom(4)
        return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(self.payload))


_requests = st.builds(
    lambda kind, data: json.dumps({"type": kind, "request_id": "r", "data": data}).encode(),
    st.sampled_from(sorted(REQUESTS)) | st.text(max_size=10),
    JSON,
)
_payloads = st.binary(max_size=300) | _requests | st.binary(min_size=1, max_size=1).map(lambda byte: byte * 5000)
_opcodes = st.sampled_from([0x81, 0x01, 0x00, 0x80, 0x82, 0x88, 0x89, 0x8A, 0xC1, 0x41, 0x09, 0x08]) | st.integers(
    0, 255
)
_lengths = st.none() | st.none() | st.none() | st.sampled_from([0, 1, 125, 126, 65536, 2**31, 2**63 - 1, 2**64 - 1])
_frames = st.builds(Frame, _opcodes, st.sampled_from([True] * 9 + [False]), _lengths, _payloads)
_talks = st.lists(_frames, min_size=1, max_size=8)


async def talk(room: Room, frames: list[Frame], pieces: int) -> None:
    """One connection that says these, in pieces of so many bytes, and leaves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    try:
        writer.write(HANDSHAKE.format(room.token).encode())
        assert b" 101 " in await reader.readline()
        data = b"".join(frame.encode() for frame in frames)
        for start in range(0, len(data), pieces):
            writer.write(data[start : start + pieces])
            await asyncio.sleep(0)
        writer.write_eof()
        await reader.read()
    except OSError:  # it has closed already
        pass
    finally:
        writer.transport.abort()


@pytest.mark.timeout(0)
async def test_whatever_frames_come_the_server_lives_on(room: Room) -> None:
    await room.project(entries=3)
    before = holding()
    talks = chosen(st.tuples(_talks, st.sampled_from([1, 7, 4096])), 80)
    for number, (frames, pieces) in enumerate(talks):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await talk(room, frames, pieces if len(frames) < 4 else 4096)
            await room.until_connections(0)
        if number % 50 == 0:
            async with room.wire() as wire:
                await wire.works()
            await room.until_connections(0)
            assert room.seen.of(RequestFaulted) == []
            room.seen.events.clear()
        if number == len(talks) // 2:
            room.trail.records.clear()
            before = holding()
    assert room.seen.of(RequestFaulted) == []
    room.seen.events.clear()
    room.trail.records.clear()
    assert holding().has_not_grown(before), "nothing is kept of those that have left"
