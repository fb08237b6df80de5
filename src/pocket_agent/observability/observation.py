"""All that is told of what happens, put together: one observer for the core, and what it fills."""

from collections.abc import Mapping, Sequence

from pocket_agent.config.settings import Settings
from pocket_agent.distribution import Distribution
from pocket_agent.events import Observer
from pocket_agent.hub import Hub
from pocket_agent.observability import catalogue
from pocket_agent.observability.check import Conditions, Inspector
from pocket_agent.observability.collector import CoreCollector
from pocket_agent.observability.exposition import Exposition
from pocket_agent.observability.fanout import Fanout
from pocket_agent.observability.health import Health
from pocket_agent.observability.history import History
from pocket_agent.observability.incident import Incidents
from pocket_agent.observability.log import Log, LogObserver
from pocket_agent.observability.loop import LoopMonitor
from pocket_agent.observability.loss import Losses
from pocket_agent.observability.metric import MetricObserver
from pocket_agent.observability.overview import Overview
from pocket_agent.observability.reading import Reader
from pocket_agent.observability.report import Report, Tally
from pocket_agent.observability.slowest import Slowest
from pocket_agent.observability.trace import open_traces
from pocket_agent.projects import Projects
from pocket_agent.storage import Store


class Observation:
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
        self.tally = Tally()
        self.conditions = Conditions()
        self.incidents = Incidents()
        self.slowest = Slowest()
        self.observer = Fanout([*self._observers(log), *others], losses)

    def _observers(self, log: Log) -> list[Observer]:
        lines = LogObserver(log, identify=self.traces.identify)
        return [lines, self.metrics, self.tally, self.conditions, self.incidents, self.slowest, *self.traces.observers]

    def exposition(self, hub: Hub, projects: Projects, store: Store) -> Exposition:
        """What scrapes get; call it before the projects tell anything."""
        self._projects = projects
        return Exposition(self.metrics.registry, self._core(hub, projects, store))

    def report(self, hub: Hub, projects: Projects, store: Store, inspector: Inspector, health: Health) -> Report:
        """What answers questions about the server; its history begins when it runs."""
        core = self._core(hub, projects, store)
        overview = Overview(projects, inspector, health, core, self.incidents, self.slowest)
        history = History(Reader(self.metrics.registry, core, self.loop))
        return Report(hub, inspector, health, self._settings, self.tally, projects, overview, history)

    def _core(self, hub: Hub, projects: Projects, store: Store) -> CoreCollector:
        # One for each that reads, since each asks the disk for itself.
        return CoreCollector(hub, projects, store, self._losses, self.metrics, self._settings, self.loop.lags)

    def _name_of(self, project_id: str) -> str | None:
        return self._projects.name_of(project_id) if self._projects is not None else None
