"""The time series of `/dashboard`: samples of the metrics, and the last day of each chart in fixed memory."""

import asyncio
import math
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import psutil
from prometheus_client import CollectorRegistry

from pocket_agent.model import Milliseconds
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import Metric
from pocket_agent.observability.health import LAG_WINDOW_SECONDS, LoopMonitor
from pocket_agent.observability.metrics import CoreCollector, core_families
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.requests import ServerHistoryData


class MachineSample(NamedTuple):
    """Usage of the whole machine; `cpu_total_seconds` includes idle time; bytes of disks are NaN if not reported."""

    cpu_seconds: float
    cpu_total_seconds: float
    memory_bytes: float
    read_bytes: float
    written_bytes: float


def machine_sample() -> MachineSample:
    """Sample the machine; on Linux with short reads of /proc."""
    times = psutil.cpu_times()._asdict()
    # Linux counts the time of `guest` in `user` and that of `guest_nice` in `nice` as well (proc_stat(5)).
    total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    memory = psutil.virtual_memory()
    try:
        disk = psutil.disk_io_counters()
    except (OSError, RuntimeError, NotImplementedError):  # no /proc/diskstats, or one of an unknown form
        disk = None
    return MachineSample(
        cpu_seconds=total - times.get("idle", 0.0) - times.get("iowait", 0.0),
        cpu_total_seconds=total,
        memory_bytes=memory.total - memory.available,
        read_bytes=disk.read_bytes if disk is not None else math.nan,
        written_bytes=disk.write_bytes if disk is not None else math.nan,
    )


Reading = Sequence[float]
"""The time, then the numbers of one moment; see `CELLS`."""
Cell = tuple[str, str]
"""The key of a number of a reading: the name of its sample, and the value of its label."""

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
"""The metrics of a reading, each with the label that is kept; values are summed over the other labels."""


def cell(metric: Metric, key: str = "", *, part: str = "") -> Cell:
    """The key of a number; `part` of a histogram: `bucket`, `count` or `sum`."""
    return (f"{metric.name}_{part}" if part else metric.name, key)


def bucket_cells(metric: Metric) -> list[Cell]:
    """The keys of a histogram's buckets, the one without a bound last."""
    # The client library writes bounds as floats.
    return [cell(metric, bound, part="bucket") for bound in (*(str(float(bound)) for bound in metric.buckets), "+Inf")]


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
    """Samples the metrics as a scrape reads them, the event loop, the process and the machine."""

    def __init__(self, registry: CollectorRegistry, core: CoreCollector, loop: LoopMonitor) -> None:
        self._registry = registry.restricted_registry(
            {sample for sample, _ in CELLS} - {CPU_SECONDS[0], MEMORY_BYTES[0]}
        )
        self._core = core
        self._loop = loop
        self._process = psutil.Process()

    async def read(self) -> Reading:
        """All numbers of this moment; those of the disk may be older, and NaN."""
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
"""The label that is kept, by the name of the sample."""
HOUR_SECONDS: Final = 3600.0


