"""Figures and health as clients and load balancers get them."""

import asyncio
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError
from pocket_agent.events import ExecutionFinished, ProjectCreated
from pocket_agent.model import ExecutionStatus
from pocket_agent.observability import health, status
from pocket_agent.observability.status import ExecutionCounts
from tests.harness.follow import eventually
from tests.observability.sample import example
from tests.server.room import open_room, until


def test_executions_are_counted_by_how_they_ended() -> None:
    tally = ExecutionCounts()
    for ended in ("success", "success", "error", "timeout", "killed"):
        tally.emit(example(ExecutionFinished, status=ExecutionStatus(ended), duration=0.5))
    tally.emit(example(ProjectCreated))
    assert (tally.total, tally.success, tally.failed, tally.seconds) == (5, 2, 2, 2.5)


async def test_asking_often_checks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_FRESH_SECONDS", 3600.0)
    async with open_room(tmp_path, health__interval=3600) as room:
        await room.report.health()
        changes = room.store.changes
        answers = await asyncio.gather(*(room.report.health() for _ in range(20)))
        assert room.store.changes == changes, "nothing was written to find out"
        assert all(answer.checks == answers[0].checks for answer in answers)
        assert [await room.report.unready() for _ in range(20)] == [None] * 20
        assert room.store.changes == changes
        monkeypatch.setattr(health, "_FRESH_SECONDS", 0.0)
        await room.report.health()
        assert room.store.changes == changes + 1


async def test_it_is_ready_once_the_first_checks_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_READY_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(status, "_HEALTH_WAIT_SECONDS", 0.0)
    async with open_room(tmp_path, health__interval=3600) as room:
        assert await room.report.unready() == "starting"
        first = await room.report.health()
        assert (first.status, {check.message for check in first.checks.values()}) == ("degraded", {"Not checked yet."})

        async def is_ready() -> bool:
            return await room.report.unready() is None

        await eventually(is_ready, "it is ready")


@pytest.mark.parametrize("standin", [True, False])
async def test_a_missing_cli_or_little_space_does_not_take_it_out(tmp_path: Path, *, standin: bool) -> None:
    async with open_room(tmp_path, standin=standin, health__low_disk=2**50) as room:
        found = await room.report.health()
        assert found.status == "degraded"
        assert found.checks["disk"].status == "warning"
        assert (found.checks["claude"].status, found.claude.available) == (
            ("healthy", True) if standin else ("unhealthy", False)
        )
        assert found.resources.disk_free_gb > 0
        assert await room.report.unready() is None


async def test_a_full_disk_and_a_store_that_fails_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_room(tmp_path, health__interval=0.01) as room:
        with monkeypatch.context() as patch:
            patch.setattr(room.store, "free_bytes", lambda: 2**20)
            await until(lambda: room.inspector.free_bytes == 2**20)
            assert await room.report.unready() == "disk: The disk is full: 1 MiB free."
        await until(lambda: room.inspector.free_bytes > 2**20)
        assert await room.report.unready() is None

        async def fail() -> None:
            raise FileOperationError("The disk refused.")

        monkeypatch.setattr(room.store, "check", fail)

        async def is_told() -> bool:
            return await room.report.unready() == "storage: The disk refused."

        await eventually(is_told, "the store is at fault")
        assert (await room.report.health()).status == "unhealthy"


async def test_figures_follow_what_happens(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        before = room.report.stats()
        assert (before.executions.total, before.executions.avg_duration_ms) == (0, 0.0)
        session = await room.project()
        async with room.wire() as wire:
            await wire.ask("execute", {"prompt": "ask Bash"}, project_id=session.state.project.id)
            during = room.report.stats()
            assert (during.executions.active, during.projects.executing, during.connections.active) == (1, 1, 1)
            assert during.messages.received == 1
            assert during.messages.sent >= 1
            await wire.ask("agent_kill", project_id=session.state.project.id)
        after = room.report.stats().executions
        assert (after.active, after.total, after.success, after.failed) == (0, 1, 0, 0)
