"""pocket_agent.observability.tracing: settings and the standard variables to what tracing does."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pocket_agent import __version__
from pocket_agent.config import Settings, load_settings
from pocket_agent.observability.tracing import Telemetry, TraceOptions, TraceSampler, read_telemetry

ON = {"OTEL_TRACES_EXPORTER": "otlp"}


def settings(**environ: str) -> Settings:
    """The settings with these variables, named without their prefix."""
    given = {f"PA_{name}": value for name, value in environ.items()}
    return load_settings(config=None, environ=given, flags={"data.dir": Path("/data")}).settings


def read(environment: Mapping[str, str], **environ: str) -> Telemetry:
    """What is decided."""
    return read_telemetry(settings(**environ), environment)


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
