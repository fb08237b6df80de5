"""Every metric, declared once, with the operations, error codes and runbooks that its labels refer to.

The names of the first nine families are those of the monitoring guide. All children exist from the
start. A value that is not listed becomes `other`, so that a client cannot add series. `monitoring`
imports this module, so it must not load prometheus_client.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final, Literal, get_args

from pocket_agent import errors
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import REJECTIONS, ClientKind, ConnectionClosed, ConnectionOpened, Event
from pocket_agent.hub import WATCHED
from pocket_agent.model import ProjectState
from pocket_agent.protocol.requests import REQUESTS
from pocket_agent.settings import MetricsSettings

OPERATION_OF: Final[Mapping[str, str]] = {
    "invalid": "protocol",
    **{name: kind.spec.operation for name, kind in REQUESTS.items()},
}
"""The operation of each type of request; `invalid` is a frame that is not a request."""

_PROJECT_ERRORS: Final = (
    errors.ForbiddenError,
    errors.ValidationError,
    errors.ProjectNotFoundError,
    errors.FileOperationError,
    errors.InternalError,
)
"""The errors of every request that concerns a project."""
_ERRORS_OF_OPERATION: Final[Mapping[str, tuple[type[PocketAgentError], ...]]] = {
    "protocol": (errors.InvalidMessageError, errors.ValidationError, errors.RateLimitedError),
    "project": (
        *_PROJECT_ERRORS,
        errors.InvalidPathError,
        errors.ProjectExistsError,
        errors.ProjectNestingError,
        errors.ProjectLimitError,
        errors.ResourceLimitError,
        errors.ProcessActiveError,
    ),
    "execute": (
        *_PROJECT_ERRORS,
        errors.InvalidPathError,
        errors.ResourceLimitError,
        errors.ClaudeNotFoundError,
        errors.ExecutionFailedError,
        errors.ProcessActiveError,
        errors.ProcessNotFoundError,
    ),
    "agent": (*_PROJECT_ERRORS, errors.ProcessActiveError, errors.ProcessNotFoundError),
    "approval": (*_PROJECT_ERRORS, errors.ApprovalNotFoundError),
    # These requests are for every device, so none is refused as FORBIDDEN.
    "history": (
        *(error for error in _PROJECT_ERRORS if error is not errors.ForbiddenError),
        errors.ResourceLimitError,
    ),
    "device": (*_PROJECT_ERRORS, errors.ResourceLimitError),
    "server": (errors.ForbiddenError, errors.InternalError),
    "execution": (
        errors.ExecutionFailedError,
        errors.ExecutionTimeoutError,
        errors.ProcessActiveError,
        errors.ClaudeNotFoundError,
        errors.ResourceLimitError,
        errors.FileOperationError,
        errors.ForbiddenError,
        errors.InvalidPathError,
        errors.TrustRequiredError,
        errors.InternalError,
    ),
    "storage": (errors.FileOperationError,),
    "connection": tuple(dict.fromkeys(REJECTIONS.values())),
}
"""Besides those of requests: `execution` is one that ends, or cannot start; `storage` a write that is retried."""

ERRORS: Final = (
    *((error.code, operation) for operation, possible in _ERRORS_OF_OPERATION.items() for error in possible),
    ("other", "other"),
)
"""Code and operation of each error that can happen."""
OPERATIONS: Final = (*_ERRORS_OF_OPERATION, "other")
SERVER_CODES: Final = frozenset(
    error.code
    for error in (
        errors.InternalError,
        errors.FileOperationError,
        errors.ClaudeNotFoundError,
        errors.ExecutionFailedError,
        errors.ExecutionTimeoutError,
    )
)
"""The codes of the server's own faults; the others are mistakes of clients."""
SIGNALS: Final = ("logs", "traces", "events", "notifications")
"""What can be lost: log lines, spans, events that failed in an observer, and notifications."""


