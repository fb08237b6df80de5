"""Renders the files of a monitoring stack from the settings of the servers that it watches.

Every file comes from the template with its path in `templates/`; this module has the values of the placeholders, and
the parts that depend on the number of servers. Rules and dashboards have modules of their own.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pocket_agent.monitoring import files
from pocket_agent.monitoring.dashboards import dashboard_files
from pocket_agent.monitoring.files import RenderedFile, fill, fill_text, load, template, text_file, yaml_file
from pocket_agent.monitoring.rules import rule_files, rule_test_files
from pocket_agent.monitoring.targets import FIXED_PORTS, SERVICE_FILE, Target, refuse_conflicts, target_of
from pocket_agent.protocol.frame import PROBE
from pocket_agent.settings import MonitoringSettings, Settings, format_duration, is_loopback

_PROBE_SECONDS: Final = 2.0
"""Shortest time between two probes: the exporter gives up half a second before the scrape does (--timeout-offset)."""
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "slack_configs": ("api_url_file",),
    "email_configs": ("to",),
    "pagerduty_configs": ("routing_key_file",),
    "webhook_configs": ("url", "url_file"),
}
"""The keys of which a receiver's configuration needs one."""
_HOME: Final = Path("/home")


@dataclass(frozen=True, slots=True)
class WatchedServer:
    """A server that the stack watches, and its settings file."""

    settings: Settings
    file: Path = SERVICE_FILE


def render(settings: Settings, others: Sequence[Settings] = ()) -> list[RenderedFile]:
    """Every file of the stack for servers with the settings files of services; see `render_stack`."""
    paths = [SERVICE_FILE.with_stem(f"server-{number}") for number in range(2, len(others) + 2)]
    return render_stack([WatchedServer(settings), *map(WatchedServer, others, paths)])


def render_stack(servers: Sequence[WatchedServer]) -> list[RenderedFile]:
    """Every file of the stack, the same bytes each time, sorted by path.

    Args:
        servers: on this machine; the sections `monitoring` and `alerts` of the first are those of the stack.

    Raises:
        ConfigurationError: the settings contradict each other.
    """
    settings, *others = [server.settings for server in servers]
    refuse_conflicts(settings, others)
    targets = [
        target_of(server.settings, unit="pocket-agent" if number == 1 else f"pocket-agent-{number}", config=server.file)
        for number, server in enumerate(servers, start=1)
    ]
    stack = _Stack(settings, targets)
    rendered = [*stack.files(), *rule_files(settings), *rule_test_files(settings), *dashboard_files(settings)]
    rendered.append(stack.readme(rendered))
    return sorted(rendered, key=lambda file: file.path)


