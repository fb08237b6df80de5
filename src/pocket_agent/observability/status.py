"""Answers requests about the server itself: health, statistics, overview, recent errors, slow executions."""

import platform
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

import psutil

from pocket_agent import __version__, events
from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.events import Event, ExecutionFinished
from pocket_agent.hub import Hub
from pocket_agent.model import ExecutionStatus, Milliseconds
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import (
    CODE_OF_REJECTION,
    CODE_OF_STATUS,
    OPERATION_OF,
    OTHER,
    RUNBOOK_OF_CHECK,
    RUNBOOK_OF_LIMIT,
    runbook_of,
)
from pocket_agent.observability.dashboard import DashboardHistory, HistoryFollower
from pocket_agent.observability.health import HealthChecks, HealthMonitor, overall_status
from pocket_agent.observability.metrics import CoreCollector
from pocket_agent.observability.redaction import error_name, redact, strip_quotations
from pocket_agent.observability.revision import find_revision
from pocket_agent.observability.structured_log import truncate
from pocket_agent.projects import Projects
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.json_schema import error_codes
from pocket_agent.protocol.push import (
    ConnectionFigures,
    CostFigures,
    ExecutionFigures,
    MessageFigures,
    ProjectFigures,
    ServerStatsData,
)
from pocket_agent.protocol.requests import (
    CheckData,
    CheckStateData,
    HealthCheckData,
    LastErrorData,
    LimitData,
    ResourceFigures,
    ServerOverviewData,
    SlowExecutionData,
)
from pocket_agent.session.session import Session
from pocket_agent.settings import CurrentSettings

_MAX_ERRORS: Final = 50
_MAX_ERROR_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class RecentError:
    """An error, as often as it came.

    Attributes:
        message: what it says, without what it quotes.
        count: how often it came.
        at: when it came last, in seconds since the Unix epoch.
        correlation_id: the request or the execution that it came last with.
    """

    code: str
    operation: str
    message: str
    count: int
    at: float
    correlation_id: str | None
    project_id: str | None


