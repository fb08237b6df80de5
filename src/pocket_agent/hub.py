"""One log, many cursors: encoded frames go from a conversation's tail to every subscribed connection.

A `Channel` keeps a bounded tail of wire frames, each encoded once. A subscriber is a `Cursor`, not a queue: when
frames arrive, everything between a cursor and the end of the tail is one write. A cursor whose connection is congested
is parked and served at the connection's own pace, from the tail or, when it has fallen behind that, from the store:
the same frames either way.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Final, NamedTuple, Protocol

from pocket_agent.distribution import Distribution
from pocket_agent.model import ConversationId, Entry
from pocket_agent.protocol.frame import entry_frame
from pocket_agent.protocol.preview import LARGE_BYTES, preview_frame

WATCHED: Final = frozenset({"project_state", "approval_requested", "approval_resolved", "approval_cancelled"})
"""Frames that a watcher gets about conversations to which it is not subscribed."""

_WHOLE: Final = frozenset({"approval_requested"})
"""Entries that are never replaced by a preview: a user decides on their whole content."""

_WRITE_BYTES: Final = 256 * 1024
"""The most that one cursor writes while others wait; a larger single frame is written whole."""


class Sink(Protocol):
    """The connection that a cursor writes to. No call blocks."""

    @property
    def buffered(self) -> int: ...

    @property
    def congested(self) -> bool:
        """Whether the transport holds more unsent bytes than `websocket.send_buffer`."""

    def write(self, data: bytes, frames: int) -> None:
        """Hand `frames` whole WebSocket frames to the transport."""

    def notify(self, data: bytes, frames: int) -> bool:
        """Write whole frames about a conversation that it has not joined.

        Returns:
            False when it is congested and drops them: it gets the current state once there is space.
        """

    def sees(self, conversation_id: ConversationId) -> bool:
        """Whether it gets frames about a conversation to which it is not subscribed."""

    def park(self, cursor: "Cursor") -> None:
        """Call `cursor.advance` until it has caught up, whenever the transport has space."""


class WireFrame(NamedTuple):
    """A wire frame. `offset` is the entry's number, or None for a frame that is live only."""

    data: bytes
    offset: int | None
    kind: str = "agent_message"
    """Its `type`, a label of the delivery metric."""


class GapError(Exception):
    """The entries that a cursor needs next were pruned before it could read them."""


class Channel:
    """The tail of one conversation's log, and its cursors.

    Args:
        conversation_id: whose log.
        head: the offset of the newest stored entry.
        max_bytes: the size of the tail.
        read_page: entries after an offset from the store, oldest first; empty at the end.
        snapshot: frames with the current state, for a cursor that skipped live frames.
        hub: counts deliveries, and has the watchers.
    """

    def __init__(
        self,
        conversation_id: ConversationId,
        head: int,
        *,
        max_bytes: int,
        read_page: Callable[[int], Awaitable[Sequence[Entry]]],
        snapshot: Callable[[], Iterable[bytes]],
        hub: "Hub | None" = None,
    ) -> None:
        self.conversation_id = conversation_id
        self.head = head
        self.read_page = read_page
        self.snapshot = snapshot
        self.hub = hub or Hub()
        self._max_bytes = max_bytes
        self._frames: list[bytes] = []
        self._kinds: list[str] = []
        self._offsets: list[int] = []  # the offset of the newest entry up to each frame, so that it is sorted
        self._previews: dict[int, bytes] = {}  # the previews that cursors have needed, by sequence number
        self._base = 0
        self._bytes = 0
        self._covered_from = head  # the tail holds each entry with an offset larger than this
        self._cursors: dict[Cursor, None] = {}

    @property
    def end(self) -> int:
        return self._base + len(self._frames)

    @property
    def subscribers(self) -> int:
        return len(self._cursors)

    def attach(self, sink: Sink, after: int | None = None, *, previews: bool = False) -> "Cursor":
        """A cursor for the frames after entry `after`, without it for new frames; with previews of large entries."""
        cursor = Cursor(self, sink, self.head if after is None else after, previews=previews)
        self._cursors[cursor] = None
        if cursor.offset >= self.head:
            cursor.sequence = self.end
        else:
            cursor.parked = True
            sink.park(cursor)
        return cursor

    def detach(self, cursor: "Cursor") -> None:
        """Remove a cursor, if it is still attached."""
        self._cursors.pop(cursor, None)

    def follows(self, cursor: "Cursor") -> bool:
        return cursor in self._cursors

    def publish(self, frames: Sequence[WireFrame]) -> None:
        """Append frames, whose entries are stored, and write them to every cursor that keeps up."""
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
            self.hub.broadcasts.observe(perf_counter() - began)
        if self.hub.watchers:
            self._notify_watchers([frame for frame in frames if frame.kind in WATCHED])
        self._trim()

    def sequence_after(self, offset: int) -> int | None:
        """The sequence number of the entries after `offset`; None when the tail starts later."""
        if offset < self._covered_from:
            return None
        return self._base + bisect_right(self._offsets, offset)

    def cut(self, sequence: int, max_bytes: int | None, *, previews: bool = False) -> tuple[bytes, int]:
        """The joined frames from `sequence` on, at least one, and their number."""
        start = sequence - self._base
        stop, size = (len(self._frames) if max_bytes is None else start), 0
        while stop < len(self._frames) and (stop == start or size + len(self._frames[stop]) <= (max_bytes or 0)):
            size += len(self._frames[stop])
            stop += 1
        frames = [self._preview(index) for index in range(start, stop)] if previews else self._frames[start:stop]
        return b"".join(frames), stop - start

    def _preview(self, index: int) -> bytes:
        frame, sequence = self._frames[index], self._base + index
        is_entry = self._offsets[index] > self.offset_before(sequence)
        if len(frame) <= LARGE_BYTES or self._kinds[index] in _WHOLE or not is_entry:
            return frame
        if sequence not in self._previews:
            self._previews[sequence] = preview_frame(frame)
        return self._previews[sequence]

    def holds(self, sequence: int) -> bool:
        """Whether the frame with this sequence number is in the tail, or is the next one."""
        return sequence >= self._base

    def offset_before(self, sequence: int) -> int:
        """The offset of the newest entry before the frame with this sequence number."""
        index = sequence - self._base
        return self._offsets[index - 1] if index > 0 else self._covered_from

    def _deliver(self) -> None:
        end = self.end
        joined: dict[tuple[int, bool], tuple[bytes, int]] = {}
        reached: Counter[int] = Counter()
        for cursor in self._cursors:
            if cursor.parked or cursor.sequence == end:
                continue
            sink = cursor.sink
            if not sink.congested:
                key = cursor.sequence, cursor.previews
                if key not in joined:
                    joined[key] = self.cut(cursor.sequence, None, previews=cursor.previews)
                sink.write(*joined[key])
                reached[cursor.sequence] += 1
                cursor.sequence = end
                cursor.offset = self.head
            else:
                cursor.parked = True
                sink.park(cursor)
        for sequence, cursors in reached.items():
            self.count(sequence, end, cursors)

    def _notify_watchers(self, frames: Sequence[WireFrame]) -> None:
        subscribed = {cursor.sink for cursor in self._cursors}
        others = [sink for sink in self.hub.watchers if sink not in subscribed and sink.sees(self.conversation_id)]
        if not frames or not others:
            return
        data = b"".join(frame.data for frame in frames)
        notified = sum(sink.notify(data, len(frames)) for sink in others)
        for frame in frames:
            self.hub.sent_by_type[frame.kind] += notified

    def count(self, start: int, end: int, cursors: int) -> None:
        for kind, frames in Counter(self._kinds[start - self._base : end - self._base]).items():
            self.hub.sent_by_type[kind] += frames * cursors

    def _trim(self) -> None:
        if self._bytes <= self._max_bytes:
            return
        # Half of the tail at once, since each deletion moves the whole list.
        drop = 0
        while drop < len(self._frames) and self._bytes > self._max_bytes // 2:
            self._bytes -= len(self._frames[drop])
            drop += 1
        self._covered_from = max(self._covered_from, self._offsets[drop - 1])
        del self._frames[:drop], self._kinds[:drop], self._offsets[:drop]
        self._base += drop
        self._previews = {sequence: frame for sequence, frame in self._previews.items() if sequence >= self._base}