class _Stack:
    def __init__(self, settings: Settings, targets: Sequence[Target]) -> None:
        self._settings = settings
        self._targets = targets
        self._values = _values(settings.monitoring, targets)

    def files(self) -> Iterator[RenderedFile]:
        """All files but the rules, the dashboards and the README."""
        for path in (
            "loki/config.yml",
            "otel-collector/config.yaml",
            "tempo/config.yml",
            "grafana/provisioning/datasources/pocket-agent.yml",
            "grafana/provisioning/dashboards/pocket-agent.yml",
            "elk/docker-compose.yml",
            "docker-compose.yml",
        ):
            yield yaml_file(path, self._filled(path))
        yield self._prometheus()
        yield self._alertmanager()
        yield self._blackbox()
        yield from self._log_shippers()
        yield text_file("elk/logstash/pipeline/pocket-agent.conf", self._values)
        # A saved object of Kibana is a line.
        yield RenderedFile("elk/kibana/pocket-agent.ndjson", json.dumps(load("elk/kibana/pocket-agent.ndjson")) + "\n")
        yield RenderedFile("local.json", json.dumps(self._filled("local.json"), indent=1) + "\n")
        # JavaScript has the same placeholders.
        script = template("k6/load-test.js").read_text("utf-8")
        script = script.replace("'wss://127.0.0.1:8443/ws'", f"'{self._targets[0].socket}'")
        yield files.with_origin("k6/load-test.js", script)
        for unit in template("systemd").iterdir():
            wanted = unit.name != "promtail.service" or self._settings.monitoring.promtail
            if unit.name.endswith(".service") and unit.name != "pocket-agent.service" and wanted:
                yield text_file(f"systemd/{unit.name}", self._values)
        yield text_file("systemd/grafana-server.service.d/pocket-agent.conf", self._values)
        for target in self._targets:
            yield text_file(
                f"systemd/{target.unit}.service", _unit_values(target), source="systemd/pocket-agent.service"
            )
        yield text_file("systemd/user/pocket-agent.service", _unit_values(self._targets[0]))

    def readme(self, rendered: Sequence[RenderedFile]) -> RenderedFile:
        """The purpose and the place of each file, and instructions."""
        rows = sorted({_row(file) for file in rendered})
        values = {
            **self._values,
            "servers": ", ".join(target.url for target in self._targets),
            "metrics": [
                f"- {target.service}, its metrics: http://{target.metrics}/metrics" for target in self._targets
            ],
            "further": "\n".join(_unrendered(self._settings.monitoring, self._targets)),
            "files": [f"| `{path}` | {_cells(cells)} |" for path, *cells in rows],
        }
        return RenderedFile("README.md", fill_text(template("README.md").read_text("utf-8"), values))

    def _filled(self, path: str) -> Any:
        return fill(load(path), self._values)

    def _prometheus(self) -> RenderedFile:
        path = "prometheus/prometheus.yml"
        config, server, probe, agents = files.load_all(path)
        values = []
        for number, target in enumerate(self._targets, start=1):
            token = {"credentials_file": str(target.token_file)} if target.token_file else None
            suffix = f"-{number}" if number > 1 else ""
            values.append({**self._values, **asdict(target), "authorization": token, "suffix": suffix})
        probes = [
            fill(probe, {**own, "job": job, "module": module + own["suffix"].replace("-", "_"), "address": address})
            for job, module in (("blackbox", "websocket_check"), ("blackbox-http", "http_check"))
            for own, target in zip(values, self._targets, strict=True)
            for address in [target.address if job == "blackbox" else f"{target.url}/livez"]
        ]
        traces = self._settings.traces
        exporting = traces.enabled and traces.agents and traces.agent_metrics
        jobs = {
            "servers": [fill(server, own) for own in values],
            "probes": probes,
            "agents": [fill(agents, self._values)] if exporting else [],
        }
        return yaml_file(path, fill(config, {**self._values, **jobs}))

    def _alertmanager(self) -> RenderedFile:
        path = "alertmanager/alertmanager.yml"
        config = self._filled(path)
        for receiver in config["receivers"]:
            for way, required in _REQUIRED.items():
                if way in receiver and not any(key in receiver[way][0] for key in required):
                    del receiver[way]
        return yaml_file(path, config)

    def _blackbox(self) -> RenderedFile:
        # A second server has modules of its own, named with its number.
        path = "blackbox/blackbox.yml"
        modules: dict[str, Any] = {}
        for number, target in enumerate(self._targets, start=1):
            tls = {"insecure_skip_verify": False}
            named = {"ca_file": target.ca_file and str(target.ca_file), "server_name": target.server_name}
            values = {
                "suffix": f"_{number}" if number > 1 else "",
                "tls": target.tls,
                "tls_config": {**tls, **{key: name for key, name in named.items() if name}} if target.tls else None,
                "host": target.server_name or target.address,
                "probe": PROBE,
            }
            modules |= fill(load(path)["modules"], values)
        return yaml_file(path, {"modules": modules})

    def _log_shippers(self) -> Iterator[RenderedFile]:
        # They read the journal, or files, or both.
        units = [target.unit for target in self._targets if target.log_file is None]
        paths = [str(target.log_file) for target in self._targets if target.log_file is not None]
        sources = [*map(_journal_source, units), *([_file_source(paths)] if paths else [])]
        yield text_file("alloy/config.alloy", {**self._values, "sources": "\n".join(sources)})
        places = [{"targets": ["localhost"], "labels": {"job": "pocket-agent", "__path__": path}} for path in paths]
        values = {
            **self._values,
            "unit_pattern": "|".join(re.escape(f"{unit}.service") for unit in units),
            "log_files": places,
            "unit_matches": [f"_SYSTEMD_UNIT={unit}.service" for unit in units],
            "log_paths": paths,
        }
        promtail = [("promtail/config.yml", "scrape_configs")] if self._settings.monitoring.promtail else []
        for path, key in (*promtail, ("elk/filebeat/filebeat.yml", "filebeat.inputs")):
            config = fill(load(path), values)
            journal, file = config[key]
            config[key] = [*([journal] if units else []), *([file] if paths else [])]
            yield yaml_file(path, config)


