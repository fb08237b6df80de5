"""Settings: YAML file < environment `PA_*` < flags, with units, sources and precise refusals."""

from pocket_agent.config.conflict import is_loopback
from pocket_agent.config.loader import Effective, LoadedSettings, load_settings
from pocket_agent.config.settings import (
    ClaudeSettings,
    DataSettings,
    LimitSettings,
    LoggingSettings,
    MetricsSettings,
    ProjectSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TimeoutSettings,
    TlsSettings,
    WebsocketSettings,
)
from pocket_agent.config.unit import format_duration, format_size, parse_duration, parse_size

__all__ = [
    "ClaudeSettings",
    "DataSettings",
    "Effective",
    "LimitSettings",
    "LoadedSettings",
    "LoggingSettings",
    "MetricsSettings",
    "ProjectSettings",
    "ServerSettings",
    "Settings",
    "StorageSettings",
    "TimeoutSettings",
    "TlsSettings",
    "WebsocketSettings",
    "format_duration",
    "format_size",
    "is_loopback",
    "load_settings",
    "parse_duration",
    "parse_size",
]
