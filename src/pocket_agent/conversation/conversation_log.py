"""A conversation's log: number the entries, store them, then deliver them."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from pocket_agent.events import EpochRenewed, Observer, StorageCommitted
from pocket_agent.hub import Channel, WireFrame
from pocket_agent.model import (
    LAST_LINE_CHARACTERS,
    ConversationRecord,
    Direction,
    Entry,
    ExecutionContext,
    LastLine,
    Milliseconds,
    TranscriptMark,
)
from pocket_agent.protocol.frame import encode_data, encode_frame, entry_frame, websocket_frame
from pocket_agent.storage import Change, Store


def now() -> Milliseconds:
    """The time of the wall clock."""
    return Milliseconds(time.time_ns() // 1_000_000)


def tick() -> int:
    """The monotonic time in milliseconds, the same clock for every process of a boot.

    A wall clock that is set does not change it. On Linux it stops while the machine is suspended (CLOCK_MONOTONIC,
    clock_gettime(2)).
    """
    return time.monotonic_ns() // 1_000_000


class Draft(NamedTuple):
    """An entry that has no number yet, or (`direction` None) a frame that is only delivered.

    Attributes:
        said: the words of the user or the agent in it, for `ConversationRecord.last_line`; empty without any.
    """

    type: str
    data: bytes
    direction: Direction | None
    said: str = ""


def entry_draft(kind: str, data: object, direction: Direction = Direction.SERVER, *, said: str = "") -> Draft:
    """An entry whose data the server writes."""
    return Draft(kind, encode_data(data), direction, said)


def _last_line(draft: Draft, at: Milliseconds, offset: int) -> LastLine | None:
    """What a list shows of an entry; None without visible words."""
    words = " ".join(draft.said[:_SAID_CHARACTERS].split())
    if not words:
        return None
    text = words if len(words) <= LAST_LINE_CHARACTERS else words[: LAST_LINE_CHARACTERS - 1] + "…"
    return LastLine(text, "user" if draft.direction is Direction.CLIENT else "agent", at, offset)


def live_draft(kind: str, data: object) -> Draft:
    """A frame that is delivered and not stored."""
    return Draft(kind, encode_data(data), None)


_NO_CHANGE: Final = Change()
_SAID_CHARACTERS: Final = 2000
"""The characters of a text in which the words of its last line are looked for."""


class ConversationLog:
    """The only writer of one project's log.

    Persist, then deliver: a frame reaches the channel after the commit that has its entry, and the record in memory
    changes with the commit, so that a failed commit changes nothing.
    """

    def __init__(self, record: ConversationRecord, store: Store, channel: Channel, observer: Observer) -> None:
        self.record = record
        self.channel = channel
        self._store = store
        self._observer = observer
        self._turn = asyncio.Lock()
        self._last = record.last_active
        self._renewed = False

    async def write(
        self,
        drafts: Sequence[Draft] = (),
        change: Change = _NO_CHANGE,
        *,
        record: Mapping[str, Any] | None = None,
        context: ExecutionContext | None = None,
        after: Callable[[], Iterable[Draft]] | None = None,
    ) -> None:
        """Store one atomic step and deliver its drafts in order.

        Args:
            drafts: entries to store and deliver, and live frames to deliver among them.
            change: what else to store; its `record` and `entries` are set here.
            record: the fields of the record that change.
            context: the execution that the event of the commit names.
            after: called after the commit and before the delivery; applies the step to the caller's own
                state and returns live frames to deliver behind the drafts.

        Raises:
            FileOperationError: the store refused; nothing has changed.
            ForbiddenError: the device of `change.admits` was revoked; nothing has changed.
        """
        writing = asyncio.ensure_future(self._write(drafts, change, record or {}, context, after))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # The commit may succeed, so memory must follow it before another writer goes on.
            await asyncio.wait({writing})
            raise

    async def _write(
        self,
        drafts: Sequence[Draft],
        change: Change,
        fields: Mapping[str, Any],
        context: ExecutionContext | None,
        after: Callable[[], Iterable[Draft]] | None,
    ) -> None:
        async with self._turn:
            at = Milliseconds(max(now(), self._last))
            entries: list[Entry] = []
            frames: list[WireFrame] = []
            offset, last_line = self.record.head, self.record.last_line
            for draft in drafts:
                if draft.direction is None:
                    frames.append(self._live(draft, at))
                    continue
                offset += 1
                entry = Entry(offset, at, draft.direction, draft.type, draft.data)
                entries.append(entry)
                if draft.said:
                    last_line = _last_line(draft, at, offset) or last_line
                frames.append(WireFrame(entry_frame(self.record.id, entry), offset, entry.type))
            record = replace(self.record, **fields, head=offset, last_line=last_line)
            if entries:
                record = replace(record, last_active=at)
            began = time.perf_counter()
            await self._store.commit(replace(change, record=record, entries=tuple(entries)))
            self._observer.emit(StorageCommitted(record.project_id, context, len(entries), time.perf_counter() - began))
            self._last = at
            # `first` belongs to retention, which may have moved it during the commit.
            self.record = record.since(self.record.first)
            if after is not None:
                frames.extend(self._live(draft, at) for draft in after())
            self.channel.publish(frames)

    async def renew_epoch(self) -> bool:
        """Give the log a new epoch, since a position of a client proves that the log went back.

        This happens once in a run of the server: within a run no log goes back, so further evidence is of the same
        loss, or invented.

        Returns:
            Whether the log has a new epoch now.

        Raises:
            FileOperationError: the store refused; nothing has changed.
        """
        async with self._turn:
            if self._renewed:
                return False
            record = replace(self.record, epoch=secrets.token_hex(4))
            await self._store.commit(Change(record=record))
            self.record = record.since(self.record.first)
            self._renewed = True
            self._observer.emit(EpochRenewed(record.project_id))
            return True

    def note(self, *, transcript: TranscriptMark) -> None:
        """Set the position in the session's file in memory; the next change stores it."""
        self.record = replace(self.record, transcript=transcript)

    def say(self, drafts: Iterable[Draft]) -> None:
        """Deliver live frames at once, without waiting for a commit that is in progress."""
        at = now()
        self.channel.publish([self._live(draft, at) for draft in drafts])

    async def prune(self, *, max_entries: int, max_bytes: int, older_than: Milliseconds) -> None:
        """Delete the oldest entries beyond the bounds; 0 is unlimited."""

        def moved(first: int) -> None:
            self.record = self.record.since(first)

        await self._store.prune(
            self.record, max_entries=max_entries, max_bytes=max_bytes, older_than=older_than, moved=moved
        )

    def _live(self, draft: Draft, at: Milliseconds) -> WireFrame:
        payload = encode_frame(draft.type, draft.data, at, conversation_id=self.record.id)
        return WireFrame(websocket_frame(payload), None, draft.type)
