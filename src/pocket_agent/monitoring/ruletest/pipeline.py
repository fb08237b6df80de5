"""When the alerts of the monitoring itself fire, and when they do not."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.foreign import NOTIFICATIONS_DROPPED, NOTIFICATIONS_FAILED, PROBE_SUCCESS, UP
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.ruletest.case import ONE, TWO, Case, Fired, Pace, Series, firing, pinned, series, silent
from pocket_agent.monitoring.ruletest.course import Course, always, increase
from pocket_agent.monitoring.ruletest.wording import humanize
from pocket_agent.observability import catalogue

_HOUR: Final = 60
_QUARTER: Final = 15
_SENT: Final = 10
"""The windows of the rules, in ticks."""
_USED: Final = 1000.0
_DOWN: Final = 3
_PROGRAMS: Final = {"node": "127.0.0.1:9100", "blackbox-exporter": "127.0.0.1:9115"}
_MANAGER: Final = {"job": "alertmanager", "instance": "127.0.0.1:9093"}
_PROMETHEUS: Final = {"job": "prometheus", "instance": "127.0.0.1:9091"}


def label_overflow(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """MetricLabelOverflow."""
    begin = pace.first(_HOUR + 2)
    end = pace.first(begin + pace.due + _HOUR + 1)

    def told(metric: str, course: Course, tick: int) -> Fired:
        count = humanize(increase([course], tick, _HOUR))
        labels = {**ONE, "metric": metric}
        return Fired(f"{metric} of {ONE['instance']} counted {count} values as other within an hour.", labels)

    def counted(courses: Mapping[str, Course], server: Mapping[str, str] = ONE) -> list[Series]:
        known = catalogue.METRIC_LABEL_OVERFLOW.labels["metric"]
        return [
            series(catalogue.METRIC_LABEL_OVERFLOW, courses.get(name, always(0)), server=server, metric=name)
            for name in known
        ]

    errors, health = catalogue.ERRORS_TOTAL.name, catalogue.HEALTH_CHECK_UP.name
    once, more = always(0).then(begin, 1), always(_USED).growing(begin, 3)
    yield pinned("a value that is not known", counted({errors: once}), begin, pace, partial(told, errors, once))
    two = counted({errors: once, health: more})
    fired = (partial(told, errors, once), partial(told, health, more))
    yield pinned("values of two metrics", two, begin, pace, *fired)
    yield silent("it was more than an hour ago", counted({errors: once}), begin - pace.step, end, end + 10)
    yield silent("none", [*counted({}), *counted({}, TWO)], 0, begin, end)
    yield silent("a restart", counted({errors: always(_USED).then(begin, 0)}), begin, begin + 1, end)
    yield silent("no such figures", [series(UP, always(1))], begin, end)


def telemetry_dropped(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """TelemetryDropped."""
    begin = pace.first(_QUARTER + 2)
    end = pace.first(begin + pace.due + _QUARTER + 1)

    def told(signal: str, course: Course, tick: int) -> Fired:
        count = humanize(increase([course], tick, _QUARTER))
        labels = {**ONE, "signal": signal}
        return Fired(f"{ONE['instance']} lost {count} items of {signal} within 15 minutes.", labels)

    def lost(server: Mapping[str, str] = ONE, **courses: Course) -> list[Series]:
        known = catalogue.TELEMETRY_DROPPED.labels["signal"]
        return [
            series(catalogue.TELEMETRY_DROPPED, courses.get(name, always(_USED)), server=server, signal=name)
            for name in known
        ]

    traces, logs = always(_USED).growing(begin, 50), always(0).growing(begin, 1)
    one = partial(told, "traces", traces)
    yield pinned("spans are lost", lost(traces=traces), begin, pace, one, later=pace.step)
    yield pinned("lines too", lost(traces=traces, logs=logs), begin, pace, one, partial(told, "logs", logs))
    yield pinned("spans of one of two", [*lost(traces=traces), *lost(TWO)], begin, pace, one)
    if pace.step <= pace.due < _QUARTER:
        single = always(_USED).then(begin, _USED + 1)
        due = begin + pace.due
        yield firing("a single one", lost(events=single), [due], partial(told, "events", single))
        yield silent("a single one was long ago", lost(events=single), begin, end, end + 10)
    yield silent("nothing is lost", lost(), 0, begin, end)
    yield silent("a restart", lost(traces=always(_USED).then(begin, 0)), begin, begin + 1, end)
    yield silent("no such figures", [series(UP, always(1))], begin, end)


def target_down(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """MonitoringTargetDown."""
    begin = pace.first(_DOWN)
    failing, end = always(1).then(begin, 0), begin + pace.due + 5
    machine, exporter = ({"job": job, "instance": at} for job, at in _PROGRAMS.items())
    probes = [{**ONE, "job": job} for job in ("blackbox", "blackbox-http")]

    def told(program: Mapping[str, str], _: int) -> Fired:
        text = f"Prometheus has got nothing from {program['job']} at {program['instance']} for more than {pace.hold}; "
        return Fired(text + "what it tells of is not watched.", program)

    def scraped(*down: Mapping[str, str], course: Course = failing) -> list[Series]:
        known = (ONE, machine, exporter, *probes, _MANAGER, _PROMETHEUS)
        return [series(UP, course if each in down else always(1), server=each) for each in known]

    for what, program in {
        "the node exporter is down": machine,
        "Alertmanager is down": _MANAGER,
        "Prometheus cannot scrape itself": _PROMETHEUS,
        "the exporter does not know a module": probes[0],
    }.items():
        yield pinned(what, scraped(program), begin, pace, partial(told, program), later=5)
    all_of_it = (exporter, *probes)
    fired = [partial(told, each) for each in all_of_it]
    yield pinned("the blackbox exporter is down, and with it its probes", scraped(*all_of_it), begin, pace, *fired)
    yield silent("all answer", scraped(), 0, begin, end)
    yield silent("the server is down, which has an alert of its own", scraped(ONE), begin, end)
    refused = [*scraped(), series(PROBE_SUCCESS, failing, server=probes[0])]
    yield silent("a probe fails, which has an alert of its own", refused, begin, end)
    other = series(UP, failing, server={"job": "another", "instance": "127.0.0.1:9200"})
    yield silent("somebody else's program is down", [*scraped(), other], begin, end)
    yield silent("a program is scraped no more", scraped(machine, course=always(1).gone(begin)), begin, end)
    yield silent("nothing is scraped", [], begin, end)
    if pace.due > pace.step:
        short = failing.then(begin + pace.due - pace.step, 1)
        yield silent("it is started again in time", scraped(machine, course=short), begin, begin + pace.due, end)


def delivery_failing(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """AlertDeliveryFailing."""
    begin = pace.first(_SENT + 2)
    failing = always(_USED).growing(begin, 1)
    end = pace.first(begin + pace.due + _SENT + 1)

    def undelivered(course: Course, tick: int) -> Fired:
        count = humanize(increase([course], tick, _SENT))
        labels = {**_MANAGER, "integration": "slack"}
        text = f"alertmanager at {_MANAGER['instance']} could not deliver {count} alerts by slack within 10 minutes."
        return Fired(text, labels)

    def unsent(course: Course, tick: int) -> Fired:
        count = humanize(increase([course], tick, _SENT))
        text = f"prometheus at {_PROMETHEUS['instance']} could not deliver {count} alerts within 10 minutes."
        return Fired(text, _PROMETHEUS)

    def manager(course: Course, **labels: str) -> list[Series]:
        # Newer versions of Alertmanager tell the reason, too.
        return [
            Series(NOTIFICATIONS_FAILED.name, {"integration": name, **labels, **_MANAGER}, each)
            for name, each in {"slack": course, "pagerduty": always(0), "email": always(0)}.items()
        ]

    sent = [series(NOTIFICATIONS_DROPPED, always(0), server=_PROMETHEUS)]
    lost = [series(NOTIFICATIONS_DROPPED, failing, server=_PROMETHEUS)]
    slack, none = partial(undelivered, failing), always(0)
    yield pinned("Slack takes nothing", [*manager(failing), *sent], begin, pace, slack, later=pace.step)
    yield pinned("Alertmanager tells why", manager(failing, reason="serverError"), begin, pace, slack)
    yield pinned("no Alertmanager is reached", [*manager(none), *lost], begin, pace, partial(unsent, failing))
    yield pinned("both", [*manager(failing), *lost], begin, pace, slack, partial(unsent, failing))
    if pace.step <= pace.due < _SENT:
        once = always(_USED).then(begin, _USED + 1)
        yield silent("a single one was long ago", [*manager(once), *sent], begin, end, end + 10)
    yield silent("all arrives", [*manager(none), *sent], 0, begin, end)
    reset = always(_USED).then(begin, 0)
    yield silent("restarts", [*manager(reset), series(NOTIFICATIONS_DROPPED, reset, server=_PROMETHEUS)], begin, end)
    strange = [Series(NOTIFICATIONS_FAILED.name, {"integration": "slack", **_MANAGER, "job": "another"}, failing)]
    yield silent("somebody else's Alertmanager", strange, begin, end)
    yield silent("neither is scraped", [series(UP, always(1))], begin, end)


def watchdog(alert: Alert, _: Settings, pace: Pace) -> Iterator[Case]:
    """Watchdog, which is never silent."""

    def fired(_: int) -> Fired:
        return Fired("This alert always fires; when it stops arriving, alerting is broken.", {})

    yield firing("nothing is scraped", [], [0, 100], fired)
    yield firing("all is well", [series(UP, always(1))], [0, 100], fired)
    yield firing("the server is down", [series(UP, always(0))], [0, 100], fired)
