"""Checks that an audit log is unchanged."""

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
class Verification:
    """The result of `verify`; `first` and `last` are the times of the first and the last record."""

    records: int
    first: str | None
    last: str | None
    torn: int  # number of partial lines that a crash has left and a record describes; no stored record is missing there
    problems: tuple[str, ...]  # as sentences; a long list is truncated


def verify(path: Path, known: Head) -> Verification:
    """Follow the chain from the first line to the last, and find the head that the database has.

    This detects lines that were changed, removed, moved or inserted, and a file that was truncated. An attacker who
    can write both the file and the database can forge a chain; only a copy elsewhere reveals that.

    Raises:
        OSError: the file cannot be read.
    """
    checker = _Checker(known)
    problems = [problem for line in _lines(path) for problem in checker.take(line)]
    problems += checker.end()
    if len(problems) > _MAX_PROBLEMS:
        problems = [*problems[:_MAX_PROBLEMS], f"and {len(problems) - _MAX_PROBLEMS} more problems"]
    return Verification(checker.records, checker.first, checker.last, checker.torn, tuple(problems))


def _lines(path: Path) -> Iterator[bytes]:
    """The present lines with their line feeds, without delaying a server that appends more."""
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
        self._invalid: list[bytes] = []
        self._pending: list[str] = []
        self._known = known
        self._number = 0
        self._head = EMPTY
        self._found = known == EMPTY

    def take(self, raw: bytes) -> Iterator[str]:
        """The problems of the next line, and of the lines before it that are not records."""
        self._number += 1
        line = raw.removesuffix(b"\n")
        end = "" if raw.endswith(b"\n") else f"line {self._number} has no end: it was cut, or a write of it was"
        try:
            found = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            self._invalid.append(line)
            self._pending.append(end or f"line {self._number} is not a record")
            return
        text = b"\n".join(self._invalid)
        torn = {"bytes": len(text), "sha256": digest_of(text)}
        if self._invalid and found.action == TORN and found.details == torn:
            self.torn += 1
        else:
            yield from self._pending
        self._pending.clear()
        self._invalid.clear()
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
            self._found = self._head == self._known
            if not self._found:
                yield f"record {found.seq} is not the one that the database knows"

    def end(self) -> Iterator[str]:
        """The problems at the end of the file."""
        yield from self._pending
        if self._head.seq < self._known.seq:
            missing = self._known.seq - self._head.seq
            yield f"the log ends with record {self._head.seq}; {missing} more are missing, which the database knows"
        elif not self._found and self._known.seq not in {0, self._head.seq}:
            yield f"record {self._known.seq}, which the database knows, is not there"
