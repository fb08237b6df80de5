"""Combines logging, metrics, tracing and health behind one observer of the core."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from pocket_agent.claude.installation import Installer
from pocket_agent.distribution import Distribution
from pocket_agent.events import Event, Observer, Propagator, SettingIgnored
from pocket_agent.hub import Hub
from pocket_agent.observability import catalogue
from pocket_agent.observability.agents import AgentMonitor
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.dashboard import DashboardHistory, MetricSampler
from pocket_agent.observability.exposition import Exposition
from pocket_agent.observability.health import CheckConditions, HealthChecks, HealthMonitor, LoopMonitor
from pocket_agent.observability.metrics import CoreCollector, MetricObserver
from pocket_agent.observability.status import ExecutionStatistics, RecentErrors, StatusReport
from pocket_agent.observability.structured_log import Log, LogObserver
from pocket_agent.observability.tracing import AgentTelemetry, SpanObserver, Traces, read_telemetry, untraced
from pocket_agent.projects import Projects
from pocket_agent.settings import CurrentSettings, Settings
from pocket_agent.storage import Store

_LOGGER: Final = logging.getLogger(__name__)


class Fanout:
    """An `Observer` that passes each event to others.

    When one of them raises, the event is counted as lost, the exception is logged once for each kind of
    exception, and the next observer still gets the event.
    """

    def __init__(self, observers: Sequence[Observer], losses: Losses) -> None:
        self._observers = tuple(observers)
        self._losses = losses
        self._logged: set[tuple[str, str, str]] = set()

    def emit(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer.emit(event)
            except Exception as error:  # noqa: BLE001 - the border of an observer: the core must not see its faults
                self._fault(observer, event, error)

    def _fault(self, observer: Observer, event: Event, error: Exception) -> None:
        self._losses.add("events")
        kind = (type(observer).__name__, type(event).__name__, type(error).__name__)
        if kind not in self._logged:
            self._logged.add(kind)
            fields = {"observer": kind[0], "event": kind[1]}
            _LOGGER.error("observer failed", exc_info=error, extra={"fields": fields})


def open_traces(settings: Settings, environment: Mapping[str, str], losses: Losses) -> Traces:
    """Start tracing, if it is on; `environment` has the standard `OTEL_*` variables, `losses` counts lost spans."""
    options, ignored = read_telemetry(settings, environment)
    if options is None:
        return Traces((), untraced, Propagator(), ignored)
    try:
        from pocket_agent.observability.span_export import SpanExport  # noqa: PLC0415 - the SDK is loaded only when tracing is on
    except ValueError as error:  # the SDK reads some of its variables as it is loaded
        return Traces((), untraced, Propagator(), (*ignored, SettingIgnored("traces", f"Tracing is off: {error}.")))
    tracing = SpanObserver(options.sampler, SpanExport(options, losses))
    if not options.agents:
        return Traces((tracing,), tracing.identify, Propagator(), ignored)
    agents = AgentTelemetry(options, environment, settings.claude.environment)
    return Traces((tracing,), tracing.identify, agents, (*ignored, *agents.ignored()))


class Observability:
    """Logging, metrics, tracing and health of one server.

    Its observers receive events from the start. `attach` connects it to the core, which is built with `observer`;
    the attributes that are only declared here exist afterwards.

    `environment` is the server's own, for the standard variables of tracing; `losses` counts dropped telemetry;
    `others` are further observers. The hub fills `broadcasts`, the store `commits`.
    """

    core: CoreCollector
    checks: HealthChecks
    health: HealthMonitor
    exposition: Exposition
    history: DashboardHistory
    agents: AgentMonitor
    report: StatusReport

    def __init__(
        self,
        settings: CurrentSettings,
        environment: Mapping[str, str],
        losses: Losses,
        log: Log | None = None,
        others: Sequence[Observer] = (),
    ) -> None:
        self._settings = settings
        self._projects: Projects | None = None
        self.losses = losses
        self.broadcasts = Distribution(catalogue.BROADCAST_DURATION.buckets)
        self.commits = Distribution(catalogue.STORAGE_COMMIT.buckets)
        self.loop = LoopMonitor(Distribution(catalogue.EVENT_LOOP_LAG.buckets))
        self.traces = open_traces(settings.current, environment, losses)
        self.metrics = MetricObserver(settings.current.metrics, name_of=self._name_of, identify=self.traces.identify)
        self._executions = ExecutionStatistics()
        self._conditions = CheckConditions()
        self._errors = RecentErrors()
        observers: list[Observer] = [self.metrics, self._executions, self._conditions, self._errors]
        if log is not None:
            observers.insert(0, LogObserver(log, identify=self.traces.identify))
        self.observer = Fanout([*observers, *self.traces.observers, *others], losses)

    def attach(
        self, hub: Hub, projects: Projects, store: Store, installer: Installer, *, confined: bool = True
    ) -> None:
        """Connect it to the core, before the core emits events; `confined`: agents run confined."""
        settings = self._settings
        self._projects = projects
        self.checks = HealthChecks(
            store, installer, projects, settings, self.loop, self._conditions, self.observer, confined=confined
        )
        self.health = HealthMonitor(self.checks.checks(), settings, self.observer)
        self.agents = AgentMonitor(projects.all, settings)
        self.exposition = Exposition(self.metrics.registry, self._collector(hub, projects, store))
        # Not the collector of the scrapes: each of them waits for the disk on its own.
        self.core = self._collector(hub, projects, store)
        self.history = DashboardHistory(MetricSampler(self.metrics.registry, self.core, self.loop).read)
        self.report = StatusReport(
            hub, projects, settings, self.checks, self.health, self.core, self.history, self._executions, self._errors
        )

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """The background loops to run, by name."""
        return {
            "loop monitor": self.loop.run,
            "health": self.health.run,
            "history": self.history.run,
            "agents": self.agents.run,
        }

    def _collector(self, hub: Hub, projects: Projects, store: Store) -> CoreCollector:
        return CoreCollector(
            hub, projects, store, self.losses, self.metrics, self._settings, self.loop.lags, self.agents
        )

    def _name_of(self, project_id: str) -> str | None:
        return self._projects.name_of(project_id) if self._projects is not None else None
