"""docker-compose: the stack beside a server that runs on the machine itself, and Elastic's as an alternative."""

from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.config.unit import format_duration
from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file

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

_ELASTIC: Final = "8.19.2"
_HEAD: Final = Head(
    what="The whole stack in containers, on the network of the machine, since everything listens on loopback.",
    place="wherever this directory is: docker compose up -d",
    reload="docker compose up -d; docker compose kill -s SIGHUP NAME for a changed configuration",
    notes=("Host networking needs Linux.",),
)
_ELK_HEAD: Final = Head(
    what="Elasticsearch, Logstash and Kibana as another place for the log.",
    place="wherever this directory is: ELASTIC_PASSWORD=... KIBANA_PASSWORD=... docker compose up -d",
    reload="docker compose up -d",
    notes=(
        "Ports are on loopback only. Between its own containers Elasticsearch speaks plain HTTP, with passwords.",
        "Once: set the password of kibana_system, then import kibana/pocket-agent.ndjson (Saved objects).",
    ),
)


def compose_files(settings: Settings) -> list[RenderedFile]:
    """`docker-compose.yml` and `elk/docker-compose.yml`."""
    return [
        yaml_file("docker-compose.yml", _HEAD, {"services": _services(settings), "volumes": _volumes()}),
        yaml_file("elk/docker-compose.yml", _ELK_HEAD, _elk()),
    ]


def _volumes() -> dict[str, Any]:
    return {f"{name}-data": {} for name in ("prometheus", "alertmanager", "grafana", "loki", "alloy", "tempo")}


def _service(name: str, command: list[str], volumes: list[str], **further: Any) -> dict[str, Any]:
    return {
        "image": IMAGES[name],
        "network_mode": "host",
        "restart": "unless-stopped",
        **({"command": command} if command else {}),
        "volumes": volumes,
        **further,
    }


def _services(settings: Settings) -> dict[str, Any]:
    stack = settings.monitoring
    secrets = [
        f"{file}:{file}:ro"
        for file in (stack.slack_url_file, stack.pagerduty_key_file, stack.email_password_file)
        if file is not None
    ]
    tokens = [f"{settings.metrics.token_file}:{settings.metrics.token_file}:ro"] if settings.metrics.token_file else []
    certificate = settings.data.dir / "tls" / "cert.pem"
    trusted = (
        [f"{certificate}:{certificate}:ro"] if settings.server.tls.enabled and not settings.server.tls.cert else []
    )
    return {
        "prometheus": _service(
            "prometheus",
            [
                "--config.file=/etc/prometheus/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                f"--storage.tsdb.retention.time={format_duration(stack.retention)}",
                f"--web.listen-address=127.0.0.1:{stack.prometheus_port}",
                "--web.enable-lifecycle",
                "--enable-feature=exemplar-storage",
            ],
            ["./prometheus:/etc/prometheus:ro", "prometheus-data:/prometheus", *tokens],
        ),
        "alertmanager": _service(
            "alertmanager",
            [
                "--config.file=/etc/alertmanager/alertmanager.yml",
                "--storage.path=/alertmanager",
                f"--web.listen-address=127.0.0.1:{stack.alertmanager_port}",
                "--cluster.listen-address=",
            ],
            ["./alertmanager:/etc/alertmanager:ro", "alertmanager-data:/alertmanager", *secrets],
        ),
        "node-exporter": _service(
            "node-exporter",
            [f"--web.listen-address=127.0.0.1:{stack.node_port}", "--path.rootfs=/host"],
            ["/:/host:ro,rslave"],
            pid="host",
        ),
        "blackbox-exporter": _service(
            "blackbox-exporter",
            ["--config.file=/etc/blackbox/blackbox.yml", f"--web.listen-address=127.0.0.1:{stack.blackbox_port}"],
            ["./blackbox:/etc/blackbox:ro", *trusted],
        ),
        "grafana": _service(
            "grafana",
            [],
            [
                "./grafana/provisioning:/etc/grafana/provisioning:ro",
                "./grafana/dashboards:/var/lib/grafana/dashboards:ro",
                "grafana-data:/var/lib/grafana",
            ],
            environment={
                "GF_SERVER_HTTP_ADDR": "127.0.0.1",
                "GF_SERVER_HTTP_PORT": str(stack.grafana_port),
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            },
        ),
        "loki": _service(
            "loki", ["-config.file=/etc/loki/config.yml"], ["./loki:/etc/loki:ro", "loki-data:/var/lib/loki"]
        ),
        "alloy": _service(
            "alloy",
            ["run", "--storage.path=/var/lib/alloy", "/etc/alloy/config.alloy"],
            ["./alloy:/etc/alloy:ro", "alloy-data:/var/lib/alloy", "/var/log:/var/log:ro", "/run/log:/run/log:ro"],
        ),
        "tempo": _service(
            "tempo", ["-config.file=/etc/tempo/config.yml"], ["./tempo:/etc/tempo:ro", "tempo-data:/var/lib/tempo"]
        ),
        "otel-collector": _service(
            "otel-collector", ["--config=/etc/otelcol/config.yaml"], ["./otel-collector:/etc/otelcol:ro"]
        ),
    }


def _elk() -> dict[str, Any]:
    return {
        "services": {
            "elasticsearch": {
                "image": f"docker.elastic.co/elasticsearch/elasticsearch:{_ELASTIC}",
                "restart": "unless-stopped",
                "environment": {
                    "discovery.type": "single-node",
                    "ELASTIC_PASSWORD": "${ELASTIC_PASSWORD:?set it}",
                    "xpack.security.http.ssl.enabled": "false",
                    "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
                },
                "volumes": ["elasticsearch-data:/usr/share/elasticsearch/data"],
                "ports": ["127.0.0.1:9200:9200"],
            },
            "logstash": {
                "image": f"docker.elastic.co/logstash/logstash:{_ELASTIC}",
                "restart": "unless-stopped",
                "environment": {
                    "ELASTIC_PASSWORD": "${ELASTIC_PASSWORD:?set it}",
                    "CONFIG_RELOAD_AUTOMATIC": "true",
                    "XPACK_MONITORING_ENABLED": "false",
                },
                "volumes": ["./logstash/pipeline:/usr/share/logstash/pipeline:ro"],
                "ports": ["127.0.0.1:5044:5044"],
                "depends_on": ["elasticsearch"],
            },
            "kibana": {
                "image": f"docker.elastic.co/kibana/kibana:{_ELASTIC}",
                "restart": "unless-stopped",
                "environment": {
                    "ELASTICSEARCH_HOSTS": "http://elasticsearch:9200",
                    "ELASTICSEARCH_USERNAME": "kibana_system",
                    "ELASTICSEARCH_PASSWORD": "${KIBANA_PASSWORD:?set it}",
                    "TELEMETRY_ENABLED": "false",
                },
                "ports": ["127.0.0.1:5601:5601"],
                "depends_on": ["elasticsearch"],
            },
        },
        "volumes": {"elasticsearch-data": {}},
    }
