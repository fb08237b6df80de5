"""The programs of the stack that run the same way by hand, as a service and in a container, and with which flags."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pocket_agent.config.settings import MonitoringSettings
from pocket_agent.config.unit import format_duration

NODE_EXCLUSIONS: Final = (
    "--collector.filesystem.mount-points-exclude=^/(sys|proc|dev|host|etc)($|/)",
    "--collector.netclass.ignored-devices=^(veth.*|docker.*|br-.*)$",
)


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the stack.

    Attributes:
        name: as its authors call it.
        binaries: the names under which it may be installed; Debian's last.
        package: Debian's package, or where else it comes from.
        setting: the setting of its port.
    """

    name: str
    binaries: tuple[str, ...]
    package: str
    setting: str


PROMETHEUS: Final = Program("prometheus", ("prometheus",), "Debian: prometheus", "monitoring.prometheus_port")
ALERTMANAGER: Final = Program(
    "alertmanager",
    ("alertmanager", "prometheus-alertmanager"),
    "Debian: prometheus-alertmanager",
    "monitoring.alertmanager_port",
)
NODE_EXPORTER: Final = Program(
    "node_exporter",
    ("node_exporter", "prometheus-node-exporter"),
    "Debian: prometheus-node-exporter",
    "monitoring.node_port",
)
BLACKBOX_EXPORTER: Final = Program(
    "blackbox_exporter",
    ("blackbox_exporter", "prometheus-blackbox-exporter"),
    "Debian: prometheus-blackbox-exporter",
    "monitoring.blackbox_port",
)
GRAFANA: Final = Program("grafana", ("grafana",), "Grafana's own packages", "monitoring.grafana_port")
PROGRAMS: Final = (PROMETHEUS, ALERTMANAGER, NODE_EXPORTER, BLACKBOX_EXPORTER, GRAFANA)
"""What `pocket-agent monitoring up` runs, in this order."""


def prometheus_flags(stack: MonitoringSettings, *, config: str, data: str) -> list[str]:
    """Flags of Prometheus.

    Args:
        stack: the stack's settings.
        config: path of prometheus.yml.
        data: directory of the series.
    """
    return [
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--storage.tsdb.retention.time={format_duration(stack.retention)}",
        f"--web.listen-address=127.0.0.1:{stack.prometheus_port}",
        f"--web.external-url=http://127.0.0.1:{stack.prometheus_port}/",
        "--web.enable-lifecycle",
        "--enable-feature=exemplar-storage",
    ]


def alertmanager_flags(stack: MonitoringSettings, *, config: str, data: str) -> list[str]:
    """Flags of Alertmanager; without a port for its peers, since it has none."""
    return [
        f"--config.file={config}",
        f"--storage.path={data}",
        f"--web.listen-address=127.0.0.1:{stack.alertmanager_port}",
        f"--web.external-url=http://127.0.0.1:{stack.alertmanager_port}/",
        "--cluster.listen-address=",
    ]


def node_flags(stack: MonitoringSettings, further: Sequence[str] = ()) -> list[str]:
    """Flags of the node exporter."""
    return [f"--web.listen-address=127.0.0.1:{stack.node_port}", *NODE_EXCLUSIONS, *further]


def blackbox_flags(stack: MonitoringSettings, *, config: str) -> list[str]:
    """Flags of the blackbox exporter."""
    return [f"--config.file={config}", f"--web.listen-address=127.0.0.1:{stack.blackbox_port}"]


def grafana_flags(stack: MonitoringSettings, *, provisioning: str, data: str) -> list[str]:
    """Flags of `grafana server`, which its packages put into /usr/share/grafana."""
    return [
        "server",
        "--homepath=/usr/share/grafana",
        f"cfg:paths.data={data}",
        f"cfg:paths.provisioning={provisioning}",
        "cfg:server.http_addr=127.0.0.1",
        f"cfg:server.http_port={stack.grafana_port}",
        "cfg:analytics.reporting_enabled=false",
        "cfg:analytics.check_for_updates=false",
    ]
