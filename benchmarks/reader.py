"""Many WebSocket connections in a process of their own, read as cheaply as Python can.

Run with the JSON of `Task` as its argument; prints `joined` when all follow the project, then one line
of JSON when each has seen the end mark.
"""

import asyncio
import base64
import json
import os
import ssl
import sys
import time
from pathlib import Path
from typing import cast

import msgspec
import uvloop

_PING = bytes((0x89, 0x80 | 8)) + bytes(4)
_MARK = b'"t":"'
_DIGITS = 20


class Task(msgspec.Struct, frozen=True):
    """What to read.

    Attributes:
        request: sent by each connection after the handshake; empty for none.
        end: the bytes that end it.
        sampled: how many connections measure the age of lines, and echoes.
        ca: the certificate to trust; without one the connection is plain.
    """

    port: int
    connections: int
    token: str
    request: str
    end: str
    sampled: int = 0
    ca: str | None = None


class Reader(asyncio.Protocol):
    """One connection."""

    def __init__(self, task: Task, sampled: bool) -> None:
        self.task = task
        self.sampled = sampled
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.bytes = 0
        self.first = 0.0
        self.last = 0.0
        self.ages: list[float] = []
        self.echoes: list[float] = []
        self._end = task.end.encode()
        self._rest = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without deriving from it
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            (
                f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self.task.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                f"Authorization: Bearer {self.task.token}\r\n\r\n"
            ).encode()
        )

    def data_received(self, data: bytes) -> None:
        """Count, and look for the end."""
        if not self._open:
            self._rest += data
            if b"\r\n\r\n" not in self._rest:
                return
            assert b" 101 " in self._rest[:20], self._rest
            self._open, self._rest = True, b""
            if self.task.request:
                self.transport.write(masked(self.task.request.encode()))
            self.ready.set_result(None)
            return
        self.last = time.perf_counter()
        if not self.bytes:
            self.first = self.last
        self.bytes += len(data)
        recent = self._rest + data
        if self.sampled:
            self._sample(recent)
        if self._end in recent and not self.ended.done():
            self.ended.set_result(None)
        # Enough to find a mark that was cut in two, too little to find one twice.
        self._rest = data[-(len(self._end) - 1) :]

    def _sample(self, data: bytes) -> None:
        now = time.monotonic_ns()
        at = data.find(_MARK)
        while at >= 0 and at + len(_MARK) + _DIGITS <= len(data):
            self.ages.append((now - int(data[at + len(_MARK) : at + len(_MARK) + _DIGITS])) / 1e6)
            at = data.find(_MARK, at + 100)
        at = data.find(b"\x8a\x08")
        if at >= 0 and at + 10 <= len(data):
            self.echoes.append((now - int.from_bytes(data[at + 2 : at + 10])) / 1e6)

    def echo(self) -> None:
        """Send a ping whose pong tells how long it took."""
        self.transport.write(_PING + time.monotonic_ns().to_bytes(8))

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends early would wait for ever."""
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"the server hung up: {exc}"))


def masked(payload: bytes) -> bytes:
    """A client's text frame, masked with zeros."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0x80 | 126)) + size.to_bytes(2)
    return head + bytes(4) + payload


async def read(task: Task) -> None:
    """Connect, read to the end, report."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(cafile=Path(task.ca)) if task.ca is not None else None
    readers: list[Reader] = []
    for number in range(task.connections):
        reader = Reader(task, number < task.sampled)
        await loop.create_connection(lambda made=reader: made, "127.0.0.1", task.port, ssl=context)
        readers.append(reader)
        await reader.ready
    await asyncio.sleep(0.5)
    for reader in readers:
        reader.bytes = 0
    print("joined", flush=True)

    async def echoes() -> None:
        while True:
            await asyncio.sleep(0.02)
            for reader in readers[: task.sampled]:
                reader.echo()

    echoing = asyncio.create_task(echoes())
    await asyncio.gather(*(reader.ended for reader in readers))
    echoing.cancel()
    report = {
        "bytes": sum(reader.bytes for reader in readers),
        "seconds": max(reader.last for reader in readers) - min(reader.first for reader in readers),
        "ages": [age for reader in readers for age in reader.ages],
        "echoes": [echo for reader in readers for echo in reader.echoes],
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    uvloop.run(read(msgspec.json.decode(sys.argv[1], type=Task)))
