"""Grafana's provisioning: where its figures, logs and traces come from, and which dashboards it loads."""

from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file

PROMETHEUS_UID: Final = "pocket-agent-prometheus"
LOKI_UID: Final = "pocket-agent-loki"
TEMPO_UID: Final = "pocket-agent-tempo"

_SOURCES: Final = Head(
    what="Grafana: the data sources.",
    place="/etc/grafana/provisioning/datasources/pocket-agent.yml",
    reload="restart Grafana",
)
_DASHBOARDS: Final = Head(
    what="Grafana: loads the dashboards from a directory.",
    place="/etc/grafana/provisioning/dashboards/pocket-agent.yml, the dashboards in /var/lib/grafana/dashboards",
    reload="restart Grafana; changed dashboards are taken up by themselves",
)


def provisioning_files(settings: Settings) -> list[RenderedFile]:
    """The files of `grafana/provisioning/`."""
    provider = {
        "name": "pocket-agent",
        "folder": "Pocket Agent",
        "type": "file",
        "allowUiUpdates": True,
        "options": {"path": "/var/lib/grafana/dashboards"},
    }
    sources = {"apiVersion": 1, "datasources": _sources(settings)}
    dashboards = {"apiVersion": 1, "providers": [provider]}
    return [
        yaml_file("grafana/provisioning/datasources/pocket-agent.yml", _SOURCES, sources),
        yaml_file("grafana/provisioning/dashboards/pocket-agent.yml", _DASHBOARDS, dashboards),
    ]


def _sources(settings: Settings) -> list[dict[str, Any]]:
    stack = settings.monitoring
    to_trace = {"name": "trace_id", "datasourceUid": TEMPO_UID}
    return [
        {
            "name": "Prometheus",
            "type": "prometheus",
            "uid": PROMETHEUS_UID,
            "access": "proxy",
            "url": f"http://127.0.0.1:{stack.prometheus_port}",
            "isDefault": True,
            "jsonData": {
                "timeInterval": f"{stack.scrape_interval:g}s",
                "httpMethod": "POST",
                "exemplarTraceIdDestinations": [to_trace],
            },
        },
        {
            "name": "Loki",
            "type": "loki",
            "uid": LOKI_UID,
            "access": "proxy",
            "url": f"http://127.0.0.1:{stack.loki_port}",
            # Grafana replaces $NAME in these files; a doubled sign is one that stays.
            "jsonData": {
                "derivedFields": [
                    {
                        "name": "trace_id",
                        "matcherType": "label",
                        "matcherRegex": "trace_id",
                        "url": "$${__value.raw}",
                        "datasourceUid": TEMPO_UID,
                    }
                ]
            },
        },
        {
            "name": "Tempo",
            "type": "tempo",
            "uid": TEMPO_UID,
            "access": "proxy",
            "url": f"http://127.0.0.1:{stack.tempo_port}",
            "jsonData": {
                "tracesToLogsV2": {"datasourceUid": LOKI_UID, "filterByTraceID": True},
                "serviceMap": {"datasourceUid": PROMETHEUS_UID},
            },
        },
    ]
