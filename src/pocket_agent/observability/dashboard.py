"""The time series of `/dashboard`: samples of the metrics, and the last day of each chart in fixed memory."""

import asyncio
import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, Protocol

import psutil
from prometheus_client import CollectorRegistry

from pocket_agent.model import Milliseconds
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import Metric
from pocket_agent.observability.health import LAG_WINDOW_SECONDS, LoopMonitor
from pocket_agent.observability.metrics import CoreCollector, core_families
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.requests import ServerHistoryData

_IDLE_TIMES: Final = ("idle", "iowait")


class MachineSample(NamedTuple):
    """Use of the machine at one moment; NaN where the system does not report it, as in some containers.

    Attributes:
        cpu_seconds: busy time of all processors.
        cpu_total_seconds: busy and idle time of all processors.
        memory_bytes: memory in use.
        read_bytes, written_bytes: bytes that the disks read and wrote.
    """

    cpu_seconds: float
    cpu_total_seconds: float
    memory_bytes: float
    read_bytes: float
    written_bytes: float


def machine_sample() -> MachineSample:
    """Sample the machine; a few short reads of /proc on Linux."""
    times = psutil.cpu_times()._asdict()
    # Linux counts the time of guests in `user` and `nice` as well (proc_stat(5)).
    total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    memory = psutil.virtual_memory()
    read, written = _disk_bytes()
    return MachineSample(
        cpu_seconds=total - sum(times.get(name, 0.0) for name in _IDLE_TIMES),
        cpu_total_seconds=total,
        memory_bytes=memory.total - memory.available,
        read_bytes=read,
        written_bytes=written,
    )


def _disk_bytes() -> tuple[float, float]:
    try:
        found = psutil.disk_io_counters()
    except (OSError, RuntimeError, NotImplementedError):  # no /proc/diskstats, or one of an unknown form
        found = None
    return (found.read_bytes, found.write_bytes) if found is not None else (math.nan, math.nan)


Reading = Sequence[float]
"""The time, then the numbers of one moment; see `CELLS`."""
Cell = tuple[str, str]
"""One number of a reading: the name of its sample, and the value of its one label."""

CPU_SECONDS: Final = ("process_cpu_seconds_total", "")
MEMORY_BYTES: Final = ("process_resident_memory_bytes", "")
LOOP_LAG: Final = ("event_loop_lag_worst_seconds", "")
"""The largest lag of the last minute; the histogram of the metrics has no maximum."""

_SAMPLED: Final = {
    catalogue.CONNECTIONS_ACTIVE: "",
    catalogue.PROJECTS_TOTAL: "",
    catalogue.EXECUTIONS_ACTIVE: "",
    catalogue.EXECUTION_QUEUE_DEPTH: "",
    catalogue.APPROVALS_PENDING: "",
    catalogue.STORAGE_FREE: "",
    catalogue.MESSAGE_BYTES: "direction",
    catalogue.EXECUTIONS_TOTAL: "status",
    catalogue.ERRORS_TOTAL: "code",
    catalogue.REQUESTS_TOTAL: "outcome",
    catalogue.CLAUDE_TOKENS: "type",
    catalogue.CLAUDE_COST: "",
    catalogue.EXECUTION_DURATION: "le",
    catalogue.REQUEST_DURATION: "le",
}
"""The metrics of a reading, each with the label that is kept; their values are summed over the other labels."""


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
    return [cell(metric, bound, part="bucket") for bound in (*map(_le_text, metric.buckets), "+Inf")]


def _le_text(bound: float) -> str:
    """A bound as the client library writes it."""
    return str(float(bound))


def _cells() -> Iterator[Cell]:
    for metric, label in _SAMPLED.items():
        if metric.buckets:
            yield from (*bucket_cells(metric), cell(metric, part="count"), cell(metric, part="sum"))
        else:
            yield from (cell(metric, key) for key in (metric.labels[label] if label else ("",)))
    yield from (CPU_SECONDS, MEMORY_BYTES, LOOP_LAG)
    yield from (("machine", name) for name in MachineSample._fields)


CELLS: Final[Mapping[Cell, int]] = {place: index for index, place in enumerate(_cells(), start=1)}
"""The index of each number in a reading; index 0 is the time, in seconds of the monotonic clock."""


