"""Prometheus metrics out of events. What the core keeps as plain numbers is read by `collector`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from pocket_agent import errors, events
from pocket_agent.config.settings import MetricsSettings
from pocket_agent.events import Event
from pocket_agent.model import ExecutionContext, ModelUsage
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import INVALID, MEASURED, OTHER, TOOLS
from pocket_agent.observability.family import Families
from pocket_agent.observability.identity import Identify, untraced
from pocket_agent.observability.operation import CODE_OF_REJECTION, CODE_OF_STATUS, OPERATION_OF, SERVER_CODES

NameOf = Callable[[str], str | None]
"""The name of a project by its id; None when there is no such project."""

_MCP: Final = "mcp__"
"""What the names of MCP tools begin with (CLI 2.1.330)."""
_LISTED: Final = {"Task": "Agent"}
"""The CLI (2.1.330) lists a tool by the first name and calls it by the second."""


def nameless(_: str) -> None:
    """The `NameOf` of a server that has no projects."""
    return


class MetricObserver:
    """Counts what happens. It is an `Observer` of the core; every child exists from the start.

    Args:
        settings: the models and projects that are told apart.
        name_of: finds the name of a project.
        identify: finds the trace that an exemplar points to.

    Attributes:
        registry: where the metrics are scraped from.
        dropped: connections that were closed because they did not keep up.
    """

    def __init__(
        self,
        settings: MetricsSettings | None = None,
        *,
        name_of: NameOf = nameless,
        identify: Identify = untraced,
    ) -> None:
        settings = settings if settings is not None else MetricsSettings()
        # The time of a child's making tells nothing here and doubles the series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives it no types
        self.registry = CollectorRegistry()
        self.dropped = 0
        self._models = [(part.lower(), part) for part in settings.models]
        self._projects = frozenset(settings.projects)
        self._name_of = name_of
        self._identify = identify
        ProcessCollector(registry=self.registry)
        made = Families(self.registry, settings)
        self._connections = made.counters(catalogue.CONNECTIONS_TOTAL)
        self._executions = made.counters(catalogue.EXECUTIONS_TOTAL)
        self._durations = made.histograms(catalogue.EXECUTION_DURATION)
        self._received = made.counters(catalogue.MESSAGES_RECEIVED)
        self._errors = made.counters(catalogue.ERRORS_TOTAL)
        self._requests = made.counters(catalogue.REQUESTS_TOTAL)
        self._request_durations = made.histograms(catalogue.REQUEST_DURATION)
        self._pings = made.histograms(catalogue.PING_RTT)
        self._first_messages = made.histograms(catalogue.TIME_TO_FIRST_MESSAGE)
        self._approval_waits = made.histograms(catalogue.APPROVAL_WAIT)
        self._approvals = made.counters(catalogue.APPROVALS_TOTAL)
        self._rejections = made.counters(catalogue.CONNECTIONS_REJECTED)
        self._disconnects = made.counters(catalogue.DISCONNECTS)
        self._tokens = made.counters(catalogue.CLAUDE_TOKENS)
        self._cost = made.counters(catalogue.CLAUDE_COST)
        self._project_tokens = made.counters(catalogue.PROJECT_TOKENS)
        self._project_cost = made.counters(catalogue.PROJECT_COST)
        self._tools = made.counters(catalogue.CLAUDE_TOOL_CALLS)
        self._not_after = made.gauges(catalogue.TLS_NOT_AFTER)
        self._checks = made.gauges(catalogue.HEALTH_CHECK_UP)
        self._reloads = made.counters(catalogue.SETTINGS_RELOADS)

    def emit(self, event: Event) -> None:
        """Count an event."""
        count = self.METERED.get(type(event))
        if count is not None:
            count(self, event)

    def _certificate_loaded(self, event: events.CertificateLoaded) -> None:
        self._not_after.set(event.not_after.timestamp())

    def _settings_reloaded(self, _: events.SettingsReloaded) -> None:
        self._reloads.inc("applied")

    def _settings_refused(self, _: events.SettingsRefused) -> None:
        self._reloads.inc("refused")

    def _health_changed(self, event: events.HealthChanged) -> None:
        self._checks.set(1 if event.status == "healthy" else 0, event.check)

    def _connection_opened(self, _: events.ConnectionOpened) -> None:
        self._connections.inc()

    def _connection_rejected(self, event: events.ConnectionRejected) -> None:
        self._rejections.inc(event.reason, amount=event.count)
        self._errors.inc(CODE_OF_REJECTION[event.reason], "connection", amount=event.count)

    def _connection_closed(self, event: events.ConnectionClosed) -> None:
        self._disconnects.inc(str(event.code), event.initiator)

    def _pong_received(self, event: events.PongReceived) -> None:
        self._pings.observe(event.duration)

    def _consumer_dropped(self, _: events.ConsumerDropped) -> None:
        self.dropped += 1

    def _request_handled(self, event: events.RequestHandled) -> None:
        kind, code = event.type, event.code
        self._received.inc(kind)
        measured = kind if kind in MEASURED else OTHER
        self._request_durations.observe(event.duration, measured)
        if code is None:
            self._requests.inc(measured, "ok")
            return
        outcome = "server_error" if code in SERVER_CODES else "client_error"
        self._requests.inc(INVALID if kind == INVALID else measured, outcome)
        self._errors.inc(code, OPERATION_OF.get(kind, OTHER))
        if kind == "execute":
            self._executions.inc("rejected")

    def _project_faulted(self, _: events.ProjectFaulted) -> None:
        self._errors.inc(errors.InternalError.code, "project")

    def _task_faulted(self, _: events.TaskFaulted) -> None:
        self._errors.inc(errors.InternalError.code, "server")

    def _execution_delayed(self, event: events.ExecutionDelayed) -> None:
        self._errors.inc(event.code, "execution")

    def _first_message_received(self, event: events.FirstMessageReceived) -> None:
        self._first_messages.observe(event.duration, exemplar=self._exemplar(event.context))

    def _execution_finished(self, event: events.ExecutionFinished) -> None:
        exemplar = self._exemplar(event.context)
        self._executions.inc(event.status, exemplar=exemplar)
        self._durations.observe(event.duration, event.status, exemplar=exemplar)
        code = event.code or CODE_OF_STATUS.get(event.status)
        if code is not None:
            self._errors.inc(code, "execution")
        self._use(event.context.project_id, event.usage)

    def _usage_added(self, event: events.UsageAdded) -> None:
        self._use(event.project_id, event.usage)

    def _approval_resolved(self, event: events.ApprovalResolved) -> None:
        self._approvals.inc(event.behavior)
        if event.behavior != "cancelled":
            self._approval_waits.observe(event.waited, exemplar=self._exemplar(event.context))

    def _tool_completed(self, event: events.ToolCompleted) -> None:
        name = _LISTED.get(event.tool, event.tool)
        tool = "mcp" if name.startswith(_MCP) else name if name in TOOLS else OTHER
        self._tools.inc(tool, event.outcome)

    def _storage_failed(self, _: events.StorageFailed | events.AuditFailed) -> None:
        self._errors.inc(errors.FileOperationError.code, "storage")

    def _use(self, project_id: str, usage: Iterable[ModelUsage]) -> None:
        name = self._name_of(project_id) if self._projects else None
        project = name if name in self._projects and name is not None else OTHER
        for used in usage:
            model = self._model(used.model)
            tokens = {
                "input": used.input_tokens,
                "output": used.output_tokens,
                "cacheRead": used.cache_read_tokens,
                "cacheCreation": used.cache_creation_tokens,
            }
            for kind, count in tokens.items():
                self._tokens.inc(kind, model, amount=count)
                self._project_tokens.inc(kind, project, amount=count)
            self._cost.inc(model, amount=used.cost_usd)
            self._project_cost.inc(project, amount=used.cost_usd)

    def _model(self, name: str) -> str:
        name = name.lower()
        return next((label for part, label in self._models if part in name), OTHER)

    def _exemplar(self, context: ExecutionContext | None) -> dict[str, str] | None:
        identity = self._identify(context) if context is not None else None
        return {"trace_id": identity.trace_id} if identity is not None and identity.sampled else None

    METERED: ClassVar[Mapping[type[Event], Callable[["MetricObserver", Any], None]]] = {
        events.CertificateLoaded: _certificate_loaded,
        events.SettingsReloaded: _settings_reloaded,
        events.SettingsRefused: _settings_refused,
        events.HealthChanged: _health_changed,
        events.ConnectionOpened: _connection_opened,
        events.ConnectionRejected: _connection_rejected,
        events.ConnectionClosed: _connection_closed,
        events.PongReceived: _pong_received,
        events.ConsumerDropped: _consumer_dropped,
        events.RequestHandled: _request_handled,
        events.ProjectFaulted: _project_faulted,
        events.TaskFaulted: _task_faulted,
        events.ExecutionDelayed: _execution_delayed,
        events.FirstMessageReceived: _first_message_received,
        events.ExecutionFinished: _execution_finished,
        events.UsageAdded: _usage_added,
        events.ApprovalResolved: _approval_resolved,
        events.ToolCompleted: _tool_completed,
        events.StorageFailed: _storage_failed,
        events.AuditFailed: _storage_failed,
    }
    """What counts each kind of event."""


UNMETERED: Final[Mapping[type[Event], str]] = {
    events.ServerStarted: "build_info and process_start_time_seconds tell it",
    events.ServerStopping: "the scrapes end",
    events.ServerStopped: "the scrapes have ended",
    events.ListenersOpened: "the settings tell it",
    events.MetricsServed: "the scrapes begin",
    events.CliVulnerable: "an operator has to read the ids, in the log and by the doctor",
    events.SettingIgnored: "a person has to read the reason, in the log",
    events.DevicePaired: "rare, and a person's own deed; the log and the audit log tell it",
    events.DeviceRevoked: "rare, and a person's own deed; the log and the audit log tell it",
    events.DeviceRotated: "rare, and a person's own deed; the log and the audit log tell it",
    events.RequestFaulted: "its RequestHandled follows, with INTERNAL_ERROR",
    events.ProjectCreated: "projects_total is read at the scrape",
    events.ProjectDeleted: "projects_total is read at the scrape",
    events.ProjectTrusted: "rare; the log and the audit log report it",
    events.ExecutionQueued: "execution_queue_depth is read at the scrape",
    events.ExecutionWithdrawn: "it neither ran nor was refused",
    events.ExecutionStarted: "executions_active is read at the scrape; the times of its parts are spans",
    events.ApprovalRequested: "it is counted when it is resolved",
    events.ProcessSpawned: "limit_usage of processes is read at the scrape",
    events.ProcessAdopted: "limit_usage of processes is read at the scrape",
    events.ProcessExited: "limit_usage of processes is read at the scrape",
    events.EpochRenewed: "rare; the log reports it",
    events.LineRejected: "clients get it as an error entry, counted in messages_sent_total",
    events.StorageCommitted: "the store counts its transactions, storage_commit_seconds",
    events.NotificationLost: "telemetry_dropped_total counts each, also those between two that are told of",
    events.BudgetExceeded: "limit_usage of cost_usd_per_day is read at the scrape",
}
"""The kinds that are not counted, and why."""
