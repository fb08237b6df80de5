"""How the server is: health checks and figures, as clients and load balancers ask for them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import psutil

from pocket_agent import __version__, events
from pocket_agent.claude.installation import Installer
from pocket_agent.config.settings import Settings
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import Event, Observer
from pocket_agent.hub import Hub
from pocket_agent.model import ExecutionStatus
from pocket_agent.projects import Projects
from pocket_agent.protocol.push import (
    CheckData,
    ClaudeFigures,
    ConnectionFigures,
    ExecutionFigures,
    HealthCheckData,
    MessageFigures,
    ProjectFigures,
    ResourceFigures,
    ServerStatsData,
)
from pocket_agent.storage import Store

_GIB: Final = 2**30
_LOW_DISK_BYTES: Final = _GIB
"""The guide's bound for the disk check."""
_CHECK_SECONDS: Final = 5.0
"""Longest check; one that takes longer is unhealthy."""
_CACHE_SECONDS: Final = 2.0
"""How long a result stands, so that asking often costs little."""


class Fanout:
    """Tells several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def emit(self, event: Event) -> None:
        """Tell each of them."""
        for observer in self._observers:
            observer.emit(event)


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
    """Answers `health_check`, `server_stats` and the HTTP health endpoints."""

    def __init__(
        self, hub: Hub, store: Store, installer: Installer, settings: Settings, tally: Tally, projects: Projects
    ) -> None:
        self._hub = hub
        self._store = store
        self._installer = installer
        self._settings = settings
        self._tally = tally
        self._started = time.monotonic()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark that the next one measures from
        self._claude = ClaudeFigures(available=False, version=None)
        self._checks: dict[str, CheckData] = {}
        self._checked = -_CACHE_SECONDS
        self._checking = asyncio.Lock()
        self._rate = (self._started, 0)
        self._projects = projects

    async def health(self) -> HealthCheckData:
        """Run the checks (or take what they gave a moment ago) and say how things are."""
        async with self._checking:
            if time.monotonic() - self._checked >= _CACHE_SECONDS:
                results = await asyncio.gather(
                    self._bounded(self._check_claude),
                    self._bounded(self._check_disk),
                    self._bounded(self._check_storage),
                )
                self._checks = dict(zip(("claude", "disk", "storage"), results, strict=True))
                self._checked = time.monotonic()
        return HealthCheckData(
            status=self._status(),
            version=__version__,
            uptime=self._uptime(),
            connections=self._connections(),
            projects=self._project_figures(),
            resources=ResourceFigures(
                cpu_percent=self._process.cpu_percent(),
                memory_mb=round(self._process.memory_info().rss / 2**20, 1),
                disk_free_gb=round(self._store.free_bytes() / _GIB, 3),
            ),
            claude=self._claude,
            checks=self._checks,
        )

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
        )

    def _uptime(self) -> int:
        return int(time.monotonic() - self._started)

    def _connections(self) -> ConnectionFigures:
        return ConnectionFigures(len(self._hub.sinks), self._settings.limits.max_connections)

    def _project_figures(self) -> ProjectFigures:
        executing = self._projects.capacity.executing
        return ProjectFigures(len(self._projects), self._settings.limits.max_projects, executing)

    def _status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        if self._checks["storage"].status != "healthy":
            return "unhealthy"
        return "healthy" if all(check.status == "healthy" for check in self._checks.values()) else "degraded"

    async def _bounded(self, check: Callable[[], Awaitable[CheckData]]) -> CheckData:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                return await check()
        except TimeoutError:
            return CheckData("unhealthy", f"The check took longer than {_CHECK_SECONDS:.0f} s.")
        except PocketAgentError as error:
            return CheckData("unhealthy", error.message)

    async def _check_claude(self) -> CheckData:
        self._claude = ClaudeFigures(available=False, version=None)
        found = await self._installer.find()
        self._claude = ClaudeFigures(available=True, version=found.version)
        return CheckData("healthy")

    async def _check_disk(self) -> CheckData:
        free = self._store.free_bytes()
        if free < self._settings.limits.min_free_disk:
            return CheckData("unhealthy", f"The disk is full: {free // 2**20} MiB free.")
        if free < _LOW_DISK_BYTES:
            return CheckData("warning", f"Low disk space: {free / _GIB:.1f} GB.")
        return CheckData("healthy")

    async def _check_storage(self) -> CheckData:
        await self._store.check()
        return CheckData("healthy")
