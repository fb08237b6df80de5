"""What each check finds, in a server that is made to be unwell."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pocket_agent.claude.installation import Installer
from pocket_agent.errors import ResourceLimitError
from pocket_agent.events import CertificateLoaded, CliVulnerable, ExecutionDelayed, ExecutionStarted, HealthChanged
from pocket_agent.observability import check as module
from pocket_agent.observability.check import Conditions, Inspector
from pocket_agent.observability.loop import LoopMonitor
from pocket_agent.protocol.push import CheckData
from pocket_agent.session.session import Session
from tests.harness.follow import eventually
from tests.harness.server import write_standin
from tests.server.room import Room, open_room, until

HEALTHY = CheckData("healthy")


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A server with the settings as they are by default."""
    async with open_room(tmp_path) as opened:
        yield opened


class Bench:
    """An inspector of its own for a room, whose checks are asked directly."""

    def __init__(self, room: Room, *, loop: LoopMonitor | None = None, binary: Path | None = None) -> None:
        self.conditions = Conditions()
        binary = binary or room.settings.claude.binary
        self.installer = Installer(binary, (), {"PATH": "/usr/bin:/bin", "HOME": str(room.folder), "BENCH": "x"})
        self.inspector = Inspector(
            room.store, self.installer, room.projects, room.settings, loop or LoopMonitor(), self.conditions, room.seen
        )

    async def look(self, name: str) -> CheckData:
        """What a check says."""
        return await self.inspector.checks()[name].look()


async def status(room: Room, name: str) -> CheckData:
    """What the server's own check says, fresh enough for everybody."""
    found = (await room.health.look(name, wait=60))[name]
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
    bench = Bench(room, binary=binary)
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
        await room.store._writer.submit(lambda connection: connection.execute("PRAGMA query_only = ON") and None)
        await until(lambda: ("healthy", "unhealthy") in changes(room, "storage"))
        assert "read-only" in ((await status(room, "storage")).message or "")
        room.store._writer._connection.execute("PRAGMA query_only = OFF")
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
    here = Bench(room)
    found = await here.look("disk")
    assert (found.status, found.message) == (status, message)
    assert here.inspector.free_bytes == free


async def test_a_disk_that_hangs_takes_one_thread_and_nobodys_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.1)
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

        monkeypatch.setattr(room.store, "free_bytes", hang)
        await until(lambda: changes(room, "disk")[-1] == ("healthy", "unhealthy"))
        for _ in range(20):
            reason = await room.report.unready()
            assert reason == "disk: The check took longer than 0.1 s."
        health = await room.report.health()
        assert (health.status, health.checks["storage"]) == ("degraded", HEALTHY)
        assert threads() <= max(1, before + 1)
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
        here = Bench(room)
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
    here = Bench(room, loop=loop)
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
    here = Bench(room)
    assert await here.look("certificate") == CheckData("healthy", "TLS is off.")
    end = datetime.now(UTC) + timedelta(days=days)
    here.conditions.emit(CertificateLoaded(end, self_signed=own))
    found = await here.look("certificate")
    assert found.status == status
    assert (message is None) == (found.message is None)
    if message is not None:
        assert message in (found.message or "")
        assert f"{end:%Y-%m-%d %H:%M}" in (found.message or "")


async def busy(room: Room, session: Session, *, queued: int) -> list[str]:
    """An execution that waits for an approval, and prompts behind it; returns their ids."""
    key = session.state.project.id
    async with room.client() as client:
        await client.execute(key, "ask Bash")
        return [(await client.execute(key, "a-secret-prompt")).execution_id for _ in range(queued)]


async def test_a_full_queue(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_queued_prompts=2) as room:
        session = await room.project()
        here = Bench(room)
        assert await here.look("queue") == HEALTHY
        first, _ = await busy(room, session, queued=2)
        message = f"The queue of project {session.state.project.id} is full (2 prompts)."
        assert await here.look("queue") == CheckData("warning", message)
        await session.cancel(first)
        assert await here.look("queue") == HEALTHY


async def test_a_prompt_that_cannot_start(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await room.project()
    key = session.state.project.id
    (queued,) = await busy(room, session, queued=1)

    async def refuse() -> None:
        raise ResourceLimitError("/a/path is full")

    gate = session.life.gate
    monkeypatch.setattr(session.life, "gate", refuse)
    await session.kill()
    await room.eventually(ExecutionDelayed)
    found = await status_after(room, "queue")
    assert found == CheckData("unhealthy", f"Project {key}: execution {queued} cannot start (RESOURCE_LIMIT).")
    monkeypatch.setattr(session.life, "gate", gate)
    await until(lambda: len(room.seen.of(ExecutionStarted)) == 2)
    assert await status_after(room, "queue") == HEALTHY


async def status_after(room: Room, name: str) -> CheckData:
    """What the check of the server itself says now, not a moment ago."""
    return await room.inspector.checks()[name].look()


@asynccontextmanager
async def stuck(room: Room, session: Session) -> AsyncIterator[str]:
    """A queue that does not move although nothing runs, as a fault of the server would leave it; gives the prompt."""
    (queued,) = await busy(room, session, queued=1)
    async with session.life.mutex:
        running, session.state.current = session.state.current, None
        yield queued
        session.state.current = running
    await session.kill()


async def test_a_prompt_that_waits_though_it_could_run(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await room.project()
    here = Bench(room)
    async with stuck(room, session) as queued:
        assert await here.look("queue") == HEALTHY, "its turn may just be coming"
        monkeypatch.setattr(module, "_STUCK_SECONDS", 0.0)
        message = f"Project {session.state.project.id}: execution {queued} waits although it could run."
        assert await here.look("queue") == CheckData("unhealthy", message)
        with monkeypatch.context() as patch:
            patch.setattr(room.projects.capacity, "executing", room.settings.limits.max_executions)
            assert await here.look("queue") == HEALTHY, "all slots are taken"
    await until(lambda: len(room.seen.of(ExecutionStarted)) == 2)
    assert await here.look("queue") == HEALTHY


async def test_many_stuck_projects_make_no_long_message(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STUCK_SECONDS", 0.0)
    here = Bench(room)
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