def _values(stack: MonitoringSettings, targets: Sequence[Target]) -> dict[str, Any]:
    """The values of the placeholders that all servers share."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in stack.model_dump().items()}
    values |= {name: port for name, (_, port) in FIXED_PORTS.items()}
    interval, trusted = stack.scrape_interval, [target for target in targets if target.ca_file is not None]
    logs = [target.log_file for target in targets if target.log_file is not None]
    capability = "CAP_DAC_READ_SEARCH"  # only the server's user may read its log file
    secrets = ("slack_url", "pagerduty_key", "email_password", "webhook_url", "watchdog_url")
    return values | {
        "scrape_interval": format_duration(interval),
        "scrape_timeout": format_duration(scrape_timeout(stack)),
        "scrape_seconds": f"{interval:g}",
        "probe_interval": format_duration(_PROBE_SECONDS) if interval < _PROBE_SECONDS else None,
        "retention": format_duration(stack.retention),
        "retention_hours": max(24, round(stack.retention / 3600)),
        "grafana_port_text": str(stack.grafana_port),
        "email_tls": not is_loopback(stack.email_smarthost.rpartition(":")[0]),
        "email_password_file": values["email_password_file"] if stack.email_user is not None else None,
        # Of docker-compose.yml. A renewed certificate is a new file, so its directory is mounted.
        "token_mounts": _mounts(target.token_file for target in targets),
        "secret_mounts": _mounts(getattr(stack, f"{name}_file") for name in secrets),
        "certificate_mounts": _mounts(
            target.ca_file.parent if target.own_certificate else target.ca_file for target in trusted if target.ca_file
        ),
        "journal_mounts": [
            f"{path}:{path}:ro"
            for path in ("/var/log/journal", "/run/log/journal", "/etc/machine-id")
            if len(logs) < len(targets)
        ],
        "log_mounts": _mounts(path.parent for path in logs),
        "log_added": [capability.removeprefix("CAP_")] if logs else None,
        # Of the units.
        "certificate_binds": [line for target in trusted for line in _certificate_binds(target)],
        "certificate_homes": "tmpfs" if any(_is_home(target.ca_file) for target in trusted) else "yes",
        "log_homes": "read-only" if any(map(_is_home, logs)) else "yes",
        "log_no_capabilities": [] if logs else ["CapabilityBoundingSet="],
        "log_capabilities": [f"AmbientCapabilities={capability}", f"CapabilityBoundingSet={capability}"]
        if logs
        else [],
    }


def scrape_timeout(stack: MonitoringSettings) -> float:
    """How long a target may take to answer a scrape, in seconds; Prometheus's default, or the interval if shorter."""
    return min(10.0, stack.scrape_interval)


def _mounts(paths: Iterable[Path | None]) -> list[dict[str, Any]]:
    """Read-only bind mounts of paths to the same place in a container."""
    # Compose replaces variables, which start with a dollar sign.
    found = sorted({str(path).replace("$", "$$") for path in paths if path is not None})
    # Without the option Docker creates a directory for a path that does not exist.
    option = {"create_host_path": False}
    return [{"type": "bind", "source": path, "target": path, "read_only": True, "bind": option} for path in found]


def _journal_source(unit: str) -> str:
    """Alloy's reader of a unit's journal. All matches of a reader must hold, so each server needs its own."""
    name = re.sub(r"\W", "_", unit)
    return (
        f'loki.source.journal "{name}" {{\n'
        f"  matches    = {_alloy_string(f'_SYSTEMD_UNIT={unit}.service')}\n"
        '  labels     = {job = "pocket-agent"}\n'
        "  forward_to = [loki.process.pocket_agent.receiver]\n"
        "}\n"
    )


def _file_source(paths: Sequence[str]) -> str:
    listed = "".join(f'    {{__path__ = {_alloy_string(path)}, job = "pocket-agent"}},\n' for path in paths)
    return (
        f'local.file_match "pocket_agent" {{\n  path_targets = [\n{listed}  ]\n}}\n\n'
        'loki.source.file "pocket_agent" {\n'
        "  targets    = local.file_match.pocket_agent.targets\n"
        "  forward_to = [loki.process.pocket_agent.receiver]\n"
        "}\n"
    )


