"""The hub: every cursor gets every entry once and in order, whatever its connection does meanwhile."""

from collections.abc import Coroutine, Generator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pocket_agent.hub import Channel, Cursor, GapError, Hub, WireFrame
from pocket_agent.model import ConversationId, Direction, Entry, Milliseconds, project_of
from pocket_agent.protocol.frame import encode_frame, entry_frame, websocket_frame

PROJECT = project_of("p-1")
NOW = Milliseconds(1_700_000_000_000)


def entry(offset: int, size: int = 40) -> Entry:
    """An entry whose frame has a size that the test chooses."""
    return Entry(offset, NOW, Direction.CLAUDE, "agent_message", b'{"text":"%b"}' % (b"x" * size))


def entry_of(made: Entry) -> WireFrame:
    """The frame that the log publishes for an entry."""
    return WireFrame(entry_frame(PROJECT, made), made.offset)


def live(number: int, kind: str = "live") -> WireFrame:
    """A numbered frame that is not stored."""
    return WireFrame(websocket_frame(encode_frame(kind, b'{"n":%d}' % number, NOW, conversation_id=PROJECT)), None)


def unpack(data: bytes) -> list[dict[str, Any]]:
    """The JSON of each WebSocket frame (RFC 6455 section 5.2, unmasked text) in `data`."""
    found = []
    while data:
        assert data[0] == 0x81
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10]), 10
        assert len(data) >= start + size, "half a frame was written"
        found.append(msgspec.json.decode(data[start : start + size], type=dict[str, Any]))
        data = data[start + size :]
    return found


class Recorder:
    """A sink that notes what it is given and is congested when the test says so."""

    def __init__(self) -> None:
        self.congested = False
        self.buffered = 0
        self.frames: list[dict[str, Any]] = []
        self.writes = 0
        self.parked: list[Cursor] = []
        self.hidden: set[ConversationId] = set()

    def write(self, data: bytes, frames: int) -> None:
        """Note whole frames."""
        found = unpack(data)
        assert len(found) == frames
        self.frames += found
        self.writes += 1

    def notify(self, data: bytes, frames: int) -> bool:
        """Take frames, unless it is congested."""
        if not self.congested:
            self.write(data, frames)
        return not self.congested

    def sees(self, conversation_id: ConversationId) -> bool:
        """Whether it is to be told."""
        return conversation_id not in self.hidden

    def park(self, cursor: Cursor) -> None:
        """Note who waits."""
        self.parked.append(cursor)

    @property
    def offsets(self) -> list[int]:
        """The entries that came."""
        return [frame["offset"] for frame in self.frames if "offset" in frame]

    @property
    def lives(self) -> list[int]:
        """The live frames that came."""
        return [frame["data"]["n"] for frame in self.frames if frame["type"] == "live"]


