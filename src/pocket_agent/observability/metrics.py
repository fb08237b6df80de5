"""Prometheus metrics: counters fed by events, and what the core keeps as plain numbers, read at a scrape."""

import asyncio
import collections
import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from pocket_agent import __version__, errors, events
from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError
from pocket_agent.events import Event, EventHandlers
from pocket_agent.hub import Hub
from pocket_agent.model import ExecutionContext, ModelUsage
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import (
    CODE_OF_REJECTION,
    CODE_OF_STATUS,
    INVALID,
    MEASURED,
    METRIC_LABEL_OVERFLOW,
    OPERATION_OF,
    OTHER,
    SERVER_CODES,
    SIGNALS,
    TOOLS,
    Losses,
    Metric,
    children,
)
from pocket_agent.observability.health import in_thread
from pocket_agent.observability.revision import find_revision
from pocket_agent.observability.tracing import Identify, untraced
from pocket_agent.projects import Projects
from pocket_agent.settings import CurrentSettings, MetricsSettings
from pocket_agent.storage import Store

Child = TypeVar("Child", bound=Counter | Gauge | Histogram)
Exemplar = dict[str, str]


class _Children(Generic[Child]):
    """The children of a metric by the values of their labels; `overflow` counts values that have no child."""

    def __init__(self, metric: Metric, made: Mapping[tuple[str, ...], Child], overflow: Counter | None) -> None:
        self._made = made
        self._overflow = overflow
        self._known = tuple(frozenset(values) for values in metric.labels.values())

    def _child(self, key: tuple[str, ...]) -> Child | None:
        """The child of these values, or else the one of `other`; None without either."""
        found = self._made.get(key)
        if found is not None:
            return found
        if self._overflow is not None:
            self._overflow.inc()
        known = tuple(value if value in values else OTHER for value, values in zip(key, self._known, strict=True))
        # Values that each exist need not exist together.
        for nearest in (known, (OTHER, *known[1:]), (OTHER,) * len(key)):
            if nearest in self._made:
                return self._made[nearest]
        return None


class CounterChildren(_Children[Counter]):
    """The children of a counter."""

    def inc(self, *key: str, amount: float = 1, exemplar: Exemplar | None = None) -> None:
        """Add to the child of these label values; an amount that a counter cannot take is left out."""
        if not 0 < amount < math.inf:
            return
        child = self._child(key)
        if child is not None:
            child.inc(amount, exemplar)


class GaugeChildren(_Children[Gauge]):
    """The children of a gauge."""

    def set(self, value: float, *key: str) -> None:
        """Set the child of these label values."""
        child = self._child(key)
        if child is not None:
            child.set(value)


class HistogramChildren(_Children[Histogram]):
    """The children of a histogram."""

    def observe(self, value: float, *key: str, exemplar: Exemplar | None = None) -> None:
        """Count a value in the child of these label values; a clock that was set back gives 0."""
        child = self._child(key)
        if child is not None:
            child.observe(max(0.0, value), exemplar)


class MetricFamilies:
    """Makes the families of one registry, with all their children.

    Args:
        registry: where they are scraped from.
        settings: names the models and projects that have children of their own.
    """

    def __init__(self, registry: CollectorRegistry, settings: MetricsSettings) -> None:
        self._registry = registry
        self._settings = settings
        metric = METRIC_LABEL_OVERFLOW
        family = Counter(metric.name, metric.help, list(metric.labels), registry=registry)
        self._overflow = {name: family.labels(name) for (name,) in children(metric, settings)}

    def counters(self, metric: Metric) -> CounterChildren:
        """The children of a counter."""
        family = Counter(metric.name, metric.help, list(metric.labels), registry=self._registry, unit=metric.unit)
        return CounterChildren(metric, self._children(metric, family), self._overflow.get(metric.name))

    def gauges(self, metric: Metric) -> GaugeChildren:
        """The children of a gauge."""
        family = Gauge(metric.name, metric.help, list(metric.labels), registry=self._registry, unit=metric.unit)
        return GaugeChildren(metric, self._children(metric, family), self._overflow.get(metric.name))

    def histograms(self, metric: Metric) -> HistogramChildren:
        """The children of a histogram."""
        family = Histogram(
            metric.name,
            metric.help,
            list(metric.labels),
            registry=self._registry,
            unit=metric.unit,
            buckets=metric.buckets,
        )
        return HistogramChildren(metric, self._children(metric, family), self._overflow.get(metric.name))

    def _children(self, metric: Metric, family: Child) -> dict[tuple[str, ...], Child]:
        if not metric.labels:
            return {(): family}
        return {key: cast("Child", family.labels(*key)) for key in children(metric, self._settings)}


