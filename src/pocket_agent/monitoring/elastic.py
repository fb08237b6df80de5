"""Elasticsearch, Logstash and Kibana as another place for the log."""

from collections.abc import Sequence
from typing import Any, Final

from pocket_agent.monitoring import port
from pocket_agent.monitoring.output import Head, RenderedFile, json_file, text_file, yaml_file
from pocket_agent.monitoring.target import Target

_VERSION: Final = "8.19.2"
_INDEX: Final = "pocket-agent"
_PASSWORDS: Final = ("ELASTIC_PASSWORD", "KIBANA_PASSWORD")
_COMPOSE: Final = Head(
    what="Elasticsearch, Logstash and Kibana in containers, their ports on loopback only, with passwords.",
    place="wherever this directory is: docker compose up -d",
    reload="docker compose up -d",
    notes=(
        "The passwords come from the file .env beside this one (chmod 600): ELASTIC_PASSWORD=... KIBANA_PASSWORD=...",
        "`setup` gives Kibana its password and its data view, and ends. Between the containers it is plain HTTP.",
    ),
)
_LOGSTASH: Final = Head(
    what="Logstash: takes the server's log from Filebeat and hands it to Elasticsearch.",
    place="/etc/logstash/conf.d/pocket-agent.conf, or by docker-compose.yml",
    reload="logstash reloads it by itself (config.reload.automatic)",
    notes=("A line that is not JSON stays as it is, in `message`.",),
)
_FILEBEAT: Final = Head(
    what="Filebeat: reads the server's log on the machine itself and sends it to Logstash.",
    place="/etc/filebeat/filebeat.yml",
    reload="filebeat test config -c FILE, then restart it",
)
_KIBANA: Final = Head(
    what="Kibana: the data view of the log.",
    place="imported by `setup` of elk/docker-compose.yml, or by hand: Stack Management, Saved Objects, Import",
    reload="import it again",
)


def elastic_files(targets: Sequence[Target]) -> list[RenderedFile]:
    """The files of `elk/`."""
    return [
        yaml_file("elk/docker-compose.yml", _COMPOSE, _compose()),
        text_file("elk/logstash/pipeline/pocket-agent.conf", _LOGSTASH, _PIPELINE),
        yaml_file("elk/filebeat/filebeat.yml", _FILEBEAT, _filebeat(targets)),
        json_file("elk/kibana/pocket-agent.ndjson", _KIBANA, _data_view(), indent=None),
    ]


def _service(program: str, environment: dict[str, str], **further: Any) -> dict[str, Any]:
    return {
        "image": f"docker.elastic.co/{program}/{program}:{_VERSION}",
        "environment": environment,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        **further,
    }


def _required(name: str) -> str:
    return f"${{{name}:?set it in the file .env}}"


def _after(*healthy: str) -> dict[str, Any]:
    return {name: {"condition": "service_healthy"} for name in healthy}


def _health(command: str) -> dict[str, Any]:
    return {"test": ["CMD-SHELL", command], "interval": "10s", "timeout": "10s", "retries": 60}


_SETUP: Final = """\
until curl -fsS -u "elastic:$$ELASTIC_PASSWORD" -H 'Content-Type: application/json' \\
    -d "{\\"password\\":\\"$$KIBANA_PASSWORD\\"}" \\
    http://elasticsearch:9200/_security/user/kibana_system/_password; do sleep 5; done
until curl -fsS -u "elastic:$$ELASTIC_PASSWORD" -H 'kbn-xsrf: true' -F file=@/setup/pocket-agent.ndjson \\
    'http://kibana:5601/api/saved_objects/_import?overwrite=true'; do sleep 5; done
"""


