"""A WebSocket client on a bare socket, for what a library would not do: not to read, or not to answer."""

import asyncio
import base64
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import msgspec

from tests.harness import DEADLINE_SECONDS
from tests.harness.server import ServerProcess

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class RawFrame(NamedTuple):
    """One WebSocket frame (RFC 6455 section 5.2)."""

    opcode: int
    payload: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The payload of a text frame."""
        return msgspec.json.decode(self.payload, type=dict[str, Any])

    @property
    def close_code(self) -> int:
        """The code of a close frame."""
        return int(struct.unpack("!H", self.payload[:2])[0])


class RawClient:
    """A connection that reads only when it is told to; `None` for a frame is the end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()

    async def receive(self, size: int = 65536) -> bytes:
        """Read some bytes from the socket; empty at the end, also when the other side broke off."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, size)
        except ConnectionError:
            data = b""
        self._buffer += data
        return data

    async def frame(self) -> RawFrame | None:
        """The next frame of the server, which is never masked nor in fragments."""
        while True:
            found = self.buffered()
            if found is not None:
                return found
            if not await self.receive():
                return None

    def buffered(self) -> RawFrame | None:
        """The next frame, if it was received already."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start])
        if len(buffer) < start + size:
            return None
        frame = RawFrame(buffer[0] & 0x0F, bytes(buffer[start : start + size]))
        del buffer[: start + size]
        return frame

    async def reply(self, request_id: str) -> dict[str, Any]:
        """Read up to the answer to a request, and give it; what came before is dropped."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (frame := await self.frame()) is not None:
                if frame.opcode == TEXT and frame.json.get("request_id") == request_id:
                    return frame.json
        raise AssertionError("the connection ended")

    async def send(self, payload: bytes, opcode: int = TEXT) -> None:
        """Send one frame, masked with zeros, as a client must mask."""
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        await asyncio.get_running_loop().sock_sendall(self._socket, head + bytes(4) + payload)

    async def request(self, kind: str, **fields: object) -> None:
        """Send a request; `fields` are those of the envelope."""
        await self.send(msgspec.json.encode({"type": kind, "data": {}, **fields}))


@contextlib.asynccontextmanager
async def raw_client(
    server: ServerProcess, *, receive_buffer: int | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[RawClient]:
    """Connect and shake hands; the socket is closed at the end, without a goodbye.

    Args:
        server: where to.
        receive_buffer: bytes that the kernel keeps for it (SO_RCVBUF), for a client that stalls soon.
        headers: more headers for the handshake.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        fields = {
            "Host": f"127.0.0.1:{server.port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Authorization": f"Bearer {server.token}",
            **(headers or {}),
        }
        text = "GET /ws HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await loop.sock_sendall(sock, f"{text}\r\n".encode())
        client = RawClient(sock)
        head = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while b"\r\n\r\n" not in head:
                byte = await loop.sock_recv(sock, 1)
                assert byte, f"the server hung up: {head!r}"
                head += byte
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield client