class Losses:
    """Counts lost items of each signal since the start; any thread may add and read."""

    def __init__(self) -> None:
        self._lost: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, signal: str, count: int = 1) -> None:
        with self._lock:
            self._lost[signal] += count

    def of(self, signal: str) -> int:
        with self._lock:
            return self._lost[signal]


OTHER: Final = "other"
INVALID: Final = "invalid"
"""The type of a frame that is not a message of the protocol."""
PREFIX: Final = "pocket_agent_"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric family.

    `labels` has each label with its values; `model` and `project` have more, see `children`; the value of a label
    without values is known at run time only.
    """

    name: str  # the whole name, as it is scraped
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()  # upper bounds, for a histogram
    unit: str = ""  # seconds, bytes or usd; empty for a number of things
    combinations: tuple[tuple[str, ...], ...] = ()  # the label values that occur together, unless each occurs with each
    event: type[Event] | None = None  # counts the events of this type; each label is a field of it


def children(metric: Metric, settings: MetricsSettings) -> Sequence[tuple[str, ...]]:
    """The label values of each child; `model` and `project` also have those that the settings name."""
    if metric.combinations:
        return metric.combinations
    chosen = {"model": settings.models, "project": settings.projects}
    values = [(*(chosen.get(name, ()) if known else ()), *known) for name, known in metric.labels.items()]
    return list(product(*map(dict.fromkeys, values)))


def series(settings: MetricsSettings) -> int:
    """How many series a scrape has, `process_*` included."""
    return len(PROCESS) + sum(
        max(1, len(children(metric, settings))) * (len(metric.buckets) + 3 if metric.buckets else 1)
        for metric in CATALOGUE
    )


def _counter(name: str, text: str, unit: str = "", **labels: Iterable[str]) -> Metric:
    return Metric(PREFIX + name, "counter", text, {key: tuple(labels[key]) for key in labels}, unit=unit)


def _gauge(name: str, text: str, unit: str = "", **labels: Iterable[str]) -> Metric:
    return replace(_counter(name, text, unit, **labels), kind="gauge")


def _seconds(name: str, text: str, buckets: tuple[float, ...], **labels: Iterable[str]) -> Metric:
    return replace(_counter(name, text, "seconds", **labels), kind="histogram", buckets=buckets)


_STATUS: Final = ("success", "error", "timeout", "killed")
AGENT_STATES: Final = ("executing", "waiting", "idle")
"""The states of a running CLI process; `waiting` for an approval."""
_STATISTICS: Final = ("sum", "max")
_TOKENS: Final = ("input", "output", "cacheRead", "cacheCreation")
MEASURED: Final = ("execute", "project_join", "get_messages")
"""The requests whose outcome and duration are counted by type, since a user waits for them."""
EDITING_TOOLS: Final = frozenset({"Write", "Edit", "NotebookEdit"})
TOOLS: Final = ("Bash", "Read", "Write", "Edit", "Agent", "TodoWrite", "WebFetch", "WebSearch", "Skill", "mcp")
"""Tools of the CLI (2.1.330); `mcp` is any tool of an MCP server."""
RELOADS: Final = ("applied", "refused")
CHECKS: Final = ("claude", "disk", "storage", "event_loop", "certificate", "queue")
LIMITS: Final = ("connections", "projects", "executions", "processes", "memory_bytes", "cost_usd_per_day")
WINDOWS: Final = ("five_hour", "seven_day")
"""The usage limits of every subscription, as the CLI (2.1.332) names them; some have more, for single models."""
_CLIENT_CLOSES: Final = ("1000", "1001", "1005", "1006", OTHER)
_SERVER_CLOSES: Final = ("1001", "1002", "1006", "1007", "1008", "1009", "1011", "4008", "4009", OTHER)

CONNECTIONS_ACTIVE: Final = _gauge("connections_active", "Open WebSocket connections.")
CONNECTIONS_TOTAL: Final = Metric(
    PREFIX + "connections_total", "counter", "Opened WebSocket connections.", event=ConnectionOpened
)
CLIENTS_ACTIVE: Final = _gauge(
    "clients_active",
    "Open WebSocket connections by kind of client: the web client, `pocket-agent chat`, programs with the library.",
    client=get_args(ClientKind),
)
PROJECTS_TOTAL: Final = _gauge("projects_total", "Projects.")
PROJECTS_ACTIVE: Final = _gauge("projects_active", "Projects by state.", state=[state.value for state in ProjectState])
CONVERSATIONS_ACTIVE: Final = _gauge(
    "conversations_active",
    "Conversations by state, the main one of each project included.",
    state=[state.value for state in ProjectState],
)
EXECUTIONS_TOTAL: Final = _counter(
    "executions_total",
    "Ended executions, and refused requests for one.",
    status=(*_STATUS, "rejected"),
)
EXECUTION_DURATION: Final = _seconds(
    "execution_duration_seconds",
    "Time from the start of an execution to its end, waits for approvals included; of a paused one the time it worked.",
    (1, 5, 10, 30, 60, 120, 300, 600),
    status=_STATUS,
)
MESSAGES_RECEIVED: Final = _counter(
    "messages_received_total",
    "Frames received from clients.",
    type=(*(name for name, kind in REQUESTS.items() if not kind.spec.rare), INVALID, OTHER),
)
_REPLIES: Final = tuple(dict.fromkeys(kind.spec.reply for kind in REQUESTS.values() if not kind.spec.rare))
_PUSHED: Final = tuple(sorted({*WATCHED, "prompt", "queue_state", "error", "agent_message"} - {*_REPLIES}))
"""The pushes that carry the traffic; the others count as `other`."""
MESSAGES_SENT: Final = _counter(
    "messages_sent_total",
    "Frames sent to connections.",
    type=(*_REPLIES, *_PUSHED, OTHER),
)
ERRORS_TOTAL: Final = Metric(
    PREFIX + "errors_total",
    "counter",
    "Errors by error code and operation.",
    {"code": tuple(dict.fromkeys(code for code, _ in ERRORS)), "operation": OPERATIONS},
    combinations=ERRORS,
)

BUILD_INFO: Final = _gauge(
    "build_info", "Always 1; the labels are the running versions.", version=(), revision=(), python_version=()
)
LIMIT: Final = _gauge("limit", "Limits of the server; 0 is unlimited.", limit=LIMITS)
LIMIT_USAGE: Final = _gauge("limit_usage", "Current usage of each limit.", limit=LIMITS)
REQUESTS_TOTAL: Final = Metric(
    PREFIX + "requests_total",
    "counter",
    "Answered requests.",
    {"type": (*MEASURED, INVALID, OTHER), "outcome": ("ok", "client_error", "server_error")},
    combinations=(*product((*MEASURED, OTHER), ("ok", "client_error", "server_error")), (INVALID, "client_error")),
)
REQUEST_DURATION: Final = _seconds(
    "request_duration_seconds",
    "Time from a request to its reply.",
    (0.0005, 0.005, 0.025, 0.1, 0.5, 2.5),
    type=(*MEASURED, OTHER),
)
EVENT_LOOP_LAG: Final = _seconds("event_loop_lag_seconds", "Lag of the event loop.", (0.001, 0.01, 0.05, 0.25, 1))
PING_RTT: Final = _seconds("ping_rtt_seconds", "Time from a ping to the client's pong.", (0.01, 0.05, 0.25, 1, 5))
BROADCAST_DURATION: Final = _seconds(
    "broadcast_duration_seconds",
    "Time to pass new frames to all subscribers of a project.",
    (0.0001, 0.0005, 0.0025, 0.01, 0.1),
)
TIME_TO_FIRST_MESSAGE: Final = _seconds(
    "time_to_first_message_seconds",
    "Time from the start of an execution to the agent's first message.",
    (0.25, 1, 2.5, 5, 10, 30, 60),
)
APPROVAL_WAIT: Final = _seconds(
    "approval_wait_seconds", "Time from an approval request to its answer, allow or deny.", (1, 5, 30, 120, 600, 3600)
)
APPROVALS_TOTAL: Final = _counter(
    "approvals_total",
    "Approval requests by outcome; cancelled ones were withdrawn.",
    behavior=("allow", "deny", "cancelled"),
)
APPROVALS_PENDING: Final = _gauge("approvals_pending", "Open approval requests of all projects.")
CONNECTIONS_REJECTED: Final = _counter(
    "connections_rejected_total",
    "Refused connections.",
    reason=REJECTIONS,
)
DISCONNECTS: Final = Metric(
    PREFIX + "disconnects_total",
    "counter",
    "Closed connections by close code (RFC 6455) and initiator.",
    {"code": tuple(dict.fromkeys((*_CLIENT_CLOSES[:-1], *_SERVER_CLOSES))), "initiator": ("client", "server")},
    combinations=(*product(_CLIENT_CLOSES, ("client",)), *product(_SERVER_CLOSES, ("server",))),
    event=ConnectionClosed,
)
SLOW_CONSUMER: Final = _counter(
    "slow_consumer_total",
    "Slow consumers: parked ones are served at their own pace, dropped ones were closed.",
    action=("parked", "dropped"),
)
MESSAGE_BYTES: Final = _counter(
    "message_bytes_total", "Bytes of the frames from and to clients.", "bytes", direction=("received", "sent")
)
EXECUTIONS_ACTIVE: Final = _gauge("executions_active", "Running executions.")
EXECUTION_QUEUE_DEPTH: Final = _gauge("execution_queue_depth", "Queued prompts of all projects.")
SEND_QUEUE_BYTES: Final = _gauge("send_queue_bytes", "Bytes in the send buffers of all connections.", "bytes")
SUBSCRIPTIONS_ACTIVE: Final = _gauge("subscriptions_active", "Subscriptions to projects of all connections.")
CLAUDE_TOKENS: Final = _counter(
    "claude_tokens_total", "Used tokens, as reported by the CLI.", type=_TOKENS, model=(OTHER,)
)
CLAUDE_COST: Final = _counter(
    "claude_cost_usd_total", "Cost in US dollars, as reported by the CLI.", "usd", model=(OTHER,)
)
PROJECT_TOKENS: Final = _counter(
    "project_tokens_total", "Used tokens of the projects in metrics.projects.", type=_TOKENS, project=(OTHER,)
)
PROJECT_COST: Final = _counter(
    "project_cost_usd_total", "Cost in US dollars of the projects in metrics.projects.", "usd", project=(OTHER,)
)
CLAUDE_TOOL_CALLS: Final = _counter(
    "claude_tool_calls_total", "Tool calls of agents.", tool=(*TOOLS, OTHER), outcome=("success", "error", "denied")
)
TOOL_SECONDS: Final = _counter(
    "claude_tool_seconds_total",
    "Time that tool calls of agents took, without the wait for approvals.",
    "seconds",
    tool=(*TOOLS, OTHER),
)
EDITS: Final = _counter(
    "claude_edits_total",
    "Changes of files that agents asked for, by the decision of a user or a rule.",
    decision=("accept", "reject"),
)
API_REQUEST: Final = _seconds(
    "claude_api_request_seconds",
    "Time from a request of an agent to the model API to the end of its answer, without those of subagents.",
    (1, 2.5, 5, 15, 60),
)
AGENT_MEMORY: Final = _gauge(
    "agent_memory_bytes",
    "Resident memory of agents with all their processes, by state: of all agents, and of the largest.",
    "bytes",
    state=AGENT_STATES,
    statistic=_STATISTICS,
)
AGENT_CPU: Final = _gauge(
    "agent_cpu_cores",
    "CPU cores that agents use with all their processes, by state: of all agents, and of the busiest.",
    state=AGENT_STATES,
    statistic=_STATISTICS,
)
AGENT_TOP_MEMORY: Final = _gauge(
    "agent_top_memory_ratio", "Share of the machine's memory that the largest agent uses, with its project.", project=()
)
AGENT_TOP_CPU: Final = _gauge(
    "agent_top_cpu_ratio", "Share of the machine's CPU that the busiest agent uses, with its project.", project=()
)
AGENT_REPEATED_CALLS: Final = _gauge(
    "agent_repeated_calls",
    "How often in a row a working agent has made the same tool call: the agent with the most, with its project.",
    project=(),
)
AGENT_SILENCE: Final = _gauge(
    "agent_silence_seconds",
    "Time since the last output of a working agent that waits for no approval: the longest, with its project.",
    "seconds",
    project=(),
)
AGENT_READINGS_FAILED: Final = _counter(
    "agent_readings_failed_total", "Failed readings of the memory and CPU of agents."
)
USAGE_LIMIT_UTILIZATION: Final = _gauge(
    "usage_limit_utilization_ratio",
    "Used share of each usage limit of the account, 1 at the limit; 0 when the API has not reported it.",
    window=WINDOWS,
)
USAGE_LIMIT_RESET: Final = _gauge(
    "usage_limit_reset_timestamp_seconds",
    "When each usage limit of the account is reset, as Unix time; 0 when the API has not reported it.",
    "seconds",
    window=WINDOWS,
)
EXECUTIONS_WAITING: Final = _gauge(
    "executions_waiting", "Paused executions, which continue after a reset or when a client decides."
)
STORAGE_FREE: Final = _gauge("storage_free_bytes", "Free space of the data directory's file system.", "bytes")
STORAGE_SIZE: Final = _gauge("storage_size_bytes", "Size of the database on the disk.", "bytes")
STORAGE_COMMIT: Final = _seconds("storage_commit_seconds", "Duration of a transaction.", (0.001, 0.005, 0.025, 0.1, 1))
TLS_NOT_AFTER: Final = _gauge(
    "tls_not_after_timestamp_seconds", "When the certificate in use expires, as Unix time; 0 without TLS.", "seconds"
)
HEALTH_CHECK_UP: Final = _gauge("health_check_up", "1 while a health check is healthy, else 0.", check=CHECKS)
SETTINGS_RELOADS: Final = _counter("settings_reloads_total", "Reloads of the settings by outcome.", outcome=RELOADS)
TELEMETRY_DROPPED: Final = _counter(
    "telemetry_dropped_total", "Dropped log lines, spans, events and notifications.", signal=SIGNALS
)
_CHOSEN_OUTSIDE: Final = (
    EXECUTIONS_TOTAL,
    EXECUTION_DURATION,
    ERRORS_TOTAL,
    DISCONNECTS,
    HEALTH_CHECK_UP,
)
METRIC_LABEL_OVERFLOW: Final = _counter(
    "metric_label_overflow_total",
    "Label values counted as other because the catalogue lacks them, by metric.",
    metric=[metric.name for metric in _CHOSEN_OUTSIDE],
)

CATALOGUE: Final = tuple(declared for declared in list(globals().values()) if isinstance(declared, Metric))
"""Every metric that is declared above, in that order."""

PROCESS: Final = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
)
"""The metrics of the server's process, which the client library has."""


