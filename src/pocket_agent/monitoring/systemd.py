"""systemd units of the programs of the stack, hardened; named as Debian names them, which ours then replace."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring import port
from pocket_agent.monitoring.output import RenderedFile
from pocket_agent.monitoring.program import (
    alertmanager_flags,
    blackbox_flags,
    node_flags,
    prometheus_flags,
)
from pocket_agent.monitoring.service import server_files
from pocket_agent.monitoring.target import Target
from pocket_agent.monitoring.unit import HARDENED, is_home, quoted, unit_file

_NETWORK: Final = ("After=network-online.target", "Wants=network-online.target")
_JOURNAL: Final = "SupplementaryGroups=systemd-journal"


def systemd_files(settings: Settings, targets: Sequence[Target]) -> list[RenderedFile]:
    """The files of `systemd/`."""
    return [*server_files(targets), *_prometheus(settings, targets), *_logs(targets), *_traces(), _grafana(settings)]


def _prometheus(settings: Settings, targets: Sequence[Target]) -> list[RenderedFile]:
    """Prometheus, Alertmanager and the exporters."""
    stack = settings.monitoring
    return [
        _program(
            "prometheus",
            "Prometheus",
            (
                "/usr/bin/prometheus",
                *prometheus_flags(stack, config="/etc/prometheus/prometheus.yml", data="/var/lib/prometheus"),
            ),
            state="prometheus",
        ),
        _program(
            "prometheus-alertmanager",
            "Alertmanager",
            (
                "/usr/bin/prometheus-alertmanager",
                *alertmanager_flags(stack, config="/etc/prometheus/alertmanager.yml", data="/var/lib/alertmanager"),
            ),
            alias="alertmanager",
            state="alertmanager",
        ),
        _program(
            "prometheus-node-exporter",
            "the node exporter",
            ("/usr/bin/prometheus-node-exporter", *node_flags(stack)),
            alias="node_exporter",
            # It tells of other processes' mounts, and of the disks under /home.
            changed={"ProtectHome": "read-only", "ProtectProc": None},
        ),
        _program(
            "prometheus-blackbox-exporter",
            "the blackbox exporter",
            ("/usr/bin/prometheus-blackbox-exporter", *blackbox_flags(stack, config="/etc/prometheus/blackbox.yml")),
            alias="blackbox_exporter",
            further=_certificates(targets),
            changed={"ProtectHome": "tmpfs"} if any(is_home(target.ca_file) for target in targets) else {},
        ),
    ]


def _certificates(targets: Sequence[Target]) -> list[str]:
    """Show the exporter the certificates, and nothing else, of data directories that are closed to its user."""
    lines = []
    for target in targets:
        if target.ca_file is None:
            continue
        if target.own_certificate:
            # The directory, not the file: a renewed certificate is another file of the same name.
            lines += [f"TemporaryFileSystem={_mount(target.data_dir)}:ro", _shown(target.ca_file.parent)]
        elif is_home(target.ca_file):
            lines.append(_shown(target.ca_file))
    return lines


def _shown(path: Path) -> str:
    """A file or directory of the machine that is seen at its own place, if it is there."""
    return f"BindReadOnlyPaths=-{_mount(path)}"


def _mount(path: Path) -> str:
    """A path where a colon parts what is mounted from where (systemd.exec(5))."""
    return quoted(str(path)).replace(":", "\\:")


def _logs(targets: Sequence[Target]) -> list[RenderedFile]:
    reading = [_JOURNAL]
    if any(target.log_file is not None for target in targets):
        # A log file is for the server's user alone; nothing else is left to the shipper of what root may do.
        reading += ["AmbientCapabilities=CAP_DAC_READ_SEARCH", "CapabilityBoundingSet=CAP_DAC_READ_SEARCH"]
    homes = {"ProtectHome": "read-only"} if any(is_home(target.log_file) for target in targets) else {}
    return [
        _program("loki", "Loki", ("/usr/bin/loki", "-config.file=/etc/loki/config.yml"), user="loki", state="loki"),
        _program(
            "alloy",
            "Grafana Alloy",
            (
                "/usr/bin/alloy",
                "run",
                f"--server.http.listen-addr=127.0.0.1:{port.ALLOY}",
                "--storage.path=/var/lib/alloy/data",
                "--disable-reporting",
                "/etc/alloy/config.alloy",
            ),
            user="alloy",
            state="alloy",
            further=reading,
            changed=homes,
        ),
        _program(
            "promtail",
            "Promtail",
            ("/usr/bin/promtail", "-config.file=/etc/promtail/config.yml"),
            user="promtail",
            state="promtail",
            further=reading,
            changed=homes,
            conflicts="alloy",
        ),
    ]


def _traces() -> list[RenderedFile]:
    return [
        _program(
            "otelcol",
            "the OpenTelemetry collector",
            ("/usr/bin/otelcol", "--config=/etc/otelcol/config.yaml"),
            user=None,
        ),
        _program(
            "tempo", "Tempo", ("/usr/bin/tempo", "-config.file=/etc/tempo/config.yml"), user="tempo", state="tempo"
        ),
    ]


def _grafana(settings: Settings) -> RenderedFile:
    """Grafana's package has a good unit; what is changed of it."""
    lines = (
        "Environment=GF_SERVER_HTTP_ADDR=127.0.0.1",
        f"Environment=GF_SERVER_HTTP_PORT={settings.monitoring.grafana_port}",
        "Environment=GF_ANALYTICS_REPORTING_ENABLED=false",
        "Environment=GF_ANALYTICS_CHECK_FOR_UPDATES=false",
    )
    return unit_file(
        "grafana-server.service.d/pocket-agent.conf",
        "Adds to the unit of Grafana's package: Grafana on loopback only, on the port of the settings.",
        (("Service", lines),),
        restart="grafana-server",
    )