NameOf = Callable[[str], str | None]
"""The name of a project by its id; None when there is no such project."""

_MCP: Final = "mcp__"
"""Prefix of the names of MCP tools (CLI 2.1.330)."""
_TOOL_ALIASES: Final = {"Task": "Agent"}
"""The CLI (2.1.330) lists a tool by the first name and calls it by the second."""


def no_project_name(_: str) -> None:
    """The `NameOf` of a server that has no projects."""
    return


class MetricObserver:
    """Counts events. It is an `Observer` of the core; every child exists from the start.

    Args:
        settings: the models and projects that have label values of their own.
        name_of: finds the name of a project.
        identify: finds the trace that an exemplar points to.

    Attributes:
        registry: where the metrics are scraped from.
        dropped: connections that were closed because they did not keep up.
        handlers: what counts each kind of event; the other kinds are not counted.
    """

    handlers: ClassVar[EventHandlers[Callable[["MetricObserver", Any], None]]] = EventHandlers()

    def __init__(
        self,
        settings: MetricsSettings | None = None,
        *,
        name_of: NameOf = no_project_name,
        identify: Identify = untraced,
    ) -> None:
        settings = settings if settings is not None else MetricsSettings()
        # `_created` samples would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives it no types
        self.registry = CollectorRegistry()
        self.dropped = 0
        self._models = [(part.lower(), part) for part in settings.models]
        self._projects = frozenset(settings.projects)
        self._name_of = name_of
        self._identify = identify
        ProcessCollector(registry=self.registry)
        made = MetricFamilies(self.registry, settings)
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
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(self, event)

    @handlers.on(events.CertificateLoaded)
    def _certificate_loaded(self, event: events.CertificateLoaded) -> None:
        self._not_after.set(event.not_after.timestamp())

    @handlers.on(events.SettingsReloaded)
    def _settings_reloaded(self, _: events.SettingsReloaded) -> None:
        self._reloads.inc("applied")

    @handlers.on(events.SettingsRefused)
    def _settings_refused(self, _: events.SettingsRefused) -> None:
        self._reloads.inc("refused")

    @handlers.on(events.HealthChanged)
    def _health_changed(self, event: events.HealthChanged) -> None:
        self._checks.set(1 if event.status == "healthy" else 0, event.check)

    @handlers.on(events.ConnectionOpened)
    def _connection_opened(self, _: events.ConnectionOpened) -> None:
        self._connections.inc()

    @handlers.on(events.ConnectionRejected)
    def _connection_rejected(self, event: events.ConnectionRejected) -> None:
        self._rejections.inc(event.reason, amount=event.count)
        self._errors.inc(CODE_OF_REJECTION[event.reason], "connection", amount=event.count)

    @handlers.on(events.ConnectionClosed)
    def _connection_closed(self, event: events.ConnectionClosed) -> None:
        self._disconnects.inc(str(event.code), event.initiator)

    @handlers.on(events.PongReceived)
    def _pong_received(self, event: events.PongReceived) -> None:
        self._pings.observe(event.duration)

    @handlers.on(events.ConsumerDropped)
    def _consumer_dropped(self, _: events.ConsumerDropped) -> None:
        self.dropped += 1

    @handlers.on(events.RequestHandled)
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

    @handlers.on(events.ProjectFaulted)
    def _project_faulted(self, _: events.ProjectFaulted) -> None:
        self._errors.inc(errors.InternalError.code, "project")

    @handlers.on(events.TaskFaulted)
    def _task_faulted(self, _: events.TaskFaulted) -> None:
        self._errors.inc(errors.InternalError.code, "server")

    @handlers.on(events.ExecutionDelayed)
    def _execution_delayed(self, event: events.ExecutionDelayed) -> None:
        self._errors.inc(event.code, "execution")

    @handlers.on(events.FirstMessageReceived)
    def _first_message_received(self, event: events.FirstMessageReceived) -> None:
        self._first_messages.observe(event.duration, exemplar=self._exemplar(event.context))

    @handlers.on(events.ExecutionFinished)
    def _execution_finished(self, event: events.ExecutionFinished) -> None:
        exemplar = self._exemplar(event.context)
        self._executions.inc(event.status, exemplar=exemplar)
        self._durations.observe(event.duration, event.status, exemplar=exemplar)
        code = event.code or CODE_OF_STATUS.get(event.status)
        if code is not None:
            self._errors.inc(code, "execution")
        self._use(event.context.project_id, event.usage)

    @handlers.on(events.UsageAdded)
    def _usage_added(self, event: events.UsageAdded) -> None:
        self._use(event.project_id, event.usage)

    @handlers.on(events.ApprovalResolved)
    def _approval_resolved(self, event: events.ApprovalResolved) -> None:
        self._approvals.inc(event.behavior)
        if event.behavior != "cancelled":
            self._approval_waits.observe(event.waited, exemplar=self._exemplar(event.context))

    @handlers.on(events.ToolCompleted)
    def _tool_completed(self, event: events.ToolCompleted) -> None:
        name = _TOOL_ALIASES.get(event.tool, event.tool)
        tool = "mcp" if name.startswith(_MCP) else name if name in TOOLS else OTHER
        self._tools.inc(tool, event.outcome)

    @handlers.on(events.StorageFailed, events.AuditFailed)
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