class MetricSampler:
    """Samples the metrics as a scrape reads them, the event loop, the process and the machine.

    Args:
        registry: the metrics that are counted by events.
        core: the metrics that the core keeps.
        loop: measures the lag of the event loop.
    """

    def __init__(self, registry: CollectorRegistry, core: CoreCollector, loop: LoopMonitor) -> None:
        self._registry = registry.restricted_registry(
            {sample for sample, _ in CELLS} - {CPU_SECONDS[0], MEMORY_BYTES[0]}
        )
        self._core = core
        self._loop = loop
        self._process = psutil.Process()

    async def read(self) -> Reading:
        """All numbers of this moment, those of the disk a little older; NaN for an unknown one."""
        found = dict.fromkeys(CELLS, 0.0)
        for family in (*core_families(await self._core.collect()), *self._registry.collect()):
            for sample in family.samples:
                place = (sample.name, sample.labels.get(_LABELS.get(sample.name, ""), ""))
                if place in found:
                    found[place] += sample.value
        cpu = self._process.cpu_times()
        found[CPU_SECONDS] = cpu.user + cpu.system
        found[MEMORY_BYTES] = self._process.memory_info().rss
        found[LOOP_LAG] = self._loop.worst(LAG_WINDOW_SECONDS)
        for name, value in machine_sample()._asdict().items():
            found["machine", name] = value
        return array("d", [time.monotonic(), *found.values()])


_LABELS: Final = {
    f"{metric.name}_bucket" if metric.buckets else metric.name: label for metric, label in _SAMPLED.items() if label
}
"""By the name of a sample, the label that is kept."""


HOUR_SECONDS: Final = 3600.0


