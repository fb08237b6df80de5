"""Health checks: the lag of the event loop, how checks run, and what each of them reports."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pocket_agent.claude.installation import Installer
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError, ResourceLimitError
from pocket_agent.events import CertificateLoaded, CliVulnerable, ExecutionDelayed, ExecutionStarted, HealthChanged
from pocket_agent.observability import health
from pocket_agent.observability import health as module
from pocket_agent.observability.health import (
    CheckConditions,
    HealthChecks,
    HealthMonitor,
    LoopMonitor,
    TimedCheck,
    in_thread,
    overall_status,
)
from pocket_agent.protocol.requests import CheckData
from pocket_agent.settings import HealthSettings, Settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.server import write_standin
from tests.server.room import Recorder, Room, open_room, until


@contextlib.asynccontextmanager
async def measuring(monitor: LoopMonitor) -> AsyncIterator[None]:
    """The monitor at work."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(monitor.run())
        await asyncio.sleep(0)
        yield
        task.cancel()


async def test_it_keeps_counting_in_the_distribution_it_was_given() -> None:
    lags = Distribution((3600.0,))
    async with measuring(LoopMonitor(lags)):
        await eventually(lambda: lags.count >= 3, "three measurements")
    assert lags.cumulative()[0] == lags.count, "in seconds, so none is as long as an hour"


async def test_a_blocked_loop_is_known_at_once_and_counted_after() -> None:
    monitor = LoopMonitor()
    async with measuring(monitor):
        time.sleep(0.8)  # noqa: ASYNC251 - this is the fault
        blocked = 0.8 - 0.25
        assert monitor.worst(60) >= blocked, "before the monitor was woken"
        assert monitor.lags.count == 0
        await eventually(lambda: monitor.lags.count > 0, "a measurement")
        assert monitor.worst(60) >= blocked
        assert monitor.lags.total >= blocked
        await eventually(lambda: monitor.worst(0.5) < blocked, "what is past is past")
        assert monitor.worst(60) >= blocked


async def test_only_the_last_minute_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_LAG_PERIOD_SECONDS", 0.001)
    monkeypatch.setattr(health, "LAG_WINDOW_SECONDS", 0.05)
    monitor = LoopMonitor()
    async with measuring(monitor):
        time.sleep(0.5)  # noqa: ASYNC251 - this is the fault
        await eventually(lambda: monitor.lags.count >= 1 and monitor.worst(3600) < 0.4, "the block is forgotten")
        await eventually(lambda: monitor.lags.count >= 200, "many measurements")
        assert len(monitor._peaks) < 200


def test_one_that_does_not_run_knows_nothing() -> None:
    assert LoopMonitor().worst(60) == 0.0


GOOD, LOW, BAD = CheckData("healthy"), CheckData("warning", "low"), CheckData("unhealthy", "gone")


class Part:
    """Something to check, whose state the test sets."""

    def __init__(self) -> None:
        self.state: CheckData | Exception = GOOD
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.begun = 0
        self.at_once = 0

    async def look(self) -> CheckData:
        """How it is, once it may tell."""
        self.begun += 1
        self.at_once += 1
        try:
            await self.may_answer.wait()
        finally:
            self.at_once -= 1
        assert self.at_once == 0, "two at a time"
        if isinstance(self.state, Exception):
            raise self.state
        return self.state


class MonitorBench:
    """A part under watch, and what was told of it."""

    def __init__(self, interval: float, seconds: float) -> None:
        self.part = Part()
        self.seen = Recorder()
        self.health = HealthMonitor(
            {"part": TimedCheck(self.part.look, seconds)}, Settings(health=HealthSettings(interval=interval)), self.seen
        )

    async def look(self) -> CheckData:
        """The result as somebody gets it who can wait."""
        result = (await self.health.results("part", wait=60))["part"]
        assert result is not None
        return result

    def told(self) -> list[tuple[str | None, str]]:
        """From which status to which."""
        assert all(event.check == "part" for event in self.seen.of(HealthChanged))
        return [(event.previous, event.status) for event in self.seen.of(HealthChanged)]


