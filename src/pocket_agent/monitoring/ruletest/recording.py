"""What the recording rules make of counters that grow evenly: by hand, for comparison."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pocket_agent.monitoring import recording as recorded
from pocket_agent.monitoring.foreign import CPU_SECONDS
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
    """

    rule: Recording
    values: Steps

    def render(self) -> dict[str, Any]:
        """A question for promtool. What is rounded has no name, and is equal to the digit."""
        labels = sorted(self.rule.query.labels)
        return {
            "expr": f"round({self.rule.series.text}, 0.000001)",
            "eval_time": str(minutes(LAST)),
            "exp_samples": [
                {"labels": _labels(dict(zip(labels, key, strict=True)) | dict(self.rule.constants)), "value": value}
                for key, value in self.values.items()
            ],
        }


def _labels(own: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{label}="{value}"' for label, value in {**own, **ONE}.items()) + "}"


def _growing(step: float) -> Course:
    return always(_USED).growing(1, step)


def _counters(metric: Metric, steps: Steps) -> Iterator[Series]:
    for key, step in steps.items():
        yield Series(metric.name, {**dict(zip(metric.labels, key, strict=True)), **ONE}, _growing(step))


def _gauges(metric: Metric, values: Steps) -> Iterator[Series]:
    for key, value in values.items():
        yield Series(metric.name, {**dict(zip(metric.labels, key, strict=True)), **ONE}, always(value))


# What a minute brings; an hour brings 60 times as much.
_MESSAGES: Final[Steps] = {("execute",): 6, ("project_list",): 3}
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
_LIMITS: Final[Steps] = {("connections",): 40, ("memory_bytes",): 0}


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
        *_gauges(catalogue.LIMIT_USAGE, _USAGE),
        *_gauges(catalogue.LIMIT, _LIMITS),
        series(CPU_SECONDS, _growing(15)),
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
    }
    for rule, values in made.items():
        yield Recorded(rule, {key: round(value, 6) for key, value in values.items()})


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
    return [Series(each.name, each.labels, always(each.course.value(0))) for each in (*world(), *objective_world())]


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
        _test("a busy server", world(), [each.render() for each in expectations()]),
        _test("good and bad events", objective_world(), [each.render() for each in objective_expectations()]),
        _test("nothing happens", idle(), nothing),
    ]