class Window:
    """The readings of the last hour.

    Args:
        step: seconds between two readings.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._rows: deque[Reading] = deque(maxlen=round(HOUR_SECONDS / step) + 1)

    def add(self, row: Reading) -> None:
        """Take in the newest reading."""
        self._rows.append(row)

    def now(self, place: Cell) -> float:
        """A number of the newest reading."""
        return self._rows[-1][CELLS[place]]

    def increase(self, place: Cell, seconds: float) -> float:
        """By how much a counter grew within the last `seconds`, or since the first reading if that is later."""
        index = CELLS[place]
        return self._rows[-1][index] - self._before(seconds)[index]

    def rate(self, place: Cell, seconds: float) -> float:
        """The increase per second; NaN at the first reading."""
        index, before = CELLS[place], self._before(seconds)
        elapsed = self._rows[-1][0] - before[0]
        return (self._rows[-1][index] - before[index]) / elapsed if elapsed > 0 else math.nan

    def quantile(self, q: float, bounds: Sequence[float], places: Sequence[Cell], seconds: float) -> float:
        """An estimate of a quantile out of a histogram's buckets, as Prometheus makes it; NaN without values.

        Args:
            q: from 0 to 1.
            bounds: the upper bounds of the buckets, ascending.
            places: the cumulative counts of the buckets, and last that of all.
            seconds: how far back.
        """
        counts = [self.increase(place, seconds) for place in places]
        if not counts[-1] > 0:
            return math.nan
        rank = q * counts[-1]
        index = next(index for index, count in enumerate(counts) if count >= rank)
        if index == len(bounds):  # above the last bound nothing more is known
            return bounds[-1]
        lower, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
        return lower + (bounds[index] - lower) * (rank - below) / (counts[index] - below)

    def _before(self, seconds: float) -> Reading:
        return self._rows[max(0, len(self._rows) - 1 - round(seconds / self._step))]


_MINUTE: Final = 60.0
_RECENT: Final = 5 * _MINUTE
_CALM: Final = 30 * _MINUTE
"""For the percentile of what happens seldom, such as executions."""
_ENDED: Final = ("success", "error", "timeout", "killed")
_JUDGED: Final = ("success", "error", "timeout")
"""The statuses of the success rate; a killed execution did not fail."""
ERRORS_PREFIX: Final = "errors."


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """One line of a chart.

    Attributes:
        name: the part before a dot is common to the lines of one chart.
        unit: of its values: `count`, `per_second`, `seconds`, `bytes`, `bytes_per_second`, `usd`, or `ratio` of 1.
        about: what it says.
        value: its value at the newest reading; NaN without one.
    """

    name: str
    unit: str
    about: str
    value: Callable[[Window], float]


def _now(metric: Metric) -> Callable[[Window], float]:
    place = cell(metric)
    return lambda window: window.now(place)


def _rate(metric: Metric, key: str, seconds: float = _RECENT) -> Callable[[Window], float]:
    place = cell(metric, key)
    return lambda window: window.rate(place, seconds)


def _hourly(metric: Metric, *keys: str) -> Callable[[Window], float]:
    places = [cell(metric, key) for key in keys or ("",)]
    return lambda window: sum(window.increase(place, HOUR_SECONDS) for place in places)


def _p95(metric: Metric, seconds: float) -> Callable[[Window], float]:
    places = bucket_cells(metric)
    return lambda window: window.quantile(0.95, metric.buckets, places, seconds)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _mean(window: Window) -> float:
    total = window.increase(cell(catalogue.EXECUTION_DURATION, part="sum"), HOUR_SECONDS)
    return _share(total, window.increase(cell(catalogue.EXECUTION_DURATION, part="count"), HOUR_SECONDS))


def _success(window: Window) -> float:
    ended = {status: window.increase(cell(catalogue.EXECUTIONS_TOTAL, status), HOUR_SECONDS) for status in _JUDGED}
    return _share(ended["success"], sum(ended.values()))


def _machine_cpu(window: Window) -> float:
    busy = window.increase(("machine", "cpu_seconds"), _MINUTE)
    return _share(busy, window.increase(("machine", "cpu_total_seconds"), _MINUTE))


def _machine(name: str) -> Callable[[Window], float]:
    return lambda window: window.rate(("machine", name), _MINUTE)


def _guide() -> Iterator[ChartSeries]:
    yield ChartSeries("connections", "count", "open connections", _now(catalogue.CONNECTIONS_ACTIVE))
    for status in catalogue.EXECUTIONS_TOTAL.labels["status"]:
        about = f"executions that ended ({status}), over 5 minutes"
        if status == "rejected":
            about = "executions that were refused, over 5 minutes"
        yield ChartSeries(f"executions.{status}", "per_second", about, _rate(catalogue.EXECUTIONS_TOTAL, status))
    yield ChartSeries(
        "execution_p95",
        "seconds",
        "95th percentile of the duration of executions, over 30 minutes",
        _p95(catalogue.EXECUTION_DURATION, _CALM),
    )
    for code in catalogue.ERRORS_TOTAL.labels["code"]:
        yield ChartSeries(
            f"{ERRORS_PREFIX}{code}",
            "per_second",
            f"errors {code}, over 5 minutes",
            _rate(catalogue.ERRORS_TOTAL, code),
        )


def _resources() -> Iterator[ChartSeries]:
    yield ChartSeries(
        "cpu.server",
        "ratio",
        "time of one core that the server takes",
        lambda window: window.rate(CPU_SECONDS, _MINUTE),
    )
    yield ChartSeries("cpu.machine", "ratio", "time of all cores that the machine is busy", _machine_cpu)
    yield ChartSeries("memory.server", "bytes", "memory of the server", lambda window: window.now(MEMORY_BYTES))
    yield ChartSeries(
        "memory.machine",
        "bytes",
        "memory of the machine in use",
        lambda window: window.now(("machine", "memory_bytes")),
    )
    yield ChartSeries("disk_free", "bytes", "free space of the data directory", _now(catalogue.STORAGE_FREE))
    yield ChartSeries("disk.read", "bytes_per_second", "what the machine reads from disks", _machine("read_bytes"))
    yield ChartSeries("disk.written", "bytes_per_second", "what the machine writes to disks", _machine("written_bytes"))
    for direction in ("received", "sent"):
        yield ChartSeries(
            f"network.{direction}",
            "bytes_per_second",
            f"frames {'from' if direction == 'received' else 'to'} clients",
            _rate(catalogue.MESSAGE_BYTES, direction, _MINUTE),
        )
    yield ChartSeries("loop_lag", "seconds", "largest lag of the event loop within a minute", lambda w: w.now(LOOP_LAG))


def _application() -> Iterator[ChartSeries]:
    for outcome in catalogue.REQUESTS_TOTAL.labels["outcome"]:
        yield ChartSeries(
            f"requests.{outcome}",
            "per_second",
            f"requests answered ({outcome}), over 5 minutes",
            _rate(catalogue.REQUESTS_TOTAL, outcome),
        )
    yield ChartSeries(
        "request_p95",
        "seconds",
        "95th percentile of the time to an answer, over 5 minutes",
        _p95(catalogue.REQUEST_DURATION, _RECENT),
    )
    yield ChartSeries("running", "count", "executions that run", _now(catalogue.EXECUTIONS_ACTIVE))
    yield ChartSeries("queue", "count", "prompts that wait", _now(catalogue.EXECUTION_QUEUE_DEPTH))
    yield ChartSeries("approvals", "count", "tool requests that wait for an answer", _now(catalogue.APPROVALS_PENDING))


def _business() -> Iterator[ChartSeries]:
    yield ChartSeries("projects", "count", "projects", _now(catalogue.PROJECTS_TOTAL))
    yield ChartSeries(
        "executions_hourly",
        "count",
        "executions that ended within an hour",
        _hourly(catalogue.EXECUTIONS_TOTAL, *_ENDED),
    )
    yield ChartSeries("execution_mean", "seconds", "mean duration of the executions of an hour", _mean)
    yield ChartSeries("success_ratio", "ratio", "share of successes among the executions of an hour", _success)
    for kind in catalogue.CLAUDE_TOKENS.labels["type"]:
        yield ChartSeries(
            f"tokens.{kind}", "count", f"tokens used within an hour ({kind})", _hourly(catalogue.CLAUDE_TOKENS, kind)
        )
    yield ChartSeries("cost", "usd", "what the executions of an hour cost", _hourly(catalogue.CLAUDE_COST))


CHART_SERIES: Final[tuple[ChartSeries, ...]] = (*_guide(), *_resources(), *_application(), *_business())
"""All of them: the guide's four panels, then the three groups of its system dashboard."""


