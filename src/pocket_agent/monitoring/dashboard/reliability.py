"""The dashboard of promises and dangers: alerts, health, objectives, limits."""

from typing import Final

from grafana_foundation_sdk.models import units

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring import recording
from pocket_agent.monitoring.dashboard.choice import (
    NOTHING,
    OWN_ALERTS,
    of_server,
    recorded,
    seen_outside,
    server_choices,
)
from pocket_agent.monitoring.dashboard.drawing import Step
from pocket_agent.monitoring.dashboard.graph import counts, graph
from pocket_agent.monitoring.dashboard.page import RELIABILITY, Page
from pocket_agent.monitoring.dashboard.panel import Line, Panel, Section
from pocket_agent.monitoring.dashboard.query import Present, Query
from pocket_agent.monitoring.dashboard.shape import (
    PASSED_OR_FAILED,
    UP_OR_DOWN,
    figure,
    gauges,
    listing,
    timeline,
)
from pocket_agent.monitoring.foreign import ALERTS, HTTP_PROBE_JOB, PROBE_JOB, PROBE_SUCCESS, UP
from pocket_agent.monitoring.objective import BURNS, MONTH, OBJECTIVES, Burn, Objective, event_count, failure_ratio
from pocket_agent.monitoring.period import Period
from pocket_agent.monitoring.promql import complement, highest_by, remaining, total
from pocket_agent.monitoring.rulefile import runbook_address
from pocket_agent.monitoring.selector import picked, select
from pocket_agent.monitoring.vector import Vector
from pocket_agent.observability import catalogue

_FIRING: Final = picked(OWN_ALERTS, ALERTS, alertstate="firing")
_BURNING: Final = ("ErrorBudgetBurn",)
_LEFT: Final[tuple[Step, ...]] = ((None, "red"), (0, "orange"), (0.25, "green"))


def reliability(settings: Settings) -> Page:
    """The dashboard, with the objectives and the marks where alerts of these settings begin."""
    return Page(
        RELIABILITY,
        "Pocket Agent Reliability",
        "Whether one server keeps what it promises: alerts, health checks, objectives over 30 days, limits.",
        "24h",
        server_choices(),
        (
            Section("Alerts and health", (_alerts(settings), _health())),
            Section("Objectives over 30 days", (_kept(settings), _burnt(settings), _left_over_time(settings))),
            Section("Limits", (_limits(settings), _dangers(settings))),
        ),
    )


def _failures(objective: Objective, window: Period) -> Vector:
    """The share of bad events; none when there were no events."""
    return total(of_server(failure_ratio(objective, window).series), "slo").otherwise(NOTHING)


def _left(objective: Objective, settings: Settings) -> Vector:
    return complement(_failures(objective, MONTH) / objective.budget(settings))


def _kept(settings: Settings) -> Line:
    panels: list[Panel] = []
    for objective in OBJECTIVES:
        target = objective.target(settings)
        panels += (
            figure(
                f"{objective.name}: achieved",
                f"How much went well within 30 days; {target * 100:g} % are promised. What counts against it: "
                f"{objective.bad}.",
                Query(complement(_failures(objective, MONTH)), "achieved"),
                unit=units.PercentUnit,
                steps=((None, "red"), (target, "green")),
                decimals=2,
                alerts=_BURNING,
            ),
            figure(
                f"{objective.name}: budget left",
                f"What is left of the {objective.budget(settings) * 100:g} % that may go wrong within 30 days; below 0 "
                "the objective is missed.",
                Query(_left(objective, settings), "left"),
                unit=units.PercentUnit,
                steps=_LEFT,
                decimals=0,
                alerts=_BURNING,
            ),
        )
    return Line(4, tuple(panels))


def _burnt(settings: Settings) -> Line:
    """A panel for each pace that an alert watches."""
    burns = [(severity, burn) for severity, pair in BURNS.items() for burn in pair]
    return Line(8, tuple(_pace(settings, severity, burn) for severity, burn in burns))


def _pace(settings: Settings, severity: str, burn: Burn) -> Panel:
    queries = [
        Query(_failures(objective, burn.long) / objective.budget(settings), objective.name) for objective in OBJECTIVES
    ]
    return graph(
        f"Burn rate over {burn.long}",
        f"How fast the error budgets are used: 1 uses one up in just 30 days. Above the dashed line ({burn.rate:g}), "
        f"and above it over {burn.short} too, ErrorBudgetBurn is {severity}.",
        *queries,
        unit=units.Short,
        mark=burn.rate,
        alerts=_BURNING,
    )


