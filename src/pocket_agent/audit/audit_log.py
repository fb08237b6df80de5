"""The audit log: changes with their author, and refusals, as a hash chain in a file that `verify` checks."""

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
from typing import Any, Final

from pocket_agent import events
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import AuditFailed, Event, Observer
from pocket_agent.supervision import supervise

MAX_LINE: Final = 32_768
"""Upper bound of the bytes of a line, whatever a request contains."""
_MAX_DETAILS: Final = 8192
_MAX_TEXT: Final = 200
GENESIS: Final = "0" * 64
"""The previous hash of the first line."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An action that a device, a user or the server carried out or attempted."""

    time: str  # RFC 3339 in UTC
    action: str  # such as `login`, `execute` or `device_revoke`
    outcome: str = "ok"  # `ok`, or the code of the error with which it was refused
    by: str | None = None  # the name of the device, or of the user of a command
    device_id: str | None = None
    address: str | None = None  # of the client, if the action came by the network
    project_id: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    """Ids and choices (JSON values), never contents: no prompt, no output, no token."""


_TEXTS: Final = tuple(found.name for found in dataclasses.fields(AuditRecord) if found.name != "details")


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a log: its number, counted from 1, and its hash."""

    seq: int
    digest: str


EMPTY: Final = Head(0, GENESIS)
"""The head of an empty log."""


def bounded(record: AuditRecord) -> AuditRecord:
    """Truncate texts; of details that are too long, keep only their size, their SHA-256 and `left_out`."""
    details = _json(record.details)
    short = {name: text[:_MAX_TEXT] for name in _TEXTS if (text := getattr(record, name)) is not None}
    if len(details) > _MAX_DETAILS:
        cut: dict[str, object] = {"bytes": len(details), "sha256": digest_of(details)}
        kept = {name: found for name, found in record.details.items() if name == "left_out"}
        return dataclasses.replace(record, **short, details={"too_long": cut, **kept})
    return dataclasses.replace(record, **short)


def encode(record: AuditRecord, seq: int, prev: str) -> bytes:
    """The line of a record, without the line feed; in ASCII, with control characters escaped."""
    texts = {name: getattr(record, name) for name in _TEXTS}
    fields = {"seq": seq, **texts, "details": dict(record.details) or None, "prev": prev}
    return _json({name: value for name, value in fields.items() if value is not None})


def digest_of(line: bytes) -> str:
    """The hash of a line, which is `prev` of the next one."""
    return hashlib.sha256(line).hexdigest()


def head_of(line: bytes) -> Head | None:
    """The head of a log whose last line is `line`; None when that is not an audit record."""
    try:
        seq = json.loads(line)["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Head(seq, digest_of(line)) if isinstance(seq, int) and seq > 0 else None


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(dict(value), ensure_ascii=True, separators=(",", ":"), default=str).encode("ascii")


_BURST: Final = 20.0
_PER_SECOND: Final = 1 / 60
_BURST_OF_ALL: Final = 500.0
_PER_SECOND_OF_ALL: Final = 1 / 10  # about 3 MB a day at most during an attack
_MAX_SOURCES: Final = 1000
_MAX_KINDS: Final = 100


class _Allowance:
    """A token bucket: a burst, then a rate per second."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, at: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, at

    def take(self, at: float) -> bool:
        self._left = min(self._burst, self._left + (at - self._at) * self._rate)
        self._at = at
        if self._left < 1:
            return False
        self._left -= 1
        return True


