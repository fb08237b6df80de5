"""The spans that each event gives. A kind of event without any stands in `UNTRACED`.

A span carries ids and figures, never contents. Names of attributes are those of OpenTelemetry's
semantic conventions (`gen_ai.*`, `error.type`, `session.id`) where they have one. An event is told when
something is over, so a span is made whole: it ends now, or when the event says.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from pocket_agent import events
from pocket_agent.events import Event
from pocket_agent.model import ExecutionContext, ExecutionStatus, Milliseconds, ModelUsage

Value = str | int | float | bool
"""What an attribute can be."""
ROOT: Final = "claude.execute"
COMMIT: Final = "claude.commit"


class Span(NamedTuple):
    """A span to be.

    Attributes:
        name: what took the time.
        key: tells it from the others of its execution; `execute` is the root, all others are its children.
        start, end: nanoseconds since the Unix epoch.
        error: the wire code of the error that it ended with.
    """

    name: str
    key: str
    start: int
    end: int
    attributes: Mapping[str, Value]
    error: str | None = None


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
    attributes = {
        "approval.id": event.approval_id,
        "approval.behavior": event.behavior,
        "gen_ai.tool.name": event.tool,
    }
    end = start + _nanoseconds(event.waited)
    yield Span("claude.approval", f"approval:{event.approval_id}", start, end, attributes)


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
    attributes |= _usage(event.usage)
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


def _usage(usage: tuple[ModelUsage, ...]) -> dict[str, Value]:
    """What was used by all models; the convention counts what came from or went to a cache as input, too."""
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
    events.ExecutionWithdrawn: _execution_withdrawn,
    events.ExecutionStarted: _execution_started,
    events.FirstMessageReceived: _first_message_received,
    events.ExecutionFinished: _execution_finished,
    events.ApprovalResolved: _approval_resolved,
    events.StorageCommitted: _storage_committed,
}
"""What makes the spans of each kind of event, given the present time in nanoseconds."""

_NO_EXECUTION: Final = "belongs to no execution"
UNTRACED: Final[Mapping[type[Event], str]] = {
    events.ServerStarted: _NO_EXECUTION,
    events.ServerStopping: _NO_EXECUTION,
    events.ServerStopped: _NO_EXECUTION,
    events.ListenersOpened: _NO_EXECUTION,
    events.MetricsServed: _NO_EXECUTION,
    events.CertificateLoaded: _NO_EXECUTION,
    events.SettingsReloaded: _NO_EXECUTION,
    events.SettingsRefused: _NO_EXECUTION,
    events.SettingIgnored: _NO_EXECUTION,
    events.CliVulnerable: _NO_EXECUTION,
    events.HealthChanged: _NO_EXECUTION,
    events.ConnectionOpened: _NO_EXECUTION,
    events.ConnectionRejected: _NO_EXECUTION,
    events.ConnectionClosed: _NO_EXECUTION,
    events.DevicePaired: _NO_EXECUTION,
    events.DeviceRevoked: _NO_EXECUTION,
    events.DeviceRotated: _NO_EXECUTION,
    events.PongReceived: _NO_EXECUTION,
    events.ConsumerDropped: _NO_EXECUTION,
    events.RequestHandled: "answered at once, before the execution that it may have begun does anything",
    events.RequestFaulted: _NO_EXECUTION,
    events.ProjectCreated: _NO_EXECUTION,
    events.ProjectDeleted: _NO_EXECUTION,
    events.ProjectTrusted: _NO_EXECUTION,
    events.ProjectFaulted: _NO_EXECUTION,
    events.TaskFaulted: _NO_EXECUTION,
    events.ExecutionQueued: "the wait is a span once it is over",
    events.ExecutionDelayed: "within the span of the queue",
    events.ApprovalRequested: "the wait is a span once it is over",
    events.UsageAdded: "comes after the spans of its execution",
    events.ToolCompleted: "the CLI's own span of the tool says more",
    events.ProcessSpawned: "within the span of the preparation",
    events.ProcessAdopted: _NO_EXECUTION,
    events.ProcessExited: _NO_EXECUTION,
    events.LineRejected: "a moment without a length; the log tells",
    events.StorageFailed: "told again and again while it lasts; the log tells",
    events.EpochRenewed: _NO_EXECUTION,
    events.AuditFailed: _NO_EXECUTION,
    events.NotificationLost: _NO_EXECUTION,
    events.BudgetExceeded: _NO_EXECUTION,
}
"""The kinds that have no span, and why."""
