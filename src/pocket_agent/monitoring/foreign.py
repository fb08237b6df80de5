"""Metrics that alerts need and the catalogue does not have: those of other programs, and of the server's process."""

from typing import Final, Literal

from pocket_agent.observability.catalogue import PROCESS, Metric

SERVER_JOB: Final = "pocket-agent"
PROBE_JOB: Final = "blackbox"
JOBS: Final = (SERVER_JOB, "node", PROBE_JOB, "prometheus", "alertmanager")
"""The names of the scrape jobs that rules rely on."""


def _foreign(name: str, kind: Literal["counter", "gauge"], text: str, *labels: str) -> Metric:
    return Metric(name, kind, text, {"job": JOBS, **dict.fromkeys(labels, ())})


def _process(name: str, text: str, kind: Literal["counter", "gauge"] = "gauge") -> Metric:
    if name not in PROCESS:
        raise ValueError(f"{name} is not in the catalogue's list of the process")
    return _foreign(name, kind, text)


UP: Final = _foreign("up", "gauge", "Whether the last scrape of a target succeeded.")
PROBE_SUCCESS: Final = _foreign("probe_success", "gauge", "Whether the last probe succeeded (blackbox exporter).")
NOTIFICATIONS_DROPPED: Final = _foreign(
    "prometheus_notifications_dropped_total", "counter", "Alerts that Prometheus could hand to no Alertmanager."
)
NOTIFICATIONS_FAILED: Final = _foreign(
    "alertmanager_notifications_failed_total",
    "counter",
    "Notifications that Alertmanager could not deliver.",
    "integration",
)

RESIDENT_MEMORY: Final = _process("process_resident_memory_bytes", "Memory of the process.")
START_TIME: Final = _process("process_start_time_seconds", "When the process was started, as Unix time.")
CPU_SECONDS: Final = _process("process_cpu_seconds_total", "Processor time used.", "counter")
OPEN_FILES: Final = _process("process_open_fds", "Open file descriptors.")
MAX_FILES: Final = _process("process_max_fds", "The most file descriptors that may be open.")