RUNBOOK_OF_CHECK: Final[Mapping[str, str]] = {
    "claude": "HealthCheckFailing",
    "disk": "DiskSpaceLow",
    "storage": "StorageErrors",
    "event_loop": "EventLoopLagHigh",
    "certificate": "TLSCertificateExpiring",
    "queue": "HealthCheckFailing",
}
"""By the name of a health check."""
RUNBOOK_OF_LIMIT: Final[Mapping[str, str]] = {
    "connections": "TooManyConnections",
    "projects": "LimitNearlyReached",
    "executions": "LimitNearlyReached",
    "memory_bytes": "HighMemoryUsage",
    "cost_usd_per_day": "ClaudeCostBudget",
}
"""By the name of a limit; without `processes`, since idle ones are kept up to that limit."""
_RUNBOOK_OF_OPERATION: Final[Mapping[str, str]] = {"storage": "StorageErrors", "connection": "ConnectionsRejected"}
_RUNBOOK_OF_CODE: Final[Mapping[str, str]] = {
    errors.ExecutionFailedError.code: "ExecutionsFailing",
    errors.ExecutionTimeoutError.code: "ExecutionsFailing",
    errors.ClaudeNotFoundError.code: "HealthCheckFailing",
    errors.ProjectLimitError.code: "LimitNearlyReached",
}


