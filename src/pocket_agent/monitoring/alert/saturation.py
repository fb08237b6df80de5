"""Alerts of what runs out: connections, projects, slots, memory, disk, file descriptors, the event loop's time."""

from collections.abc import Iterator, Mapping
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.config.unit import format_duration, format_size
from pocket_agent.monitoring.foreign import MAX_FILES, OPEN_FILES, SERVER_JOB
from pocket_agent.monitoring.period import days, hours, minutes
from pocket_agent.monitoring.promql import before, foreseen
from pocket_agent.monitoring.recording import LOOP_LAG_P99
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.selector import select
from pocket_agent.monitoring.vector import Vector
from pocket_agent.observability import catalogue


def used(limit: str) -> Vector:
    """The used share of a limit; nothing where there is none."""
    return select(catalogue.LIMIT_USAGE, limit=limit) / select(catalogue.LIMIT, limit=limit).above(0)


ALERTED_LIMITS: Final[Mapping[str, str]] = {
    "connections": "TooManyConnections",
    "projects": "LimitNearlyReached",
    "executions": "LimitNearlyReached",
    "memory_bytes": "HighMemoryUsage",
    "cost_usd_per_day": "ClaudeCostBudget",
}
"""Which alert watches each limit."""
UNALERTED_LIMITS: Final[Mapping[str, str]] = {"processes": "idle ones are kept up to the limit on purpose"}
"""Which limits may be reached, and why."""

_CONNECTIONS: Final = used("connections")
_PROJECTS: Final = used("projects")
# Running at the limit is good use of it, until prompts wait.
_EXECUTIONS: Final = used("executions")
_WAITING: Final = select(catalogue.EXECUTION_QUEUE_DEPTH).above(0)
_MEMORY: Final = used("memory_bytes")
_FILES: Final = select(OPEN_FILES, job=SERVER_JOB) / select(MAX_FILES, job=SERVER_JOB)
_FREE: Final = select(catalogue.STORAGE_FREE)
# The figure is NaN while the disk does not answer; one NaN would make the whole line one.
_FORESEEN: Final = foreseen(_FREE.at_least(0), hours(6), days(1), minutes(5))
# A line through the first minutes foresees anything.
_LONG_KNOWN: Final = before(_FREE, hours(3))


def saturation_alerts(settings: Settings) -> Iterator[Alert]:
    """The alerts, with the thresholds of the settings."""
    yield from _limit_alerts(settings)
    yield from _disk_alerts(settings)
    lag = settings.alerts.loop_lag
    yield Alert(
        "EventLoopLagHigh",
        "warning",
        minutes(5),
        LOOP_LAG_P99.query.at_least(lag),
        summary="The server answers late",
        description="The latest 1 % of what the event loop of {{ $labels.instance }} has to do waits "
        f"{{{{ $value | humanizeDuration }}}} or more; {format_duration(lag)} are too much.",
        meaning="The event loop is blocked or overloaded, so every client waits.",
    )


def _limit_alerts(settings: Settings) -> Iterator[Alert]:
    ratio = settings.alerts.limit_ratio
    yield Alert(
        "TooManyConnections",
        "warning",
        minutes(5),
        _CONNECTIONS.above(ratio),
        summary="Connection limit approaching",
        description="{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the connections it may have.",
        meaning="So many clients are connected that the next ones may be refused.",
    )
    yield Alert(
        "LimitNearlyReached",
        "warning",
        minutes(15),
        _PROJECTS.above(ratio).otherwise(_EXECUTIONS.above(ratio).where(_WAITING, "job", "instance")),
        summary="A limit is nearly reached",
        description="{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its limit of "
        "{{ $labels.limit }}.",
        meaning="Hardly any project can be added, or prompts wait because all execution slots are taken.",
    )
    yield Alert(
        "HighMemoryUsage",
        "warning",
        minutes(5),
        _MEMORY.above(settings.alerts.memory_ratio),
        summary="High memory usage",
        description="{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the memory it may have.",
        meaning="The server nears `limits.memory` or the limit of its container, where it would be killed.",
    )
    yield Alert(
        "FileDescriptorsHigh",
        "warning",
        minutes(5),
        _FILES.above(ratio),
        summary="File descriptors run out",
        description="{{ $labels.instance }} has {{ $value | humanizePercentage }} of the files open that it may have.",
        meaning="Hardly any file or connection can be opened any more (ulimit -n, LimitNOFILE).",
    )


def _disk_alerts(settings: Settings) -> Iterator[Alert]:
    least = settings.alerts.disk_free
    yield Alert(
        "DiskSpaceLow",
        "critical",
        minutes(5),
        _FREE.below(least),
        summary="Low disk space",
        description="The disk of the data directory of {{ $labels.instance }} has {{ $value | humanize1024 }}B left, "
        f"less than {format_size(least)}.",
        meaning="The disk of the data directory is nearly full; without space nothing is executed.",
    )
    yield Alert(
        "DiskWillFillIn24h",
        "warning",
        minutes(30),
        _FREE.where(_FORESEEN.below(0)).where(_LONG_KNOWN),
        summary="The disk will be full within a day",
        description="The disk of the data directory of {{ $labels.instance }} has {{ $value | humanize1024 }}B left "
        "and will be full within 24 hours if it fills up as in the last 6.",
        meaning="The free space falls so fast that none will be left tomorrow.",
    )
