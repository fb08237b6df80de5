"""The audit log: what changed, who changed it, and what was refused; a hash chain that `verify` checks."""

import asyncio
import dataclasses
import fcntl
import hashlib
import json
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from pocket_agent import events
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import AuditFailed, Event, Observer
from pocket_agent.supervision import supervise

# ----------------------------------------------------------------------
# Records, their chain, and the file.

MAX_LINE: Final = 32_768
"""More bytes than the longest line has, so that no request makes a long one."""
_MAX_DETAILS: Final = 8192
_MAX_TEXT: Final = 200
GENESIS: Final = "0" * 64
"""The previous hash of the first line."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An action that a device, a user or the server carried out or attempted.

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


def bounded(record: AuditRecord) -> AuditRecord:
    """The same record; of details that are too long, only their size, their SHA-256 and `left_out` are kept."""
    details = _json(record.details)
    texts = ("time", "action", "outcome", "by", "device_id", "address", "project_id")
    short = {name: text[:_MAX_TEXT] for name in texts if (text := getattr(record, name)) is not None}
    if len(details) > _MAX_DETAILS:
        cut: dict[str, object] = {"bytes": len(details), "sha256": digest_of(details)}
        kept = {name: found for name, found in record.details.items() if name == "left_out"}
        return dataclasses.replace(record, **short, details={"too_long": cut, **kept})
    return dataclasses.replace(record, **short)


def encode(record: AuditRecord, seq: int, prev: str) -> bytes:
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
    """The head of a log whose last line is this one; None when it is not an audit record."""
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


_BURST: Final = 20.0
_PER_SECOND: Final = 1 / 60
_BURST_OF_ALL: Final = 500.0
_PER_SECOND_OF_ALL: Final = 1 / 10
"""About 3 MB a day at the most, if it never ends."""
_MAX_SOURCES: Final = 1000
_MAX_KINDS: Final = 100


class _Allowance:
    """A token bucket: a burst, then a rate per second."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, at: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, at

    def take(self, at: float) -> bool:
        """Whether there is one left."""
        self._left = min(self._burst, self._left + (at - self._at) * self._rate)
        self._at = at
        if self._left < 1:
            return False
        self._left -= 1
        return True