def runbook_of(code: str, operation: str) -> str | None:
    """The runbook for an error; None for a mistake of a client."""
    found = _RUNBOOK_OF_OPERATION.get(operation) or _RUNBOOK_OF_CODE.get(code)
    return found or ("HighErrorRate" if code in SERVER_CODES else None)


_PAGE_HEAD: Final = """# Metrics

Generated from the code: change the code, then run `make generate`.

Prometheus scrapes `http://127.0.0.1:9090/metrics` (`metrics.host`, `metrics.port`). The reply is in the text
format, or in OpenMetrics 1.0 when the `Accept` header requests it; only OpenMetrics has exemplars, whose `trace_id` is
the trace of one execution. The reply is compressed when `Accept-Encoding` has gzip.

A listener beyond loopback, or one with `metrics.token_file`, requires `Authorization: Bearer TOKEN`. Without a
`metrics.token_file` the server creates the file `metrics-token` in its data directory, and logs its path:

```yaml
authorization:
  credentials_file: /var/lib/pocket-agent/metrics-token
```

With the default settings there are {series} series. The number is constant: all series exist from the start, and
labels have only the values below, however many projects and connections there are. Other values become `other` and
count in `pocket_agent_metric_label_overflow_total`. For `model`, `project` and `tool`, and for the `type` of metrics
that list only some requests, `other` is an ordinary value and does not count there. Metrics of one agent, the one with
the highest value, have the name of its project as `project`, empty without an agent.
"""


