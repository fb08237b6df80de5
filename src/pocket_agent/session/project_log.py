"""A project's log as its session writes it: number the entries, store them, then deliver them."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from pocket_agent.events import EpochRenewed, Observer, StorageCommitted
from pocket_agent.hub import Channel, WireFrame
from pocket_agent.model import (
    Approval,
    Direction,
    Entry,
    Execution,
    ExecutionContext,
    Milliseconds,
    ProcessRecord,
    Project,
    SessionRecord,
    Spending,
    Trust,
)
from pocket_agent.protocol.frame import encode_data, encode_frame, entry_frame, websocket_frame
from pocket_agent.storage import Change, Store


def now() -> Milliseconds:
    """The present time of the wall clock."""
    return Milliseconds(time.time_ns() // 1_000_000)


def tick() -> int:
    """The monotonic time in milliseconds, the same clock for every process of a boot.

    It measures how long something takes whatever happens to the wall clock. On Linux it stops while the
    machine is suspended (CLOCK_MONOTONIC, clock_gettime(2)).
    """
    return time.monotonic_ns() // 1_000_000


class Draft(NamedTuple):
    """Something to say: an entry that has no number yet, or (`direction` None) a frame that is live only."""

    type: str
    data: bytes
    direction: Direction | None


def entry_draft(kind: str, data: object, direction: Direction = Direction.SERVER) -> Draft:
    """An entry whose data the server itself writes."""
    return Draft(kind, encode_data(data), direction)


def live_draft(kind: str, data: object) -> Draft:
    """A frame that is delivered and not stored."""
    return Draft(kind, encode_data(data), None)


class Write(msgspec.Struct, frozen=True):
    """One atomic step of a project: what is said and what changes with it.

    Attributes:
        project: the fields of the project that change.
        context: the execution that it belongs to, for whoever is told of the commit.
        admits, trust: as of `Change`.
    """

    drafts: Sequence[Draft] = ()
    project: dict[str, Any] = {}
    executions: tuple[Execution, ...] = ()
    approvals: tuple[Approval, ...] = ()
    process: ProcessRecord | None = None
    ended_process: str | None = None
    sessions: tuple[SessionRecord, ...] = ()
    spent: tuple[Spending, ...] = ()
    context: ExecutionContext | None = None
    admits: Execution | None = None
    trust: Trust | None = None


class ProjectLog:
    """The only writer of one project's log.

    Persist, then deliver: a frame reaches the channel after the commit that holds its entry, and
    the project in memory changes with the commit, so that a failed one leaves everything as it was.
    """

    def __init__(self, project: Project, store: Store, channel: Channel, observer: Observer) -> None:
        self.project = project
        self.channel = channel
        self._store = store
        self._observer = observer
        self._turn = asyncio.Lock()
        self._last = project.last_active
        self._renewed = False

    async def write(self, step: Write, after: Callable[[], Iterable[Draft]] | None = None) -> None:
        """Store `step` and deliver its drafts in order.

        Args:
            step: what to store and say.
            after: called once it is stored, before anything is delivered; applies the step to
                the caller's own state and returns live frames to deliver behind the step's own.

        Raises:
            FileOperationError: the store refused; nothing has changed.
            ForbiddenError: the device of `step.admits` was revoked; nothing has changed.
        """
        writing = asyncio.ensure_future(self._write(step, after))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # A commit that is under way may succeed, so memory must follow it before anybody goes on.
            await asyncio.wait({writing})
            raise

    async def _write(self, step: Write, after: Callable[[], Iterable[Draft]] | None) -> None:
        async with self._turn:
            at = Milliseconds(max(now(), self._last))
            entries: list[Entry] = []
            frames: list[WireFrame] = []
            offset = self.project.head
            for draft in step.drafts:
                if draft.direction is None:
                    frames.append(self._live(draft, at))
                    continue
                offset += 1
                entry = Entry(offset, at, draft.direction, draft.type, draft.data)
                entries.append(entry)
                frames.append(WireFrame(entry_frame(self.project.id, entry), offset, entry.type))
            changes = {**step.project, "head": offset}
            if entries:
                changes["last_active"] = at
            project = msgspec.structs.replace(self.project, **changes)
            began = time.perf_counter()
            await self._store.commit(
                Change(
                    project=project,
                    entries=tuple(entries),
                    executions=step.executions,
                    approvals=step.approvals,
                    process=step.process,
                    ended_process=step.ended_process,
                    sessions=step.sessions,
                    spent=step.spent,
                    admits=step.admits,
                    trust=step.trust,
                )
            )
            self._observer.emit(StorageCommitted(project.id, step.context, len(entries), time.perf_counter() - began))
            self._last = at
            # `first` belongs to retention, which may have moved it during the commit.
            self.project = msgspec.structs.replace(project, first=self.project.first)
            if after is not None:
                frames.extend(self._live(draft, at) for draft in after())
            self.channel.publish(frames)

    async def renew_epoch(self) -> bool:
        """Give the log a new epoch, since a client has shown that the log went back; returns whether it has one now.

        Once in a run of the server: within a run no log goes back, so that all further evidence is of the same loss,
        or invented.

        Raises:
            FileOperationError: the store refused; nothing has changed.
        """
        async with self._turn:
            if self._renewed:
                return False
            project = msgspec.structs.replace(self.project, epoch=secrets.token_hex(4))
            await self._store.commit(Change(project=project))
            self.project = msgspec.structs.replace(project, first=self.project.first)
            self._renewed = True
            self._observer.emit(EpochRenewed(project.id))
            return True

    def say(self, drafts: Iterable[Draft]) -> None:
        """Deliver live frames at once; for what no entry waits to precede."""
        at = now()
        self.channel.publish([self._live(draft, at) for draft in drafts])

    async def prune(self, *, max_entries: int, max_bytes: int, older_than: Milliseconds) -> None:
        """Drop the oldest entries beyond the bounds (0 is no bound)."""

        def moved(first: int) -> None:
            self.project = msgspec.structs.replace(self.project, first=first)

        await self._store.prune(
            self.project, max_entries=max_entries, max_bytes=max_bytes, older_than=older_than, moved=moved
        )

    def _live(self, draft: Draft, at: Milliseconds) -> WireFrame:
        payload = encode_frame(draft.type, draft.data, at, project_id=self.project.id)
        return WireFrame(websocket_frame(payload), None, draft.type)
