"""systemd units: the server, and each program of the stack, hardened."""

from collections.abc import Sequence
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.config.unit import format_duration
from pocket_agent.monitoring.output import Head, RenderedFile, text_file

_HARDENED: Final = (
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
)


def systemd_files(settings: Settings) -> list[RenderedFile]:
    """The files of `systemd/`."""
    stack = settings.monitoring
    retention = format_duration(stack.retention)
    return [
        _server(settings),
        _program(
            "prometheus",
            "Prometheus",
            (
                "/usr/bin/prometheus",
                "--config.file=/etc/prometheus/prometheus.yml",
                "--storage.tsdb.path=/var/lib/prometheus",
                f"--storage.tsdb.retention.time={retention}",
                f"--web.listen-address=127.0.0.1:{stack.prometheus_port}",
                "--web.enable-lifecycle",
                "--enable-feature=exemplar-storage",
            ),
            "prometheus",
            state="prometheus",
        ),
        _program(
            "alertmanager",
            "Alertmanager",
            (
                "/usr/bin/prometheus-alertmanager",
                "--config.file=/etc/prometheus/alertmanager.yml",
                "--storage.path=/var/lib/alertmanager",
                f"--web.listen-address=127.0.0.1:{stack.alertmanager_port}",
                "--cluster.listen-address=",
            ),
            "prometheus",
            state="alertmanager",
        ),
        _program(
            "node_exporter",
            "Prometheus node exporter",
            (
                "/usr/bin/prometheus-node-exporter",
                f"--web.listen-address=127.0.0.1:{stack.node_port}",
                r"--collector.filesystem.mount-points-exclude=^/(sys|proc|dev|host|etc)($|/)",
                r"--collector.netclass.ignored-devices=^(veth.*|docker.*|br-.*)$",
            ),
            "prometheus",
        ),
        _program(
            "blackbox_exporter",
            "Prometheus blackbox exporter",
            (
                "/usr/bin/prometheus-blackbox-exporter",
                "--config.file=/etc/prometheus/blackbox.yml",
                f"--web.listen-address=127.0.0.1:{stack.blackbox_port}",
            ),
            "prometheus",
        ),
        _program("loki", "Loki", ("/usr/bin/loki", "-config.file=/etc/loki/config.yml"), "loki", state="loki"),
        _program(
            "alloy",
            "Grafana Alloy",
            ("/usr/bin/alloy", "run", "--storage.path=/var/lib/alloy", "/etc/alloy/config.alloy"),
            "alloy",
            state="alloy",
            further=("SupplementaryGroups=systemd-journal",),
        ),
        _program(
            "promtail",
            "Promtail",
            ("/usr/bin/promtail", "-config.file=/etc/promtail/config.yml"),
            "promtail",
            state="promtail",
            further=("SupplementaryGroups=systemd-journal",),
        ),
        _program(
            "otelcol",
            "OpenTelemetry collector",
            ("/usr/bin/otelcol", "--config=/etc/otelcol/config.yaml"),
            "otelcol",
        ),
        _program("tempo", "Tempo", ("/usr/bin/tempo", "-config.file=/etc/tempo/config.yml"), "tempo", state="tempo"),
    ]


def _unit(
    name: str, what: str, sections: Sequence[tuple[str, Sequence[str]]], notes: tuple[str, ...] = ()
) -> RenderedFile:
    head = Head(
        what=what,
        place=f"/etc/systemd/system/{name}.service",
        reload=f"systemctl daemon-reload && systemctl restart {name}",
        notes=notes,
    )
    body = "\n".join(f"[{section}]\n" + "".join(f"{line}\n" for line in lines) for section, lines in sections)
    return text_file(f"systemd/{name}.service", head, body)


def _program(
    name: str,
    description: str,
    command: tuple[str, ...],
    user: str,
    *,
    state: str | None = None,
    further: tuple[str, ...] = (),
) -> RenderedFile:
    """A program of the stack."""
    service = [
        "Type=simple",
        f"User={user}",
        f"Group={user}",
        # A dollar sign begins a variable and a per cent sign a specifier (systemd.service(5)).
        "ExecStart=" + " \\\n    ".join(word.replace("%", "%%").replace("$", "$$") for word in command),
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=always",
        "RestartSec=5",
        *([f"StateDirectory={state}"] if state else []),
        *_HARDENED,
        *further,
    ]
    unit = [f"Description={description}", "After=network-online.target", "Wants=network-online.target"]
    sections = (("Unit", unit), ("Service", service), ("Install", ["WantedBy=multi-user.target"]))
    return _unit(name, f"Runs {description} for Pocket Agent Server.", sections)


def _server(settings: Settings) -> RenderedFile:
    """The server itself: its agents must outlive it, and need the machine that their user works on."""
    stop = round(settings.timeouts.shutdown) + 20
    service = [
        "Type=simple",
        "User=pocket-agent",
        "Group=pocket-agent",
        "ExecStart=/opt/pocket-agent/bin/pocket-agent serve --config /etc/pocket-agent/config.yaml",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Environment=PA_DATA_DIR=/var/lib/pocket-agent",
        "Restart=always",
        "RestartSec=2",
        f"TimeoutStopSec={stop}",
        # Only the server is told to stop: the agents go on working, and the next server takes them over.
        "KillMode=process",
        "StateDirectory=pocket-agent",
        "StateDirectoryMode=0700",
        "LogsDirectory=pocket-agent",
        "UMask=0077",
        "LimitNOFILE=65536",
        "NoNewPrivileges=yes",
        "ProtectSystem=full",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectControlGroups=yes",
        "RestrictSUIDSGID=yes",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
    ]
    unit = [
        "Description=Pocket Agent Server",
        "After=network-online.target",
        "Wants=network-online.target",
        "StartLimitIntervalSec=0",
    ]
    sections = (("Unit", unit), ("Service", service), ("Install", ["WantedBy=multi-user.target"]))
    notes = (
        "The agents inherit what is restricted here, so it leaves them the home directory and a compiler's needs.",
        "A private /tmp would be emptied under agents that outlive a restart, so there is none.",
    )
    return _unit("pocket-agent", "Runs Pocket Agent Server.", sections, notes)
