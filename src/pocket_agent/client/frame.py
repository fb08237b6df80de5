"""A frame of the server as a value."""

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pocket_agent.client.fault import ProtocolViolationError

if TYPE_CHECKING:
    from pocket_agent.model import Position


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    data: msgspec.Raw
    project_id: str | None = None
    timestamp: str = ""
    request_id: str | None = None
    offset: int | None = None


_decode: Final = msgspec.json.Decoder(_Envelope).decode


class Frame:
    """One message of the server; its `data` is only parsed when somebody asks for it.

    Attributes:
        type: what it is, see docs/protocol.md.
        project_id: the project that it is about.
        offset: its number in the project's log, for entries.
        request_id: the request that it answers.
        timestamp: RFC 3339, UTC.
        raw: the whole frame, byte for byte.
        payload: the JSON of `data`, byte for byte.
        gap: True on a `project_join` frame after which the log does not continue where it ended:
            its epoch is another one, or entries were pruned. What was shown before must be loaded again.
        position: where a stream stands after this frame, for entries and joins that a stream yields.
    """

    def __init__(self, raw: bytes) -> None:
        """Read the envelope.

        Raises:
            ProtocolViolationError: `raw` is not a frame of the server.
        """
        envelope = _envelope(raw)
        self.raw = raw
        self.payload = bytes(envelope.data)
        self.type = envelope.type
        self.project_id = envelope.project_id
        self.offset = envelope.offset
        self.request_id = envelope.request_id
        self.timestamp = envelope.timestamp
        self.gap = False
        self.position: Position | None = None

    @cached_property
    def data(self) -> dict[str, Any]:
        """The object of `data`, as plain Python values; strings may hold lone surrogates, as the CLI's do.

        Raises:
            ProtocolViolationError: it is not an object.
        """
        try:
            found = json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise ProtocolViolationError(f"The data of a {self.type} frame is unreadable: {error}.") from error
        if not isinstance(found, dict):
            raise ProtocolViolationError(f"The data of a {self.type} frame is no object.")
        return found

    def __repr__(self) -> str:
        return f"Frame({self.type!r}, project_id={self.project_id!r}, offset={self.offset!r})"


def _envelope(raw: bytes) -> _Envelope:
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        # A line of the CLI may hold lone surrogates, or be nested deeper than msgspec reads. `data` comes
        # last in a frame, and no text before it can hold these bytes, since its quotes would be escaped.
        head, separator, rest = raw.partition(b',"data":')
        try:
            envelope = _decode(head + b',"data":{}}')
        except (msgspec.MsgspecError, UnicodeError):
            raise ProtocolViolationError(f"The server sent an unreadable frame: {error}.") from error
        if not separator or not rest.startswith(b"{") or not rest.endswith(b"}}"):
            raise ProtocolViolationError(f"The server sent an unreadable frame: {error}.") from error
        return msgspec.structs.replace(envelope, data=msgspec.Raw(rest[:-1]))
