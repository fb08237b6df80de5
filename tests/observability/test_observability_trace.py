"""pocket_agent.observability.tracing: the spans that a collector gets of what the core tells."""

import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pocket_agent import events
from pocket_agent.config import Settings, load_settings
from pocket_agent.events import Event
from pocket_agent.model import ExecutionContext, ExecutionId, ExecutionStatus, Milliseconds, ModelUsage, ProjectId
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.observation import open_traces
from pocket_agent.observability.tracing import (
    MAX_COMMITS,
    SPANS,
    SpanObserver,
    Traces,
    TraceSampler,
    untraced,
)
from pocket_agent.observability.tracing import trace_identity as identity_of
from tests.harness.collector import Collected, Collector, collecting
from tests.harness.follow import eventually
from tests.observability.sample import KINDS, example
from tests.server.room import Recorder

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CREATED = Milliseconds(1_700_000_000_000)


def context(traceparent: str | None = None) -> ExecutionContext:
    """What names a new execution."""
    return ExecutionContext(ProjectId("p"), ExecutionId(str(uuid.uuid4())), "c", traceparent)


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
    about = ExecutionContext(ProjectId("p"), ExecutionId("e"), "\ud800\0\n\u2028", "\ud800")
    long = events.ApprovalResolved("p", about, "a", "x" * 100_000, "allow", None, CREATED, 1.0)
    await stage.spans(long, finished(about), count=2)
    assert stage.collector.one("claude.execute").attributes["correlation.id"] == "?\0\n\u2028"
    assert stage.collector.one("claude.approval").attributes["gen_ai.tool.name"] == "x" * 1024


async def test_an_execution_that_is_never_over_is_forgotten(stage: Stage) -> None:
    for _ in range(5000):
        stage.tracing.emit(events.StorageCommitted("p", context(), 1, 0.0))
    assert len(stage.tracing._tallies) <= 4096


def test_a_variable_that_the_sdk_refuses_switches_tracing_off(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from pocket_agent.config import Settings\n"
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
