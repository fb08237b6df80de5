"""Bytes of the CLI's output to bounded lines, with the place of each in the stream."""

from typing import Final

import msgspec

_NEWLINE: Final = b"\n"


class Line(msgspec.Struct, frozen=True, gc=False):
    """A complete line.

    Attributes:
        data: the line without its line end (LF or CRLF); never empty.
        end: bytes of the stream up to and including its newline.
    """

    data: bytes
    end: int


class Oversized(msgspec.Struct, frozen=True, gc=False):
    """A line that was longer than allowed; its bytes were dropped.

    Attributes:
        length: its length in bytes without the newline.
        end: bytes of the stream up to and including its newline.
    """

    length: int
    end: int


class LineFramer:
    """Cuts a stream into lines; holds at most one line, of at most `max_line` bytes.

    Args:
        max_line: the longest line in bytes, without its newline.
        start: where in the stream the first byte to be fed stands; the beginning of a line.
    """

    def __init__(self, max_line: int, *, start: int = 0) -> None:
        self._max_line = max_line
        self._parts: list[bytes] = []
        self._pending = 0
        self._carriage_return = False
        self._consumed = start

    @property
    def pending(self) -> int:
        """Bytes fed since the last newline; they belong to a line that is not complete."""
        return self._pending

    @property
    def consumed(self) -> int:
        """Bytes of the stream up to and including the last newline, empty lines included."""
        return self._consumed

    def feed(self, data: bytes) -> list[Line | Oversized]:
        """Take the next bytes of the stream and give the lines that they complete, in order."""
        pieces = data.split(_NEWLINE)
        tail = pieces.pop()
        lines: list[Line | Oversized] = []
        if pieces and self._pending:
            self._hold(pieces.pop(0))
            self._complete(lines, newline=1)
        end = self._consumed
        max_line = self._max_line
        for piece in pieces:
            end += len(piece) + 1
            line = piece[:-1] if piece.endswith(b"\r") else piece
            if len(line) > max_line:
                lines.append(Oversized(len(line), end))
            elif line:
                lines.append(Line(line, end))
        self._consumed = end
        if tail:
            self._hold(tail)
        return lines

    def finish(self) -> list[Line | Oversized]:
        """Give what is left as a line (at most one): the stream has ended without a newline."""
        lines: list[Line | Oversized] = []
        if self._pending:
            self._complete(lines, newline=0)
        return lines

    def _hold(self, piece: bytes) -> None:
        self._pending += len(piece)
        if piece:
            self._carriage_return = piece.endswith(b"\r")
        # One byte more than a line may have: it can be the CR of a CRLF.
        if self._pending <= self._max_line + 1:
            self._parts.append(piece)
        else:
            self._parts.clear()

    def _complete(self, lines: list[Line | Oversized], newline: int) -> None:
        end = self._consumed + self._pending + newline
        length = self._pending - self._carriage_return
        line = b"".join(self._parts)[:length]
        if length > self._max_line:
            lines.append(Oversized(length, end))
        elif line:
            lines.append(Line(line, end))
        self._parts.clear()
        self._pending = 0
        self._consumed = end
