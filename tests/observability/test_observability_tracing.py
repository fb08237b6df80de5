"""Tracing: ids, sampling, settings and variables, what the CLI is given, and the spans that a collector gets."""

import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pocket_agent import __version__, events
from pocket_agent.events import Event
from pocket_agent.model import ExecutionContext, ExecutionId, ExecutionStatus, Milliseconds, ModelUsage, project_of
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.observation import open_traces
from pocket_agent.observability.tracing import (
    MAX_COMMITS,
    SPANS,
    SpanObserver,
    Telemetry,
    TraceOptions,
    Traces,
    TraceSampler,
    read_telemetry,
    remote_span,
    span_id,
    trace_identity,
    traceparent,
    untraced,
)
from pocket_agent.observability.tracing import trace_identity as identity_of
from pocket_agent.settings import Settings, load_settings
from tests.harness.collector import Collected, Collector, collecting
from tests.harness.follow import eventually
from tests.observability.sample import KINDS, example
from tests.server.room import Recorder

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
CLIENT = f"00-{TRACE}-{SPAN}-01"


def sampled_context(traceparent: str | None = None, execution_id: str | None = None) -> ExecutionContext:
    """What names an execution, a new one unless its id is given."""
    return ExecutionContext(project_of("p"), ExecutionId(execution_id or str(uuid.uuid4())), "c", traceparent)


def test_the_ids_follow_from_the_execution_alone() -> None:
    one = trace_identity(sampled_context(execution_id="e"), TraceSampler())
    assert trace_identity(sampled_context(execution_id="e"), TraceSampler()) == one
    other = trace_identity(sampled_context(execution_id="f"), TraceSampler())
    assert len({one.trace_id, other.trace_id, one.span_id, other.span_id}) == 4
    assert (len(one.trace_id), len(one.span_id)) == (32, 16)
    keys = ["execute", "queue", "prepare", "commit:1", "commit:2"]
    assert len({span_id(sampled_context(execution_id="e"), key) for key in keys}) == len(keys)


def test_the_clients_trace_is_continued() -> None:
    identity = trace_identity(sampled_context(CLIENT), TraceSampler(0.0))
    assert (identity.trace_id, identity.sampled) == (TRACE, True)
    assert identity.span_id != SPAN
    assert traceparent(identity) == f"00-{TRACE}-{identity.span_id}-01"
    two = [trace_identity(sampled_context(CLIENT, execution_id), TraceSampler()) for execution_id in "ab"]
    assert two[0].span_id != two[1].span_id


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (CLIENT, True),
        (CLIENT[:-2] + "00", False),
        (CLIENT[:-2] + "ff", True),
        (CLIENT[:-2] + "fe", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_valid_header_is_read(header: str, sampled: bool) -> None:
    assert remote_span(header) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        CLIENT.upper(),
        CLIENT + "-01",
        CLIENT + "\n",
        " " + CLIENT,
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        "\u0660" * 55,
    ],
)
def test_a_malformed_header_counts_as_none(header: str | None) -> None:
    assert remote_span(header) is None
    assert trace_identity(sampled_context(header, "e"), TraceSampler()) == trace_identity(
        sampled_context(None, "e"), TraceSampler()
    )


@given(
    st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[0-9a-f]{0,4})?", fullmatch=True)
    | st.text("0f-1", min_size=50, max_size=60)
)
def test_headers_are_read_as_the_sdk_does(header: str) -> None:
    theirs = TraceContextTextMapPropagator().extract({"traceparent": header})
    (span,) = [value.get_span_context() for value in theirs.values()] or [None]  # type: ignore[attr-defined]
    ours = remote_span(header)
    if span is None or ours is None:
        assert span is None
        assert ours is None
    else:
        assert (int(ours.trace_id, 16), int(ours.span_id, 16)) == (span.trace_id, span.span_id)
        assert ours.sampled == span.trace_flags.sampled


