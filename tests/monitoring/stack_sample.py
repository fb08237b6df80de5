"""Settings that a stack is rendered from: the defaults, everything changed, and two servers on one machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import yaml

from pocket_agent.monitoring import RenderedFile, Validation, render, validate
from pocket_agent.settings import Settings, load_settings
from tests.harness.tool import require_tool

SECRETS = {
    "monitoring.slack_url_file": "https://hooks.slack.example/services/T0/B0/slack-secret",
    "monitoring.pagerduty_key_file": "pagerduty-secret-0123456789abcdef",
    "monitoring.email_password_file": "mail-secret",
    "metrics.token_file": "metrics-secret",
}
"""What the files of these settings hold; none of it may be rendered."""


def settings_of(folder: Path, **changed: object) -> Settings:
    """Settings with changes, by `section__name`; the data directory is in the folder."""
    flags = {"data.dir": folder / "data", **{key.replace("__", "."): value for key, value in changed.items()}}
    return load_settings(config=None, environ={"HOME": str(folder)}, flags=flags).settings


def everything(folder: Path) -> dict[str, object]:
    """Another value than the default for every setting that a stack is rendered from, by its key.

    `server.auth`, `server.tls.enabled` and `metrics.enabled` are left: with them other settings here are refused.
    """
    return {
        "server.host": "0.0.0.0",
        "server.port": 18443,
        "server.plain_port": 18080,
        "server.allowed_origins": ["https://agent.example.org"],
        "server.public_url": "https://agent.example.org",
        "server.allowed_hosts": ["agent.example.org"],
        "server.trusted_proxies": ["192.0.2.1"],
        "server.forwarded": "forwarded",
        "server.sso.header": "X-User",
        "server.sso.users": ["ada"],
        "server.sso.viewers": ["bob"],
        "server.tls.cert": folder / "own cert.pem",
        "server.tls.key": folder / "own key.pem",
        "metrics.host": "0.0.0.0",
        "metrics.port": 19090,
        "metrics.token_file": folder / "metrics token",
        "metrics.models": ["opus"],
        "metrics.projects": ["shop"],
        "monitoring.prometheus_port": 19091,
        "monitoring.alertmanager_port": 19093,
        "monitoring.node_port": 19100,
        "monitoring.blackbox_port": 19115,
        "monitoring.grafana_port": 13000,
        "monitoring.loki_port": 13100,
        "monitoring.tempo_port": 13200,
        "monitoring.otlp_port": 14318,
        "monitoring.collector_metrics_port": 18889,
        "monitoring.promtail": True,
        "monitoring.scrape_interval": "2500ms",
        "monitoring.retention": "36h",
        "monitoring.slack_url_file": folder / "slack $url",
        "monitoring.slack_channel": "#on-call",
        "monitoring.pagerduty_key_file": folder / "pagerduty: key",
        "monitoring.pagerduty_url": "http://127.0.0.1:18082/v2/enqueue",
        "monitoring.email_to": "on-call@example.org",
        "monitoring.email_from": "agent@example.org",
        "monitoring.email_smarthost": "mail.example.org:587",
        "monitoring.email_user": "agent # 1",
        "monitoring.email_password_file": folder / "mail %h password",
        "monitoring.webhook_url": "http://127.0.0.1:18083/alerts?to=me&when=now",
        "monitoring.watchdog_url": "https://watchdog.example.org/ping/1",
        "monitoring.ca_file": folder / "ca.pem",
        "monitoring.server_name": "agent.example.org",
        "monitoring.grafana_url": "https://grafana.example.org",
        "monitoring.runbook_url": "https://wiki.example.org/runbooks/",
        "alerts.for_scale": 0.5,
        "alerts.slow_execution": "3m",
        "alerts.error_rate": 0.125,
        "alerts.error_ratio": 0.1,
        "alerts.failed_ratio": 0.5,
        "alerts.limit_ratio": 0.75,
        "alerts.memory_ratio": 0.8,
        "alerts.disk_free": "10GiB",
        "alerts.filesystem_free": 0.02,
        "alerts.machine_memory": 0.05,
        "alerts.machine_load": 4,
        "alerts.certificate": "30d",
        "alerts.loop_lag": "500ms",
        "alerts.agent_memory_ratio": 0.25,
        "alerts.agent_cpu_ratio": 0.7,
        "alerts.repeated_calls": 11,
        "alerts.silence": "5m",
        "alerts.restarts": 5,
        "alerts.rejected_connections": 7,
        "alerts.dropped_clients": 9,
        "alerts.objectives.availability": 0.99,
        "alerts.objectives.latency": 0.95,
        "alerts.objectives.success": 0.94,
    }


def everything_changed(folder: Path) -> Settings:
    """Settings of which each is another than the default, with the files that they name."""
    changed = everything(folder)
    for key, content in SECRETS.items():
        Path(str(changed[key])).write_text(content, "utf-8")
    fields = {"service": 'agent "one" {{ .x }} $1 \\ \'', "environment": "staging: eu # 1"}
    flags = {
        **changed,
        "data.dir": folder / "data dir",
        "logging.output": folder / "log dir" / "agent.log",
        "logging.fields": fields,
        "timeouts.shutdown": "42s",
    }
    return load_settings(config=None, environ={"HOME": str(folder)}, flags=flags).settings


@dataclass(frozen=True)
class Case:
    """Settings to render.

    Attributes:
        first: of the server whose stack it is.
        others: of further servers.
    """

    first: Settings
    others: Sequence[Settings] = ()

    @cached_property
    def files(self) -> dict[str, str]:
        """The rendered files."""
        return texts(render(self.first, self.others))


def defaults(folder: Path) -> Case:
    """Nothing but the data directory is set."""
    return Case(settings_of(folder))


def changed(folder: Path) -> Case:
    """Everything is."""
    return Case(everything_changed(folder))


def two_servers(folder: Path) -> Case:
    """Two servers on one machine: one in plain text with a log file, one with TLS and a token."""
    token = folder / "token"
    token.write_text(SECRETS["metrics.token_file"], "utf-8")
    log = folder / "first.log"
    first = settings_of(folder, server__tls__enabled=False, logging__output=log, monitoring__promtail=True)
    second = settings_of(
        folder / "second",
        server__port=28443,
        server__plain_port="off",
        metrics__port=29090,
        metrics__token_file=token,
        logging__fields={"service": "second"},
    )
    return Case(first, [second])


CASES = {"default settings": defaults, "everything changed": changed, "two servers": two_servers}


def texts(files: Sequence[RenderedFile]) -> dict[str, str]:
    """The files by path."""
    return {file.path: file.text for file in files}


def value(files: dict[str, str], path: str) -> dict[str, object]:
    """A YAML file as data."""
    found = yaml.safe_load(files[path])
    assert isinstance(found, dict)
    return found


def checks(directory: Path, suite: str = "") -> dict[str, Validation]:
    """What the real programs say of a rendered directory; those that this project has for its tests must be there.

    Prometheus's family is that of a Debian suite; see `require_tool`.
    """
    known = {name: require_tool(name, suite) for name in ("promtool", "amtool", "prometheus-blackbox-exporter")}
    known["k6"] = require_tool("k6")
    return {one.name: one for one in validate(directory, partial(_find, known))}


def _find(known: dict[str, Path], name: str) -> str | None:
    return str(known[name]) if name in known else None
