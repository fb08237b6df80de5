"""Metrics: each event counts where it should, to the unit, and the core's plain numbers are read at a scrape."""

import math
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pytest

from pocket_agent import __version__, events
from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError, ValidationError
from pocket_agent.events import Event
from pocket_agent.model import ExecutionContext, ExecutionStatus, ModelUsage
from pocket_agent.observability import catalogue, metrics
from pocket_agent.observability.catalogue import INVALID, MEASURED, OPERATION_OF, PREFIX, Metric
from pocket_agent.observability.metrics import (
    CoreCollector,
    CoreValues,
    HistogramValue,
    MetricObserver,
    core_families,
    memory_limit,
)
from pocket_agent.observability.tracing import TraceIdentity
from pocket_agent.protocol.requests import FRAMES, REQUESTS
from pocket_agent.settings import MetricsSettings
from tests.observability.sample import KINDS, NUMBER, context, example
from tests.server.room import Room, open_room, until

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
    """The end of an execution that used nothing, and was not paused."""
    return example(
        events.ExecutionFinished, **{"status": status, "code": None, "usage": (), "was_paused": False, **fields}
    )


def test_the_time_paused_is_no_time_of_an_execution() -> None:
    """Otherwise two executions that a usage limit has stopped are slow ones."""
    event = finished(ExecutionStatus.SUCCESS, duration=18_060.0, waited=18_000.0, was_paused=True)
    assert changes(MetricObserver(), event)[at("execution_duration_seconds_sum", status="success")] == 60.0


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


def test_every_request_counts_with_its_operation() -> None:
    wrong = {}
    for kind in REQUESTS:
        found = changes(MetricObserver(), handled(kind, "INTERNAL_ERROR"))
        measured = kind if kind in MEASURED else "other"
        expected = {
            at("messages_received_total", type="other" if REQUESTS[kind].spec.rare else kind),
            at("errors_total", code="INTERNAL_ERROR", operation=OPERATION_OF[kind]),
            at("requests_total", type=measured, outcome="server_error"),
        }
        if not expected <= {key for key, value in found.items() if value == 1}:
            wrong[kind] = found
        if any(name == "metric_label_overflow_total" for name, _ in found):
            wrong[kind] = found
    assert wrong == {}


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
        found = changes(MetricObserver(), example(events.ToolCompleted, tool=tool, outcome=outcome, duration=2.5))
        assert found == {
            at("claude_tool_calls_total", tool=label, outcome=outcome): 1,
            at("claude_tool_seconds_total", tool=label): 2.5,
        }


@pytest.mark.parametrize("tool", ["Write", "Edit", "NotebookEdit"])
@pytest.mark.parametrize("decision", ["accept", "reject"])
def test_an_edit(tool: str, decision: str) -> None:
    found = changes(MetricObserver(), example(events.ToolCompleted, tool=tool, decision=decision))
    assert found[at("claude_edits_total", decision=decision)] == 1


def test_a_request_to_the_api() -> None:
    assert changes(MetricObserver(), example(events.ApiRequestAnswered, duration=4.0)) == {
        at("claude_api_request_seconds_count"): 1,
        at("claude_api_request_seconds_sum"): 4.0,
    }


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
    expected = {at("disconnects_total", code=label, initiator=initiator): 1.0, at("clients_active", client="web"): -1}
    if label == "other":
        expected[at("metric_label_overflow_total", metric=PREFIX + "disconnects_total")] = 1
    assert found == expected


def test_the_rest_of_the_events() -> None:
    observer = MetricObserver()
    opened = {at("connections_total"): 1, at("clients_active", client="web"): 1}
    assert changes(observer, example(events.ConnectionOpened)) == opened
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


