"""The way of the traces: the OpenTelemetry collector takes them, Tempo keeps them."""

from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring import port
from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file

_COLLECTOR: Final = Head(
    what="OpenTelemetry collector: takes spans by OTLP and hands them to Tempo.",
    place="/etc/otelcol/config.yaml",
    reload="otelcol validate --config FILE, then SIGHUP",
)
_TEMPO: Final = Head(
    what="Tempo: keeps the traces.",
    place="/etc/tempo/config.yml",
    reload="restart Tempo",
)


def tracing_files(settings: Settings) -> list[RenderedFile]:
    """The files of `otel-collector/` and `tempo/`."""
    return [
        yaml_file("otel-collector/config.yaml", _COLLECTOR, _collector(settings)),
        yaml_file("tempo/config.yml", _TEMPO, _tempo(settings)),
    ]


def _collector(settings: Settings) -> dict[str, Any]:
    return {
        "receivers": {
            "otlp": {
                "protocols": {
                    "http": {"endpoint": f"127.0.0.1:{settings.monitoring.otlp_port}"},
                    "grpc": {"endpoint": f"127.0.0.1:{port.OTLP_GRPC}"},
                }
            }
        },
        "processors": {"memory_limiter": {"check_interval": "1s", "limit_mib": 256}, "batch": {}},
        "exporters": {
            "otlp/tempo": {"endpoint": f"127.0.0.1:{port.TEMPO_OTLP}", "tls": {"insecure": True}},
        },
        "service": {
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "batch"],
                    "exporters": ["otlp/tempo"],
                }
            },
            "telemetry": {"metrics": {"level": "none"}},
        },
    }


def _tempo(settings: Settings) -> dict[str, Any]:
    hours = max(24, round(settings.monitoring.retention / 3600))
    return {
        "server": {
            "http_listen_address": "127.0.0.1",
            "http_listen_port": settings.monitoring.tempo_port,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": port.TEMPO_GRPC,
        },
        "distributor": {"receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{port.TEMPO_OTLP}"}}}}},
        "compactor": {"compaction": {"block_retention": f"{hours}h"}},
        "storage": {
            "trace": {
                "backend": "local",
                "local": {"path": "/var/lib/tempo/blocks"},
                "wal": {"path": "/var/lib/tempo/wal"},
            }
        },
        "usage_report": {"reporting_enabled": False},
    }
