"""Persist, then deliver: what a client sees is stored, and what is not stored has not happened."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pocket_agent.conversation.conversation_log import ConversationLog, Draft, entry_draft, live_draft
from pocket_agent.errors import FileOperationError
from pocket_agent.hub import Channel, Cursor
from pocket_agent.model import ConversationId, ConversationRecord, Direction, Entry, Milliseconds, ProjectState
from pocket_agent.storage import Change, Store
from tests.conversation import sample
from tests.server.room import Recorder


class Sink:
    """A connection that is never full."""

    congested = False
    buffered = 0

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.stored: list[int] = []
        self.committed: Callable[[], int] = lambda: 0

    def write(self, data: bytes, frames: int) -> None:
        """Note the frames, and how much was committed when they came."""
        while data:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4]), 4
            self.frames.append(msgspec.json.decode(data[start : start + size]))
            self.stored.append(self.committed())
            data = data[start + size :]

    def notify(self, data: bytes, frames: int) -> bool:
        """Never happens."""
        raise AssertionError(data, frames)

    def sees(self, conversation_id: ConversationId) -> bool:
        """Never asked."""
        raise AssertionError(conversation_id)

    def park(self, cursor: Cursor) -> None:
        """Never happens."""
        raise AssertionError(cursor)


class Bench:
    """A log over a real store, whose commits can be held up or made to fail."""

    def __init__(self, store: Store, project: ConversationRecord, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.committed = 0
        self.fault: FileOperationError | None = None
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        real: Callable[[Change], Awaitable[None]] = store.commit

        async def commit(change: Change) -> None:
            self.begun.set()
            await self.go.wait()
            if self.fault is not None:
                raise self.fault
            await real(change)
            self.committed += len(change.entries)

        monkeypatch.setattr(store, "commit", commit)
        channel = Channel(project.id, 0, max_bytes=2**20, read_page=self._read, snapshot=list)
        self.log = ConversationLog(project, store, channel, Recorder())
        self.sink = Sink()
        self.sink.committed = lambda: self.committed
        channel.attach(self.sink)

    async def _read(self, after: int) -> Sequence[Entry]:
        return await self.store.read(self.log.record, after=after, limit=100, max_bytes=2**20)

    async def entries(self) -> list[Entry]:
        """What is stored."""
        return list(await self._read(0))

    async def stored_project(self) -> ConversationRecord:
        """The project as the store has it."""
        (found,) = await self.store.conversations()
        return found

    def hold(self) -> None:
        """The next commit waits for `go`."""
        self.begun.clear()
        self.go.clear()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A log with nothing in it."""
    store = Store.open(tmp_path / "data" / "pocket-agent.db")
    project = sample.project(number=await store.next_project_number())
    await store.commit(Change(record=project))
    yield Bench(store, project, monkeypatch)
    await store.close()


def said(number: int) -> Draft:
    """An entry."""
    return entry_draft("agent_message", {"n": number}, Direction.CLAUDE)


async def test_entries_are_numbered_stored_and_then_delivered(bench: Bench) -> None:
    await bench.log.write([said(1), said(2)])
    await bench.log.write([said(3)])
    assert [frame["offset"] for frame in bench.sink.frames] == [1, 2, 3]
    assert bench.sink.stored == [2, 2, 3], "each was committed before it was delivered"
    assert [entry.offset for entry in await bench.entries()] == [1, 2, 3]
    assert bench.log.record.head == 3
    assert await bench.stored_project() == bench.log.record


async def test_live_frames_keep_their_place_and_have_no_offset(bench: Bench) -> None:
    await bench.log.write(
        [said(1), live_draft("agent_message", {"n": 2}), said(3)], after=lambda: [live_draft("project_state", {"n": 4})]
    )
    assert [(frame["data"]["n"], frame.get("offset")) for frame in bench.sink.frames] == [
        (1, 1),
        (2, None),
        (3, 2),
        (4, None),
    ]
    assert len(await bench.entries()) == 2


async def test_what_is_applied_is_applied_between_commit_and_delivery(bench: Bench) -> None:
    seen: list[tuple[int, int]] = []

    def applied() -> list[Draft]:
        seen.append((bench.committed, len(bench.sink.frames)))
        return []

    await bench.log.write([said(1)], after=applied)
    assert seen == [(1, 0)]


async def test_a_write_that_fails_changes_and_delivers_nothing(bench: Bench) -> None:
    await bench.log.write([said(1)])
    before = bench.log.record
    bench.fault = FileOperationError("The disk is full.")
    applied = False

    def apply() -> list[Draft]:
        nonlocal applied
        applied = True
        return []

    with pytest.raises(FileOperationError):
        await bench.log.write([said(2)], record={"state": ProjectState.ERROR}, after=apply)
    assert bench.log.record == before
    assert not applied
    assert [frame["offset"] for frame in bench.sink.frames] == [1]
    bench.fault = None
    await bench.log.write([said(3)])
    assert [(frame["offset"], frame["data"]["n"]) for frame in bench.sink.frames] == [(1, 1), (2, 3)]
    assert len(await bench.entries()) == 2