def render_metrics_document() -> str:
    """`docs/metrics.md`, with the series of the default settings."""
    return "\n".join([_PAGE_HEAD.format(series=series(MetricsSettings())), *_family_sections(), *_operation_section()])


def _family_sections() -> Iterator[str]:
    for metric in CATALOGUE:
        yield f"## {metric.name}\n"
        unit = f" in {metric.unit}" if metric.unit else ""
        yield f"{metric.help} A {metric.kind}{unit}.\n"
        for name, values in metric.labels.items():
            yield f"- `{name}`: {_value_list(name, values)}"
        if metric.buckets:
            yield f"- buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}"
        if metric.labels or metric.buckets:
            yield ""
    yield "## The process\n"
    yield f"{', '.join(f'`{name}`' for name in PROCESS)}: of the server itself, on Linux.\n"


def _value_list(name: str, values: tuple[str, ...]) -> str:
    chosen = {"model": "the settings `metrics.models`", "project": "the settings `metrics.projects`"}
    shown = [*([chosen[name]] if name in chosen and values else []), *(f"`{value}`" for value in values)]
    return ", ".join(shown) or "of the running server"


def _operation_section() -> Iterator[str]:
    yield "## Operations\n"
    yield "The values of `operation` of `pocket_agent_errors_total`:\n"
    kinds: dict[str, list[str]] = {}
    for kind, operation in OPERATION_OF.items():
        kinds.setdefault(operation, []).append(f"`{kind}`")
    for operation, types in kinds.items():
        yield f"- `{operation}`: {', '.join(types)}"
    yield "- `execution`: the end of an execution, or a prompt that cannot start yet"
    yield "- `storage`: a write that the store refused and that is retried"
    yield "- `connection`: a connection that was refused"
    yield f"- `{OTHER}`: an error that is not listed above\n"
