"""Prometheus metrics out of events and, at scrape time, out of the figures that the core keeps anyway."""

import asyncio
import platform
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from itertools import product

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from pocket_agent import __version__, events
from pocket_agent.events import Event
from pocket_agent.hub import Hub
from pocket_agent.model import ExecutionStatus
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import OTHER, Metric
from pocket_agent.projects import Projects

_CODE_OF_STATUS = {ExecutionStatus.ERROR: "EXECUTION_FAILED", ExecutionStatus.TIMEOUT: "EXECUTION_TIMEOUT"}
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricObserver:
    """Counts what happens. It is an `Observer` of the core; every child exists from the start."""

    def __init__(self) -> None:
        # The time of a child's making tells nothing here and doubles the series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives it no types
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._connections = self._counter(catalogue.CONNECTIONS_TOTAL)
        self._executions = self._counter(catalogue.EXECUTIONS_TOTAL)
        self._received = self._counter(catalogue.MESSAGES_RECEIVED)
        self._errors = self._counter(catalogue.ERRORS_TOTAL)
        metric = catalogue.EXECUTION_DURATION
        duration = Histogram(
            metric.name, metric.help, list(metric.labels), registry=self.registry, buckets=metric.buckets
        )
        self._durations = {status: duration.labels(status) for status in metric.labels["status"]}

    def _counter(self, metric: Metric) -> dict[tuple[str, ...], Counter]:
        """The children of a counter by the values of their labels."""
        family = Counter(metric.name, metric.help, list(metric.labels), registry=self.registry)
        if not metric.labels:
            return {(): family}
        values = [(*allowed, OTHER) for allowed in metric.labels.values()]
        return {key: family.labels(*key) for key in _combinations(metric, values)}

    def emit(self, event: Event) -> None:
        """Count an event."""
        match event:
            case events.ConnectionOpened():
                self._connections[()].inc()
            case events.RequestHandled():
                self._count(self._received, catalogue.MESSAGES_RECEIVED, event.type)
                if event.code is not None:
                    self._count(self._errors, catalogue.ERRORS_TOTAL, event.code, "request")
                    if event.type == "execute":
                        self._executions["rejected",].inc()
            case events.ExecutionFinished():
                self._count(self._executions, catalogue.EXECUTIONS_TOTAL, event.status)
                if event.status in self._durations:
                    self._durations[event.status].observe(event.duration)
                code = _CODE_OF_STATUS.get(ExecutionStatus(event.status))
                if code is not None:
                    self._count(self._errors, catalogue.ERRORS_TOTAL, code, "execution")
            case events.StorageFailed():
                self._count(self._errors, catalogue.ERRORS_TOTAL, "FILE_OPERATION", "storage")
            case _:
                return

    def _count(self, children: dict[tuple[str, ...], Counter], metric: Metric, *values: str) -> None:
        known = tuple(
            value if value in allowed else OTHER for value, allowed in zip(values, metric.labels.values(), strict=True)
        )
        children[known].inc()


def _combinations(metric: Metric, values: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """All keys of a metric; of the errors, those that can be."""
    for key in product(*values):
        possible = catalogue.ERROR_CODES.get(key[-1])
        if metric is not catalogue.ERRORS_TOTAL or possible is None or key[0] in possible:
            yield key


class CoreCollector(Collector):
    """Reads what the core keeps as plain numbers, when Prometheus asks."""

    def __init__(self, hub: Hub, projects: Projects) -> None:
        self._hub = hub
        self._projects = projects

    def collect(self) -> Iterable[Family]:
        """The families that need no counting of their own."""
        build = GaugeMetricFamily(
            catalogue.BUILD_INFO.name, catalogue.BUILD_INFO.help, labels=["version", "python_version"]
        )
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        yield _gauge(catalogue.CONNECTIONS_ACTIVE, len(self._hub.sinks))
        yield _gauge(catalogue.PROJECTS_TOTAL, len(self._projects))
        metric = catalogue.PROJECTS_ACTIVE
        states = Tally(session.state.project.state.value for session in self._projects.all())
        active = GaugeMetricFamily(metric.name, metric.help, labels=list(metric.labels))
        for state in metric.labels["state"]:
            active.add_metric([state], states[state])
        yield active
        metric = catalogue.MESSAGES_SENT
        sent = CounterMetricFamily(metric.name, metric.help, labels=list(metric.labels))
        counts = dict(self._hub.sent_by_type)
        for kind in metric.labels["type"]:
            sent.add_metric([kind], counts.pop(kind, 0))
        sent.add_metric([OTHER], sum(counts.values()))
        yield sent


def _gauge(metric: Metric, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, value)


def application(registry: CollectorRegistry) -> web.Application:
    """The application of the metrics listener."""

    async def metrics(_: web.Request) -> web.Response:
        # Rendering takes milliseconds, which the event loop must not lose.
        text = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=text, headers={"Content-Type": _CONTENT_TYPE})

    made = web.Application()
    made.router.add_get("/metrics", metrics)
    return made
