"""pocket_agent.observability.tracing: what the CLI is given so that its spans join."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest

from pocket_agent.config import load_settings
from pocket_agent.model import ExecutionContext, ExecutionId, ProjectId
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.observation import open_traces
from pocket_agent.observability.tracing import Traces

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def context(traceparent: str | None = None) -> ExecutionContext:
    """What names an execution."""
    return ExecutionContext(ProjectId("p 1"), ExecutionId("e"), "c", traceparent)


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
    environment = opened.propagator.environment(context())
    identity = opened.identify(context())
    assert identity is not None
    assert environment["TRACEPARENT"] == f"00-{identity.trace_id}-{identity.span_id}-01"
    assert environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://c.example:1/v1/traces"
    assert environment["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] == "authorization=Bearer x,x-two=2"
    assert environment["OTEL_TRACES_EXPORTER"] == "otlp"
    assert environment["OTEL_LOGS_EXPORTER"] == environment["OTEL_METRICS_EXPORTER"] == "none"


def test_a_process_that_runs_gets_the_parent_alone() -> None:
    propagator = traces().propagator
    assert propagator.prompt_environment(context(CLIENT)).keys() == {"TRACEPARENT"}
    assert propagator.prompt_environment(context(CLIENT))["TRACEPARENT"].startswith(CLIENT[:36])
    dropped = propagator.prompt_environment(context(CLIENT[:-2] + "00"))["TRACEPARENT"]
    assert dropped.endswith("-00"), "a process that was traced before must be told that this prompt is not"


def test_what_would_tell_of_contents_is_off_whatever_the_server_has() -> None:
    opened = traces({"OTEL_LOG_USER_PROMPTS": "1", "CLAUDE_CODE_ENABLE_TELEMETRY": "1"})
    environment = opened.propagator.environment(context())
    telling = {name: value for name, value in environment.items() if name.startswith("OTEL_LOG_")}
    assert len(telling) == 5
    assert set(telling.values()) == {"0"}


def test_other_signals_that_the_user_has_switched_on_are_left_alone() -> None:
    environment = traces({"CLAUDE_CODE_ENABLE_TELEMETRY": "1"}).propagator.environment(context())
    assert "OTEL_METRICS_EXPORTER" not in environment
    assert "OTEL_LOGS_EXPORTER" not in environment


def test_the_resource() -> None:
    opened = traces(TRACES_ATTRIBUTES='{"team.name": "a,b=c d%"}', LOGGING_FIELDS="environment=test")
    encoded = opened.propagator.environment(context())["OTEL_RESOURCE_ATTRIBUTES"]
    pairs = dict(part.split("=") for part in encoded.split(","))
    assert {unquote(name): unquote(value) for name, value in pairs.items()} == {
        "project.id": "p 1",
        "deployment.environment.name": "test",
        "team.name": "a,b=c d%",
    }


def test_a_parent_that_the_user_has_chosen_stays() -> None:
    propagator = traces(CLAUDE_ENVIRONMENT="TRACEPARENT=mine").propagator
    assert propagator.prompt_environment(context()) == {}
    assert "TRACEPARENT" not in propagator.environment(context())


def test_a_header_that_the_cli_cannot_take_is_told() -> None:
    opened = traces(TRACES_HEADERS='{"x-list": "secret, b", "x-two": "2"}')
    assert [ignored.setting for ignored in opened.ignored] == ["traces.headers.x-list"]
    assert "secret" not in opened.ignored[0].reason
    assert opened.propagator.environment(context())["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] == "x-two=2"


@pytest.mark.parametrize("setting", ["TRACES_AGENTS", "TRACES_ENABLED"])
def test_switched_off(setting: str) -> None:
    propagator = traces({}, **{setting: "false"}).propagator
    assert propagator.environment(context()) == {}
    assert propagator.prompt_environment(context()) == {}
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
