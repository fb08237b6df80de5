"""Epochs: renewed when commits can be missing, and only then."""

import shutil
from pathlib import Path

import pytest

from pocket_agent.model import Project
from pocket_agent.storage import Store
from pocket_agent.storage.connection import Synchronous
from pocket_agent.storage.epoch import boot_id, new_epoch
from tests.storage.sample import create, offsets, stored


async def _dead_run(folder: Path, synchronous: Synchronous) -> tuple[Path, Project]:
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
    assert await again.projects() == [project]
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
    epochs = {project.epoch for project in await again.projects()}
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
