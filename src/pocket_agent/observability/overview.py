"""How the server is, for a person: checks, limits, slow executions, the last errors, and what is running."""

import platform
import time
from typing import Final

from pocket_agent import __version__
from pocket_agent.events import ExecutionFinished
from pocket_agent.model import ExecutionStatus, Milliseconds
from pocket_agent.observability import catalogue
from pocket_agent.observability.check import Inspector
from pocket_agent.observability.collector import CoreCollector
from pocket_agent.observability.health import Health, overall
from pocket_agent.observability.incident import Incident, Incidents
from pocket_agent.observability.revision import find_revision
from pocket_agent.observability.runbook import OF_CHECK, OF_LIMIT, runbook_of
from pocket_agent.observability.slowest import Slowest
from pocket_agent.projects import Projects
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.push import (
    CheckData,
    CheckStateData,
    LastErrorData,
    LimitData,
    ServerOverviewData,
    SlowExecutionData,
)
from pocket_agent.session.session import Session

_DAY: Final = 86_400.0
_SHOWN: Final = 20
"""Executions that run now, and errors, that are told of at most."""


class Overview:
    """Makes `server_overview` out of what others keep; it waits for nothing.

    Args:
        projects, inspector, health, incidents, slowest: where it is kept.
        core: the limits, as a scrape gets them.
    """

    def __init__(
        self,
        projects: Projects,
        inspector: Inspector,
        health: Health,
        core: CoreCollector,
        incidents: Incidents,
        slowest: Slowest,
    ) -> None:
        self._projects = projects
        self._inspector = inspector
        self._health = health
        self._core = core
        self._incidents = incidents
        self._slowest = slowest
        self._started = time.time()
        self._began = time.monotonic()
        self._revision = find_revision()

    def data(self) -> ServerOverviewData:
        """How things are now."""
        known = self._health.known()
        checks = {name: result or CheckData("warning", "Not checked yet.") for name, (result, _) in known.items()}
        return ServerOverviewData(
            status=overall(checks),
            version=__version__,
            revision=self._revision,
            python_version=platform.python_version(),
            started_at=_timestamp(self._started),
            uptime=int(time.monotonic() - self._began),
            claude=self._inspector.claude,
            checks=[
                CheckStateData(name, check.status, check.message, _optional(known[name][1]), OF_CHECK.get(name))
                for name, check in checks.items()
            ],
            limits=self._limits(),
            running=self._running(),
            slowest=[self._ended(event) for event in self._slowest.found(time.time() - _DAY)],
            errors=[_error(incident) for incident in self._incidents.newest()[:_SHOWN]],
        )

    def _limits(self) -> list[LimitData]:
        limits, usage = self._core.limits(), self._core.usage()
        return [LimitData(name, usage[name,], limits[name,], OF_LIMIT.get(name)) for name in catalogue.LIMITS]

    def _running(self) -> list[SlowExecutionData]:
        """The executions that run, the longest first."""
        found = [shown for session in self._projects.all() if (shown := _now(session)) is not None]
        return sorted(found, key=lambda execution: execution.started_at)[:_SHOWN]

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


def _now(session: Session) -> SlowExecutionData | None:
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


def _error(incident: Incident) -> LastErrorData:
    return LastErrorData(
        code=incident.code,
        operation=incident.operation,
        message=incident.message,
        count=incident.count,
        at=_timestamp(incident.at),
        correlation_id=incident.correlation_id,
        project_id=incident.project_id,
        runbook=runbook_of(incident.code, incident.operation),
    )


def _timestamp(seconds: float) -> str:
    return timestamp(Milliseconds(round(seconds * 1000)))


def _optional(seconds: float | None) -> str | None:
    return _timestamp(seconds) if seconds is not None else None
