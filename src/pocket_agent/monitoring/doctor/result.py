"""The result of a check, and the server that is checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pocket_agent.monitoring.targets import Target, file_system_of, target_of
from pocket_agent.settings import DEFAULT, LoadedSettings, Settings

_INSTALLED: Final = Path("/etc/prometheus/prometheus.yml")

VOLATILE: Final = frozenset(("tmpfs", "ramfs", "devtmpfs"))
"""File systems that are empty after a restart of the machine."""

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Result:
    """The state of one thing.

    Attributes:
        name: what was checked; stable, for programs. Several results may have the same.
        status: `warning` is not urgent; `skipped` could not be checked, or is not in use.
        message: its state, for a person.
        fix: what to do; empty when nothing is.
    """

    name: str
    status: Status
    message: str
    fix: str = ""


def runbook(name: str) -> str:
    """The command that shows what to do; unlike the server's page it works when the server does not run."""
    return f"pocket-agent runbook {name}"


def ok(name: str, message: str) -> Result:
    """All is well."""
    return Result(name, "ok", message)


def warning(name: str, message: str, fix: str) -> Result:
    """Needs attention."""
    return Result(name, "warning", message, fix)


def failed(name: str, message: str, fix: str) -> Result:
    """Is broken."""
    return Result(name, "failed", message, fix)


def skipped(name: str, message: str, fix: str = "") -> Result:
    """Could not be checked, or is not in use; `fix` is how it could be."""
    return Result(name, "skipped", message, fix)


def printable(text: str) -> str:
    """Text without terminal control sequences; newlines and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


@dataclass(frozen=True, slots=True)
class Context:
    """A server and its monitoring.

    Attributes:
        loaded: its settings and where they came from.
        environment: the environment that they were read in, which agents and tracing depend on as well.
        candidates: where to look for `claude` when it is neither set nor on PATH.
        installed: the configuration of a Prometheus that runs as a service, as Debian's package has it.
        file_system: returns the type of the file system of a path, such as `ext4`.
        suffix: of this server's jobs and modules, such as `-2`, in a stack of several servers; empty for the first one,
            whose settings the stack is rendered from.
    """

    loaded: LoadedSettings
    environment: Mapping[str, str]
    candidates: tuple[Path, ...] = ()
    installed: Path = _INSTALLED
    file_system: Callable[[Path], str] = file_system_of
    suffix: str = ""

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
        """The settings below a prefix that are not the default."""
        return [key for key, source in self.loaded.sources.items() if key.startswith(prefix) and source != DEFAULT]
