"""Just enough WebSocket for clients that must cost less than what they measure (RFC 6455)."""

import json
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any, Final

_KEY: Final = "AAAAAAAAAAAAAAAAAAAAAA=="
_TIMEOUT_SECONDS: Final = 120.0


def connect(port: int, token: str, *, tls: bool) -> socket.socket:
    """A blocking socket to a server on loopback with the WebSocket handshake done.

    Raises:
        ConnectionError: the server refused.
    """
    plain = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link = _secure(plain) if tls else plain
    link.sendall(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = link.recv(1)
        if not byte:
            break
        answer += byte
    if b" 101 " not in answer.partition(b"\r\n")[0]:
        raise ConnectionError(f"no WebSocket: {answer[:200]!r}")
    return link


def _secure(plain: socket.socket) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate is one that the server made for itself a moment ago, on this machine.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame. The mask is zero: it protects proxies, and there is none."""
    size = len(payload)
    if size <= 125:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size <= 0xFFFF:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


def request(kind: str, **fields: Any) -> bytes:
    """A client's message as a frame."""
    return masked(1, json.dumps({"type": kind, **fields}).encode())


class Frames:
    """Cuts a server's bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The frames that `data` completes, as opcode and payload."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 2:
            size, head = buffer[start + 1], 2
            if size == 126:
                head = 4
                size = int.from_bytes(buffer[start + 2 : start + 4]) if len(buffer) - start >= 4 else len(buffer)
            elif size == 127:
                head = 10
                size = int.from_bytes(buffer[start + 2 : start + 10]) if len(buffer) - start >= 10 else len(buffer)
            if len(buffer) - start < head + size:
                break
            yield buffer[start] & 0x0F, bytes(buffer[start + head : start + head + size])
            start += head + size
        del buffer[:start]


class Caller:
    """One blocking connection that sends requests and reads what comes back."""

    def __init__(self, port: int, token: str, *, tls: bool = False) -> None:
        self._socket = connect(port, token, tls=tls)
        self._frames = Frames()
        self._waiting: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> None:
        """Send a request."""
        self._socket.sendall(request(kind, **fields))

    def next(self) -> dict[str, Any]:
        """The next message of the server.

        Raises:
            ConnectionError: the server has closed.
        """
        while not self._waiting:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the server has closed the connection")
            self._waiting = [json.loads(payload) for opcode, payload in self._frames.feed(data) if opcode == 1]
        return self._waiting.pop(0)

    def until(self, kind: str, **data: Any) -> dict[str, Any]:
        """The next message of this type whose data has these values."""
        while True:
            message = self.next()
            if message["type"] == "error":
                raise ConnectionError(f"the server answered {message['data']}")
            if message["type"] == kind and all(message["data"].get(name) == value for name, value in data.items()):
                return message

    def read_reply(self) -> int:
        """Read one whole frame without looking into it; its size. For replies that are timed."""
        while True:
            for _, payload in self._frames.feed(self._socket.recv(1 << 20)):
                return len(payload)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
