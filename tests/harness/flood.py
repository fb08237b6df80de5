"""Handshakes from one address, as many and as fast as a program makes them; run as a process of its own.

    python -m tests.harness.flood PORT SOURCE COUNT

Prints, as JSON, what came of them: `refused` with a status, `dropped` without an answer, and the seconds it took.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter

import uvloop

from tests.harness import DEADLINE_SECONDS

_AT_ONCE = 100
_HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer wrong\r\n\r\n"
)


async def _shake(port: int, source: str) -> str:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            try:
                writer.write(_HANDSHAKE)
                line = await reader.readline()
            finally:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return "dropped"
    return line.split()[1].decode() if line else "dropped"


async def _flood(port: int, source: str, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    left = iter(range(count))

    async def one_after_another() -> None:
        for _ in left:
            found[await _shake(port, source)] += 1

    await asyncio.gather(*(one_after_another() for _ in range(_AT_ONCE)))
    return found


def main() -> None:
    """Flood, and print what came of it."""
    port, source, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    began = time.monotonic()
    found = uvloop.run(_flood(port, source, count))
    sys.stdout.write(json.dumps({**found, "seconds": time.monotonic() - began}) + "\n")


if __name__ == "__main__":
    main()