@contextlib.asynccontextmanager
async def bench(*, interval: float = 3600.0, seconds: float = 60.0) -> AsyncIterator[MonitorBench]:
    """A running bench; what hangs at its end must not keep it."""
    made = MonitorBench(interval, seconds)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        task = group.create_task(made.health.run())
        yield made
        task.cancel()


async def test_asking_often_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FRESH_SECONDS", 3600.0)
    async with bench() as here:
        here.part.may_answer.clear()
        answers = asyncio.gather(*(here.look() for _ in range(20)))
        await eventually(lambda: here.part.begun == 1, "it is looked at")
        here.part.may_answer.set()
        assert await answers == [GOOD] * 20
        await here.look()
        assert here.part.begun == 1
        monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)
        await here.look()
        assert here.part.begun == 2


async def test_it_looks_without_being_asked() -> None:
    async with bench(interval=0.01) as here:
        await eventually(lambda: here.part.begun >= 3, "three rounds")
        here.part.state = BAD
        await eventually(lambda: here.told() == [(None, "healthy"), ("healthy", "unhealthy")], "the change is told")


async def test_only_a_change_of_status_is_told() -> None:
    async with bench(interval=0.001) as here:
        for state in (GOOD, LOW, CheckData("warning", "lower"), BAD, FileOperationError("full"), GOOD):
            here.part.state = state
            begun = here.part.begun
            await eventually(lambda begun=begun: here.part.begun >= begun + 2, "a whole look at it")
        assert here.told() == [
            (None, "healthy"),
            ("healthy", "warning"),
            ("warning", "unhealthy"),
            ("unhealthy", "healthy"),
        ]
        assert [event.message for event in here.seen.of(HealthChanged)] == [None, "low", "gone", None]


async def test_a_check_that_hangs_is_unhealthy_and_left_alone_until_it_ends() -> None:
    async with bench(interval=0.001, seconds=0.05) as here:
        assert await here.look() == GOOD
        here.part.may_answer.clear()
        await eventually(lambda: here.told()[-1] == ("healthy", "unhealthy"), "it took too long")
        begun = here.part.begun
        for _ in range(10):
            assert await here.look() == CheckData("unhealthy", "The check took longer than 0.05 s.")
        await asyncio.sleep(0.05)  # room for many rounds, none of which may begin it again
        assert here.part.begun == begun
        here.part.may_answer.set()
        await eventually(lambda: here.told()[-1] == ("unhealthy", "healthy"), "it is well again")
        await eventually(lambda: here.part.begun > begun, "it is looked at again")


async def test_who_does_not_wait_gets_what_was_known() -> None:
    async with bench(interval=0.001) as here:
        here.part.may_answer.clear()
        assert await here.health.results(wait=0) == {"part": None}
        here.part.may_answer.set()
        await here.look()
        here.part.may_answer.clear()
        here.part.state = BAD
        await eventually(lambda: here.part.at_once == 1, "it hangs")
        assert await here.health.results("part", wait=0) == {"part": GOOD}


async def test_a_fault_in_a_check_ends_nothing_and_tells_no_more_than_its_kind() -> None:
    async with bench(interval=0.001) as here:
        await here.look()
        here.part.state = ValueError("/home/somebody/secret")
        await eventually(lambda: here.told()[-1] == ("healthy", "unhealthy"), "it is noticed")
        assert await here.look() == CheckData("unhealthy", "The check failed: ValueError.")
        here.part.state = GOOD
        await eventually(lambda: here.told()[-1] == ("unhealthy", "healthy"), "it goes on")


async def test_the_end_waits_for_no_check() -> None:
    async with bench(seconds=0.01) as here:
        here.part.may_answer.clear()
        await eventually(lambda: here.part.at_once == 1, "it hangs")
    assert here.part.at_once == 0


async def test_a_thread_that_a_disk_holds_up_keeps_nobody() -> None:
    held, begun = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        held.wait()
        return 7

    waiting = asyncio.create_task(in_thread(work, "a-disk"))
    await eventually(begun.is_set, "the thread runs")
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "a-disk"]
    assert thread.daemon, "the end of the server does not wait for it"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await in_thread(lambda: 8, "a-disk") == 8, "by another thread"
    held.set()
    assert await in_thread(work, "a-disk") == 7
    assert thread.is_alive(), "it is used again"

    def refused() -> int:
        raise FileOperationError("no")

    with pytest.raises(FileOperationError):
        await in_thread(refused, "a-disk")