async def test_a_cancelled_writer_leaves_memory_and_store_together(bench: Bench) -> None:
    bench.hold()
    applied: list[int] = []

    def apply() -> list[Draft]:
        applied.append(1)
        return []

    writing = asyncio.ensure_future(bench.log.write([said(1)], record={"state": ProjectState.EXECUTING}, after=apply))
    await bench.begun.wait()
    writing.cancel()
    await asyncio.sleep(0)
    assert not writing.done(), "it ends when the commit has"
    bench.go.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await bench.stored_project() == bench.log.record
    assert bench.log.record.head == 1
    assert bench.log.record.state is ProjectState.EXECUTING
    assert applied == [1]
    assert [frame["offset"] for frame in bench.sink.frames] == [1]


async def test_a_cancelled_writer_of_a_failing_commit_leaves_nothing_behind(bench: Bench) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    bench.hold()
    bench.fault = FileOperationError("The disk is full.")
    writing = asyncio.ensure_future(bench.log.write([said(1)]))
    await bench.begun.wait()
    writing.cancel()
    await asyncio.sleep(0)
    bench.go.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    del writing
    gc.collect()
    assert bench.log.record.head == 0
    assert bench.sink.frames == []
    assert told == [], "the fault is not left for the garbage collector to tell"


async def test_writers_take_turns(bench: Bench) -> None:
    bench.hold()
    writers = [asyncio.ensure_future(bench.log.write([said(n), said(n)])) for n in range(1, 11)]
    await bench.begun.wait()
    bench.go.set()
    await asyncio.gather(*writers)
    assert [frame["offset"] for frame in bench.sink.frames] == list(range(1, 21))
    assert [frame["data"]["n"] for frame in bench.sink.frames] == [n for n in range(1, 11) for _ in range(2)]


async def test_times_never_go_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5_000, 3_000, 6_000])
    monkeypatch.setattr(
        "pocket_agent.conversation.conversation_log.now", lambda: Milliseconds(sample.BEGAN + next(times))
    )
    for number in range(3):
        await bench.log.write([said(number)])
    assert [entry.timestamp - sample.BEGAN for entry in await bench.entries()] == [5_000, 5_000, 6_000]


async def test_only_entries_count_as_activity(bench: Bench) -> None:
    await bench.log.write(record={"model": "opus"})
    assert bench.log.record.last_active == sample.BEGAN
    assert bench.log.record.model == "opus"
    await bench.log.write([said(1)])
    assert bench.log.record.last_active > sample.BEGAN


async def test_pruning_during_a_commit_is_not_forgotten(bench: Bench) -> None:
    await bench.log.write([said(n) for n in range(10)])
    bench.hold()
    writing = asyncio.ensure_future(bench.log.write([said(11)]))
    await bench.begun.wait()
    await bench.log.prune(max_entries=4, max_bytes=0, older_than=Milliseconds(0))
    bench.go.set()
    await writing
    assert bench.log.record.first == 7
    assert (await bench.stored_project()).first == 7
    assert [entry.offset for entry in await bench.entries()] == [7, 8, 9, 10, 11]


async def test_what_is_only_said_is_not_stored(bench: Bench) -> None:
    bench.log.say([live_draft("project_joined", {"subscribers": 1})])
    assert [frame["type"] for frame in bench.sink.frames] == ["project_joined"]
    assert bench.log.record.head == 0
    assert await bench.entries() == []


async def test_the_record_has_what_was_said_last(bench: Bench) -> None:
    log = bench.log
    for draft, text in (
        (entry_draft("prompt", {}, Direction.CLIENT, said="do\n  it"), "do it"),
        (Draft("agent_message", b"{}", Direction.CLAUDE, "x" * 500), "x" * 119 + "…"),
        (Draft("agent_message", b"{}", Direction.CLAUDE, " \n"), "x" * 119 + "…"),
        (Draft("agent_message", b"{}", Direction.CLAUDE), "x" * 119 + "…"),
    ):
        await log.write([draft])
        line = (await bench.stored_project()).last_line
        assert line is not None
        assert (line.text, line) == (text, log.record.last_line)
        assert line.offset == min(log.record.head, 2)
        assert line.by == ("user" if line.offset == 1 else "agent")
    await log.prune(max_entries=1, max_bytes=0, older_than=Milliseconds(0))
    assert log.record.last_line is None
    await log.write([entry_draft("error", {})])
    assert (await bench.stored_project()).last_line is None
