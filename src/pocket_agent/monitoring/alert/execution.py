"""Alerts of the agents' work: it fails, is slow, costs much, or does not happen."""

from collections.abc import Iterator
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.alert.saturation import used
from pocket_agent.monitoring.foreign import SERVER_JOB, START_TIME
from pocket_agent.monitoring.period import minutes
from pocket_agent.monitoring.promql import elapsed, increase, minimum, total
from pocket_agent.monitoring.recording import CALM, EXECUTION_P95, HOUR
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.selector import Not, count, select
from pocket_agent.monitoring.vector import Vector
from pocket_agent.observability import catalogue


def _ended(*statuses: str) -> Vector:
    return total(increase(select(catalogue.EXECUTIONS_TOTAL, status=statuses), CALM), "status")


# Increases are extrapolated: one is a little more than 1, two are a little more or less than 2.
_FAILED: Final = _ended("error", "timeout")
_FAILED_RATIO: Final = _FAILED / _ended("success", "error", "timeout")
_SEVERAL: Final = total(increase(count(catalogue.EXECUTION_DURATION), CALM), "status").above(1.5)
_NONE: Final = total(increase(select(catalogue.EXECUTIONS_TOTAL, status=Not("rejected")), HOUR), "status").equal_to(0)
_WATCHED: Final = minimum(select(catalogue.CONNECTIONS_ACTIVE), HOUR).above(0)
_OLD: Final = elapsed(select(START_TIME, job=SERVER_JOB)).above(HOUR.seconds)
_RUNNING: Final = select(catalogue.EXECUTIONS_ACTIVE).above(0)
_IDLE: Final = _NONE.where(_WATCHED).where(_OLD).unless(_RUNNING)
_SPENT: Final = used("cost_usd_per_day")


def execution_alerts(settings: Settings) -> Iterator[Alert]:
    """The alerts, with the thresholds of the settings."""
    alerts = settings.alerts
    yield Alert(
        "ExecutionsFailing",
        "warning",
        minutes(5),
        _FAILED_RATIO.above(alerts.failed_ratio).where(_FAILED.above(2.5)),
        summary="Claude executions fail",
        description="{{ $value | humanizePercentage }} of the executions of {{ $labels.instance }} within 30 minutes "
        "ended in an error or by the time limit.",
        meaning="Three executions or more, and a large share of all, ended in an error or by the time limit.",
    )
    yield Alert(
        "SlowExecutions",
        "warning",
        minutes(10),
        EXECUTION_P95.query.at_least(alerts.slow_execution).where(_SEVERAL),
        summary="Claude executions are slow",
        description="The slowest 5 % of the executions of {{ $labels.instance }} take {{ $value | humanizeDuration }} "
        "or more.",
        meaning="The 95th percentile of the last 30 minutes is high, and not for one execution alone.",
    )
    yield Alert(
        "NoExecutionsRecently",
        "info",
        minutes(5),
        _IDLE,
        summary="No Claude executions in the past hour",
        description="Clients are connected to {{ $labels.instance }}, but no execution has run for an hour "
        "({{ $value | humanize }} ended).",
        meaning="Clients were connected all the hour and nothing was executed; an oddity more often than a fault.",
    )
    yield Alert(
        "ClaudeCostBudget",
        "warning",
        minutes(1),
        _SPENT.above(alerts.limit_ratio),
        summary="The day's budget is nearly used up",
        description="{{ $labels.instance }} has spent {{ $value | humanizePercentage }} of what a day may cost.",
        meaning="The executions of today cost nearly what `limits.cost_usd_per_day` allows, or more.",
    )
