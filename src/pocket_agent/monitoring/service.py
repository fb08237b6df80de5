"""systemd units of the servers themselves: agents must outlive them, and need the machine that people work on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pocket_agent.monitoring.output import RenderedFile
from pocket_agent.monitoring.target import Target
from pocket_agent.monitoring.unit import quoted, unit_file

_STATE: Final = Path("/var/lib")
_HOME: Final = Path("/home")
_USER: Final = "pocket-agent"

# Only what no developer's tool needs: the agents inherit it. Each needs no namespace of mounts, or leaves /home.
_RESTRICTED: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
)
_PROTECTED: Final = (
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectSystem=full",
)
_HIDDEN: Final = (
    # Processes of other users, and devices: agents need the pseudo devices and terminals that are left.
    "ProtectProc=invisible",
    "PrivateDevices=yes",
)
_NO_CAPABILITIES: Final = "CapabilityBoundingSet="
"""Of a user that is not root: none is needed, and a user namespace (bubblewrap's) has its own (user_namespaces(7))."""
_LASTING: Final = (
    # Only the server is told to stop: the agents go on working, and the next server takes them over.
    "KillMode=process",
    "Restart=always",
    "RestartSec=2",
)
_NOTES: Final = (
    "KillMode=process ends the server alone: its agents go on, and the next server takes them over.",
    "The agents inherit what is restricted here, so it leaves them the home directory and a compiler's needs.",
    "The server makes its own files private whatever the umask; this one is the agents'.",
    "A private /tmp would be emptied under agents that outlive a restart, so there is none.",
)


def server_files(targets: Sequence[Target]) -> list[RenderedFile]:
    """A unit for each server, and one for a person's own service manager."""
    return [*(_system(target) for target in targets), _own(targets[0])]


def _system(target: Target) -> RenderedFile:
    user = _user(target.data_dir)
    service = [
        "Type=simple",
        f"User={user}",
        f"Group={user}",
        f"ExecStart=/opt/pocket-agent/bin/pocket-agent serve --config {_argument(target.config)}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"Environment={quoted(f'PA_DATA_DIR={target.data_dir}')}",
        *_stopping(target),
        *_state(target),
        "LimitNOFILE=65536",
        *_RESTRICTED,
        *_PROTECTED,
        *_HIDDEN,
        *([_NO_CAPABILITIES] if user != "root" else []),
    ]
    unit = [
        "Description=Pocket Agent Server",
        "After=network-online.target",
        "Wants=network-online.target",
        "StartLimitIntervalSec=0",
    ]
    return unit_file(
        f"{target.unit}.service",
        f"Runs Pocket Agent Server with {target.config}.",
        (("Unit", unit), ("Service", service), ("Install", ["WantedBy=multi-user.target"])),
        restart=target.unit,
        notes=_NOTES,
    )


def _own(target: Target) -> RenderedFile:
    """The same under the service manager of the person whose login and projects the agents use."""
    service = [
        "Type=simple",
        "ExecStart=%h/.local/bin/pocket-agent serve",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *_stopping(target),
        *_RESTRICTED,
    ]
    unit = ["Description=Pocket Agent Server", "StartLimitIntervalSec=0"]
    return unit_file(
        "pocket-agent.service",
        "Runs Pocket Agent Server as yourself, without root, with your own settings file and data directory.",
        (("Unit", unit), ("Service", service), ("Install", ["WantedBy=default.target"])),
        restart="pocket-agent",
        folder="user",
        notes=("`loginctl enable-linger` lets it run while you are not logged in.", *_NOTES),
    )


def _stopping(target: Target) -> list[str]:
    return [*_LASTING, f"TimeoutStopSec={round(target.stop_seconds) + 20}"]


def _state(target: Target) -> list[str]:
    """Directories that systemd makes and gives to the user."""
    lines = []
    if target.data_dir.is_relative_to(_STATE) and target.data_dir != _STATE:
        lines += [f"StateDirectory={quoted(str(target.data_dir.relative_to(_STATE)))}", "StateDirectoryMode=0700"]
    logs = Path("/var/log")
    if target.log_file is not None and target.log_file.parent.is_relative_to(logs) and target.log_file.parent != logs:
        folder = target.log_file.parent.relative_to(logs)
        lines += [f"LogsDirectory={quoted(str(folder))}", "LogsDirectoryMode=0750"]
    return lines


def _user(data_dir: Path) -> str:
    """Whose data directory it is: a person's, or that of the service."""
    if data_dir.is_relative_to(_HOME) and data_dir != _HOME:
        return data_dir.relative_to(_HOME).parts[0]
    return "root" if data_dir.is_relative_to("/root") else _USER


def _argument(path: Path) -> str:
    return quoted(str(path).replace("$", "$$"))
