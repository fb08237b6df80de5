"""Lines of the audit log, and the chain that holds them together; pure.

A line is one JSON object in ASCII. Its `prev` is the SHA-256 of the line before it, without the line feed;
that of the first is 64 zeros.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_LINE: Final = 32_768
"""More bytes than the longest line has, so that no request makes a long one."""
_MAX_DETAILS: Final = 8192
_MAX_TEXT: Final = 200
GENESIS: Final = "0" * 64
"""What stands for the hash of the line before the first."""


@dataclass(frozen=True, slots=True)
class Record:
    """Something that somebody did, or tried.

    Attributes:
        time: when, RFC 3339 in UTC.
        action: what, such as `login`, `execute` or `device_revoke`.
        outcome: `ok`, or the code of the error with which it was refused.
        by: the name of the device, or of the user of a command.
        device_id: of the device, if it was one.
        address: from where, if it came by the network.
        project_id: which project it concerns.
        details: ids and choices (JSON values), never contents: no prompt, no output, no token.
    """

    time: str
    action: str
    outcome: str = "ok"
    by: str | None = None
    device_id: str | None = None
    address: str | None = None
    project_id: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a log: its number, counted from 1, and its hash."""

    seq: int
    digest: str


EMPTY: Final = Head(0, GENESIS)
"""The head of a log without lines."""


def bounded(record: Record) -> Record:
    """The same record; of details that are too long to be written only their size and their SHA-256 is left."""
    details = _json(record.details)
    texts = ("time", "action", "outcome", "by", "device_id", "address", "project_id")
    short = {name: text[:_MAX_TEXT] for name in texts if (text := getattr(record, name)) is not None}
    if len(details) > _MAX_DETAILS:
        cut: dict[str, object] = {"bytes": len(details), "sha256": digest_of(details)}
        return dataclasses.replace(record, **short, details={"too_long": cut})
    return dataclasses.replace(record, **short)


def encode(record: Record, seq: int, prev: str) -> bytes:
    """The line of a record, without the line feed; nothing in it can break a line or colour a terminal."""
    fields = {
        "seq": seq,
        "time": record.time,
        "action": record.action,
        "outcome": record.outcome,
        "by": record.by,
        "device_id": record.device_id,
        "address": record.address,
        "project_id": record.project_id,
        "details": dict(record.details) or None,
        "prev": prev,
    }
    kept = {name: value for name, value in fields.items() if value is not None}
    return _json(kept)


def digest_of(line: bytes) -> str:
    """The hash by which the next line names this one."""
    return hashlib.sha256(line).hexdigest()


def head_of(line: bytes) -> Head | None:
    """The head that a log has after this line; None when it is none of ours."""
    try:
        seq = json.loads(line)["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Head(seq, digest_of(line)) if isinstance(seq, int) and seq > 0 else None


def prev_of(line: bytes) -> str | None:
    """The hash of the line before, as a line of ours says it."""
    prev = json.loads(line).get("prev")
    return prev if isinstance(prev, str) else None


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(dict(value), ensure_ascii=True, separators=(",", ":"), default=str).encode("ascii")
