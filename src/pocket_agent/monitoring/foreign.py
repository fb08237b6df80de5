"""Metrics that are not in the catalogue: those of other programs, and of the server's process."""

from typing import Final, Literal

from pocket_agent.observability.catalogue import PROCESS, Metric

SERVER_JOB: Final = "pocket-agent"
PROBE_JOB: Final = "blackbox"
HTTP_PROBE_JOB: Final = "blackbox-http"
MACHINE_JOB: Final = "node"
STACK_JOBS: Final = (MACHINE_JOB, PROBE_JOB, HTTP_PROBE_JOB, "blackbox-exporter", "prometheus", "alertmanager")
"""The scrape jobs of the stack itself; a probe is up when the exporter has carried it out, whatever it found."""
JOBS: Final = (SERVER_JOB, *STACK_JOBS)
"""The names of the scrape jobs that rules and dashboards rely on."""


def _foreign(name: str, kind: Literal["counter", "gauge"], text: str, *labels: str) -> Metric:
    return Metric(name, kind, text, {"job": JOBS, **dict.fromkeys(labels, ())})


def _process(name: str, text: str, kind: Literal["counter", "gauge"] = "gauge") -> Metric:
    if name not in PROCESS:
        raise ValueError(f"{name} is not in the catalogue's list of the process")
    return _foreign(name, kind, text)


UP: Final = _foreign("up", "gauge", "Whether the last scrape of a target succeeded.")
SCRAPE_DURATION: Final = _foreign("scrape_duration_seconds", "gauge", "How long the last scrape of a target took.")
SCRAPED_SERIES: Final = _foreign(
    "scrape_samples_post_metric_relabeling", "gauge", "How many series the last scrape of a target gave."
)
ALERTS: Final = _foreign(
    "ALERTS", "gauge", "Alerts, as Prometheus records them.", "alertname", "alertstate", "severity", "service"
)
PROBE_SUCCESS: Final = _foreign("probe_success", "gauge", "Whether the last probe succeeded (blackbox exporter).")
NOTIFICATIONS_DROPPED: Final = _foreign(
    "prometheus_notifications_dropped_total", "counter", "Alerts that Prometheus could hand to no Alertmanager."
)
NOTIFICATIONS: Final = _foreign(
    "alertmanager_notifications_total", "counter", "Notifications that Alertmanager tried to deliver.", "integration"
)
NOTIFICATIONS_FAILED: Final = _foreign(
    "alertmanager_notifications_failed_total",
    "counter",
    "Notifications that Alertmanager could not deliver.",
    "integration",
)

MACHINE_CPU_SECONDS: Final = _foreign(
    "node_cpu_seconds_total", "counter", "Time of each processor by what it was used for.", "cpu", "mode"
)
MACHINE_MEMORY: Final = _foreign("node_memory_MemTotal_bytes", "gauge", "Memory of the machine.")
MACHINE_MEMORY_AVAILABLE: Final = _foreign(
    "node_memory_MemAvailable_bytes", "gauge", "Memory that programs can have without swapping."
)
DISK_READ: Final = _foreign("node_disk_read_bytes_total", "counter", "Bytes read from disks.", "device")
DISK_WRITTEN: Final = _foreign("node_disk_written_bytes_total", "counter", "Bytes written to disks.", "device")
NETWORK_RECEIVED: Final = _foreign("node_network_receive_bytes_total", "counter", "Bytes received.", "device")
NETWORK_SENT: Final = _foreign("node_network_transmit_bytes_total", "counter", "Bytes sent.", "device")

RESIDENT_MEMORY: Final = _process("process_resident_memory_bytes", "Memory of the process.")
START_TIME: Final = _process("process_start_time_seconds", "When the process was started, as Unix time.")
VIRTUAL_MEMORY: Final = _process("process_virtual_memory_bytes", "Address space of the process.")
CPU_SECONDS: Final = _process("process_cpu_seconds_total", "Processor time used.", "counter")
OPEN_FILES: Final = _process("process_open_fds", "Open file descriptors.")
MAX_FILES: Final = _process("process_max_fds", "The most file descriptors that may be open.")
