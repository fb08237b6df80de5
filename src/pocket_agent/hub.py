"""One log, many cursors: encoded frames go from a project's tail to every connection that follows it.

A `Channel` keeps a bounded tail of wire frames, each encoded once. A subscriber is a `Cursor`, not
a queue: when frames arrive, everything between a cursor and the end of the tail goes out in one
write. A cursor whose connection is congested is parked and served later at the connection's own
pace, from the tail or, when it has fallen behind that, from the store: the same frames either way.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Final, NamedTuple, Protocol

from pocket_agent.distribution import Distribution
from pocket_agent.model import Entry, ProjectId
from pocket_agent.protocol.frame import entry_frame
from pocket_agent.protocol.preview import LARGE_BYTES, preview_frame

WATCHED: Final = frozenset({"project_state", "approval_requested", "approval_resolved", "approval_cancelled"})
"""What a watcher is told of the projects that it does not follow."""

_WHOLE: Final = frozenset({"approval_requested"})
"""Entries that are never replaced by a preview: a user decides on their whole content."""

_WRITE_BYTES: Final = 256 * 1024
"""How much one cursor may write in one go while others wait; a larger single frame still goes whole."""


class Sink(Protocol):
    """Where a cursor writes: one connection. No call blocks."""

    @property
    def buffered(self) -> int:
        """Bytes that the transport holds unsent."""

    @property
    def congested(self) -> bool:
        """Whether the transport holds as many unsent bytes as it may."""

    def write(self, data: bytes, frames: int) -> None:
        """Hand `frames` whole WebSocket frames to the transport."""

    def notify(self, data: bytes, frames: int) -> bool:
        """Hand over whole frames about a project that it has not joined.

        Returns:
            False when it is congested and takes none of them: it reads the current state once there is room.
        """

    def sees(self, project_id: ProjectId) -> bool:
        """Whether it may be told of a project that it has not joined."""

    def park(self, cursor: "Cursor") -> None:
        """Remember to call `cursor.advance` once the transport has room."""


class WireFrame(NamedTuple):
    """A wire frame. `offset` is the entry's number, or None for a frame that is live only."""

    data: bytes
    offset: int | None
    kind: str = "agent_message"
    """Its `type`, by which deliveries are counted."""


class GapError(Exception):
    """The entries that a cursor needs next were pruned before it could read them."""