class Cursor:
    """The position of one connection in one channel."""

    __slots__ = ("_skipped", "behind", "channel", "offset", "parked", "previews", "sequence", "sink")

    def __init__(self, channel: Channel, sink: Sink, offset: int, *, previews: bool = False) -> None:
        self.channel = channel
        self.sink = sink
        self.offset = offset  # the newest entry that was written to the connection
        self.sequence = 0  # the next frame of the tail; undefined while `behind`
        self.parked = False  # the connection serves it at its own pace, not the channel
        self.behind = offset < channel.head  # it has to find its sequence number in the tail again, by its offset
        self.previews = previews  # large entries are replaced by their previews
        self._skipped = False

    async def advance(self) -> bool:
        """Write the next portion; call it only while the sink is not congested.

        Returns:
            Whether the cursor has caught up and the channel writes to it again.

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
        # The store may be ahead of the channel for a moment; entries that are not published yet come by the tail.
        page = [entry for entry in await self.channel.read_page(self.offset) if entry.offset <= self.channel.head]
        if not self.channel.follows(self):  # detached while the page was read
            return
        if not page or page[0].offset != self.offset + 1:
            raise GapError
        conversation_id = self.channel.conversation_id
        frames = [
            preview_frame(frame) if self.previews and entry.type not in _WHOLE else frame
            for entry, frame in ((entry, entry_frame(conversation_id, entry)) for entry in page)
        ]
        self.sink.write(b"".join(frames), len(page))
        self.channel.hub.sent_by_type.update(entry.type for entry in page)
        self.offset = page[-1].offset


class Hub:
    """The channels of all conversations, and all connections.

    Args:
        broadcasts: observes the seconds of writing new frames to all cursors of a channel.
    """

    def __init__(self, broadcasts: Distribution | None = None) -> None:
        self.sent = 0  # frames written to transports since the start; also `sent_bytes`, and `sent_by_type` of frame
        self.sent_bytes = 0
        self.sent_by_type: Counter[str] = Counter()
        self.received = 0  # frames from clients since the start; also `received_bytes`
        self.received_bytes = 0
        self.parked = 0  # how often a cursor was parked, because its connection did not keep up
        self.broadcasts = Distribution() if broadcasts is None else broadcasts
        self.channels: dict[ConversationId, Channel] = {}
        self.sinks: dict[Sink, None] = {}  # all connections
        self.watchers: dict[Sink, None] = {}  # the connections that get the `WATCHED` frames of all projects

    def broadcast(self, conversation_id: ConversationId, frame: WireFrame) -> None:
        """Write a live-only frame to every connection that sees the conversation."""
        notified = sum(sink.notify(frame.data, 1) for sink in list(self.sinks) if sink.sees(conversation_id))
        self.sent_by_type[frame.kind] += notified
