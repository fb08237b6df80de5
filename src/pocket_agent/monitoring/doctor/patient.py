"""What is examined: a server and its monitoring, as the settings describe them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocket_agent.config import LoadedSettings, Settings
from pocket_agent.config.loader import DEFAULT
from pocket_agent.monitoring.targets import Target, target_of

_INSTALLED: Final = Path("/etc/prometheus/prometheus.yml")


@dataclass(frozen=True, slots=True)
class Patient:
    """A server and its monitoring.

    Attributes:
        loaded: its settings and where they came from.
        environment: the environment that they were read in, which agents and tracing depend on, too.
        candidates: where to look for `claude` when it is neither set nor on PATH.
        installed: the configuration of a Prometheus that runs as a service, as Debian's package has it.
    """

    loaded: LoadedSettings
    environment: Mapping[str, str]
    candidates: tuple[Path, ...] = ()
    installed: Path = _INSTALLED

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return self.loaded.settings

    @property
    def target(self) -> Target:
        """Its addresses and files."""
        return target_of(self.settings)

    @property
    def prometheus(self) -> str:
        """Where Prometheus should be."""
        return f"http://127.0.0.1:{self.settings.monitoring.prometheus_port}"

    @property
    def alertmanager(self) -> str:
        """Where Alertmanager should be."""
        return f"http://127.0.0.1:{self.settings.monitoring.alertmanager_port}"

    @property
    def blackbox(self) -> str:
        """Where the blackbox exporter should be."""
        return f"http://127.0.0.1:{self.settings.monitoring.blackbox_port}"

    def chosen(self, prefix: str) -> list[str]:
        """The settings below a prefix that somebody gave."""
        return [key for key, source in self.loaded.sources.items() if key.startswith(prefix) and source != DEFAULT]
