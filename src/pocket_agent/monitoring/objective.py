"""Service level objectives over 30 days, and alerts of how fast their error budgets burn.

A burn rate of 1 uses the budget up in just 30 days. An alert needs a high rate over a long window, so that it
matters, and over a short one, so that it ends when the trouble does, and enough events to mean anything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.period import Period, days, hours, minutes
from pocket_agent.monitoring.promql import complement, increase, rate, total
from pocket_agent.monitoring.rule import Alert, Recording, Severity
from pocket_agent.monitoring.selector import bucket, count, select
from pocket_agent.monitoring.vector import Vector
from pocket_agent.observability import catalogue

LEAST_EVENTS: Final = 20
LATENCY_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Burn:
    """A pace at which an error budget may not be used.

    Attributes:
        rate: times the pace that uses it up in 30 days.
        long, short: the windows that both must show it.
    """

    rate: float
    long: Period
    short: Period


BURNS: Final[dict[Severity, tuple[Burn, Burn]]] = {
    "critical": (Burn(14.4, hours(1), minutes(5)), Burn(6, hours(6), minutes(30))),
    "warning": (Burn(3, days(1), hours(2)), Burn(1, days(3), hours(6))),
}
HOLDS: Final[dict[Severity, Period]] = {"critical": minutes(2), "warning": minutes(15)}
MONTH: Final = days(30)
FAST: Final = (minutes(5), minutes(30), hours(1), hours(2), hours(6))
SLOW: Final = (days(1), days(3), MONTH)


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of events that must be good.

    Attributes:
        name: also the value of the label `slo`.
        bad: what bad events are, for "5 % of the requests ...".
        target: the share of good events, out of the settings.
        failures: the share of bad events within a window; nothing without events.
        events: how many events there were within a window.
    """

    name: str
    bad: str
    target: Callable[[Settings], float]
    failures: Callable[[Period], Vector]
    events: Callable[[Period], Vector]

    def budget(self, settings: Settings) -> float:
        """The share of bad events that is allowed."""
        return round(1 - self.target(settings), 6)


def _requests(window: Period) -> Vector:
    return total(rate(select(catalogue.REQUESTS_TOTAL), window), "type", "outcome")


def _request_faults(window: Period) -> Vector:
    faults = total(rate(select(catalogue.REQUESTS_TOTAL, outcome="server_error"), window), "type", "outcome")
    return faults / _requests(window).above(0)


def _slow_requests(window: Period) -> Vector:
    fast = total(rate(bucket(catalogue.REQUEST_DURATION, LATENCY_SECONDS), window), "type", "le")
    return complement(fast / total(rate(count(catalogue.REQUEST_DURATION), window), "type").above(0))


# What a person ends, or what was refused, is neither good nor bad.
def _executions(window: Period, *statuses: str) -> Vector:
    return total(rate(select(catalogue.EXECUTIONS_TOTAL, status=statuses), window), "status")


def _failed_executions(window: Period) -> Vector:
    return _executions(window, "error", "timeout") / _executions(window, "success", "error", "timeout").above(0)


def _counted(growth: Callable[[Period], Vector]) -> Callable[[Period], Vector]:
    """How many events make a rate."""
    return lambda window: growth(window) * window.seconds


OBJECTIVES: Final = (
    Objective(
        "requests-availability",
        "requests meet a fault of the server",
        lambda settings: settings.alerts.objectives.availability,
        _request_faults,
        _counted(_requests),
    ),
    Objective(
        "requests-latency",
        "requests take longer than 100 ms",
        lambda settings: settings.alerts.objectives.latency,
        _slow_requests,
        lambda window: total(increase(count(catalogue.REQUEST_DURATION), window), "type"),
    ),
    Objective(
        "executions-success",
        "executions fail",
        lambda settings: settings.alerts.objectives.success,
        _failed_executions,
        _counted(lambda window: _executions(window, "success", "error", "timeout")),
    ),
)


def failure_ratio(objective: Objective, window: Period) -> Recording:
    """The recorded share of bad events."""
    return Recording(
        "pocket_agent_slo_failures", f"ratio_rate{window}", objective.failures(window), {"slo": objective.name}
    )


def event_count(objective: Objective, window: Period) -> Recording:
    """The recorded number of events."""
    return Recording("pocket_agent_slo_events", f"increase{window}", objective.events(window), {"slo": objective.name})


def recordings(windows: tuple[Period, ...]) -> Iterator[Recording]:
    """What the alerts of all objectives, and dashboards, need for some windows."""
    guarded = {burn.long for burns in BURNS.values() for burn in burns} | {MONTH}
    for objective in OBJECTIVES:
        for window in windows:
            yield failure_ratio(objective, window)
            if window in guarded:
                yield event_count(objective, window)


def burn_alerts(settings: Settings) -> Iterator[Alert]:
    """The alerts of all objectives."""
    for objective in OBJECTIVES:
        for severity, (fast, slow) in BURNS.items():
            budget = objective.budget(settings)
            yield Alert(
                "ErrorBudgetBurn",
                severity,
                HOLDS[severity],
                _burning(objective, fast, budget).otherwise(_burning(objective, slow, budget)),
                summary=f"The error budget of {objective.name} burns",
                description=f"{{{{ $value | humanizePercentage }}}} of the {objective.bad} at "
                f"{{{{ $labels.instance }}}}; over 30 days {budget * 100:g} % are allowed.",
                meaning=f"Too many {objective.bad}: {_told(fast)} the pace that 30 days allow, or {_told(slow)}.",
                constants={"slo": objective.name},
            )


def _told(burn: Burn) -> str:
    return f"{burn.rate:g} times (over {burn.long} and {burn.short})"


def _burning(objective: Objective, burn: Burn, budget: float) -> Vector:
    most = burn.rate * budget
    # The number comes out of rates: it may be a little less than it is.
    enough = event_count(objective, burn.long).series.above(LEAST_EVENTS - 0.5)
    long, short = (failure_ratio(objective, window).series for window in (burn.long, burn.short))
    return long.above(most).where(short.above(most)).where(enough)
