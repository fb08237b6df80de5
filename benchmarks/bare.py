"""What fan-out is measured against: pre-built frames, joined, written to every transport, and nothing else.

`python -m benchmarks.bare SECURE FRAMES JOINED` serves on a free port and prints it. Each connection is
upgraded, whatever it asks for; when `go` arrives on the standard input all of them get FRAMES frames of
the size that an entry of 300 bytes has, JOINED in each write.
"""

import asyncio
import ssl
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.standin import line
from pocket_agent.config.settings import TlsSettings
from pocket_agent.model import Direction, Entry, Milliseconds
from pocket_agent.protocol.frame import encode_frame, entry_frame, websocket_frame
from pocket_agent.server.tls import Tls

_UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"
)
_LIMIT_BYTES = 1024 * 1024
"""What one transport may hold before the loop waits for it, as in the server."""
END = b'{"type":"user","end":true}'


class Upgraded(asyncio.Protocol):
    """A connection that answers the first request and reads the rest without a look."""

    def __init__(self, everybody: list["Upgraded"]) -> None:
        self._everybody = everybody
        self._head = b""
        self.transport: asyncio.Transport | None = None
        self.room = asyncio.Event()
        self.room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports derive from its own base
        assert self.transport is not None
        self.transport.set_write_buffer_limits(high=_LIMIT_BYTES)

    def data_received(self, data: bytes) -> None:
        """Answer once the request is complete."""
        if self in self._everybody:
            return
        self._head += data
        if self._head.endswith(b"\r\n\r\n") and self.transport is not None:
            self.transport.write(_UPGRADED)
            self._everybody.append(self)

    def pause_writing(self) -> None:
        """The transport is full."""
        self.room.clear()

    def resume_writing(self) -> None:
        """It has room."""
        self.room.set()


def frames(count: int, joined: int) -> tuple[list[bytes], bytes]:
    """The writes, and the one that ends them."""
    project = "0" * 32
    built = [
        entry_frame(project, Entry(number, Milliseconds(0), Direction.CLAUDE, "agent_message", line(number, 0)[:-1]))
        for number in range(1, count + 1)
    ]
    end = websocket_frame(encode_frame("agent_message", END, Milliseconds(0), project_id=project))
    return [b"".join(built[start : start + joined]) for start in range(0, count, joined)], end


async def send(writes: list[bytes], end: bytes, everybody: list[Upgraded]) -> None:
    """Write everything to everybody."""
    transports = [connection.transport for connection in everybody if connection.transport is not None]
    for data in [*writes, end]:
        for transport in transports:
            transport.write(data)
        for connection in everybody:
            if not connection.room.is_set():
                await connection.room.wait()
        await asyncio.sleep(0)


async def main(*, secure: bool, count: int, joined: int) -> None:
    """Serve until the standard input ends."""
    everybody: list[Upgraded] = []
    writes, end = frames(count, joined)
    loop = asyncio.get_running_loop()
    with TemporaryDirectory() as folder:
        server = await loop.create_server(
            lambda: Upgraded(everybody), "127.0.0.1", 0, ssl=_tls(Path(folder)) if secure else None, backlog=1024
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        while (await asyncio.to_thread(sys.stdin.readline)).strip() == "go":
            print(time.monotonic_ns(), flush=True)
            await send(writes, end, everybody)


def _tls(folder: Path) -> ssl.SSLContext:
    return Tls(TlsSettings(), folder, ["127.0.0.1"]).context


if __name__ == "__main__":
    uvloop.run(main(secure=sys.argv[1] == "tls", count=int(sys.argv[2]), joined=int(sys.argv[3])))
