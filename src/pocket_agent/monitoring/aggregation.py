"""Log aggregation: Loki with Grafana Alloy, Promtail for who has it, or Elasticsearch, Logstash and Kibana."""

from collections.abc import Sequence
from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.output import Head, RenderedFile, text_file, yaml_file
from pocket_agent.monitoring.target import Target

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
_LOGSTASH: Final = Head(
    what="Logstash: takes the server's log from Filebeat and hands it to Elasticsearch.",
    place="/usr/share/logstash/pipeline/pocket-agent.conf",
    reload="logstash reloads it by itself (config.reload.automatic)",
)
_FILEBEAT: Final = Head(
    what="Filebeat: reads the server's log and sends it to Logstash.",
    place="/etc/filebeat/filebeat.yml",
    reload="filebeat test config -c FILE, then restart it",
)


def aggregation_files(settings: Settings, targets: Sequence[Target]) -> list[RenderedFile]:
    """The files of `loki/`, `alloy/`, `promtail/` and `elk/`."""
    return [
        yaml_file("loki/config.yml", _LOKI, _loki(settings)),
        text_file("alloy/config.alloy", _ALLOY, _alloy(settings, targets), mark="//"),
        yaml_file("promtail/config.yml", _PROMTAIL, _promtail(settings, targets)),
        text_file("elk/logstash/pipeline/pocket-agent.conf", _LOGSTASH, _LOGSTASH_PIPELINE),
        yaml_file("elk/filebeat/filebeat.yml", _FILEBEAT, _filebeat(targets)),
    ]


