"""How the server is: health checks and figures, as clients and load balancers ask for them."""

import time
from typing import Final

import psutil

from pocket_agent import __version__, events
from pocket_agent.config.settings import Settings
from pocket_agent.events import Event
from pocket_agent.hub import Hub
from pocket_agent.model import ExecutionStatus
from pocket_agent.observability.check import Inspector
from pocket_agent.observability.health import Health, overall
from pocket_agent.observability.history import Follower, History
from pocket_agent.observability.overview import Overview
from pocket_agent.projects import Projects
from pocket_agent.protocol.push import (
    CheckData,
    ConnectionFigures,
    CostFigures,
    ExecutionFigures,
    HealthCheckData,
    MessageFigures,
    ProjectFigures,
    ResourceFigures,
    ServerOverviewData,
    ServerStatsData,
)

_GIB: Final = 2**30
_WAIT_SECONDS: Final = 6.0
"""How long who asks for the health waits for checks that take time."""
_READY_SECONDS: Final = 1.0
"""The same for who only asks whether the server is ready, which is asked often and with short patience."""


class Tally:
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


class Report:
    """Answers the requests about the server itself, and the HTTP health endpoints."""

    def __init__(
        self,
        hub: Hub,
        inspector: Inspector,
        health: Health,
        settings: Settings,
        tally: Tally,
        projects: Projects,
        overview: Overview,
        history: History,
    ) -> None:
        self._hub = hub
        self._inspector = inspector
        self._health = health
        self._settings = settings
        self._tally = tally
        self._projects = projects
        self._overview = overview
        self._history = history
        self._started = time.monotonic()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark that the next one measures from
        self._rate = (self._started, 0)

    async def run(self) -> None:
        """Keep the history, until cancelled."""
        await self._history.run()

    async def health(self) -> HealthCheckData:
        """Say how things are, by checks that are a few seconds old at most."""
        found = await self._health.look(wait=_WAIT_SECONDS)
        checks = {name: result or CheckData("warning", "Not checked yet.") for name, result in found.items()}
        return HealthCheckData(
            status=overall(checks),
            version=__version__,
            uptime=self._uptime(),
            connections=self._connections(),
            projects=self._project_figures(),
            resources=ResourceFigures(
                cpu_percent=self._process.cpu_percent(),
                memory_mb=round(self._process.memory_info().rss / 2**20, 1),
                disk_free_gb=round(self._inspector.free_bytes / _GIB, 3),
            ),
            claude=self._inspector.claude,
            checks=checks,
        )

    async def unready(self) -> str | None:
        """Why the server may not take work, in a line; None when it may.

        Without the CLI, or with little space left, everything that is there can still be viewed.
        """
        found = await self._health.look("storage", "disk", wait=_READY_SECONDS)
        for name, result in found.items():
            if result is None:
                return "starting"
            if result.status == "unhealthy":
                return f"{name}: {result.message}"
        return None

    def stats(self) -> ServerStatsData:
        """Figures since the start."""
        tally, now, sent = self._tally, time.monotonic(), self._hub.sent
        since, before = self._rate
        if now - since >= 1:
            self._rate = (now, sent)
        return ServerStatsData(
            connections=self._connections(),
            projects=self._project_figures(),
            executions=ExecutionFigures(
                active=self._projects.capacity.executing,
                total=tally.total,
                success=tally.success,
                failed=tally.failed,
                avg_duration_ms=round(tally.seconds / tally.total * 1000, 3) if tally.total else 0.0,
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
        """Checks, limits, slow executions and the last errors."""
        return self._overview.data()

    def history(self, seconds: int) -> Follower:
        """The figures of the last so many seconds, and those that come."""
        return self._history.follow(seconds)

    def _uptime(self) -> int:
        return int(time.monotonic() - self._started)

    def _connections(self) -> ConnectionFigures:
        return ConnectionFigures(len(self._hub.sinks), self._settings.limits.max_connections)

    def _project_figures(self) -> ProjectFigures:
        executing = self._projects.capacity.executing
        return ProjectFigures(len(self._projects), self._settings.limits.max_projects, executing)
