"""Combinations of settings that are refused although each value is valid. Pure."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pocket_agent.settings.sections import Settings

_SERVER_FILES: Final = 96
"""Open files of the server itself: standard streams, listeners, log, database, watches, and a reserve."""
_AGENT_FILES: Final = 8
"""Open files of the server for one agent (its spool, its input, its pidfd), including those while it starts."""


@dataclass(frozen=True)
class Conflict:
    """Why some settings exclude one another; `keys` are their dotted keys."""

    keys: tuple[str, ...]
    reason: str


def is_loopback(host: str) -> bool:
    """Whether a host setting is certainly this machine: a literal loopback address, or localhost.

    Other names are not resolved, since what they resolve to can change after the check.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connections_for(settings: Settings, files: int) -> int:
    """The number of connections that fit into a limit of open files, next to the files of the server and its agents.

    Args:
        settings: `claude.max_processes` is used, since the server opens some files for each agent.
        files: the soft limit of open files (RLIMIT_NOFILE).
    """
    return max(0, files - _SERVER_FILES - _AGENT_FILES * settings.claude.max_processes)


def find_conflicts(settings: Settings) -> Iterator[Conflict]:
    """Every refused combination."""
    server, claude, sso = settings.server, settings.claude, settings.server.sso
    worktrees = settings.projects.worktrees
    exposed, users = not is_loopback(server.host), {*sso.users, *sso.viewers}
    only = "only with a loopback host (127.0.0.1, ::1 or localhost)"
    rules = (
        (
            exposed and not server.auth,
            ("server.auth", "server.host"),
            f"connections without a token: {only}; else keep tokens on and add devices with `pocket-agent pair`",
        ),
        (
            exposed and not server.tls.enabled,
            ("server.tls.enabled", "server.host"),
            f"connections without encryption: {only}, behind a proxy or a tunnel (docs/deployment/proxy.md)",
        ),
        (exposed and settings.demo, ("demo", "server.host"), f"the demo model: {only}"),
        *((True, keys, "each listener needs its own port") for keys in _shared_ports(settings)),
        (
            (server.tls.cert is None) != (server.tls.key is None),
            ("server.tls.cert", "server.tls.key"),
            "a certificate requires its key, and a key its certificate",
        ),
        (
            sso.header is None and users,
            ("server.sso.header", "server.sso.users"),
            "users require the header that names them",
        ),
        (
            sso.header and not server.trusted_proxies,
            ("server.sso.header", "server.trusted_proxies"),
            "the header is read from trusted proxies only; add one",
        ),
        (
            sso.header and not users,
            ("server.sso.header", "server.sso.users"),
            "no user would have access; add users",
        ),
        (
            sso.header and not server.auth,
            ("server.sso.header", "server.auth"),
            "without tokens every client has access anyway",
        ),
        (
            claude.limits.by == "systemd" and claude.limits.cpu_time,
            ("claude.limits.by", "claude.limits.cpu_time"),
            "systemd has no limit on CPU time; use cpus",
        ),
        (
            claude.limits.by == "rlimit" and claude.limits.cpus,
            ("claude.limits.by", "claude.limits.cpus"),
            "only systemd limits the number of CPUs; use cpu_time",
        ),
        (
            claude.max_line > claude.max_spool,
            ("claude.max_line", "claude.max_spool"),
            "the longest line must not exceed the spool",
        ),
        (
            claude.permission_mode == "bypassPermissions" and not claude.allow_dangerously_skip_permissions,
            ("claude.permission_mode", "claude.allow_dangerously_skip_permissions"),
            "the mode skips every approval, which must be allowed explicitly",
        ),
        (
            worktrees is not None and worktrees.is_relative_to(settings.data.dir),
            ("projects.worktrees", "data.dir"),
            "no agent may work inside the data directory; choose a folder outside it",
        ),
    )
    return (Conflict(keys, reason) for broken, keys, reason in rules if broken)


def _shared_ports(settings: Settings) -> Iterator[tuple[str, str]]:
    # Listeners on different addresses could share a port; that is refused too, because it is never wanted.
    taken: dict[int, str] = {}
    ports = {"server.port": settings.server.port, "server.plain_port": settings.server.plain_port}
    if settings.metrics.enabled:
        ports["metrics.port"] = settings.metrics.port
    for key, port in ports.items():
        if port and (first := taken.setdefault(port, key)) != key:
            yield first, key
