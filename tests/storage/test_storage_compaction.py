"""Compaction: the file gets small, nothing else changes, and it refuses where it could do harm."""

import asyncio
import contextlib
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError
from pocket_agent.model import ConversationRecord
from pocket_agent.storage import Store, maintenance
from pocket_agent.storage.maintenance import Space, compact, read_space
from tests.harness.disk import small_disk
from tests.storage.sample import BIG, FOREVER, create, damage, modes, offsets, stored


async def pruned(database: Path, size: int = 8 * 2**20) -> ConversationRecord:
    """A database most of which was deleted, and the project that is left."""
    store = Store.open(database)
    gone = await create(store, "gone", entries=1, size=size)
    project = await create(store, entries=2000, size=1000)
    await store.delete_project(gone)
    await store.prune(project, max_entries=100, max_bytes=BIG, older_than=FOREVER)
    await store.check()
    project = await stored(store, project)
    await store.close()
    return project


async def test_the_file_gets_small_and_what_was_kept_stays(database: Path) -> None:
    project = await pruned(database)
    unused = read_space(database)
    assert unused.unused_bytes > 4 * 2**20
    before, after = compact(database)
    assert before == unused
    assert after == Space(database.stat().st_size, 0)
    assert after.size_bytes < before.used_bytes + 2**20
    assert modes(database.parent) == {f"{database.name}{suffix}": 0o600 for suffix in ("", ".lock", ".mark")}
    store = Store.open(database)
    try:
        assert not store.epochs_renewed, "positions of clients stay valid"
        assert await stored(store, project) == project
        assert await offsets(store, project) == list(range(project.first, project.head + 1))
    finally:
        await store.close()
    assert compact(database)[0].unused_bytes == 0


async def test_it_refuses_while_a_server_uses_it(database: Path) -> None:
    store = Store.open(database)
    try:
        with pytest.raises(
            FileOperationError, match=rf"process {os.getpid()}\) uses this database\. Stop it"
        ) as caught:
            compact(database)
        assert caught.value.details["reason"] == "data_in_use"
        await store.check()
    finally:
        await store.close()


async def test_a_server_cannot_start_meanwhile(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await pruned(database)
    seen: list[object] = []

    def start(_: sqlite3.Connection) -> None:
        with pytest.raises(FileOperationError) as caught:
            Store.open(database)
        seen.append(caught.value.details["reason"])

    monkeypatch.setattr(maintenance, "_require_health", start)
    compact(database)
    assert seen == ["data_in_use"]


async def test_a_disk_without_room_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_SPARE_BYTES", 24 * 2**20)
    with small_disk(tmp_path / "small"):
        database = tmp_path / "small" / "data.db"
        await pruned(database, 4 * 2**20)
        content = database.read_bytes()
        with pytest.raises(FileOperationError, match=r"Compacting needs 2\d\.\d MiB of free space") as caught:
            compact(database)
        assert caught.value.details["reason"] == "disk_full"
        assert database.read_bytes() == content
        monkeypatch.setattr(maintenance, "_SPARE_BYTES", 0)
        compact(database)
        assert database.stat().st_size < len(content)


async def test_the_copy_is_made_on_the_disk_that_was_looked_at(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pruned(database)
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "nowhere"))
    compact(database)
    assert os.environ["SQLITE_TMPDIR"] == str(tmp_path / "nowhere")


async def test_a_database_that_is_damaged_is_left_alone(database: Path) -> None:
    await pruned(database)
    damage(database)
    content = database.read_bytes()
    with pytest.raises(FileOperationError):
        compact(database)
    assert database.read_bytes() == content


async def test_another_program_that_reads_holds_it_up_with_a_word(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_BUSY_SECONDS", 0.05)
    project = await pruned(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FileOperationError, match="locked"):
            compact(database)
    compact(database)
    store = Store.open(database)
    assert await stored(store, project) == project
    await store.close()


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.1])
async def test_one_that_is_killed_leaves_everything_as_it_was(database: Path, delay: float) -> None:
    project = await pruned(database)
    code = "import sys, pathlib; from pocket_agent.storage.maintenance import compact; print(1, flush=True); "
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"{code} compact(pathlib.Path(sys.argv[1]))",
        str(database),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    await asyncio.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    store = Store.open(database)
    assert await stored(store, project) == project
    assert await offsets(store, project) == list(range(project.first, project.head + 1))
    await store.close()
    compact(database)
    assert read_space(database).unused_bytes == 0


def test_no_database(tmp_path: Path) -> None:
    with pytest.raises(FileOperationError, match="There is no database at"):
        compact(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []
