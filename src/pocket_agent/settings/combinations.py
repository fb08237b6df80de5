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
    """Why some settings exclude one another.

    Attributes:
        keys: the dotted keys of the settings.
    """

    keys: tuple[str, ...]
    reason: str


def is_loopback(host: str) -> bool:
    """Whether a host setting is certainly this machine: a literal loopback address, or localhost.

    Other names are not resolved, since what they resolve to can change after the check.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
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
    yield from _exposures(settings)
    yield from _port_clashes(settings)
    tls = settings.server.tls
    if (tls.cert is None) != (tls.key is None):
        yield Conflict(
            ("server.tls.cert", "server.tls.key"), "a certificate requires its key, and a key its certificate"
        )
    yield from _sso(settings)
    yield from _agent_limits(settings)
    claude = settings.claude
    if claude.max_line > claude.max_spool:
        yield Conflict(("claude.max_line", "claude.max_spool"), "the longest line must not exceed the spool")
    if claude.permission_mode == "bypassPermissions" and not claude.allow_dangerously_skip_permissions:
        yield Conflict(
            ("claude.permission_mode", "claude.allow_dangerously_skip_permissions"),
            "the mode skips every approval, which must be allowed explicitly",
        )


def _exposures(settings: Settings) -> Iterator[Conflict]:
    server = settings.server
    if is_loopback(server.host):
        return
    only = "only with a loopback host (127.0.0.1, ::1 or localhost)"
    if not server.auth:
        yield Conflict(
            ("server.auth", "server.host"),
            f"connections without a token: {only}; else keep tokens on and add devices with `pocket-agent pair`",
        )
    if not server.tls.enabled:
        yield Conflict(
            ("server.tls.enabled", "server.host"),
            f"connections without encryption: {only}, behind a proxy or a tunnel (docs/deployment/proxy.md)",
        )
    if settings.demo:
        yield Conflict(("demo", "server.host"), f"the demo model: {only}")


def _agent_limits(settings: Settings) -> Iterator[Conflict]:
    limits = settings.claude.limits
    if limits.by == "systemd" and limits.cpu_time:
        yield Conflict(("claude.limits.by", "claude.limits.cpu_time"), "systemd has no limit on CPU time; use cpus")
    if limits.by == "rlimit" and limits.cpus:
        yield Conflict(
            ("claude.limits.by", "claude.limits.cpus"), "only systemd limits the number of CPUs; use cpu_time"
        )


def _sso(settings: Settings) -> Iterator[Conflict]:
    server, sso = settings.server, settings.server.sso
    users = {*sso.users, *sso.viewers}
    if sso.header is None:
        if users:
            yield Conflict(("server.sso.header", "server.sso.users"), "users require the header that names them")
        return
    if not server.trusted_proxies:
        yield Conflict(
            ("server.sso.header", "server.trusted_proxies"), "the header is read from trusted proxies only; add one"
        )
    if not users:
        yield Conflict(("server.sso.header", "server.sso.users"), "no user would have access; add users")
    if not server.auth:
        yield Conflict(("server.sso.header", "server.auth"), "without tokens every client has access anyway")


def _port_clashes(settings: Settings) -> Iterator[Conflict]:
    # Listeners on different addresses could share a port; that is refused too, because it is never wanted.
    taken: dict[int, str] = {}
    ports = {"server.port": settings.server.port, "server.plain_port": settings.server.plain_port}
    if settings.metrics.enabled:
        ports["metrics.port"] = settings.metrics.port
    for key, port in ports.items():
        if not port:
            continue
        if port in taken:
            yield Conflict((taken[port], key), "each listener needs its own port")
        taken.setdefault(port, key)
