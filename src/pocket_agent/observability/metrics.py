"""Prometheus metrics: counters fed by events, and what the core keeps as plain numbers, read at a scrape."""

import asyncio
import collections
import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from pocket_agent import __version__, errors, events
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError
from pocket_agent.events import Event
from pocket_agent.hub import Hub
from pocket_agent.model import ExecutionContext, ModelUsage, ProjectId, ProjectState
from pocket_agent.observability import catalogue
from pocket_agent.observability.agents import AgentMonitor, by_state, top
from pocket_agent.observability.catalogue import INVALID, METRIC_LABEL_OVERFLOW, OTHER, Losses, Metric, children
from pocket_agent.observability.health import in_thread
from pocket_agent.observability.revision import find_revision
from pocket_agent.observability.tracing import Identify, untraced
from pocket_agent.projects import Projects
from pocket_agent.protocol.requests import REQUESTS
from pocket_agent.settings import CurrentSettings, MetricsSettings
from pocket_agent.storage import Store

Child = TypeVar("Child", bound=Counter | Gauge | Histogram)
Exemplar = dict[str, str]


class _Children(Generic[Child]):
    """All children of a metric by the values of their labels; `overflow` counts values without a child."""

    def __init__(self, metric: Metric, family: Child, settings: MetricsSettings, overflow: Counter | None) -> None:
        self._made = {key: cast("Child", family.labels(*key)) if key else family for key in children(metric, settings)}
        self._known = tuple(frozenset(values) for values in metric.labels.values())
        self._overflow = overflow

    def find(self, key: tuple[str, ...]) -> Child | None:
        """The child of these values, or else the one of `other`; None without either."""
        found = self._made.get(key)
        if found is not None:
            return found
        if self._overflow is not None:
            self._overflow.inc()
        known = tuple(value if value in values else OTHER for value, values in zip(key, self._known, strict=True))
        # Values that each exist need not exist together.
        nearest = (known, (OTHER, *known[1:]), (OTHER,) * len(key))
        return next((self._made[key] for key in nearest if key in self._made), None)


_COUNTED: Final = {metric.event: metric for metric in catalogue.CATALOGUE if metric.event is not None}
_COUNTERS: Final = (
    *_COUNTED.values(),
    catalogue.EXECUTIONS_TOTAL,
    catalogue.MESSAGES_RECEIVED,
    catalogue.ERRORS_TOTAL,
    catalogue.REQUESTS_TOTAL,
    catalogue.APPROVALS_TOTAL,
    catalogue.CONNECTIONS_REJECTED,
    catalogue.CLAUDE_TOKENS,
    catalogue.CLAUDE_COST,
    catalogue.PROJECT_TOKENS,
    catalogue.PROJECT_COST,
    catalogue.CLAUDE_TOOL_CALLS,
    catalogue.TOOL_SECONDS,
    catalogue.EDITS,
    catalogue.SETTINGS_RELOADS,
)
_GAUGES: Final = (catalogue.CLIENTS_ACTIVE, catalogue.TLS_NOT_AFTER, catalogue.HEALTH_CHECK_UP)
_HISTOGRAMS: Final = (
    catalogue.EXECUTION_DURATION,
    catalogue.REQUEST_DURATION,
    catalogue.PING_RTT,
    catalogue.TIME_TO_FIRST_MESSAGE,
    catalogue.APPROVAL_WAIT,
    catalogue.API_REQUEST,
)
NameOf = Callable[[str], str | None]
"""The name of a project by its id; None when there is no such project."""

_MCP: Final = "mcp__"  # prefix of the names of MCP tools (CLI 2.1.330)
_TOOL_ALIASES: Final = {"Task": "Agent"}  # the CLI (2.1.330) lists a tool by the first name and calls it by the second