@given(st.integers(1, 2**128 - 1), st.sampled_from([0.0, 0.001, 0.25, 0.5, 1 / 3, 0.999, 1.0]))
def test_a_ratio_decides_as_the_sdk_does(trace_id: int, ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision
    assert TraceSampler(ratio).keeps(f"{trace_id:032x}", None) == (theirs is Decision.RECORD_AND_SAMPLE)


def test_a_ratio_keeps_its_share() -> None:
    kept = sum(
        trace_identity(sampled_context(execution_id=f"e{number}"), TraceSampler(0.25)).sampled for number in range(4000)
    )
    assert 900 < kept < 1100  # the same ids each time, so the same share


def test_without_parent_the_ratio_decides() -> None:
    assert trace_identity(sampled_context(), TraceSampler(1.0)).sampled
    assert not trace_identity(sampled_context(), TraceSampler(0.0)).sampled
    assert not trace_identity(sampled_context(CLIENT[:-2] + "00"), TraceSampler(1.0)).sampled


def test_a_sampler_may_ignore_the_client() -> None:
    assert not trace_identity(sampled_context(CLIENT), TraceSampler(0.0, parent_based=False)).sampled
    assert trace_identity(sampled_context(CLIENT[:-2] + "00"), TraceSampler(1.0, parent_based=False)).sampled


ON = {"OTEL_TRACES_EXPORTER": "otlp"}


def telemetry_settings(**environ: str) -> Settings:
    """The settings with these variables, named without their prefix."""
    given = {f"PA_{name}": value for name, value in environ.items()}
    return load_settings(config=None, environ=given, flags={"data.dir": Path("/data")}).settings


def read(environment: Mapping[str, str], **environ: str) -> Telemetry:
    """What is decided."""
    return read_telemetry(telemetry_settings(**environ), environment)


def options(environment: Mapping[str, str], **environ: str) -> TraceOptions:
    """What tracing does, with nothing ignored."""
    telemetry = read(environment, **environ)
    assert telemetry.ignored == ()
    assert telemetry.traces is not None
    return telemetry.traces


@pytest.mark.parametrize(
    ("environment", "environ", "on"),
    [
        ({}, {}, False),
        (ON, {}, True),
        ({"OTEL_TRACES_EXPORTER": " OTLP "}, {}, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, {}, False),
        ({"OTEL_TRACES_EXPORTER": "nonsense"}, {"TRACES_ENABLED": "true"}, True),
        ({}, {"TRACES_ENABLED": "true"}, True),
        (ON, {"TRACES_ENABLED": "false"}, False),
        ({"OTEL_SDK_DISABLED": "false"}, {"TRACES_ENABLED": "true"}, True),
        ({"OTEL_SDK_DISABLED": "true"}, {}, False),
    ],
)
def test_when_it_is_on(environment: dict[str, str], environ: dict[str, str], on: bool) -> None:
    telemetry = read(environment, **environ)
    assert (telemetry.traces is not None) == on
    assert telemetry.ignored == ()


@pytest.mark.parametrize("environ", [{}, {"TRACES_ENABLED": "true"}])
def test_the_standard_off_switch_wins_and_is_told(environ: dict[str, str]) -> None:
    telemetry = read({**ON, "OTEL_SDK_DISABLED": "TRUE"}, **environ)
    assert telemetry.traces is None
    assert [ignored.setting for ignored in telemetry.ignored] == ["traces.enabled"]


@pytest.mark.parametrize(
    ("environment", "environ", "endpoint"),
    [
        ({}, {}, "http://127.0.0.1:4318/v1/traces"),
        ({}, {"TRACES_ENDPOINT": "https://c.example/otlp/"}, "https://c.example/otlp/v1/traces"),
        ({}, {"TRACES_ENDPOINT": "https://c.example/v1/traces"}, "https://c.example/v1/traces"),
        ({}, {"TRACES_ENDPOINT": "https://c.example/?key=1"}, "https://c.example/v1/traces?key=1"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c.example:1"}, {}, "http://c.example:1/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c.example:1/as/given"}, {}, "http://c.example:1/as/given"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a.example/t", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b.example"},
            {},
            "http://a.example/t",
        ),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a.example/t"}, {"TRACES_ENDPOINT": "http://b.example"}, "http://b.example/v1/traces"),
    ],
)  # fmt: skip
def test_where_the_collector_is(environment: dict[str, str], environ: dict[str, str], endpoint: str) -> None:
    assert options({**ON, **environment}, **environ).endpoint == endpoint


def test_headers_of_both_sources() -> None:
    environment = {**ON, "OTEL_EXPORTER_OTLP_HEADERS": "X-One=a%20b, authorization=env"}
    chosen = options(environment, TRACES_HEADERS="Authorization=Bearer x")
    assert chosen.headers == {"x-one": "a b", "authorization": "Bearer x"}
    assert "Bearer" not in repr(chosen)
    specific = {**environment, "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-two=2"}
    assert options(specific).headers == {"x-two": "2"}


@pytest.mark.parametrize(
    ("environment", "ratio", "sampler"),
    [
        ({}, None, TraceSampler(1.0)),
        ({}, "0.25", TraceSampler(0.25)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "0.5", TraceSampler(0.5)),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, None, TraceSampler(1.0, parent_based=False)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, None, TraceSampler(0.0, parent_based=False)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, None, TraceSampler(1.0, parent_based=False)),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ".1"},
            None,
            TraceSampler(0.1, parent_based=False),
        ),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, None, TraceSampler(1.0)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, None, TraceSampler(0.0)),
        ({"OTEL_TRACES_SAMPLER": "ParentBased_TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0"}, None, TraceSampler(0.0)),
    ],
)  # fmt: skip
def test_which_executions(environment: dict[str, str], ratio: str | None, sampler: TraceSampler) -> None:
    environ = {"TRACES_SAMPLE_RATIO": ratio} if ratio is not None else {}
    assert options({**ON, **environment}, **environ).sampler == sampler


