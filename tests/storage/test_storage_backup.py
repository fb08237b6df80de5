"""Backups: whole, private, of one moment, and known for what they are."""

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError
from pocket_agent.model import Device, Milliseconds
from pocket_agent.storage import Change, Store, add_device, backup, connection_beside, devices
from tests.storage.sample import create, damage, grown, modes, offsets, process, stored


async def test_a_backup_of_a_busy_store_is_of_one_moment(store: Store, database: Path, tmp_path: Path) -> None:
    project = await create(store, entries=20_000, size=300)
    target = tmp_path / "backups" / "copy.db"
    target.parent.mkdir()
    copying = asyncio.ensure_future(asyncio.to_thread(backup, database, target))
    during = 0
    while not copying.done():
        change = grown(project, 3)
        assert change.record is not None
        project = change.record
        await store.commit(
            Change(record=project, entries=change.entries, process=process(project, consumed=project.head))
        )
        during += 1
    await copying
    assert during
    assert modes(target.parent) == {"copy.db": 0o600}

    copy = Store.open(target)
    assert copy.epochs_renewed
    restored = await stored(copy, project)
    assert restored.epoch != project.epoch
    assert 20_000 <= restored.head <= project.head
    assert await offsets(copy, restored) == list(range(1, restored.head + 1))
    record = await copy.process(project.id)
    assert (20_000 if record is None else record.consumed) == restored.head
    await copy.close()

    again = Store.open(target)
    assert not again.epochs_renewed
    assert await stored(again, project) == restored
    await again.close()
    assert (await stored(store, project)).epoch == "0123abcd"


async def test_commits_during_a_backup_do_not_make_it_begin_anew(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(database)
    await create(store, entries=500, size=300)
    await store.close()
    steps = 0

    class Interrupted(sqlite3.Connection):
        """Copies page by page; after each page, another program commits."""

        def backup(self, target: sqlite3.Connection, **_: object) -> None:
            super().backup(target, pages=1, progress=commit)

    def commit(_: int, left: int, pages: int) -> None:
        nonlocal steps
        steps += 1
        assert steps <= pages, f"{left} pages left after {steps} steps of one page"
        add_device(beside, Device(f"d{steps}", f"n{steps}", f"h{steps}", Milliseconds(steps)))

    with connection_beside(database) as beside:
        monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Interrupted))
        backup(database, tmp_path / "copy.db")
        monkeypatch.undo()
        assert len(devices(beside)) == steps > 30
    with connection_beside(tmp_path / "copy.db") as copy:
        assert devices(copy) == []


async def test_a_target_that_exists_is_left_alone(store: Store, database: Path, tmp_path: Path) -> None:
    await store.check()
    target = tmp_path / "copy.db"
    await asyncio.to_thread(target.write_bytes, b"precious")
    with pytest.raises(FileOperationError, match="exists"):
        backup(database, target)
    assert await asyncio.to_thread(target.read_bytes) == b"precious"
    assert sorted(modes(tmp_path)) == ["copy.db", "data"]


async def test_a_damaged_database_makes_no_backup(database: Path, tmp_path: Path) -> None:
    store = Store.open(database)
    await create(store, entries=100, size=500)
    await store.close()
    damage(database)
    with pytest.raises(FileOperationError, match="damaged"):
        backup(database, tmp_path / "copy.db")
    assert sorted(modes(tmp_path)) == ["data"]


def test_a_missing_source_or_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileOperationError):
        backup(tmp_path / "nothing.db", tmp_path / "copy.db")
    assert modes(tmp_path) == {}
    with pytest.raises(FileOperationError):
        backup(tmp_path / "nothing.db", tmp_path / "no folder" / "copy.db")


def test_a_database_of_another_program_is_no_source(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(FileOperationError, match="another program"):
        backup(tmp_path / "other.db", tmp_path / "copy.db")
    assert list(modes(tmp_path)) == ["other.db"]
