"""What the dashboard says in words: checks, limits, slow executions, the last errors."""

from pathlib import Path

from pocket_agent import events
from pocket_agent.config.settings import Settings
from pocket_agent.model import ExecutionStatus, Milliseconds
from pocket_agent.monitoring import all_alerts
from pocket_agent.observability.catalogue import CHECKS, LIMITS
from pocket_agent.observability.operation import ERRORS
from pocket_agent.observability.runbook import OF_CHECK, OF_LIMIT, runbook_of
from pocket_agent.observability.slowest import Slowest
from tests.observability.sample import example
from tests.server.room import open_room


def test_every_runbook_is_that_of_an_alert() -> None:
    known = {alert.name: alert.expr for alert in all_alerts(Settings())}
    found = {runbook_of(code, operation) for code, operation in ERRORS} - {None}
    assert {*OF_CHECK.values(), *OF_LIMIT.values(), *found} <= known.keys()
    for limit, alert in OF_LIMIT.items():
        assert f'pocket_agent_limit{{limit="{limit}"}} > 0' in known[alert], "0 is unlimited"
    # Idle processes are kept up to their limit on purpose.
    assert set(LIMITS) - OF_LIMIT.keys() == {"processes"}
    assert set(OF_CHECK) == set(CHECKS)


def test_faults_of_the_server_have_a_runbook_and_mistakes_have_none() -> None:
    assert runbook_of("INTERNAL_ERROR", "project") == "HighErrorRate"
    assert runbook_of("FILE_OPERATION", "storage") == "StorageErrors"
    assert runbook_of("EXECUTION_TIMEOUT", "execution") == "ExecutionsFailing"
    assert runbook_of("INVALID_PATH", "project") is None


def test_the_slowest_executions_of_late() -> None:
    slowest = Slowest()
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
    assert [event.duration for event in slowest.found(0)] == [float(number) for number in range(29, 19, -1)]
    assert [event.duration for event in slowest.found(28)] == [29.0, 28.0]


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
