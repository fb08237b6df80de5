"""Group commit: few transactions for many changes, and each change answers for itself."""

import asyncio
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.model import ConversationRecord
from pocket_agent.storage import Store
from pocket_agent.storage.database import connect
from pocket_agent.storage.threads import deliver
from tests.storage.sample import create, grown, offsets, stored, write_lock


async def test_what_waits_for_a_commit_is_the_next_commit(store: Store, database: Path) -> None:
    projects = [await create(store, f"p{number}") for number in range(100)]
    before = store.commits, store.changes
    with write_lock(database):
        waiting = [asyncio.ensure_future(store.commit(grown(project, 3))) for project in projects]
        await asyncio.sleep(0)
        assert not any(future.done() for future in waiting)
    await asyncio.gather(*waiting)
    assert store.changes - before[1] == 100
    assert store.commits - before[0] <= 2
    assert store.durations.total > 0
    for project in projects:
        assert await offsets(store, project) == [1, 2, 3]


async def test_several_changes_of_one_log_commit_in_their_order(store: Store, database: Path) -> None:
    project = await create(store)
    with write_lock(database):
        waiting = []
        for _ in range(20):
            change = grown(project, 2)
            assert change.record is not None
            project = change.record
            waiting.append(asyncio.ensure_future(store.commit(change)))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert await offsets(store, project) == list(range(1, 41))


async def test_a_failing_change_spares_the_others_of_its_batch(store: Store, database: Path) -> None:
    one, two, three = [await create(store, name) for name in ("one", "two", "three")]
    ahead = grown(two, 1).record
    assert ahead is not None
    commits = store.commits
    with write_lock(database):
        changes = (grown(three, 1), grown(one, 2), grown(ahead, 1), grown(two, 2))
        waiting = [asyncio.ensure_future(store.commit(change)) for change in changes]
        await asyncio.sleep(0)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), InternalError, type(None)]
    assert store.commits - commits <= 2
    assert [await offsets(store, project) for project in (one, two, three)] == [[1, 2], [1, 2], [1]]


async def test_any_exception_reaches_the_one_who_waits(store: Store) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM meta")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await store._writer.submit(fail)
    with pytest.raises(LookupError, match="mine"):
        await store._reader.submit(_missing)
    await store.check()
    assert await store.next_project_number() == 1


def _missing(_: sqlite3.Connection) -> None:
    raise LookupError("mine")