class _Points:
    """The newest points of all charts, at equal steps.

    Args:
        step: seconds between two points.
        seconds: how far back they reach.

    Attributes:
        step: as given.
        count: points that were ever added; the next one has this number.
    """

    def __init__(self, step: int, seconds: int) -> None:
        self.step = step
        self.count = 0
        self._kept: deque[tuple[int, Reading]] = deque(maxlen=seconds // step)

    def add(self, at: int, values: Iterable[float]) -> None:
        """Add a point: the time, in milliseconds since the Unix epoch, and a value for each series."""
        self._kept.append((at, array("d", values)))
        self.count += 1

    def since(self, first: int, stride: int) -> list[tuple[int, Reading]]:
        """The points from number `first` on that are still kept and whose number is a multiple of `stride`.

        So a client that asks later gets the same points.
        """
        oldest = self.count - len(self._kept)
        start = -(-max(first, oldest) // stride) * stride
        return list(islice(self._kept, start - oldest, None, stride))


STEP_SECONDS: Final = 10
"""Time between two readings, and between the points of the last hour."""
_COARSE_SECONDS: Final = 60
_FINE_SECONDS: Final = 3600
DAY: Final = 24 * _FINE_SECONDS
_MOST_POINTS: Final = 360
"""Points of a reply; a chart on a phone has about as many pixels."""
_DIGITS: Final = 6
"""Significant digits of a value, so that a reply is short."""


class SampleSource(Protocol):
    """Where readings come from."""

    async def read(self) -> Reading:
        """The numbers of this moment; see `reading.CELLS`."""


class DashboardHistory:
    """Samples the metrics at equal steps: keeps the last hour at each of them, the last day at each minute.

    Args:
        source: where samples come from.
        clock: the present time, in seconds since the Unix epoch.
    """

    def __init__(self, source: SampleSource, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._window = Window(STEP_SECONDS)
        self._fine = _Points(STEP_SECONDS, _FINE_SECONDS)
        self._coarse = _Points(_COARSE_SECONDS, DAY)
        self._began = timestamp(Milliseconds(round(clock() * 1000)))
        self._last = 0

    async def run(self) -> None:
        """Take samples until cancelled."""
        begin, taken = time.monotonic(), 0
        while True:
            await self.take()
            # Steps that were missed, as by a machine that slept, are skipped.
            taken = max(taken + 1, int((time.monotonic() - begin) / STEP_SECONDS))
            await asyncio.sleep(max(0.0, begin + taken * STEP_SECONDS - time.monotonic()))

    async def take(self) -> None:
        """Take one sample."""
        row = await self._source.read()
        # A chart needs ascending times; after the clock was set back they advance by 1 ms until it has caught up.
        self._last = max(round(self._clock() * 1000), self._last + 1)
        self._window.add(row)
        values = [_rounded(series.value(self._window)) for series in CHART_SERIES]
        if self._fine.count % (_COARSE_SECONDS // STEP_SECONDS) == 0:
            self._coarse.add(self._last, values)
        self._fine.add(self._last, values)

    def follow(self, seconds: int) -> "HistoryFollower":
        """A reader of the points of the last `seconds`, and of each new one."""
        points = self._fine if seconds <= _FINE_SECONDS else self._coarse
        wanted = seconds // points.step
        return HistoryFollower(self._began, points, points.count - wanted, -(-wanted // _MOST_POINTS))


class HistoryFollower:
    """Reads each point once.

    Args:
        began: identifies the run of the server.
        points: the points.
        next_number: the first point to read.
        stride: every how many points one is read.
    """

    def __init__(self, began: str, points: _Points, next_number: int, stride: int) -> None:
        self._began = began
        self._points = points
        self._next = next_number
        self._stride = stride

    def more(self) -> ServerHistoryData | None:
        """The new points; None when there are none."""
        found = self.read()
        return found if found.times else None

    def read(self) -> ServerHistoryData:
        """The new points; a series of errors only when it is not zero."""
        found = self._points.since(self._next, self._stride)
        self._next = self._points.count
        series: dict[str, list[float | None]] = {}
        for index, described in enumerate(CHART_SERIES):
            values = [row[index] for _, row in found]
            if not described.name.startswith(ERRORS_PREFIX) or any(value > 0 for value in values):
                series[described.name] = [*values]
        return ServerHistoryData(
            began=self._began, step=self._points.step * self._stride, times=[at for at, _ in found], series=series
        )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