class AuditSampler:
    """Limits the rate of records of refusals and logins, which cost an attacker nothing; other records all pass.

    Each source (a device at an address) has an allowance, and all sources together have another. Records that are
    left out are counted. `clock` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sources: OrderedDict[tuple[str | None, ...], _Allowance] = OrderedDict()
        self._all = _Allowance(_PER_SECOND_OF_ALL, _BURST_OF_ALL, clock())
        self._left_out: Counter[str] = Counter()

    def take(self, record: AuditRecord) -> AuditRecord | None:
        """The record, with the counts of those that were left out before it; None when it is left out."""
        if record.outcome == "ok" and record.action != "login":
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


TORN: Final = "torn"
"""The action of a record about the line before it, which a crash cut off."""
TAMPERED: Final = "tampered"
"""The action of a record that the record before it is not the one that was written."""
_PRIVATE: Final = 0o600
_TAIL_BYTES: Final = 8 * MAX_LINE


def audit_path(data_dir: Path) -> Path:
    """The log of a data directory."""
    return data_dir / "audit.log"


def append(path: Path, records: Sequence[AuditRecord], known: Head) -> Head:
    """Append records and flush them to the disk.

    A partial line that a crash has left stays, and a `torn` record after it describes it.

    The chain continues from the stored head `known` and not from the end of the file: where the file's last record is
    another one, a `tampered` record is written, and the chain stays broken at that place for ever. Records after the
    known head are those of a process that was killed before it could store the head; their own chain has to lead there.

    Returns:
        The new head.

    Raises:
        OSError: the disk refused; the records may be missing.
    """
    with _locked(path) as descriptor:
        last, torn = _last(descriptor)
        seq, prev, now = max(last.seq, known.seq), last.digest, records[0].time
        added: list[AuditRecord] = []
        if torn:
            added.append(AuditRecord(now, TORN, details={"bytes": len(torn), "sha256": digest_of(torn)}))
        if not _follows(descriptor, last, known):
            prev = known.digest
            details: dict[str, object] = {"known_seq": known.seq, "found_seq": last.seq, "found_sha256": last.digest}
            added.append(AuditRecord(now, TAMPERED, "FILE_OPERATION", details=details))
        lines: list[bytes] = []
        for record in (*added, *records):
            seq += 1
            lines.append(encode(bounded(record), seq, prev))
            prev = digest_of(lines[-1])
        _write(descriptor, b"\n".join((*lines, b"")))
        return Head(seq, prev)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    # O_NONBLOCK: a pipe in its place would stop the thread, and with it the end of the server.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
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
        # A line that a crash cut off has no line feed.
        whole = b"\n" + text if end and os.pread(descriptor, 1, end - 1) != b"\n" else text
        written = 0
        while written < len(whole):
            written += os.write(descriptor, whole[written:])
        os.fsync(descriptor)
    except OSError:
        # The disk became full in the middle: remove the partial text, so that the write can be retried.
        os.ftruncate(descriptor, end)
        raise


def _tails(descriptor: int) -> Iterator[list[bytes]]:
    """The last lines of the file, more of them each time, and at last all."""
    end = start = os.fstat(descriptor).st_size
    size = _TAIL_BYTES
    while start > 0:
        start = max(0, end - size)
        size *= 4
        lines = os.pread(descriptor, end - start, start).split(b"\n")
        yield lines[1:] if start > 0 else lines  # the first line may have started before `start`


def _last(descriptor: int) -> tuple[Head, bytes]:
    """The head of the file, which is its last line that is an audit record, and the bytes after that line."""
    lines: list[bytes] = []
    for lines in _tails(descriptor):
        for number in reversed(range(len(lines))):
            head = head_of(lines[number]) if lines[number] else None
            if head is not None:
                return head, b"\n".join(lines[number + 1 :]).removesuffix(b"\n")
    return EMPTY, b"\n".join(lines).removesuffix(b"\n")


def _follows(descriptor: int, last: Head, known: Head) -> bool:
    """Whether the file ends with the known head, or with records that are chained to it."""
    if known in {last, EMPTY}:
        return True
    if last.seq <= known.seq:
        return False
    # At most the records of one batch are newer than the head; the file is read from its end until the known one.
    found = (_chained(lines, known) for lines in _tails(descriptor))
    return next((chained for chained in found if chained is not None), False)


def _chained(lines: Sequence[bytes], known: Head) -> bool | None:
    """Whether the records after the known one are chained to it; None when the lines do not include the known one."""
    expected: Head | None = None
    for line in lines:
        head = head_of(line) if line else None
        if head is None:
            continue
        if expected is not None:
            if json.loads(line).get("prev") != expected.digest or head.seq != expected.seq + 1:
                return False
            expected = head
        elif head.seq == known.seq:
            if head != known:
                return False
            expected = head
    return None if expected is None else True


_MAX_QUEUED: Final = 10_000  # records queued for the disk; the oldest are dropped, and their number is written
_RETRY_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 10.0  # time limit for the last records when the server stops


class AuditLog:
    """Receives records; this base class drops them, for a server whose audit log is disabled."""

    def append(self, record: AuditRecord) -> None:
        """Write a record; never blocks, never raises."""


class FileAuditLog(AuditLog):
    """An `AuditLog` that writes to a file while it is `running`; earlier records are queued."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head = EMPTY
        self._queue: deque[AuditRecord] = deque()
        self._lost = 0
        self._sampler = AuditSampler()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._failing = False

    def append(self, record: AuditRecord) -> None:
        """Queue a record, unless `AuditSampler` leaves it out."""
        sampled = self._sampler.take(record)
        if sampled is not None:
            self._queue.append(bounded(sampled))
            self._drop_oldest()
            self._wake.set()

    @asynccontextmanager
    async def running(
        self, known: Head, keep: Callable[[Head], Awaitable[None]], observer: Observer
    ) -> AsyncIterator[None]:
        """Write records until the block is left, and then the rest of the queue.

        `known` is the head that the database has, and `keep` stores a new one. `observer` gets an event when the disk
        refuses.
        """
        self._head = known
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(supervise("audit", partial(self._run, keep, observer), observer))
            try:
                yield
            finally:
                left_out = self._sampler.rest()
                if left_out:
                    self.append(AuditRecord(timestamp(), "left_out", details=left_out))
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
        """Write the queue and return whether that succeeded."""
        batch, self._queue = self._queue, deque()
        lost, self._lost = self._lost, 0
        records = list(batch)
        if lost:
            records.insert(0, AuditRecord(timestamp(), "records_lost", "FILE_OPERATION", details={"count": lost}))
        if not records:
            return True
        try:
            self._head = await asyncio.to_thread(append, self._path, records, self._head)
        except Exception as error:  # noqa: BLE001 - also a thread that cannot be started: no record may get lost
            self._queue.extendleft(reversed(batch))
            self._lost += lost
            self._drop_oldest()
            reason = error.strerror if isinstance(error, OSError) else None
            self._failed(observer, reason or type(error).__name__)
            return False
        self._failing = False
        try:
            await keep(self._head)
        except PocketAgentError as error:  # the next head replaces it
            self._failed(observer, error.message)
        return True

    def _failed(self, observer: Observer, reason: str) -> None:
        if not self._failing:
            observer.emit(AuditFailed(reason))
        self._failing = True

    def _drop_oldest(self) -> None:
        while len(self._queue) > _MAX_QUEUED:
            self._queue.popleft()
            self._lost += 1


def timestamp() -> str:
    """Now, RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class AuditObserver:
    """An `Observer` that writes records of logins, refused logins, reloads, and start and stop of the server."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def emit(self, event: Event) -> None:
        match event:
            case events.ServerStarted():
                self._append("server_start", details={"version": event.version, "addresses": list(event.addresses)})
            case events.ServerStopping():
                self._append("server_stop", details={"reason": event.reason})
            case events.SettingsReloaded():
                self._append("settings_reload")
            case events.SettingsRefused():
                self._append("settings_reload", "VALIDATION_FAILED")
            case events.ConnectionOpened():
                details = {"connection_id": event.connection_id}
                self._append("login", by=event.device, device_id=event.device_id, address=event.remote, details=details)
            case events.ConnectionRejected():
                refusal = {"reason": event.reason, "count": event.count}
                self._append(event.attempt, event.code, address=event.remote, details=refusal)

    def _append(self, action: str, outcome: str = "ok", **fields: Any) -> None:
        self._log.append(AuditRecord(timestamp(), action, outcome, **fields))
