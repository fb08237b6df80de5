"""docker-compose: the stack in containers, beside servers that run on the machine itself."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pocket_agent.config.settings import MonitoringSettings, Settings
from pocket_agent.monitoring import port
from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file
from pocket_agent.monitoring.program import alertmanager_flags, blackbox_flags, node_flags, prometheus_flags
from pocket_agent.monitoring.target import Target

IMAGES: Final = {
    "prometheus": "prom/prometheus:v3.5.0",
    "alertmanager": "prom/alertmanager:v0.28.1",
    "node-exporter": "prom/node-exporter:v1.9.1",
    "blackbox-exporter": "prom/blackbox-exporter:v0.27.0",
    "grafana": "grafana/grafana:12.1.0",
    "loki": "grafana/loki:3.5.3",
    "alloy": "grafana/alloy:v1.10.1",
    "tempo": "grafana/tempo:2.8.2",
    "otel-collector": "otel/opentelemetry-collector:0.131.1",
}
"""The images that the files are written for."""

_DATA: Final = ("prometheus", "alertmanager", "grafana", "loki", "alloy", "tempo")
_HEAD: Final = Head(
    what="The whole stack in containers, on the network of the machine, since everything listens on loopback.",
    place="wherever this directory is: docker compose up -d",
    reload="docker compose up -d; docker compose kill -s SIGHUP NAME for a changed configuration",
    notes=(
        "Host networking needs Linux. Promtail is not in it, since Alloy is.",
        "Files with secrets are mounted from their places; Prometheus and Alertmanager read them as uid 65534.",
        "Loki and Tempo are root in their containers, without any capability, because volumes begin as root's.",
    ),
)


def compose_file(settings: Settings, targets: Sequence[Target]) -> RenderedFile:
    """`docker-compose.yml`."""
    volumes: dict[str, Any] = {f"{name}-data": {} for name in _DATA}
    return yaml_file("docker-compose.yml", _HEAD, {"services": _services(settings, targets), "volumes": volumes})


def _service(name: str, command: Sequence[str], volumes: Sequence[object], **further: Any) -> dict[str, Any]:
    return {
        "image": IMAGES[name],
        "network_mode": "host",
        "restart": "unless-stopped",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        # A dollar sign begins a variable.
        **({"command": [word.replace("$", "$$") for word in command]} if command else {}),
        **({"volumes": list(volumes)} if volumes else {}),
        **further,
    }


def _mounts(paths: Iterable[Path | None]) -> list[dict[str, Any]]:
    """Files and directories of the machine at the same place in the container, to be read."""
    found = sorted({str(path) for path in paths if path is not None})
    return [
        {
            "type": "bind",
            "source": path.replace("$", "$$"),
            "target": path.replace("$", "$$"),
            "read_only": True,
            # Docker would make a directory of what is not there.
            "bind": {"create_host_path": False},
        }
        for path in found
    ]


def _services(settings: Settings, targets: Sequence[Target]) -> dict[str, Any]:
    return {**_metrics(settings.monitoring, targets), **_logs(targets), **_traces(), "grafana": _grafana(settings)}


def _metrics(stack: MonitoringSettings, targets: Sequence[Target]) -> dict[str, Any]:
    """Prometheus, Alertmanager and the exporters."""
    secrets = (
        stack.slack_url_file,
        stack.pagerduty_key_file,
        stack.email_password_file,
        stack.webhook_url_file,
        stack.watchdog_url_file,
    )
    # A renewed certificate of the server is another file, so its directory is mounted.
    trusted = [
        target.ca_file.parent if target.own_certificate else target.ca_file for target in targets if target.ca_file
    ]
    return {
        "prometheus": _service(
            "prometheus",
            prometheus_flags(stack, config="/etc/prometheus/prometheus.yml", data="/prometheus"),
            [
                "./prometheus:/etc/prometheus:ro",
                "prometheus-data:/prometheus",
                *_mounts(target.token_file for target in targets),
            ],
        ),
        "alertmanager": _service(
            "alertmanager",
            alertmanager_flags(stack, config="/etc/alertmanager/alertmanager.yml", data="/alertmanager"),
            ["./alertmanager:/etc/alertmanager:ro", "alertmanager-data:/alertmanager", *_mounts(secrets)],
        ),
        "node-exporter": _service(
            "node-exporter",
            node_flags(stack, ["--path.rootfs=/host"]),
            ["/:/host:ro,rslave"],
            pid="host",
            read_only=True,
        ),
        "blackbox-exporter": _service(
            "blackbox-exporter",
            blackbox_flags(stack, config="/etc/blackbox/blackbox.yml"),
            ["./blackbox:/etc/blackbox:ro", *_mounts(trusted)],
            read_only=True,
        ),
    }


def _logs(targets: Sequence[Target]) -> dict[str, Any]:
    files = [target.log_file.parent for target in targets if target.log_file is not None]
    journal = any(target.log_file is None for target in targets)
    reading = {"cap_add": ["DAC_READ_SEARCH"]} if files else {}
    return {
        "loki": _service(
            "loki",
            ["-config.file=/etc/loki/config.yml"],
            ["./loki:/etc/loki:ro", "loki-data:/var/lib/loki"],
            user="0:0",
        ),
        "alloy": _service(
            "alloy",
            [
                "run",
                f"--server.http.listen-addr=127.0.0.1:{port.ALLOY}",
                "--storage.path=/var/lib/alloy/data",
                "--disable-reporting",
                "/etc/alloy/config.alloy",
            ],
            [
                "./alloy:/etc/alloy:ro",
                "alloy-data:/var/lib/alloy/data",
                *(["/var/log/journal:/var/log/journal:ro", "/run/log/journal:/run/log/journal:ro"] if journal else []),
                *(["/etc/machine-id:/etc/machine-id:ro"] if journal else []),
                *_mounts(files),
            ],
            **reading,
        ),
    }


def _traces() -> dict[str, Any]:
    return {
        "otel-collector": _service(
            "otel-collector",
            ["--config=/etc/otelcol/config.yaml"],
            ["./otel-collector:/etc/otelcol:ro"],
            read_only=True,
        ),
        "tempo": _service(
            "tempo",
            ["-config.file=/etc/tempo/config.yml"],
            ["./tempo:/etc/tempo:ro", "tempo-data:/var/lib/tempo"],
            user="0:0",
        ),
    }


def _grafana(settings: Settings) -> dict[str, Any]:
    return _service(
        "grafana",
        [],
        [
            "./grafana/provisioning:/etc/grafana/provisioning:ro",
            "./grafana/dashboards:/var/lib/grafana/dashboards:ro",
            "grafana-data:/var/lib/grafana",
        ],
        environment={
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(settings.monitoring.grafana_port),
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        },
    )
