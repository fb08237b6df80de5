"""The log line of each event: level, message, fields. An event without one stands in `UNLOGGED`.

A line carries ids and figures, never contents: no prompt, no output, no token.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pocket_agent import events
from pocket_agent.events import Event
from pocket_agent.model import ExecutionContext, ExecutionStatus, ModelUsage
from pocket_agent.observability.secret import masked


class Line(NamedTuple):
    """One line to be.

    Attributes:
        level: debug, info, warning or error.
        msg: what happened.
        fields: `correlation_id`, `project_id` and `duration_ms` stand at the top of the line; a
            `context` gives the first two, and the trace; the rest goes into `fields`.
        context: the execution that it belongs to.
    """

    level: str
    msg: str
    fields: Mapping[str, object]
    context: ExecutionContext | None = None


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _server_started(event: events.ServerStarted) -> Line:
    return Line("info", "server ready", {"addresses": event.addresses, "projects": event.projects})


def _server_stopping(event: events.ServerStopping) -> Line:
    return Line("info", "server stopping", {"reason": event.reason})


def _server_stopped(event: events.ServerStopped) -> Line:
    return Line("info", "server stopped", {"agents_left_running": event.agents_left})


def _listeners_opened(event: events.ListenersOpened) -> Line:
    fields = {"addresses": event.addresses, "exposed": event.exposed, "protected": event.protected}
    return Line("info" if event.protected else "warning", "listening", fields)


def _metrics_served(event: events.MetricsServed) -> Line:
    return Line("info", "metrics served", {"address": event.address, "token_file": event.token_file})


def _certificate_loaded(event: events.CertificateLoaded) -> Line:
    fields = {"not_after": event.not_after.isoformat(), "self_signed": event.self_signed}
    return Line("info", "certificate loaded", fields)


def _settings_reloaded(event: events.SettingsReloaded) -> Line:
    fields = {"changed": event.changed, "needs_restart": event.deferred}
    return Line("warning" if event.deferred else "info", "settings reloaded", fields)


def _settings_refused(event: events.SettingsRefused) -> Line:
    return Line("error", "settings not reloaded", {"reason": masked(event.reason)})


def _setting_ignored(event: events.SettingIgnored) -> Line:
    # A refused value is quoted in the reason, and a webhook's address is a secret.
    return Line("warning", "setting ignored", {"setting": event.setting, "reason": masked(event.reason)})


def _cli_vulnerable(event: events.CliVulnerable) -> Line:
    fields = {"claude_version": event.version, "advisories": event.advisories, "reason": event.reason}
    return Line("warning", "claude vulnerable", fields)


def _health_changed(event: events.HealthChanged) -> Line:
    fields = {"check": event.check, "status": event.status, "previous": event.previous, "message": event.message}
    return Line("info" if event.status == "healthy" else "warning", "health changed", fields)


def _connection_opened(event: events.ConnectionOpened) -> Line:
    fields = {"correlation_id": event.connection_id, "device": event.device, "remote": event.remote}
    return Line("info", "connection opened", fields)


def _connection_rejected(event: events.ConnectionRejected) -> Line:
    fields = {"reason": event.reason, "remote": event.remote, "count": event.count}
    return Line("warning", "connection rejected", fields)


def _device_paired(event: events.DevicePaired) -> Line:
    return Line("info", "device paired", {"device": event.device, "remote": event.remote})


def _device_revoked(event: events.DeviceRevoked) -> Line:
    return Line("info", "device revoked", {"device": event.device, "by": event.by})


def _device_rotated(event: events.DeviceRotated) -> Line:
    return Line("info", "device rotated", {"device": event.device, "by": event.by})


def _connection_closed(event: events.ConnectionClosed) -> Line:
    fields = {
        "correlation_id": event.connection_id,
        "duration_ms": _milliseconds(event.duration),
        "device": event.device,
        "close_code": event.code,  # not `code`: one name is one type, or an index of lines refuses them
        "initiator": event.initiator,
    }
    return Line("info", "connection closed", fields)


def _consumer_dropped(event: events.ConsumerDropped) -> Line:
    return Line("warning", "slow consumer dropped", {"correlation_id": event.connection_id, "device": event.device})


def _request_handled(event: events.RequestHandled) -> Line:
    fields: dict[str, object] = {
        "correlation_id": event.correlation_id,
        "project_id": event.project_id,
        "duration_ms": _milliseconds(event.duration),
        "type": event.type,
    }
    if event.code is not None:
        fields["code"] = event.code
    return Line("debug", "request handled", fields)


def _request_faulted(event: events.RequestFaulted) -> Line:
    fields = {"correlation_id": event.correlation_id, "type": event.type, "exc_info": event.error}
    return Line("error", "request faulted", fields)


def _project_created(event: events.ProjectCreated) -> Line:
    fields = {"correlation_id": event.correlation_id, "project_id": event.project_id}
    return Line("info", "project created", fields)


def _project_deleted(event: events.ProjectDeleted) -> Line:
    fields = {"correlation_id": event.correlation_id, "project_id": event.project_id}
    return Line("info", "project deleted", fields)


def _project_trusted(event: events.ProjectTrusted) -> Line:
    fields = {"correlation_id": event.correlation_id, "project_id": event.project_id, "new": event.new}
    return Line("info", "project trusted", fields)


def _project_faulted(event: events.ProjectFaulted) -> Line:
    return Line("error", "project faulted", {"project_id": event.project_id, "exc_info": event.error})


def _task_faulted(event: events.TaskFaulted) -> Line:
    return Line("error", "background task faulted", {"task": event.task, "exc_info": event.error})


def _execution_queued(event: events.ExecutionQueued) -> Line:
    return Line("debug", "execution queued", {"place": event.place}, event.context)


def _execution_delayed(event: events.ExecutionDelayed) -> Line:
    return Line("warning", "execution delayed", {"code": event.code, "reason": event.reason}, event.context)


def _execution_withdrawn(event: events.ExecutionWithdrawn) -> Line:
    return Line("info", "execution withdrawn", {}, event.context)


def _execution_started(event: events.ExecutionStarted) -> Line:
    fields = {
        "warm": event.warm,
        "queued_ms": _milliseconds(event.queued),
        "preparation_ms": _milliseconds(event.preparation),
    }
    return Line("debug", "execution started", fields, event.context)


def _first_message_received(event: events.FirstMessageReceived) -> Line:
    return Line("debug", "first message received", {"duration_ms": _milliseconds(event.duration)}, event.context)


def _execution_finished(event: events.ExecutionFinished) -> Line:
    fields: dict[str, object] = {
        "duration_ms": _milliseconds(event.duration),
        "status": event.status,
        "code": event.code,
        "waited_ms": _milliseconds(event.waited),
        "session_id": event.session_id,
        "model": event.model,
        **_figures(event.usage),
    }
    failed = event.status in {ExecutionStatus.ERROR, ExecutionStatus.TIMEOUT}
    level, msg = ("warning", "Execution failed") if failed else ("info", "Execution completed")
    return Line(level, msg, fields, event.context)


def _figures(usage: Iterable[ModelUsage]) -> dict[str, object]:
    """Tokens and dollars. What a model reads is the sum of three counts that do not overlap."""
    prompt = completion = 0
    cost = 0.0
    for used in usage:
        prompt += used.input_tokens + used.cache_read_tokens + used.cache_creation_tokens
        completion += used.output_tokens
        cost += used.cost_usd
    return {"prompt_tokens": prompt, "completion_tokens": completion, "cost_usd": round(cost, 6)}


def _usage_added(event: events.UsageAdded) -> Line:
    fields = {"project_id": event.project_id, **_figures(event.usage)}
    return Line("info", "usage added after the end", fields, event.context)


def _approval_requested(event: events.ApprovalRequested) -> Line:
    fields = {"project_id": event.project_id, "approval_id": event.approval_id, "tool": event.tool}
    return Line("info", "approval requested", fields, event.context)


def _approval_resolved(event: events.ApprovalResolved) -> Line:
    fields = {
        "project_id": event.project_id,
        "duration_ms": _milliseconds(event.waited),
        "approval_id": event.approval_id,
        "tool": event.tool,
        "behavior": event.behavior,
        "by": event.by,
    }
    return Line("info", "approval resolved", fields, event.context)


def _tool_completed(event: events.ToolCompleted) -> Line:
    fields = {"project_id": event.project_id, "tool": event.tool, "outcome": event.outcome}
    return Line("debug", "tool completed", fields, event.context)


def _process_spawned(event: events.ProcessSpawned) -> Line:
    fields = {"project_id": event.project_id, "duration_ms": _milliseconds(event.duration), "pid": event.pid}
    return Line("info", "process spawned", fields, event.context)


def _process_adopted(event: events.ProcessAdopted) -> Line:
    return Line("info", "process adopted", {"project_id": event.project_id, "pid": event.pid})


def _process_exited(event: events.ProcessExited) -> Line:
    return Line("info", "process exited", {"project_id": event.project_id, "pid": event.pid, "exit_code": event.code})


def _line_rejected(event: events.LineRejected) -> Line:
    return Line("warning", "line rejected", {"project_id": event.project_id, "reason": event.reason}, event.context)


def _storage_committed(event: events.StorageCommitted) -> Line:
    fields = {
        "project_id": event.project_id,
        "duration_ms": _milliseconds(event.duration),
        "entries": event.entries,
    }
    return Line("debug", "storage committed", fields, event.context)


def _storage_failed(event: events.StorageFailed) -> Line:
    return Line("error", "storage failed", {"project_id": event.project_id, "reason": event.reason}, event.context)


def _epoch_renewed(event: events.EpochRenewed) -> Line:
    return Line("warning", "epoch renewed", {"project_id": event.project_id})


def _audit_failed(event: events.AuditFailed) -> Line:
    return Line("error", "audit failed", {"reason": event.reason})


def _notification_lost(event: events.NotificationLost) -> Line:
    return Line("warning", "notification lost", {"destination": event.address, "reason": event.reason})


def _budget_exceeded(event: events.BudgetExceeded) -> Line:
    fields = {
        "spent_usd": round(event.spent_usd, 6),
        "limit_usd": event.limit_usd,
        "refusing": event.refusing,
        "until": datetime.fromtimestamp(event.until / 1000, UTC).isoformat(),
    }
    return Line("warning", "budget exceeded", fields)


LINES: Final[Mapping[type[Event], Callable[[Any], Line]]] = {
    events.ServerStarted: _server_started,
    events.ServerStopping: _server_stopping,
    events.ServerStopped: _server_stopped,
    events.ListenersOpened: _listeners_opened,
    events.MetricsServed: _metrics_served,
    events.CertificateLoaded: _certificate_loaded,
    events.SettingsReloaded: _settings_reloaded,
    events.SettingsRefused: _settings_refused,
    events.SettingIgnored: _setting_ignored,
    events.CliVulnerable: _cli_vulnerable,
    events.HealthChanged: _health_changed,
    events.ConnectionOpened: _connection_opened,
    events.ConnectionRejected: _connection_rejected,
    events.ConnectionClosed: _connection_closed,
    events.DevicePaired: _device_paired,
    events.DeviceRevoked: _device_revoked,
    events.DeviceRotated: _device_rotated,
    events.ConsumerDropped: _consumer_dropped,
    events.RequestHandled: _request_handled,
    events.RequestFaulted: _request_faulted,
    events.ProjectCreated: _project_created,
    events.ProjectDeleted: _project_deleted,
    events.ProjectTrusted: _project_trusted,
    events.ProjectFaulted: _project_faulted,
    events.TaskFaulted: _task_faulted,
    events.ExecutionQueued: _execution_queued,
    events.ExecutionDelayed: _execution_delayed,
    events.ExecutionWithdrawn: _execution_withdrawn,
    events.ExecutionStarted: _execution_started,
    events.FirstMessageReceived: _first_message_received,
    events.ExecutionFinished: _execution_finished,
    events.UsageAdded: _usage_added,
    events.ApprovalRequested: _approval_requested,
    events.ApprovalResolved: _approval_resolved,
    events.ToolCompleted: _tool_completed,
    events.ProcessSpawned: _process_spawned,
    events.ProcessAdopted: _process_adopted,
    events.ProcessExited: _process_exited,
    events.LineRejected: _line_rejected,
    events.StorageCommitted: _storage_committed,
    events.StorageFailed: _storage_failed,
    events.EpochRenewed: _epoch_renewed,
    events.AuditFailed: _audit_failed,
    events.NotificationLost: _notification_lost,
    events.BudgetExceeded: _budget_exceeded,
}
"""What makes the line of each kind of event."""

UNLOGGED: Final[Mapping[type[Event], str]] = {
    events.PongReceived: "one for each ping; the round trip is a metric",
}
"""The kinds that have no line, and why."""


def describe(event: Event) -> Line | None:
    """The line of an event; None for one that has none."""
    make = LINES.get(type(event))
    return make(event) if make is not None else None
