"""Group commit: few transactions for many changes, and each change answers for itself."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.storage import Store
from pocket_agent.storage.writer import deliver
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
            assert change.project is not None
            project = change.project
            waiting.append(asyncio.ensure_future(store.commit(change)))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert await offsets(store, project) == list(range(1, 41))


async def test_a_failing_change_spares_the_others_of_its_batch(store: Store, database: Path) -> None:
    one, two, three = [await create(store, name) for name in ("one", "two", "three")]
    ahead = grown(two, 1).project
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
