"""Metrics out of events: each event counts where it should, to the unit, and nothing that it says adds a series."""

import math
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from pocket_agent import events
from pocket_agent.config import MetricsSettings
from pocket_agent.errors import ValidationError
from pocket_agent.events import Event
from pocket_agent.model import ExecutionContext, ExecutionStatus, ModelUsage
from pocket_agent.observability.catalogue import INVALID, MEASURED, OPERATION_OF, PREFIX
from pocket_agent.observability.metrics import MetricObserver
from pocket_agent.observability.tracing import TraceIdentity
from pocket_agent.protocol.request import REQUESTS
from tests.observability.sample import KINDS, NUMBER, context, example

ODD = ['x"} 1\n', "a\nb", "\\", "\x00", "ä€😀", "\udcff", "", "x" * 100_000]
Sample = tuple[str, tuple[tuple[str, str], ...]]


def samples(observer: MetricObserver) -> dict[Sample, float]:
    """All samples of the server's own metrics; `process_*` change by themselves."""
    return {
        (sample.name.removeprefix(PREFIX), tuple(sample.labels.items())): sample.value
        for family in observer.registry.collect()
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


def changes(observer: MetricObserver, *told: Event) -> dict[Sample, float]:
    """What the events add; buckets are left out."""
    before = samples(observer)
    for event in told:
        observer.emit(event)
    after = samples(observer)
    assert set(after) == set(before), "no event adds a series, or takes one away"
    return {
        key: value - before[key]
        for key, value in after.items()
        if value != before[key] and not key[0].endswith("_bucket")
    }


def at(name: str, **labels: str) -> Sample:
    """The key of a sample."""
    return name, tuple(labels.items())


def handled(kind: str, code: str | None = None, duration: float = 0.25) -> events.RequestHandled:
    """A request that was answered."""
    return events.RequestHandled(kind, code, duration, None, "c")


def finished(status: ExecutionStatus, **fields: Any) -> Event:
    """The end of an execution that used nothing."""
    return example(events.ExecutionFinished, **{"status": status, "code": None, "usage": (), **fields})


def test_a_request_that_is_answered() -> None:
    assert changes(MetricObserver(), handled("execute")) == {
        at("messages_received_total", type="execute"): 1,
        at("requests_total", type="execute", outcome="ok"): 1,
        at("request_duration_seconds_count", type="execute"): 1,
        at("request_duration_seconds_sum", type="execute"): 0.25,
    }


def test_a_request_that_is_refused() -> None:
    assert changes(MetricObserver(), handled("execute", "RESOURCE_LIMIT")) == {
        at("messages_received_total", type="execute"): 1,
        at("requests_total", type="execute", outcome="client_error"): 1,
        at("request_duration_seconds_count", type="execute"): 1,
        at("request_duration_seconds_sum", type="execute"): 0.25,
        at("errors_total", code="RESOURCE_LIMIT", operation="execute"): 1,
        at("executions_total", status="rejected"): 1,
    }


def test_a_frame_that_is_no_request() -> None:
    assert changes(MetricObserver(), handled(INVALID, ValidationError.code)) == {
        at("messages_received_total", type="invalid"): 1,
        at("requests_total", type="invalid", outcome="client_error"): 1,
        at("request_duration_seconds_count", type="other"): 1,
        at("request_duration_seconds_sum", type="other"): 0.25,
        at("errors_total", code="VALIDATION_FAILED", operation="protocol"): 1,
    }


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("INTERNAL_ERROR", "server_error"),
        ("FILE_OPERATION", "server_error"),
        ("CLAUDE_NOT_FOUND", "server_error"),
        ("EXECUTION_FAILED", "server_error"),
        ("FORBIDDEN", "client_error"),
        ("PROJECT_NOT_FOUND", "client_error"),
    ],
)
def test_whose_fault_an_error_is(code: str, outcome: str) -> None:
    found = changes(MetricObserver(), handled("execute", code))
    assert found[at("requests_total", type="execute", outcome=outcome)] == 1
    assert found[at("errors_total", code=code, operation="execute")] == 1


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_request_has_an_operation_and_is_no_stranger(kind: str) -> None:
    observer = MetricObserver()
    found = changes(observer, handled(kind, "INTERNAL_ERROR"))
    assert found[at("messages_received_total", type=kind)] == 1
    assert found[at("errors_total", code="INTERNAL_ERROR", operation=OPERATION_OF[kind])] == 1
    measured = kind if kind in MEASURED else "other"
    assert found[at("requests_total", type=measured, outcome="server_error")] == 1
    assert not [key for key in found if key[0] == "metric_label_overflow_total"]