NOT_COUNTED = {
    events.ServerStarted,
    events.ServerStopping,
    events.ServerStopped,
    events.ListenersOpened,
    events.MetricsServed,
    events.SettingIgnored,
    events.CliVulnerable,
    events.DevicePaired,
    events.DeviceRevoked,
    events.DeviceRotated,
    events.RequestFaulted,
    events.ConversationCreated,
    events.ConversationDeleted,
    events.ProjectCreated,
    events.ProjectDeleted,
    events.ProjectTrusted,
    events.ExecutionContinued,
    events.ExecutionQueued,
    events.ExecutionPaused,
    events.ExecutionContinued,
    events.ExecutionWithdrawn,
    events.ExecutionStarted,
    events.ApprovalRequested,
    events.ProcessSpawned,
    events.ProcessAdopted,
    events.ProcessExited,
    events.LineRejected,
    events.StorageCommitted,
    events.EpochRenewed,
    events.NotificationLost,
    events.BudgetExceeded,
}


def test_every_event_changes_a_metric_but_those_that_are_not_counted() -> None:
    unchanged = set()
    for kind in KINDS:
        observer = MetricObserver()
        told = {"check": "disk", "status": "healthy"} if kind is events.HealthChanged else {}
        if not changes(observer, example(kind, **told)) and observer.dropped == 0:
            unchanged.add(kind)
    assert unchanged == NOT_COUNTED


