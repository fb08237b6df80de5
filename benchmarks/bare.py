"""What the hub is compared with: a bare loop that writes joined pre-built frames to each transport.

`python -m benchmarks.bare CONNECTIONS LINES [CERT KEY]` prints its port, waits for a line on its input
when all are connected, and writes LINES frames to each connection, ten joined per write.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import sys
from typing import cast

import uvloop

from benchmarks.writer import line
from pocket_agent.model import Milliseconds
from pocket_agent.protocol.frame import encode_frame, websocket_frame

_JOINED = 10
_HIGH_WATER = 1 << 20
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
END = b'{"end":"of the bare loop"}'


class Peer(asyncio.Protocol):
    """One client."""

    def __init__(self, peers: list["Peer"]) -> None:
        self._peers = peers
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without deriving from it

    def data_received(self, data: bytes) -> None:
        """Answer the handshake; ignore the rest."""
        if self in self._peers:
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        key = self._head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._peers.append(self)


async def serve(connections: int, lines: int, context: ssl.SSLContext | None) -> None:
    """Wait for the clients and for the word, then write."""
    loop = asyncio.get_running_loop()
    peers: list[Peer] = []
    server = await loop.create_server(lambda: Peer(peers), "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    assert len(peers) == connections
    project = "00000000-0000-4000-8000-000000000000"
    at = Milliseconds(1_700_000_000_000)
    frame = websocket_frame(encode_frame("agent_message", line(0).strip(), at, conversation_id=project, offset=12345))
    joined = frame * _JOINED
    transports = [peer.transport for peer in peers]
    for _ in range(lines // _JOINED):
        for transport in transports:
            transport.write(joined)
        while any(transport.get_write_buffer_size() > _HIGH_WATER for transport in transports):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    for transport in transports:
        transport.write(websocket_frame(END))
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    tls = None
    if len(sys.argv) > 3:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*json.loads(sys.argv[3]))
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), tls))