@pytest.mark.parametrize("status", ["success", "error", "timeout", "killed"])
def test_an_execution_that_is_over(status: str) -> None:
    found = changes(MetricObserver(), finished(ExecutionStatus(status), duration=7.0))
    codes = {"error": "EXECUTION_FAILED", "timeout": "EXECUTION_TIMEOUT"}
    expected = {
        at("executions_total", status=status): 1.0,
        at("execution_duration_seconds_count", status=status): 1,
        at("execution_duration_seconds_sum", status=status): 7,
    }
    if status in codes:
        expected[at("errors_total", code=codes[status], operation="execution")] = 1
    assert found == expected


def test_an_execution_falls_into_the_guides_buckets() -> None:
    observer = MetricObserver()
    for seconds in (0.5, 1, 7, 601):
        observer.emit(finished(ExecutionStatus.SUCCESS, duration=seconds))
    name = PREFIX + "execution_duration_seconds_bucket"
    counts = {
        bound: observer.registry.get_sample_value(name, {"status": "success", "le": bound})
        for bound in ("1.0", "5.0", "10.0", "30.0", "60.0", "120.0", "300.0", "600.0", "+Inf")
    }
    assert list(counts.values()) == [2, 2, 3, 3, 3, 3, 3, 3, 4]


def test_an_end_for_a_reason_has_its_own_code() -> None:
    found = changes(MetricObserver(), finished(ExecutionStatus.ERROR, code="CLAUDE_NOT_FOUND"))
    assert found[at("errors_total", code="CLAUDE_NOT_FOUND", operation="execution")] == 1
    assert at("errors_total", code="EXECUTION_FAILED", operation="execution") not in found


def test_what_was_used_counts_by_model_and_project() -> None:
    usage = (
        ModelUsage("claude-opus-5-5", 1, 2, 3, 4, 0.5),
        ModelUsage("us.anthropic.claude-Sonnet-4-5[1m]", 10, 20, 30, 40, 0.25),
        ModelUsage("my-own\n", 100, 200, 300, 400, 0.125),
    )
    names = {"p-1": "mine", "p-2": "not-listed"}
    observer = MetricObserver(MetricsSettings(projects=("mine", "idle")), name_of=names.get)
    told = [
        finished(ExecutionStatus.SUCCESS, usage=usage, context=context("p-1")),
        events.UsageAdded("p-2", None, usage[:1]),
        events.UsageAdded("gone", None, usage[:1]),
    ]
    found = changes(observer, *told)
    tokens = {key[1]: value for key, value in found.items() if key[0] == "claude_tokens_total"}
    kinds = ("input", "output", "cacheRead", "cacheCreation")
    expected = {"opus": (3, 6, 9, 12), "sonnet": (10, 20, 30, 40), "other": (100, 200, 300, 400)}
    assert tokens == {
        (("type", kind), ("model", model)): counts[place]
        for model, counts in expected.items()
        for place, kind in enumerate(kinds)
    }
    assert {key[1]: value for key, value in found.items() if key[0] == "claude_cost_usd_total"} == {
        (("model", "opus"),): 1.5,
        (("model", "sonnet"),): 0.25,
        (("model", "other"),): 0.125,
    }
    assert found[at("project_tokens_total", type="cacheRead", project="mine")] == 333
    assert found[at("project_tokens_total", type="cacheRead", project="other")] == 6
    assert found[at("project_cost_usd_total", project="mine")] == 0.875
    assert found[at("project_cost_usd_total", project="other")] == 1
    assert not [key for key in found if key[0] == "metric_label_overflow_total"], "other is an ordinary value here"


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
def test_a_counter_never_goes_back_nor_breaks(cost: float) -> None:
    observer = MetricObserver()
    usage = (ModelUsage("opus", -1, 2, 0, 0, cost),)
    found = changes(observer, events.UsageAdded("p", None, usage))
    assert found == {
        at("claude_tokens_total", type="output", model="opus"): 2,
        at("project_tokens_total", type="output", project="other"): 2,
    }


