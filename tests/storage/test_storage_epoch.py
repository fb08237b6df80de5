"""Epochs: renewed when commits can be missing, and only then."""

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from pocket_agent.model import ConversationRecord
from pocket_agent.storage import Store
from pocket_agent.storage.database import Synchronous, mark_path
from pocket_agent.storage.epoch import Mark, boot_id, new_epoch
from pocket_agent.storage.threads import TURN_COMMITS
from tests.harness.follow import eventually
from tests.storage.sample import create, grown, offsets, stored


async def _dead_run(folder: Path, synchronous: Synchronous) -> tuple[Path, ConversationRecord]:
    """The files of a server that was killed in boot "one", with two entries in its log."""
    living = folder / "living" / "a.db"
    store = Store.open(living, synchronous=synchronous, boot="one")
    project = await create(store, entries=2)
    dead = folder / "dead"
    dead.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{living}{suffix}", dead / f"a.db{suffix}")
    await store.close()
    return dead / "a.db", project


@pytest.mark.parametrize(
    ("synchronous", "boot", "renewed"),
    [("normal", "one", False), ("normal", "two", True), ("full", "one", False), ("full", "two", False)],
)
async def test_only_lost_power_without_flushed_commits_renews(
    tmp_path: Path, synchronous: Synchronous, boot: str, *, renewed: bool
) -> None:
    database, project = await _dead_run(tmp_path, synchronous)
    store = Store.open(database, boot=boot)
    found = await stored(store, project)
    assert store.epochs_renewed is renewed
    assert (found.epoch != project.epoch) is renewed
    assert (found.head, found.id) == (2, project.id)
    assert await offsets(store, project) == [1, 2]
    await store.close()
    after = Store.open(database, boot="three")
    assert await stored(after, project) == found
    await after.close()


async def test_a_clean_end_survives_a_reboot(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db", boot="one")
    project = await create(store)
    await store.close()
    again = Store.open(tmp_path / "a.db", boot="two")
    assert await again.conversations() == [project]
    assert not again.epochs_renewed
    await again.close()


async def test_each_project_gets_its_own_epoch(tmp_path: Path) -> None:
    database, _ = await _dead_run(tmp_path, "normal")
    store = Store.open(database, boot="one")
    await create(store, "second")
    await store.close()
    # A run of "two" that dies at once, then one of "three".
    store = Store.open(database, boot="two")
    shutil.copy(database, tmp_path / "b.db")
    shutil.copy(f"{database}-wal", tmp_path / "b.db-wal")
    await store.close()
    again = Store.open(tmp_path / "b.db", boot="three")
    epochs = {project.epoch for project in await again.conversations()}
    assert len(epochs) == 2
    assert "0123abcd" not in epochs
    await again.close()


def test_an_epoch_is_eight_hexadecimal_digits() -> None:
    made = {new_epoch() for _ in range(50)}
    assert all(len(epoch) == 8 and int(epoch, 16) >= 0 for epoch in made)
    assert len(made) > 45


def test_a_boot_keeps_its_id() -> None:
    assert boot_id()
    assert boot_id() == boot_id()


async def log_of(database: Path, folder: Path, entries: int) -> ConversationRecord:
    """A project's log that grows while copies of its folder are made: at 5 entries, and each time it is called."""
    store = Store.open(database)
    known = await store.conversations()
    project = known[0] if known else await create(store, "one")
    await store.commit(grown(project, entries))
    if len(known) < 2:
        await create(store, "other")
    project = (await store.conversations())[0]
    await store.close()
    shutil.copytree(database.parent, folder)
    return project


@pytest.mark.parametrize("put_back", ["the whole folder", "the database", "the database, into its file"])
async def test_an_old_copy_that_is_put_back_renews(tmp_path: Path, put_back: str) -> None:
    """A cold copy: the server was stopped when it was made, and when it is put back."""
    folder, copy = tmp_path / "data", tmp_path / "copy"
    database = folder / "a.db"
    before = await log_of(database, copy, 5)
    after = await log_of(database, tmp_path / "newer", 7)
    assert (after.epoch, before.head, after.head) == (before.epoch, 5, 12)
    match put_back:
        case "the whole folder":
            folder.rename(tmp_path / "lost")
            shutil.copytree(copy, folder)
        case "the database":
            database.unlink()
            shutil.copy2(copy / "a.db", database)
        case _:
            database.write_bytes((copy / "a.db").read_bytes())
    store = Store.open(database)
    found = (await store.conversations())[0]
    assert store.epochs_renewed
    assert (found.head, found.epoch != after.epoch) == (5, True)
    await store.close()
    again = Store.open(database)
    assert (not again.epochs_renewed, (await again.conversations())[0].epoch) == (True, found.epoch)
    await again.close()


async def test_an_old_copy_with_the_inode_of_the_database_renews(tmp_path: Path) -> None:
    """Removing the folder and copying the old one can give the same inodes again, on ext4."""
    folder, copy = tmp_path / "data", tmp_path / "copy"
    database = folder / "a.db"
    await log_of(database, copy, 5)
    await log_of(database, tmp_path / "newer", 7)
    mark_path(database).unlink()
    for file in (database, mark_path(database)):
        file.write_bytes((copy / file.name).read_bytes())
    mark = msgspec.json.decode(mark_path(database).read_bytes(), type=Mark)
    assert mark.inode == database.stat().st_ino
    store = Store.open(database)
    assert store.epochs_renewed
    await store.close()


async def test_only_the_log_that_went_back_gets_a_new_epoch(tmp_path: Path) -> None:
    database = tmp_path / "data" / "a.db"
    await log_of(database, tmp_path / "copy", 5)
    with closing(sqlite3.connect(database)) as connection:  # as a disk that lost the last commits
        connection.execute("DELETE FROM entry WHERE id % 1024 = 5")
        connection.execute("UPDATE conversation SET head = 4 WHERE number = 1")
        connection.commit()
    store = Store.open(database)
    one, other = await store.conversations()
    assert (one.epoch != "0123abcd", other.epoch) == (True, "0123abcd")
    await store.close()


async def test_a_mark_is_written_at_each_checkpoint(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    store = Store.open(database)
    project = await create(store)
    for _ in range(TURN_COMMITS + 1):
        change = grown(project, 1)
        await store.commit(change)
        assert change.record is not None
        project = change.record

    def marked() -> bool:
        mark = msgspec.json.decode(mark_path(database).read_bytes(), type=Mark)
        return mark.heads.get(project.number, ("", 0))[1] > TURN_COMMITS // 2

    await eventually(marked, "the mark follows the log")
    assert stat.S_IMODE(mark_path(database).stat().st_mode) == 0o600
    await store.close()


async def test_a_mark_that_is_gone_or_broken_proves_nothing(tmp_path: Path) -> None:
    database = tmp_path / "data" / "a.db"
    project = await log_of(database, tmp_path / "copy", 5)
    for content in (None, b"", b"no json", b"{}", b'{"inode":1}', b"\xff"):
        mark_path(database).unlink()
        if content is not None:
            mark_path(database).write_bytes(content)
        store = Store.open(database)
        assert (store.epochs_renewed, (await store.conversations())[0].epoch) == (False, project.epoch)
        await store.close()
