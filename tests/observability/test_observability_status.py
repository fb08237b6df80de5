"""Answers about the server: recent errors, overview, statistics, health and readiness."""

import asyncio
import typing
from pathlib import Path

import pytest

from pocket_agent import events
from pocket_agent.errors import FileOperationError
from pocket_agent.events import Event, ExecutionFinished, ProjectCreated
from pocket_agent.model import ExecutionStatus, Milliseconds
from pocket_agent.monitoring import all_alerts
from pocket_agent.observability import health, status
from pocket_agent.observability.catalogue import (
    CHECKS,
    ERRORS,
    LIMITS,
    RUNBOOK_OF_CHECK,
    RUNBOOK_OF_LIMIT,
    runbook_of,
)
from pocket_agent.observability.metrics import MetricObserver
from pocket_agent.observability.status import ExecutionStatistics, RecentErrors
from pocket_agent.protocol.requests import LastErrorData
from pocket_agent.settings import Settings
from tests.harness.follow import eventually
from tests.observability.sample import KINDS, example
from tests.server.room import open_room, until


def told(*happened: Event) -> list[LastErrorData]:
    """What is kept of these events, the newest first."""
    incidents = RecentErrors(lambda: 1000.0)
    for event in happened:
        incidents.emit(event)
    return incidents.newest()


def refused(code: str, message: str | None, request_id: str = "r") -> events.RequestHandled:
    """A request that was answered with an error."""
    return events.RequestHandled("execute", code, 0.1, "p", request_id, message)


def test_a_request_that_failed() -> None:
    (found,) = told(refused("INVALID_PATH", "There is no such directory."))
    assert found == LastErrorData(
        "INVALID_PATH", "execute", "There is no such directory.", 1, "1970-01-01T00:16:40.000Z", "r", "p", None
    )


def test_what_went_well_is_none() -> None:
    assert told(example(events.RequestHandled, code=None), example(events.ExecutionFinished, code=None)) == []


def test_the_same_error_is_one_that_is_counted() -> None:
    found = told(*(refused("RATE_LIMITED", "Too many.", f"r{number}") for number in range(1000)))
    assert [(one.count, one.correlation_id) for one in found] == [(1000, "r999")]


def test_the_newest_comes_first_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_MAX_ERRORS", 3)
    letters = [refused("INTERNAL_ERROR", f"fault {letter}") for letter in "abcdb"]
    assert [one.message for one in told(*letters)] == ["fault b", "fault d", "fault c"]


def test_what_a_client_wrote_is_left_out() -> None:
    message = "Unknown message type 'my secret prompt' at https://me:password@host/path?token=abc"
    (found,) = told(refused("INVALID_MESSAGE", message))
    assert found.message == "Unknown message type '…' at https://host/…"
    assert len(told(refused("INVALID_MESSAGE", "x" * 10_000))[0].message) < 350


def test_an_error_that_says_nothing_says_what_its_code_means() -> None:
    finished = example(events.ExecutionFinished, status=ExecutionStatus.TIMEOUT, code=None)
    (found,) = told(finished)
    assert (found.code, found.operation) == ("EXECUTION_TIMEOUT", "execution")
    assert found.message == "The execution ran longer than `timeouts.execution`."


@pytest.mark.parametrize("reason", events.REJECTIONS)
def test_a_client_that_was_turned_away(reason: str) -> None:
    (found,) = told(example(events.ConnectionRejected, reason=reason))
    assert (found.code, found.operation) == (events.REJECTIONS[reason].code, "connection")
    assert "word" not in found.message, "its address is not told"


def test_it_keeps_what_the_metrics_count() -> None:
    wrong = {}
    for kind in KINDS:
        code = {"code": "EXECUTION_FAILED"} if str in _types_of(kind, "code") else {}
        event = example(kind, **code)
        metrics = MetricObserver()
        metrics.emit(event)
        counted = {
            (sample.labels["code"], sample.labels["operation"])
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == "pocket_agent_errors_total" and sample.value > 0
        }
        kept = {(one.code, one.operation) for one in told(event)}
        if kept != counted and not (kind is events.RequestHandled and counted == {("other", "other")}):
            wrong[kind] = kept ^ counted
    assert wrong == {}