def _program(
    name: str,
    title: str,
    command: Sequence[str],
    *,
    user: str | None = "prometheus",
    alias: str | None = None,
    state: str | None = None,
    further: Sequence[str] = (),
    changed: dict[str, str] | dict[str, str | None] | None = None,
    conflicts: str | None = None,
) -> RenderedFile:
    """The unit of a program.

    Args:
        name: of the unit.
        title: of the program.
        command: its absolute path and its flags.
        user: None for one that exists only while it runs.
        alias: another name of the unit.
        state: its directory below /var/lib.
        further: lines for the section [Service].
        changed: what is hardened less than usual; None takes a line out.
        conflicts: a unit that does the same.
    """
    first = command[0]
    hardened: dict[str, str | None] = {**HARDENED, **(changed or {})}
    given = {line.partition("=")[0] for line in further}
    service = [
        "Type=simple",
        *((f"User={user}", f"Group={user}") if user else ("DynamicUser=yes",)),
        "ExecStart=" + " \\\n    ".join(_word(word) for word in command),
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=always",
        "RestartSec=5",
        *([f"StateDirectory={state}", "StateDirectoryMode=0750"] if state else []),
        *(f"{key}={value}" for key, value in hardened.items() if value is not None and key not in given),
        *further,
    ]
    unit = [f"Description={title[0].upper()}{title[1:]} for Pocket Agent Server", *_NETWORK]
    if conflicts is not None:
        unit.append(f"Conflicts={conflicts}.service")
    install = ["WantedBy=multi-user.target", *([f"Alias={alias}.service"] if alias else [])]
    return unit_file(
        f"{name}.service",
        f"Runs {title} as a service.",
        (("Unit", unit), ("Service", service), ("Install", install)),
        restart=name,
        notes=(f"The program is {first}, as Debian or its authors package it; change the path if yours is elsewhere.",),
    )


def _word(word: str) -> str:
    """A word of a command line: `$` begins a variable and `%` a specifier (systemd.service(5))."""
    return word.replace("%", "%%").replace("$", "$$")