def _alloy_string(text: str) -> str:
    """A text in Alloy's language, which has the escapes of Go, and these include those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _unit_values(target: Target) -> dict[str, Any]:
    """The values of the placeholders in the systemd units of a server."""
    user = _user(target.data_dir)
    directories = []
    for kind, base, path, mode in (
        ("State", Path("/var/lib"), target.data_dir, "0700"),
        ("Logs", Path("/var/log"), target.log_file and target.log_file.parent, "0750"),
    ):
        if path is not None and path.is_relative_to(base) and path != base:
            name = _quoted(str(path.relative_to(base)))
            directories += [f"{kind}Directory={name}", f"{kind}DirectoryMode={mode}"]
    return {
        "unit": target.unit,
        "user": user,
        "config": target.config,
        "config_word": _quoted(str(target.config).replace("$", "$$")),
        "data_dir_variable": _quoted(f"PA_DATA_DIR={target.data_dir}"),
        "stop_seconds": round(target.stop_seconds) + 20,
        "state_directories": directories,
        # A user that is not root needs none, and a user namespace (bubblewrap's) has its own (user_namespaces(7)).
        "no_capabilities": [] if user == "root" else ["CapabilityBoundingSet="],
    }


def _user(data_dir: Path) -> str:
    """The user that a data directory belongs to."""
    if data_dir.is_relative_to(_HOME) and data_dir != _HOME:
        return data_dir.relative_to(_HOME).parts[0]
    return "root" if data_dir.is_relative_to("/root") else "pocket-agent"


def _certificate_binds(target: Target) -> Iterator[str]:
    """Make the certificate, and nothing else of the data directory, visible to the exporter."""
    assert target.ca_file is not None
    if target.own_certificate:
        # The directory, not the file: a renewed certificate is a new file with the same name.
        yield f"TemporaryFileSystem={_bound(target.data_dir)}:ro"
        yield f"BindReadOnlyPaths=-{_bound(target.ca_file.parent)}"
    elif _is_home(target.ca_file):
        yield f"BindReadOnlyPaths=-{_bound(target.ca_file)}"


def _is_home(path: Path | None) -> bool:
    """Whether `ProtectHome=` hides a path."""
    return path is not None and any(path.is_relative_to(home) for home in (_HOME, "/root", "/run/user"))


def _bound(path: Path) -> str:
    """A path in a setting where a colon separates source and destination (systemd.exec(5))."""
    return _quoted(str(path)).replace(":", "\\:")


def _quoted(text: str) -> str:
    """A value as one word; `%` starts a specifier (systemd.syntax(7), systemd.unit(5))."""
    text = text.replace("%", "%%")
    if not any(character in text for character in " \t\"'\\"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _row(file: RenderedFile) -> tuple[str, ...]:
    """The path, the purpose, the place and the reload of a file, as its first comment says."""
    path = PurePosixPath(file.path)
    if path.parts[:2] == ("prometheus", "tests"):
        what = "Tests of the rules, a file for each alert: what makes it fire, and what must not."
        place = "next to rules/; Prometheus does not read them"
        return "prometheus/tests/*.yml", what, place, "nothing to take up: promtool test rules FILE"
    if path.parts[:2] == ("grafana", "dashboards"):
        what = f"A dashboard of Grafana: {json.loads(file.text)['title']}."
        return file.path, what, f"/var/lib/grafana/dashboards/{path.name}", "is taken up by itself"
    # JSON has no comments, so its template has.
    what, place, reload, *_ = files.head_of(file.text) or files.head_of(template(file.path).read_text("utf-8"))
    return file.path, what, place.removeprefix("Place: "), reload.removeprefix("Reload: ")


def _cells(texts: Sequence[str]) -> str:
    return " | ".join(text.replace("|", "\\|") for text in texts)


def _unrendered(stack: MonitoringSettings, targets: Sequence[Target]) -> Iterator[str]:
    """The files that programs read and that are not rendered."""
    named = [
        (stack.slack_url_file, "the URL of the Slack webhook", "Alertmanager"),
        (stack.pagerduty_key_file, "the integration key of PagerDuty", "Alertmanager"),
        (stack.email_password_file, "the password for the mail server", "Alertmanager"),
        *((target.token_file, "the token of the server's metrics", "Prometheus, and the server itself")
          for target in targets),
    ]  # fmt: skip
    rows = dict.fromkeys(f"| {_cells((f'`{file}`', what, reader))} |" for file, what, reader in named if file)
    yield "\n".join([_SECRETS, *rows, ""]) if rows else "There are no secrets.\n"
    for target in targets:
        if target.ca_file is not None:
            own = "the server makes at its first start" if target.own_certificate else "it must be able to read"
            yield f"The blackbox exporter trusts `{target.ca_file}`, which {own}.\n"


_SECRETS: Final = """\
Secrets are in separate files, one line each, readable only for the programs below. As services Prometheus and
Alertmanager run as `prometheus` (`chgrp prometheus FILE; chmod 640 FILE`), in containers as uid 65534.

| file | content | read by |
|---|---|---|"""
