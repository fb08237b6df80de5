"""Traces: a span `claude.execute` for each execution, with child spans for what it spent its time on.

Ids are derived from the execution's id by hash and times come from the events, so a server that was
killed and restarted in the middle of an execution continues the same trace. The SDK is loaded
(`span_export`) only when tracing is on.
"""

import asyncio
import contextlib
import hashlib
import json
import math
import os
import platform
import re
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pocket_agent import __version__, events
from pocket_agent.events import Event, Observer, Propagator, SettingIgnored
from pocket_agent.model import ExecutionContext, ExecutionStatus, Milliseconds, ModelUsage
from pocket_agent.settings import RefusedError, Settings, check_header, parse_url


class TraceIdentity(NamedTuple):
    """A span: its trace's id (32 lower-case hexadecimal digits), its own (16 digits), and whether it is exported."""

    trace_id: str
    span_id: str
    sampled: bool


Identify = Callable[[ExecutionContext], TraceIdentity | None]
"""Returns the span of an execution, identical at each call; None when tracing is off."""


def untraced(_: ExecutionContext) -> None:
    """The `Identify` when tracing is off."""
    return


_TRACEPARENT_FORMAT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TraceSampler:
    """Samples a share of the executions; if `parent_based`, the flag of a client's trace takes precedence."""

    ratio: float = 1.0
    parent_based: bool = True

    def keeps(self, trace_id: str, parent: TraceIdentity | None) -> bool:
        """Whether a trace is sampled; the decision by trace id is that of the OpenTelemetry SDKs."""
        if parent is not None and self.parent_based:
            return parent.sampled
        return int(trace_id[16:], 16) < round(self.ratio * 2**64)


def remote_span(traceparent: str | None) -> TraceIdentity | None:
    """Parse a client's `traceparent` (W3C Trace Context, sections 3.2 and 4.3); None if it is malformed."""
    match = _TRACEPARENT_FORMAT.fullmatch(traceparent or "")
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceIdentity(trace_id, span_id, bool(int(flags, 16) & 1))


def trace_identity(context: ExecutionContext, sampler: TraceSampler) -> TraceIdentity:
    """The span `claude.execute` of an execution."""
    parent = remote_span(context.traceparent)
    trace_id = parent.trace_id if parent is not None else _digest(context, "trace", 16)
    return TraceIdentity(trace_id, span_id(context, "execute"), sampler.keeps(trace_id, parent))


def span_id(context: ExecutionContext, key: str) -> str:
    """The id of a span of an execution; `key` is unique within the execution."""
    return _digest(context, f"span:{key}", 8)


def traceparent(identity: TraceIdentity) -> str:
    """The `traceparent` header of a span (W3C Trace Context, section 3.2)."""
    return f"00-{identity.trace_id}-{identity.span_id}-{int(identity.sampled):02x}"


def _digest(context: ExecutionContext, salt: str, length: int) -> str:
    """`length` bytes in hexadecimal. Only zeros, which is not a valid id, are as likely as a collision."""
    return hashlib.sha256(f"{context.execution_id}:{salt}".encode()).hexdigest()[: 2 * length]


_MOST_SPANS: Final = 65536


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """The options of tracing."""

    endpoint: str  # the collector's full URL
    headers: Mapping[str, str] = field(repr=False)  # HTTP headers for it; they may hold a secret
    timeout: float  # longest export of one batch with its retries, in seconds
    compression: str  # none, gzip or deflate
    sampler: TraceSampler
    resource: Mapping[str, str | int]  # the resource attributes of every span
    queue_size: int  # number of spans that may be queued; further ones are lost
    batch_size: int  # number of spans in one request
    delay: float  # longest time that a span waits for its batch to fill up, in seconds
    agents: bool  # whether the CLI exports its own spans
    agent_metrics: bool  # whether it exports its own metrics and events too


class Telemetry(NamedTuple):
    """The options, None when tracing is off, and the settings and variables that were ignored."""

    traces: TraceOptions | None
    ignored: tuple[SettingIgnored, ...] = ()


