"""Background tasks: an exception is logged and counted, and ends neither the task nor the server."""

import asyncio
import contextlib
import errno
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.app import start_worker_threads
from pocket_agent.errors import FileOperationError
from pocket_agent.events import SettingsRefused, SettingsReloaded, TaskFaulted
from pocket_agent.notification import Notifier
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.health import in_thread
from pocket_agent.observability.structured_log import open_log
from pocket_agent.reload import Parts, Reloader
from pocket_agent.server.guard import Hosts
from pocket_agent.settings import LiveSettings, LoadedSettings, load_settings
from pocket_agent.supervision import supervise
from tests.server.room import Recorder, until

FAULTS: list[Exception] = [
    RuntimeError("can't start new thread"),
    OSError(errno.EMFILE, "Too many open files"),
    MemoryError(),
    FileOperationError("The disk is full."),
    ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
]


async def test_a_task_is_started_again_whatever_it_raises() -> None:
    seen, left = Recorder(), list(FAULTS)

    async def run() -> None:
        await asyncio.sleep(0)
        if left:
            raise left.pop(0)

    await supervise("a task", run, seen, first_seconds=0)
    assert seen.events == [TaskFaulted("a task", fault) for fault in FAULTS]


async def test_a_task_ends_when_it_is_cancelled_or_returns() -> None:
    seen = Recorder()
    running = asyncio.create_task(supervise("a task", asyncio.Event().wait, seen))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen.events == []


async def test_no_thread_is_started_once_the_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thread.start never returns when the new thread has no memory to begin with."""
    start_worker_threads()
    assert await in_thread(lambda: 1, "a check") == 1

    def start(_: threading.Thread) -> None:
        raise AssertionError("a thread is started")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert await asyncio.gather(*[asyncio.to_thread(abs, -number) for number in range(40)]) == list(range(40))
        for _ in range(300):
            assert await in_thread(lambda: 1, "a check") == 1


class Reload:
    """A reloader over settings that a test changes, with parts that a test lets fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flags: dict[str, object] = {"data.dir": folder, "logging.output": folder / "app.log"}
        self.live = LiveSettings(self.read())
        self.seen = Recorder()
        self.faults: dict[str, Exception] = {}
        self.remembered: list[int] = []
        self.noted: list[str] = []

    def read(self) -> LoadedSettings:
        """The settings as they are now."""
        return load_settings(config=None, environ={}, flags=self.flags)

    def take_over(self) -> None:
        """A part that takes settings over."""
        if "take over" in self.faults:
            raise self.faults["take over"]

    async def remember(self) -> None:
        """The store."""
        if "remember" in self.faults:
            raise self.faults["remember"]
        self.remembered.append(self.live.current.limits.max_projects)

    def note(self, changes: Iterable[Any]) -> None:
        """The log of what a reload changed."""
        self.noted.extend(change.key for change in changes)

    @contextlib.asynccontextmanager
    async def run(self) -> Any:
        """Let it run; gives the event that asks for a reload."""
        settings, asked = self.live.current, asyncio.Event()
        with open_log(settings.logging, Losses(), {}) as log:
            notifier = Notifier(self.live, lambda _: None)
            hosts = Hosts(self.live, auth=True)
            parts = Parts(log, notifier, None, hosts, (lambda: None, self.take_over), self.note, self.remember)
            reloader = Reloader(self.live, self.read, parts, self.seen)
            running = asyncio.create_task(reloader.run(asked))
            try:
                yield asked
                assert not running.done()
            finally:
                running.cancel()


async def test_a_store_that_refuses_does_not_undo_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less has to be kept, say, because the disk is full."""
    monkeypatch.setattr("pocket_agent.reload._RETRY_SECONDS", 0.01)
    bench = Reload(tmp_path)
    async with bench.run() as asked:
        bench.faults["remember"] = FileOperationError("The disk is full.")
        bench.flags["limits.max_projects"] = 7
        asked.set()
        await until(lambda: len(bench.seen.of(TaskFaulted)) > 1)
        assert bench.seen.of(SettingsReloaded) == [SettingsReloaded(("limits.max_projects",), ())]
        assert bench.live.current.limits.max_projects == 7
        assert bench.noted == ["limits.max_projects"]
        assert bench.remembered == []
        del bench.faults["remember"]
        await until(lambda: bench.remembered == [7])


async def test_a_reload_that_fails_half_way_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Reload(tmp_path)
    before = bench.live.current.limits.max_projects
    async with bench.run() as asked:
        bench.flags["limits.max_projects"] = before + 1
        for fault in FAULTS:
            bench.faults["take over"] = fault
            asked.set()
            await until(lambda: bench.seen.of(SettingsRefused) != [])
            bench.seen.events.clear()
            assert bench.live.current.limits.max_projects == before
        bench.faults.clear()
        with monkeypatch.context() as patch:
            patch.setattr("pocket_agent.observability.structured_log.LogWriter", _no_thread)
            asked.set()
            await until(lambda: bench.seen.of(SettingsRefused) != [])
        assert bench.live.current.limits.max_projects == before
        assert (bench.noted, bench.remembered, bench.seen.of(SettingsReloaded)) == ([], [], [])
        asked.set()
        await until(lambda: bench.remembered == [before + 1])


def _no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")
