"""When error budgets burn too fast, and when they do not: by what was recorded, and from the counters on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.objective import (
    BURNS,
    LATENCY_SECONDS,
    LEAST_EVENTS,
    OBJECTIVES,
    Burn,
    Objective,
    event_count,
    failure_ratio,
)
from pocket_agent.monitoring.rule import Alert, Recording
from pocket_agent.monitoring.ruletest.case import ONE, TWO, Case, Fired, Look, Pace, Series, pinned, series, silent
from pocket_agent.monitoring.ruletest.course import Course, always
from pocket_agent.monitoring.ruletest.histogram import histogram
from pocket_agent.monitoring.ruletest.wording import humanize_percentage
from pocket_agent.monitoring.vector import number
from pocket_agent.observability import catalogue

_BEGIN: Final = 2
_FULL: Final = 7
"""When the shortest window is full of samples; the longer ones are as good with what there is."""
_USED: Final = 1_000_000.0
"""What counters begin with: so much that they seem to be older than any window (`extrapolatedRate`)."""
_MORE: Final = 1.01


def told(objective: Objective, alert: Alert, settings: Settings, share: float) -> Fired:
    """The alert as it reads for a share of bad events."""
    allowed = f"{objective.budget(settings) * 100:g} % are allowed."
    text = f"{humanize_percentage(share)} of the {objective.bad} at {ONE['instance']}; over 30 days {allowed}"
    return Fired(text, ONE, alert)


class _Windows:
    """The recorded figures for the two windows of a burn rate.

    Args:
        objective: whose.
        burn: the rate.
        settings: tell the budget.

    Attributes:
        most: the share of bad events beyond which the budget burns too fast, as it stands in the rule.
        more: a little more.
    """

    def __init__(self, objective: Objective, burn: Burn, settings: Settings) -> None:
        self._objective = objective
        self._burn = burn
        self.most = float(number(burn.rate * objective.budget(settings)))
        self.more = min(self.most * _MORE, (1 + self.most) / 2)

    def series(
        self, long: Course, short: Course, events: float | None = 1000, server: Mapping[str, str] = ONE
    ) -> list[Series]:
        """Shares of bad events over the long and the short window, and how many events the long one holds."""
        objective, burn = self._objective, self._burn
        found = [
            _recorded(failure_ratio(objective, burn.long), long, server),
            _recorded(failure_ratio(objective, burn.short), short, server),
        ]
        if events is not None:
            found.append(_recorded(event_count(objective, burn.long), always(events), server))
        return found


def _recorded(recording: Recording, course: Course, server: Mapping[str, str]) -> Series:
    return Series(recording.name, {**recording.constants, **server}, course)


def recorded_cases(objective: Objective, alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """The cases of one alert, by what the rules before it would have recorded."""
    for burn in BURNS[alert.severity]:
        for case in _burn_cases(objective, burn, alert, settings, pace):
            title = f"{objective.name}, {alert.severity}, {burn.rate:g} times over {burn.long}: {case.title}"
            yield Case(title, case.series, case.looks)


def _burn_cases(objective: Objective, burn: Burn, alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    windows = _Windows(objective, burn, settings)
    begin = pace.first(_BEGIN)
    due, end = begin + pace.due, begin + pace.due + pace.step
    just, enough = always(windows.more), always(windows.most)
    late = always(0).then(begin, windows.more)

    def fired(_: int) -> Fired:
        return told(objective, alert, settings, windows.more)

    yield pinned("just too much", windows.series(late, late), begin, pace, fired, later=pace.step)
    yield pinned("just enough events", windows.series(late, late, LEAST_EVENTS), begin, pace, fired)
    two = [*windows.series(late, late), *windows.series(enough, enough, server=TWO)]
    yield pinned("at one of two", two, begin, pace, fired)
    yield silent("just not too much", windows.series(enough, enough), begin, end)
    yield silent("just too much for a short time only", windows.series(enough, just), begin, end)
    yield silent("just too much until lately", windows.series(just, enough), begin, end)
    yield silent("nothing happens any more", windows.series(just, just.gone(1)), begin, due, end)
    yield silent("just too few events", windows.series(just, just, LEAST_EVENTS - 1), begin, end)
    yield silent("nobody counts the events", windows.series(just, just, None), begin, end)
    if pace.due > pace.step:
        short = late.then(begin + pace.due - pace.step, 0)
        yield silent("too short", windows.series(late, short), begin, due, end)


Events = Callable[[Course, Course, Mapping[str, str]], list[Series]]
"""The counters behind an objective, out of its good and its bad events, for a server."""


def _requests(good: Course, bad: Course, server: Mapping[str, str] = ONE) -> list[Series]:
    outcomes = {"ok": good, "client_error": always(_USED), "server_error": bad}
    return [
        series(catalogue.REQUESTS_TOTAL, outcomes[outcome] if kind == "execute" else always(0), server=server,
               type=kind, outcome=outcome)
        for kind, outcome in catalogue.REQUESTS_TOTAL.combinations
    ]  # fmt: skip


def _latencies(good: Course, bad: Course, server: Mapping[str, str] = ONE) -> list[Series]:
    # The best of the bad ones, and the worst of the good ones.
    next_bound = next(bound for bound in catalogue.REQUEST_DURATION.buckets if bound > LATENCY_SECONDS)
    return histogram(
        catalogue.REQUEST_DURATION, {LATENCY_SECONDS: good, next_bound: bad}, server=server, type="execute"
    )


def _executions(good: Course, bad: Course, server: Mapping[str, str] = ONE) -> list[Series]:
    courses = {"success": good, "error": bad, "killed": _growing(9), "rejected": _growing(9)}
    return [
        series(catalogue.EXECUTIONS_TOTAL, courses.get(status, always(_USED)), server=server, status=status)
        for status in catalogue.EXECUTIONS_TOTAL.labels["status"]
    ]


EVENTS: Final[Mapping[str, Events]] = {
    "requests-availability": _requests,
    "requests-latency": _latencies,
    "executions-success": _executions,
}


def _growing(step: float, since: int = 1) -> Course:
    return always(_USED).growing(since, step)


def counted_cases(settings: Settings, alerts: Sequence[tuple[Alert, Pace]]) -> Iterator[Case]:
    """Cases from the counters on, through the rules that record.

    Args:
        settings: tell the budgets.
        alerts: those of all objectives, in their order, the critical one of each before its warning.
    """
    for number_of, objective in enumerate(OBJECTIVES):
        (critical, fast), (warning, slow) = alerts[2 * number_of : 2 * number_of + 2]
        for case in _counted(objective, settings, critical, fast, warning, slow):
            yield Case(f"{objective.name}, counted: {case.title}", case.series, case.looks)


def _counted(
    objective: Objective, settings: Settings, critical: Alert, fast: Pace, warning: Alert, slow: Pace
) -> Iterator[Case]:
    events = EVENTS[objective.name]
    begin = fast.first(_FULL)
    end = begin + slow.due + slow.step

    def fired(share: float, *alerts: Alert) -> tuple[Fired, ...]:
        return tuple(told(objective, alert, settings, share) for alert in alerts)

    none, flood = always(_USED), _growing(100, begin)
    first, second = begin + fast.due, begin + slow.due
    looks = [Look(second, fired(1, critical, warning))]
    if first < second:
        looks.insert(0, Look(first, fired(1, critical)))
    if first >= fast.step:
        looks.insert(0, Look(first - fast.step))
    yield Case("all are bad", tuple(events(none, flood, ONE)), tuple(looks))
    other = events(_growing(10_000), none, TWO)
    yield Case("all of one of two are bad", (*events(none, flood, ONE), *other), tuple(looks))
    # A restart costs a tick of growth, and no more.
    restarted = none.then(second, 0), flood.then(second, 0).growing(second + 1, 100)
    after = fast.first(second + 3)
    yield Case("a restart in between", tuple(events(*restarted, ONE)), (Look(after, fired(1, critical, warning)),))

    budget = objective.budget(settings)
    creeping = events(_growing(1000 * (1 - 2 * budget)), _growing(2000 * budget), ONE)
    yield Case("twice as many as allowed", tuple(creeping), (Look(end, fired(2 * budget, warning)),))
    if slow.due <= 30:
        bad, good = _growing(100, begin).then(begin + 10, _USED + 1000), _growing(1, begin + 10)
        looked = slow.first(begin + 10 + 32)
        share = 1000 / (1000 + looked - begin - 9)
        yield Case("it is over", tuple(events(good, bad, ONE)), (Look(looked, fired(share, warning)),))

    yield silent("half of what is allowed", events(_growing(1000), _growing(500 * budget), ONE), begin, end)
    yield silent("all are good", events(flood, none, ONE), begin, end)
    yield silent("few and bad", events(none, always(_USED).then(begin, _USED + LEAST_EVENTS - 2), ONE), begin, end)
    yield silent("none", events(none, none, ONE), 0, begin, end)
    reset = always(_USED).then(begin, 0)
    yield silent("a restart", events(_growing(10).then(begin, 0).growing(begin + 1, 10), reset, ONE), begin, end)
    yield silent("no such figures", [], begin, end)