class MetricObserver:
    """An `Observer` that counts events; every child exists from the start.

    Args:
        settings: names the models and projects that have label values of their own.
        name_of: returns the name of a project.
        identify: returns the trace of an exemplar.
    """

    def __init__(
        self,
        settings: MetricsSettings | None = None,
        *,
        name_of: NameOf = lambda _: None,
        identify: Identify = untraced,
    ) -> None:
        settings = settings if settings is not None else MetricsSettings()
        # `_created` samples would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives it no types
        self.registry = CollectorRegistry()
        self.dropped = 0  # number of slow consumers whose connection was closed
        self._models = [(part.lower(), part) for part in settings.models]
        self._projects = frozenset(settings.projects)
        self._name_of = name_of
        self._identify = identify
        ProcessCollector(registry=self.registry)
        metric = METRIC_LABEL_OVERFLOW
        overflow = Counter(metric.name, metric.help, list(metric.labels), registry=self.registry)
        self._overflow = {name: overflow.labels(name) for (name,) in children(metric, settings)}
        self._counters = {metric: self._children(metric, Counter, settings) for metric in _COUNTERS}
        self._gauges = {metric: self._children(metric, Gauge, settings) for metric in _GAUGES}
        self._histograms = {
            metric: self._children(metric, Histogram, settings, buckets=metric.buckets) for metric in _HISTOGRAMS
        }

    def _children(
        self, metric: Metric, kind: type[Child], settings: MetricsSettings, **options: Any
    ) -> _Children[Child]:
        family = kind(
            metric.name, metric.help, list(metric.labels), registry=self.registry, unit=metric.unit, **options
        )
        return _Children(metric, family, settings, self._overflow.get(metric.name))

    def _inc(self, metric: Metric, *key: str, amount: float = 1, exemplar: Exemplar | None = None) -> None:
        """Add an amount that a counter can take; others are left out."""
        child = self._counters[metric].find(key) if 0 < amount < math.inf else None
        if child is not None:
            child.inc(amount, exemplar)

    def _set(self, metric: Metric, value: float, *key: str) -> None:
        child = self._gauges[metric].find(key)
        if child is not None:
            child.set(value)

    def _add(self, metric: Metric, value: float, *key: str) -> None:
        child = self._gauges[metric].find(key)
        if child is not None:
            child.inc(value)

    def _observe(self, metric: Metric, value: float, *key: str, exemplar: Exemplar | None = None) -> None:
        """Count a value; a duration is negative after the clock was set back, and counts as 0."""
        child = self._histograms[metric].find(key)
        if child is not None:
            child.observe(max(0.0, value), exemplar)

    def emit(self, event: Event) -> None:  # noqa: C901, PLR0912 - one case for each kind of event
        match event:
            case events.StorageCommitted():  # the most frequent event is not counted
                pass
            case events.RequestHandled():
                self._request_handled(event)
            case events.ConnectionOpened():
                self._count(event)
                self._add(catalogue.CLIENTS_ACTIVE, 1, event.client)
            case events.ConnectionClosed():
                self._count(event)
                self._add(catalogue.CLIENTS_ACTIVE, -1, event.client)
            case events.PongReceived():
                self._observe(catalogue.PING_RTT, event.duration)
            case events.ToolCompleted():
                self._tool_completed(event)
            case events.ApiRequestAnswered():
                self._observe(catalogue.API_REQUEST, event.duration, exemplar=self._exemplar(event.context))
            case events.FirstMessageReceived():
                self._observe(catalogue.TIME_TO_FIRST_MESSAGE, event.duration, exemplar=self._exemplar(event.context))
            case events.ExecutionFinished():
                self._execution_finished(event)
            case events.UsageAdded():
                self._use(event.project_id, event.usage)
            case events.ApprovalResolved():
                self._inc(catalogue.APPROVALS_TOTAL, event.behavior)
                if event.behavior != "cancelled":
                    self._observe(catalogue.APPROVAL_WAIT, event.waited, exemplar=self._exemplar(event.context))
            case events.ExecutionDelayed():
                self._inc(catalogue.ERRORS_TOTAL, event.code, "execution")
            case events.ConnectionRejected():
                self._inc(catalogue.CONNECTIONS_REJECTED, event.reason, amount=event.count)
                self._inc(catalogue.ERRORS_TOTAL, event.code, "connection", amount=event.count)
            case events.ConsumerDropped():
                self.dropped += 1
            case events.ProjectFaulted():
                self._inc(catalogue.ERRORS_TOTAL, errors.InternalError.code, "project")
            case events.TaskFaulted():
                self._inc(catalogue.ERRORS_TOTAL, errors.InternalError.code, "server")
            case events.StorageFailed() | events.AuditFailed():
                self._inc(catalogue.ERRORS_TOTAL, FileOperationError.code, "storage")
            case events.HealthChanged():
                self._set(catalogue.HEALTH_CHECK_UP, 1 if event.status == "healthy" else 0, event.check)
            case events.CertificateLoaded():
                self._set(catalogue.TLS_NOT_AFTER, event.not_after.timestamp())
            case events.SettingsReloaded():
                self._inc(catalogue.SETTINGS_RELOADS, "applied")
            case events.SettingsRefused():
                self._inc(catalogue.SETTINGS_RELOADS, "refused")
            case _:
                self._count(event)

    def _count(self, event: Event) -> None:
        """Count an event whose metric counts the events of its type."""
        metric = _COUNTED.get(type(event))
        if metric is not None:
            self._inc(metric, *(str(getattr(event, label)) for label in metric.labels))

    def _request_handled(self, event: events.RequestHandled) -> None:
        kind, code = event.type, event.code
        request = REQUESTS.get(kind)
        self._inc(catalogue.MESSAGES_RECEIVED, OTHER if request is not None and request.spec.rare else kind)
        measured = kind if kind in catalogue.MEASURED else OTHER
        self._observe(catalogue.REQUEST_DURATION, event.duration, measured)
        if code is None:
            self._inc(catalogue.REQUESTS_TOTAL, measured, "ok")
            return
        outcome = "server_error" if code in catalogue.SERVER_CODES else "client_error"
        self._inc(catalogue.REQUESTS_TOTAL, INVALID if kind == INVALID else measured, outcome)
        self._inc(catalogue.ERRORS_TOTAL, code, catalogue.OPERATION_OF.get(kind, OTHER))
        if kind == "execute":
            self._inc(catalogue.EXECUTIONS_TOTAL, "rejected")

    def _tool_completed(self, event: events.ToolCompleted) -> None:
        name = _TOOL_ALIASES.get(event.tool, event.tool)
        tool = "mcp" if name.startswith(_MCP) else name if name in catalogue.TOOLS else OTHER
        self._inc(catalogue.CLAUDE_TOOL_CALLS, tool, event.outcome)
        self._inc(catalogue.TOOL_SECONDS, tool, amount=event.duration)
        if name in catalogue.EDITING_TOOLS:
            self._inc(catalogue.EDITS, event.decision)

    def _execution_finished(self, event: events.ExecutionFinished) -> None:
        exemplar = self._exemplar(event.context)
        self._inc(catalogue.EXECUTIONS_TOTAL, event.status, exemplar=exemplar)
        self._observe(catalogue.EXECUTION_DURATION, event.measured, event.status, exemplar=exemplar)
        if event.error_code is not None:
            self._inc(catalogue.ERRORS_TOTAL, event.error_code, "execution")
        self._use(event.context.project_id, event.usage)

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
                self._inc(catalogue.CLAUDE_TOKENS, kind, model, amount=count)
                self._inc(catalogue.PROJECT_TOKENS, kind, project, amount=count)
            self._inc(catalogue.CLAUDE_COST, model, amount=used.cost_usd)
            self._inc(catalogue.PROJECT_COST, project, amount=used.cost_usd)

    def _model(self, name: str) -> str:
        name = name.lower()
        return next((label for part, label in self._models if part in name), OTHER)

    def _exemplar(self, context: ExecutionContext | None) -> Exemplar | None:
        identity = self._identify(context) if context is not None else None
        return {"trace_id": identity.trace_id} if identity is not None and identity.sampled else None