class AuditSampler:
    """Lets through each record of something that was done, and a bounded number of the others.

    The others are refusals and logins, which cost who makes them nothing. Each source (a device at an
    address) has an allowance, and all of them together have another; what is left out is counted.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sources: OrderedDict[tuple[str | None, ...], _Allowance] = OrderedDict()
        self._all = _Allowance(_PER_SECOND_OF_ALL, _BURST_OF_ALL, clock())
        self._left_out: Counter[str] = Counter()

    def take(self, record: AuditRecord) -> AuditRecord | None:
        """The record as it is to be written, with what was left out before it; None when it is left out."""
        if not _is_cheap(record):
            return record
        if not self._is_allowed(record):
            kind = f"{record.action} {record.outcome}"
            count = record.details.get("count", 1)
            known = kind in self._left_out or len(self._left_out) < _MAX_KINDS
            self._left_out[kind if known else "others"] += count if isinstance(count, int) else 1
            return None
        left_out = self.rest()
        return dataclasses.replace(record, details={**record.details, "left_out": left_out}) if left_out else record

    def rest(self) -> dict[str, int]:
        """The number of records of each kind that were left out since the last call."""
        found, self._left_out = self._left_out, Counter()
        return dict(found)

    def _is_allowed(self, record: AuditRecord) -> bool:
        at = self._clock()
        source = (record.address, record.device_id or record.by, record.action, record.outcome)
        allowance = self._sources.pop(source, None) or _Allowance(_PER_SECOND, _BURST, at)
        self._sources[source] = allowance
        if len(self._sources) > _MAX_SOURCES:
            self._sources.popitem(last=False)
        return allowance.take(at) and self._all.take(at)


def _is_cheap(record: AuditRecord) -> bool:
    return record.outcome != "ok" or record.action == "login"


TORN: Final = "torn"
"""The action of a record about the line before it, which a crash cut off."""

TAMPERED: Final = "tampered"
"""The action of a record that notes that the record before it is not the one that was written."""

_PRIVATE: Final = 0o600
_TAIL_BYTES: Final = 8 * MAX_LINE


def audit_path(data_dir: Path) -> Path:
    """Where the log of a data directory is."""
    return data_dir / "audit.log"


def append(path: Path, records: Sequence[AuditRecord], known: Head) -> Head:
    """Write records behind what there is, and flush them to the disk.

    What a crash has left of a line stays, and a record behind it says so.

    Args:
        path: the file; created with mode 0600 when it is missing.
        records: at least one, in their order.
        known: the head that was last known. The chain goes on from it and not from what the file says: where
            the file's last record is another one, a record notes that it was tampered with, and the chain stays
            broken at that place for ever. Records behind the known head are those of a process that was killed
            before it could store the head; their own chain has to lead there.

    Returns:
        The new head.

    Raises:
        OSError: the disk refused; nothing of the records is to be relied on.
    """
    with _locked(path) as descriptor:
        last, torn = _last(descriptor)
        seq, prev = max(last.seq, known.seq), last.digest
        tampered: list[AuditRecord] = []
        if not _follows(descriptor, last, known):
            prev = known.digest
            details: dict[str, object] = {"known_seq": known.seq, "found_seq": last.seq, "found_sha256": last.digest}
            tampered.append(AuditRecord(records[0].time, TAMPERED, "FILE_OPERATION", details=details))
        text = b""
        for record in (*_of_torn(torn, records[0].time), *tampered, *records):
            seq += 1
            line = encode(bounded(record), seq, prev)
            prev = digest_of(line)
            text += line + b"\n"
        _write(descriptor, text)
        return Head(seq, prev)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, _PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, _PRIVATE)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, text: bytes) -> None:
    end = os.fstat(descriptor).st_size
    try:
        # After a crash within a line the next one must not be glued to it.
        whole = b"\n" + text if end and os.pread(descriptor, 1, end - 1) != b"\n" else text
        written = 0
        while written < len(whole):
            written += os.write(descriptor, whole[written:])
        os.fsync(descriptor)
    except OSError:
        # A disk that filled in the middle: what was begun is taken back, so that it can be tried again.
        os.ftruncate(descriptor, end)
        raise


def _last(descriptor: int) -> tuple[Head, bytes]:
    """The head of the file, which is its last line that is one of ours, and what stands behind that line."""
    end = start = os.fstat(descriptor).st_size
    tail = b""
    size = _TAIL_BYTES
    while start > 0:
        start = max(0, end - size)
        size *= 4
        tail = os.pread(descriptor, end - start, start)
        # The first line of what was read may have begun before it.
        at = 0 if start == 0 else tail.find(b"\n") + 1
        lines = tail[at:].split(b"\n")
        for number in range(len(lines) - 1, -1, -1):
            head = head_of(lines[number]) if lines[number] else None
            if head is not None:
                return head, b"\n".join(lines[number + 1 :]).removesuffix(b"\n")
    return EMPTY, tail.removesuffix(b"\n")


def _follows(descriptor: int, last: Head, known: Head) -> bool:
    """Whether the file ends with the known head, or with records that are chained to it."""
    if known in {last, EMPTY}:
        return True
    if last.seq <= known.seq:
        return False
    # At most the records of one batch are newer than the head; the file is read from its end until the known one.
    end = os.fstat(descriptor).st_size
    size = _TAIL_BYTES
    while True:
        start = max(0, end - size)
        lines = os.pread(descriptor, end - start, start).split(b"\n")
        chained = _chained(lines if start == 0 else lines[1:], known)
        if chained is not None:
            return chained
        if start == 0:
            return False
        size *= 4


def _chained(lines: Sequence[bytes], known: Head) -> bool | None:
    """Whether the records behind the known one lead back to it; None when the known one is not among the lines."""
    expected: Head | None = None
    for line in lines:
        head = head_of(line) if line else None
        if head is None:
            continue
        if expected is not None:
            if prev_of(line) != expected.digest or head.seq != expected.seq + 1:
                return False
            expected = head
        elif head.seq == known.seq:
            if head != known:
                return False
            expected = head
    return None if expected is None else True


def _of_torn(torn: bytes, time: str) -> Iterator[AuditRecord]:
    if torn:
        yield AuditRecord(time, TORN, details={"bytes": len(torn), "sha256": digest_of(torn)})


_MAX_WAITING: Final = 10_000
"""Records that wait for a disk; the oldest are let go of, and how many they were is written."""
_RETRY_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 10.0
"""How long the last records may take when the server stops."""


class AuditLog(Protocol):
    """Takes note of what is done."""

    def note(self, record: AuditRecord) -> None:
        """Never blocks, never raises."""


class NoAuditLog:
    """The `AuditLog` of a server that keeps none."""

    def note(self, record: AuditRecord) -> None:
        """Nothing."""


class FileAuditLog:
    """A `AuditLog` that writes to a file while it is `running`; what is noted before waits until then.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head = EMPTY
        self._waiting: deque[AuditRecord] = deque()
        self._lost = 0
        self._sieve = AuditSampler()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._failing = False

    def note(self, record: AuditRecord) -> None:
        """Write a record soon, unless there were very many like it (see `AuditSampler`)."""
        written = self._sieve.take(record)
        if written is None:
            return
        self._waiting.append(bounded(written))
        self._bound()
        self._wake.set()

    @asynccontextmanager
    async def running(
        self, known: Head, keep: Callable[[Head], Awaitable[None]], observer: Observer
    ) -> AsyncIterator[None]:
        """Write what is noted until the block is left, and then the rest of it.

        Args:
            known: the head that the database knows.
            keep: stores the head of what was written.
            observer: is told when the disk refuses.
        """
        self._head = known
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(supervise("audit", partial(self._run, keep, observer), observer))
            try:
                yield
            finally:
                left_out = self._sieve.rest()
                if left_out:
                    self.note(AuditRecord(timestamp(), "left_out", details=left_out))
                self._closing.set()
                self._wake.set()
                await asyncio.wait({writing}, timeout=_LAST_SECONDS)
                writing.cancel()

    async def _run(self, keep: Callable[[Head], Awaitable[None]], observer: Observer) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            closing = self._closing.is_set()
            written = await self._write(keep, observer)
            if closing:
                return
            if not written:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_SECONDS):
                        await self._closing.wait()
                self._wake.set()

    async def _write(self, keep: Callable[[Head], Awaitable[None]], observer: Observer) -> bool:
        """Write what waits; whether the disk took it."""
        batch, self._waiting = self._waiting, deque()
        lost, self._lost = self._lost, 0
        records = list(batch)
        if lost:
            records.insert(0, AuditRecord(timestamp(), "records_lost", "FILE_OPERATION", details={"count": lost}))
        if not records:
            return True
        try:
            self._head = await asyncio.to_thread(append, self._path, records, self._head)
        except Exception as error:  # noqa: BLE001 - also a thread that cannot be started: no record may get lost
            self._waiting.extendleft(reversed(batch))
            self._lost += lost
            self._bound()
            reason = error.strerror if isinstance(error, OSError) else None
            self._failed(observer, reason or type(error).__name__)
            return False
        self._failing = False
        try:
            await keep(self._head)
        except PocketAgentError as error:  # the next head takes its place
            self._failed(observer, error.message)
        return True

    def _failed(self, observer: Observer, reason: str) -> None:
        if not self._failing:
            observer.emit(AuditFailed(reason))
        self._failing = True

    def _bound(self) -> None:
        while len(self._waiting) > _MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1


