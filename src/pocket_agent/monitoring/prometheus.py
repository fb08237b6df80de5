"""Prometheus: what is scraped, and where alerts go."""

from collections.abc import Sequence
from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.config.unit import format_duration
from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file
from pocket_agent.monitoring.target import Target

_SAMPLE_LIMIT: Final = 2000
"""Series that one scrape may give: the server has under 500, so more is a fault."""

_PROBE_SECONDS: Final = 2.0
"""Shortest time between two probes: the exporter gives up half a second before the scrape does (--timeout-offset)."""

_DROPPED: Final = [{"source_labels": ["__name__"], "regex": "python_gc_.*|.*_created", "action": "drop"}]

_HEAD: Final = Head(
    what="Prometheus: scrapes the server, the machine and the stack itself, evaluates the rules, sends the alerts.",
    place="/etc/prometheus/prometheus.yml, with rules/ beside it",
    reload="promtool check config FILE, then SIGHUP or POST /-/reload",
    notes=("Prometheus listens on a port of its own: 9090 is the server's metrics listener.",),
)


def prometheus_file(settings: Settings, targets: Sequence[Target]) -> RenderedFile:
    """`prometheus/prometheus.yml`."""
    stack = settings.monitoring
    interval = format_duration(stack.scrape_interval)
    value = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": format_duration(min(10.0, stack.scrape_interval)),
            "evaluation_interval": interval,
            "external_labels": {"monitor": "pocket-agent-monitor"},
        },
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{stack.alertmanager_port}"]}]}]},
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [*_servers(targets), *_probes(settings, targets), *_programs(settings)],
    }
    return yaml_file("prometheus/prometheus.yml", _HEAD, value)


def _servers(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """The servers' own metrics: one job; a server that asks for a token needs a scrape of its own."""
    jobs = []
    for number, target in enumerate(targets):
        jobs.append(
            {
                # Job names are unique in a file; the label is the same for all.
                "job_name": "pocket-agent" if number == 0 else f"pocket-agent-{number + 1}",
                "sample_limit": _SAMPLE_LIMIT,
                **({"authorization": {"credentials_file": str(target.token_file)}} if target.token_file else {}),
                "static_configs": [
                    {
                        "targets": [target.metrics],
                        "labels": {"service": target.service, "environment": target.environment},
                    }
                ],
                "relabel_configs": [{"target_label": "job", "replacement": "pocket-agent"}],
                "metric_relabel_configs": _DROPPED,
            }
        )
    return jobs


def _probes(settings: Settings, targets: Sequence[Target]) -> list[dict[str, Any]]:
    """What a client sees from outside, through the blackbox exporter."""
    exporter = f"127.0.0.1:{settings.monitoring.blackbox_port}"
    pace: dict[str, str] = {}
    if settings.monitoring.scrape_interval < _PROBE_SECONDS:
        pace = dict.fromkeys(("scrape_interval", "scrape_timeout"), format_duration(_PROBE_SECONDS))
    jobs = []
    for job, module in (("blackbox", "websocket_check"), ("blackbox-http", "http_check")):
        for number, target in enumerate(targets):
            suffix = "" if number == 0 else f"_{number + 1}"
            address = target.address if job == "blackbox" else f"{target.url}/livez"
            jobs.append(
                {
                    "job_name": job + suffix.replace("_", "-"),
                    **pace,
                    "metrics_path": "/probe",
                    "params": {"module": [module + suffix]},
                    "static_configs": [{"targets": [address], "labels": {"service": target.service}}],
                    "relabel_configs": [
                        {"source_labels": ["__address__"], "target_label": "__param_target"},
                        {"target_label": "instance", "replacement": target.metrics},
                        {"target_label": "job", "replacement": job},
                        {"target_label": "__address__", "replacement": exporter},
                    ],
                }
            )
    return jobs


def _programs(settings: Settings) -> list[dict[str, Any]]:
    """The machine, and the programs of the stack."""
    stack = settings.monitoring
    ports = {
        "node": stack.node_port,
        "prometheus": stack.prometheus_port,
        "alertmanager": stack.alertmanager_port,
        "blackbox-exporter": stack.blackbox_port,
    }
    return [
        {
            "job_name": job,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": "go_.*", "action": "drop"}],
        }
        for job, port in ports.items()
    ]