def _types_of(kind: type[Event], field: str) -> tuple[object, ...]:
    """The types that a field of an event may have; none when it has no such field."""
    hint = typing.get_type_hints(kind).get(field)
    return typing.get_args(hint) or (hint,)


def test_every_runbook_is_that_of_an_alert() -> None:
    known = {alert.name: alert.expr for alert in all_alerts(Settings())}
    found = {runbook_of(code, operation) for code, operation in ERRORS} - {None}
    assert {*RUNBOOK_OF_CHECK.values(), *RUNBOOK_OF_LIMIT.values(), *found} <= known.keys()
    for limit, alert in RUNBOOK_OF_LIMIT.items():
        assert f'pocket_agent_limit{{limit="{limit}"}} > 0' in known[alert], "0 is unlimited"
    # Idle processes are kept up to their limit on purpose.
    assert set(LIMITS) - RUNBOOK_OF_LIMIT.keys() == {"processes"}
    assert set(RUNBOOK_OF_CHECK) == set(CHECKS)


def test_faults_of_the_server_have_a_runbook_and_mistakes_have_none() -> None:
    assert runbook_of("INTERNAL_ERROR", "project") == "HighErrorRate"
    assert runbook_of("FILE_OPERATION", "storage") == "StorageErrors"
    assert runbook_of("EXECUTION_TIMEOUT", "execution") == "ExecutionsFailing"
    assert runbook_of("INVALID_PATH", "project") is None


def test_the_slowest_executions_of_late() -> None:
    slowest = ExecutionStatistics()
    for number in range(30):
        slowest.emit(
            example(
                events.ExecutionFinished,
                status=ExecutionStatus.SUCCESS,
                duration=float(number),
                finished_at=Milliseconds(number * 1000),
            )
        )
    slowest.emit(example(events.ExecutionFinished, duration=1e9, started_at=None))
    assert [event.duration for event in slowest.slowest(0)] == [float(number) for number in range(29, 19, -1)]
    assert [event.duration for event in slowest.slowest(28)] == [29.0, 28.0]


async def test_checks_tell_since_when(tmp_path: Path) -> None:
    async with open_room(tmp_path, standin=False) as room:
        await room.report.health()
        first = {check.name: check for check in room.report.overview().checks}
        assert first["claude"].status == "unhealthy"
        assert first["claude"].message
        assert first["claude"].runbook == "HealthCheckFailing"
        await room.report.health()
        assert {check.name: check.since for check in room.report.overview().checks} == {
            name: check.since for name, check in first.items()
        }


async def test_limits_are_those_of_the_metrics(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_projects=7) as room:
        await room.project()
        found = {limit.name: limit for limit in room.report.overview().limits}
        assert (found["projects"].usage, found["projects"].limit, found["projects"].runbook) == (
            1,
            7,
            "LimitNearlyReached",
        )
        assert found["processes"].runbook is None


def test_executions_are_counted_by_how_they_ended() -> None:
    tally = ExecutionStatistics()
    for ended in ("success", "success", "error", "timeout", "killed"):
        tally.emit(example(ExecutionFinished, status=ExecutionStatus(ended), duration=0.5, was_paused=False))
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
            await wire.ask("execute", {"prompt": "ask Bash"}, project_id=session.state.record.id)
            during = room.report.stats()
            assert (during.executions.active, during.projects.executing, during.connections.active) == (1, 1, 1)
            assert during.messages.received == 1
            assert during.messages.sent >= 1
            await wire.ask("agent_kill", project_id=session.state.record.id)
        after = room.report.stats().executions
        assert (after.active, after.total, after.success, after.failed) == (0, 1, 0, 0)
