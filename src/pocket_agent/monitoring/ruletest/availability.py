"""When the alerts of a server that clients cannot reach fire, and when they do not."""

import math
from collections.abc import Iterator, Mapping
from functools import partial, reduce
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.foreign import PROBE_SUCCESS, START_TIME, UP
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.ruletest.case import ONE, TWO, Case, Fired, Look, Pace, Series, pinned, series, silent
from pocket_agent.monitoring.ruletest.course import Course, always, changes, never
from pocket_agent.monitoring.ruletest.wording import humanize, humanize_duration
from pocket_agent.observability import catalogue

_BEGIN: Final = 3
_WINDOW: Final = 30
_PROBE: Final = {**ONE, "job": "blackbox"}
_OTHER_PROBE: Final = {**TWO, "job": "blackbox"}


def _server(up: Course, built: Course | None = None, server: Mapping[str, str] = ONE) -> list[Series]:
    """A target, and what only the server says of itself; by default it says so while it is up."""
    labels = {"version": "1.0.0", "revision": "abc", "python_version": "3.11.2"}
    said = up if built is None else built
    return [series(UP, up, server=server), series(catalogue.BUILD_INFO, said, server=server, **labels)]


def service_down(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """ServiceDown."""
    begin, due = pace.first(_BEGIN), pace.due
    down = always(1).then(begin, 0)
    text = f"has not answered with the server's own metrics for more than {pace.hold}."

    def fired(server: Mapping[str, str], _: int) -> Fired:
        return Fired(f"{server['instance']} {text}", server)

    def absent(_: int) -> Fired:
        return Fired("Prometheus has no target of the job pocket-agent.", {"job": "pocket-agent"})

    one, two = partial(fired, ONE), partial(fired, TWO)
    yield pinned("the server does not answer", _server(down, always(1).gone(begin)), begin, pace, one, later=5)
    yield pinned("another program answers in its place", _server(always(1), always(1).gone(begin)), begin, pace, one)
    yield pinned("nobody asks it any more", _server(always(1).gone(begin)), begin, pace, absent)
    yield pinned("nobody ever asked it", [series(UP, always(1), server={**ONE, "job": "node"})], 0, pace, absent)
    yield pinned("one of two is down", [*_server(down, always(1).gone(begin)), *_server(always(1), None, TWO)],
                 begin, pace, one)  # fmt: skip
    yield pinned("both are down", [*_server(down), *_server(down, None, TWO)], begin, pace, one, two)
    yield silent("all is well", [*_server(always(1)), *_server(always(1), None, TWO)], 0, begin, begin + due + 5)
    late = never().then(begin, 1)
    yield silent("a second server is new", [*_server(always(1)), *_server(late, None, TWO)], begin, begin + due)
    missed = always(1).gone(begin).then(begin + 1, 1)
    yield silent("a new version", _server(always(1), missed), begin + 1, begin + 1 + due)
    if due > pace.step:
        # Up again at the evaluation before the one at which it would fire, and then down for as long once more.
        short = due - pace.step
        again = down.then(begin + short, 1).then(begin + due, 0).then(begin + due + short, 1)
        yield silent(
            "two outages that are too short", _server(again), begin + due, begin + due + short, begin + 2 * due
        )


def _outages(begin: int, count: int) -> Course:
    """Down for a tick, up for a tick, so many times."""
    return reduce(lambda course, number: course.then(begin + 2 * number, 0).then(begin + 2 * number + 1, 1),
                  range(count), always(1))  # fmt: skip


def flapping(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """PocketAgentFlapping."""
    limit, long = settings.alerts.restarts, 4 * _WINDOW + pace.due
    # The last of so many restarts, one a tick, is seen at an evaluation.
    seen = pace.first(_WINDOW + limit)
    first = seen - limit + 1
    up, restarting = always(1), always(0).growing(first, 60)

    def restarted(tick: int) -> Fired:
        return _flapped(changes(restarting, tick, _WINDOW))

    def gone_down(tick: int) -> Fired:
        return _flapped(math.ceil(changes(down, tick, _WINDOW) / 2))

    yield pinned("restarts that no scrape sees", _flap(up, restarting), seen, pace, restarted)
    # It is an outage as soon as it begins.
    down = _outages(seen - 2 * limit + 2, long)
    yield pinned("outages without a restart", _flap(down, always(0)), seen, pace, gone_down)
    yield pinned("restarts of one of two", [*_flap(up, restarting), *_flap(up, always(0), TWO)], seen, pace, restarted)
    last = seen + pace.due + _WINDOW + 5
    yield silent("it runs and runs", _flap(up, always(0)), seen, last)
    fewer = always(0).growing(first, 60).then(first + limit - 1, 60 * (limit - 1))
    one_less = _outages(seen - 2 * limit + 2, limit - 1)
    yield silent("one restart too few", _flap(up, fewer), seen, seen + pace.due, last)
    yield silent("one outage too few", _flap(one_less, always(0)), seen, seen + pace.due, last)
    yield silent("too few for each of two", [*_flap(up, fewer), *_flap(up, fewer, TWO)], seen, seen + pace.due, last)
    yield silent("neither series is there", [series(UP, up, server={**ONE, "job": "node"})], seen, last)
    if limit > 1:
        apart = reduce(lambda course, number: course.then(_BEGIN + number * _WINDOW, 60 * (number + 1)),
                       range(limit), always(0))  # fmt: skip
        end = _BEGIN + limit * _WINDOW
        yield silent("restarts that are far apart", _flap(up, apart), *range(_BEGIN, end + pace.due, _WINDOW))
    if pace.due < _WINDOW - limit:
        due, over = seen + pace.due, pace.first(seen + _WINDOW)
        calm = _flap(up, always(0).growing(first, 60).then(first + limit, 60 * limit))
        yield Case("it is over half an hour later", tuple(calm), (Look(due, (_flapped(limit),)), Look(over)))


def _flap(up: Course, started: Course, server: Mapping[str, str] = ONE) -> list[Series]:
    return [series(UP, up, server=server), series(START_TIME, started, server=server)]


def _flapped(times: int) -> Fired:
    return Fired(f"{ONE['instance']} was down or restarted {humanize(times)} times within 30 minutes.", ONE)


def probe_failed(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """WebSocketProbeFailed."""
    begin = pace.first(_BEGIN)
    failing, end = always(1).then(begin, 0), begin + pace.due + 5

    def fired(_: int) -> Fired:
        text = f"The WebSocket upgrade at {ONE['instance']} has failed for more than {pace.hold}, although the "
        return Fired(text + "server's metrics answer.", _PROBE)

    up, probe = series(UP, always(1)), series(PROBE_SUCCESS, failing, server=_PROBE)
    other = series(PROBE_SUCCESS, always(1), server=_OTHER_PROBE)
    yield pinned("clients do not get in", [up, probe], begin, pace, fired, later=5)
    other_down = series(UP, failing, server=TWO)
    failing_too = series(PROBE_SUCCESS, failing, server=_OTHER_PROBE)
    yield pinned("the other server is down altogether", [up, probe, other_down, failing_too], begin, pace, fired)
    yield silent("clients get in", [up, series(PROBE_SUCCESS, always(1), server=_PROBE), other], begin, end)
    yield silent("the server is down, which has an alert of its own", [series(UP, failing), probe], begin, end)
    yield silent("nothing is probed", [up], begin, end)
    page = series(PROBE_SUCCESS, failing, server={**ONE, "job": "blackbox-http"})
    yield silent("only a page does not answer", [up, page, other], begin, end)
    if pace.due > pace.step:
        short = series(PROBE_SUCCESS, failing.then(begin + pace.due - pace.step, 1), server=_PROBE)
        yield silent("it fails too short", [up, short], begin, begin + pace.due - pace.step, end)


def certificate_expiring(alert: Alert, settings: Settings, pace: Pace) -> Iterator[Case]:
    """TLSCertificateExpiring."""
    notice, second = settings.alerts.certificate, pace.tick.seconds
    begin = pace.first(_BEGIN)
    # At `begin` a second of the notice is over.
    until = begin * second + notice - 1
    end = begin + pace.due + 5

    def fired(tick: int) -> Fired:
        left = until - tick * second
        told = f"is valid for {humanize_duration(left)} more" if left > 0 else "has expired"
        return Fired(f"The certificate of {ONE['instance']} {told}.", ONE)

    def expired(_: int) -> Fired:
        return Fired(f"The certificate of {ONE['instance']} has expired.", ONE)

    metric = catalogue.TLS_NOT_AFTER
    good = series(metric, always(end * second + notice + 1), server=TWO)
    yield pinned("it expires soon", [series(metric, always(until))], begin, pace, fired)
    yield pinned("one of two expires soon", [series(metric, always(until)), good], begin, pace, fired)
    over = always(end * second + notice).then(begin, 1)
    yield pinned("it has expired", [series(metric, over)], begin, pace, expired, later=5)
    yield silent("it is good for long", [good], 0, begin, end)
    yield silent("just the notice is left", [series(metric, always(end * second + notice))], begin, end)
    yield silent("there is no TLS", [series(metric, always(0))], begin, end)
    yield silent("nothing tells of one", [], begin, end)
    if pace.due > pace.step:
        renewed = series(metric, always(until).then(begin + pace.due - pace.step, end * second + notice + 1))
        yield silent("it is renewed in time", [renewed], begin, begin + pace.due, end)


def check_failing(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """HealthCheckFailing."""
    begin = pace.first(_BEGIN)
    failing, end = always(1).then(begin, 0), begin + pace.due + 5

    def fired(check: str, server: Mapping[str, str], _: int) -> Fired:
        text = f"The check {check} of {server['instance']} has not been healthy for more than {pace.hold}; "
        return Fired(text + "/health tells why.", {**server, "check": check})

    def checks(courses: Mapping[str, Course], server: Mapping[str, str] = ONE) -> list[Series]:
        known = {check: courses.get(check, always(1)) for check in catalogue.CHECKS}
        metric = catalogue.HEALTH_CHECK_UP
        return [series(metric, course, server=server, check=check) for check, course in known.items()]

    claude, storage = partial(fired, "claude", ONE), partial(fired, "storage", ONE)
    yield pinned("one fails", checks({"claude": failing}), begin, pace, claude, later=5)
    yield pinned("two fail", checks({"claude": failing, "storage": failing}), begin, pace, claude, storage)
    both = [*checks({}), *checks({"disk": failing}, TWO)]
    yield pinned("one of the other server fails", both, begin, pace, partial(fired, "disk", TWO))
    yield silent("all are healthy", checks({}), 0, begin, end)
    yield silent("there are no checks", [series(UP, always(1))], begin, end)
    stopped = always(1).then(begin, 0).gone(begin + 1)
    yield silent(
        "the server has stopped since", checks({"claude": stopped}), begin + pace.step, begin + pace.due + 5, end
    )
    if pace.due > pace.step:
        short = pace.due - pace.step
        # Each is 0 until it was first looked at.
        started = {check: always(0).then(short, 1) for check in catalogue.CHECKS}
        yield silent("the server has just started", checks(started), 0, short, pace.due, end)
        well = failing.then(begin + short, 1)
        yield silent("it is well again in time", checks({"claude": well}), begin, begin + short, begin + pace.due, end)