def timestamp() -> str:
    """Now, RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ----------------------------------------------------------------------
# Events of the core as records: logins, refused logins, starts and stops.

_CODES: Final = {
    "unauthorized": "UNAUTHORIZED",
    "throttled": "RATE_LIMITED",
    "host": "FORBIDDEN",
    "origin": "FORBIDDEN",
    "rate": "RATE_LIMITED",
    "limit": "RESOURCE_LIMIT",
    "stopping": "RESOURCE_LIMIT",
}


class AuditObserver:
    """An `Observer` that notes logins, refused ones, and the start and the end of the server.

    Args:
        trail: where to.
    """

    def __init__(self, trail: AuditLog) -> None:
        self._trail = trail

    def emit(self, event: Event) -> None:
        """Note an event, if it is one of these."""
        match event:
            case events.ServerStarted():
                self._note("server_start", details={"version": event.version, "addresses": list(event.addresses)})
            case events.ServerStopping():
                self._note("server_stop", details={"reason": event.reason})
            case events.SettingsReloaded():
                self._note("settings_reload")
            case events.SettingsRefused():
                self._note("settings_reload", "VALIDATION_FAILED")
            case events.ConnectionOpened():
                details = {"connection_id": event.connection_id}
                self._note("login", by=event.device, device_id=event.device_id, address=event.remote, details=details)
            case events.ConnectionRejected():
                self._refused(event)

    def _refused(self, event: events.ConnectionRejected) -> None:
        details: dict[str, object] = {"reason": event.reason, "count": event.count}
        self._note(event.attempt, _CODES[event.reason], address=event.remote, details=details)

    def _note(
        self,
        action: str,
        outcome: str = "ok",
        *,
        by: str | None = None,
        device_id: str | None = None,
        address: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        self._trail.note(AuditRecord(timestamp(), action, outcome, by, device_id, address, None, details or {}))
