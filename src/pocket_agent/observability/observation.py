"""Puts logging, metrics, tracing and health together: one observer for the core and what it feeds."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.distribution import Distribution
from pocket_agent.events import Event, Observer
from pocket_agent.hub import Hub
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.dashboard import DashboardHistory, MetricSampler
from pocket_agent.observability.exposition import Exposition
from pocket_agent.observability.health import CheckConditions, HealthChecks, HealthMonitor, LoopMonitor
from pocket_agent.observability.metrics import CoreCollector, MetricObserver
from pocket_agent.observability.status import (
    ExecutionCounts,
    OverviewReport,
    RecentErrors,
    SlowExecutions,
    StatusReport,
)
from pocket_agent.observability.structured_log import Log, LogObserver
from pocket_agent.observability.tracing import open_traces
from pocket_agent.projects import Projects
from pocket_agent.storage import Store

_LOGGER: Final = logging.getLogger(__name__)


class Fanout:
    """An `Observer` that tells others.

    One of them that raises has a fault of its own: the event is counted as lost, the log is told once
    for each kind of fault, and the next observer gets the event all the same.
    """

    def __init__(self, observers: Sequence[Observer], losses: Losses) -> None:
        self._observers = tuple(observers)
        self._losses = losses
        self._told: set[tuple[str, str, str]] = set()

    def emit(self, event: Event) -> None:
        """Tell each of them."""
        for observer in self._observers:
            try:
                observer.emit(event)
            except Exception as error:  # noqa: BLE001 - the border of an observer: the core must not see its faults
                self._fault(observer, event, error)

    def _fault(self, observer: Observer, event: Event, error: Exception) -> None:
        self._losses.add("events")
        kind = (type(observer).__name__, type(event).__name__, type(error).__name__)
        if kind not in self._told:
            self._told.add(kind)
            fields = {"observer": kind[0], "event": kind[1]}
            _LOGGER.error("observer failed", exc_info=error, extra={"fields": fields})


class Observability:
    """The observers of one server.

    Args:
        settings: what is wanted of them.
        environment: the server's own environment, for the standard variables of tracing.
        losses: counts what had to be let go of.
        log: where lines go.
        others: who else is told of what happens.

    Attributes:
        observer: tells all of them.
        broadcasts, commits: what the hub and the store are to fill.
        loop: measures the event loop, once it runs.
    """

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        losses: Losses,
        log: Log,
        others: Sequence[Observer] = (),
    ) -> None:
        self._settings = settings
        self._losses = losses
        self._projects: Projects | None = None
        self.broadcasts = Distribution(catalogue.BROADCAST_DURATION.buckets)
        self.commits = Distribution(catalogue.STORAGE_COMMIT.buckets)
        self.loop = LoopMonitor(Distribution(catalogue.EVENT_LOOP_LAG.buckets))
        self.traces = open_traces(settings, environment, losses)
        self.metrics = MetricObserver(settings.metrics, name_of=self._name_of, identify=self.traces.identify)
        self.tally = ExecutionCounts()
        self.conditions = CheckConditions()
        self.incidents = RecentErrors()
        self.slowest = SlowExecutions()
        self.observer = Fanout([*self._observers(log), *others], losses)

    def _observers(self, log: Log) -> list[Observer]:
        lines = LogObserver(log, identify=self.traces.identify)
        return [lines, self.metrics, self.tally, self.conditions, self.incidents, self.slowest, *self.traces.observers]

    def exposition(self, hub: Hub, projects: Projects, store: Store) -> Exposition:
        """What scrapes get; call it before the projects tell anything."""
        self._projects = projects
        return Exposition(self.metrics.registry, self._core(hub, projects, store))

    def report(
        self, hub: Hub, projects: Projects, store: Store, inspector: HealthChecks, health: HealthMonitor
    ) -> StatusReport:
        """What answers questions about the server; its history begins when it runs."""
        core = self._core(hub, projects, store)
        overview = OverviewReport(projects, inspector, health, core, self.incidents, self.slowest)
        history = DashboardHistory(MetricSampler(self.metrics.registry, core, self.loop))
        return StatusReport(hub, inspector, health, self._settings, self.tally, projects, overview, history)

    def _core(self, hub: Hub, projects: Projects, store: Store) -> CoreCollector:
        # One for each that reads, since each asks the disk for itself.
        return CoreCollector(hub, projects, store, self._losses, self.metrics, self._settings, self.loop.lags)

    def _name_of(self, project_id: str) -> str | None:
        return self._projects.name_of(project_id) if self._projects is not None else None
