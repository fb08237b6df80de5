"""Log aggregation: Loki, with Grafana Alloy, or with Promtail for who has it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.output import Head, RenderedFile, text_file, yaml_file
from pocket_agent.monitoring.port import LOKI_GRPC, PROMTAIL
from pocket_agent.monitoring.target import Target

_JOB: Final = "pocket-agent"
_LABELS: Final = ("service", "level", "environment")
"""Fields with few values, by which Loki finds its streams."""
_METADATA: Final = ("correlation_id", "project_id", "trace_id", "span_id")
"""Fields that are kept beside a line, unindexed: as labels each request would be a stream of its own."""

_LOKI: Final = Head(
    what="Loki: keeps the server's log.",
    place="/etc/loki/config.yml",
    reload="restart Loki",
    notes=("Schema v13 with tsdb, which structured metadata needs; Loki 3 refuses older ones.",),
)
_ALLOY: Final = Head(
    what="Grafana Alloy: sends the server's log to Loki.",
    place="/etc/alloy/config.alloy",
    reload="alloy fmt FILE to check, then SIGHUP or POST /-/reload",
)
_PROMTAIL: Final = Head(
    what="Promtail: sends the server's log to Loki. It is past its end of life: prefer Alloy where you can choose.",
    place="/etc/promtail/config.yml",
    reload="promtail -check-syntax -config.file=FILE, then restart it",
)


def aggregation_files(settings: Settings, targets: Sequence[Target]) -> list[RenderedFile]:
    """The files of `loki/`, `alloy/` and `promtail/`."""
    return [
        yaml_file("loki/config.yml", _LOKI, _loki(settings)),
        text_file("alloy/config.alloy", _ALLOY, _alloy(settings, targets), mark="//"),
        yaml_file("promtail/config.yml", _PROMTAIL, _promtail(settings, targets)),
    ]


def _loki(settings: Settings) -> dict[str, Any]:
    stack = settings.monitoring
    return {
        "auth_enabled": False,
        "server": {
            "http_listen_address": "127.0.0.1",
            "http_listen_port": stack.loki_port,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": LOKI_GRPC,
        },
        "common": {
            "instance_addr": "127.0.0.1",
            "path_prefix": "/var/lib/loki",
            "storage": {
                "filesystem": {"chunks_directory": "/var/lib/loki/chunks", "rules_directory": "/var/lib/loki/rules"}
            },
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}},
        },
        "schema_config": {
            "configs": [
                {
                    "from": "2024-01-01",
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
        "limits_config": {"retention_period": _hours(stack.retention), "allow_structured_metadata": True},
        "compactor": {
            "working_directory": "/var/lib/loki/compactor",
            "retention_enabled": True,
            "delete_request_store": "filesystem",
        },
        "ruler": {"alertmanager_url": f"http://127.0.0.1:{stack.alertmanager_port}"},
        "analytics": {"reporting_enabled": False},
    }


def _hours(seconds: float) -> str:
    return f"{max(24, round(seconds / 3600))}h"


def _alloy(settings: Settings, targets: Sequence[Target]) -> str:
    parts = [_alloy_journal(target) for target in targets if target.log_file is None]
    files = [target.log_file for target in targets if target.log_file is not None]
    if files:
        parts.append(_alloy_files(files))
    parts += [_ALLOY_PROCESS, _alloy_write(settings.monitoring.loki_port)]
    return "\n".join(parts)


def _alloy_journal(target: Target) -> str:
    """A reader of one unit's journal: all its matches would have to hold, so there is one for each server."""
    name = re.sub(r"\W", "_", target.unit)
    return (
        f'loki.source.journal "{name}" {{\n'
        f"  matches    = {_string(f'_SYSTEMD_UNIT={target.unit}.service')}\n"
        f'  labels     = {{job = "{_JOB}"}}\n'
        "  forward_to = [loki.process.pocket_agent.receiver]\n"
        "}\n"
    )


def _alloy_files(files: Sequence[Path]) -> str:
    paths = "".join(f'    {{__path__ = {_string(str(file))}, job = "{_JOB}"}},\n' for file in files)
    return (
        f'local.file_match "pocket_agent" {{\n  path_targets = [\n{paths}  ]\n}}\n\n'
        'loki.source.file "pocket_agent" {\n'
        "  targets    = local.file_match.pocket_agent.targets\n"
        "  forward_to = [loki.process.pocket_agent.receiver]\n"
        "}\n"
    )


def _alloy_stage(stage: str, argument: str, names: Sequence[str]) -> str:
    width = max(map(len, names))
    lines = "".join(f'      {name:<{width}} = "{name}",\n' for name in names)
    return f"  stage.{stage} {{\n    {argument} = {{\n{lines}    }}\n  }}\n\n"


def _alloy_write(port: int) -> str:
    url = f"http://127.0.0.1:{port}/loki/api/v1/push"
    return f'loki.write "local" {{\n  endpoint {{\n    url = "{url}"\n  }}\n}}\n'


def _string(text: str) -> str:
    """A text in Alloy's language, whose escapes are those of Go: JSON's are among them."""
    return json.dumps(text, ensure_ascii=False)


_ALLOY_PROCESS: Final = (
    'loki.process "pocket_agent" {\n'
    + _alloy_stage("json", "expressions", ("timestamp", *_LABELS, *_METADATA))
    + _alloy_stage("labels", "values", _LABELS)
    + _alloy_stage("structured_metadata", "values", _METADATA)
    + '  stage.timestamp {\n    source = "timestamp"\n    format = "RFC3339Nano"\n  }\n\n'
    + "  forward_to = [loki.write.local.receiver]\n}\n"
)


def _promtail(settings: Settings, targets: Sequence[Target]) -> dict[str, Any]:
    stages: list[dict[str, Any]] = [
        {"json": {"expressions": {name: name for name in ("timestamp", *_LABELS, *_METADATA)}}},
        {"labels": dict.fromkeys(_LABELS)},
        {"structured_metadata": dict.fromkeys(_METADATA)},
        {"timestamp": {"source": "timestamp", "format": "RFC3339Nano"}},
    ]
    jobs: list[dict[str, Any]] = []
    units = [f"{target.unit}.service" for target in targets if target.log_file is None]
    files = [str(target.log_file) for target in targets if target.log_file is not None]
    if units:
        kept = {
            "source_labels": ["__journal__systemd_unit"],
            "regex": "|".join(map(re.escape, units)),
            "action": "keep",
        }
        jobs.append(
            {
                "job_name": "pocket-agent-journal",
                "journal": {"labels": {"job": _JOB}},
                "relabel_configs": [kept],
                "pipeline_stages": stages,
            }
        )
    if files:
        places = [{"targets": ["localhost"], "labels": {"job": _JOB, "__path__": file}} for file in files]
        jobs.append({"job_name": "pocket-agent-file", "static_configs": places, "pipeline_stages": stages})
    return {
        "server": {"http_listen_address": "127.0.0.1", "http_listen_port": PROMTAIL, "grpc_listen_port": 0},
        "positions": {"filename": "/var/lib/promtail/positions.yaml"},
        "clients": [{"url": f"http://127.0.0.1:{settings.monitoring.loki_port}/loki/api/v1/push"}],
        "scrape_configs": jobs,
    }