@pytest.mark.parametrize(
    ("storage", "other", "expected"),
    [
        (GOOD, GOOD, "healthy"),
        (GOOD, LOW, "degraded"),
        (GOOD, BAD, "degraded"),
        (LOW, GOOD, "degraded"),
        (BAD, GOOD, "unhealthy"),
        (BAD, BAD, "unhealthy"),
    ],
)
def test_the_sum_is_the_guides(storage: CheckData, other: CheckData, expected: str) -> None:
    assert overall_status({"other": other, "storage": storage}) == expected


HEALTHY = CheckData("healthy")


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A server with the settings as they are by default."""
    async with open_room(tmp_path) as opened:
        yield opened


class ChecksBench:
    """An inspector of its own for a room, whose checks are asked directly."""

    def __init__(self, room: Room, *, loop: LoopMonitor | None = None, binary: Path | None = None) -> None:
        self.conditions = CheckConditions()
        binary = binary or room.settings.claude.binary
        self.installer = Installer(binary, (), {"PATH": "/usr/bin:/bin", "HOME": str(room.folder), "BENCH": "x"})
        self.inspector = HealthChecks(
            room.store, self.installer, room.projects, room.settings, loop or LoopMonitor(), self.conditions, room.seen
        )

    async def look(self, name: str) -> CheckData:
        """What a check says."""
        return await self.inspector.checks()[name].run()


async def status(room: Room, name: str) -> CheckData:
    """What the server's own check says, fresh enough for everybody."""
    found = (await room.health.results(name, wait=60))[name]
    assert found is not None
    return found


