"""Disks that fill, files that cannot be written, databases that are damaged: said clearly, and survived."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.storage import Store, connection_beside
from pocket_agent.storage.database import error_of, mark_path
from tests.harness.absence import absent
from tests.storage.sample import create, damage, grown, offsets, stored, write_lock


async def _pages(store: Store, limit: int) -> None:
    """Let the database grow to so many pages at most; SQLite then finds its disk full."""

    def set_limit(connection: sqlite3.Connection) -> None:
        used = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {used + limit}")

    await store._writer.submit(set_limit)


async def test_a_full_disk_refuses_and_recovers(store: Store) -> None:
    project = await create(store, entries=10)
    await _pages(store, 4)
    with pytest.raises(FileOperationError, match="disk is full") as caught:
        await store.commit(grown(project, 100, size=4000))
    assert caught.value.details == {"reason": "disk_full"}
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert await stored(store, project) == project
    assert await offsets(store, project) == list(range(1, 11))
    await _pages(store, 10_000)
    await store.commit(grown(project, 100, size=4000))
    assert await offsets(store, project) == list(range(1, 111))


async def test_a_full_disk_refuses_only_what_does_not_fit(store: Store, database: Path) -> None:
    one, two = await create(store, "one"), await create(store, "two")
    await _pages(store, 4)
    with write_lock(database):
        waiting = [asyncio.ensure_future(store.commit(change)) for change in (grown(one, 99, size=4000), grown(two, 1))]
        await asyncio.sleep(0)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [FileOperationError, type(None)]
    assert [await offsets(store, project) for project in (one, two)] == [[], [1]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and shutil.which("mount") is not None
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        absent("a small file system, which only root can mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_disk_that_is_really_full_refuses_and_recovers(small_disk: Path) -> None:
    store = Store.open(small_disk / "pocket-agent.db")
    project = await create(store)
    ballast = small_disk / "ballast"
    await asyncio.to_thread(_fill, ballast)
    refused = 0
    for _ in range(40):
        change = grown(project, 10, size=2000)
        try:
            await store.commit(change)
        except FileOperationError as error:
            refused += 1
            assert error.details["reason"] in {"disk_full", "io_error"}
        else:
            assert change.record is not None
            project = change.record
    assert refused
    with pytest.raises(FileOperationError):
        await store.commit(grown(project, 200, size=2000))
    assert await stored(store, project) == project
    assert await offsets(store, project) == list(range(1, project.head + 1))
    await asyncio.to_thread(ballast.unlink)
    change = grown(project, 10, size=2000)
    await store.commit(change)
    await store.check()
    assert await offsets(store, project) == list(range(1, project.head + 11))
    await store.close()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


async def test_a_database_that_cannot_be_written_can_be_read(store: Store) -> None:
    project = await create(store, entries=2)

    # The writer is idle, and a transaction could not take the pragma back.
    store._writer._connection.execute("PRAGMA query_only = ON")
    for refused in (store.commit(grown(project, 1)), store.check()):
        with pytest.raises(FileOperationError, match="read-only") as caught:
            await refused
        assert caught.value.details == {"reason": "read_only"}
    assert await offsets(store, project) == [1, 2]
    store._writer._connection.execute("PRAGMA query_only = OFF")
    await store.commit(grown(project, 1))
    assert await offsets(store, project) == [1, 2, 3]


async def test_a_file_that_is_no_database_is_refused_and_left_alone(database: Path) -> None:
    database.parent.mkdir()
    content = b"Dear diary, this is no database.\n" * 100
    await asyncio.to_thread(database.write_bytes, content)
    with pytest.raises(FileOperationError, match="not a database") as caught:
        Store.open(database)
    assert caught.value.details == {"reason": "not_a_database"}
    assert str(database.parent) not in caught.value.message
    assert await asyncio.to_thread(database.read_bytes) == content


def _without_tables(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")


_EMPTY = partial(os.truncate, length=0)


@pytest.mark.parametrize(
    ("lose", "end"),
    [(_EMPTY, "clean"), (_EMPTY, "killed"), (os.unlink, "clean"), (os.unlink, "killed"), (_without_tables, "clean")],
)
async def test_a_database_that_lost_its_contents_is_refused(
    database: Path, tmp_path: Path, lose: Callable[[Path], None], end: str
) -> None:
    """Opened as an empty one, its projects would be gone without a word, and SQLite would delete its log."""
    store = Store.open(database)
    project = await create(store, entries=2)
    if end == "killed":
        database = await asyncio.to_thread(shutil.copytree, database.parent, tmp_path / "killed") / database.name
        mark_path(database).unlink()  # the log alone shows it
    await store.close()
    kept = await asyncio.to_thread(shutil.copy, database, tmp_path / "kept")
    log = database.with_name(database.name + "-wal")
    before = log.read_bytes() if end == "killed" else None
    lose(database)
    for _ in range(2):
        with pytest.raises(FileOperationError, match="deleted or emptied") as caught:
            Store.open(database)
        assert caught.value.details == {"reason": "database_lost"}
    with pytest.raises(FileOperationError, match="deleted or emptied"), connection_beside(database):
        pass
    assert before is None or log.read_bytes() == before
    await asyncio.to_thread(shutil.copy, kept, database)
    store = Store.open(database)
    assert await offsets(store, project) == [1, 2]
    await store.close()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
async def test_what_is_not_a_file_is_refused(database: Path, make: Callable[[Path], None]) -> None:
    database.parent.mkdir()
    make(database)
    with pytest.raises(FileOperationError, match="directory or a special file"):
        Store.open(database)


async def test_a_damaged_database_is_called_damaged(database: Path) -> None:
    store = Store.open(database)
    project = await create(store, entries=2000, size=500)
    await store.close()
    damage(database)
    with pytest.raises(FileOperationError, match="damaged"):
        await _use(database, project.number)


async def _use(database: Path, number: int) -> None:
    store = Store.open(database)
    try:
        project = next(found for found in await store.conversations() if found.number == number)
        await offsets(store, project)
    finally:
        await store.close()


async def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    await asyncio.to_thread(blocker.touch)
    with pytest.raises(FileOperationError) as caught:
        Store.open(blocker / "pocket-agent.db")
    assert isinstance(caught.value.__cause__, OSError)
    assert str(tmp_path) not in caught.value.message


def test_a_fault_of_the_program_is_no_fault_of_the_disk() -> None:
    error = error_of(sqlite3.ProgrammingError("wrong number of bindings"))
    assert isinstance(error, InternalError)
    assert isinstance(error.__cause__, sqlite3.ProgrammingError)
