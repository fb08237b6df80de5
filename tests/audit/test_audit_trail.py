"""The audit log of a running server: nobody waits for it, and nothing is lost while a disk refuses."""

import asyncio
import errno
import json
from pathlib import Path

import pytest

from pocket_agent import events
from pocket_agent.audit import audit_log as trail_module
from pocket_agent.audit.audit_log import EMPTY, AuditLog, AuditObserver, AuditRecord, FileAuditLog, Head, append
from pocket_agent.audit.verification import verify
from pocket_agent.errors import FileOperationError
from pocket_agent.events import AuditFailed
from tests.server.room import Noted, Recorder, until


class Kept:
    """The database's side."""

    def __init__(self) -> None:
        self.head = EMPTY
        self.error: FileOperationError | None = None

    async def __call__(self, head: Head) -> None:
        if self.error is not None:
            raise self.error
        self.head = head


def record(number: int) -> AuditRecord:
    """One of several."""
    return AuditRecord("2030-01-02T03:04:05.678Z", f"action-{number}")


def actions(path: Path) -> list[str]:
    """What was written."""
    return [json.loads(line)["action"] for line in path.read_bytes().splitlines()]


async def test_what_is_noted_is_written_in_order_and_all_of_it_at_the_end(tmp_path: Path) -> None:
    path, kept, seen = tmp_path / "audit.log", Kept(), Recorder()
    trail = FileAuditLog(path)
    trail.append(record(0))
    async with trail.running(EMPTY, kept, seen):
        for number in range(1, 100):
            trail.append(record(number))
            if number % 10 == 0:
                await asyncio.sleep(0)
    assert actions(path) == [f"action-{number}" for number in range(100)]
    assert kept.head.seq == 100
    assert verify(path, kept.head).problems == ()
    assert seen.events == []


async def test_a_disk_that_refuses_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept, seen = tmp_path / "audit.log", Kept(), Recorder()
    full = True

    def refuse(*arguments: object) -> Head:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(trail_module, "append", refuse)
    monkeypatch.setattr(trail_module, "_RETRY_SECONDS", 0.01)
    trail = FileAuditLog(path)
    async with trail.running(EMPTY, kept, seen):
        trail.append(record(1))
        await until(lambda: bool(seen.events))
        trail.append(record(2))
        await asyncio.sleep(0.05)
        full = False
        await until(lambda: kept.head.seq == 2)
    assert actions(path) == ["action-1", "action-2"]
    assert seen.events == [AuditFailed("No space left on device")]


async def test_a_disk_that_refuses_for_long_fills_no_memory_and_what_was_lost_is_written(tmp_path: Path) -> None:
    path, kept = tmp_path / "audit.log", Kept()
    trail = FileAuditLog(path)
    for number in range(10_015):
        trail.append(record(number))
    async with trail.running(EMPTY, kept, Recorder()):
        pass
    assert actions(path) == ["records_lost", *(f"action-{number}" for number in range(15, 10_015))]
    assert json.loads(path.read_bytes().splitlines()[0])["details"] == {"count": 15}


async def test_a_database_that_refuses_costs_no_record(tmp_path: Path) -> None:
    path, kept, seen = tmp_path / "audit.log", Kept(), Recorder()
    kept.error = FileOperationError("The database is locked.")
    trail = FileAuditLog(path)
    async with trail.running(EMPTY, kept, seen):
        trail.append(record(1))
        await until(lambda: bool(seen.events))
        kept.error = None
        trail.append(record(2))
    assert actions(path) == ["action-1", "action-2"]
    assert kept.head.seq == 2


async def test_the_numbers_go_on_where_the_run_before_ended(tmp_path: Path) -> None:
    path, kept = tmp_path / "audit.log", Kept()
    for number in range(3):
        trail = FileAuditLog(path)
        trail.append(record(number))
        async with trail.running(kept.head, kept, Recorder()):
            pass
    assert verify(path, kept.head).records == 3
    assert verify(path, kept.head).problems == ()


def test_no_trail_takes_everything() -> None:
    AuditLog().append(record(1))


def test_events_of_the_core_are_noted() -> None:
    noted = Noted()
    observer = AuditObserver(noted)
    observer.emit(events.ServerStarted("1.0", ("https://box",), 3))
    observer.emit(events.ConnectionOpened("c-1", "phone", "d-7", "192.0.2.7", client="web"))
    observer.emit(events.ConnectionRejected("origin", "192.0.2.8"))
    observer.emit(events.ConnectionRejected("unauthorized", "192.0.2.8", attempt="pair"))
    observer.emit(events.SettingsReloaded(("logging.level",), ()))
    observer.emit(events.SettingsRefused("a secret"))
    observer.emit(events.SettingIgnored("server.plain_port", "it is taken"))
    observer.emit(events.PongReceived("c-1", 0.1))
    observer.emit(events.ServerStopping("signal"))
    told = [(record_.action, record_.outcome, record_.by, record_.address) for record_ in noted.records]
    assert told == [
        ("server_start", "ok", None, None),
        ("login", "ok", "phone", "192.0.2.7"),
        ("login", "FORBIDDEN", None, "192.0.2.8"),
        ("pair", "UNAUTHORIZED", None, "192.0.2.8"),
        ("settings_reload", "ok", None, None),
        ("settings_reload", "VALIDATION_FAILED", None, None),
        ("server_stop", "ok", None, None),
    ]
    assert noted.records[1].device_id == "d-7"


async def test_who_is_refused_again_and_again_fills_no_disk(tmp_path: Path) -> None:
    path, kept = tmp_path / "audit.log", Kept()
    trail = FileAuditLog(path)
    observer = AuditObserver(trail)
    async with trail.running(EMPTY, kept, Recorder()):
        for _ in range(20_000):
            observer.emit(events.ConnectionRejected("unauthorized", "192.0.2.8", 2))
        trail.append(record(1))
    assert actions(path) == ["login"] * 20 + ["action-1", "left_out"]
    last = json.loads(path.read_bytes().splitlines()[-1])
    assert last["details"] == {"login UNAUTHORIZED": (20_000 - 20) * 2}


async def test_records_that_wait_for_a_disk_are_small(tmp_path: Path) -> None:
    trail = FileAuditLog(tmp_path / "audit.log")
    trail.append(AuditRecord("t", "execute", details={"options": {"add_dirs": ["x" * 4096] * 50}}))
    assert list(trail._queue[0].details) == ["too_long"]
