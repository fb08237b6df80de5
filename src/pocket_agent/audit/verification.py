"""Whether an audit log is as it was written."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent.audit.audit_log import EMPTY, TORN, Head, digest_of

_MAX_PROBLEMS: Final = 20


class _Line(msgspec.Struct):
    seq: int
    time: str
    prev: str
    action: str = ""
    details: dict[str, object] = {}


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What was found.

    Attributes:
        records: how many lines there are.
        first, last: the times of the first and the last of them.
        torn: how often a crash has cut lines off, of which a record tells; nothing that was known is missing there.
        problems: what is wrong, in sentences; at most a few of them.
    """

    records: int
    first: str | None
    last: str | None
    torn: int
    problems: tuple[str, ...]


def verify(path: Path, known: Head) -> AuditVerdict:
    """Follow the chain from the first line to the last, and look for the head that the database knows.

    A line that was changed, removed, moved or put in shows, and so does a file that ends too early.
    Whoever can write both the file and the database can make a chain of his own; that shows only
    against a copy that is elsewhere.

    Raises:
        OSError: the file cannot be read.
    """
    checker = _Checker(known)
    problems = [problem for line in _lines(path) for problem in checker.take(line)]
    problems += checker.end()
    if len(problems) > _MAX_PROBLEMS:
        problems = [*problems[:_MAX_PROBLEMS], f"and {len(problems) - _MAX_PROBLEMS} more problems"]
    return AuditVerdict(checker.records, checker.first, checker.last, checker.torn, tuple(problems))


def _lines(path: Path) -> Iterator[bytes]:
    """What is there now, with the ends of the lines; a server may be writing more, and is not held up."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        left = os.fstat(file.fileno()).st_size
        fcntl.flock(file, fcntl.LOCK_UN)
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            yield line


class _Checker:
    def __init__(self, known: Head) -> None:
        self.records = 0
        self.first: str | None = None
        self.last: str | None = None
        self.torn = 0
        self._strange: list[bytes] = []
        self._told: list[str] = []
        self._known = known
        self._number = 0
        self._head = EMPTY
        self._met = known == EMPTY

    def take(self, raw: bytes) -> Iterator[str]:
        """Look at the next line."""
        self._number += 1
        line = raw.removesuffix(b"\n")
        end = "" if raw.endswith(b"\n") else f"line {self._number} has no end: it was cut, or a write of it was"
        try:
            found = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            self._strange.append(line)
            self._told.append(end or f"line {self._number} is no record")
            return
        yield from self._judge(found)
        if end:
            yield end
        if found.prev != self._head.digest:
            yield f"line {self._number} does not follow the one before it: that was changed, or lines were removed"
        if found.seq != self._head.seq + 1:
            missing = found.seq - self._head.seq - 1
            yield f"line {self._number} has the number {found.seq} after {self._head.seq}" + (
                f": {missing} records are missing" if missing > 0 else ""
            )
        self.records += 1
        self.first = self.first or found.time
        self.last = found.time
        self._head = Head(found.seq, digest_of(line))
        if found.seq == self._known.seq:
            self._met = self._head == self._known
            if not self._met:
                yield f"record {found.seq} is not the one that the database knows"

    def _judge(self, following: _Line) -> Iterator[str]:
        """What is to be said of lines that are no records, before one that is."""
        if self._strange and following.action == TORN:
            text = b"\n".join(self._strange)
            if following.details == {"bytes": len(text), "sha256": digest_of(text)}:
                self.torn += 1
                self._told.clear()
        yield from self._told
        self._told.clear()
        self._strange.clear()

    def end(self) -> Iterator[str]:
        """Look for what is missing at the end."""
        yield from self._told
        if self._head.seq < self._known.seq:
            missing = self._known.seq - self._head.seq
            yield f"the log ends with record {self._head.seq}; {missing} more are missing, which the database knows"
        elif not self._met and self._known.seq not in {0, self._head.seq}:
            yield f"record {self._known.seq}, which the database knows, is not there"
