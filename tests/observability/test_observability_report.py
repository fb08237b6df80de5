"""Figures and health: counted from events, checked no more often than needed, never waited for."""

import asyncio
from pathlib import Path

import pytest

from pocket_agent.events import ExecutionFinished, ProjectCreated
from pocket_agent.observability import report
from pocket_agent.observability.report import Fanout, Tally
from tests.server.room import open_room


def finished(status: str, duration: float) -> ExecutionFinished:
    """The end of an execution."""
    return ExecutionFinished(
        project_id="p",
        execution_id="e",
        session_id=None,
        status=status,
        duration=duration,
        waited=0.0,
        model=None,
        input_tokens=0,
        output_tokens=0,
        cost_usd=0.0,
    )


def test_executions_are_counted_by_how_they_ended() -> None:
    one, two = Tally(), Tally()
    fanout = Fanout([one, two])
    for status in ("success", "success", "error", "timeout", "killed"):
        fanout.emit(finished(status, 0.5))
    fanout.emit(ProjectCreated("p"))
    for tally in (one, two):
        assert (tally.total, tally.success, tally.failed, tally.seconds) == (5, 2, 2, 2.5)


async def test_asking_often_checks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_room(tmp_path) as room:
        checks = 0
        real = room.store.check

        async def counted() -> None:
            nonlocal checks
            checks += 1
            await real()

        monkeypatch.setattr(room.store, "check", counted)
        monkeypatch.setattr(report, "_CACHE_SECONDS", 3600.0)
        first, *others = await asyncio.gather(*(room.report.health() for _ in range(20)))
        assert checks == 1
        assert all(other.checks == first.checks for other in others)
        monkeypatch.setattr(report, "_CACHE_SECONDS", 0.0)
        await room.report.health()
        assert checks == 2


async def test_a_check_that_hangs_is_unhealthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_room(tmp_path) as room:

        async def hang() -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(room.store, "check", hang)
        monkeypatch.setattr(report, "_CHECK_SECONDS", 0.05)
        async with asyncio.timeout(60):
            health = await room.report.health()
        assert health.status == "unhealthy"
        assert "took longer" in (health.checks["storage"].message or "")


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
