"""Retention: by number, size and age, bit by bit, and never the newest."""

import asyncio
from typing import Any

import msgspec
import pytest

from pocket_agent.model import (
    Approval,
    ApprovalStatus,
    Direction,
    ExecutionId,
    ExecutionStatus,
    LastLine,
    Milliseconds,
)
from pocket_agent.storage import Change, Store, retention
from pocket_agent.storage.retention import KEPT_EXECUTIONS, SettledClock
from tests.storage.sample import BIG, FOREVER, approval, create, entry, execution, grown, offsets, stored

NO_LIMIT: dict[str, Any] = {"max_entries": 0, "max_bytes": 0, "older_than": FOREVER}


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        ({}, 1),
        ({"max_entries": 30}, 71),
        ({"max_entries": 100}, 1),
        ({"max_entries": 1}, 100),
        ({"max_bytes": 2000}, 1),
        ({"max_bytes": 1999}, 2),
        ({"max_bytes": 200}, 91),
        ({"max_bytes": 1}, 100),
        ({"older_than": Milliseconds(10)}, 1),
        ({"older_than": Milliseconds(501)}, 51),
        ({"older_than": Milliseconds(10**9)}, 100),
        ({"max_entries": 50, "max_bytes": 1800, "older_than": Milliseconds(101)}, 51),
    ],
)
@pytest.mark.parametrize("batch", [7, 500])
async def test_what_is_left_is_what_the_rule_says(store: Store, rule: dict[str, Any], first: int, batch: int) -> None:
    project = await create(store, entries=100)
    assert await store.prune(project, **(NO_LIMIT | rule), batch=batch) == first
    assert await offsets(store, project) == list(range(first, 101))
    assert (await stored(store, project)).first == first
    assert await store.prune(project, **(NO_LIMIT | rule), batch=batch) == first


async def test_an_empty_log_stays(store: Store) -> None:
    project = await create(store)
    assert await store.prune(project, max_entries=1, max_bytes=1, older_than=Milliseconds(10**9)) == 1
    await store.commit(grown(project, 1))
    assert await offsets(store, project) == [1]


async def test_the_size_is_kept_count_of(store: Store) -> None:
    project = await create(store, entries=10, size=1000)
    for _ in range(20):
        change = grown(project, 3, size=1000)
        await store.commit(change)
        assert change.record is not None
        project = change.record
        assert await store.prune(project, **(NO_LIMIT | {"max_bytes": 10_000})) == project.head - 9
    assert len(await offsets(store, project)) == 10


async def test_the_first_offset_is_the_stores_own(store: Store) -> None:
    project = await create(store, entries=10)
    await store.prune(project, **(NO_LIMIT | {"max_entries": 2}))
    await store.commit(grown(project, 1))  # by a caller that has not heard of it
    found = await stored(store, project)
    assert (found.first, found.head) == (9, 11)
    assert await offsets(store, project) == [9, 10, 11]


async def test_reading_from_before_the_first_begins_at_the_first(store: Store) -> None:
    project = await create(store, entries=20)
    await store.prune(project, **(NO_LIMIT | {"max_entries": 5}))
    page = await store.read(project, after=3, limit=2, max_bytes=BIG)
    assert [found.offset for found in page] == [16, 17]
    assert await store.read_before(project, before=16, limit=2, max_bytes=BIG) == []
    assert await store.offset_at(project, Milliseconds(100)) == 0
    assert await store.offset_at(project, Milliseconds(171)) == 17


async def test_commits_go_in_between(store: Store) -> None:
    project = await create(store, entries=400)
    pruning = asyncio.ensure_future(store.prune(project, **(NO_LIMIT | {"max_entries": 1}), batch=1))
    await asyncio.sleep(0)
    for _ in range(5):
        change = grown(project, 1)
        await store.commit(change)
        assert change.record is not None
        project = change.record
        assert not pruning.done()
    first = await pruning
    assert first == project.head
    assert await offsets(store, project) == [project.head]


async def test_other_projects_are_not_touched(store: Store) -> None:
    one, two, three = [await create(store, name, entries=5) for name in ("one", "two", "three")]
    await store.prune(two, **(NO_LIMIT | {"max_entries": 1}))
    assert [await offsets(store, project) for project in (one, two, three)] == [[1, 2, 3, 4, 5], [5], [1, 2, 3, 4, 5]]