async def test_a_cancelled_caller_does_not_take_the_change_back(store: Store, database: Path) -> None:
    project = await create(store)
    with write_lock(database):
        waiting = asyncio.ensure_future(store.commit(grown(project, 1)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await store.check()
    assert (await stored(store, project)).head == 1


async def test_a_lock_that_stays_refuses_the_change_and_nothing_else(database: Path) -> None:
    store = Store.open(database, busy_timeout=0.05)
    project = await create(store, entries=1)
    with write_lock(database):
        with pytest.raises(FileOperationError, match="locked") as caught:
            await store.commit(grown(project, 1))
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert caught.value.details == {"reason": "busy"}
        assert await offsets(store, project) == [1]
    await store.commit(grown(project, 1))
    assert await offsets(store, project) == [1, 2]
    await store.close()


def test_an_answer_to_a_loop_that_is_gone_is_dropped() -> None:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[object] = loop.create_future()
    loop.close()
    deliver([(future, 1, None)])
    assert not future.done()


class FlushFails:
    """A connection whose commits fail as they do when the flush of the log fails: its pages are in the log, whole."""

    def __init__(self, connection: sqlite3.Connection, database: Path) -> None:
        self._connection = connection
        self._index = database.with_name(database.name + "-shm")
        self.failing = False

    def execute(self, statement: str, parameters: tuple[str | int, ...] = ()) -> sqlite3.Cursor:
        """Run it; a COMMIT is forgotten by the log's index (https://www.sqlite.org/walformat.html) and refused."""
        if statement != "COMMIT" or not self.failing:
            return self._connection.execute(statement, parameters)
        with self._index.open("r+b") as index:
            head = index.read(136)
            self._connection.execute(statement)
            index.seek(0)
            index.write(head)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


async def after_a_kill(database: Path, folder: Path, project: ConversationRecord) -> list[int]:
    """The offsets that a server finds that starts on what is on the disk now."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{database}{suffix}", folder / f"a.db{suffix}")
    other = Store.open(folder / "a.db")
    found = await offsets(other, project)
    await other.close()
    return found


async def test_a_change_that_was_refused_is_not_there_after_a_kill(
    store: Store, database: Path, tmp_path: Path
) -> None:
    project = await create(store, entries=2)
    disk = FlushFails(store._writer._connection, database)
    store._writer._connection = disk  # type: ignore[assignment]
    assert await after_a_kill(database, tmp_path / "before", project) == [1, 2]
    disk.failing = True
    for size in (20, 100_000):
        with pytest.raises(FileOperationError, match="disk refused"):
            await store.commit(grown(project, 3, size=size))
        assert await offsets(store, project) == [1, 2]
        assert await after_a_kill(database, tmp_path / str(size), project) == [1, 2]
    disk.failing = False
    await store.commit(grown(project, 1))
    assert await after_a_kill(database, tmp_path / "after", project) == [1, 2, 3]


async def test_a_log_that_is_deleted_loses_nothing(store: Store, database: Path, tmp_path: Path) -> None:
    log = database.with_name(database.name + "-wal")
    project = await create(store, entries=2)
    for turn in range(4):
        log.unlink()
        if turn == 2:
            await asyncio.gather(*(store.read(project, after=0, limit=9, max_bytes=99) for _ in range(20)))
        change = grown(project, 3)
        assert change.record is not None
        await store.commit(change)
        project = change.record
        assert await after_a_kill(database, tmp_path / str(turn), project) == list(range(1, project.head + 1))
        assert await offsets(store, project) == list(range(1, project.head + 1))
    await store.check()
    log.unlink()
    await store.close()
    again = Store.open(database)
    assert await offsets(again, project) == list(range(1, project.head + 1))
    await again.close()


async def test_a_log_of_another_program_is_not_written_to(store: Store, database: Path) -> None:
    log = database.with_name(database.name + "-wal")
    project = await create(store, entries=2)
    kept = log.with_name("kept")
    log.rename(kept)
    log.touch()
    with pytest.raises(FileOperationError, match="replaced") as caught:
        await store.commit(grown(project, 1))
    assert caught.value.details == {"reason": "log_replaced"}
    kept.rename(log)
    await store.commit(grown(project, 1))
    assert await offsets(store, project) == [1, 2, 3]


@pytest.mark.parametrize("act", ["delete", "replace", "move the folder", "delete the folder"])
async def test_nothing_is_stored_in_a_database_that_is_gone(database: Path, tmp_path: Path, act: str) -> None:
    """A commit to a file without a name would be lost; once the file is back, the store goes on."""
    store = Store.open(database)
    project = await create(store, entries=2)
    kept = tmp_path / "kept"
    match act:
        case "delete":
            os.link(database, kept)
            database.unlink()
        case "replace":
            os.link(database, kept)
            database.unlink()
            database.write_bytes(kept.read_bytes())
        case "move the folder":
            database.parent.rename(kept)
        case _:
            shutil.rmtree(database.parent)
    for _ in range(2):
        with pytest.raises(FileOperationError, match="deleted, moved or replaced") as caught:
            await store.commit(grown(project, 1))
        assert caught.value.details == {"reason": "database_replaced"}
        assert await offsets(store, project) == [1, 2]
    if act == "delete the folder":
        with pytest.raises(FileOperationError, match="deleted, moved or replaced"):
            await store.close()
        return
    kept.rename(database.parent if act == "move the folder" else database)
    await store.commit(grown(project, 1))
    await store.close()
    again = Store.open(database)
    assert (again.epochs_renewed, await offsets(again, project)) == (False, [1, 2, 3])
    await again.close()


async def test_opening_a_database_anew_is_tried_again(
    store: Store, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, or a lack of descriptors, at the moment when a deleted log is replaced."""
    project = await create(store, entries=2)
    database.with_name(database.name + "-shm").unlink()
    for failing in range(3):
        left = [connect] * failing

        def connect_later(*args: Any, left: list[Any] = left, **kwargs: Any) -> Any:
            if not left:
                raise FileOperationError("The disk is full.")
            return left.pop()(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr("pocket_agent.storage.threads.connect", connect_later)
            with pytest.raises(FileOperationError, match="full"):
                await store.commit(grown(project, 1))
            with pytest.raises(FileOperationError, match="cannot be opened"):
                await offsets(store, project)
    await store.commit(grown(project, 1))
    assert await offsets(store, project) == [1, 2, 3]


async def test_no_exception_ends_the_thread_that_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await create(store)
    for fault in (MemoryError(), FileNotFoundError(2, "No such file or directory"), RuntimeError("any")):

        def fail(*_: object, fault: Exception = fault) -> None:
            raise fault

        with monkeypatch.context() as patch:
            patch.setattr(store._writer, "_commit", fail)
            with pytest.raises((MemoryError, FileOperationError, RuntimeError)):
                await store.commit(grown(project, 1))
        with monkeypatch.context() as patch:
            patch.setattr(store._writer, "_after_commit", fail)
            await store.check()
    await store.commit(grown(project, 1))
    assert await offsets(store, project) == [1]
