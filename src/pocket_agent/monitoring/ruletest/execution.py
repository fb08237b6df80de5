"""When the alerts of the agents' work fire, and when they do not."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial, reduce
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.foreign import START_TIME, UP
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.ruletest.case import ONE, TWO, Case, Fired, Pace, Series, firing, pinned, series, silent
from pocket_agent.monitoring.ruletest.course import Course, always, increase
from pocket_agent.monitoring.ruletest.histogram import buckets_around, histogram
from pocket_agent.monitoring.ruletest.wording import humanize_duration, humanize_percentage
from pocket_agent.observability import catalogue

_BEGIN: Final = 32
_CALM: Final = 30
_HOUR: Final = 60
"""The windows of the rules, in ticks."""
_USED: Final = 1000.0
_MORE: Final = 1.01
_LESS: Final = 0.99
_STATUSES: Final = catalogue.EXECUTIONS_TOTAL.labels["status"]


def _ended(courses: Mapping[str, Course], server: Mapping[str, str] = ONE) -> list[Series]:
    """Executions by their status; the others do not happen."""
    return [
        series(catalogue.EXECUTIONS_TOTAL, courses.get(status, always(_USED)), server=server, status=status)
        for status in _STATUSES
    ]


def _growing(step: float, since: int = 1) -> Course:
    return always(_USED).growing(since, step)


def executions_failing(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """ExecutionsFailing."""
    most = settings.alerts.failed_ratio
    begin = pace.first(_BEGIN)
    end = pace.first(begin + pace.due + _CALM)

    def told(failed: Sequence[Course], succeeded: Sequence[Course], tick: int) -> Fired:
        failures = increase(failed, tick, _CALM)
        ratio = humanize_percentage(failures / (failures + increase(succeeded, tick, _CALM)))
        text = f"{ratio} of the executions of {ONE['instance']} within 30 minutes ended in an error or by the time "
        return Fired(f"{text}limit.", ONE)

    # The third failure comes at `begin`.
    failing = _growing(1, begin - 2)
    all_fail = partial(told, [failing], [])
    yield pinned("all fail", _ended({"error": failing}), begin, pace, all_fail, later=pace.step)
    yield pinned("all reach the time limit", _ended({"timeout": failing}), begin, pace, all_fail)
    yield pinned(
        "all of one of two", [*_ended({"error": failing}), *_ended({"success": failing}, TWO)], begin, pace, all_fail
    )
    ratio = min(most * _MORE, (1 + most) / 2)
    mixed = {"error": _growing(0.5), "timeout": _growing(0.5), "success": _growing(1 / ratio - 1)}
    share = partial(told, [mixed["error"], mixed["timeout"]], [mixed["success"]])
    yield firing("just too many fail", _ended(mixed), [end], share)
    restarted = {"error": _growing(1).then(end, 0).growing(end + 1, 1)}
    ticks = [pace.first(end + 5), pace.first(end + 20)]
    yield firing("a restart in between", _ended(restarted), ticks, partial(told, [restarted["error"]], []))

    few = _ended({"error": _growing(1), "success": _growing(1 / (most * _LESS) - 1)})
    yield silent("just not too many fail", few, begin, end)
    two = _growing(1, begin - 1).then(begin + 1, _USED + 2)
    yield silent("only two fail", _ended({"error": two}), begin, begin + pace.due)
    yield silent(
        "two of each of two fail", [*_ended({"error": two}), *_ended({"error": two}, TWO)], begin, begin + pace.due
    )
    yield silent(
        "people end them, or they are refused", _ended({"killed": _growing(2), "rejected": _growing(2)}), begin, end
    )
    yield silent("all succeed", _ended({"success": _growing(2)}), begin, end)
    yield silent("nothing is executed", _ended({}), 0, begin, end)
    reset = always(_USED).then(begin, 0)
    yield silent("a restart", _ended({"error": reset, "timeout": reset, "success": reset}), begin, begin + 1, end)
    yield silent("no such figures", [series(UP, always(1))], begin, end)


def slow_executions(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """SlowExecutions."""
    most, metric = settings.alerts.slow_execution, catalogue.EXECUTION_DURATION
    begin = pace.first(_BEGIN)
    end = pace.first(begin + pace.due + _CALM)
    longest = metric.buckets[-1]

    def told(seconds: float, _: int) -> Fired:
        text = f"The slowest 5 % of the executions of {ONE['instance']} take {humanize_duration(seconds)} or more."
        return Fired(text, ONE)

    def ended(counts: Mapping[float, Course], status: str = "success", server: Mapping[str, str] = ONE) -> list[Series]:
        return histogram(metric, counts, server=server, status=status)

    # The second comes at `begin`. What is longer than all bounds shows as the last of them.
    slow = {float("inf"): _growing(1, begin - 1)}
    fast = {metric.buckets[0]: _growing(50)}
    beyond = partial(told, longest)
    yield pinned("each takes very long", ended(slow), begin, pace, beyond, later=pace.step)
    each = [*ended(slow), *ended(fast, server=TWO)]
    yield pinned("each of one of two takes very long", each, begin, pace, beyond)
    parts = [*ended({float("inf"): _growing(1, begin)}), *ended({float("inf"): _growing(1, begin)}, "timeout")]
    yield pinned("a success and a timeout", parts, begin, pace, beyond)
    seldom = reduce(lambda course, number: course.then(1 + 12 * number, _USED + number + 1),
                    range(end // 12 + 1), always(_USED))  # fmt: skip
    yield firing("one every 12 minutes takes very long", ended({float("inf"): seldom}), [end], beyond)
    # Half seconds, which no rounding makes another second of.
    wanted = most * _MORE if most < 60 else int(most * _MORE) + 0.5
    if wanted < longest:
        at, shares = buckets_around(metric, 0.95, wanted)
        yield firing("just too slow", ended(_growing_by(shares)), [end], partial(told, at))
    at, shares = buckets_around(metric, 0.95, most * _LESS)
    if at < most:
        yield silent("just not too slow", ended(_growing_by(shares)), begin, end)
    single = {float("inf"): always(_USED).then(begin, _USED + 1)}
    yield silent("a single one takes very long", ended(single), begin, begin + pace.due, end)
    yield silent("a single one of each of two", [*ended(single), *ended(single, server=TWO)], begin, begin + pace.due)
    yield silent("one of many takes very long", [*ended(fast), *ended(single, "timeout")], begin, begin + pace.due, end)
    yield silent("nothing is executed", ended({}), 0, begin, end)
    reset = {float("inf"): always(_USED).then(begin, 0)}
    yield silent("a restart", ended(reset), begin, begin + 1, end)
    yield silent("no such figures", [series(UP, always(1))], begin, end)


def _growing_by(steps: Mapping[float, float]) -> Mapping[float, Course]:
    return {bound: _growing(step) for bound, step in steps.items()}


def no_executions(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """NoExecutionsRecently."""
    # At `begin` the server is a second older than an hour.
    begin = pace.first(_HOUR + 5)
    born = begin * pace.tick.seconds - 3601
    end = pace.first(begin + pace.due + _HOUR)

    def fired(_: int) -> Fired:
        text = f"Clients are connected to {ONE['instance']}, but no execution has run for an hour (0 ended)."
        return Fired(text, ONE)

    def server(
        clients: float | Course = 1,
        started: float | Course = born,
        running: float = 0,
        ended: Mapping[str, Course] | None = None,
        target: Mapping[str, str] = ONE,
    ) -> list[Series]:
        return [
            series(catalogue.CONNECTIONS_ACTIVE, _course(clients), server=target),
            series(catalogue.EXECUTIONS_ACTIVE, always(running), server=target),
            series(START_TIME, _course(started), server=target),
            *_ended(ended or {}, target),
        ]

    yield pinned("an hour without any", server(), begin, pace, fired, later=pace.first(_HOUR))
    refused = server(ended={"rejected": _growing(1)})
    yield pinned("all that clients ask for is refused", refused, begin, pace, fired)
    # The last one is out of the window at `begin`.
    last = server(ended={"success": _growing(1).then(begin - _HOUR + 1, 2 * _USED)}, started=0)
    yield pinned("an hour after the last one", last, begin, pace, fired)
    busy = server(target=TWO, ended={"success": _growing(1)})
    yield pinned("the other server is busy", [*server(), *busy], begin, pace, fired)

    late = begin + pace.due
    some = _growing(0.1)
    yield silent(
        "errors do not change while others succeed",
        server(ended={"error": always(7), "success": some}),
        begin,
        late,
        end,
    )
    for status in ("success", "error", "timeout", "killed"):
        yield silent(f"one ended: {status}", server(ended={status: always(0).then(begin - 5, 1)}), begin, begin + 50)
    yield silent("one runs", server(running=1), begin, late, end)
    yield silent("no client is connected", server(clients=0), begin, late, end)
    away = always(1).then(begin - 20, 0).then(begin - 15, 1)
    yield silent("no client was connected for a while", server(clients=away), begin, begin + 40)
    again = always(0).then(begin - 10, (begin - 10) * pace.tick.seconds)
    reset = always(_USED).then(begin - 10, 0)
    yield silent("the server was restarted", server(started=again, ended={"success": reset}), begin, begin + 45)
    yield silent("no figures of executions", server()[:3], begin, late, end)
    yield silent("no figures of clients", server()[1:], begin, late, end)


def _course(held: float | Course) -> Course:
    return held if isinstance(held, Course) else always(held)