async def test_long_entries_go_in_small_turns(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_TURN_BYTES", 1000)
    project = await create(store, entries=50, size=400)
    before = store.changes
    assert await store.prune(project, **(NO_LIMIT | {"max_entries": 2})) == 49
    assert store.changes - before >= 48 // 3


async def test_executions_that_the_log_no_longer_covers_go_but_for_the_last(store: Store) -> None:
    # Entries and executions have the times 10, 20, 30, ...
    project = await create(store, entries=KEPT_EXECUTIONS + 500)
    made = [execution(project, position, ExecutionStatus.SUCCESS) for position in range(1, KEPT_EXECUTIONS + 401)]
    made[1] = execution(project, 2, ExecutionStatus.RUNNING)
    made[2] = execution(project, 3, ExecutionStatus.CANCELLED, finished_at=None)
    await store.commit(Change(executions=tuple(made)))
    assert await store.prune(project, **(NO_LIMIT | {"max_entries": KEPT_EXECUTIONS + 400}), batch=40) == 101

    async def known(position: int) -> bool:
        return await store.execution(ExecutionId(f"e{position}")) is not None

    assert [await known(position) for position in (1, 2, 3, 100, 101)] == [False, True, False, False, True]
    await store.prune(project, **(NO_LIMIT | {"max_entries": 1}))
    assert [await known(position) for position in (2, 400, 401, 1400)] == [True, False, True, True]
    assert [found.position for found in await store.open_executions(project.id)] == [2]


async def test_approvals_that_are_over_go_with_the_log(store: Store) -> None:
    project = await create(store, entries=20)
    early, late = Milliseconds(50), Milliseconds(150)
    answered: dict[str, Any] = {"answer": b"{}", "resolved_at": early}

    def over(name: str, status: ApprovalStatus, **changes: Any) -> Approval:
        return approval(project, name, status, **(answered | changes))

    made = (
        over("delivered", ApprovalStatus.ALLOWED, delivered=True),
        over("cancelled", ApprovalStatus.CANCELLED),
        over("late", ApprovalStatus.DENIED, delivered=True, resolved_at=late),
        over("undelivered", ApprovalStatus.DENIED),
        approval(project, "pending", ApprovalStatus.PENDING),
    )
    await store.commit(Change(approvals=made))
    await store.prune(project, **(NO_LIMIT | {"max_entries": 11}))
    left = [found.id for found in made if await store.approval(project.id, found.id) is not None]
    assert left == ["late", "undelivered", "pending"]


async def test_a_filter_finds_the_few_among_the_many(store: Store) -> None:
    project = await create(store)
    directions = [Direction.CLIENT, *[Direction.CLAUDE] * 5, Direction.SERVER, *[Direction.CLAUDE] * 5] * 4
    entries = tuple(entry(offset, direction=direction) for offset, direction in enumerate(directions, 1))
    await store.commit(Change(record=msgspec.structs.replace(project, head=48), entries=entries))
    for direction in Direction:
        wanted = [found for found in entries if found.direction is direction]
        page = await store.read(project, after=12, limit=2, max_bytes=BIG, direction=direction)
        assert page == [found for found in wanted if found.offset > 12][:2]
        page = await store.read_before(project, before=40, limit=2, max_bytes=BIG, direction=direction)
        assert page == [found for found in wanted if found.offset < 40][-2:]


DAY = 86_400.0


class Clocks:
    """A wall clock and an uptime that a test moves."""

    def __init__(self, wall: float) -> None:
        self.wall = wall
        self.uptime = 50.0

    def settled(self, known: float) -> SettledClock:
        """A clock that reads these."""
        return SettledClock(known, wall=lambda: self.wall, uptime=lambda: self.uptime)

    def pass_by(self, seconds: float, *, jump: float = 0.0) -> None:
        """Let time pass, on the wall clock by a jump more."""
        self.uptime += seconds
        self.wall += seconds + jump


def test_a_clock_that_jumps_forward_for_a_moment_is_not_believed() -> None:
    for jump in (100 * DAY, DAY, 3600.0, 70.0):
        clocks = Clocks(1000 * DAY)
        clock = clocks.settled(clocks.wall)
        for _ in range(10):
            clocks.pass_by(60)
            assert clock.now() == clocks.wall
        clocks.pass_by(2, jump=jump)
        assert clock.now() == clocks.wall - jump
        clocks.pass_by(2, jump=-jump)
        assert clock.now() == clocks.wall


def test_a_clock_that_stays_ahead_is_believed_after_an_hour() -> None:
    clocks = Clocks(0.0)  # a machine without a clock of its own starts in 1970
    clock = clocks.settled(0.0)
    clocks.pass_by(60, jump=1000 * DAY)
    for _ in range(60):
        assert clock.now() == clocks.wall - 1000 * DAY
        clocks.pass_by(60)
    assert clock.now() == clocks.wall
    clocks.pass_by(60, jump=-10 * DAY)
    assert clock.now() == clocks.wall, "less is deleted by a clock that is behind"


def test_a_server_that_starts_during_a_jump_goes_by_the_time_that_it_knew() -> None:
    clocks = Clocks(1100 * DAY)
    clock = clocks.settled(1000 * DAY)
    assert clock.now() == 1000 * DAY
    clocks.pass_by(1800)
    assert clock.now() == 1000 * DAY + 1800
    clocks.pass_by(60, jump=-100 * DAY)
    assert clock.now() == clocks.wall


def test_many_jumps_are_none_that_lasts() -> None:
    clocks = Clocks(1000 * DAY)
    clock = clocks.settled(clocks.wall)
    for _ in range(100):
        clocks.pass_by(120, jump=DAY)
        assert clock.now() < 1001 * DAY


async def test_the_time_is_known_to_the_next_start(store: Store) -> None:
    assert await store.settled_time() is None
    await store.note_settled_time(1000.5 * DAY)
    assert await store.settled_time() == 1000.5 * DAY


async def test_the_last_line_goes_with_its_entry(store: Store) -> None:
    project = await create(store, entries=10)
    said = LastLine("a secret", "user", Milliseconds(50), 5)
    await store.commit(Change(record=msgspec.structs.replace(project, last_line=said)))
    await store.prune(project, **(NO_LIMIT | {"max_entries": 6}))
    assert (await stored(store, project)).last_line == said
    await store.prune(project, **(NO_LIMIT | {"max_entries": 5}))
    assert (await stored(store, project)).last_line is None