_PROC_CGROUP: Final = Path("/proc/self/cgroup")
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_UNLIMITED_V1: Final = 2**60  # a cgroup of version 1 without a limit has about 2**63, rounded down to whole pages


def memory_limit(setting: int, *, proc: Path = _PROC_CGROUP, root: Path = _CGROUP_ROOT) -> int:
    """The smallest of a limit and those of the process's control groups (cgroups(7)), in bytes.

    Without any it is half of the machine's memory, so that an alert can fire before the machine has none left.
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
    return min(found) if found else psutil.virtual_memory().total // 2


def _cgroup_limits(root: Path, path: str, name: str) -> list[int]:
    """The limits of a group and of its ancestors, each of which applies."""
    found = []
    group = root / path.strip("/")
    # In a container the path may be one of the host, which does not exist; the container's own is the root.
    while group.is_relative_to(root):
        try:
            limit = int((group / name).read_text("ascii"))
        except (OSError, ValueError):  # no such file, or the word "max"
            limit = 0
        if 0 < limit < _UNLIMITED_V1:
            found.append(limit)
        group = group.parent
    return found


_DISK_SECONDS: Final = 1.0  # how long a scrape waits for the disk; after that the values are NaN


class HistogramValue(NamedTuple):
    """The state of a distribution: the cumulative count for each bound and without one, and the sum of the values."""

    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    total: float


Values = Mapping[tuple[str, ...], float]
CoreValues = Mapping[Metric, Values | HistogramValue]
"""The values of each metric by its label values, or its buckets."""


@dataclass
class CoreCollector:
    """Reads the metrics that the core keeps as plain numbers; `lags` are those of the event loop."""

    hub: Hub
    projects: Projects
    store: Store
    losses: Losses
    metrics: MetricObserver
    settings: CurrentSettings
    lags: Distribution
    agents: AgentMonitor

    def __post_init__(self) -> None:
        self._distributions = {
            catalogue.EVENT_LOOP_LAG: self.lags,
            catalogue.BROADCAST_DURATION: self.hub.broadcasts,
            catalogue.STORAGE_COMMIT: self.store.durations,
        }
        self._disk = _DiskReader(self.store)
        self._process = psutil.Process()
        self._build = (__version__, find_revision(), platform.python_version())
        machine = psutil.virtual_memory().total
        self._memory, self._cores = min(memory_limit(0) or machine, machine), psutil.cpu_count() or 1

    async def collect(self) -> CoreValues:
        """All values at this moment; those of the disk may be up to `_DISK_SECONDS` older."""
        free, size = await self._disk.read()
        hub, projects = self.hub, self.projects
        conversations = projects.all()
        return {
            catalogue.CONNECTIONS_ACTIVE: {(): len(hub.sinks)},
            catalogue.PROJECTS_TOTAL: {(): len(projects)},
            catalogue.PROJECTS_ACTIVE: _counted(
                catalogue.PROJECTS_ACTIVE, collections.Counter(_project_states(conversations).values())
            ),
            catalogue.CONVERSATIONS_ACTIVE: _counted(
                catalogue.CONVERSATIONS_ACTIVE,
                collections.Counter(conversation.state.shown.value for conversation in conversations),
            ),
            catalogue.MESSAGES_SENT: _counted(catalogue.MESSAGES_SENT, hub.sent_by_type),
            catalogue.BUILD_INFO: {self._build: 1},
            catalogue.LIMIT: self.limits(),
            catalogue.LIMIT_USAGE: self.usage(),
            catalogue.SLOW_CONSUMER: {("parked",): hub.parked, ("dropped",): self.metrics.dropped},
            catalogue.MESSAGE_BYTES: {("received",): hub.received_bytes, ("sent",): hub.sent_bytes},
            catalogue.EXECUTIONS_ACTIVE: {(): projects.capacity.executing},
            catalogue.EXECUTION_QUEUE_DEPTH: {(): sum(len(conversation.state.queue) for conversation in conversations)},
            catalogue.APPROVALS_PENDING: {
                (): sum(conversation.state.pending_approvals for conversation in conversations)
            },
            catalogue.SEND_QUEUE_BYTES: {(): sum(sink.buffered for sink in hub.sinks)},
            catalogue.SUBSCRIPTIONS_ACTIVE: {(): sum(channel.subscribers for channel in hub.channels.values())},
            **self._agents(conversations),
            **self._usage_limits(),
            catalogue.EXECUTIONS_WAITING: {
                (): sum(
                    waiting.status.is_paused for conversation in conversations for waiting in conversation.state.queue
                )
            },
            catalogue.STORAGE_FREE: {(): free},
            catalogue.STORAGE_SIZE: {(): size},
            catalogue.TELEMETRY_DROPPED: {(signal,): self.losses.of(signal) for signal in catalogue.SIGNALS},
            **{
                metric: HistogramValue(found.bounds, tuple(found.cumulative()), found.total)
                for metric, found in self._distributions.items()
            },
        }

    def _agents(self, conversations: Sequence[Conversation]) -> dict[Metric, Values]:
        usage = self.agents.usage()
        memory = {conversation: used.memory_bytes for conversation, used in usage.items()}
        cores = {conversation: used.cpu_cores for conversation, used in usage.items()}
        tops = {
            catalogue.AGENT_TOP_MEMORY: top(
                {conversation: used / self._memory for conversation, used in memory.items()}
            ),
            catalogue.AGENT_TOP_CPU: top({conversation: used / self._cores for conversation, used in cores.items()}),
            catalogue.AGENT_REPEATED_CALLS: top(
                {conversation: conversation.state.repeated_calls for conversation in conversations}
            ),
            catalogue.AGENT_SILENCE: top({conversation: conversation.state.silence for conversation in conversations}),
        }
        return {
            catalogue.AGENT_MEMORY: by_state(memory),
            catalogue.AGENT_CPU: by_state(cores),
            **{metric: {(found.project,): found.value} for metric, found in tops.items()},
            catalogue.AGENT_READINGS_FAILED: {(): self.agents.failed},
        }

    def _usage_limits(self) -> dict[Metric, Values]:
        """Use and reset of the account's limits."""
        used: dict[tuple[str, ...], float] = {(name,): 0.0 for name in catalogue.WINDOWS}
        reset = dict(used)
        for window in self.projects.limits.windows:
            if window.window in catalogue.WINDOWS:
                used[window.window,], reset[window.window,] = window.utilization, window.resets_at / 1000
        return {catalogue.USAGE_LIMIT_UTILIZATION: used, catalogue.USAGE_LIMIT_RESET: reset}

    def limits(self) -> Values:
        """The limits; 0 is unlimited."""
        limits = self.settings.current.limits
        return {
            ("connections",): limits.max_connections,
            ("projects",): limits.max_projects,
            ("executions",): limits.max_executions,
            ("processes",): self.projects.capacity.max_processes,
            ("memory_bytes",): memory_limit(limits.memory),
            ("cost_usd_per_day",): self.projects.budget.limit_usd,
        }

    def usage(self) -> Values:
        """The current usage of each limit."""
        capacity = self.projects.capacity
        return {
            ("connections",): len(self.hub.sinks),
            ("projects",): len(self.projects),
            ("executions",): capacity.executing,
            ("processes",): capacity.processes,
            ("memory_bytes",): self._process.memory_info().rss,
            ("cost_usd_per_day",): self.projects.budget.spent_usd,
        }