def test_a_clock_that_was_set_back_takes_nothing_from_a_sum() -> None:
    found = changes(MetricObserver(), finished(ExecutionStatus.SUCCESS, duration=-60.0))
    assert found == {
        at("executions_total", status="success"): 1,
        at("execution_duration_seconds_count", status="success"): 1,
    }


@pytest.mark.parametrize("behavior", ["allow", "deny", "cancelled"])
def test_an_approval(behavior: str) -> None:
    found = changes(MetricObserver(), example(events.ApprovalResolved, behavior=behavior, waited=4.0))
    waited = {at("approval_wait_seconds_count"): 1.0, at("approval_wait_seconds_sum"): 4.0}
    assert found == {at("approvals_total", behavior=behavior): 1.0, **(waited if behavior != "cancelled" else {})}


@pytest.mark.parametrize(
    ("tool", "label"),
    [
        ("Bash", "Bash"),
        ("Task", "Agent"),
        ("Agent", "Agent"),
        ("mcp__server__do", "mcp"),
        ("Glob", "other"),
        ('x"} 1\n', "other"),
    ],
)
def test_a_tool_call(tool: str, label: str) -> None:
    for outcome in ("success", "error", "denied"):
        found = changes(MetricObserver(), example(events.ToolCompleted, tool=tool, outcome=outcome))
        assert found == {at("claude_tool_calls_total", tool=label, outcome=outcome): 1}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("unauthorized", "UNAUTHORIZED"),
        ("throttled", "RATE_LIMITED"),
        ("host", "FORBIDDEN"),
        ("origin", "FORBIDDEN"),
        ("rate", "RATE_LIMITED"),
        ("limit", "RESOURCE_LIMIT"),
        ("stopping", "RESOURCE_LIMIT"),
    ],
)
def test_a_connection_that_is_refused(reason: str, code: str) -> None:
    assert changes(MetricObserver(), example(events.ConnectionRejected, reason=reason)) == {
        at("connections_rejected_total", reason=reason): NUMBER,
        at("errors_total", code=code, operation="connection"): NUMBER,
    }


@pytest.mark.parametrize(
    ("code", "initiator", "label"),
    [
        (1000, "client", "1000"),
        (1006, "client", "1006"),
        (1006, "server", "1006"),
        (4008, "server", "4008"),
        (4009, "server", "4009"),
        (3999, "client", "other"),
        (4008, "client", "other"),
    ],
)
def test_a_connection_that_ends(code: int, initiator: str, label: str) -> None:
    found = changes(MetricObserver(), example(events.ConnectionClosed, code=code, initiator=initiator))
    expected = {at("disconnects_total", code=label, initiator=initiator): 1.0}
    if label == "other":
        expected[at("metric_label_overflow_total", metric=PREFIX + "disconnects_total")] = 1
    assert found == expected


def test_the_rest_of_the_events() -> None:
    observer = MetricObserver()
    assert changes(observer, example(events.ConnectionOpened)) == {at("connections_total"): 1}
    assert changes(observer, example(events.PongReceived, duration=0.5)) == {
        at("ping_rtt_seconds_count"): 1,
        at("ping_rtt_seconds_sum"): 0.5,
    }
    assert changes(observer, example(events.FirstMessageReceived, duration=0.5)) == {
        at("time_to_first_message_seconds_count"): 1,
        at("time_to_first_message_seconds_sum"): 0.5,
    }
    assert changes(observer, example(events.ProjectFaulted)) == {
        at("errors_total", code="INTERNAL_ERROR", operation="project"): 1
    }
    assert changes(observer, example(events.TaskFaulted)) == {
        at("errors_total", code="INTERNAL_ERROR", operation="server"): 1
    }
    assert changes(observer, example(events.ExecutionDelayed, code="CLAUDE_NOT_FOUND")) == {
        at("errors_total", code="CLAUDE_NOT_FOUND", operation="execution"): 1
    }
    assert changes(observer, example(events.StorageFailed)) == {
        at("errors_total", code="FILE_OPERATION", operation="storage"): 1
    }
    until = datetime(2030, 1, 2, tzinfo=UTC)
    assert changes(observer, example(events.CertificateLoaded, not_after=until)) == {
        at("tls_not_after_timestamp_seconds"): until.timestamp()
    }


