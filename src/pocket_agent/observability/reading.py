"""The figures of one moment as a row of numbers, read from where a scrape gets them."""

import math
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family

from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import Metric
from pocket_agent.observability.collector import Buckets, CoreCollector
from pocket_agent.observability.loop import WINDOW_SECONDS, LoopMonitor
from pocket_agent.observability.machine import MachineFigures, machine_figures

Reading = Sequence[float]
"""The time, then the numbers of one moment; see `CELLS`."""
Cell = tuple[str, str]
"""One number of a reading: the name of its sample, and the value of the one label that tells it apart."""

CPU_SECONDS: Final = ("process_cpu_seconds_total", "")
MEMORY_BYTES: Final = ("process_resident_memory_bytes", "")
LOOP_LAG: Final = ("event_loop_lag_worst_seconds", "")
"""The largest lag of the last minute; the histogram of the metrics has no maximum."""

_CORE: Final = {
    catalogue.CONNECTIONS_ACTIVE: "",
    catalogue.PROJECTS_TOTAL: "",
    catalogue.EXECUTIONS_ACTIVE: "",
    catalogue.EXECUTION_QUEUE_DEPTH: "",
    catalogue.APPROVALS_PENDING: "",
    catalogue.STORAGE_FREE: "",
    catalogue.MESSAGE_BYTES: "direction",
}
_COUNTED: Final = {
    catalogue.EXECUTIONS_TOTAL: "status",
    catalogue.ERRORS_TOTAL: "code",
    catalogue.REQUESTS_TOTAL: "outcome",
    catalogue.CLAUDE_TOKENS: "type",
    catalogue.CLAUDE_COST: "",
    catalogue.EXECUTION_DURATION: "le",
    catalogue.REQUEST_DURATION: "le",
}
"""What is read, and by which label; over all others it is summed."""


def cell(metric: Metric, key: str = "", *, part: str = "") -> Cell:
    """The place of a number in a reading.

    Args:
        metric: its metric.
        key: the value of its label.
        part: of a histogram `bucket`, `count` or `sum`.
    """
    return (f"{metric.name}_{part}" if part else metric.name, key)


def bucket_cells(metric: Metric) -> list[Cell]:
    """The places of a histogram's buckets, the one without a bound last."""
    return [cell(metric, bound, part="bucket") for bound in (*map(_text, metric.buckets), "+Inf")]


def _text(bound: float) -> str:
    """A bound as the client library writes it."""
    return str(float(bound))


def _cells() -> Iterator[Cell]:
    for metric, label in {**_CORE, **_COUNTED}.items():
        if metric.buckets:
            yield from (*bucket_cells(metric), cell(metric, part="count"), cell(metric, part="sum"))
        else:
            yield from (cell(metric, key) for key in (metric.labels[label] if label else ("",)))
    yield from (CPU_SECONDS, MEMORY_BYTES, LOOP_LAG)
    yield from (("machine", name) for name in MachineFigures._fields)


CELLS: Final[Mapping[Cell, int]] = {place: index for index, place in enumerate(_cells(), start=1)}
"""Where each number stands in a reading; first comes the time, in seconds of the monotonic clock."""


class Reader:
    """Reads.

    Args:
        registry: what is counted by events, as a scrape gets it.
        core: what the core keeps, as a scrape gets it.
        loop: measures the event loop.
    """

    def __init__(self, registry: CollectorRegistry, core: CoreCollector, loop: LoopMonitor) -> None:
        samples = [
            name
            for metric in _COUNTED
            for name in ([f"{metric.name}_{part}" for part in ("bucket", "count", "sum")], [metric.name])[
                not metric.buckets
            ]
        ]
        self._counted = registry.restricted_registry(samples)
        self._core = core
        self._loop = loop
        self._process = psutil.Process()

    async def read(self) -> Reading:
        """All numbers of this moment, those of the disk a little older; NaN for what is not known."""
        found = dict.fromkeys(CELLS, 0.0)
        figures = await self._core.figures()
        for metric, label in _CORE.items():
            values = figures[metric]
            assert not isinstance(values, Buckets)
            place = list(metric.labels).index(label) if label else None
            for key, value in values.items():
                found[cell(metric, key[place] if place is not None else "")] += value
        _add(found, self._counted.collect())
        cpu = self._process.cpu_times()
        found[CPU_SECONDS] = cpu.user + cpu.system
        found[MEMORY_BYTES] = self._process.memory_info().rss
        found[LOOP_LAG] = self._loop.worst(WINDOW_SECONDS)
        for name, value in machine_figures()._asdict().items():
            found["machine", name] = value
        return array("d", [time.monotonic(), *found.values()])


def _add(found: dict[Cell, float], families: Iterable[Family]) -> None:
    labels = {metric.name: label for metric, label in _COUNTED.items()}
    for family in families:
        label = labels.get(family.name) or labels.get(f"{family.name}_total", "")
        for sample in family.samples:
            place = (sample.name, sample.labels.get(label, ""))
            if place in found and not math.isnan(sample.value):
                found[place] += sample.value
