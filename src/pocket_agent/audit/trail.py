"""Keeps the audit log of a running server; nobody waits for it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from pocket_agent.audit.file import append
from pocket_agent.audit.record import EMPTY, Head, Record, bounded
from pocket_agent.audit.sieve import Sieve
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import AuditFailed, Observer
from pocket_agent.supervision import supervise

_MAX_WAITING: Final = 10_000
"""Records that wait for a disk; the oldest are let go of, and how many they were is written."""
_RETRY_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 10.0
"""How long the last records may take when the server stops."""


class Trail(Protocol):
    """Takes note of what is done."""

    def note(self, record: Record) -> None:
        """Never blocks, never raises."""


class NoTrail:
    """The `Trail` of a server that keeps none."""

    def note(self, record: Record) -> None:
        """Nothing."""


class AuditTrail:
    """A `Trail` that writes to a file while it is `running`; what is noted before waits until then.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head = EMPTY
        self._waiting: deque[Record] = deque()
        self._lost = 0
        self._sieve = Sieve()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._failing = False

    def note(self, record: Record) -> None:
        """Write a record soon, unless there were very many like it (see `Sieve`)."""
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
                    self.note(Record(timestamp(), "left_out", details=left_out))
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
            records.insert(0, Record(timestamp(), "records_lost", "FILE_OPERATION", details={"count": lost}))
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