def test_what_it_says_of_itself() -> None:
    resource = options(ON).resource
    assert resource["service.name"] == "pocket-agent-server"
    assert resource["service.version"] == __version__
    assert resource["deployment.environment.name"] == "production"
    assert resource["service.instance.id"] == options(ON).resource["service.instance.id"]
    assert {"host.name", "host.arch", "os.type", "process.pid", "process.runtime.name"} <= resource.keys()
    named = options(ON, LOGGING_FIELDS="service=mine,environment=test").resource
    assert (named["service.name"], named["deployment.environment.name"]) == ("mine", "test")


@pytest.mark.parametrize(
    ("environment", "environ", "name"),
    [
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a"}, {}, "a"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"}, {}, "b"),
        ({"OTEL_SERVICE_NAME": "b"}, {"TRACES_SERVICE_NAME": "c"}, "c"),
    ],
)
def test_its_name(environment: dict[str, str], environ: dict[str, str], name: str) -> None:
    assert options({**ON, **environment}, **environ).resource["service.name"] == name


def test_further_attributes() -> None:
    environment = {**ON, "OTEL_RESOURCE_ATTRIBUTES": "team.name=a%2Cb,region=x"}
    resource = options(environment, TRACES_ATTRIBUTES="region=y,host.name=other").resource
    assert (resource["team.name"], resource["region"], resource["host.name"]) == ("a,b", "y", "other")


def test_batches_and_times() -> None:
    plain = options(ON)
    assert (plain.timeout, plain.delay, plain.queue_size, plain.batch_size) == (10.0, 1.0, 2048, 512)
    environment = {
        **ON,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_BSP_MAX_QUEUE_SIZE": "10",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    chosen = options(environment)
    assert (chosen.timeout, chosen.delay, chosen.queue_size, chosen.batch_size) == (2.5, 0.02, 10, 10)
    assert chosen.compression == "gzip"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:99999"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret without a sign"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=%0d%0ax: y"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=%ff"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "9" * 5000),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "\u0665"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1e3"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%1b[31m"),
        ("OTEL_TRACES_EXPORTER", "otlp,console"),
    ],
)
def test_what_cannot_be_understood_is_told_and_left_out(name: str, value: str) -> None:
    telemetry = read({**ON, name: value})
    assert [ignored.setting for ignored in telemetry.ignored] == [name]
    assert "secret" not in telemetry.ignored[0].reason
    plain = read(ON).traces
    assert telemetry.traces == plain


