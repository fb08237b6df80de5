"""The first dashboard: the guide's four panels, how the server is now, and the guide's three groups."""

from typing import Final

from grafana_foundation_sdk.models import units

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring import recording
from pocket_agent.monitoring.dashboard.choice import FIRING, machine_choice, of_server, recorded, server_choices
from pocket_agent.monitoring.dashboard.graph import graph
from pocket_agent.monitoring.dashboard.look import NO_EXECUTION, STATUSES
from pocket_agent.monitoring.dashboard.page import INTERNALS, OVERVIEW, RELIABILITY, USAGE, Page
from pocket_agent.monitoring.dashboard.panel import Line, Panel, Section
from pocket_agent.monitoring.dashboard.query import Query
from pocket_agent.monitoring.dashboard.shape import PASSED_OR_FAILED, UP_OR_DOWN, figure
from pocket_agent.monitoring.dashboard.system import system_sections
from pocket_agent.monitoring.foreign import START_TIME, UP
from pocket_agent.monitoring.promql import constant, elapsed, lowest, quantile, rate, tally, total
from pocket_agent.monitoring.selector import buckets, select
from pocket_agent.observability import catalogue

_MINUTE: Final = 60
_CONNECTIONS: Final = of_server(select(catalogue.CONNECTIONS_ACTIVE))
# Raw, since what is recorded has no exemplars.
_SLOWEST: Final = quantile(
    0.95, total(rate(of_server(buckets(catalogue.EXECUTION_DURATION)), recording.CALM), "status")
).at_least(0)


def overview(settings: Settings) -> Page:
    """The dashboard, with the marks where alerts of these settings begin."""
    return Page(
        OVERVIEW,
        "Pocket Agent Server",
        "Clients, executions and errors of one server, how it is now, and what it uses.",
        "6h",
        (*server_choices(), machine_choice()),
        (
            Section(None, _first(settings)),
            Section("Now", (Line(4, (*_states(), *_work(settings))),)),
            *system_sections(settings),
        ),
    )


def _first(settings: Settings) -> tuple[Line, ...]:
    """The panels of the guide."""
    connections = graph(
        "Active Connections",
        "Clients that are connected now. The dashed line is where TooManyConnections begins.",
        Query(_CONNECTIONS, "Active"),
        unit=units.Short,
        mark=settings.alerts.limit_ratio * settings.limits.max_connections,
        alerts=("TooManyConnections",),
        details=INTERNALS,
    )
    executions = graph(
        "Execution Rate",
        "Executions that ended, and requests for one that were refused, in a minute; the mean of the last 5 minutes.",
        Query(recorded(recording.EXECUTIONS_BY_STATUS) * _MINUTE, "{{status}}"),
        unit=units.OpsPerMinute,
        stacked=True,
        colours=STATUSES,
        alerts=("ExecutionsFailing", "NoExecutionsRecently"),
        details=USAGE,
    )
    durations = graph(
        "Execution Duration (95th percentile)",
        "95 of 100 executions of the last 30 minutes took no longer, waiting for approvals included. "
        "The dashed line is where SlowExecutions begins. A diamond is one execution; it leads to its trace.",
        Query(_SLOWEST, "p95", exemplars=True),
        unit=units.Seconds,
        mark=settings.alerts.slow_execution,
        nothing=NO_EXECUTION,
        alerts=("SlowExecutions",),
        details=USAGE,
    )
    errors = graph(
        "Error Rate",
        "Errors in a second by their code in the protocol, mistakes of clients included; the mean of the last "
        "5 minutes. Only codes that occur are shown.",
        Query(recorded(recording.ERRORS), "all"),
        Query(recorded(recording.ERRORS_BY_CODE).above(0), "{{code}}"),
        unit=units.EventsPerSecond,
        dashed=("all",),
        alerts=("HighErrorRate",),
        details=INTERNALS,
    )
    return (Line(8, (connections, executions)), Line(8, (durations, errors)))


def _states() -> tuple[Panel, ...]:
    """Whether it runs, and what."""
    return (
        figure(
            "Server",
            "Whether Prometheus gets the server's metrics.",
            Query(of_server(select(UP)), "up"),
            unit=units.NoUnit,
            states=UP_OR_DOWN,
            alerts=("ServiceDown",),
            details=RELIABILITY,
        ),
        figure(
            "Health",
            "The server's own checks, all of them; /health tells which one fails, and why.",
            Query(lowest(of_server(select(catalogue.HEALTH_CHECK_UP)), "check"), "checks"),
            unit=units.NoUnit,
            states=PASSED_OR_FAILED,
            alerts=("HealthCheckFailing",),
            details=RELIABILITY,
        ),
        figure(
            "Alerts",
            "Alerts that fire now, of all servers and of the monitoring itself.",
            Query(tally(FIRING).otherwise(constant(0)), "firing"),
            unit=units.Short,
            steps=((None, "green"), (1, "red")),
            details=RELIABILITY,
        ),
        figure(
            "Uptime",
            "Time since the server was started.",
            Query(elapsed(of_server(select(START_TIME))), "uptime"),
            unit=units.DurationSeconds,
            decimals=0,
            alerts=("PocketAgentFlapping",),
        ),
        figure(
            "Version",
            "What is running.",
            Query(total(of_server(select(catalogue.BUILD_INFO)), "revision", "python_version"), "{{version}}"),
            unit=units.NoUnit,
            by_name=True,
        ),
    )


def _work(settings: Settings) -> tuple[Panel, ...]:
    """What it does."""
    budget = settings.limits.cost_usd_per_day
    spent = of_server(select(catalogue.LIMIT_USAGE, limit="cost_usd_per_day"))
    return (
        figure(
            "Running",
            "Executions that run now.",
            Query(of_server(select(catalogue.EXECUTIONS_ACTIVE)), "running"),
            unit=units.Short,
            details=USAGE,
        ),
        figure(
            "Waiting",
            "Prompts that wait for their turn, of all projects.",
            Query(of_server(select(catalogue.EXECUTION_QUEUE_DEPTH)), "waiting"),
            unit=units.Short,
            alerts=("LimitNearlyReached",),
            details=USAGE,
        ),
        figure(
            "Spent today",
            "What the executions of today cost (local time of the server), as the CLI reckons.",
            Query(total(spent, "limit"), "spent"),
            unit=units.Dollars,
            steps=_spending(budget, settings.alerts.limit_ratio),
            decimals=2,
            alerts=("ClaudeCostBudget",),
            details=USAGE,
        ),
    )


def _spending(budget: float, share: float) -> tuple[tuple[float | None, str], ...]:
    """Colours of the day's cost; without a budget it is never too much."""
    return ((None, "green"), (share * budget, "orange"), (budget, "red")) if budget else ((None, "green"),)
