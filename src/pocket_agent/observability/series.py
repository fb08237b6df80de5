"""What the dashboard shows, each as a figure of a moment. The windows are those of the recording rules."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import Metric
from pocket_agent.observability.reading import CPU_SECONDS, LOOP_LAG, MEMORY_BYTES, bucket_cells, cell
from pocket_agent.observability.window import HOUR, Window

_MINUTE: Final = 60.0
_RECENT: Final = 5 * _MINUTE
_CALM: Final = 30 * _MINUTE
"""For the percentile of what happens seldom, such as executions."""
_ENDED: Final = ("success", "error", "timeout", "killed")
_JUDGED: Final = ("success", "error", "timeout")
"""What counts for the success rate: who kills an execution does not say that it failed."""
ERRORS_PREFIX: Final = "errors."


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        name: what stands before a dot is common to the lines of one chart.
        unit: of its values: `count`, `per_second`, `seconds`, `bytes`, `bytes_per_second`, `usd`, or `ratio` of 1.
        about: what it says.
        figure: its value at the newest reading; NaN when there is none.
    """

    name: str
    unit: str
    about: str
    figure: Callable[[Window], float]


def _now(metric: Metric) -> Callable[[Window], float]:
    place = cell(metric)
    return lambda window: window.now(place)


def _rate(metric: Metric, key: str, seconds: float = _RECENT) -> Callable[[Window], float]:
    place = cell(metric, key)
    return lambda window: window.rate(place, seconds)


def _hourly(metric: Metric, *keys: str) -> Callable[[Window], float]:
    places = [cell(metric, key) for key in keys or ("",)]
    return lambda window: sum(window.increase(place, HOUR) for place in places)


def _p95(metric: Metric, seconds: float) -> Callable[[Window], float]:
    places = bucket_cells(metric)
    return lambda window: window.quantile(0.95, metric.buckets, places, seconds)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _mean(window: Window) -> float:
    total = window.increase(cell(catalogue.EXECUTION_DURATION, part="sum"), HOUR)
    return _share(total, window.increase(cell(catalogue.EXECUTION_DURATION, part="count"), HOUR))


def _success(window: Window) -> float:
    ended = {status: window.increase(cell(catalogue.EXECUTIONS_TOTAL, status), HOUR) for status in _JUDGED}
    return _share(ended["success"], sum(ended.values()))


def _machine_cpu(window: Window) -> float:
    busy = window.increase(("machine", "cpu_seconds"), _MINUTE)
    return _share(busy, window.increase(("machine", "cpu_total_seconds"), _MINUTE))


def _server_cpu(window: Window) -> float:
    return window.rate(CPU_SECONDS, _MINUTE)


def _machine_memory(window: Window) -> float:
    return window.now(("machine", "memory_bytes"))


def _machine(name: str) -> Callable[[Window], float]:
    return lambda window: window.rate(("machine", name), _MINUTE)


def _guide() -> Iterator[Series]:
    yield Series("connections", "count", "open connections", _now(catalogue.CONNECTIONS_ACTIVE))
    for status in catalogue.EXECUTIONS_TOTAL.labels["status"]:
        about = f"executions that ended ({status}), over 5 minutes"
        if status == "rejected":
            about = "executions that were refused, over 5 minutes"
        yield Series(f"executions.{status}", "per_second", about, _rate(catalogue.EXECUTIONS_TOTAL, status))
    yield Series(
        "execution_p95",
        "seconds",
        "95th percentile of the duration of executions, over 30 minutes",
        _p95(catalogue.EXECUTION_DURATION, _CALM),
    )
    for code in catalogue.ERRORS_TOTAL.labels["code"]:
        yield Series(
            f"{ERRORS_PREFIX}{code}",
            "per_second",
            f"errors {code}, over 5 minutes",
            _rate(catalogue.ERRORS_TOTAL, code),
        )


def _resources() -> Iterator[Series]:
    yield Series(
        "cpu.server",
        "ratio",
        "time of one core that the server takes",
        lambda window: window.rate(CPU_SECONDS, _MINUTE),
    )
    yield Series("cpu.machine", "ratio", "time of all cores that the machine is busy", _machine_cpu)
    yield Series("memory.server", "bytes", "memory of the server", lambda window: window.now(MEMORY_BYTES))
    yield Series(
        "memory.machine",
        "bytes",
        "memory of the machine in use",
        lambda window: window.now(("machine", "memory_bytes")),
    )
    yield Series("disk_free", "bytes", "free space of the data directory", _now(catalogue.STORAGE_FREE))
    yield Series("disk.read", "bytes_per_second", "what the machine reads from disks", _machine("read_bytes"))
    yield Series("disk.written", "bytes_per_second", "what the machine writes to disks", _machine("written_bytes"))
    for direction in ("received", "sent"):
        yield Series(
            f"network.{direction}",
            "bytes_per_second",
            f"frames {'from' if direction == 'received' else 'to'} clients",
            _rate(catalogue.MESSAGE_BYTES, direction, _MINUTE),
        )
    yield Series("loop_lag", "seconds", "largest lag of the event loop within a minute", lambda w: w.now(LOOP_LAG))


def _application() -> Iterator[Series]:
    for outcome in catalogue.REQUESTS_TOTAL.labels["outcome"]:
        yield Series(
            f"requests.{outcome}",
            "per_second",
            f"requests answered ({outcome}), over 5 minutes",
            _rate(catalogue.REQUESTS_TOTAL, outcome),
        )
    yield Series(
        "request_p95",
        "seconds",
        "95th percentile of the time to an answer, over 5 minutes",
        _p95(catalogue.REQUEST_DURATION, _RECENT),
    )
    yield Series("running", "count", "executions that run", _now(catalogue.EXECUTIONS_ACTIVE))
    yield Series("queue", "count", "prompts that wait", _now(catalogue.EXECUTION_QUEUE_DEPTH))
    yield Series("approvals", "count", "tool requests that wait for an answer", _now(catalogue.APPROVALS_PENDING))


def _business() -> Iterator[Series]:
    yield Series("projects", "count", "projects", _now(catalogue.PROJECTS_TOTAL))
    yield Series(
        "executions_hourly",
        "count",
        "executions that ended within an hour",
        _hourly(catalogue.EXECUTIONS_TOTAL, *_ENDED),
    )
    yield Series("execution_mean", "seconds", "mean duration of the executions of an hour", _mean)
    yield Series("success_ratio", "ratio", "share of successes among the executions of an hour", _success)
    for kind in catalogue.CLAUDE_TOKENS.labels["type"]:
        yield Series(
            f"tokens.{kind}", "count", f"tokens used within an hour ({kind})", _hourly(catalogue.CLAUDE_TOKENS, kind)
        )
    yield Series("cost", "usd", "what the executions of an hour cost", _hourly(catalogue.CLAUDE_COST))


SERIES: Final[tuple[Series, ...]] = (*_guide(), *_resources(), *_application(), *_business())
"""All of them: the guide's four panels, then the three groups of its system dashboard."""