@pytest.mark.parametrize("ratio", ["x", "nan", "2", "-0.1", "inf"])
def test_a_ratio_that_is_none_is_told(ratio: str) -> None:
    telemetry = read({**ON, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio})
    assert [ignored.setting for ignored in telemetry.ignored] == ["OTEL_TRACES_SAMPLER_ARG"]
    assert telemetry.traces is not None
    assert telemetry.traces.sampler == TraceSampler(1.0)


def test_one_bad_part_leaves_the_others() -> None:
    telemetry = read({**ON, "OTEL_RESOURCE_ATTRIBUTES": "a.b=1,nonsense,c.d=2"})
    assert telemetry.traces is not None
    assert (telemetry.traces.resource["a.b"], telemetry.traces.resource["c.d"]) == ("1", "2")
    assert len(telemetry.ignored) == 1


def agent_context(traceparent: str | None = None) -> ExecutionContext:
    """What names an execution."""
    return ExecutionContext(project_of("p 1"), ExecutionId("e"), "c", traceparent)


def traces(environment: Mapping[str, str] | None = None, **environ: str) -> Traces:
    """Tracing with these variables of the server and these settings, named without their prefix."""
    given = {"PA_TRACES_ENABLED": "true", **{f"PA_{name}": value for name, value in environ.items()}}
    settings = load_settings(config=None, environ=given, flags={"data.dir": Path("/data")}).settings
    opened = open_traces(settings, environment or {}, Losses())
    for tracing in opened.observers:
        tracing.close(1.0)
    return opened


