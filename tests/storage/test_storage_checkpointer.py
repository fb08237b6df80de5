"""The write-ahead log is moved into the database while the store is in use, and stays bounded."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pocket_agent.storage import Store, threads
from pocket_agent.storage.threads import checkpoint
from tests.harness import DEADLINE_SECONDS
from tests.storage.sample import create, grown, offsets


def _length(path: Path) -> int:
    return path.stat().st_size


async def test_the_database_grows_while_the_store_is_open(store: Store, database: Path) -> None:
    before = _length(database)
    project = await create(store, entries=2000, size=3000)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while _length(database) < before + 4_000_000:
            change = grown(project, 1)
            await store.commit(change)
            assert change.record is not None
            project = change.record


async def test_many_small_commits_call_for_it_too(
    store: Store, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "TURN_COMMITS", 5)
    before = _length(database)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while _length(database) == before:
            await create(store, entries=3, size=4000)


async def test_no_exception_ends_the_thread(store: Store, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python raises a MemoryError for SQLite's SQLITE_NOMEM."""
    monkeypatch.setattr(threads, "TURN_COMMITS", 1)
    failed = threading.Event()

    def fail(_: object) -> int:
        failed.set()
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(threads, "checkpoint", fail)
        await create(store, entries=3, size=4000)
        assert await asyncio.to_thread(failed.wait, DEADLINE_SECONDS)
    before = _length(database)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while _length(database) == before:
            await create(store, entries=3, size=4000)


def _run_of(log: Path) -> bytes:
    """Which run of the log this is: its header counts them (https://www.sqlite.org/walformat.html)."""
    with log.open("rb") as file:
        return file.read(16)[12:]


@pytest.fixture
def log(database: Path) -> Path:
    """The file of the write-ahead log."""
    return database.with_name(f"{database.name}-wal")


async def test_the_writer_moves_the_rest_when_it_is_asked_to(store: Store, log: Path) -> None:
    # Far from the number and the size that wake the thread: all that moves is the writer's doing.
    project = await create(store, entries=100)
    before = _run_of(log)
    await store.check()
    assert _run_of(log) == before
    store._checkpointer._help = True
    await store.check()
    await store.check()
    assert _run_of(log) != before
    assert await offsets(store, project) == list(range(1, 101))


async def test_a_long_log_asks_the_writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def never_ends(connection: sqlite3.Connection) -> int:
        asked.append(connection is store._writer._connection)
        return 1000

    monkeypatch.setattr(threads, "checkpoint", never_ends)
    monkeypatch.setattr(threads, "LOG_LIMIT_BYTES", 999 * 4096)
    monkeypatch.setattr(threads, "TURN_COMMITS", 1)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True not in asked:
            await store.check()
    assert False in asked


def test_a_refused_checkpoint_is_left_to_the_next(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("BEGIN IMMEDIATE")
        assert checkpoint(connection) == 0  # not inside a transaction
        connection.execute("ROLLBACK")
        assert checkpoint(connection) > 0
