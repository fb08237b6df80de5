"""Rule tests as values: what is scraped, when somebody looks, and what must fire then."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.period import Period, minutes
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.ruletest.course import EARLY, Course
from pocket_agent.monitoring.vector import QueryError
from pocket_agent.observability.catalogue import Metric

ONE: Final[Mapping[str, str]] = {
    "job": "pocket-agent",
    "instance": "one.example:9090",
    "service": "pocket-agent-server",
    "environment": "production",
}
"""The labels of a server's target, as a scrape adds them."""
TWO: Final[Mapping[str, str]] = {**ONE, "instance": "two.example:9090"}
MOST_EVALUATIONS: Final = 30
"""Evaluations while a condition must hold: more would make the tests slow where it must hold for days."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a scrape; `name` with its suffix."""

    name: str
    labels: Mapping[str, str]
    course: Course

    def render(self, last: int) -> dict[str, str]:
        """The series for promtool, up to a tick."""
        labels = ", ".join(f'{label}="{value}"' for label, value in self.labels.items())
        return {"series": f"{self.name}{{{labels}}}", "values": self.course.notation(last)}


def series(
    metric: Metric, course: Course, /, *, server: Mapping[str, str] = ONE, suffix: str = "", **labels: str
) -> Series:
    """A series of the catalogue.

    Args:
        metric: what it is of.
        course: what it holds.
        server: the labels of its target.
        suffix: such as `_bucket`, for a part of a histogram.
        labels: its own.

    Raises:
        QueryError: the metric has other labels.
    """
    known = set(metric.labels) - {"job"} | ({"le"} if suffix == "_bucket" else set())
    if set(labels) != known:
        raise QueryError(f"{metric.name} has the labels {sorted(known)}, not {sorted(labels)}")
    return Series(metric.name + suffix, {**labels, **server}, course)


@dataclass(frozen=True, slots=True)
class Fired:
    """An alert that fires.

    Attributes:
        description: as it reads then.
        labels: what tells it apart, beside those of the alert itself.
        of: which alert, where several have the same name.
    """

    description: str
    labels: Mapping[str, str]
    of: Alert | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What fires at a tick; nothing else may."""

    tick: int
    fired: tuple[Fired, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A course of events, and looks at it."""

    title: str
    series: tuple[Series, ...]
    looks: tuple[Look, ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast time goes in the tests of an alert. All figures but `tick` are numbers of ticks.

    Attributes:
        tick: time between two samples.
        step: time between two evaluations.
        hold: how long the alert's condition must hold.
    """

    tick: Period
    step: int
    hold: Period

    def first(self, tick: int) -> int:
        """The first evaluation at a tick or after it."""
        return -(-tick // self.step) * self.step

    @property
    def due(self) -> int:
        """From the first evaluation that finds the condition true to the one at which the alert fires."""
        evaluations = -(-self.hold.milliseconds // (self.step * self.tick.milliseconds))
        return evaluations * self.step


def pace_of(alert: Alert, settings: Settings, *, tick: Period | None = None, step: int | None = None) -> Pace:
    """The pace for an alert: an evaluation a tick, or fewer where it must hold for long.

    Args:
        alert: the alert.
        settings: scale how long it must hold.
        tick: time between two samples; a minute unless given.
        step: ticks between two evaluations, where it is given.
    """
    chosen, hold = tick or minutes(1), alert.hold.scaled(settings.alerts.for_scale)
    ticks = -(-hold.milliseconds // chosen.milliseconds)
    return Pace(chosen, step or max(1, -(-ticks // MOST_EVALUATIONS)), hold)


Story = Callable[[Alert, Settings, Pace], Iterator[Case]]
"""The cases of an alert."""


def pinned(
    title: str, scraped: Sequence[Series], since: int, pace: Pace, *fired: Callable[[int], Fired], later: int = 0
) -> Case:
    """A condition that holds from an evaluation on: one evaluation before the alert is due, and when it is due.

    Args:
        title: what happens.
        scraped: the series.
        since: the first evaluation at which the condition holds; a multiple of the pace's step.
        pace: the pace.
        fired: what fires, by the tick at which it is looked at.
        later: also look so many ticks later.
    """
    due = since + pace.due
    looks = [Look(due, tuple(each(due) for each in fired))]
    if due >= pace.step:
        looks.insert(0, Look(due - pace.step))
    if later:
        last = due + pace.first(later)
        looks.append(Look(last, tuple(each(last) for each in fired)))
    return Case(title, tuple(scraped), tuple(looks))


def firing(title: str, scraped: Sequence[Series], ticks: Sequence[int], *fired: Callable[[int], Fired]) -> Case:
    """What fires at some evaluations, all of them after the alert was due."""
    return Case(title, tuple(scraped), tuple(Look(tick, tuple(each(tick) for each in fired)) for tick in ticks))


def silent(title: str, scraped: Sequence[Series], *ticks: int) -> Case:
    """A course of events at which nothing fires, whenever somebody looks."""
    return Case(title, tuple(scraped), tuple(Look(tick) for tick in sorted(set(ticks))))


def render_case(case: Case, alert: Alert, pace: Pace, runbooks: str) -> dict[str, Any]:
    """A case for promtool."""
    last = max(look.tick for look in case.looks)
    return {
        "name": f"{alert.name}: {case.title}",
        "interval": str(pace.tick - EARLY),
        "input_series": [each.render(last) for each in case.series],
        "alert_rule_test": [
            {
                "eval_time": str(Period(look.tick * pace.tick.milliseconds)),
                "alertname": alert.name,
                "exp_alerts": [_expected(fired, fired.of or alert, runbooks) for fired in look.fired],
            }
            for look in case.looks
        ],
    }


def _expected(fired: Fired, alert: Alert, runbooks: str) -> dict[str, Any]:
    return {
        "exp_labels": {**fired.labels, **alert.labels},
        "exp_annotations": {
            "summary": alert.summary,
            "description": fired.description,
            "runbook_url": f"{runbooks}/{alert.name}",
        },
    }