def _loki(settings: Settings) -> dict[str, Any]:
    stack = settings.monitoring
    return {
        "auth_enabled": False,
        "server": {
            "http_listen_address": "127.0.0.1",
            "http_listen_port": stack.loki_port,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": 9096,
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


def _units(targets: Sequence[Target]) -> list[str]:
    """The systemd units of the servers that log to the journal."""
    return [f"{target.unit}.service" for target in targets if target.log_file is None]


def _files(targets: Sequence[Target]) -> list[Target]:
    return [target for target in targets if target.log_file is not None]


def _alloy(settings: Settings, targets: Sequence[Target]) -> str:
    parts = []
    units = _units(targets)
    if units:
        matches = " ".join(f"_SYSTEMD_UNIT={unit}" for unit in units)
        parts.append(
            'loki.source.journal "pocket_agent" {\n'
            f'  matches    = "{matches}"\n'
            '  labels     = {job = "pocket-agent"}\n'
            "  forward_to = [loki.process.pocket_agent.receiver]\n"
            "}\n"
        )
    files = _files(targets)
    if files:
        paths = "\n".join(f'    {{__path__ = "{target.log_file}", job = "pocket-agent"}},' for target in files)
        parts.append(
            f'local.file_match "pocket_agent" {{\n  path_targets = [\n{paths}\n  ]\n}}\n\n'
            'loki.source.file "pocket_agent" {\n'
            "  targets    = local.file_match.pocket_agent.targets\n"
            "  forward_to = [loki.process.pocket_agent.receiver]\n"
            "}\n"
        )
    names = "\n".join(f'      {name:<14} = "{name}",' for name in (*_EXPRESSIONS, *_METADATA))
    metadata = "\n".join(f'      {name:<14} = "{name}",' for name in _METADATA)
    parts.append(
        'loki.process "pocket_agent" {\n'
        f"  stage.json {{\n    expressions = {{\n{names}\n    }}\n  }}\n\n"
        '  stage.labels {\n    values = {\n      service     = "service",\n      level       = "level",\n'
        '      environment = "environment",\n    }\n  }\n\n'
        f"  stage.structured_metadata {{\n    values = {{\n{metadata}\n    }}\n  }}\n\n"
        '  stage.timestamp {\n    source = "timestamp"\n    format = "RFC3339Nano"\n  }\n\n'
        "  forward_to = [loki.write.local.receiver]\n}\n"
    )
    parts.append(
        'loki.write "local" {\n  endpoint {\n'
        f'    url = "http://127.0.0.1:{settings.monitoring.loki_port}/loki/api/v1/push"\n'
        "  }\n}\n"
    )
    return "\n".join(parts)


_EXPRESSIONS: Final = ("timestamp", "level", "service", "environment")


def _promtail(settings: Settings, targets: Sequence[Target]) -> dict[str, Any]:
    stages: list[dict[str, Any]] = [
        {"json": {"expressions": {name: name for name in (*_EXPRESSIONS, *_METADATA)}}},
        {"labels": dict.fromkeys(("service", "level", "environment"))},
        {"structured_metadata": dict.fromkeys(_METADATA)},
        {"timestamp": {"source": "timestamp", "format": "RFC3339Nano"}},
    ]
    jobs: list[dict[str, Any]] = []
    if _units(targets):
        jobs.append(
            {
                "job_name": "pocket-agent-journal",
                "journal": {"labels": {"job": "pocket-agent"}},
                "relabel_configs": [
                    {
                        "source_labels": ["__journal__systemd_unit"],
                        "regex": "|".join(_units(targets)).replace(".", "\\."),
                        "action": "keep",
                    }
                ],
                "pipeline_stages": stages,
            }
        )
    if _files(targets):
        jobs.append(
            {
                "job_name": "pocket-agent",
                "static_configs": [
                    {
                        "targets": ["localhost"],
                        "labels": {"job": "pocket-agent", "__path__": str(target.log_file)},
                    }
                    for target in _files(targets)
                ],
                "pipeline_stages": stages,
            }
        )
    return {
        "server": {"http_listen_address": "127.0.0.1", "http_listen_port": 9080, "grpc_listen_port": 0},
        "positions": {"filename": "/var/lib/promtail/positions.yaml"},
        "clients": [{"url": f"http://127.0.0.1:{settings.monitoring.loki_port}/loki/api/v1/push"}],
        "scrape_configs": jobs,
    }


_LOGSTASH_PIPELINE: Final = """\
input {
  beats {
    port => 5044
  }
}

filter {
  json {
    source => "message"
    target => "log"
    skip_on_invalid_json => true
  }
  if [log] {
    date {
      match => ["[log][timestamp]", "ISO8601"]
    }
    mutate {
      rename => {
        "[log][level]" => "[level]"
        "[log][msg]" => "[msg]"
        "[log][service]" => "[service_name]"
        "[log][environment]" => "[environment]"
        "[log][version]" => "[service_version]"
        "[log][correlation_id]" => "[correlation_id]"
        "[log][project_id]" => "[project_id]"
        "[log][duration_ms]" => "[duration_ms]"
        "[log][trace_id]" => "[trace_id]"
        "[log][span_id]" => "[span_id]"
        "[log][fields]" => "[fields]"
      }
      remove_field => ["log", "message"]
    }
  }
}

output {
  elasticsearch {
    hosts => ["http://elasticsearch:9200"]
    user => "elastic"
    password => "${ELASTIC_PASSWORD}"
    index => "pocket-agent-%{+YYYY.MM.dd}"
  }
}
"""


def _filebeat(targets: Sequence[Target]) -> dict[str, Any]:
    inputs: list[dict[str, Any]] = []
    if _units(targets):
        inputs.append(
            {
                "type": "journald",
                "id": "pocket-agent-journal",
                "include_matches": {"match": [f"_SYSTEMD_UNIT={unit}" for unit in _units(targets)]},
            }
        )
    if _files(targets):
        inputs.append(
            {"type": "filestream", "id": "pocket-agent", "paths": [str(target.log_file) for target in _files(targets)]}
        )
    return {"filebeat.inputs": inputs, "output.logstash": {"hosts": ["127.0.0.1:5044"]}}
