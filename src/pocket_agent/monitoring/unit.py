"""What all units of systemd have in common: their form, and what a service may not do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pocket_agent.monitoring.output import Head, RenderedFile, text_file

HARDENED: Final[Mapping[str, str]] = {
    "CapabilityBoundingSet": "",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RemoveIPC": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "UMask": "0077",
}
"""Nothing that a program of the stack needs (systemd.exec(5), Sandboxing)."""

_HOMES: Final = tuple(map(Path, ("/home", "/root", "/run/user")))

Sections = Sequence[tuple[str, Sequence[str]]]


def is_home(path: Path | None) -> bool:
    """Whether `ProtectHome=` would hide it."""
    return path is not None and any(path.is_relative_to(home) for home in _HOMES)


def unit_file(
    name: str,
    what: str,
    sections: Sections,
    *,
    restart: str,
    folder: str = "system",
    notes: tuple[str, ...] = (),
) -> RenderedFile:
    """A unit or a drop-in.

    Args:
        name: of the file, with its suffix.
        what: what it is for.
        sections: names with their lines.
        restart: the unit that takes it up.
        folder: `system`, or `user` for a unit of a person's own service manager.
        notes: further lines of its head.
    """
    own = folder == "user"
    control = "systemctl --user" if own else "systemctl"
    head = Head(
        what=what,
        place=f"{'~/.config' if own else '/etc'}/systemd/{folder}/{name}",
        reload=f"{control} daemon-reload && {control} restart {restart}",
        notes=notes,
    )
    body = "\n".join(f"[{section}]\n" + "".join(f"{line}\n" for line in lines) for section, lines in sections)
    return text_file(f"systemd/{'user/' if own else ''}{name}", head, body)


def quoted(text: str) -> str:
    """A value that may hold blanks, as one word; `%` begins a specifier (systemd.syntax(7), systemd.unit(5))."""
    text = text.replace("%", "%%")
    if not any(character in text for character in " \t\"'\\"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
