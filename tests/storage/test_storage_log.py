"""The clustered table: the cost of a page does not depend on the length of the log."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_agent.model import MAX_OFFSET, Direction, Entry, Milliseconds
from pocket_agent.storage import Change, Store, tables
from pocket_agent.storage.database import connect, create_private, migrate
from tests.storage.sample import BIG, create

SHORT, LONG = 10_000, 1_000_000


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A database with a short log (project 1) and a long one (project 2)."""
    path = tmp_path_factory.mktemp("logs") / "a.db"
    create_private(path)
    with closing(connect(path, busy_timeout=1)) as connection:
        migrate(connection)
        for number, length in ((1, SHORT), (2, LONG)):
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO entry SELECT ? + i, i, 'claude', 'm', x'7b7d' FROM n",
                (length, tables.entry_key(number, 0)),
            )
            connection.execute(
                "INSERT INTO conversation(number, id, path, real_path, name, state, epoch, head, first, created_at, "
                "last_active, fork) VALUES (?1, ?1, x'', CAST(?1 AS BLOB), x'', 'IDLE', '', ?2, 1, 0, 0, 0)",
                (number, length),
            )
        yield connection


def _steps(connection: sqlite3.Connection, number: int, low: int, limit: int, *, newest: bool) -> int:
    """How many instructions of SQLite's virtual machine a page takes."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(step, 1)
    try:
        page = tables.read_entries(
            connection, number, low=low, high=MAX_OFFSET, limit=limit, max_bytes=BIG, newest=newest
        )
    finally:
        connection.set_progress_handler(None, 1)
    assert len(page) == limit
    return steps


@pytest.mark.parametrize("newest", [False, True])
def test_a_page_of_a_long_log_costs_the_same_work(logs: sqlite3.Connection, *, newest: bool) -> None:
    short = _steps(logs, 1, SHORT // 2, 1000, newest=newest)
    assert _steps(logs, 2, LONG // 2, 1000, newest=newest) == short
    assert _steps(logs, 2, LONG // 2, 10, newest=newest) < short / 50


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("direction", [None, *Direction])
def test_a_page_is_a_range_of_an_index(logs: sqlite3.Connection, direction: Direction | None, *, newest: bool) -> None:
    plan = logs.execute(f"EXPLAIN QUERY PLAN {tables.page_query(direction, newest=newest)}", (0, 1, 1)).fetchall()
    used = (
        "USING INDEX entry_direction (direction=? AND id>? AND id<?)"
        if direction in {Direction.CLIENT, Direction.SERVER}
        else "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
    )
    assert [row[3] for row in plan] == [f"SEARCH entry {used}"]


def test_a_time_is_found_by_halving(logs: sqlite3.Connection) -> None:
    statements: list[str] = []
    logs.set_trace_callback(statements.append)
    try:
        assert tables.offset_at(logs, 2, Milliseconds(777_777)) == 777_776
    finally:
        logs.set_trace_callback(None)
    assert len(statements) < 30


@pytest.mark.parametrize("count", [0, 1, 3, 4, 15, 16, 17, 63, 64, 255, 256, 257, 1000])
def test_any_number_of_entries_is_appended(count: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        entries = [
            Entry(offset, Milliseconds(offset), Direction.CLAUDE, "m", b"%d" % offset) for offset in range(1, count + 1)
        ]
        tables.append_entries(connection, 3, entries)
        assert tables.read_entries(connection, 3, low=1, high=MAX_OFFSET, limit=BIG, max_bytes=BIG) == entries


class _Append(msgspec.Struct, frozen=True):
    sizes: tuple[int, ...]


class _Read(msgspec.Struct, frozen=True):
    offset: int
    limit: int
    max_bytes: int
    direction: Direction | None
    newest: bool


class _Prune(msgspec.Struct, frozen=True):
    max_entries: int
    max_bytes: int
    older_than: int
    batch: int


class _Restart(msgspec.Struct, frozen=True):
    pass


_few = st.integers(0, 40)
_operation = st.one_of(
    st.builds(_Append, st.lists(st.integers(0, 60), min_size=1, max_size=9).map(tuple)),
    st.builds(
        _Read,
        st.integers(-2, 60),
        st.integers(1, 20),
        st.integers(0, 500),
        st.none() | st.sampled_from(Direction),
        st.booleans(),
    ),
    st.builds(_Prune, _few, st.integers(0, 900), st.integers(0, 60), st.integers(1, 5)),
    st.just(_Restart()),
)


class _Model:
    """A log as a plain list."""

    def __init__(self) -> None:
        self.head = 0
        self.entries: list[Entry] = []

    @property
    def first(self) -> int:
        return self.entries[0].offset if self.entries else self.head + 1

    def append(self, sizes: tuple[int, ...]) -> tuple[Entry, ...]:
        added = tuple(
            Entry(offset, Milliseconds(offset // 2), list(Direction)[offset * size % 3], "m", b"d" * size)
            for offset, size in enumerate(sizes, self.head + 1)
        )
        self.head += len(added)
        self.entries += added
        return added

    def read(self, asked: _Read) -> list[Entry]:
        found = [entry for entry in self.entries if asked.direction in {None, entry.direction}]
        if asked.newest:
            found = [entry for entry in reversed(found) if entry.offset < asked.offset]
        else:
            found = [entry for entry in found if entry.offset > asked.offset]
        page = found[: asked.limit]
        while len(page) > 1 and sum(len(entry.data) for entry in page) > asked.max_bytes:
            page.pop()
        return sorted(page, key=lambda entry: entry.offset)

    def prune(self, rule: _Prune) -> None:
        while len(self.entries) > 1 and (
            0 < rule.max_entries < len(self.entries)
            or 0 < rule.max_bytes < sum(len(entry.data) for entry in self.entries)
            or self.entries[0].timestamp < rule.older_than
        ):
            del self.entries[0]

    def offset_at(self, time: int) -> int:
        return max((entry.offset for entry in self.entries if entry.timestamp < time), default=0)


async def _play(database: Path, operations: list[object]) -> None:
    store = Store.open(database)
    project = await create(store)
    await create(store, "neighbour", entries=5)
    model = _Model()
    for operation in operations:
        match operation:
            case _Append(sizes):
                entries = model.append(sizes)
                project = msgspec.structs.replace(project, head=model.head)
                await store.commit(Change(record=project, entries=entries))
            case _Read(offset, limit, max_bytes, direction, newest):
                ask = {"limit": limit, "max_bytes": max_bytes}
                if newest:
                    page = await store.read_before(project, before=offset, direction=direction, **ask)
                else:
                    page = await store.read(project, after=offset, direction=direction, **ask)
                assert page == model.read(operation)
            case _Prune(max_entries, max_bytes, older_than, batch):
                model.prune(operation)
                first = await store.prune(
                    project,
                    max_entries=max_entries,
                    max_bytes=max_bytes,
                    older_than=Milliseconds(older_than),
                    batch=batch,
                )
                assert first == model.first
            case _:
                await store.close()
                store = Store.open(database)
        assert await store.offset_at(project, Milliseconds(20)) == model.offset_at(20)
    known = next(found for found in await store.conversations() if found.id == project.id)
    assert (known.head, known.first) == (model.head, model.first)
    assert await store.read(project, after=0, limit=BIG, max_bytes=BIG) == model.entries
    await store.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(_operation, max_size=25))
def test_a_log_behaves_like_a_list(operations: list[object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(Path(folder) / "a.db", operations))
