"""Answers requests about the server itself: health, statistics, overview, recent errors, slow executions."""

import platform
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

import msgspec
import psutil

from pocket_agent import __version__, events
from pocket_agent.conversation.accounting import duration
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.conversation.state import usage_windows_data
from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.events import Event, ExecutionFinished
from pocket_agent.hub import Hub
from pocket_agent.model import ConversationId, ExecutionStatus, Milliseconds, project_of
from pocket_agent.observability import catalogue
from pocket_agent.observability.dashboard import DashboardHistory
from pocket_agent.observability.health import HealthChecks, HealthMonitor, overall_status
from pocket_agent.observability.metrics import CoreCollector
from pocket_agent.observability.redaction import error_name, redact, strip_quotations
from pocket_agent.observability.revision import find_revision
from pocket_agent.observability.structured_log import truncate
from pocket_agent.projects import Projects
from pocket_agent.protocol import push, requests
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.json_schema import error_codes
from pocket_agent.protocol.requests import CheckData, LastErrorData, SlowExecutionData
from pocket_agent.settings import CurrentSettings

_MAX_ERRORS: Final = 50
_MAX_ERROR_TEXT: Final = 300


class RecentErrors:
    """An `Observer` that keeps the newest kinds of the errors that the metrics count; `clock` is Unix time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, str], LastErrorData] = OrderedDict()
        self._descriptions = error_codes()

    def newest(self) -> list[LastErrorData]:
        """The kept errors, the newest first; identical ones are counted."""
        return list(reversed(self._kept.values()))

    def emit(self, event: Event) -> None:
        match event:
            case events.RequestHandled(code=str(code)):
                operation = catalogue.OPERATION_OF.get(event.type, catalogue.OTHER)
                self._add(code, operation, event.message, event.correlation_id, event.project_id)
            case events.ConnectionRejected():
                self._add(event.code, "connection", f"A client was refused: {event.reason}.")
            case events.ProjectFaulted():
                message = f"A project's task failed ({error_name(event.error)}) and was started again."
                self._add(InternalError.code, "project", message, None, event.project_id)
            case events.TaskFaulted():
                message = f"A background task ({event.task}) failed ({error_name(event.error)}) and is started again."
                self._add(InternalError.code, "server", message)
            case events.ExecutionDelayed(context=context):
                self._add(event.code, "execution", event.reason, context.correlation_id, context.project_id)
            case events.ExecutionFinished(context=context):
                if event.error_code is not None:
                    self._add(event.error_code, "execution", None, context.correlation_id, context.project_id)
            case events.StorageFailed(context=context):
                correlation_id = context.correlation_id if context is not None else None
                self._add(FileOperationError.code, "storage", event.reason, correlation_id, event.project_id)
            case events.AuditFailed():
                self._add(FileOperationError.code, "storage", f"The audit log could not be written: {event.reason}.")
            case _:
                pass

    def _add(
        self,
        code: str,
        operation: str,
        message: str | None,
        correlation_id: str | None = None,
        project_id: str | None = None,
    ) -> None:
        # Quoted values come from clients; the description of an error code contains none.
        text = self._descriptions.get(code, code)
        if message:
            text = truncate(redact(strip_quotations(message)), _MAX_ERROR_TEXT)
        key = (code, operation, text)
        before = self._kept.pop(key, None)
        self._kept[key] = LastErrorData(
            code=code,
            operation=operation,
            message=text,
            count=before.count + 1 if before is not None else 1,
            at=_rfc3339(self._clock()),
            correlation_id=correlation_id,
            project_id=project_id,
            runbook=catalogue.runbook_of(code, operation),
        )
        if len(self._kept) > _MAX_ERRORS:
            self._kept.popitem(last=False)


class ExecutionStatistics:
    """An `Observer` that counts executions and their seconds since the start, and keeps the last 500."""

    def __init__(self) -> None:
        self.total = 0
        self.success = 0
        self.failed = 0
        self.seconds = 0.0
        self._latest: deque[ExecutionFinished] = deque(maxlen=500)

    def emit(self, event: Event) -> None:
        if not isinstance(event, ExecutionFinished):
            return
        self.total += 1
        self.seconds += event.duration
        self.success += event.status == ExecutionStatus.SUCCESS
        self.failed += event.status in {ExecutionStatus.ERROR, ExecutionStatus.TIMEOUT}
        if event.started_at is not None:
            self._latest.append(event)

    def slowest(self, since: float) -> list[ExecutionFinished]:
        """The ten slowest of the kept executions that ended after `since` (Unix time), the slowest first."""
        recent = (event for event in self._latest if event.finished_at >= since * 1000)
        return nlargest(10, recent, key=lambda event: event.duration)


_DAY: Final = 86_400.0
_MAX_SHOWN: Final = 20  # running executions, and errors, of an overview
_HEALTH_WAIT_SECONDS: Final = 6.0  # how long `health` waits for running checks
_READY_WAIT_SECONDS: Final = 1.0  # how long `unready` waits for them; its clients ask often, with short timeouts


@dataclass
class StatusReport:
    """Answers the requests about the server itself, and the HTTP health endpoints."""

    hub: Hub
    projects: Projects
    settings: CurrentSettings
    checks: HealthChecks
    monitor: HealthMonitor
    core: CoreCollector
    dashboard: DashboardHistory
    executions: ExecutionStatistics
    errors: RecentErrors

    def __post_init__(self) -> None:
        self.history = self.dashboard.follow
        self._started, self._started_at = time.monotonic(), time.time()
        self._process = psutil.Process()
        self._process.cpu_percent()  # starts the interval that the next call measures
        self._rate = (self._started, 0)
        self._revision = find_revision()

    async def health(self) -> requests.HealthCheckData:
        """The status of the server, from check results that are a few seconds old at most."""
        checks = _known(await self.monitor.results(wait=_HEALTH_WAIT_SECONDS))
        return requests.HealthCheckData(
            status=overall_status(checks),
            version=__version__,
            uptime=self._uptime(),
            connections=self._connections(),
            projects=self._project_counts(),
            resources=requests.ResourceFigures(
                cpu_percent=self._process.cpu_percent(),
                memory_mb=round(self._process.memory_info().rss / 2**20, 1),
                disk_free_gb=round(self.checks.free_bytes / 2**30, 3),
            ),
            claude=self.checks.claude,
            checks=checks,
        )

    async def unready(self) -> str | None:
        """Why the server is not ready, in a line; None when it is.

        Without the CLI, or with little disk space left, clients can still view everything.
        """
        found = await self.monitor.results("storage", "disk", wait=_READY_WAIT_SECONDS)
        for name, result in found.items():
            if result is None:
                return "starting"
            if result.status == "unhealthy":
                return f"{name}: {result.message}"
        return None

    def stats(self) -> push.ServerStatsData:
        """Statistics since the start."""
        counts, now, sent = self.executions, time.monotonic(), self.hub.sent
        since, before = self._rate
        if now - since >= 1:
            self._rate = (now, sent)
        return push.ServerStatsData(
            connections=self._connections(),
            projects=self._project_counts(),
            executions=push.ExecutionFigures(
                active=self.projects.capacity.executing,
                total=counts.total,
                success=counts.success,
                failed=counts.failed,
                avg_duration_ms=round(counts.seconds / counts.total * 1000, 3) if counts.total else 0.0,
            ),
            messages=push.MessageFigures(
                sent=sent,
                received=self.hub.received,
                rate_per_sec=round((sent - before) / max(now - since, 0.001), 1),
            ),
            uptime=self._uptime(),
            cost=push.CostFigures(self.projects.budget.spent_usd, self.projects.budget.limit_usd),
        )

    def overview(self) -> requests.ServerOverviewData:
        """Checks, limits, slow executions and recent errors; does not block."""
        states = self.monitor.known()
        checks = _known({name: result for name, (result, _) in states.items()})
        changed = {name: _rfc3339(since) if since is not None else None for name, (_, since) in states.items()}
        limits, usage = self.core.limits(), self.core.usage()
        running = [shown for conversation in self.projects.all() if (shown := _running(conversation)) is not None]
        return requests.ServerOverviewData(
            status=overall_status(checks),
            version=__version__,
            revision=self._revision,
            python_version=platform.python_version(),
            started_at=_rfc3339(self._started_at),
            uptime=self._uptime(),
            claude=self.checks.claude,
            checks=[
                requests.CheckStateData(
                    name, check.status, check.message, changed[name], catalogue.RUNBOOK_OF_CHECK.get(name)
                )
                for name, check in checks.items()
            ],
            limits=[
                requests.LimitData(name, usage[name,], limits[name,], catalogue.RUNBOOK_OF_LIMIT.get(name))
                for name in catalogue.LIMITS
            ],
            running=sorted(running, key=lambda execution: execution.started_at)[:_MAX_SHOWN],
            slowest=[self._ended(event) for event in self.executions.slowest(time.time() - _DAY)],
            errors=self.errors.newest()[:_MAX_SHOWN],
            usage_windows=usage_windows_data(self.projects.limits.windows),
            paused=sum(
                waiting.status.is_paused for conversation in self.projects.all() for waiting in conversation.state.queue
            ),
        )

    def _uptime(self) -> int:
        return int(time.monotonic() - self._started)

    def _connections(self) -> push.ConnectionFigures:
        return push.ConnectionFigures(len(self.hub.sinks), self.settings.current.limits.max_connections)

    def _project_counts(self) -> push.ProjectFigures:
        executing = self.projects.capacity.executing
        return push.ProjectFigures(len(self.projects), self.settings.current.limits.max_projects, executing)

    def _ended(self, event: ExecutionFinished) -> SlowExecutionData:
        return SlowExecutionData(
            execution_id=event.context.execution_id,
            project_id=event.context.project_id,
            project=self.projects.title_of(event.context.conversation_id),
            status=event.status,
            model=event.model or event.requested_model,
            started_at=timestamp(event.started_at or event.created_at),
            duration_ms=round(event.duration * 1000),
            waited_ms=round(event.waited * 1000),
            waiting=False,
            conversation_id=_other(event.context.conversation_id),
        )


def _known(found: Mapping[str, CheckData | None]) -> dict[str, CheckData]:
    """The results, with a warning for a check that has no result yet."""
    return {name: result or CheckData("warning", "Not checked yet.") for name, result in found.items()}


def _running(conversation: Conversation) -> SlowExecutionData | None:
    state = conversation.state
    execution = state.current
    if execution is None or execution.started_at is None:
        return None
    return SlowExecutionData(
        execution_id=execution.id,
        project_id=state.record.project_id,
        project=state.record.name,
        status=ExecutionStatus.RUNNING,
        model=state.account.model or execution.options.model or state.record.model,
        started_at=timestamp(execution.started_at),
        duration_ms=round(duration(execution) * 1000),
        waited_ms=execution.waited_ms,
        waiting=bool(state.approvals),
        conversation_id=_other(state.record.id),
    )


def _other(conversation_id: ConversationId) -> str | msgspec.UnsetType:
    """The id of a conversation, unless it is that of its project."""
    return msgspec.UNSET if project_of(conversation_id) == conversation_id else conversation_id


def _rfc3339(seconds: float) -> str:
    return timestamp(Milliseconds(round(seconds * 1000)))