@contextmanager
def locked(room: Room) -> Iterator[None]:
    """The database in the hands of another program."""
    other = sqlite3.connect(room.settings.data.dir / "pocket-agent.db", isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


async def test_a_cli_with_published_advisories_is_named_in_the_log_once(room: Room, tmp_path: Path) -> None:
    binary = tmp_path / "vulnerable"
    binary.write_text("#!/bin/sh\necho 2.1.179\n")
    binary.chmod(0o700)
    bench = ChecksBench(room, binary=binary)
    for _ in range(2):
        found = await bench.look("claude")
        assert (found.status, "GHSA-gfvf-j8jh-jxxw" in (found.message or "")) == ("healthy", True)
    (told,) = room.seen.of(CliVulnerable)
    assert (told.version, told.advisories) == ("2.1.179", ("GHSA-gfvf-j8jh-jxxw",))


async def test_storage_that_another_program_locks(tmp_path: Path) -> None:
    async with open_room(tmp_path, health__interval=0.05) as room:
        await until(lambda: changes(room, "storage") == [(None, "healthy")])
        with locked(room):
            await until(lambda: ("healthy", "unhealthy") in changes(room, "storage"))
            assert (await room.report.health()).status == "unhealthy"
            reason = await room.report.unready()
            assert reason is not None
            assert reason.startswith("storage: The database is locked by another program")
        await until(lambda: changes(room, "storage")[-1] == ("unhealthy", "healthy"))
        assert await room.report.unready() is None


async def test_storage_that_may_not_be_written(tmp_path: Path) -> None:
    async with open_room(tmp_path, health__interval=0.05) as room:
        await until(lambda: changes(room, "storage") == [(None, "healthy")])
        # Not as a job of the writer: others of its transaction would fail with it.
        connection = room.store._writer._connection
        connection.execute("PRAGMA query_only = ON")

        async def is_read_only() -> bool:
            return "read-only" in ((await status(room, "storage")).message or "")

        try:
            await eventually(is_read_only, "the check says why")  # on a busy machine it may first run out of its time
        finally:
            connection.execute("PRAGMA query_only = OFF")
        await until(lambda: changes(room, "storage")[-1] == ("unhealthy", "healthy"))


def changes(room: Room, name: str) -> list[tuple[str | None, str]]:
    """From which status to which a check went."""
    return [(event.previous, event.status) for event in room.seen.of(HealthChanged) if event.check == name]


@pytest.mark.parametrize(
    ("free", "status", "message"),
    [
        (2**20, "unhealthy", "The disk is full: 1 MiB free."),
        (512 * 2**20, "warning", "Low disk space: 0.5 GB."),
        (2**40, "healthy", None),
    ],
)
async def test_the_disk(
    room: Room, monkeypatch: pytest.MonkeyPatch, free: int, status: str, message: str | None
) -> None:
    monkeypatch.setattr(room.store, "free_bytes", lambda: free)
    here = ChecksBench(room)
    found = await here.look("disk")
    assert (found.status, found.message) == (status, message)
    assert here.inspector.free_bytes == free


async def test_a_disk_that_hangs_takes_one_thread_and_nobodys_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    real: list[int] = []

    def threads() -> int:
        return [thread.name for thread in threading.enumerate()].count("health-disk")

    before = threads()  # those of other tests of this process are used again
    async with open_room(tmp_path, health__interval=0.01) as room:
        free_bytes = room.store.free_bytes
        await until(lambda: changes(room, "disk") == [(None, "healthy")])

        def hang() -> int:
            answer.wait()
            real.append(free_bytes())
            return real[-1]

        disk = room.health._states["disk"]
        patient = disk.check
        monkeypatch.setattr(room.store, "free_bytes", hang)
        disk.check = patient._replace(seconds=0.1)
        await until(lambda: changes(room, "disk")[-1] == ("healthy", "unhealthy"))
        for _ in range(20):
            reason = await room.report.unready()
            assert reason == "disk: The check took longer than 0.1 s."
        health = await room.report.health()
        assert (health.status, health.checks["storage"]) == ("degraded", HEALTHY)
        assert threads() <= max(1, before + 1)
        disk.check = patient
        answer.set()
        await until(lambda: changes(room, "disk")[-1] == ("unhealthy", "healthy"))
        assert await room.report.unready() is None


async def test_the_cli_is_really_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "asked"
    async with open_room(tmp_path) as room:
        binary = room.settings.claude.binary
        assert binary is not None
        asked = f'[ -n "$BENCH" ] && echo x >> {note}'  # by this bench, not by the server
        binary.write_text(f"#!/bin/sh\n{asked}\n[ -e {tmp_path}/broken ] && kill -SEGV $$; echo stand-in\n")
        here = ChecksBench(room)
        assert await here.look("claude") == HEALTHY, "it names no version, but it answers"
        assert (here.inspector.claude.available, here.inspector.claude.version) == (True, None)
        assert await here.look("claude") == HEALTHY
        assert note.read_text() == "x\n"
        monkeypatch.setattr(module, "_VERSION_SECONDS", 0.0)
        (tmp_path / "broken").touch()
        with pytest.raises(Exception, match=r"crashes \(Segmentation fault\)") as fault:
            await here.look("claude")
        assert str(tmp_path) not in str(fault.value)
        assert not here.inspector.claude.available


async def test_a_late_loop(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = LoopMonitor()
    here = ChecksBench(room, loop=loop)
    assert await here.look("event_loop") == HEALTHY
    monkeypatch.setattr(loop, "worst", lambda _: 3.21)
    message = "The event loop was late by 3.2 s within the last minute."
    assert await here.look("event_loop") == CheckData("warning", message)
    monkeypatch.setattr(loop, "worst", lambda _: 0.999)
    assert await here.look("event_loop") == HEALTHY


@pytest.mark.parametrize(
    ("days", "own", "status", "message"),
    [
        (8, False, "healthy", None),
        (6, False, "warning", "Renew it, then send SIGHUP."),
        (6, True, "warning", "SIGHUP makes a new one."),
        (-1, False, "unhealthy", "The certificate expired on"),
    ],
)
async def test_the_certificate(room: Room, days: int, own: bool, status: str, message: str | None) -> None:
    here = ChecksBench(room)
    assert await here.look("certificate") == CheckData("healthy", "TLS is off.")
    end = datetime.now(UTC) + timedelta(days=days)
    here.conditions.emit(CertificateLoaded(end, self_signed=own))
    found = await here.look("certificate")
    assert found.status == status
    assert (message is None) == (found.message is None)
    if message is not None:
        assert message in (found.message or "")
        assert f"{end:%Y-%m-%d %H:%M}" in (found.message or "")


async def busy(room: Room, conversation: Conversation, *, queued: int) -> list[str]:
    """An execution that waits for an approval, and prompts behind it; returns their ids."""
    key = conversation.state.record.id
    async with room.client() as client:
        await client.execute(key, "ask Bash")
        return [(await client.execute(key, "a-secret-prompt")).execution_id for _ in range(queued)]


async def test_a_full_queue(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_queued_prompts=2) as room:
        session = await room.project()
        here = ChecksBench(room)
        assert await here.look("queue") == HEALTHY
        first, _ = await busy(room, session, queued=2)
        message = f"The queue of project {session.state.record.id} is full (2 prompts)."
        assert await here.look("queue") == CheckData("warning", message)
        await session.prompts.cancel(first)
        assert await here.look("queue") == HEALTHY


async def test_a_prompt_that_cannot_start(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await room.project()
    key = session.state.record.id
    (queued,) = await busy(room, session, queued=1)

    async def refuse() -> None:
        raise ResourceLimitError("/a/path is full")

    gate = session.loops.gate
    monkeypatch.setattr(session.loops, "gate", refuse)
    await session.kill()
    await room.eventually(ExecutionDelayed)
    found = await status_after(room, "queue")
    assert found == CheckData("unhealthy", f"Project {key}: execution {queued} cannot start (RESOURCE_LIMIT).")
    monkeypatch.setattr(session.loops, "gate", gate)
    await until(lambda: len(room.seen.of(ExecutionStarted)) == 2)
    assert await status_after(room, "queue") == HEALTHY


async def status_after(room: Room, name: str) -> CheckData:
    """What the check of the server itself says now, not a moment ago."""
    return await room.inspector.checks()[name].run()


@asynccontextmanager
async def stuck(room: Room, conversation: Conversation) -> AsyncIterator[str]:
    """A queue that does not move although nothing runs, as a fault of the server would leave it; gives the prompt."""
    (queued,) = await busy(room, conversation, queued=1)
    async with conversation.loops.mutex:
        running, conversation.state.current = conversation.state.current, None
        yield queued
        conversation.state.current = running
    await conversation.kill()


async def test_a_prompt_that_waits_though_it_could_run(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await room.project()
    here = ChecksBench(room)
    async with stuck(room, session) as queued:
        assert await here.look("queue") == HEALTHY, "its turn may just be coming"
        monkeypatch.setattr(module, "_STUCK_SECONDS", 0.0)
        message = f"Project {session.state.record.id}: execution {queued} waits although it could run."
        assert await here.look("queue") == CheckData("unhealthy", message)
        with monkeypatch.context() as patch:
            patch.setattr(room.projects.capacity, "executing", room.settings.limits.max_executions)
            assert await here.look("queue") == HEALTHY, "all slots are taken"
    await until(lambda: len(room.seen.of(ExecutionStarted)) == 2)
    assert await here.look("queue") == HEALTHY


async def test_many_stuck_projects_make_no_long_message(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STUCK_SECONDS", 0.0)
    here = ChecksBench(room)
    async with AsyncExitStack() as stack:
        for number in range(5):
            await stack.enter_async_context(stuck(room, await room.project(f"project-{number}")))
        message = (await here.look("queue")).message or ""
    assert message.count("waits although it could run") == 3
    assert message.endswith("And 2 more.")
    assert "secret" not in message
    assert str(room.folder) not in message


async def test_a_room_of_the_standin_is_healthy(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        assert write_standin(tmp_path) == room.settings.claude.binary
        health = await room.report.health()
        assert set(health.checks) == {"claude", "disk", "storage", "event_loop", "certificate", "queue"}
        assert [health.checks[name] for name in ("claude", "storage", "queue", "event_loop")] == [HEALTHY] * 4
        await eventually(lambda: len(changes(room, "queue")) == 1, "its first result is told")
        assert {event.previous for event in room.seen.of(HealthChanged)} == {None}