def read_telemetry(settings: Settings, environment: Mapping[str, str]) -> Telemetry:
    """Read the settings of tracing and the standard `OTEL_*` variables; settings take precedence."""
    reader = _OtelEnvironment(environment)
    if not _enabled(settings, reader):
        return Telemetry(None, tuple(reader.ignored))
    queue_size = reader.whole("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1, _MOST_SPANS)
    options = TraceOptions(
        endpoint=_endpoint(settings, reader),
        headers={
            **reader.headers("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
            **settings.traces.headers,
        },
        timeout=reader.milliseconds("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT", default=10_000),
        compression=reader.word(
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            accepted=("none", "gzip", "deflate"),
        ),
        sampler=_sampler(settings, reader),
        resource=_resource(settings, reader),
        queue_size=queue_size,
        batch_size=min(reader.whole("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1, _MOST_SPANS), queue_size),
        delay=reader.milliseconds("OTEL_BSP_SCHEDULE_DELAY", default=1000),
        agents=settings.traces.agents,
        agent_metrics=settings.traces.agent_metrics,
    )
    reader.word("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL", accepted=("http/protobuf",))
    return Telemetry(options, tuple(reader.ignored))


def _enabled(settings: Settings, reader: "_OtelEnvironment") -> bool:
    exporters = {name.strip().lower() for name in reader.get("OTEL_TRACES_EXPORTER").split(",")}
    wanted = settings.traces.enabled
    if wanted is None:
        wanted = "otlp" in exporters
        unknown = sorted(exporters - {"otlp", "none", ""})
        if unknown:
            reader.refuse("OTEL_TRACES_EXPORTER", "only otlp and none are known")
    if wanted and reader.get("OTEL_SDK_DISABLED").lower() == "true":
        reader.ignored.append(SettingIgnored("traces.enabled", "OTEL_SDK_DISABLED=true switches tracing off."))
        return False
    return wanted


def _endpoint(settings: Settings, reader: "_OtelEnvironment") -> str:
    chosen = settings.traces.endpoint
    if chosen is None:
        full = reader.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        if full is not None:
            return full
        chosen = reader.url("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://127.0.0.1:4318"
    parts = urlsplit(chosen)
    path = parts.path.rstrip("/").removesuffix(_TRACES_PATH)
    return urlunsplit(parts._replace(path=path + _TRACES_PATH))


_TRACES_PATH: Final = "/v1/traces"


def _endpoint_of(signal: str, traces: str) -> str | None:
    """The collector's URL of another signal (OTLP/HTTP: `/v1/SIGNAL`); None when that of traces has another form."""
    parts = urlsplit(traces)
    if not parts.path.endswith(_TRACES_PATH):
        return None
    return urlunsplit(parts._replace(path=f"{parts.path.removesuffix(_TRACES_PATH)}/v1/{signal}"))


def _sampler(settings: Settings, reader: "_OtelEnvironment") -> TraceSampler:
    if settings.traces.sample_ratio is not None:
        return TraceSampler(settings.traces.sample_ratio)
    name = reader.get("OTEL_TRACES_SAMPLER").lower() or "parentbased_always_on"
    kind = name.removeprefix("parentbased_")
    parent_based = kind != name
    if kind in {"always_on", "always_off"}:
        return TraceSampler(float(kind == "always_on"), parent_based)
    if kind == "traceidratio":
        return TraceSampler(reader.ratio("OTEL_TRACES_SAMPLER_ARG"), parent_based)
    reader.refuse("OTEL_TRACES_SAMPLER", "no known sampler; every execution is traced")
    return TraceSampler()


def _resource(settings: Settings, reader: "_OtelEnvironment") -> dict[str, str | int]:
    """The resource attributes (semantic conventions: service, deployment, host, process)."""
    fields = settings.logging.fields
    host = socket.gethostname()
    attributes: dict[str, str | int] = {
        "service.name": str(fields.get("service", "pocket-agent-server")),
        "service.version": __version__,
        # Derived from the data directory and the machine, so it does not change with a restart.
        "service.instance.id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{host}:{settings.data.dir}")),
        "deployment.environment.name": str(fields.get("environment", "production")),
        "host.name": host,
        "host.arch": platform.machine(),
        "os.type": platform.system().lower(),
        "process.pid": os.getpid(),
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
        **reader.pairs("OTEL_RESOURCE_ATTRIBUTES"),
    }
    name = settings.traces.service_name or reader.get("OTEL_SERVICE_NAME")
    if name:
        attributes["service.name"] = name
    return {**attributes, **settings.traces.attributes}


class _OtelEnvironment:
    """Reads the standard variables; of several names the first that is set and not empty counts.

    The SDK reads them too, but not for this: the CLI is given the endpoint, the headers, the compression and the
    resource (`AgentTelemetry`), `pocket-agent doctor` needs the first two without the SDK, and the sampler decides
    before there is a span. The exporter (opentelemetry-exporter-otlp-proto-http 1.45) also takes
    `OTEL_EXPORTER_OTLP_TIMEOUT` for seconds, where the specification says milliseconds, and logs a malformed header
    with its value; here an invalid value is ignored and reported without its text.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.ignored: list[SettingIgnored] = []

    def get(self, *names: str) -> str:
        return self._environment.get(self._first(*names), "").strip()

    def _first(self, *names: str) -> str:
        return next((name for name in names if self._environment.get(name, "").strip()), names[-1])

    def refuse(self, name: str, reason: str) -> None:
        """Report an invalid value without its text, which may be a secret."""
        self.ignored.append(SettingIgnored(name, f"Its value is left out: {reason}."))

    def milliseconds(self, *names: str, default: int) -> float:
        """A duration in seconds; the variable is in milliseconds."""
        return self.whole(self._first(*names), default, 1, 3_600_000) / 1000

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        text = self.get(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            self.refuse(name, f"not a whole number from {low} to {high}")
            return default
        return int(text)

    def ratio(self, name: str) -> float:
        try:
            ratio = float(self.get(name) or 1)
        except ValueError:
            ratio = math.nan
        if not 0 <= ratio <= 1:
            self.refuse(name, "not a number from 0 to 1; every execution is traced")
            return 1.0
        return ratio

    def word(self, *names: str, accepted: tuple[str, ...]) -> str:
        """One of the accepted words; the first is the default."""
        word = self.get(*names).lower() or accepted[0]
        if word not in accepted:
            self.refuse(self._first(*names), f"only {', '.join(accepted)} can be used here")
            return accepted[0]
        return word

    def url(self, name: str) -> str | None:
        text = self.get(name)
        if not text:
            return None
        try:
            return parse_url(text)
        except RefusedError:
            self.refuse(name, "not an http or https URL")
            return None

    def headers(self, *names: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, text in self.pairs(*names).items():
            try:
                check_header(name, text)
                found[name.lower()] = text
            except RefusedError:
                self.refuse(self._first(*names), "a part of it cannot be a header")
        return found

    def pairs(self, *names: str) -> dict[str, str]:
        """`name=value` separated by commas; percent-encoded (W3C Baggage, section 3.3.1)."""
        name = self._first(*names)
        found: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in self.get(name).split(","))):
            key, sign, value = part.partition("=")
            key, value = unquote(key.strip()), unquote(value.strip())
            if not sign or not key or not (key + value).isprintable() or "\ufffd" in key + value:
                self.refuse(name, "a part of it is not name=value")
            else:
                found[key] = value
        return found


_TRACEPARENT_VARIABLE: Final = "TRACEPARENT"
_OWN_SWITCH: Final = "CLAUDE_CODE_ENABLE_TELEMETRY"
_FIXED: Final = {
    _OWN_SWITCH: "1",
    "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    # The flag of TRACEPARENT decides, so that a trace is kept or dropped as a whole.
    "OTEL_TRACES_SAMPLER": "parentbased_always_on",
    "OTEL_SERVICE_NAME": "claude-code",
    # A process that is ended loses what was not exported yet.
    "OTEL_TRACES_EXPORT_INTERVAL": "1000",
    # A collector that hangs delays the end of the process by no more than this, in milliseconds.
    "CLAUDE_CODE_OTEL_SHUTDOWN_TIMEOUT_MS": "500",
    # Prompts and what tools do stay out of the spans, whatever the server's own environment says.
    "OTEL_LOG_USER_PROMPTS": "0",
    "OTEL_LOG_TOOL_DETAILS": "0",
    "OTEL_LOG_TOOL_CONTENT": "0",
    "OTEL_LOG_ASSISTANT_RESPONSES": "0",
    "OTEL_LOG_RAW_API_BODIES": "0",
    "ENABLE_BETA_TRACING_DETAILED": "0",
}
_OTHER_SIGNALS: Final = ("metrics", "logs")
"""Those of the user count when the user has switched the CLI's telemetry on."""
_METRICS_AND_EVENTS: Final = {
    # As for spans: a process that is ended loses what was not exported yet.
    "OTEL_METRIC_EXPORT_INTERVAL": "10000",
    "OTEL_LOGS_EXPORT_INTERVAL": "1000",
    # Prometheus knows no deltas. The sum of a process is a series of its own, by its session.
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative",
    "OTEL_METRICS_INCLUDE_SESSION_ID": "true",
    "OTEL_METRICS_INCLUDE_ACCOUNT_UUID": "false",
}
_PROCESS_ATTRIBUTES: Final = ("service.", "host.", "os.", "process.")
"""Prefixes of resource attributes that the CLI sets itself."""


class AgentTelemetry(Propagator):
    """The `Propagator` when tracing is on: makes the CLI export its spans as part of the execution's trace.

    `inherited` is the environment that agents inherit, `chosen` has the variables of `claude.environment`.
    """

    def __init__(self, options: TraceOptions, inherited: Mapping[str, str], chosen: Mapping[str, str]) -> None:
        self._sampler = options.sampler
        self._chosen = chosen
        self._resource = {
            key: value for key, value in options.resource.items() if not key.startswith(_PROCESS_ATTRIBUTES)
        }
        self._fixed = {
            **_FIXED,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": options.endpoint,
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": options.compression,
        }
        # The CLI does not decode values, so a comma would end one.
        sendable = {name: value for name, value in options.headers.items() if "," not in value}
        headers = ",".join(map("=".join, sendable.items()))
        self._fixed["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] = headers
        if not inherited.get(_OWN_SWITCH):
            for signal in _OTHER_SIGNALS:
                self._fixed |= _exporter(signal, options, headers)
        self._unsendable = sorted(options.headers.keys() - sendable.keys())
        described = json.dumps([self._fixed, self._resource], sort_keys=True)
        self.mark = hashlib.sha256(described.encode()).hexdigest()[:16]

    def ignored(self) -> tuple[SettingIgnored, ...]:
        """The settings that cannot be passed to the CLI."""
        reason = "The value has a comma, which cannot be passed to the CLI; its spans are sent without this header."
        return tuple(SettingIgnored(f"traces.headers.{name}", reason) for name in self._unsendable)

    def environment(self, context: ExecutionContext) -> Mapping[str, str]:
        attributes = {**self._resource, "project.id": context.project_id}
        encoded = ",".join(f"{quote(name)}={quote(str(value))}" for name, value in attributes.items())
        return {**self._fixed, "OTEL_RESOURCE_ATTRIBUTES": encoded, **self.prompt_environment(context)}

    def prompt_environment(self, context: ExecutionContext) -> Mapping[str, str]:
        if _TRACEPARENT_VARIABLE in self._chosen:
            return {}
        return {_TRACEPARENT_VARIABLE: traceparent(trace_identity(context, self._sampler))}


def _exporter(signal: str, options: TraceOptions, headers: str) -> dict[str, str]:
    """The variables of the CLI's exporter of `metrics` or `logs`, which are its events."""
    name = signal.upper()
    endpoint = _endpoint_of(signal, options.endpoint) if options.agent_metrics else None
    if endpoint is None:
        return {f"OTEL_{name}_EXPORTER": "none"}
    return {
        **_METRICS_AND_EVENTS,
        f"OTEL_{name}_EXPORTER": "otlp",
        f"OTEL_EXPORTER_OTLP_{name}_PROTOCOL": "http/protobuf",
        f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT": endpoint,
        f"OTEL_EXPORTER_OTLP_{name}_HEADERS": headers,
        f"OTEL_EXPORTER_OTLP_{name}_COMPRESSION": options.compression,
    }


Value = str | int | float | bool
"""A value of an attribute."""
ROOT: Final = "claude.execute"
COMMIT: Final = "claude.commit"


class Span(NamedTuple):
    """A span, without its ids; times in nanoseconds since the Unix epoch."""

    name: str
    key: str  # unique within its execution; `execute` is the root, all others are its children
    start: int
    end: int
    attributes: Mapping[str, Value]
    error: str | None = None  # the wire code of the error that it ended with


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _instant(at: Milliseconds) -> int:
    return at * 1_000_000


def _execution_started(event: events.ExecutionStarted, now: int) -> Iterable[Span]:
    turn = now - _nanoseconds(event.preparation)
    yield Span("claude.queue", "queue", turn - _nanoseconds(event.queued), turn, {})
    yield Span("claude.warm_start" if event.warm else "claude.spawn", "prepare", turn, now, {})


def _first_message_received(event: events.FirstMessageReceived, now: int) -> Iterable[Span]:
    yield Span("claude.first_message", "first_message", now - _nanoseconds(event.duration), now, {})


def _approval_resolved(event: events.ApprovalResolved, now: int) -> Iterable[Span]:
    start = _instant(event.requested_at)
    tool = {"approval.id": event.approval_id, "approval.behavior": event.behavior, "gen_ai.tool.name": event.tool}
    yield Span("claude.approval", f"approval:{event.approval_id}", start, start + _nanoseconds(event.waited), tool)


def _storage_committed(event: events.StorageCommitted, now: int) -> Iterable[Span]:
    # Keyed by its time, since a restarted server cannot know how many there were before.
    yield Span(COMMIT, f"commit:{now}", now - _nanoseconds(event.duration), now, {"storage.entries": event.entries})


def _execution_withdrawn(event: events.ExecutionWithdrawn, now: int) -> Iterable[Span]:
    yield Span(ROOT, "execute", _instant(event.created_at), now, _outcome(event.context, ExecutionStatus.CANCELLED))


def _execution_finished(event: events.ExecutionFinished, now: int) -> Iterable[Span]:
    attributes = _outcome(event.context, event.status)
    attributes["execution.waited_seconds"] = event.waited
    if event.session_id is not None:
        attributes["session.id"] = attributes["gen_ai.conversation.id"] = event.session_id
    if event.requested_model is not None:
        attributes["gen_ai.request.model"] = event.requested_model
    if event.model is not None:
        attributes["gen_ai.response.model"] = event.model
    attributes |= _usage_attributes(event.usage)
    error = None
    if event.status in {ExecutionStatus.ERROR, ExecutionStatus.TIMEOUT}:
        error = attributes["error.type"] = event.code or event.status.value
    yield Span(ROOT, "execute", _instant(event.created_at), _instant(event.finished_at), attributes, error)


def _outcome(context: ExecutionContext, status: ExecutionStatus) -> dict[str, Value]:
    return {
        "project.id": context.project_id,
        "execution.id": context.execution_id,
        "execution.status": status.value,
        "correlation.id": context.correlation_id,
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "anthropic",
    }


def _usage_attributes(usage: tuple[ModelUsage, ...]) -> dict[str, Value]:
    """The usage of all models; in the semantic convention the input tokens include those of the cache."""
    if not usage:
        return {}
    read = sum(used.cache_read_tokens for used in usage)
    created = sum(used.cache_creation_tokens for used in usage)
    return {
        "gen_ai.usage.input_tokens": sum(used.input_tokens for used in usage) + read + created,
        "gen_ai.usage.output_tokens": sum(used.output_tokens for used in usage),
        "gen_ai.usage.cache_read.input_tokens": read,
        "gen_ai.usage.cache_creation.input_tokens": created,
        "execution.cost_usd": round(sum(used.cost_usd for used in usage), 6),
    }


SPANS: Final[Mapping[type[Event], Callable[[Any, int], Iterable[Span]]]] = {
    events.ExecutionStarted: _execution_started,
    events.FirstMessageReceived: _first_message_received,
    events.ApprovalResolved: _approval_resolved,
    events.StorageCommitted: _storage_committed,
    events.ExecutionWithdrawn: _execution_withdrawn,
    events.ExecutionFinished: _execution_finished,
}
"""Makes the spans of an event, given the present time in nanoseconds; other kinds of events have no spans."""
MAX_COMMITS: Final = 64
"""Commits of one execution that get a span each; all of them count in the attributes of the execution's span."""
_MAX_REMEMBERED: Final = 4096
"""Executions whose ids and child spans are cached; for older ones the attributes about commits are missing."""


@dataclass(slots=True)
class _ChildSpans:
    """Sums over the child spans of an execution that this run of the server has seen; times in nanoseconds."""

    commits: int = 0
    commit_ns: int = 0
    first_start: float = math.inf
    last_end: float = -math.inf

    def add(self, span: Span) -> None:
        """Add a child."""
        self.first_start, self.last_end = min(self.first_start, span.start), max(self.last_end, span.end)
        if span.name == COMMIT:
            self.commits += 1
            self.commit_ns += span.end - span.start

    def complete(self, span: Span) -> Span:
        """Extend the execution's span over its children, since its own times are whole milliseconds."""
        start, end = min(span.start, self.first_start), max(span.end, self.last_end)
        commits = {"storage.commits": self.commits, "storage.commit_seconds": self.commit_ns / 1e9}
        return span._replace(start=int(start), end=int(end), attributes={**span.attributes, **commits})


class SpanSink(Protocol):
    """Exports finished spans; `span_export` implements it with the SDK."""

    def add(self, span: Span, trace_id: str, span_id: str, parent_id: str | None, *, remote: bool = False) -> None:
        """Queue a span; ids in hexadecimal. `remote`: the parent, if there is one, is a span of another program."""

    def close(self, seconds: float) -> None:
        """Export what is queued for at most `seconds`; the rest is lost, and counted."""


class SpanObserver:
    """An `Observer` that makes spans of events."""

    def __init__(self, sampler: TraceSampler, export: SpanSink) -> None:
        self._export = export
        self._children: dict[str, _ChildSpans] = {}

        @lru_cache(maxsize=_MAX_REMEMBERED)
        def identify(context: ExecutionContext) -> TraceIdentity:
            return trace_identity(context, sampler)

        self.identify: Callable[[ExecutionContext], TraceIdentity] = identify

    def emit(self, event: Event) -> None:
        """Export the event's spans, if it has some and its execution is sampled."""
        make = SPANS.get(type(event))
        context: ExecutionContext | None = getattr(event, "context", None)
        if make is None or context is None:
            return
        identity = self.identify(context)
        if identity.sampled:
            for span in make(event, time.time_ns()):
                self._add(context, identity, span)

    def _add(self, context: ExecutionContext, identity: TraceIdentity, span: Span) -> None:
        if span.name == ROOT:
            parent = remote_span(context.traceparent)
            parent_id = parent.span_id if parent is not None else None
            whole = self._children.pop(context.execution_id, _ChildSpans()).complete(span)
            self._export.add(whole, identity.trace_id, identity.span_id, parent_id, remote=True)
            return
        if context.execution_id not in self._children and len(self._children) >= _MAX_REMEMBERED:
            del self._children[next(iter(self._children))]
        children = self._children.setdefault(context.execution_id, _ChildSpans())
        children.add(span)
        if span.name != COMMIT or children.commits <= MAX_COMMITS:
            self._export.add(span, identity.trace_id, span_id(context, span.key), identity.span_id)

    def close(self, seconds: float) -> None:
        """Export the queued spans for at most `seconds`."""
        self._export.close(seconds)


@dataclass(frozen=True, slots=True)
class Traces:
    """Tracing as the server uses it; without observers it is off."""

    observers: tuple[SpanObserver, ...]
    identify: Identify
    propagator: Propagator
    ignored: tuple[SettingIgnored, ...]

    @contextlib.asynccontextmanager
    async def exporting(self, observer: Observer, seconds: float) -> AsyncIterator[None]:
        """Report ignored settings to `observer`; at the end, export the queued spans for at most `seconds`."""
        for ignored in self.ignored:
            observer.emit(ignored)
        try:
            yield
        finally:
            for tracing in self.observers:
                await asyncio.to_thread(tracing.close, seconds)
