"""Server frames as bytes: the JSON envelope, and the WebSocket header around it.

A frame is encoded once, however many connections it goes to, so its bytes include the header
of RFC 6455 (a server's text frames are unmasked and not compressed).
"""

import struct
from datetime import UTC, datetime
from typing import Final

import msgspec

from pocket_agent.model import Entry, Milliseconds

PROBE: Final = "pocket-agent.probe"
"""The subprotocol (RFC 6455 section 1.9) of a probe: upgraded and closed at once, without a token."""

_TEXT: Final = 0x81  # FIN and opcode 1, RFC 6455 section 5.2
_SHORT: Final = 125
_MEDIUM: Final = 0xFFFF

_encode = msgspec.json.Encoder(order=None).encode


class _Last:
    """The time that was formatted last, since all frames of a batch share it and thousands share its second."""

    moment = (-1, "")
    second = (-1, "")


def timestamp(at: Milliseconds) -> str:
    """`at` as RFC 3339 in UTC with milliseconds, e.g. 2026-01-31T12:00:00.123Z."""
    known, text = _Last.moment
    if known == at:
        return text
    second, rest = divmod(at, 1000)
    known, start = _Last.second
    if known != second:
        start = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _Last.second = (second, start)
    text = f"{start}.{rest:03d}Z"
    _Last.moment = (at, text)
    return text


def websocket_frame(payload: bytes) -> bytes:
    """`payload` as one unmasked WebSocket text frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size <= _SHORT:
        return bytes((_TEXT, size)) + payload
    if size <= _MEDIUM:
        return struct.pack("!BBH", _TEXT, 126, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


def encode_data(data: object) -> bytes:
    """A payload Struct or mapping as JSON."""
    return _encode(data)


def encode_frame(
    kind: str,
    data: bytes,
    at: Milliseconds,
    *,
    project_id: str | None = None,
    request_id: str | None = None,
    offset: int | None = None,
) -> bytes:
    """A server message as JSON text, without the WebSocket header.

    Args:
        kind: the frame's `type`.
        data: the JSON object of `data`, embedded byte for byte.
        at: the frame's `timestamp`.
        project_id: the project it belongs to.
        request_id: the request that it answers.
        offset: the entry's number, for frames that are entries.
    """
    head = f'{{"type":"{kind}"'
    if project_id is not None:
        head += f',"project_id":{_encode(project_id).decode()}'
    head += f',"timestamp":"{timestamp(at)}"'
    if request_id is not None:
        head += f',"request_id":{_encode(request_id).decode()}'
    if offset is not None:
        head += f',"offset":{offset}'
    return b'%b,"data":%b}' % (head.encode(), data)


def entry_frame(project_id: str, entry: Entry) -> bytes:
    """The wire frame of an entry, the same bytes whether it is live or replayed."""
    return websocket_frame(
        encode_frame(entry.type, entry.data, entry.timestamp, project_id=project_id, offset=entry.offset)
    )
