"""Settings that change while the server runs: which can, and how they reach whoever reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pocket_agent.config.conflict import find_conflicts
from pocket_agent.config.leaf import LEAVES, Leaf
from pocket_agent.config.loader import LoadedSettings, nested
from pocket_agent.config.settings import Section, Settings
from pocket_agent.errors import ConfigurationError


class Effect(StrEnum):
    """When a changed setting counts."""

    RELOAD = "reload"
    """When the server gets SIGHUP."""
    RESTART = "restart"
    """When the server is started again."""
    RENDER = "render"
    """When `pocket-agent monitoring render` writes the stack again: the server itself does not use it."""


_BY_SECTION: Final[Mapping[Effect, Mapping[str, str]]] = {
    Effect.RELOAD: {
        "server": "allowed_origins allowed_hosts trusted_proxies forwarded",
        "server.sso": "header users viewers",
        "server.tls": "cert key",
        "logging": "level format output fields max_size max_files",
        "limits": "max_connections connections_per_address connections_per_device requests_per_second "
        "messages_per_second bytes_per_second exempt_addresses max_projects max_executions max_queued_prompts "
        "message_size memory cost_usd_per_day refuse_over_budget min_free_disk",
        "timeouts": "execution idle ping_interval pong_timeout shutdown",
        "websocket": "write_timeout send_buffer",
        "claude": "max_processes model permission_mode allow_dangerously_skip_permissions permission_modes "
        "client_tools disallowed_tools setting_sources environment interrupt_grace terminate_grace max_spool",
        "claude.limits": "by memory processes cpu_time cpus",
        "projects": "allowed_roots",
        "storage": "max_entries max_size max_age",
        "health": "interval low_disk certificate_notice loop_lag",
        "notifications": "urls urls_file base_url approval finished failed when approval_delay finished_after "
        "project_pause max_per_hour content",
    },
    Effect.RESTART: {
        "server": "host port plain_port public_url auth",
        "server.tls": "enabled",
        "data": "dir",
        "websocket": "tail_size",
        "claude": "binary max_line inherit confinement",
        "storage": "synchronous",
        "audit": "enabled",
        "metrics": "enabled host port token_file models projects",
        "traces": "enabled endpoint headers sample_ratio service_name attributes agents",
        "": "demo",
    },
    Effect.RENDER: {
        "monitoring": "prometheus_port alertmanager_port node_port blackbox_port grafana_port loki_port tempo_port "
        "otlp_port scrape_interval retention slack_url_file slack_channel pagerduty_key_file pagerduty_url email_to "
        "email_from email_smarthost email_user email_password_file webhook_url webhook_url_file "
        "watchdog_url watchdog_url_file ca_file server_name runbook_url",
        "alerts": "for_scale slow_execution error_rate error_ratio failed_ratio limit_ratio memory_ratio disk_free "
        "certificate loop_lag restarts rejected_connections dropped_clients",
        "alerts.objectives": "availability latency success",
    },
}

EFFECTS: Final[Mapping[str, Effect]] = MappingProxyType(
    {
        f"{section}.{name}".removeprefix("."): effect
        for effect, sections in _BY_SECTION.items()
        for section, names in sections.items()
        for name in names.split()
    }
)
"""When each setting counts, by its dotted key."""


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that is another than before; the values are for print, without secrets."""

    key: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Renewal:
    """What has become of the settings that were read again.

    Attributes:
        applied: what counts from here on.
        deferred: what counts from the next start on.
    """

    applied: tuple[Change, ...]
    deferred: tuple[Change, ...]


def merge(running: LoadedSettings, read: LoadedSettings) -> tuple[Settings, Renewal]:
    """The settings of a running server, with what can change while it runs; neither argument is changed.

    Raises:
        ConfigurationError: what can change does not go with what cannot.
    """
    changes = list(_changes(running, read))
    values = {
        key: leaf.value((running if EFFECTS[key] is Effect.RESTART else read).settings) for key, leaf in LEAVES.items()
    }
    merged = Settings.model_validate(nested(values))
    conflict = next(iter(find_conflicts(merged)), None)
    if conflict is not None:
        raise ConfigurationError(
            f"{' and '.join(conflict.keys)}: {conflict.reason}. One of them needs a restart: start the server again."
        )
    return merged, Renewal(
        tuple(change for leaf, change in changes if EFFECTS[leaf.key] is Effect.RELOAD),
        tuple(change for leaf, change in changes if EFFECTS[leaf.key] is Effect.RESTART),
    )


def renew(settings: Settings, merged: Settings) -> None:
    """Let everybody who holds these settings, or a section of them, see the values of others.

    Sections are frozen for all who are given them; this is the one place that changes them, in the event loop. Who
    reads a setting each time it is needed has the new value from then on.
    """
    for leaf in LEAVES.values():
        value = leaf.value(merged)
        if value != leaf.value(settings):
            _put(settings, leaf, value)


def _changes(running: LoadedSettings, read: LoadedSettings) -> Iterator[tuple[Leaf, Change]]:
    for before, after in zip(running, read, strict=True):
        if before.value != after.value:
            yield before.leaf, Change(before.leaf.key, before.shown, after.shown)


def _put(settings: Settings, leaf: Leaf, value: object) -> None:
    *sections, name = leaf.key.split(".")
    place: Section = settings
    for section in sections:
        place = getattr(place, section)
    place.__dict__[name] = value