class Pause:
    """Something to await that a test resumes by hand."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Log:
    """A store and a channel over it, with as little in between as possible."""

    def __init__(self, *, max_bytes: int = 2**20, page: int = 3) -> None:
        self.stored: list[Entry] = []
        self.first = 1
        self.page = page
        self.lives = 0
        self.reads = 0
        self.channel = Channel(PROJECT, 0, max_bytes=max_bytes, read_page=self.read_page, snapshot=self.snapshot)

    @property
    def head(self) -> int:
        """The newest stored entry."""
        return len(self.stored)

    async def read_page(self, after: int) -> Sequence[Entry]:
        """A page from the store, which takes a while."""
        self.reads += 1
        await Pause()
        return [made for made in self.stored if made.offset > after and made.offset >= self.first][: self.page]

    def snapshot(self) -> list[bytes]:
        """How things are now: how many live frames there have been."""
        return [live(self.lives, "snapshot").data]

    def store(self, count: int, size: int = 40) -> None:
        """Commit entries without publishing them."""
        self.stored += [entry(self.head + number, size) for number in range(1, count + 1)]

    def publish(self, lives: int = 0) -> None:
        """Publish what is committed, and live frames between and after the entries."""
        frames = []
        for made in self.stored[self.channel.head :]:
            frames.append(entry_of(made))
            if lives > 0:
                lives -= 1
                frames.append(self._live())
        frames += [self._live() for _ in range(lives)]
        self.channel.publish(frames)

    def _live(self) -> WireFrame:
        self.lives += 1
        return live(self.lives)


def finish(step: Coroutine[Any, Any, bool]) -> bool:
    """Carry out an `advance`, resuming it whenever it waits."""
    while True:
        try:
            step.send(None)
        except StopIteration as stop:
            return bool(stop.value)


def catch_up(cursor: Cursor) -> None:
    """Serve a parked cursor until the channel feeds it again."""
    for _ in range(10_000):
        if finish(cursor.advance()):
            return
    raise AssertionError("the cursor never catches up")


def test_a_cursor_gets_what_is_published_in_one_write() -> None:
    log, sink = Log(), Recorder()
    log.channel.attach(sink)
    log.store(5)
    log.publish(lives=2)
    assert sink.offsets == [1, 2, 3, 4, 5]
    assert sink.lives == [1, 2]
    assert sink.writes == 1


def test_without_after_only_what_comes_next() -> None:
    log, sink = Log(), Recorder()
    log.store(5)
    log.publish()
    cursor = log.channel.attach(sink)
    assert not cursor.parked
    log.store(1)
    log.publish()
    assert sink.offsets == [6]


def test_a_replay_from_the_tail_needs_no_store() -> None:
    log, sink = Log(), Recorder()
    log.store(10)
    log.publish()
    catch_up(log.channel.attach(sink, 4))
    assert sink.offsets == [5, 6, 7, 8, 9, 10]
    assert log.reads == 0


def test_a_replay_from_the_store_and_the_tail_is_seamless() -> None:
    log, sink = Log(max_bytes=600), Recorder()
    for _ in range(30):
        log.store(1)
        log.publish(lives=1)
    cursor = log.channel.attach(sink, 0)
    assert sink.parked == [cursor]
    catch_up(cursor)
    assert sink.offsets == list(range(1, 31))
    assert log.reads > 0
    assert sink.frames[-1]["type"] == "snapshot"
    log.store(1)
    log.publish()
    assert sink.offsets[-1] == 31


def test_replayed_frames_are_the_same_bytes_as_live_ones() -> None:
    log, early, late = Log(max_bytes=500), Recorder(), Recorder()
    log.channel.attach(early)
    for _ in range(20):
        log.store(1)
        log.publish()
    catch_up(log.channel.attach(late, 0))
    assert [frame for frame in late.frames if "offset" in frame] == early.frames


def test_a_congested_cursor_is_parked_once_and_does_not_slow_the_others() -> None:
    log, slow, quick = Log(), Recorder(), Recorder()
    cursor = log.channel.attach(slow)
    log.channel.attach(quick)
    slow.congested = True
    for _ in range(3):
        log.store(1)
        log.publish()
    assert slow.parked == [cursor]
    assert slow.frames == []
    assert quick.offsets == [1, 2, 3]
    slow.congested = False
    catch_up(cursor)
    assert slow.offsets == [1, 2, 3]
    assert [frame["type"] for frame in slow.frames] == ["agent_message"] * 3, "nothing was skipped: no snapshot"


def test_a_laggard_misses_live_frames_only_and_is_told_how_things_are() -> None:
    log, sink = Log(max_bytes=500), Recorder()
    cursor = log.channel.attach(sink)
    sink.congested = True
    for _ in range(20):
        log.store(1)
        log.publish(lives=3)
    sink.congested = False
    catch_up(cursor)
    assert sink.offsets == list(range(1, 21))
    assert len(sink.lives) < 60
    assert sink.frames[-1]["data"] == {"n": 60}


def test_one_turn_of_a_laggard_is_bounded() -> None:
    log, sink = Log(), Recorder()
    log.store(8, size=100_000)
    log.publish()
    cursor = log.channel.attach(sink, 0)
    assert not finish(cursor.advance())
    assert sink.offsets == [1, 2]
    catch_up(cursor)
    assert sink.offsets == list(range(1, 9))


def test_a_frame_larger_than_a_turn_goes_whole() -> None:
    log, sink = Log(max_bytes=2**22), Recorder()
    log.store(1, size=2**20)
    log.publish()
    catch_up(log.channel.attach(sink, 0))
    assert sink.offsets == [1]


def test_entries_that_are_stored_and_not_published_come_by_the_tail() -> None:
    log, sink = Log(max_bytes=300, page=100), Recorder()
    for _ in range(10):
        log.store(1)
        log.publish()
    log.store(5)
    cursor = log.channel.attach(sink, 0)
    catch_up(cursor)
    assert sink.offsets == list(range(1, 11))
    log.publish()
    assert sink.offsets == list(range(1, 16))


def test_pruned_entries_are_a_gap_and_never_skipped_silently() -> None:
    log, sink = Log(max_bytes=300), Recorder()
    for _ in range(20):
        log.store(1)
        log.publish()
    cursor = log.channel.attach(sink, 2)
    log.first = 6
    with pytest.raises(GapError):
        catch_up(cursor)
    assert sink.frames == []


def test_everything_pruned_is_a_gap_too() -> None:
    log, sink = Log(max_bytes=300), Recorder()
    for _ in range(20):
        log.store(1)
        log.publish()
    cursor = log.channel.attach(sink, 2)
    log.first = 21
    with pytest.raises(GapError):
        catch_up(cursor)


def test_a_detached_cursor_gets_nothing_more() -> None:
    log, sink = Log(), Recorder()
    cursor = log.channel.attach(sink)
    assert log.channel.subscribers == 1
    log.channel.detach(cursor)
    log.channel.detach(cursor)
    assert log.channel.subscribers == 0
    log.store(1)
    log.publish()
    assert sink.frames == []


def test_a_cursor_that_is_detached_while_it_reads_writes_nothing() -> None:
    log, sink = Log(max_bytes=300), Recorder()
    for _ in range(20):
        log.store(1)
        log.publish()
    cursor = log.channel.attach(sink, 0)
    step = cursor.advance()
    step.send(None)
    log.channel.detach(cursor)
    with pytest.raises(StopIteration):
        step.send(None)
    assert sink.frames == []


def test_the_tail_is_bounded() -> None:
    log = Log(max_bytes=1000)
    for _ in range(200):
        log.store(1)
        log.publish()
        assert sum(len(frame) for frame in log.channel._frames) <= 1000
    assert log.channel.sequence_after(0) is None
    assert log.channel.sequence_after(log.head) == log.channel.end


def test_deliveries_are_counted_by_type() -> None:
    hub = Hub()
    log = Log()
    channel = Channel(PROJECT, 0, max_bytes=1000, read_page=log.read_page, snapshot=log.snapshot, hub=hub)
    sinks = [Recorder(), Recorder()]
    for sink in sinks:
        channel.attach(sink)
    channel.publish([entry_of(entry(1)), WireFrame(live(1).data, None, "project_state")])
    assert hub.sent_by_type == {"agent_message": 2, "project_state": 2}


def test_watchers_are_told_of_what_they_do_not_follow() -> None:
    hub = Hub()
    log, watching, both = Log(), Recorder(), Recorder()
    hub.watchers.update({watching: None, both: None})
    channel = Channel(PROJECT, 0, max_bytes=1000, read_page=log.read_page, snapshot=log.snapshot, hub=hub)
    cursor = channel.attach(both)
    channel.publish([entry_of(entry(1)), WireFrame(live(7).data, None, "project_state"), live(8)])
    assert watching.lives == [7]
    assert watching.offsets == []
    assert both.lives == [7, 8], "once, as everybody who follows"
    assert hub.sent_by_type == {"agent_message": 2, "project_state": 2}
    channel.detach(cursor)
    channel.publish([WireFrame(live(9).data, None, "approval_requested")])
    assert (watching.lives, both.lives) == ([7, 9], [7, 8, 9])


def test_a_congested_watcher_takes_nothing() -> None:
    hub = Hub()
    log, slow, quick = Log(), Recorder(), Recorder()
    slow.congested = True
    hub.watchers.update({slow: None, quick: None})
    channel = Channel(PROJECT, 0, max_bytes=1000, read_page=log.read_page, snapshot=log.snapshot, hub=hub)
    channel.publish([WireFrame(live(7).data, None, "project_state")])
    assert (slow.lives, quick.lives) == ([], [7])
    assert hub.sent_by_type == {"project_state": 1}


def test_large_entries_come_as_previews_to_a_cursor_that_wants_them() -> None:
    """Live, from the tail and from the store alike; what somebody has to decide on comes whole."""
    log, whole, brief = Log(), Recorder(), Recorder()
    channel = Channel(PROJECT, 0, max_bytes=400_000, read_page=log.read_page, snapshot=log.snapshot)
    channel.attach(whole)
    channel.attach(brief, previews=True)
    asked = WireFrame(
        entry_frame(PROJECT, msgspec.structs.replace(entry(3, 50_000), type="approval_requested")),
        3,
        "approval_requested",
    )
    frames = [entry_of(entry(1)), entry_of(entry(2, 50_000)), asked, WireFrame(live(1).data, None, "project_state")]
    channel.publish(frames)
    assert [len(frame["data"].get("text", "")) for frame in whole.frames] == [40, 50_000, 50_000, 0]
    assert [len(frame["data"].get("text", "")) for frame in brief.frames] == [40, 2048, 50_000, 0]
    about = brief.frames[1]
    assert (about["offset"], about["size"], about["cut"]) == (2, 50_000 + len(b'{"text":""}'), ["/text"])
    assert all("size" not in frame for frame in [*whole.frames, brief.frames[0], brief.frames[2]])
    late = Recorder()
    cursor = channel.attach(late, 0, previews=True)
    assert finish(cursor.advance())
    assert late.frames[:3] == brief.frames[:3]


def test_a_broadcast_reaches_every_connection() -> None:
    hub, one, two = Hub(), Recorder(), Recorder()
    hub.sinks |= {one: None, two: None}
    hub.broadcast(PROJECT, WireFrame(live(7).data, None, "live"))
    assert one.lives == two.lives == [7]
    assert hub.sent_by_type == {"live": 2}


def test_a_broadcast_passes_by_who_may_not_see_the_project() -> None:
    hub, one, two = Hub(), Recorder(), Recorder()
    hub.sinks |= {one: None, two: None}
    two.hidden.add(PROJECT)
    hub.broadcast(PROJECT, WireFrame(live(7).data, None, "live"))
    assert (one.lives, two.lives) == ([7], [])
    assert hub.sent_by_type == {"live": 1}


class Follower:
    """A subscriber of the state machine: its cursor, and what it must have seen."""

    def __init__(self, log: Log, after: int | None) -> None:
        self.log = log
        self.sink = Recorder()
        self.start = log.channel.head if after is None else after
        self.lives_before = log.lives
        self.step: Coroutine[Any, Any, bool] | None = None
        self.waiting = False
        self.over = False
        self.cursor = log.channel.attach(self.sink, after)

    def serve(self) -> None:
        """What a connection does when its transport has room: one step of `advance`."""
        if self.step is None:
            if not self.cursor.parked or self.sink.congested or self.over:
                return
            self.step = self.cursor.advance()
        try:
            self.step.send(None)
        except StopIteration:
            self.step = None
        except GapError:
            self.step, self.over = None, True
            assert self.cursor.offset + 1 < self.log.first, "a gap where nothing was pruned"
            self.log.channel.detach(self.cursor)

    def check(self) -> None:
        """Each entry once and in order; live frames in order; nothing missed without a word."""
        offsets = self.sink.offsets
        assert offsets == list(range(self.start + 1, self.start + 1 + len(offsets)))
        told = 0
        for frame in self.sink.frames:
            if frame["type"] == "live":
                assert frame["data"]["n"] > told, "a live frame out of order, or older than the snapshot"
                told = frame["data"]["n"]
            elif frame["type"] == "snapshot":
                assert frame["data"]["n"] >= told
                told = frame["data"]["n"]

    def check_complete(self) -> None:
        """At rest a follower has everything."""
        if self.over:
            return
        assert self.sink.offsets == list(range(self.start + 1, self.log.head + 1))
        seen = set(self.sink.lives)
        told = max((frame["data"]["n"] for frame in self.sink.frames if frame["type"] == "snapshot"), default=0)
        missed = [n for n in range(self.lives_before + 1, self.log.lives + 1) if n not in seen and n > told]
        assert not missed, f"live frames {missed} were skipped and no snapshot came after them"


class HubMachine(RuleBasedStateMachine):
    """Followers that come, stall, lag, leave and come back, while a log grows and is pruned."""

    followers = Bundle("followers")

    def __init__(self) -> None:
        super().__init__()
        self.log = Log(max_bytes=400)
        self.all: list[Follower] = []

    @initialize(entries=st.integers(0, 20))
    def begin(self, entries: int) -> None:
        """A log that is longer than its tail, or an empty one."""
        for _ in range(entries):
            self.log.store(1)
            self.log.publish()

    @rule(target=followers, back=st.one_of(st.none(), st.integers(0, 60)))
    def join(self, back: int | None) -> Follower:
        """Somebody joins, with what comes next or from an entry that is still stored."""
        after = None if back is None else max(self.log.channel.head - back, self.log.first - 1, 0)
        follower = Follower(self.log, after)
        self.all.append(follower)
        return follower

    @rule(entries=st.integers(0, 6), lives=st.integers(0, 4), size=st.sampled_from([10, 200, 1500]))
    def publish(self, entries: int, lives: int, size: int) -> None:
        """A commit and its delivery."""
        self.log.store(entries, size)
        self.log.publish(lives)

    @rule(entries=st.integers(1, 5))
    def commit_ahead(self, entries: int) -> None:
        """A commit whose delivery is yet to come."""
        self.log.store(entries)

    @rule(keep=st.integers(1, 40))
    def prune(self, keep: int) -> None:
        """Retention drops the oldest entries; the newest published one always stays."""
        self.log.first = max(self.log.first, min(self.log.head - keep + 1, self.log.channel.head))

    @rule(follower=followers)
    def stall(self, follower: Follower) -> None:
        """The transport takes nothing more."""
        follower.sink.congested = True

    @rule(follower=followers)
    def relieve(self, follower: Follower) -> None:
        """The transport has room again."""
        follower.sink.congested = False

    @rule(follower=followers, steps=st.integers(1, 5))
    def serve(self, follower: Follower, steps: int) -> None:
        """Some of what a laggard has to catch up with."""
        for _ in range(steps):
            follower.serve()

    @rule(follower=consumes(followers))
    def leave(self, follower: Follower) -> None:
        """Somebody leaves, perhaps while a page is being read for it."""
        self.log.channel.detach(follower.cursor)
        seen = len(follower.sink.frames)
        if follower.step is not None:
            follower.serve()
        assert len(follower.sink.frames) == seen
        follower.check()
        self.all.remove(follower)

    @invariant()
    def nobody_is_told_wrong(self) -> None:
        """At all times."""
        for follower in self.all:
            follower.check()

    def teardown(self) -> None:
        """Let everybody come to rest."""
        self.log.publish()
        for follower in self.all:
            follower.sink.congested = False
            for _ in range(1000):
                if follower.over or (follower.step is None and not follower.cursor.parked):
                    break
                follower.serve()
            follower.check()
            follower.check_complete()


HubMachine.TestCase.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestHub = HubMachine.TestCase
