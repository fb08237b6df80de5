"""One inotify instance tells of many files, and says so when it cannot."""

import asyncio
import errno
import os
import sys
from pathlib import Path

import pytest

from pocket_agent.claude.spool import Spool, SpoolReader, SpoolWatcher
from tests.harness import DEADLINE_SECONDS

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is of Linux")


async def test_only_the_file_that_was_written_to_is_told_of(tmp_path: Path, watcher: SpoolWatcher) -> None:
    woken: asyncio.Queue[str] = asyncio.Queue()
    for name in ("a", "b"):
        (tmp_path / name).touch()
        assert watcher.add(tmp_path / name, lambda name=name: woken.put_nowait(name))  # type: ignore[misc]  # mypy cannot infer a lambda's default
    (tmp_path / "c").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await woken.get() == "b"
    watcher.remove(tmp_path / "b")
    assert (watcher.watches(tmp_path / "a"), watcher.watches(tmp_path / "b")) == (True, False)
    (tmp_path / "b").write_bytes(b"y")
    (tmp_path / "a").write_bytes(b"x")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await woken.get() == "a"


async def test_many_writes_come_as_few_calls(tmp_path: Path, watcher: SpoolWatcher) -> None:
    calls = 0
    told = asyncio.Event()

    def wake() -> None:
        nonlocal calls
        calls += 1
        told.set()

    watcher.add(tmp_path / "a", wake)
    with (tmp_path / "a").open("ab", buffering=0) as file:
        for _ in range(1000):
            file.write(b"x")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await told.wait()
    assert calls < 20


async def test_a_queue_that_overflowed_wakes_everybody(tmp_path: Path, watcher: SpoolWatcher) -> None:
    told = asyncio.Event()
    (tmp_path / "quiet").touch()
    watcher.add(tmp_path / "quiet", told.set)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text("ascii"))
    with (tmp_path / "a").open("ab", buffering=0) as one, (tmp_path / "b").open("ab", buffering=0) as other:
        for _ in range(limit // 2 + 10):  # events of the same file in a row would be merged
            one.write(b"x")
            other.write(b"x")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await told.wait()


async def test_output_whose_folder_was_removed_is_read_to_its_end(tmp_path: Path, watcher: SpoolWatcher) -> None:
    spool = Spool(tmp_path / "spool", "a")
    spool.create()
    reader = SpoolReader(spool, 0, watcher)
    waiting = asyncio.ensure_future(reader.wait_for_growth())
    await asyncio.sleep(0)
    descriptor = os.open(spool.output, os.O_WRONLY)
    spool.remove()
    spool.directory.rmdir()
    os.write(descriptor, b"x")
    os.close(descriptor)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await waiting
    reader.close()


async def test_a_removed_folder_is_told_of(tmp_path: Path, watcher: SpoolWatcher) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    told = asyncio.Event()
    assert watcher.add(folder / "a", told.set)
    folder.rmdir()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await told.wait()
    assert not watcher.watches(folder / "a")
    assert not watcher.add(folder / "a", told.set)
    folder.mkdir()
    assert watcher.add(folder / "a", told.set)


@pytest.mark.parametrize("at", ["inotify_init1", "inotify_add_watch"])
async def test_a_reached_limit_means_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    from asyncinotify import _ffi  # noqa: PLC0415  # of Linux only

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "limit")

    monkeypatch.setattr(_ffi.libc, at, refuse)
    watcher = SpoolWatcher()
    spool = Spool(tmp_path / "spool", "a")
    spool.create()
    reader = SpoolReader(spool, 0, watcher)
    assert not watcher.add(spool.output, lambda: None)
    waiting = asyncio.ensure_future(reader.wait_for_growth())
    await asyncio.sleep(0)
    spool.output.write_bytes(b"x")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await waiting
    reader.close()
    watcher.close()


async def test_after_closing_nothing_is_watched(tmp_path: Path) -> None:
    watcher = SpoolWatcher()
    assert watcher.add(tmp_path / "a", lambda: None)
    watcher.close()
    watcher.close()
    assert not watcher.watches(tmp_path / "a")
    assert not watcher.add(tmp_path / "a", lambda: None)