@pytest.mark.parametrize(
    ("event", "metric"),
    [
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
    assert found[at("messages_received_total", type="other")] == 2


GIB = 2**30
HALF = psutil.virtual_memory().total // 2
"""Half of the machine's memory, where there is no limit."""


def write(path: Path, text: str) -> None:
    """A file with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def limit(tmp_path: Path, groups: str, setting: int = 0) -> int:
    """The limit of a process in these groups."""
    write(tmp_path / "proc", groups)
    return memory_limit(setting, proc=tmp_path / "proc", root=tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("setting", "own", "around", "expected"),
    [
        (0, "max\n", "max\n", HALF),
        (5, "max\n", "max\n", 5),
        (0, f"{GIB}\n", "max\n", GIB),
        (0, "max\n", f"{GIB}\n", GIB),
        (0, f"{2 * GIB}\n", f"{GIB}\n", GIB),
        (3 * GIB, f"{2 * GIB}\n", f"{4 * GIB}\n", 2 * GIB),
        (GIB, f"{2 * GIB}\n", "max\n", GIB),
        (0, "nonsense", "", HALF),
    ],
)
def test_version_2(tmp_path: Path, setting: int, own: str, around: str, expected: int) -> None:
    write(tmp_path / "cgroup/system.slice/agent.service/memory.max", own)
    write(tmp_path / "cgroup/system.slice/memory.max", around)
    assert limit(tmp_path, "0::/system.slice/agent.service\n", setting) == expected


def test_version_2_in_a_container_that_shows_the_hosts_path(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/memory.max", f"{GIB}\n")
    assert limit(tmp_path, "0::/docker/0123456789\n") == GIB


def test_version_1(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/memory/docker/0123/memory.limit_in_bytes", f"{GIB}\n")
    write(tmp_path / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(tmp_path / "cgroup/cpu/docker/0123/memory.limit_in_bytes", "1\n")
    groups = "12:cpu,cpuacct:/docker/0123\n4:memory:/docker/0123\n0::/\n"
    assert limit(tmp_path, groups) == GIB


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert limit(tmp_path, "4:memory:/\n") == HALF


def test_where_there_are_no_groups_the_setting_counts(tmp_path: Path) -> None:
    assert memory_limit(7, proc=tmp_path / "nothing", root=tmp_path) == 7
    assert memory_limit(0, proc=tmp_path / "nothing", root=tmp_path) == HALF


def test_of_this_process() -> None:
    assert memory_limit(0) > 0
    assert memory_limit(1) == 1


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A server with little room, and the stand-in for its agent."""
    async with open_room(tmp_path, limits__max_executions=1, limits__cost_usd_per_day=2.5) as opened:
        yield opened


def core_of(room: Room, lags: Distribution | None = None) -> CoreCollector:
    """A collector of the room's figures."""
    return CoreCollector(
        room.hub,
        room.projects,
        room.store,
        room.losses,
        room.metrics,
        room.settings,
        Distribution() if lags is None else lags,
        room.observed.agents,
    )


def value(figures: CoreValues, metric: Metric, *key: str) -> float:
    """One figure."""
    found = figures[metric]
    assert not isinstance(found, HistogramValue)
    return found[key]


async def test_a_server_at_work(room: Room) -> None:
    core = core_of(room)
    one, two = await room.project("one"), await room.project("two")
    async with room.client() as client, room.client() as other:
        first, second = one.state.record.id, two.state.record.id
        async with client.subscribe(first), other.subscribe(first), other.subscribe(second):
            await client.execute(first, "ask Bash")
            await client.execute(first, "hello")
            await client.execute(second, "hello")
            found = await core.collect()
            assert value(found, catalogue.CONNECTIONS_ACTIVE) == 2
            assert value(found, catalogue.PROJECTS_TOTAL) == 2
            assert value(found, catalogue.PROJECTS_ACTIVE, "EXECUTING") == 1
            assert value(found, catalogue.PROJECTS_ACTIVE, "IDLE") == 1
            assert value(found, catalogue.EXECUTIONS_ACTIVE) == 1
            assert value(found, catalogue.EXECUTION_QUEUE_DEPTH) == 2
            assert value(found, catalogue.SUBSCRIPTIONS_ACTIVE) == 3
            assert value(found, catalogue.SEND_QUEUE_BYTES) == sum(
                connection.buffered for connection in room.endpoint.connections()
            )
            assert value(found, catalogue.LIMIT_USAGE, "processes") == 1
            await until(lambda: bool(one.state.approvals))
            assert value(await core.collect(), catalogue.APPROVALS_PENDING) == 1
            await client.kill(first)
    await room.until_connections(0)
    found = await core.collect()
    assert value(found, catalogue.CONNECTIONS_ACTIVE) == 0
    assert value(found, catalogue.SUBSCRIPTIONS_ACTIVE) == 0


async def test_deliveries_by_type(room: Room) -> None:
    core = core_of(room)
    session = await room.project("one")
    async with room.client() as client, client.subscribe(session.state.record.id) as stream:
        await client.execute(session.state.record.id, "lines 5")
        async for frame in stream:
            if frame.type == "project_state" and frame.data["state"] == "IDLE" and frame.data["offset"] > 5:
                break
        found = await core.collect()
        # init, five lines and the result, to one subscriber
        assert value(found, catalogue.MESSAGES_SENT, "agent_message") == 7
        assert value(found, catalogue.MESSAGES_SENT, "prompt") == 1
        assert set(room.hub.sent_by_type) <= {*FRAMES, "agent_message"}
        assert value(found, catalogue.MESSAGE_BYTES, "received") == room.hub.received_bytes > 0
        assert value(found, catalogue.MESSAGE_BYTES, "sent") == room.hub.sent_bytes > 1000
        others = value(found, catalogue.MESSAGES_SENT, "other")
        room.hub.sent_by_type["no such frame"] += 3
        assert value(await core.collect(), catalogue.MESSAGES_SENT, "other") == others + 3


async def test_limits_and_their_usage(room: Room) -> None:
    found = await core_of(room).collect()
    limits = found[catalogue.LIMIT]
    assert limits == {
        ("connections",): 100,
        ("projects",): 100,
        ("executions",): 1,
        ("processes",): 10,
        ("memory_bytes",): value(found, catalogue.LIMIT, "memory_bytes"),
        ("cost_usd_per_day",): 2.5,
    }
    usage = found[catalogue.LIMIT_USAGE]
    assert not isinstance(usage, HistogramValue)
    assert set(usage) == {(name,) for name in catalogue.LIMITS}
    assert usage["memory_bytes",] == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    room.projects.budget.spend(room.projects.budget.today, 1.25)
    assert value(await core_of(room).collect(), catalogue.LIMIT_USAGE, "cost_usd_per_day") == 1.25


async def test_what_is_lost_dropped_and_parked(room: Room) -> None:
    room.losses.add("logs", 2)
    room.losses.add("traces", 3)
    room.losses.add("notifications", 6)
    room.hub.parked = 4
    room.metrics.dropped = 5
    found = await core_of(room).collect()
    assert found[catalogue.TELEMETRY_DROPPED] == {
        ("logs",): 2,
        ("traces",): 3,
        ("events",): 0,
        ("notifications",): 6,
    }
    assert found[catalogue.SLOW_CONSUMER] == {("parked",): 4, ("dropped",): 5}


async def test_what_is_running(room: Room) -> None:
    (key,) = (await core_of(room).collect())[catalogue.BUILD_INFO]  # type: ignore[misc]
    assert key[0] == __version__
    assert all(key)


async def test_the_disk(room: Room) -> None:
    before = room.store.size_bytes()
    found = await core_of(room).collect()
    assert 0 < before <= value(found, catalogue.STORAGE_SIZE) <= room.store.size_bytes()
    assert value(found, catalogue.STORAGE_FREE) == pytest.approx(room.store.free_bytes(), rel=0.2)


async def test_a_disk_that_cannot_be_read_is_no_number(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise FileOperationError("gone")

    monkeypatch.setattr(room.store, "free_bytes", refuse)
    assert math.isnan(value(await core_of(room).collect(), catalogue.STORAGE_FREE))


async def test_a_disk_that_hangs_keeps_no_scrape_and_takes_one_thread(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def hang() -> int:
        go_on.wait()
        return 1

    def threads() -> int:
        return [thread.name for thread in threading.enumerate()].count("metrics-disk")

    monkeypatch.setattr(room.store, "free_bytes", hang)
    monkeypatch.setattr(metrics, "_DISK_SECONDS", 0.01)
    core = core_of(room)
    before = threads()  # those of other tests of this process are used again
    try:
        for _ in range(5):
            found = await core.collect()
            assert math.isnan(value(found, catalogue.STORAGE_FREE))
            assert value(found, catalogue.PROJECTS_TOTAL) == 0
        assert threads() <= max(1, before + 1)
    finally:
        go_on.set()


async def test_distributions_are_histograms(room: Room) -> None:
    lags = Distribution((0.5, 1))
    for seconds in (0.5, 0.75, 0.75, 3):
        lags.observe(seconds)
    found = await core_of(room, lags).collect()
    assert found[catalogue.EVENT_LOOP_LAG] == HistogramValue((0.5, 1), (1, 3, 4), 5.0)
    (family,) = [family for family in core_families(found) if family.name == catalogue.EVENT_LOOP_LAG.name]
    samples = {
        sample.name.removeprefix(family.name) + sample.labels.get("le", ""): sample.value for sample in family.samples
    }
    assert samples == {"_bucket0.5": 1, "_bucket1.0": 3, "_bucket+Inf": 4, "_count": 4, "_sum": 5}


async def test_families_are_those_of_the_catalogue_in_its_order(room: Room) -> None:
    found = await core_of(room).collect()
    names = [family.name for family in core_families(found)]
    order = [metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name for metric in found]
    assert sorted(names) == sorted(order)
    known = [
        metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        for metric in catalogue.CATALOGUE
    ]
    assert names == [name for name in known if name in names]


async def test_figures_stay_what_they_were_while_everything_goes_on(room: Room) -> None:
    """They are rendered in another thread than the one that changes what they were taken from."""

    def rendered() -> list[tuple[str, dict[str, str], float]]:
        return [
            (sample.name, sample.labels, sample.value) for family in core_families(found) for sample in family.samples
        ]

    await room.project("one")
    found = await core_of(room).collect()
    before = rendered()
    await room.project("two")
    room.hub.sent_by_type["agent_message"] += 5
    room.hub.sent_by_type["another"] += 5
    room.losses.add("logs")
    assert rendered() == before
    found = await core_of(room).collect()
    assert rendered() != before


@pytest.mark.parametrize("kind", ["web", "chat", "library", "other"])
def test_clients_come_and_go_by_kind(kind: str) -> None:
    observer = MetricObserver()
    found = changes(observer, *(example(events.ConnectionOpened, client=kind) for _ in range(3)))
    assert found[at("clients_active", client=kind)] == 3
    assert found[at("connections_total")] == 3
    found = changes(observer, example(events.ConnectionClosed, client=kind, code=1000, initiator="client"))
    assert found == {at("clients_active", client=kind): -1, at("disconnects_total", code="1000", initiator="client"): 1}
