"""The spool is private, is read from any byte on, and never lets a reader sleep through a write."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pocket_agent.claude.spool import Spool, SpoolReader, SpoolWatcher
from pocket_agent.errors import ExecutionFailedError, ResourceLimitError
from tests.harness import DEADLINE_SECONDS


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    spool = Spool(tmp_path / "spool", "a")
    before = os.umask(umask)
    try:
        spool.create()
    finally:
        os.umask(before)
    assert mode(spool.directory) == 0o700
    assert [mode(path) for path in (spool.output, spool.errors, spool.input)] == [0o600] * 3
    assert stat.S_ISFIFO(spool.input.stat().st_mode)


def test_existing_files_are_left_alone(spool: Spool) -> None:
    spool.output.write_bytes(b"kept")
    with pytest.raises(ExecutionFailedError):
        spool.create()
    assert spool.output.read_bytes() == b"kept"


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceLimitError, match="could not be made"):
        Spool(tmp_path / "file" / "spool", "a").create()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\0", ".hidden"])
def test_an_id_is_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="spool id"):
        Spool(tmp_path, name)


def test_orphans_are_listed_and_removed(tmp_path: Path) -> None:
    for name in ("b", "a.b"):
        Spool(tmp_path, name).create()
    (tmp_path / "c.in").write_bytes(b"")
    (tmp_path / "other.txt").write_bytes(b"")
    found = list(Spool.list(tmp_path))
    assert sorted(spool.id for spool in found) == ["a.b", "b", "c"]
    for spool in found:
        spool.remove()
        spool.remove()
        assert (spool.output.exists(), spool.error_tail()) == (False, "")
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]
    assert list(Spool.list(tmp_path / "missing")) == []


def test_the_error_output_is_bounded_and_its_end_kept(spool: Spool) -> None:
    with spool.errors.open("ab", buffering=0) as errors:
        errors.write(b"x" * 1024 * 1024)
        assert not spool.trim_errors()
        errors.write(b"the end")
        assert spool.trim_errors()
        assert spool.errors.stat().st_size == 64 * 1024
        errors.write(b"\nand after it\xff\n")
    assert spool.error_tail(27) == "x" * 5 + "the end\nand after it\ufffd"


async def test_reading_starts_at_any_byte(spool: Spool, watcher: SpoolWatcher) -> None:
    spool.output.write_bytes(b"0123456789")
    reader = SpoolReader(spool, 4, watcher)
    assert (reader.read(3), reader.offset, reader.size) == (b"456", 7, 10)
    assert (reader.read(), reader.read(), reader.offset) == (b"789", b"", 10)
    reader.close()
    assert reader.read() == b""


def test_a_missing_or_replaced_output_is_a_clear_error(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "a")
    with pytest.raises(ExecutionFailedError, match="cannot be read"):
        SpoolReader(spool, 0, SpoolWatcher())
    os.mkfifo(spool.output)
    with pytest.raises(ExecutionFailedError, match="not a file"):
        SpoolReader(spool, 0, SpoolWatcher())


class Blind(SpoolWatcher):
    """A system without inotify."""

    def add(self, path: Path, wake: Callable[[], object]) -> bool:
        del path, wake
        return False


@pytest.fixture(params=[SpoolWatcher, Blind])
def any_watcher(request: pytest.FixtureRequest) -> SpoolWatcher:
    """Told by the system, or looking by itself."""
    kind: type[SpoolWatcher] = request.param
    return kind()


async def test_every_write_wakes_the_reader(spool: Spool, any_watcher: SpoolWatcher) -> None:
    reader = SpoolReader(spool, 0, any_watcher)
    with spool.output.open("ab", buffering=0) as output:
        for number in range(50):
            waiting = asyncio.ensure_future(reader.wait_for_growth())
            for _ in range(number % 3):  # the write comes before, at and after the reader has gone to sleep
                await asyncio.sleep(0)
            output.write(b"%d\n" % number)
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await waiting
            assert reader.read() == b"%d\n" % number
    reader.close()
    any_watcher.close()


async def test_what_is_there_already_needs_no_waiting(spool: Spool, any_watcher: SpoolWatcher) -> None:
    reader = SpoolReader(spool, 0, any_watcher)
    spool.output.write_bytes(b"x")
    assert await reader.wait_for_growth()
    assert await reader.wait_for_growth()
    reader.close()
    any_watcher.close()


async def test_the_end_of_the_process_wakes_the_reader(spool: Spool, any_watcher: SpoolWatcher) -> None:
    reader = SpoolReader(spool, 0, any_watcher)
    exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(reader.wait_for_growth(exited))
    await asyncio.sleep(0)
    exited.set_result(0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert not await waiting
    spool.output.write_bytes(b"last words")
    assert await reader.wait_for_growth(exited)
    reader.close()
    any_watcher.close()


async def test_closing_wakes_the_reader(spool: Spool, any_watcher: SpoolWatcher) -> None:
    reader = SpoolReader(spool, 0, any_watcher)
    waiting = asyncio.ensure_future(reader.wait_for_growth())
    await asyncio.sleep(0)
    reader.close()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert not await waiting
    assert not await reader.wait_for_growth()
    any_watcher.close()


async def test_a_cancelled_wait_leaves_nothing_behind(spool: Spool, any_watcher: SpoolWatcher) -> None:
    reader = SpoolReader(spool, 0, any_watcher)
    exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(reader.wait_for_growth(exited))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    spool.output.write_bytes(b"x")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await reader.wait_for_growth(exited)
    reader.close()
    any_watcher.close()


async def test_error_output_is_bounded_without_being_asked(spool: Spool, watcher: SpoolWatcher) -> None:
    reader = SpoolReader(spool, 0, watcher)
    waiting = asyncio.ensure_future(reader.wait_for_growth())
    await asyncio.sleep(0)
    spool.errors.write_bytes(b"x" * (1024 * 1024 + 1))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while spool.errors.stat().st_size > 64 * 1024:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)
    reader.close()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert not await waiting