class Channel:
    """The tail of one project's log and the cursors that follow it.

    Args:
        project_id: whose log it is.
        head: the offset of the newest stored entry.
        max_bytes: how many bytes of frames the tail keeps.
        read_page: entries after an offset from the store, oldest first; empty at the end.
        snapshot: the frames that tell a laggard, which skipped live frames, how things are now.
        sent: where deliveries are counted, by type of frame.
        broadcasts: where the time is counted that handing new frames to all cursors takes.
        watchers: who is told of `WATCHED` frames without following the channel.
    """

    def __init__(
        self,
        project_id: ProjectId,
        head: int,
        *,
        max_bytes: int,
        read_page: Callable[[int], Awaitable[Sequence[Entry]]],
        snapshot: Callable[[], Iterable[bytes]],
        sent: Counter[str] | None = None,
        broadcasts: Distribution | None = None,
        watchers: Mapping[Sink, None] | None = None,
    ) -> None:
        self.project_id = project_id
        self.head = head
        self.read_page = read_page
        self.snapshot = snapshot
        self.sent: Counter[str] = Counter() if sent is None else sent
        self._broadcasts = Distribution() if broadcasts is None else broadcasts
        self._watchers: Mapping[Sink, None] = {} if watchers is None else watchers
        self._max_bytes = max_bytes
        self._frames: list[bytes] = []
        self._kinds: list[str] = []
        self._offsets: list[int] = []
        """For each frame the offset of the newest entry up to it, so that it is sorted."""
        self._previews: dict[int, bytes] = {}
        """The previews of frames of the tail by their sequence number, as far as a cursor has needed them."""
        self._base = 0
        self._bytes = 0
        self._covered_from = head
        """The tail holds each entry with an offset larger than this."""
        self._cursors: dict[Cursor, None] = {}

    @property
    def end(self) -> int:
        """The sequence number that the next frame of the tail will have."""
        return self._base + len(self._frames)

    @property
    def subscribers(self) -> int:
        """How many cursors follow the channel."""
        return len(self._cursors)

    def attach(self, sink: Sink, after: int | None = None, *, previews: bool = False) -> "Cursor":
        """A cursor that continues after entry `after`, or at what comes next when that is None.

        Args:
            sink: where it writes.
            after: the offset of the last entry that is known there.
            previews: large entries are replaced by their previews.
        """
        cursor = Cursor(self, sink, self.head if after is None else after, previews=previews)
        self._cursors[cursor] = None
        if cursor.offset >= self.head:
            cursor.sequence = self.end
        else:
            cursor.parked = True
            sink.park(cursor)
        return cursor

    def detach(self, cursor: "Cursor") -> None:
        """Forget a cursor; detaching twice is harmless."""
        self._cursors.pop(cursor, None)

    def follows(self, cursor: "Cursor") -> bool:
        """Whether the cursor is still attached."""
        return cursor in self._cursors

    def publish(self, frames: Sequence[WireFrame]) -> None:
        """Append frames, whose entries are stored already, and write them to every cursor that keeps up."""
        for frame in frames:
            if frame.offset is not None:
                self.head = frame.offset
            self._frames.append(frame.data)
            self._kinds.append(frame.kind)
            self._offsets.append(self.head)
            self._bytes += len(frame.data)
        if self._cursors:
            began = perf_counter()
            self._deliver()
            self._broadcasts.observe(perf_counter() - began)
        if self._watchers:
            self._tell([frame for frame in frames if frame.kind in WATCHED])
        self._trim()

    def sequence_after(self, offset: int) -> int | None:
        """Where in the tail the entries after `offset` begin; None when it does not reach back so far."""
        if offset < self._covered_from:
            return None
        return self._base + bisect_right(self._offsets, offset)

    def cut(self, sequence: int, max_bytes: int | None, *, previews: bool = False) -> tuple[bytes, int]:
        """The joined frames from `sequence` on, at least one, and how many they are."""
        start = sequence - self._base
        if max_bytes is None:
            frames = self._frames[start:]
            if previews:
                frames = [self._preview(start + index) for index in range(len(frames))]
            return b"".join(frames), len(frames)
        stop, size = start, 0
        while stop < len(self._frames) and (stop == start or size + len(self._frames[stop]) <= max_bytes):
            size += len(self._frames[stop])
            stop += 1
        frames = [self._preview(index) for index in range(start, stop)] if previews else self._frames[start:stop]
        return b"".join(frames), stop - start

    def _preview(self, index: int) -> bytes:
        frame = self._frames[index]
        if len(frame) <= LARGE_BYTES or self._kinds[index] in _WHOLE or not self._is_entry(index):
            return frame
        sequence = self._base + index
        known = self._previews.get(sequence)
        if known is None:
            known = self._previews[sequence] = preview_frame(frame)
        return known

    def _is_entry(self, index: int) -> bool:
        return self._offsets[index] > (self._offsets[index - 1] if index > 0 else self._covered_from)

    def holds(self, sequence: int) -> bool:
        """Whether the frame with this sequence number is still in the tail (or is the next to come)."""
        return sequence >= self._base

    def offset_before(self, sequence: int) -> int:
        """The offset of the newest entry before the frame with this sequence number."""
        index = sequence - self._base
        return self._offsets[index - 1] if index > 0 else self._covered_from

    def _deliver(self) -> None:
        end = self.end
        joined: dict[int, tuple[bytes, int]] = {}
        joined_previews: dict[int, tuple[bytes, int]] = {}
        reached: Counter[int] = Counter()
        for cursor in self._cursors:
            if cursor.parked or cursor.sequence == end:
                continue
            sink = cursor.sink
            if not sink.congested:
                parts = joined_previews if cursor.previews else joined
                part = parts.get(cursor.sequence)
                if part is None:
                    part = parts[cursor.sequence] = self.cut(cursor.sequence, None, previews=cursor.previews)
                sink.write(*part)
                reached[cursor.sequence] += 1
                cursor.sequence = end
                cursor.offset = self.head
            else:
                cursor.parked = True
                sink.park(cursor)
        for sequence, cursors in reached.items():
            self.count(sequence, end, cursors)

    def _tell(self, frames: Sequence[WireFrame]) -> None:
        """Write frames to the watchers that do not follow the channel."""
        following = {cursor.sink for cursor in self._cursors}
        beside = [sink for sink in self._watchers if sink not in following and sink.sees(self.project_id)]
        if not frames or not beside:
            return
        data = b"".join(frame.data for frame in frames)
        told = sum(sink.notify(data, len(frames)) for sink in beside)
        for frame in frames:
            self.sent[frame.kind] += told

    def count(self, start: int, end: int, cursors: int) -> None:
        """Note that the frames from `start` up to `end` went to so many cursors."""
        for kind, frames in Counter(self._kinds[start - self._base : end - self._base]).items():
            self.sent[kind] += frames * cursors

    def _trim(self) -> None:
        if self._bytes <= self._max_bytes:
            return
        # Half of the tail at once, so that the cost of moving the list is paid rarely.
        drop = 0
        while drop < len(self._frames) and self._bytes > self._max_bytes // 2:
            self._bytes -= len(self._frames[drop])
            drop += 1
        self._covered_from = max(self._covered_from, self._offsets[drop - 1])
        del self._frames[:drop], self._kinds[:drop], self._offsets[:drop]
        self._base += drop
        self._previews = {sequence: frame for sequence, frame in self._previews.items() if sequence >= self._base}