def _compose() -> dict[str, Any]:
    elastic, kibana = (_required(name) for name in _PASSWORDS)
    search = _service(
        "elasticsearch",
        {
            "discovery.type": "single-node",
            "ELASTIC_PASSWORD": elastic,
            "xpack.security.enabled": "true",
            "xpack.security.enrollment.enabled": "false",
            "xpack.security.http.ssl.enabled": "false",
            "xpack.security.transport.ssl.enabled": "false",
            "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
        },
        restart="unless-stopped",
        volumes=["elasticsearch-data:/usr/share/elasticsearch/data"],
        ports=[f"127.0.0.1:{port.ELASTICSEARCH}:9200"],
        healthcheck=_health('curl -fsS -u "elastic:$$ELASTIC_PASSWORD" http://127.0.0.1:9200/_cluster/health'),
    )
    logstash = _service(
        "logstash",
        {"ELASTIC_PASSWORD": elastic, "CONFIG_RELOAD_AUTOMATIC": "true", "XPACK_MONITORING_ENABLED": "false"},
        restart="unless-stopped",
        volumes=["./logstash/pipeline:/usr/share/logstash/pipeline:ro"],
        ports=[f"127.0.0.1:{port.LOGSTASH_BEATS}:{port.LOGSTASH_BEATS}"],
        depends_on=_after("elasticsearch"),
    )
    view = _service(
        "kibana",
        {
            "ELASTICSEARCH_HOSTS": "http://elasticsearch:9200",
            "ELASTICSEARCH_USERNAME": "kibana_system",
            "ELASTICSEARCH_PASSWORD": kibana,
            "TELEMETRY_OPTIN": "false",
        },
        restart="unless-stopped",
        ports=[f"127.0.0.1:{port.KIBANA}:5601"],
        depends_on=_after("elasticsearch"),
    )
    setup = _service(
        "elasticsearch",
        {"ELASTIC_PASSWORD": elastic, "KIBANA_PASSWORD": kibana},
        restart="no",
        command=["bash", "-c", _SETUP],
        volumes=["./kibana:/setup:ro"],
        depends_on=_after("elasticsearch"),
    )
    services = {"elasticsearch": search, "setup": setup, "logstash": logstash, "kibana": view}
    return {"services": services, "volumes": {"elasticsearch-data": {}}}


# `log` is Filebeat's own field, so the server's line is parsed beside it. Elasticsearch takes `service` for an object.
_PIPELINE: Final = f"""\
input {{
  beats {{
    host => "0.0.0.0"
    port => {port.LOGSTASH_BEATS}
  }}
}}

filter {{
  json {{
    source => "message"
    target => "[@metadata][line]"
    skip_on_invalid_json => true
  }}
  if [@metadata][line][timestamp] {{
    date {{
      match => ["[@metadata][line][timestamp]", "ISO8601"]
    }}
    mutate {{
      copy => {{
        "[@metadata][line][level]" => "[level]"
        "[@metadata][line][msg]" => "[msg]"
        "[@metadata][line][service]" => "[service][name]"
        "[@metadata][line][environment]" => "[service][environment]"
        "[@metadata][line][version]" => "[service][version]"
        "[@metadata][line][correlation_id]" => "[correlation_id]"
        "[@metadata][line][project_id]" => "[project_id]"
        "[@metadata][line][duration_ms]" => "[duration_ms]"
        "[@metadata][line][trace_id]" => "[trace][id]"
        "[@metadata][line][span_id]" => "[span][id]"
        "[@metadata][line][fields]" => "[fields]"
      }}
      remove_field => ["message"]
    }}
  }}
}}

output {{
  elasticsearch {{
    hosts => ["http://elasticsearch:9200"]
    user => "elastic"
    password => "${{ELASTIC_PASSWORD}}"
    index => "{_INDEX}-%{{+YYYY.MM.dd}}"
  }}
}}
"""


def _filebeat(targets: Sequence[Target]) -> dict[str, Any]:
    inputs: list[dict[str, Any]] = []
    units = [f"_SYSTEMD_UNIT={target.unit}.service" for target in targets if target.log_file is None]
    files = [str(target.log_file) for target in targets if target.log_file is not None]
    if units:
        inputs.append({"type": "journald", "id": "pocket-agent-journal", "include_matches": {"match": units}})
    if files:
        inputs.append({"type": "filestream", "id": "pocket-agent-file", "paths": files})
    return {"filebeat.inputs": inputs, "output.logstash": {"hosts": [f"127.0.0.1:{port.LOGSTASH_BEATS}"]}}


def _data_view() -> dict[str, Any]:
    """A saved object of Kibana, of which a line is one."""
    attributes = {"name": "Pocket Agent Server", "title": f"{_INDEX}-*", "timeFieldName": "@timestamp"}
    return {"type": "index-pattern", "id": _INDEX, "attributes": attributes, "references": []}