class Window:
    """The readings of the last hour, taken every `step` seconds."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._rows: deque[Reading] = deque(maxlen=round(HOUR_SECONDS / step) + 1)

    def add(self, row: Reading) -> None:
        self._rows.append(row)

    def now(self, place: Cell) -> float:
        """The value in the newest reading."""
        return self._rows[-1][CELLS[place]]

    def increase(self, place: Cell, seconds: float) -> float:
        """The increase of a counter within the last `seconds`, or since the first reading if that is later."""
        index = CELLS[place]
        return self._rows[-1][index] - self._before(seconds)[index]

    def rate(self, place: Cell, seconds: float) -> float:
        """The increase per second; NaN at the first reading."""
        index, before = CELLS[place], self._before(seconds)
        elapsed = self._rows[-1][0] - before[0]
        return (self._rows[-1][index] - before[index]) / elapsed if elapsed > 0 else math.nan

    def quantile(self, q: float, bounds: Sequence[float], places: Sequence[Cell], seconds: float) -> float:
        """The quantile `q` (0 to 1) of a histogram, estimated as by Prometheus; NaN without values.

        `bounds` are the ascending upper bounds; `places` the cumulative counts, the last of which is that of all.
        """
        counts = [self.increase(place, seconds) for place in places]
        if not counts[-1] > 0:
            return math.nan
        rank = q * counts[-1]
        index = next(index for index, count in enumerate(counts) if count >= rank)
        if index == len(bounds):  # the last bucket has no upper bound
            return bounds[-1]
        lower, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
        return lower + (bounds[index] - lower) * (rank - below) / (counts[index] - below)

    def _before(self, seconds: float) -> Reading:
        return self._rows[max(0, len(self._rows) - 1 - round(seconds / self._step))]


_MINUTE: Final = 60.0
_RECENT: Final = 5 * _MINUTE
_CALM: Final = 30 * _MINUTE  # for percentiles of rare events, such as executions
ERRORS_PREFIX: Final = "errors."


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """A line of a chart."""

    name: str  # lines of the same chart share the part before the dot
    unit: str  # `count`, `per_second`, `seconds`, `bytes`, `bytes_per_second`, `usd`, or `ratio` of 1
    about: str  # its description
    value: Callable[[Window], float]  # computes the value at the newest reading; NaN without one


def _now(place: Cell) -> Callable[[Window], float]:
    return lambda window: window.now(place)


def _rate(place: Cell, seconds: float = _RECENT) -> Callable[[Window], float]:
    return lambda window: window.rate(place, seconds)


def _hourly(*places: Cell) -> Callable[[Window], float]:
    return lambda window: sum(window.increase(place, HOUR_SECONDS) for place in places)


def _p95(metric: Metric, seconds: float) -> Callable[[Window], float]:
    places = bucket_cells(metric)
    return lambda window: window.quantile(0.95, metric.buckets, places, seconds)


def _ratio(part: Cell, whole: Sequence[Cell], seconds: float) -> Callable[[Window], float]:
    """The increase of a counter divided by those of others; NaN while these are 0."""

    def value(window: Window) -> float:
        total = sum(window.increase(place, seconds) for place in whole)
        return window.increase(part, seconds) / total if total > 0 else math.nan

    return value


def _executions(*statuses: str) -> list[Cell]:
    return [cell(catalogue.EXECUTIONS_TOTAL, status) for status in statuses]


_P95: Final = "95th percentile of the"
_DURATION: Final = [cell(catalogue.EXECUTION_DURATION, part=part) for part in ("sum", "count")]
_BUSY: Final = _ratio(("machine", "cpu_seconds"), [("machine", "cpu_total_seconds")], _MINUTE)
# A killed execution did not fail, so it does not count in the success rate.
_SUCCESS: Final = _ratio(_executions("success")[0], _executions("success", "error", "timeout"), HOUR_SECONDS)
_ENDED: Final = _hourly(*_executions("success", "error", "timeout", "killed"))


def _chart_series() -> Iterator[tuple[str, str, str, Callable[[Window], float]]]:
    """The four panels of the guide, then resources, application and business of its system dashboard."""
    yield "connections", "count", "open connections", _now(cell(catalogue.CONNECTIONS_ACTIVE))
    for status in catalogue.EXECUTIONS_TOTAL.labels["status"]:
        what = "were refused" if status == "rejected" else f"ended ({status})"
        value = _rate(cell(catalogue.EXECUTIONS_TOTAL, status))
        yield f"executions.{status}", "per_second", f"executions that {what}, over 5 minutes", value
    slow = _p95(catalogue.EXECUTION_DURATION, _CALM)
    yield "execution_p95", "seconds", f"{_P95} duration of executions, over 30 minutes", slow
    for code in catalogue.ERRORS_TOTAL.labels["code"]:
        value = _rate(cell(catalogue.ERRORS_TOTAL, code))
        yield f"{ERRORS_PREFIX}{code}", "per_second", f"errors {code}, over 5 minutes", value

    yield "cpu.server", "ratio", "time of one core that the server takes", _rate(CPU_SECONDS, _MINUTE)
    yield "cpu.machine", "ratio", "time of all cores that the machine is busy", _BUSY
    yield "memory.server", "bytes", "memory of the server", _now(MEMORY_BYTES)
    yield "memory.machine", "bytes", "memory of the machine in use", _now(("machine", "memory_bytes"))
    yield "disk_free", "bytes", "free space of the data directory", _now(cell(catalogue.STORAGE_FREE))
    for done, how in (("read", "reads from"), ("written", "writes to")):
        value = _rate(("machine", f"{done}_bytes"), _MINUTE)
        yield f"disk.{done}", "bytes_per_second", f"what the machine {how} disks", value
    for direction, how in (("received", "from"), ("sent", "to")):
        value = _rate(cell(catalogue.MESSAGE_BYTES, direction), _MINUTE)
        yield f"network.{direction}", "bytes_per_second", f"frames {how} clients", value
    yield "loop_lag", "seconds", "largest lag of the event loop within a minute", _now(LOOP_LAG)

    for outcome in catalogue.REQUESTS_TOTAL.labels["outcome"]:
        value = _rate(cell(catalogue.REQUESTS_TOTAL, outcome))
        yield f"requests.{outcome}", "per_second", f"requests answered ({outcome}), over 5 minutes", value
    slow = _p95(catalogue.REQUEST_DURATION, _RECENT)
    yield "request_p95", "seconds", f"{_P95} time to an answer, over 5 minutes", slow
    yield "running", "count", "executions that run", _now(cell(catalogue.EXECUTIONS_ACTIVE))
    yield "queue", "count", "prompts that wait", _now(cell(catalogue.EXECUTION_QUEUE_DEPTH))
    yield "approvals", "count", "tool requests that wait for an answer", _now(cell(catalogue.APPROVALS_PENDING))

    yield "projects", "count", "projects", _now(cell(catalogue.PROJECTS_TOTAL))
    yield "executions_hourly", "count", "executions that ended within an hour", _ENDED
    mean = _ratio(_DURATION[0], _DURATION[1:], HOUR_SECONDS)
    yield "execution_mean", "seconds", "mean duration of the executions of an hour", mean
    yield "success_ratio", "ratio", "share of successes among the executions of an hour", _SUCCESS
    for kind in catalogue.CLAUDE_TOKENS.labels["type"]:
        value = _hourly(cell(catalogue.CLAUDE_TOKENS, kind))
        yield f"tokens.{kind}", "count", f"tokens used within an hour ({kind})", value
    yield "cost", "usd", "what the executions of an hour cost", _hourly(cell(catalogue.CLAUDE_COST))


CHART_SERIES: Final = tuple(ChartSeries(*row) for row in _chart_series())


class _Points:
    """The points of all charts of the last `seconds`, every `step` seconds; `count` were ever added."""

    def __init__(self, step: int, seconds: int) -> None:
        self.step = step
        self.count = 0
        self._kept: deque[tuple[int, Reading]] = deque(maxlen=seconds // step)

    def add(self, at: int, values: Iterable[float]) -> None:
        """Add a point: the time, in milliseconds since the Unix epoch, and a value for each series."""
        self._kept.append((at, array("d", values)))
        self.count += 1

    def since(self, first: int, stride: int) -> list[tuple[int, Reading]]:
        """The kept points from number `first` on whose number is a multiple of `stride`, the same for each client."""
        oldest = self.count - len(self._kept)
        start = -(-max(first, oldest) // stride) * stride
        return list(islice(self._kept, start - oldest, None, stride))


STEP_SECONDS: Final = 10
"""Time between two readings, and between the points of the last hour."""
_COARSE_SECONDS: Final = 60
_FINE_SECONDS: Final = 3600
DAY: Final = 24 * _FINE_SECONDS
_MOST_POINTS: Final = 360  # points of a reply; a chart on a phone has about as many pixels


class DashboardHistory:
    """Samples the metrics every `STEP_SECONDS` and keeps the last hour, and one sample a minute of the last day."""

    def __init__(self, read: Callable[[], Awaitable[Reading]], clock: Callable[[], float] = time.time) -> None:
        self._read = read
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
            # Missed steps, as after the machine slept, are skipped.
            taken = max(taken + 1, int((time.monotonic() - begin) / STEP_SECONDS))
            await asyncio.sleep(max(0.0, begin + taken * STEP_SECONDS - time.monotonic()))

    async def take(self) -> None:
        """Take one sample."""
        row = await self._read()
        # A chart needs ascending times; after the clock was set back they advance by 1 ms until it has caught up.
        self._last = max(round(self._clock() * 1000), self._last + 1)
        self._window.add(row)
        # Six significant digits keep replies short.
        values = [float(f"{series.value(self._window):.6g}") for series in CHART_SERIES]
        if self._fine.count % (_COARSE_SECONDS // STEP_SECONDS) == 0:
            self._coarse.add(self._last, values)
        self._fine.add(self._last, values)

    def follow(self, seconds: int) -> "HistoryFollower":
        """A reader of the points of the last `seconds` and of each new one."""
        points = self._fine if seconds <= _FINE_SECONDS else self._coarse
        wanted = seconds // points.step
        return HistoryFollower(self._began, points, points.count - wanted, -(-wanted // _MOST_POINTS))


class HistoryFollower:
    """Reads every `stride`-th point from number `next_number` on; `began` identifies the run of the server."""

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
        """The new points, without series of errors that are zero."""
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
