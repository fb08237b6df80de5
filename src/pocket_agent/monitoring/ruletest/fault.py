"""When the alerts of faults fire, and when they do not."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.ruletest.case import ONE, TWO, Case, Fired, Pace, Series, firing, pinned, series, silent
from pocket_agent.monitoring.ruletest.course import Course, always, increase
from pocket_agent.monitoring.ruletest.wording import humanize
from pocket_agent.observability import catalogue
from pocket_agent.observability.operation import ERRORS, SERVER_CODES

_BEGIN: Final = 17
"""Late enough for every window here to be full of samples."""
_USED: Final = 1000.0
"""What counters begin with: a server that has run for a while."""
_RATE: Final = 5
_STORED: Final = 10
_COUNTED: Final = 15
"""The windows of the rules, in ticks."""
_MORE: Final = 1.01
_LESS: Final = 0.99
"""Just beyond a threshold, and just before it."""
_TRACE: Final = 0.001
"""The growth of a tick that stands for some where a threshold is 0."""

_FAULTS: Final = tuple(pair for pair in ERRORS if pair[0] in SERVER_CODES)
_MISTAKES: Final = tuple(pair for pair in ERRORS if pair[0] not in SERVER_CODES)


def _growing(step: float, since: int = 1) -> Course:
    """A counter that grows by so much each tick."""
    return always(_USED).growing(since, step)


def _errors(
    courses: Sequence[Course], of: Sequence[tuple[str, str]] = _FAULTS, server: Mapping[str, str] = ONE
) -> list[Series]:
    """Errors, one kind for each course; the first of each sort are there even if they do not happen."""
    idle = dict.fromkeys((_FAULTS[0], _MISTAKES[0]), always(_USED))
    return [
        series(catalogue.ERRORS_TOTAL, course, server=server, code=code, operation=operation)
        for (code, operation), course in {**idle, **dict(zip(of, courses, strict=False))}.items()
    ]


def _messages(step: float, server: Mapping[str, str] = ONE) -> list[Series]:
    """Messages, so many more each tick."""
    return [
        series(catalogue.MESSAGES_RECEIVED, _growing(step), server=server, type="execute"),
        series(catalogue.MESSAGES_RECEIVED, always(_USED), server=server, type="project_list"),
    ]


def error_rate(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """HighErrorRate."""
    share = settings.alerts.error_ratio
    least = settings.alerts.error_rate * pace.tick.seconds
    begin = pace.first(_BEGIN)
    end = pace.first(begin + pace.due + _RATE)
    some = max(least, _TRACE)

    def told(courses: Sequence[Course], tick: int) -> Fired:
        rate = increase(courses, tick, _RATE) / (_RATE * pace.tick.seconds)
        text = f"{ONE['instance']} has {humanize(rate)} errors per second that are its own fault, more than "
        return Fired(f"{text}{share * 100:g} % of the messages it gets.", ONE)

    # So many that the first tick of them is too much.
    burst = 20 * some
    flood, busy = [_growing(burst, begin)], _messages(burst / share / 8)
    yield pinned("errors begin", [*_errors(flood), *busy], begin, pace, partial(told, flood), later=pace.step)
    yield pinned("nobody sent a message", [*_errors(flood), *_messages(0)], begin, pace, partial(told, flood))
    spread = [_growing(burst / len(_FAULTS), begin) for _ in _FAULTS]
    yield pinned("errors of many kinds", [*_errors(spread), *busy], begin, pace, partial(told, spread))
    well = [*_errors([], server=TWO), *_messages(burst, TWO)]
    yield pinned("errors of one of two", [*_errors(flood), *busy, *well], begin, pace, partial(told, flood))

    just = [_growing(some * _MORE)]
    yield firing("just above the rate", [*_errors(just), *_messages(some)], [end], partial(told, just))
    almost = _messages(some * _MORE / min(share * _MORE, (1 + share) / 2))
    yield firing("just above the share", [*_errors(just), *almost], [end], partial(told, just))
    again = [_growing(4 * some).then(end, 0).growing(end + 1, 4 * some)]
    after = [pace.first(end + 1), pace.first(end + 4)]
    yield firing("a restart in between", [*_errors(again), *_messages(some)], after, partial(told, again))

    few = _messages(some * _MORE / share / _LESS)
    yield silent("just below the share", [*_errors(just), *few], begin, end)
    if least:
        below = _errors([_growing(least * _LESS)])
        yield silent("just below the rate", [*below, *_messages(0)], begin, end)
        other = [*_errors([_growing(least * _LESS)], server=TWO), *_messages(0, TWO)]
        yield silent("just too few of each of two", [*below, *_messages(0), *other], begin, end)
    mistakes = _errors([_growing(burst) for _ in _MISTAKES], _MISTAKES)
    yield silent("mistakes of clients", [*mistakes, *_messages(burst)], begin, end)
    yield silent("nothing happens at all", [*_errors([]), *_messages(0)], begin, end)
    yield silent("no figures of messages", _errors(flood), begin + pace.due, end)
    yield silent("no figures of errors", _messages(burst), begin, end)
    reset = always(_USED).then(begin, 0)
    yield silent("a restart", [*_errors([reset, reset]), *_messages(0)], begin, begin + 1, end)


def storage_errors(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """StorageErrors."""
    begin = pace.first(_BEGIN)
    failing = _growing(2, begin)
    end = pace.first(begin + pace.due + _STORED)

    def told(course: Course, tick: int) -> Fired:
        count = humanize(increase([course], tick, _STORED))
        text = f"{ONE['instance']} could not store what agents said {count} times within 10 minutes; it tries again, "
        return Fired(f"{text}and agents wait meanwhile.", ONE)

    def stored(course: Course, server: Mapping[str, str] = ONE) -> list[Series]:
        return _errors([course], [("FILE_OPERATION", "storage")], server)

    yield pinned("writes are refused", stored(failing), begin, pace, partial(told, failing), later=pace.step)
    both = [*stored(failing), *stored(always(_USED), TWO)]
    yield pinned("writes of one of two", both, begin, pace, partial(told, failing))
    if pace.due < _STORED:
        # One is still seen by the last evaluation before the window has passed it by.
        one = always(_USED).then(begin, _USED + 1)
        due = begin + pace.due
        yield firing("a single one", stored(one), [due], partial(told, one))
        yield silent("a single one was long ago", stored(one), end, end + 10)
    others = [pair for pair in ERRORS if pair[1] != "storage"]
    yield silent("errors of other kinds", _errors([_growing(20) for _ in others], others), begin, end)
    yield silent("none", stored(always(0)), 0, begin, end)
    yield silent("a restart", stored(always(_USED).then(begin, 0)), begin, begin + 1, end)
    yield silent("no such figures", _messages(1), begin, end)


_NONE_REFUSED: Final = dict.fromkeys(catalogue.CONNECTIONS_REJECTED.labels["reason"], always(_USED))


def _refused(server: Mapping[str, str] = ONE, **courses: Course) -> list[Series]:
    """Refusals by their reason."""
    return [
        series(catalogue.CONNECTIONS_REJECTED, course, server=server, reason=reason)
        for reason, course in {**_NONE_REFUSED, **courses}.items()
    ]


def connections_rejected(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """ConnectionsRejected."""
    # What a tick brings when a window holds just as many as are allowed.
    most = (settings.alerts.rejected_connections + 0.5) / _COUNTED
    begin = pace.first(_BEGIN)
    end = pace.first(begin + pace.due + _COUNTED)

    def refused(courses: Sequence[Course], why: str, tick: int, labels: Mapping[str, str] = ONE) -> Fired:
        count = humanize(increase(courses, tick, _COUNTED))
        return Fired(f"{ONE['instance']} refused {count} connections within 15 minutes, {why}.", labels)

    def full(course: Course, tick: int) -> Fired:
        return refused([course], "as many as it may have were open", tick, {**ONE, "reason": "limit"})

    def strange(courses: Sequence[Course], tick: int) -> Fired:
        return refused(courses, "for want of a token, or by their origin", tick)

    few, flood = _growing(1, begin), _growing(2 * _COUNTED * most, begin)
    yield pinned("the limit is met", _refused(limit=few), begin, pace, partial(full, few), later=pace.step)
    yield pinned("many have no token", _refused(unauthorized=flood), begin, pace, partial(strange, [flood]))
    both = _refused(limit=few, unauthorized=flood)
    yield pinned("both at a time", both, begin, pace, partial(full, few), partial(strange, [flood]))
    one = [*_refused(limit=few), *_refused(TWO)]
    yield pinned("the limit of one of two is met", one, begin, pace, partial(full, few))
    just = [_growing(most * _MORE / 3)] * 3
    together = _refused(unauthorized=just[0], throttled=just[1], origin=just[2])
    yield firing("just too many by token and origin together", together, [end], partial(strange, just))

    enough = _growing(most * _LESS)
    yield silent("just not too many", _refused(unauthorized=enough), begin, end)
    yield silent("just not too many of each of two", [*_refused(origin=enough), *_refused(TWO, origin=enough)], end)
    yield silent("the server stops", _refused(stopping=_growing(100 * most)), begin, end)
    yield silent("none", _refused(), 0, begin, end)
    reset = always(_USED).then(begin, 0)
    yield silent("a restart", _refused(limit=reset, unauthorized=reset), begin, begin + 1, end)
    yield silent("no such figures", _messages(1), begin, end)
    if pace.due < _COUNTED:
        once = always(_USED).then(begin, _USED + 1)
        yield silent("the limit was met long ago", _refused(limit=once), end, end + 10)


def _slow(server: Mapping[str, str] = ONE, **courses: Course) -> list[Series]:
    return [
        series(catalogue.SLOW_CONSUMER, courses.get(action, always(_USED)), server=server, action=action)
        for action in ("parked", "dropped")
    ]


def consumers_dropped(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """SlowConsumersDropped."""
    most = (settings.alerts.dropped_clients + 0.5) / _COUNTED
    begin = pace.first(_BEGIN)
    end = pace.first(begin + pace.due + _COUNTED)

    def told(course: Course, tick: int) -> Fired:
        count = humanize(increase([course], tick, _COUNTED))
        text = f"{ONE['instance']} closed {count} connections within 15 minutes because they took nothing any more."
        return Fired(text, ONE)

    flood, just, enough = _growing(2 * _COUNTED * most, begin), _growing(most * _MORE), _growing(most * _LESS)
    yield pinned("many are dropped", _slow(dropped=flood), begin, pace, partial(told, flood), later=pace.step)
    one = [*_slow(dropped=flood), *_slow(TWO)]
    yield pinned("many of one of two", one, begin, pace, partial(told, flood))
    yield firing("just too many", _slow(dropped=just), [end], partial(told, just))
    yield silent("just not too many", _slow(dropped=enough), begin, end)
    yield silent("just not too many of each of two", [*_slow(dropped=enough), *_slow(TWO, dropped=enough)], begin, end)
    yield silent("they are only parked", _slow(parked=flood), begin, end)
    yield silent("none", _slow(), 0, begin, end)
    yield silent("a restart", _slow(dropped=always(_USED).then(begin, 0)), begin, begin + 1, end)
    yield silent("no such figures", _messages(1), begin, end)