def test_a_new_process() -> None:
    opened = traces(TRACES_ENDPOINT="http://c.example:1", TRACES_HEADERS="authorization=Bearer x,x-two=2")
    environment = opened.propagator.environment(agent_context())
    identity = opened.identify(agent_context())
    assert identity is not None
    assert environment["TRACEPARENT"] == f"00-{identity.trace_id}-{identity.span_id}-01"
    assert environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://c.example:1/v1/traces"
    assert environment["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] == "authorization=Bearer x,x-two=2"
    assert environment["OTEL_TRACES_EXPORTER"] == "otlp"
    for signal in ("METRICS", "LOGS"):
        assert environment[f"OTEL_{signal}_EXPORTER"] == "otlp"
        assert environment[f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"] == f"http://c.example:1/v1/{signal.lower()}"
        assert environment[f"OTEL_EXPORTER_OTLP_{signal}_HEADERS"] == "authorization=Bearer x,x-two=2"


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [
        ({}, {"TRACES_AGENT_METRICS": "false"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c.example:1/spans"}, {}),
    ],
)
def test_without_an_address_for_metrics_and_events_they_are_off(
    environment: dict[str, str], chosen: dict[str, str]
) -> None:
    given = traces(environment, **chosen).propagator.environment(agent_context())
    assert given["OTEL_LOGS_EXPORTER"] == given["OTEL_METRICS_EXPORTER"] == "none"
    assert given["OTEL_TRACES_EXPORTER"] == "otlp"


def test_a_process_that_runs_gets_the_parent_alone() -> None:
    propagator = traces().propagator
    assert propagator.prompt_environment(agent_context(CLIENT)).keys() == {"TRACEPARENT"}
    assert propagator.prompt_environment(agent_context(CLIENT))["TRACEPARENT"].startswith(CLIENT[:36])
    dropped = propagator.prompt_environment(agent_context(CLIENT[:-2] + "00"))["TRACEPARENT"]
    assert dropped.endswith("-00"), "a process that was traced before must be told that this prompt is not"


def test_what_would_tell_of_contents_is_off_whatever_the_server_has() -> None:
    opened = traces({"OTEL_LOG_USER_PROMPTS": "1", "CLAUDE_CODE_ENABLE_TELEMETRY": "1"})
    environment = opened.propagator.environment(agent_context())
    telling = {name: value for name, value in environment.items() if name.startswith("OTEL_LOG_")}
    assert len(telling) == 5
    assert set(telling.values()) == {"0"}


def test_other_signals_that_the_user_has_switched_on_are_left_alone() -> None:
    environment = traces({"CLAUDE_CODE_ENABLE_TELEMETRY": "1"}).propagator.environment(agent_context())
    assert "OTEL_METRICS_EXPORTER" not in environment
    assert "OTEL_LOGS_EXPORTER" not in environment


def test_the_resource() -> None:
    opened = traces(TRACES_ATTRIBUTES='{"team.name": "a,b=c d%"}', LOGGING_FIELDS="environment=test")
    encoded = opened.propagator.environment(agent_context())["OTEL_RESOURCE_ATTRIBUTES"]
    pairs = dict(part.split("=") for part in encoded.split(","))
    assert {unquote(name): unquote(value) for name, value in pairs.items()} == {
        "project.id": "p 1",
        "deployment.environment.name": "test",
        "team.name": "a,b=c d%",
    }


def test_a_parent_that_the_user_has_chosen_stays() -> None:
    propagator = traces(CLAUDE_ENVIRONMENT="TRACEPARENT=mine").propagator
    assert propagator.prompt_environment(agent_context()) == {}
    assert "TRACEPARENT" not in propagator.environment(agent_context())


def test_a_header_that_the_cli_cannot_take_is_told() -> None:
    opened = traces(TRACES_HEADERS='{"x-list": "secret, b", "x-two": "2"}')
    assert [ignored.setting for ignored in opened.ignored] == ["traces.headers.x-list"]
    assert "secret" not in opened.ignored[0].reason
    assert opened.propagator.environment(agent_context())["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] == "x-two=2"


@pytest.mark.parametrize("setting", ["TRACES_AGENTS", "TRACES_ENABLED"])
def test_switched_off(setting: str) -> None:
    propagator = traces({}, **{setting: "false"}).propagator
    assert propagator.environment(agent_context()) == {}
    assert propagator.prompt_environment(agent_context()) == {}
    assert propagator.mark == ""


def test_the_mark_tells_telemetry_apart() -> None:
    marks = [
        traces().propagator.mark,
        traces(TRACES_ENDPOINT="http://c.example").propagator.mark,
        traces(TRACES_HEADERS="a=b").propagator.mark,
        traces(TRACES_ATTRIBUTES="a=b").propagator.mark,
    ]
    assert len(set(marks)) == len(marks)
    assert traces().propagator.mark == marks[0] == traces(TRACES_SAMPLE_RATIO="0").propagator.mark


CREATED = Milliseconds(1_700_000_000_000)


def context(traceparent: str | None = None) -> ExecutionContext:
    """What names a new execution."""
    return ExecutionContext(project_of("p"), ExecutionId(str(uuid.uuid4())), "c", traceparent)


def settings(**environ: str) -> Settings:
    """The settings with these variables, named without their prefix."""
    given = {f"PA_{name}": value for name, value in environ.items()}
    return load_settings(config=None, environ=given, flags={"data.dir": Path("/data")}).settings


def finished(about: ExecutionContext, **fields: Any) -> events.ExecutionFinished:
    """An execution that took two seconds and succeeded."""
    values: dict[str, Any] = {
        "context": about,
        "status": ExecutionStatus.SUCCESS,
        "created_at": CREATED,
        "started_at": Milliseconds(CREATED + 500),
        "finished_at": Milliseconds(CREATED + 2000),
        "duration": 1.5,
        "waited": 0.25,
        "code": None,
        "session_id": "s",
        "model": "claude-opus-4",
        "requested_model": "opus",
        "usage": (ModelUsage("claude-opus-4", 1, 2, 3, 4, 0.5), ModelUsage("claude-haiku", 10, 20, 30, 40, 0.25)),
    }
    return events.ExecutionFinished(**{**values, **fields})


class Stage:
    """Tracing, and the collector that it exports to."""

    def __init__(self, collector: Collector, traces: Traces, losses: Losses) -> None:
        self.collector = collector
        self.losses = losses
        (self.tracing,) = traces.observers

    async def spans(self, *told: Event, count: int) -> list[Collected]:
        """Tell of these events and wait for so many spans."""
        for event in told:
            self.tracing.emit(event)
        await eventually(lambda: len(self.collector.spans) >= count, "the spans are there")
        assert len(self.collector.spans) == count
        return self.collector.spans


def open_stage(collector: Collector, environment: dict[str, str] | None = None, **environ: str) -> Stage:
    """Begin to trace with these settings and variables."""
    losses = Losses()
    chosen = settings(TRACES_ENABLED="true", TRACES_ENDPOINT=collector.url, **environ)
    return Stage(
        collector, open_traces(chosen, {"OTEL_BSP_SCHEDULE_DELAY": "5", **(environment or {})}, losses), losses
    )


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Everything is traced."""
    async with collecting() as collector:
        stage = open_stage(collector)
        yield stage
        stage.tracing.close(1.0)


def test_off_is_free() -> None:
    traces = open_traces(settings(), {}, Losses())
    assert (traces.observers, traces.ignored) == ((), ())
    assert traces.identify is untraced
    assert traces.propagator.environment(context()) == traces.propagator.prompt_environment(context()) == {}
    assert traces.propagator.mark == ""


def test_off_loads_no_library(tmp_path: Path) -> None:
    code = "import sys, pocket_agent.app; sys.exit('opentelemetry' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize("kind", SPANS)
async def test_each_mapped_event_gives_a_span(stage: Stage, kind: type[Event]) -> None:
    stage.tracing.emit(example(kind))
    await eventually(lambda: bool(stage.collector.spans), "a span is there")


def test_the_other_events_have_no_spans() -> None:
    observer = SpanObserver(TraceSampler(), None)  # type: ignore[arg-type]  # a span would raise an AttributeError
    for kind in set(KINDS) - set(SPANS):
        observer.emit(example(kind))


async def test_the_span_of_an_execution(stage: Stage) -> None:
    about = context()
    (span,) = await stage.spans(finished(about), count=1)
    identity = stage.tracing.identify(about)
    assert (span.name, span.parent_id, span.kind, span.status) == ("claude.execute", "", 2, 0)
    assert (span.trace_id, span.span_id) == (identity.trace_id, identity.span_id)
    assert (span.start, span.end) == (CREATED * 10**6, (CREATED + 2000) * 10**6)
    assert span.attributes == {
        "project.id": "p",
        "execution.id": about.execution_id,
        "execution.status": "success",
        "execution.waited_seconds": 0.25,
        "execution.cost_usd": 0.75,
        "correlation.id": "c",
        "session.id": "s",
        "gen_ai.conversation.id": "s",
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "opus",
        "gen_ai.response.model": "claude-opus-4",
        "gen_ai.usage.input_tokens": 11 + 33 + 44,
        "gen_ai.usage.output_tokens": 22,
        "gen_ai.usage.cache_read.input_tokens": 33,
        "gen_ai.usage.cache_creation.input_tokens": 44,
        "storage.commits": 0,
        "storage.commit_seconds": 0.0,
    }
    assert span.resource["service.name"] == "pocket-agent-server"
    assert span.resource["telemetry.sdk.language"] == "python"


async def test_the_clients_span_is_the_parent(stage: Stage) -> None:
    (span,) = await stage.spans(finished(context(CLIENT)), count=1)
    assert (span.trace_id, span.parent_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (ExecutionStatus.ERROR, "EXECUTION_FAILED", "EXECUTION_FAILED"),
        (ExecutionStatus.TIMEOUT, "EXECUTION_TIMEOUT", "EXECUTION_TIMEOUT"),
        (ExecutionStatus.ERROR, None, "error"),
        (ExecutionStatus.KILLED, None, None),
    ],
)
async def test_how_it_ended(stage: Stage, status: ExecutionStatus, code: str | None, error: str | None) -> None:
    (span,) = await stage.spans(finished(context(), status=status, code=code), count=1)
    assert span.attributes["execution.status"] == status
    assert span.attributes.get("error.type") == error
    assert (span.status, span.message) == ((2, error) if error is not None else (0, ""))


async def test_what_is_not_known_is_left_out(stage: Stage) -> None:
    event = finished(
        context(), session_id=None, model=None, requested_model=None, usage=(), started_at=None, duration=0.0
    )
    (span,) = await stage.spans(event, count=1)
    assert not any(name.startswith(("gen_ai.usage", "gen_ai.re", "session")) for name in span.attributes)


async def test_a_withdrawn_prompt(stage: Stage) -> None:
    (span,) = await stage.spans(events.ExecutionWithdrawn(context(), CREATED), count=1)
    assert (span.name, span.attributes["execution.status"]) == ("claude.execute", "cancelled")
    assert span.start == CREATED * 10**6 < span.end


@pytest.mark.parametrize(("warm", "name"), [(True, "claude.warm_start"), (False, "claude.spawn")])
async def test_the_wait_and_the_preparation(stage: Stage, warm: bool, name: str) -> None:
    about = context()
    queue, prepare = await stage.spans(events.ExecutionStarted(about, warm, 2.0, 0.5), count=2)
    assert (queue.name, prepare.name) == ("claude.queue", name)
    assert queue.end == prepare.start
    assert (queue.end - queue.start, prepare.end - prepare.start) == (2 * 10**9, 5 * 10**8)
    identity = stage.tracing.identify(about)
    assert {(span.trace_id, span.parent_id) for span in (queue, prepare)} == {(identity.trace_id, identity.span_id)}
    assert queue.span_id != prepare.span_id
    assert {span.kind for span in (queue, prepare)} == {1}


async def test_an_approval(stage: Stage) -> None:
    event = events.ApprovalResolved("p", context(), "a", "Bash", "deny", "phone", CREATED, 1.5)
    (span,) = await stage.spans(event, count=1)
    assert (span.name, span.start, span.end) == ("claude.approval", CREATED * 10**6, (CREATED + 1500) * 10**6)
    assert span.attributes == {"approval.id": "a", "approval.behavior": "deny", "gen_ai.tool.name": "Bash"}


async def test_the_first_message(stage: Stage) -> None:
    (span,) = await stage.spans(events.FirstMessageReceived(context(), 0.5), count=1)
    assert (span.name, span.end - span.start) == ("claude.first_message", 5 * 10**8)


async def test_what_belongs_to_no_execution_is_not_traced(stage: Stage) -> None:
    stage.tracing.emit(events.StorageCommitted("p", None, 1, 0.1))
    stage.tracing.emit(events.ApprovalResolved("p", None, "a", "Bash", "deny", None, CREATED, 1.0))
    (span,) = await stage.spans(finished(context()), count=1)
    assert span.name == "claude.execute"


async def test_commits_beyond_the_bound_are_summed_up(stage: Stage) -> None:
    about = context()
    many = MAX_COMMITS + 36
    commits = [events.StorageCommitted("p", about, 2, 0.5) for _ in range(many)]
    spans = await stage.spans(*commits, finished(about), count=MAX_COMMITS + 1)
    assert [span.name for span in spans] == ["claude.commit"] * MAX_COMMITS + ["claude.execute"]
    assert len({span.span_id for span in spans}) == MAX_COMMITS + 1
    assert spans[0].attributes == {"storage.entries": 2}
    assert (spans[-1].attributes["storage.commits"], spans[-1].attributes["storage.commit_seconds"]) == (many, many / 2)


async def test_the_span_covers_its_children(stage: Stage) -> None:
    """The times of an execution are whole milliseconds, and its end is decided before it is stored."""
    about = context()
    now = Milliseconds(time.time_ns() // 10**6)
    await stage.spans(
        events.ExecutionStarted(about, True, 0.0, 0.1),
        events.StorageCommitted("p", about, 1, 0.01),
        finished(about, created_at=Milliseconds(now + 60_000), finished_at=Milliseconds(now - 60_000)),
        count=4,
    )
    root = stage.collector.one("claude.execute")
    children = [span for span in stage.collector.spans if span is not root]
    assert root.start == min(span.start for span in children)
    assert root.end == max(span.end for span in children)


async def test_a_server_that_is_started_again_goes_on_with_the_same_trace(stage: Stage) -> None:
    about = context()
    stage.tracing.emit(events.ExecutionStarted(about, False, 0.0, 0.1))
    again = open_stage(stage.collector)
    again.tracing.emit(finished(about))
    again.tracing.close(5.0)
    await stage.spans(count=3)
    assert len({span.trace_id for span in stage.collector.spans}) == 1
    root = stage.collector.one("claude.execute")
    assert {span.parent_id for span in stage.collector.spans if span is not root} == {root.span_id}


async def test_an_unsampled_execution_gives_nothing(stage: Stage) -> None:
    dropped = context(CLIENT[:-2] + "00")
    assert not stage.tracing.identify(dropped).sampled
    (span,) = await stage.spans(
        events.ExecutionStarted(dropped, True, 0.0, 0.1), finished(dropped), finished(context(CLIENT)), count=1
    )
    assert span.trace_id == CLIENT[3:35]


async def test_a_ratio_keeps_whole_traces() -> None:
    async with collecting() as collector:
        stage = open_stage(collector, TRACES_SAMPLE_RATIO="0.5")
        told = [context() for _ in range(100)]
        for about in told:
            stage.tracing.emit(events.ExecutionStarted(about, True, 0.0, 0.1))
            stage.tracing.emit(finished(about))
        kept = [about for about in told if identity_of(about, TraceSampler(0.5)).sampled]
        await stage.spans(count=3 * len(kept))
        stage.tracing.close(5.0)
    assert {span.trace_id for span in collector.spans} == {stage.tracing.identify(about).trace_id for about in kept}


async def test_awkward_texts_arrive_or_are_cut(stage: Stage) -> None:
    about = ExecutionContext(project_of("p"), ExecutionId("e"), "\ud800\0\n\u2028", "\ud800")
    long = events.ApprovalResolved("p", about, "a", "x" * 100_000, "allow", None, CREATED, 1.0)
    await stage.spans(long, finished(about), count=2)
    assert stage.collector.one("claude.execute").attributes["correlation.id"] == "?\0\n\u2028"
    assert stage.collector.one("claude.approval").attributes["gen_ai.tool.name"] == "x" * 1024


async def test_an_execution_that_is_never_over_is_forgotten(stage: Stage) -> None:
    for _ in range(5000):
        stage.tracing.emit(events.StorageCommitted("p", context(), 1, 0.0))
    assert len(stage.tracing._children) <= 4096


def test_a_variable_that_the_sdk_refuses_switches_tracing_off(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from pocket_agent.settings import Settings\n"
        "from pocket_agent.observability.catalogue import Losses\n"
        "from pocket_agent.observability.observation import open_traces\n"
        "traces = open_traces(Settings(), os.environ, Losses())\n"
        "print(traces.observers, [ignored.setting for ignored in traces.ignored])\n"
    )
    environment = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "() ['traces']\n"


def test_the_page_names_every_span_and_attribute() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text("utf-8")
    made = [span for kind, make in SPANS.items() for span in make(example(kind), 1)]
    made += SPANS[events.ExecutionStarted](events.ExecutionStarted(context(), False, 0.0, 0.0), 1)
    made += SPANS[events.ExecutionFinished](finished(context(), status=ExecutionStatus.ERROR), 1)
    names = {span.name for span in made} | {name for span in made for name in span.attributes}
    assert {name for name in names if f"`{name}`" not in page} == set()


async def test_what_was_ignored_is_told_and_what_is_left_exported() -> None:
    async with collecting() as collector:
        environment = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_TRACES_SAMPLER": "nonsense"}
        chosen = settings(TRACES_ENABLED="true", TRACES_ENDPOINT=collector.url)
        traces = open_traces(chosen, environment, Losses())
        recorder = Recorder()
        async with traces.exporting(recorder, 10.0):
            traces.observers[0].emit(finished(context()))
        assert [event.setting for event in recorder.of(events.SettingIgnored)] == ["OTEL_TRACES_SAMPLER"]
        assert len(collector.spans) == 1
