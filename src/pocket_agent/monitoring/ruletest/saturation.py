"""When the alerts of what runs out fire, and when they do not."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial, reduce
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.config.unit import format_duration, format_size
from pocket_agent.monitoring.foreign import MAX_FILES, OPEN_FILES, UP
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.ruletest.case import ONE, TWO, Case, Fired, Pace, Series, firing, pinned, series, silent
from pocket_agent.monitoring.ruletest.course import Course, always, never
from pocket_agent.monitoring.ruletest.histogram import buckets_around, histogram
from pocket_agent.monitoring.ruletest.wording import humanize_binary, humanize_duration, humanize_percentage
from pocket_agent.monitoring.vector import number
from pocket_agent.observability import catalogue

_BEGIN: Final = 8
_SIZE: Final = 1024
"""Of a limit: a power of two, so that a share of it is exact."""
_WINDOW: Final = 5
_MORE: Final = 1.01
_LESS: Final = 0.99


def _limit(name: str, used: Course, most: float = _SIZE, server: Mapping[str, str] = ONE) -> list[Series]:
    return [
        series(catalogue.LIMIT_USAGE, used, server=server, limit=name),
        series(catalogue.LIMIT, always(most), server=server, limit=name),
    ]


def _limit_cases(name: str, ratio: float, text: str, pace: Pace, *beside: Series) -> Iterator[Case]:
    """What goes for every limit.

    Args:
        name: of the limit.
        ratio: which share of it is too much.
        text: the description, with `{share}` and `{instance}`.
        pace: the pace.
        beside: other series that have to be there.
    """
    begin = pace.first(_BEGIN)
    end = begin + pace.due + 5
    # The threshold is rounded in the text of the rule, too.
    most = _SIZE * float(number(ratio))

    def fired(used: float, _: int) -> Fired:
        told = text.format(share=humanize_percentage(used / _SIZE), instance=ONE["instance"])
        return Fired(told, {**ONE, "limit": name})

    full, all_used = always(0).then(begin, _SIZE), partial(fired, _SIZE)
    step_more = most + min(1, (_SIZE - most) / 2)
    yield pinned("it is reached", [*_limit(name, full), *beside], begin, pace, all_used, later=5)
    just = [*_limit(name, always(1).then(begin, step_more)), *beside]
    yield pinned("just too much", just, begin, pace, partial(fired, step_more))
    other = [*_limit(name, full, 0, TWO), *beside]
    yield pinned("the other server has no limit", [*_limit(name, full), *other], begin, pace, all_used)
    small = [*_limit(name, always(0).then(begin, 1), 1), *beside]
    yield pinned("a limit of one is reached", small, begin, pace, all_used)
    yield silent("just not too much", [*_limit(name, always(most)), *beside], begin, end)
    yield silent("there is no limit", [*_limit(name, full, 0), *beside], begin, end)
    yield silent("nothing is used", [*_limit(name, always(0)), *beside], begin, end)
    yield silent("no figure of the limit", [_limit(name, full)[0], *beside], begin, end)
    yield silent("no figure of its usage", [_limit(name, full)[1], *beside], begin, end)
    separate = [*_limit(name, always(most)), *_limit(name, always(most), server=TWO), *beside]
    yield silent("just not too much of each of two", separate, begin, end)
    if pace.due > pace.step:
        short = full.then(begin + pace.due - pace.step, 0)
        yield silent("a restart in time", [*_limit(name, short), *beside], begin, begin + pace.due, end)


def connections(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """TooManyConnections."""
    text = "{instance} uses {share} of the connections it may have."
    yield from _limit_cases("connections", settings.alerts.limit_ratio, text, pace)


def memory(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """HighMemoryUsage."""
    text = "{instance} uses {share} of the memory it may have."
    yield from _limit_cases("memory_bytes", settings.alerts.memory_ratio, text, pace)


def cost(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """ClaudeCostBudget."""
    text = "{instance} has spent {share} of what a day may cost."
    yield from _limit_cases("cost_usd_per_day", settings.alerts.limit_ratio, text, pace)


def limits(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """LimitNearlyReached."""
    ratio, text = settings.alerts.limit_ratio, "{instance} uses {share} of its limit of "
    waiting = [series(catalogue.EXECUTION_QUEUE_DEPTH, always(1), server=server) for server in (ONE, TWO)]
    yield from _named("projects", _limit_cases("projects", ratio, text + "projects.", pace))
    yield from _named("executions", _limit_cases("executions", ratio, text + "executions.", pace, *waiting))

    begin = pace.first(_BEGIN)
    end = begin + pace.due + 5
    full = always(0).then(begin, _SIZE)

    def fired(name: str, _: int) -> Fired:
        return Fired(f"{ONE['instance']} uses 100% of its limit of {name}.", {**ONE, "limit": name})

    both = [*_limit("projects", full), *_limit("executions", full), *waiting]
    yield pinned("both", both, begin, pace, partial(fired, "projects"), partial(fired, "executions"))
    queue = series(catalogue.EXECUTION_QUEUE_DEPTH, always(0).then(begin, 3))
    busy = [*_limit("executions", always(_SIZE)), queue]
    yield pinned("prompts wait for a slot", busy, begin, pace, partial(fired, "executions"))
    idle = series(catalogue.EXECUTION_QUEUE_DEPTH, always(0))
    elsewhere = [*_limit("executions", full), idle, waiting[1], *_limit("executions", always(0), server=TWO)]
    yield silent("all slots are used and no prompt waits, but at another server", elsewhere, begin, end)
    kept = _limit("processes", always(_SIZE))
    yield silent("as many processes are kept as there may be", [*kept, *waiting], begin, end)


def _named(name: str, cases: Iterator[Case]) -> Iterator[Case]:
    return (Case(f"{name}: {case.title}", case.series, case.looks) for case in cases)


def files(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """FileDescriptorsHigh."""
    begin = pace.first(_BEGIN)
    end = begin + pace.due + 5
    most = _SIZE * float(number(settings.alerts.limit_ratio))

    def opened(used: Course, server: Mapping[str, str] = ONE) -> list[Series]:
        return [series(OPEN_FILES, used, server=server), series(MAX_FILES, always(_SIZE), server=server)]

    def fired(used: float, _: int) -> Fired:
        share = humanize_percentage(used / _SIZE)
        return Fired(f"{ONE['instance']} has {share} of the files open that it may have.", ONE)

    full, step_more = always(1).then(begin, _SIZE), most + min(1, (_SIZE - most) / 2)
    yield pinned("all are used", opened(full), begin, pace, partial(fired, _SIZE), later=5)
    yield pinned("just too many", opened(always(1).then(begin, step_more)), begin, pace, partial(fired, step_more))
    two = [*opened(full), *opened(always(1), TWO)]
    yield pinned("all of one of two", two, begin, pace, partial(fired, _SIZE))
    yield silent("just not too many", opened(always(most)), begin, end)
    yield silent("the files of Prometheus", opened(full, {**ONE, "job": "prometheus"}), begin, end)
    yield silent("no figure of the most", opened(full)[:1], begin, end)
    if pace.due > pace.step:
        short = full.then(begin + pace.due - pace.step, 1)
        yield silent("a restart in time", opened(short), begin, begin + pace.due, end)


def disk_low(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """DiskSpaceLow."""
    least = settings.alerts.disk_free
    begin = pace.first(_BEGIN)
    end = begin + pace.due + 5
    metric, plenty = catalogue.STORAGE_FREE, always(100 * least)

    def fired(free: float, _: int) -> Fired:
        left = f"{ONE['instance']} has {humanize_binary(free)}B left, less than {format_size(least)}."
        return Fired(f"The disk of the data directory of {left}", ONE)

    low, full = plenty.then(begin, least - 1), plenty.then(begin, 0)
    well = series(metric, plenty, server=TWO)
    yield pinned("a byte too little", [series(metric, low)], begin, pace, partial(fired, least - 1), later=5)
    yield pinned("nothing at all", [series(metric, full)], begin, pace, partial(fired, 0))
    yield pinned("on one of two", [series(metric, low), well], begin, pace, partial(fired, least - 1))
    yield silent("just enough", [series(metric, always(least))], begin, end)
    yield silent("plenty", [well], 0, end)
    unknown = plenty.then(begin, math.nan)
    yield silent("the disk does not answer", [series(metric, unknown)], begin, end)
    yield silent("no such figure", [series(UP, always(1))], begin, end)
    if pace.due > pace.step:
        freed = series(metric, low.then(begin + pace.due - pace.step, least))
        yield silent("some is freed in time", [freed], begin, begin + pace.due, end)


_DAY: Final = 24 * 12
_BACK: Final = 6 * 12
_KNOWN: Final = 3 * 12
"""The spans of the rule, in ticks of 5 minutes."""
_STEP: Final = 2**20
"""What a tick takes of the disk."""


def disk_filling(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """DiskWillFillIn24h."""
    # At `begin` the figure is known for three hours.
    begin = pace.first(_KNOWN)
    born = begin - _KNOWN
    end = begin + pace.due
    metric = catalogue.STORAGE_FREE

    def falling(start: float, since: int = born) -> Course:
        return never().then(since, start).growing(since + 1, -_STEP)

    def fired(course: Course, tick: int) -> Fired:
        left = f"{ONE['instance']} has {humanize_binary(course.value(tick))}B left and will be full within 24 hours "
        return Fired(f"The disk of the data directory of {left}if it fills up as in the last 6.", ONE)

    # A disk that fills evenly is full before the alert is due, where it must hold for long.
    soon = falling((_DAY // 2 + end) * _STEP) if pace.due < _DAY // 4 else _halving(born, end)
    constant = series(metric, always(_STEP), server=TWO)
    yield pinned("it fills", [series(metric, soon)], begin, pace, partial(fired, soon))
    yield pinned("one of two fills", [series(metric, soon), constant], begin, pace, partial(fired, soon))
    # One figure in three is not there, but the last is.
    doubtful = _course((tick, math.nan if (end - tick) % 3 == 2 else soon.value(tick)) for tick in range(born, end + 1))
    yield pinned("the disk does not always answer", [series(metric, doubtful)], begin, pace, partial(fired, soon))

    slow = falling((2 * _DAY + end + _BACK) * _STEP)
    yield silent("it would last two days", [series(metric, slow)], begin, end)
    yield silent("it stays as it is", [constant], begin, end)
    late = falling((_DAY // 2 + end) * _STEP, end - _KNOWN + pace.step)
    yield silent("it is known for less than three hours", [series(metric, late)], begin, end)
    freed = falling((_DAY // 2 + end) * _STEP).then(begin, 2 * (_DAY + end) * _STEP)
    yield silent("space is freed", [series(metric, freed)], begin, end)
    yield silent("the disk never answers", [series(metric, always(math.nan))], begin, end)
    yield silent("no such figure", [series(UP, always(1))], begin, end)


def _halving(born: int, end: int) -> Course:
    """Half of what is left is taken every twelve hours, so that it always looks like a day or less."""
    return _course((tick, round(2**40 * 0.5 ** ((tick - born) / (_DAY // 2)))) for tick in range(born, end + 1))


def _course(samples: Iterable[tuple[int, float]]) -> Course:
    return reduce(lambda course, sample: course.then(*sample), samples, never())


def loop_lag(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """EventLoopLagHigh."""
    most, metric = settings.alerts.loop_lag, catalogue.EVENT_LOOP_LAG
    begin = pace.first(_BEGIN)
    end = pace.first(begin + pace.due + _WINDOW)
    longest, shortest = metric.buckets[-1], metric.buckets[0]

    def told(seconds: float, _: int) -> Fired:
        text = f"The latest 1 % of what the event loop of {ONE['instance']} has to do waits "
        return Fired(f"{text}{humanize_duration(seconds)} or more; {format_duration(most)} are too much.", ONE)

    def late(steps: Mapping[float, float], since: int = 1, server: Mapping[str, str] = ONE) -> list[Series]:
        counts = {bound: always(1000).growing(since, step) for bound, step in steps.items()}
        return histogram(metric, counts, server=server)

    blocked, well = {math.inf: 240.0}, {shortest: 240.0}
    yield pinned("all is very late", late(blocked, begin), begin, pace, partial(told, longest), later=pace.step)
    two = [*late(blocked, begin), *late(well, server=TWO)]
    yield pinned("all of one of two is very late", two, begin, pace, partial(told, longest))
    if most * _MORE < longest:
        at, shares = buckets_around(metric, 0.99, most * _MORE)
        yield firing(
            "just too late", late({bound: 240 * part for bound, part in shares.items()}), [end], partial(told, at)
        )
    at, shares = buckets_around(metric, 0.99, most * _LESS)
    if at < most:
        yield silent("just not too late", late({bound: 240 * part for bound, part in shares.items()}), begin, end)
    yield silent("one in 200 is late", late({shortest: 239.0, math.inf: 1.0}), begin, end)
    yield silent("all is in time", late(well), begin, end)
    yield silent("nothing is measured", late({}), begin, end)
    reset = histogram(metric, {math.inf: always(1000).then(begin, 0)})
    yield silent("a restart", reset, begin, begin + 1, end)
    yield silent("no such figures", [series(UP, always(1))], begin, end)