def _project_states(conversations: Sequence[Conversation]) -> dict[ProjectId, str]:
    """The state of each project: EXECUTING when any of its conversations is, else that of its main one."""
    states: dict[ProjectId, str] = {}
    for conversation in conversations:
        record, shown = conversation.state.record, conversation.state.shown
        if shown is ProjectState.EXECUTING:
            states[record.project_id] = shown.value
        elif record.is_main:
            states.setdefault(record.project_id, shown.value)
    return states


class _DiskReader:
    """Reads sizes in a thread, so that a disk that hangs, such as one over a network, does not delay a scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked = False

    async def read(self) -> tuple[float, float]:
        """Free space and the size of the database, in bytes; NaN when the disk does not answer."""
        if not self._asked:  # else the previous read has not returned yet
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
    """The counts by the values of the only label; those of other values are added to `other`."""
    (known,) = metric.labels.values()
    values: dict[tuple[str, ...], float] = {(value,): counts.get(value, 0) for value in known}
    rest = sum(counts.values()) - sum(values.values())
    if (OTHER,) in values:
        values[(OTHER,)] += rest
    return values


def core_families(values: CoreValues) -> Iterator[Family]:
    """The values as families of the client library, in the order of the catalogue; any thread may call it."""
    for metric in catalogue.CATALOGUE:
        found = values.get(metric)
        if isinstance(found, HistogramValue):
            bounds = [
                # The library's own way to write bounds. It has no types.
                *(str(floatToGoString(bound)) for bound in found.bounds),  # type: ignore[no-untyped-call]
                "+Inf",
            ]
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=[], unit=metric.unit)
            histogram.add_metric([], list(zip(bounds, found.cumulative, strict=True)), found.total)
            yield histogram
        elif found is not None:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=list(metric.labels), unit=metric.unit)
            for key, value in found.items():
                family.add_metric(list(key), value)
            yield family
