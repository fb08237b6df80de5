"""The beginning of a large entry, for clients that fetch the rest when the user opens it."""

import json
from typing import Any, Final, NamedTuple

import msgspec

from pocket_agent.model import Entry
from pocket_agent.protocol.frame import frame_payload, timestamp, websocket_frame
from pocket_agent.protocol.requests import Large, MessageData

LARGE_BYTES: Final = 16 * 1024  # an entry with more data is sent as a preview, to clients that request previews

_STRING_CHARACTERS: Final = 2048
_PREVIEW_BYTES: Final = 12 * 1024  # the approximate size of a preview
_MAX_CUTS: Final = 32
_DATA: Final = b',"data":'


class Preview(NamedTuple):
    """The beginning of an entry's data."""

    data: bytes  # a JSON object of the same shape, with long strings, arrays and objects truncated
    size: int  # bytes of the whole data
    cut: tuple[str, ...]  # the truncated places, as JSON pointers (RFC 6901); "" is everything


def preview(data: bytes) -> Preview | None:
    """The preview of an entry's data; None when it is small."""
    if len(data) <= LARGE_BYTES:
        return None
    truncated = _Truncation()
    try:
        kept = _write(truncated.copy(_read(data), ""))
        places = truncated.places
        return Preview(kept, len(data), tuple(places) if len(places) <= _MAX_CUTS else ("",))
    except (ValueError, RecursionError):
        return Preview(b"{}", len(data), ("",))


def preview_frame(frame: bytes) -> bytes:
    """A frame of `entry_frame` with the preview of its data, `size` and `cut`; the same frame when it is small."""
    if len(frame) <= LARGE_BYTES:
        return frame
    # `data` comes last in a frame, and no text before it can hold these bytes, since its quotes would be escaped.
    head, _, rest = frame_payload(frame).partition(_DATA)
    found = preview(rest[:-1])
    if found is None:
        return frame
    about = b',"size":%d,"cut":%b' % (found.size, _write(found.cut))
    return websocket_frame(b"".join((head, about, _DATA, found.data, b"}")))


def message_data(entry: Entry, large: Large) -> MessageData:
    """An entry in a page of history."""
    found = preview(entry.data) if large == "reference" else None
    return MessageData(
        offset=entry.offset,
        timestamp=timestamp(entry.timestamp),
        direction=entry.direction,
        type=entry.type,
        message=msgspec.Raw(entry.data if found is None else found.data),
        size=None if found is None else found.size,
        cut=() if found is None else found.cut,
    )


class _Truncation:
    """Copies a value up to a number of bytes, and notes what is missing."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self._left = _PREVIEW_BYTES

    def copy(self, value: Any, place: str) -> Any:
        if isinstance(value, str):
            kept = value[: max(0, min(_STRING_CHARACTERS, self._left))]
            self._left -= len(kept) + 3
            if len(kept) < len(value):
                self._miss(place)
            return kept
        if isinstance(value, dict):
            found = {}
            for key, part in value.items():
                inner = f"{place}/{key.replace('~', '~0').replace('/', '~1')}"
                self._left -= len(key) + 4
                if self._left >= 0:
                    found[key] = self.copy(part, inner)
                elif len(self.places) <= _MAX_CUTS:
                    self._miss(inner)
            return found
        if isinstance(value, list):
            parts = []
            for index, part in enumerate(value):
                if self._left < 0:
                    self._miss(place)
                    break
                parts.append(self.copy(part, f"{place}/{index}"))
            return parts
        self._left -= 8
        return value

    def _miss(self, place: str) -> None:
        while self.places and self.places[-1].startswith(f"{place}/"):
            self.places.pop()  # part of `place`, which is missing as a whole
        self.places.append(place)


def _read(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError):
        return json.loads(data)  # lone surrogates, which the CLI may print and msgspec refuses


def _write(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