class Cursor:
    """How far one connection has got in one channel.

    Attributes:
        offset: the newest entry that was written to the connection.
        sequence: the next frame of the tail; meaningless while `behind`.
        parked: whether the connection serves it at its own pace, not the channel.
        behind: whether it has to find its place in the tail again, by its offset.
        previews: whether large entries are replaced by their previews.
    """

    __slots__ = ("_skipped", "behind", "channel", "offset", "parked", "previews", "sequence", "sink")

    def __init__(self, channel: Channel, sink: Sink, offset: int, *, previews: bool = False) -> None:
        self.channel = channel
        self.sink = sink
        self.offset = offset
        self.sequence = 0
        self.parked = False
        self.behind = offset < channel.head
        self.previews = previews
        self._skipped = False

    async def advance(self) -> bool:
        """Write the next portion; call it only while the sink has room.

        Returns:
            Whether the cursor has caught up and is fed by the channel again.

        Raises:
            GapError: the next entries are no longer stored.
        """
        channel = self.channel
        if self.behind or not channel.holds(self.sequence):
            self.behind = self._skipped = True
            sequence = channel.sequence_after(self.offset)
            if sequence is None:
                await self._write_page()
                return False
            self.sequence = sequence
            self.behind = False
        if self.sequence < channel.end:
            data, frames = channel.cut(self.sequence, _WRITE_BYTES, previews=self.previews)
            self.sink.write(data, frames)
            channel.count(self.sequence, self.sequence + frames, 1)
            self.sequence += frames
            self.offset = channel.offset_before(self.sequence)
        if self.sequence < channel.end:
            return False
        if self._skipped:
            self._skipped = False
            for frame in channel.snapshot():
                self.sink.write(frame, 1)
        self.parked = False
        return True

    async def _write_page(self) -> None:
        # The store may be ahead of the channel for a moment; what is not published yet comes by the tail.
        page = [entry for entry in await self.channel.read_page(self.offset) if entry.offset <= self.channel.head]
        if not self.channel.follows(self):  # left, or replaced by another, while the page was read
            return
        if not page or page[0].offset != self.offset + 1:
            raise GapError
        project_id = self.channel.project_id
        frames = [
            preview_frame(frame) if self.previews and entry.type not in _WHOLE else frame
            for entry, frame in ((entry, entry_frame(project_id, entry)) for entry in page)
        ]
        self.sink.write(b"".join(frames), len(page))
        self.channel.sent.update(entry.type for entry in page)
        self.offset = page[-1].offset


class Hub:
    """The channels of all projects, and the connections for what concerns them all.

    Args:
        broadcasts: where the time is counted, in seconds, that handing new frames to all cursors of a
            channel takes.

    Attributes:
        sent: frames handed to transports since the start.
        sent_bytes: what they were in all.
        sent_by_type: the frames by their type.
        received: frames that came from clients since the start.
        received_bytes: what they were in all.
        watchers: the connections that are told of all projects; see `WATCHED`.
        parked: how often a cursor fell behind, because its connection did not keep up.
    """

    def __init__(self, broadcasts: Distribution | None = None) -> None:
        self.sent = 0
        self.sent_bytes = 0
        self.sent_by_type: Counter[str] = Counter()
        self.received = 0
        self.received_bytes = 0
        self.parked = 0
        self.broadcasts = Distribution() if broadcasts is None else broadcasts
        self.channels: dict[ProjectId, Channel] = {}
        self.sinks: dict[Sink, None] = {}
        self.watchers: dict[Sink, None] = {}

    def broadcast(self, project_id: ProjectId, frame: WireFrame) -> None:
        """Write a live-only frame to every connection that may see the project."""
        told = sum(sink.notify(frame.data, 1) for sink in list(self.sinks) if sink.sees(project_id))
        self.sent_by_type[frame.kind] += told