def test_a_health_check_is_up_while_it_is_healthy() -> None:
    observer = MetricObserver()
    disk = at("health_check_up", check="disk")
    assert samples(observer)[disk] == 0, "not before it was looked at"
    for status, value in (("healthy", 1), ("warning", 0), ("healthy", 1), ("unhealthy", 0)):
        observer.emit(example(events.HealthChanged, check="disk", status=status))
        assert samples(observer)[disk] == value


def test_exemplars_lead_to_sampled_traces_alone() -> None:
    def identify(found: ExecutionContext) -> TraceIdentity | None:
        known = {"yes": True, "no": False}
        trace = found.execution_id
        return TraceIdentity(trace * 8, "s", known[trace]) if trace in known else None

    def exemplars(execution: str) -> set[tuple[str, str]]:
        observer = MetricObserver(identify=identify)
        named = context(execution)
        observer.emit(finished(ExecutionStatus.SUCCESS, context=named))
        observer.emit(example(events.FirstMessageReceived, context=named))
        observer.emit(example(events.ApprovalResolved, context=named))
        return {
            (family.name.removeprefix(PREFIX), sample.exemplar.labels["trace_id"])
            for family in observer.registry.collect()
            for sample in family.samples
            if sample.exemplar
        }

    names = ("executions", "execution_duration_seconds", "time_to_first_message_seconds", "approval_wait_seconds")
    assert exemplars("yes") == {(name, "yes" * 8) for name in names}
    assert exemplars("no") == set()
    assert exemplars("untraced") == set()


def test_no_text_of_an_event_adds_a_series() -> None:
    observer = MetricObserver()
    before, adding = set(samples(observer)), set()
    for kind, word in product(KINDS, ODD):
        observer.emit(example(kind, word))
        observer.emit(example(kind, word))
        if set(samples(observer)) != before:
            adding.add((kind, word))
    assert adding == set()


def test_each_handled_event_changes_a_metric_and_no_other_event_does() -> None:
    wrong = set()
    for kind in KINDS:
        observer = MetricObserver()
        told = {"check": "disk", "status": "healthy"} if kind is events.HealthChanged else {}
        changed = bool(changes(observer, example(kind, **told))) or observer.dropped > 0
        if changed != (kind in MetricObserver.handlers):
            wrong.add(kind)
    assert wrong == set()


@pytest.mark.parametrize(
    ("event", "metric"),
    [
        (handled("no_such_request"), "messages_received_total"),
        (handled("execute", "NO_SUCH_CODE"), "errors_total"),
        (handled("server_stats", "PROJECT_EXISTS"), "errors_total"),
        (example(events.HealthChanged, check="no such check"), "health_check_up"),
        (finished(ExecutionStatus.CANCELLED), "executions_total"),
        (finished(ExecutionStatus.CANCELLED), "execution_duration_seconds"),
    ],
)
def test_what_the_catalogue_does_not_know_is_told(event: Event, metric: str) -> None:
    found = changes(MetricObserver(), event)
    assert found[at("metric_label_overflow_total", metric=PREFIX + metric)] == 1


def test_a_strange_error_is_other() -> None:
    observer = MetricObserver()
    found = changes(observer, handled("no_such_request", "NO_SUCH_CODE"), handled("server_stats", "PROJECT_EXISTS"))
    assert found[at("errors_total", code="other", operation="other")] == 2
    assert found[at("messages_received_total", type="other")] == 1