class RecentErrors:
    """Keeps the errors that the metrics count, the newest kinds of them. It is an `Observer` of the core.

    Args:
        clock: the present time, in seconds since the Unix epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, str], RecentError] = OrderedDict()
        self._meanings = error_codes()

    def newest(self) -> list[RecentError]:
        """All that are kept, the newest first."""
        return list(reversed(self._kept.values()))

    def emit(self, event: Event) -> None:
        """Keep an error."""
        match event:
            case events.RequestHandled(code=str(code)):
                operation = OPERATION_OF.get(event.type, OTHER)
                self._add(code, operation, event.message, event.correlation_id, event.project_id)
            case events.ConnectionRejected():
                self._add(CODE_OF_REJECTION[event.reason], "connection", f"A client was refused: {event.reason}.")
            case events.ProjectFaulted():
                message = f"A project's task failed ({error_name(event.error)}) and was started again."
                self._add(InternalError.code, "project", message, None, event.project_id)
            case events.TaskFaulted():
                message = f"A background task ({event.task}) failed ({error_name(event.error)}) and is started again."
                self._add(InternalError.code, "server", message)
            case events.ExecutionDelayed(context=context):
                self._add(event.code, "execution", event.reason, context.correlation_id, context.project_id)
            case events.ExecutionFinished(context=context):
                ended = event.code or CODE_OF_STATUS.get(event.status)
                if ended is not None:
                    self._add(ended, "execution", None, context.correlation_id, context.project_id)
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
        text = (
            truncate(redact(strip_quotations(message)), _MAX_ERROR_TEXT) if message else self._meanings.get(code, code)
        )
        key = (code, operation, text)
        before = self._kept.pop(key, None)
        count = before.count + 1 if before is not None else 1
        self._kept[key] = RecentError(code, operation, text, count, self._clock(), correlation_id, project_id)
        if len(self._kept) > _MAX_ERRORS:
            self._kept.popitem(last=False)


_MAX_ENDED: Final = 500
"""Executions that are remembered, so that a busy day is remembered for less than a calm one."""
_MAX_SLOWEST: Final = 10


class SlowExecutions:
    """Remembers executions that ended. It is an `Observer` of the core."""

    def __init__(self) -> None:
        self._ended: deque[ExecutionFinished] = deque(maxlen=_MAX_ENDED)

    def emit(self, event: Event) -> None:
        """Remember the end of an execution that ran."""
        if isinstance(event, ExecutionFinished) and event.started_at is not None:
            self._ended.append(event)

    def found(self, since: float) -> list[ExecutionFinished]:
        """The slowest, the slowest first.

        Args:
            since: when they ended at the earliest, in seconds since the Unix epoch.
        """
        lately = (event for event in self._ended if event.finished_at >= since * 1000)
        return nlargest(_MAX_SLOWEST, lately, key=lambda event: event.duration)


class ExecutionCounts:
    """Counts executions and their time since the start. It is an `Observer` of the core."""

    def __init__(self) -> None:
        self.total = 0
        self.success = 0
        self.failed = 0
        self.seconds = 0.0

    def emit(self, event: Event) -> None:
        """Count an execution that is over."""
        if isinstance(event, events.ExecutionFinished):
            self.total += 1
            self.seconds += event.duration
            if event.status == ExecutionStatus.SUCCESS:
                self.success += 1
            elif event.status in {ExecutionStatus.ERROR, ExecutionStatus.TIMEOUT}:
                self.failed += 1


_DAY: Final = 86_400.0
_GIB: Final = 2**30
_MAX_SHOWN: Final = 20
"""Running executions, and errors, of an overview."""
_HEALTH_WAIT_SECONDS: Final = 6.0
"""How long `health` waits for checks that take time."""
_READY_WAIT_SECONDS: Final = 1.0
"""How long `unready` waits; it is asked often, by clients with short timeouts."""


class StatusReport:
    """Answers the requests about the server itself, and the HTTP health endpoints.

    Args:
        hub, projects, settings: the core and its limits.
        checks, health: the health checks and their results.
        core: limits and their usage, as a scrape reads them.
        history: the time series of `/dashboard`.
        counts, errors, slow: what was observed since the start.
    """

    def __init__(
        self,
        hub: Hub,
        projects: Projects,
        settings: CurrentSettings,
        checks: HealthChecks,
        health: HealthMonitor,
        core: CoreCollector,
        history: DashboardHistory,
        counts: ExecutionCounts,
        errors: RecentErrors,
        slow: SlowExecutions,
    ) -> None:
        self._hub = hub
        self._projects = projects
        self._settings = settings
        self._checks = checks
        self._health = health
        self._core = core
        self._history = history
        self._counts = counts
        self._errors = errors
        self._slow = slow
        self._started, self._started_at = time.monotonic(), time.time()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark that the next one measures from
        self._rate = (self._started, 0)
        self._revision = find_revision()

    async def health(self) -> HealthCheckData:
        """The status of the server, by check results that are a few seconds old at most."""
        checks = _known(await self._health.look(wait=_HEALTH_WAIT_SECONDS))
        return HealthCheckData(
            status=overall_status(checks),
            version=__version__,
            uptime=self._uptime(),
            connections=self._connections(),
            projects=self._project_counts(),
            resources=ResourceFigures(
                cpu_percent=self._process.cpu_percent(),
                memory_mb=round(self._process.memory_info().rss / 2**20, 1),
                disk_free_gb=round(self._checks.free_bytes / _GIB, 3),
            ),
            claude=self._checks.claude,
            checks=checks,
        )

    async def unready(self) -> str | None:
        """Why the server is not ready for work, in a line; None when it is.

        Without the CLI, or with little disk space left, clients can still view everything.
        """
        found = await self._health.look("storage", "disk", wait=_READY_WAIT_SECONDS)
        for name, result in found.items():
            if result is None:
                return "starting"
            if result.status == "unhealthy":
                return f"{name}: {result.message}"
        return None

    def stats(self) -> ServerStatsData:
        """Statistics since the start."""
        counts, now, sent = self._counts, time.monotonic(), self._hub.sent
        since, before = self._rate
        if now - since >= 1:
            self._rate = (now, sent)
        return ServerStatsData(
            connections=self._connections(),
            projects=self._project_counts(),
            executions=ExecutionFigures(
                active=self._projects.capacity.executing,
                total=counts.total,
                success=counts.success,
                failed=counts.failed,
                avg_duration_ms=round(counts.seconds / counts.total * 1000, 3) if counts.total else 0.0,
            ),
            messages=MessageFigures(
                sent=sent,
                received=self._hub.received,
                rate_per_sec=round((sent - before) / max(now - since, 0.001), 1),
            ),
            uptime=self._uptime(),
            cost=CostFigures(self._projects.budget.spent_usd, self._projects.budget.limit_usd),
        )

    def overview(self) -> ServerOverviewData:
        """Checks, limits, slow executions and recent errors; it does not block."""
        states = self._health.known()
        checks = _known({name: result for name, (result, _) in states.items()})
        limits, usage = self._core.limits(), self._core.usage()
        running = [shown for session in self._projects.all() if (shown := _running(session)) is not None]
        return ServerOverviewData(
            status=overall_status(checks),
            version=__version__,
            revision=self._revision,
            python_version=platform.python_version(),
            started_at=_rfc3339(self._started_at),
            uptime=self._uptime(),
            claude=self._checks.claude,
            checks=[
                CheckStateData(
                    name, check.status, check.message, _optional(states[name][1]), RUNBOOK_OF_CHECK.get(name)
                )
                for name, check in checks.items()
            ],
            limits=[
                LimitData(name, usage[name,], limits[name,], RUNBOOK_OF_LIMIT.get(name)) for name in catalogue.LIMITS
            ],
            running=sorted(running, key=lambda execution: execution.started_at)[:_MAX_SHOWN],
            slowest=[self._ended(event) for event in self._slow.found(time.time() - _DAY)],
            errors=[_error(error) for error in self._errors.newest()[:_MAX_SHOWN]],
        )

    def history(self, seconds: int) -> HistoryFollower:
        """A reader of the time series of the last `seconds`, and of each new point."""
        return self._history.follow(seconds)

    def _uptime(self) -> int:
        return int(time.monotonic() - self._started)

    def _connections(self) -> ConnectionFigures:
        return ConnectionFigures(len(self._hub.sinks), self._settings.current.limits.max_connections)

    def _project_counts(self) -> ProjectFigures:
        executing = self._projects.capacity.executing
        return ProjectFigures(len(self._projects), self._settings.current.limits.max_projects, executing)

    def _ended(self, event: ExecutionFinished) -> SlowExecutionData:
        return SlowExecutionData(
            execution_id=event.context.execution_id,
            project_id=event.context.project_id,
            project=self._projects.name_of(event.context.project_id),
            status=event.status,
            model=event.model or event.requested_model,
            started_at=timestamp(event.started_at or event.created_at),
            duration_ms=round(event.duration * 1000),
            waited_ms=round(event.waited * 1000),
            waiting=False,
        )


def _known(found: Mapping[str, CheckData | None]) -> dict[str, CheckData]:
    """The results, with a warning for a check that has none yet."""
    return {name: result or CheckData("warning", "Not checked yet.") for name, result in found.items()}


def _running(session: Session) -> SlowExecutionData | None:
    """The execution of a project that runs."""
    state = session.state
    execution = state.current
    if execution is None or execution.started_at is None:
        return None
    return SlowExecutionData(
        execution_id=execution.id,
        project_id=state.project.id,
        project=state.project.name,
        status=ExecutionStatus.RUNNING,
        model=state.account.model or execution.options.model or state.project.model,
        started_at=timestamp(execution.started_at),
        duration_ms=max(0, round(time.time() * 1000) - execution.started_at),
        waited_ms=execution.waited_ms,
        waiting=bool(state.approvals),
    )


def _error(incident: RecentError) -> LastErrorData:
    return LastErrorData(
        code=incident.code,
        operation=incident.operation,
        message=incident.message,
        count=incident.count,
        at=_rfc3339(incident.at),
        correlation_id=incident.correlation_id,
        project_id=incident.project_id,
        runbook=runbook_of(incident.code, incident.operation),
    )


def _rfc3339(seconds: float) -> str:
    return timestamp(Milliseconds(round(seconds * 1000)))


def _optional(seconds: float | None) -> str | None:
    return _rfc3339(seconds) if seconds is not None else None
