"""What the recording rules make of counters that grow evenly: by hand, for comparison."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pocket_agent.monitoring import foreign
from pocket_agent.monitoring import recording as recorded
from pocket_agent.monitoring.objective import FAST, OBJECTIVES, SLOW, event_count, failure_ratio
from pocket_agent.monitoring.period import hours, minutes
from pocket_agent.monitoring.rule import Recording
from pocket_agent.monitoring.ruletest.case import ONE, Series, series
from pocket_agent.monitoring.ruletest.course import Course, always
from pocket_agent.monitoring.ruletest.histogram import histogram
from pocket_agent.monitoring.ruletest.objective import EVENTS
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import Metric

LAST: Final = 70
"""The tick at which is looked, in minutes: all windows of an hour are full."""
_USED: Final = 1000.0


Steps = Mapping[tuple[str, ...], float]
"""Figures by the values of the labels."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a rule records.

    Attributes:
        values: by the values of its labels, in their order.
        target: the labels of the target that it is of.
    """

    rule: Recording
    values: Steps
    target: Mapping[str, str] = field(default_factory=lambda: ONE)

    def render(self) -> dict[str, Any]:
        """A question for promtool. What is rounded has no name, and is equal to the digit."""
        labels = sorted(self.rule.query.labels)
        return {
            "expr": f"round({self.rule.series.text}, 0.000001)",
            "eval_time": str(minutes(LAST)),
            "exp_samples": [
                {"labels": self._labels(dict(zip(labels, key, strict=True))), "value": value}
                for key, value in self.values.items()
            ],
        }

    def _labels(self, own: Mapping[str, str]) -> str:
        texts = (f'{label}="{value}"' for label, value in {**own, **self.rule.constants, **self.target}.items())
        return "{" + ", ".join(texts) + "}"


def _growing(step: float) -> Course:
    return always(_USED).growing(1, step)


def _counters(metric: Metric, steps: Steps, target: Mapping[str, str] = ONE) -> Iterator[Series]:
    labels = [label for label in metric.labels if label != "job"]
    for key, step in steps.items():
        yield Series(metric.name, {**dict(zip(labels, key, strict=True)), **target}, _growing(step))


def _gauges(metric: Metric, values: Steps) -> Iterator[Series]:
    for key, value in values.items():
        yield Series(metric.name, {**dict(zip(metric.labels, key, strict=True)), **ONE}, always(value))


# What a minute brings; an hour brings 60 times as much.
_MESSAGES: Final[Steps] = {("execute",): 6, ("project_list",): 2, ("project_create",): 1}
_SENT: Final[Steps] = {("agent_message",): 60, ("error",): 6}
_BYTES: Final[Steps] = {("received",): 600, ("sent",): 6000}
_REQUESTS: Final[Steps] = {("execute", "ok"): 6, ("execute", "server_error"): 1.5, ("other", "client_error"): 3}
_ERRORS: Final[Steps] = {
    ("VALIDATION_FAILED", "protocol"): 3,
    ("INTERNAL_ERROR", "project"): 0.6,
    ("INTERNAL_ERROR", "execute"): 0.6,
    ("EXECUTION_FAILED", "execution"): 0.6,
}
_EXECUTIONS: Final[Steps] = {("success",): 3, ("error",): 0.5, ("timeout",): 0.5, ("killed",): 6, ("rejected",): 6}
_TOKENS: Final[Steps] = {("input", "opus"): 10, ("input", "other"): 20, ("output", "opus"): 30}
_COST: Final[Steps] = {("opus",): 0.5, ("other",): 0.25}
_PROJECT_COST: Final[Steps] = {("other",): 0.75}
_TOOLS: Final[Steps] = {("Bash", "success"): 2, ("Bash", "denied"): 1, ("Read", "success"): 4}
_APPROVALS: Final[Steps] = {("allow",): 2, ("deny",): 1}
_USAGE: Final[Steps] = {("connections",): 30, ("memory_bytes",): 512}
_REFUSED: Final[Steps] = {("limit",): 1, ("origin",): 2}
_CLOSED: Final[Steps] = {("1000", "client"): 3, ("4008", "server"): 1}
_SLOW: Final[Steps] = {("parked",): 2, ("dropped",): 1}
_PROJECT_TOKENS: Final[Steps] = {("input", "other"): 30, ("output", "other"): 30}
_LOST: Final[Steps] = {("logs",): 1, ("traces",): 2}
_READ: Final[Steps] = {("applied",): 2, ("refused",): 1}
_UNKNOWN: Final[Steps] = {(catalogue.ERRORS_TOTAL.name,): 1}
_LIMITS: Final[Steps] = {("connections",): 40, ("memory_bytes",): 0}


_MANAGER: Final = {"job": "alertmanager", "instance": "127.0.0.1:9093"}
_TOLD: Final[Steps] = {("slack",): 4, ("pagerduty",): 2}
_MACHINE: Final = {"job": "node", "instance": "127.0.0.1:9100"}
_MODES: Final[Steps] = {("user",): 12, ("system",): 3, ("idle",): 40, ("iowait",): 5}
_PROCESSORS: Final[Steps] = {(cpu, mode): step for cpu in ("0", "1") for (mode,), step in _MODES.items()}
# What goes over a layer or an inner link is not counted.
_DISKS: Final[Steps] = {("sda",): 600, ("sdb",): 60, ("dm-0",): 660, ("loop0",): 6}
_LINKS: Final[Steps] = {("eth0",): 1200, ("lo",): 600, ("docker0",): 60}


def neighbours() -> list[Series]:
    """What is scraped of other programs."""
    return [
        *_counters(foreign.NOTIFICATIONS, _TOLD, _MANAGER),
        *_counters(foreign.NOTIFICATIONS_FAILED, _TOLD, _MANAGER),
        *_counters(foreign.MACHINE_CPU_SECONDS, _PROCESSORS, _MACHINE),
        *_counters(foreign.DISK_READ, _DISKS, _MACHINE),
        *_counters(foreign.DISK_WRITTEN, _DISKS, _MACHINE),
        *_counters(foreign.NETWORK_RECEIVED, _LINKS, _MACHINE),
        *_counters(foreign.NETWORK_SENT, _LINKS, _MACHINE),
    ]


def world() -> list[Series]:
    """What is scraped of a busy server; for each histogram all values fall into one bucket, or into two."""
    duration = catalogue.EXECUTION_DURATION
    requests = catalogue.REQUEST_DURATION
    return [
        *_counters(catalogue.MESSAGES_RECEIVED, _MESSAGES),
        *_counters(catalogue.MESSAGES_SENT, _SENT),
        *_counters(catalogue.MESSAGE_BYTES, _BYTES),
        *_counters(catalogue.REQUESTS_TOTAL, _REQUESTS),
        *_counters(catalogue.ERRORS_TOTAL, _ERRORS),
        *_counters(catalogue.EXECUTIONS_TOTAL, _EXECUTIONS),
        *_counters(catalogue.CLAUDE_TOKENS, _TOKENS),
        *_counters(catalogue.CLAUDE_COST, _COST),
        *_counters(catalogue.PROJECT_COST, _PROJECT_COST),
        *_counters(catalogue.CLAUDE_TOOL_CALLS, _TOOLS),
        *_counters(catalogue.APPROVALS_TOTAL, _APPROVALS),
        *_counters(catalogue.CONNECTIONS_TOTAL, {(): 2}),
        *_counters(catalogue.CONNECTIONS_REJECTED, _REFUSED),
        *_counters(catalogue.DISCONNECTS, _CLOSED),
        *_counters(catalogue.SLOW_CONSUMER, _SLOW),
        *_counters(catalogue.PROJECT_TOKENS, _PROJECT_TOKENS),
        *_counters(catalogue.TELEMETRY_DROPPED, _LOST),
        *_counters(catalogue.SETTINGS_RELOADS, _READ),
        *_counters(catalogue.METRIC_LABEL_OVERFLOW, _UNKNOWN),
        *_gauges(catalogue.LIMIT_USAGE, _USAGE),
        *_gauges(catalogue.LIMIT, _LIMITS),
        series(foreign.CPU_SECONDS, _growing(15)),
        *histogram(duration, {10: _growing(3)}, status="success"),
        *histogram(duration, {600: _growing(1)}, status="error"),
        series(duration, _growing(12), suffix="_sum", status="success"),
        series(duration, _growing(300), suffix="_sum", status="error"),
        *histogram(requests, {0.005: _growing(15)}, type="execute"),
        *histogram(requests, {0.5: _growing(5)}, type="other"),
        *histogram(catalogue.TIME_TO_FIRST_MESSAGE, {1: _growing(2)}),
        *histogram(catalogue.EVENT_LOOP_LAG, {0.01: _growing(240)}),
        *histogram(catalogue.PING_RTT, {0.05: _growing(2)}),
        *histogram(catalogue.BROADCAST_DURATION, {0.01: _growing(60)}),
        *histogram(catalogue.STORAGE_COMMIT, {0.1: _growing(60)}),
        *histogram(catalogue.APPROVAL_WAIT, {30: _growing(3)}),
    ]


def _times(factor: float, steps: Steps) -> Steps:
    return {key: factor * step for key, step in steps.items()}


def expectations() -> Iterator[Recorded]:
    """What each rule for dashboards makes of it."""
    second, hour = 1 / 60, 60
    made: Mapping[Recording, Steps] = {
        recorded.MESSAGES_RECEIVED: {(): 0.15},
        recorded.MESSAGES_SENT: {(): 1.1},
        recorded.MESSAGES_BY_TYPE: _times(second, _MESSAGES),
        recorded.MESSAGE_BYTES: _times(second, _BYTES),
        recorded.REQUESTS: {(): 0.175},
        recorded.REQUESTS_BY_OUTCOME: {("ok",): 0.1, ("server_error",): 0.025, ("client_error",): 0.05},
        recorded.ERRORS: {(): 0.08},
        recorded.ERRORS_BY_CODE: {("VALIDATION_FAILED",): 0.05, ("INTERNAL_ERROR",): 0.02, ("EXECUTION_FAILED",): 0.01},
        recorded.SERVER_ERRORS: {(): 0.03},
        recorded.SERVER_ERROR_RATIO: {(): 0.2},
        recorded.EXECUTIONS: {(): 16 / 60},
        recorded.EXECUTIONS_BY_STATUS: _times(second, _EXECUTIONS),
        recorded.EXECUTIONS_HOURLY: _times(hour, _EXECUTIONS),
        recorded.EXECUTION_SUCCESS: {(): 0.75},
        # Three in four take 10 s: the rank of 95 % is 0.8 of the way through those of up to 600 s.
        recorded.EXECUTION_P95: {(): 300 + 300 * 0.8},
        recorded.EXECUTION_P99: {(): 300 + 300 * 0.96},
        recorded.EXECUTION_MEAN: {(): 78},
        recorded.FIRST_MESSAGE_P95: {(): 0.25 + 0.75 * 0.95},
        recorded.REQUEST_P95: {(): 0.1 + 0.4 * 0.8},
        recorded.REQUEST_P99: {(): 0.1 + 0.4 * 0.96},
        recorded.REQUEST_P95_BY_TYPE: {("execute",): 0.0005 + 0.0045 * 0.95, ("other",): 0.1 + 0.4 * 0.95},
        recorded.LOOP_LAG_P99: {(): 0.001 + 0.009 * 0.99},
        recorded.PING_P95: {(): 0.01 + 0.04 * 0.95},
        recorded.BROADCAST_P99: {(): 0.0025 + 0.0075 * 0.99},
        recorded.COMMIT_P99: {(): 0.025 + 0.075 * 0.99},
        recorded.CPU: {(): 0.25},
        # What has no limit has no share of one.
        recorded.LIMIT_RATIO: {("connections",): 0.75},
        recorded.TOKENS_HOURLY: {("input",): 1800, ("output",): 1800},
        recorded.TOKENS_HOURLY_BY_MODEL: {("opus",): 2400, ("other",): 1200},
        recorded.COST_HOURLY: {(): 45},
        recorded.COST_HOURLY_BY_MODEL: _times(hour, _COST),
        recorded.COST_HOURLY_BY_PROJECT: _times(hour, _PROJECT_COST),
        recorded.TOOLS_HOURLY: {("Bash",): 180, ("Read",): 240},
        recorded.APPROVALS_HOURLY: _times(hour, _APPROVALS),
        recorded.APPROVAL_WAIT_P95: {(): 5 + 25 * 0.95},
        recorded.PROJECTS_ASKED_FOR: {(): 60},
        recorded.MESSAGES_SENT_BY_TYPE: _times(second, _SENT),
        recorded.CONNECTIONS_OPENED: {(): 120},
        recorded.CONNECTIONS_REFUSED: _times(hour, _REFUSED),
        recorded.DISCONNECTS: _times(hour, _CLOSED),
        recorded.SLOW_CONSUMERS: _times(hour, _SLOW),
        recorded.ERRORS_BY_OPERATION: {("protocol",): 180, ("project",): 36, ("execute",): 36, ("execution",): 36},
        recorded.COMMITS: {(): 1},
        recorded.TOKENS_HOURLY_BY_PROJECT: {("other",): 3600},
        recorded.TOOLS_HOURLY_BY_OUTCOME: {("success",): 360, ("denied",): 60},
        recorded.TELEMETRY_LOST: _times(hour, _LOST),
        recorded.SETTINGS_READ: _times(hour, _READ),
        recorded.LABELS_UNKNOWN: _times(hour, _UNKNOWN),
    }
    for rule, values in made.items():
        yield Recorded(rule, {key: round(value, 6) for key, value in values.items()})
    for told in (recorded.NOTIFICATIONS_HOURLY, recorded.NOTIFICATIONS_FAILED_HOURLY):
        yield Recorded(told, _times(hour, _TOLD), _MANAGER)
    yield Recorded(recorded.MACHINE_CPU, {(): 0.25}, _MACHINE)
    for disks in (recorded.DISKS_READ, recorded.DISKS_WRITTEN):
        yield Recorded(disks, {(): 11}, _MACHINE)
    for links in (recorded.LINKS_RECEIVED, recorded.LINKS_SENT):
        yield Recorded(links, {(): 20}, _MACHINE)


GOOD: Final = 3.0
BAD: Final = 1.0
"""Events of a minute."""


def objective_world() -> list[Series]:
    """Good and bad events of each objective."""
    return [each for name in EVENTS for each in EVENTS[name](_growing(GOOD), _growing(BAD), ONE)]


def objective_expectations() -> Iterator[Recorded]:
    """The shares of bad events, and the numbers of all."""
    for objective in OBJECTIVES:
        for window in (*FAST, *SLOW):
            yield Recorded(failure_ratio(objective, window), {(): BAD / (GOOD + BAD)})
        yield Recorded(event_count(objective, hours(1)), {(): 60 * (GOOD + BAD)})
        # Half a minute is added where a window begins before the figures do.
        for window in (hours(6), *SLOW):
            yield Recorded(event_count(objective, window), {(): (LAST + 0.5) * (GOOD + BAD)})


def idle() -> list[Series]:
    """The same servers' series while nothing happens."""
    return [
        Series(each.name, each.labels, always(each.course.value(0)))
        for each in (*world(), *neighbours(), *objective_world())
    ]


RATIOS: Final = (
    recorded.SERVER_ERROR_RATIO,
    recorded.EXECUTION_SUCCESS,
    recorded.EXECUTION_MEAN,
    *(failure_ratio(objective, window) for objective in OBJECTIVES for window in (*FAST, *SLOW)),
)
"""Rules that record nothing while nothing happens; those of percentiles record NaN."""


def _test(name: str, scraped: list[Series], questions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": str(minutes(1)),
        "input_series": [each.render(LAST) for each in scraped],
        "promql_expr_test": questions,
    }


def recording_tests() -> list[dict[str, Any]]:
    """The tests of all recording rules, for promtool."""
    nothing = [{"expr": rule.series.text, "eval_time": str(minutes(LAST)), "exp_samples": []} for rule in RATIOS]
    return [
        _test("a busy server", [*world(), *neighbours()], [each.render() for each in expectations()]),
        _test("good and bad events", objective_world(), [each.render() for each in objective_expectations()]),
        _test("nothing happens", idle(), nothing),
    ]
