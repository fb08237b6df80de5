"""Reads at a scrape what the core keeps as plain numbers, in one short step of the event loop."""

import asyncio
import math
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from pocket_agent import __version__
from pocket_agent.config.settings import Settings
from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError
from pocket_agent.hub import Hub
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import OTHER, Metric
from pocket_agent.observability.check import in_thread
from pocket_agent.observability.loss import SIGNALS, Losses
from pocket_agent.observability.memory import memory_limit
from pocket_agent.observability.metric import MetricObserver
from pocket_agent.observability.revision import find_revision
from pocket_agent.projects import Projects
from pocket_agent.storage import Store

_DISK_SECONDS: Final = 1.0
"""How long a scrape waits for the disk; what it then does not know is NaN."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """What a distribution held: for each bound how many values up to it, then of all, and their sum."""

    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    total: float


Values = Mapping[tuple[str, ...], float]
Figures = Mapping[Metric, Values | Buckets]
"""What each metric says at a moment: values by the values of its labels, or buckets."""


class CoreCollector:
    """The figures that nobody counts for a metric's sake.

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
        settings: Settings,
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
        self._disk = _Disk(store)
        self._process = psutil.Process()
        self._build = (__version__, find_revision(), platform.python_version())

    async def figures(self) -> Figures:
        """All figures of one moment; those of the disk are a little older."""
        free, size = await self._disk.figures()
        hub, projects = self._hub, self._projects
        sessions = projects.all()
        return {
            catalogue.CONNECTIONS_ACTIVE: {(): len(hub.sinks)},
            catalogue.PROJECTS_TOTAL: {(): len(sessions)},
            catalogue.PROJECTS_ACTIVE: _counted(
                catalogue.PROJECTS_ACTIVE, Counter(session.state.shown.value for session in sessions)
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
            **{metric: _buckets(found) for metric, found in self._distributions.items()},
        }

    def limits(self) -> Values:
        """The largest allowed amounts; 0 is unlimited."""
        limits = self._settings.limits
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


class _Disk:
    """Asks the disk in a thread: one that hangs, as over a network, must not keep the rest from a scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked = False

    async def figures(self) -> tuple[float, float]:
        """Free space, and the size of the database, in bytes; NaN when the disk does not tell."""
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


def _buckets(found: Distribution) -> Buckets:
    return Buckets(found.bounds, tuple(found.cumulative()), found.total)


def families(figures: Figures) -> Iterator[Family]:
    """The figures as the client library's families, in the order of the catalogue; for any thread."""
    for metric in catalogue.CATALOGUE:
        found = figures.get(metric)
        if isinstance(found, Buckets):
            yield _histogram(metric, found)
        elif found is not None:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=list(metric.labels), unit=metric.unit)
            for key, value in found.items():
                family.add_metric(list(key), value)
            yield family


def _histogram(metric: Metric, found: Buckets) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=[], unit=metric.unit)
    bounds = [*(_text(bound) for bound in found.bounds), "+Inf"]
    family.add_metric([], list(zip(bounds, found.cumulative, strict=True)), found.total)
    return family


def _text(bound: float) -> str:
    """A bound as the client library writes those of its own histograms."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]  # the library gives it no types
