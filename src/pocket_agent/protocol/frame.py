"""Server frames as bytes: the JSON envelope, and the WebSocket header around it.

A frame is encoded once for all connections, so its bytes include the header of RFC 6455 (a server's text frames are
unmasked; only pages of history are compressed, each for one connection).
"""

import struct
import zlib
from datetime import UTC, datetime
from typing import Final

import msgspec

from pocket_agent.model import Entry, Milliseconds, project_of

PROBE: Final = "pocket-agent.probe"
"""The subprotocol (RFC 6455 section 1.9) of a probe: upgraded and closed at once, without a token."""

_TEXT: Final = 0x81  # FIN and opcode 1, RFC 6455 section 5.2
_COMPRESSED: Final = 0x40  # RSV1, RFC 7692 section 6
_SHORT: Final = 125
_MEDIUM: Final = 0xFFFF

_encode = msgspec.json.Encoder(order=None).encode


class _Last:
    """Caches the last formatted time: all frames of a batch share it, and thousands share its second."""

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


def websocket_frame(payload: bytes, *, compressed: bool = False) -> bytes:
    """`payload` as one unmasked WebSocket text frame (RFC 6455 section 5.2); `compressed` by `deflate`."""
    first = _TEXT | _COMPRESSED if compressed else _TEXT
    size = len(payload)
    if size <= _SHORT:
        return bytes((first, size)) + payload
    if size <= _MEDIUM:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def frame_payload(frame: bytes) -> bytes:
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def deflate(payload: bytes, window_bits: int) -> bytes:
    """Compress for permessage-deflate (RFC 7692 section 7.2.1), without reference to an earlier message.

    `window_bits` is 9 to 15, as negotiated.
    """
    compressor = zlib.compressobj(level=2, wbits=-window_bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def encode_data(data: object) -> bytes:
    return _encode(data)


def encode_frame(
    kind: str,
    data: bytes,
    at: Milliseconds,
    *,
    conversation_id: str | None = None,
    request_id: str | None = None,
    offset: int | None = None,
) -> bytes:
    """A server message as JSON text, without the WebSocket header; the JSON of `data` is embedded byte for byte.

    A frame about a main conversation has only a `project_id`, which is the same.
    """
    head = f'{{"type":"{kind}"'
    if conversation_id is not None:
        project_id = project_of(conversation_id)
        head += f',"project_id":{_encode(project_id).decode()}'
        if conversation_id != project_id:
            head += f',"conversation_id":{_encode(conversation_id).decode()}'
    head += f',"timestamp":"{timestamp(at)}"'
    if request_id is not None:
        head += f',"request_id":{_encode(request_id).decode()}'
    if offset is not None:
        head += f',"offset":{offset}'
    return b'%b,"data":%b}' % (head.encode(), data)


def entry_frame(conversation_id: str, entry: Entry) -> bytes:
    """The wire frame of an entry: the same bytes live and replayed."""
    return websocket_frame(
        encode_frame(entry.type, entry.data, entry.timestamp, conversation_id=conversation_id, offset=entry.offset)
    )