_PROC_CGROUP: Final = Path("/proc/self/cgroup")
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_UNLIMITED_V1: Final = 2**60
"""A cgroup of version 1 without a limit has about 2**63, rounded down to whole pages."""


def memory_limit(setting: int, *, proc: Path = _PROC_CGROUP, root: Path = _CGROUP_ROOT) -> int:
    """The smaller of a limit and those of the control groups that the process is in, in bytes; 0 for none.

    Args:
        setting: the limit of the settings; 0 for none.
        proc: lists the groups of the process (cgroups(7), /proc/PID/cgroup).
        root: where the file systems of the groups are mounted.
    """
    found = [setting] if setting > 0 else []
    try:
        lines = proc.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # not Linux
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _cgroup_limits(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _cgroup_limits(root / "memory", path, "memory.limit_in_bytes")
    return min(found, default=0)


def _cgroup_limits(root: Path, path: str, name: str) -> list[int]:
    """The limits of a group and of those around it, of which each counts."""
    found = []
    group = root / path.strip("/")
    # In a container the path may be one of the host, which is not there; the container's own is the root.
    while group.is_relative_to(root):
        try:
            limit = int((group / name).read_text("ascii"))
        except (OSError, ValueError):  # no such file, or the word "max"
            limit = 0
        if 0 < limit < _UNLIMITED_V1:
            found.append(limit)
        group = group.parent
    return found


_DISK_SECONDS: Final = 1.0
"""How long a scrape waits for the disk; after that the values are NaN."""


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """What a distribution held: for each bound how many values up to it, then of all, and their sum."""

    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    total: float


Values = Mapping[tuple[str, ...], float]
CoreValues = Mapping[Metric, Values | HistogramValue]
"""The value of each metric: by the values of its labels, or buckets."""


class CoreCollector:
    """Reads the metrics that the core keeps as plain numbers.

    Args:
        hub, projects, store, losses: where they are.
        metrics: counts the connections that were dropped.
        settings: the limits.
        lags: how late the event loop was.
    """

    def __init__(
        self,
        hub: Hub,
        projects: Projects,
        store: Store,
        losses: Losses,
        metrics: MetricObserver,
        settings: CurrentSettings,
        lags: Distribution,
    ) -> None:
        self._hub = hub
        self._projects = projects
        self._losses = losses
        self._metrics = metrics
        self._settings = settings
        self._distributions = {
            catalogue.EVENT_LOOP_LAG: lags,
            catalogue.BROADCAST_DURATION: hub.broadcasts,
            catalogue.STORAGE_COMMIT: store.durations,
        }
        self._disk = _DiskReader(store)
        self._process = psutil.Process()
        self._build = (__version__, find_revision(), platform.python_version())

    async def collect(self) -> CoreValues:
        """All values of one moment; those of the disk are a little older."""
        free, size = await self._disk.read()
        hub, projects = self._hub, self._projects
        sessions = projects.all()
        return {
            catalogue.CONNECTIONS_ACTIVE: {(): len(hub.sinks)},
            catalogue.PROJECTS_TOTAL: {(): len(sessions)},
            catalogue.PROJECTS_ACTIVE: _counted(
                catalogue.PROJECTS_ACTIVE, collections.Counter(session.state.shown.value for session in sessions)
            ),
            catalogue.MESSAGES_SENT: _counted(catalogue.MESSAGES_SENT, hub.sent_by_type),
            catalogue.BUILD_INFO: {self._build: 1},
            catalogue.LIMIT: self.limits(),
            catalogue.LIMIT_USAGE: self.usage(),
            catalogue.SLOW_CONSUMER: {("parked",): hub.parked, ("dropped",): self._metrics.dropped},
            catalogue.MESSAGE_BYTES: {("received",): hub.received_bytes, ("sent",): hub.sent_bytes},
            catalogue.EXECUTIONS_ACTIVE: {(): projects.capacity.executing},
            catalogue.EXECUTION_QUEUE_DEPTH: {(): sum(len(session.state.queue) for session in sessions)},
            catalogue.APPROVALS_PENDING: {(): sum(len(session.state.approvals) for session in sessions)},
            catalogue.SEND_QUEUE_BYTES: {(): sum(sink.buffered for sink in hub.sinks)},
            catalogue.SUBSCRIPTIONS_ACTIVE: {(): sum(channel.subscribers for channel in hub.channels.values())},
            catalogue.STORAGE_FREE: {(): free},
            catalogue.STORAGE_SIZE: {(): size},
            catalogue.TELEMETRY_DROPPED: {(signal,): self._losses.of(signal) for signal in SIGNALS},
            **{metric: _histogram_value(found) for metric, found in self._distributions.items()},
        }

    def limits(self) -> Values:
        """The largest allowed amounts; 0 is unlimited."""
        limits = self._settings.current.limits
        return {
            ("connections",): limits.max_connections,
            ("projects",): limits.max_projects,
            ("executions",): limits.max_executions,
            ("processes",): self._projects.capacity.max_processes,
            ("memory_bytes",): memory_limit(limits.memory),
            ("cost_usd_per_day",): self._projects.budget.limit_usd,
        }

    def usage(self) -> Values:
        """The present amounts of what is limited."""
        capacity = self._projects.capacity
        return {
            ("connections",): len(self._hub.sinks),
            ("projects",): len(self._projects),
            ("executions",): capacity.executing,
            ("processes",): capacity.processes,
            ("memory_bytes",): self._process.memory_info().rss,
            ("cost_usd_per_day",): self._projects.budget.spent_usd,
        }


class _DiskReader:
    """Asks the disk in a thread, so that a disk that hangs, such as one over a network, does not hold up a scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked = False

    async def read(self) -> tuple[float, float]:
        """Free space, and the size of the database, in bytes; NaN when the disk does not answer."""
        if not self._asked:  # else the last question is still without an answer
            self._asked = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_DISK_SECONDS):
                    return await in_thread(self._ask, "metrics-disk")
        return math.nan, math.nan

    def _ask(self) -> tuple[float, float]:
        try:
            return self._store.free_bytes(), self._store.size_bytes()
        except FileOperationError:
            return math.nan, math.nan
        finally:
            self._asked = False


def _counted(metric: Metric, counts: Mapping[str, int]) -> Values:
    """A value for each value of the one label; what has none is added to `other`."""
    (known,) = metric.labels.values()
    values: dict[tuple[str, ...], float] = {(value,): counts.get(value, 0) for value in known}
    rest = sum(counts.values()) - sum(values.values())
    if (OTHER,) in values:
        values[(OTHER,)] += rest
    return values


def _histogram_value(found: Distribution) -> HistogramValue:
    return HistogramValue(found.bounds, tuple(found.cumulative()), found.total)


def core_families(values: CoreValues) -> Iterator[Family]:
    """The values as families of the client library, in the order of the catalogue; for any thread."""
    for metric in catalogue.CATALOGUE:
        found = values.get(metric)
        if isinstance(found, HistogramValue):
            yield _histogram(metric, found)
        elif found is not None:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=list(metric.labels), unit=metric.unit)
            for key, value in found.items():
                family.add_metric(list(key), value)
            yield family


def _histogram(metric: Metric, found: HistogramValue) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=[], unit=metric.unit)
    bounds = [*(_bound_text(bound) for bound in found.bounds), "+Inf"]
    family.add_metric([], list(zip(bounds, found.cumulative, strict=True)), found.total)
    return family


def _bound_text(bound: float) -> str:
    """A bound as the client library writes those of its own histograms."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]  # the library gives it no types