def _left_over_time(settings: Settings) -> Line:
    left = graph(
        "Error budget left",
        "What is left of each error budget of 30 days; below 0 the objective is missed.",
        *(Query(_left(objective, settings), objective.name) for objective in OBJECTIVES),
        unit=units.PercentUnit,
        lowest=None,
        highest=1,
        alerts=_BURNING,
    )
    events = counts(
        "Events within 30 days",
        "How many requests and executions the objectives are reckoned from.",
        *(
            Query(total(of_server(event_count(objective, MONTH).series), "slo").otherwise(NOTHING), objective.name)
            for objective in OBJECTIVES
        ),
    )
    return Line(7, (left, events))


def _alerts(settings: Settings) -> Line:
    listed = listing(
        "Alerts now",
        "Alerts that fire, and those whose time has not come yet, of all servers and of the monitoring itself. "
        "Watchdog always fires: without it, alerting is broken.",
        Present(OWN_ALERTS),
        columns={"alertname": "Alert", "severity": "Severity", "alertstate": "State", "instance": "Server"},
        hidden=("job", "service", "environment"),
        colours={
            "Severity": {
                "critical": ("critical", "red"),
                "warning": ("warning", "orange"),
                "info": ("info", "blue"),
                "none": ("none", "text"),
            },
            "State": {"firing": ("firing", "red"), "pending": ("pending", "yellow")},
        },
        links={"Alert": ("Runbook", f"{runbook_address(settings)}/${{__value.text}}")},
        nothing="No alerts, not even Watchdog: Prometheus has no rules",
    )
    course = timeline(
        "Alerts over time",
        "When which alert fired. Watchdog always does.",
        Query(highest_by(_FIRING, "alertname"), "{{alertname}} {{instance}}"),
        states={1: ("firing", "red")},
        nothing="No alerts, not even Watchdog: Prometheus has no rules",
    )
    return Line(9, (listed, course))


def _health() -> Line:
    checks = timeline(
        "Health checks",
        "The server's own checks; /health tells why one fails.",
        Query(of_server(select(catalogue.HEALTH_CHECK_UP)), "{{check}}"),
        states=PASSED_OR_FAILED,
        alerts=("HealthCheckFailing",),
    )
    reached = timeline(
        "Reached from outside",
        "Whether Prometheus gets the server's metrics, and whether the blackbox exporter gets through to it: a "
        "WebSocket upgrade as clients ask for it, and /livez.",
        Query(of_server(select(UP)), "metrics"),
        Query(seen_outside(select(PROBE_SUCCESS), PROBE_JOB), "WebSocket"),
        Query(seen_outside(select(PROBE_SUCCESS), HTTP_PROBE_JOB), "HTTP"),
        states=UP_OR_DOWN,
        alerts=("ServiceDown", "PocketAgentFlapping", "WebSocketProbeFailed"),
    )
    return Line(8, (checks, reached))


def _limits(settings: Settings) -> Line:
    most = settings.alerts.limit_ratio
    used = gauges(
        "Used of each limit",
        "How much of what is limited is used now. What has no limit is not shown.",
        Query(recorded(recording.LIMIT_RATIO), "{{limit}}"),
        steps=((None, "green"), (most, "orange"), (1, "red")),
        alerts=("LimitNearlyReached", "TooManyConnections", "HighMemoryUsage", "ClaudeCostBudget"),
    )
    course = graph(
        "Used of each limit over time",
        "The same over time. The dashed line is where LimitNearlyReached begins.",
        Query(recorded(recording.LIMIT_RATIO), "{{limit}}"),
        unit=units.PercentUnit,
        mark=most,
        alerts=("LimitNearlyReached",),
    )
    return Line(8, (used, course), (8, 16))


def _dangers(settings: Settings) -> Line:
    refused = counts(
        "Connections refused per hour",
        "Clients that were not let in within the hour before: without a right token, from a wrong origin, because of "
        "the limit, or while the server stopped.",
        Query(recorded(recording.CONNECTIONS_REFUSED), "{{reason}}"),
        stacked=True,
        alerts=("ConnectionsRejected",),
    )
    disk = graph(
        "Free disk space",
        "Free space where the server's data is. The dashed line is where DiskSpaceLow begins.",
        Query(of_server(select(catalogue.STORAGE_FREE)), "free"),
        unit=units.BytesIEC,
        mark=settings.alerts.disk_free,
        alerts=("DiskSpaceLow", "DiskWillFillIn24h"),
    )
    days = settings.alerts.certificate
    certificate = figure(
        "Certificate ends in",
        "How long the TLS certificate in use is valid.",
        Query(remaining(of_server(select(catalogue.TLS_NOT_AFTER)).above(0)), "left"),
        unit=units.DurationSeconds,
        steps=((None, "red"), (0, "orange"), (days, "green")),
        decimals=0,
        nothing="No TLS",
        alerts=("TLSCertificateExpiring",),
    )
    return Line(7, (refused, disk, certificate))
