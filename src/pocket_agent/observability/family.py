"""The children of one metric, all made at the start and found by one dictionary lookup."""

import math
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pocket_agent.config.settings import MetricsSettings
from pocket_agent.observability.catalogue import METRIC_LABEL_OVERFLOW, OTHER, Metric, children

Child = TypeVar("Child", bound=Counter | Gauge | Histogram)
Exemplar = dict[str, str]


class _Family(Generic[Child]):
    """The children of a metric by the values of their labels; `overflow` counts values that have no child."""

    def __init__(self, metric: Metric, made: Mapping[tuple[str, ...], Child], overflow: Counter | None) -> None:
        self._made = made
        self._overflow = overflow
        self._known = tuple(frozenset(values) for values in metric.labels.values())

    def _child(self, key: tuple[str, ...]) -> Child | None:
        """The child of these values, or the one of `other` in their place; None when there is none of that either."""
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


class Counters(_Family[Counter]):
    """The children of a counter."""

    def inc(self, *key: str, amount: float = 1, exemplar: Exemplar | None = None) -> None:
        """Add to the child of these label values; an amount that a counter cannot take is left out."""
        if not 0 < amount < math.inf:
            return
        child = self._child(key)
        if child is not None:
            child.inc(amount, exemplar)


class Gauges(_Family[Gauge]):
    """The children of a gauge."""

    def set(self, value: float, *key: str) -> None:
        """Set the child of these label values."""
        child = self._child(key)
        if child is not None:
            child.set(value)


class Histograms(_Family[Histogram]):
    """The children of a histogram."""

    def observe(self, value: float, *key: str, exemplar: Exemplar | None = None) -> None:
        """Count a value in the child of these label values; a clock that was set back gives 0."""
        child = self._child(key)
        if child is not None:
            child.observe(max(0.0, value), exemplar)


class Families:
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

    def counters(self, metric: Metric) -> Counters:
        """The children of a counter."""
        family = Counter(metric.name, metric.help, list(metric.labels), registry=self._registry, unit=metric.unit)
        return Counters(metric, self._children(metric, family), self._overflow.get(metric.name))

    def gauges(self, metric: Metric) -> Gauges:
        """The children of a gauge."""
        family = Gauge(metric.name, metric.help, list(metric.labels), registry=self._registry, unit=metric.unit)
        return Gauges(metric, self._children(metric, family), self._overflow.get(metric.name))

    def histograms(self, metric: Metric) -> Histograms:
        """The children of a histogram."""
        family = Histogram(
            metric.name,
            metric.help,
            list(metric.labels),
            registry=self._registry,
            unit=metric.unit,
            buckets=metric.buckets,
        )
        return Histograms(metric, self._children(metric, family), self._overflow.get(metric.name))

    def _children(self, metric: Metric, family: Child) -> dict[tuple[str, ...], Child]:
        if not metric.labels:
            return {(): family}
        return {key: cast("Child", family.labels(*key)) for key in children(metric, self._settings)}
