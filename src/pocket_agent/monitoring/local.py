"""How `pocket-agent monitoring up` runs a rendered stack: written with it, so that its ports and files agree."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent.config.settings import MonitoringSettings, Settings
from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.output import Head, RenderedFile, json_file
from pocket_agent.monitoring.program import (
    ALERTMANAGER,
    BLACKBOX_EXPORTER,
    GRAFANA,
    NODE_EXPORTER,
    PROGRAMS,
    PROMETHEUS,
    Program,
    alertmanager_flags,
    blackbox_flags,
    grafana_flags,
    node_flags,
    prometheus_flags,
)

FILE: Final = "local.json"
DATA: Final = ".data"
"""Where the programs keep what they gather, below the directory of the stack."""
# Debian's build looks for both by itself, and complains at every scrape when they are not there.
_NODE_QUIET: Final = ("--no-collector.systemd", "--collector.textfile.directory=")
_HEAD: Final = Head(
    what="How `pocket-agent monitoring up` runs the programs that are installed here: their ports and flags.",
    place="this directory; what the programs gather is kept in .data",
    reload="Ctrl-C, then `pocket-agent monitoring up` again",
)


class _Entry(msgspec.Struct, frozen=True):
    port: int
    flags: list[str]


@dataclass(frozen=True, slots=True)
class Launch:
    """A program with what it is started with.

    Attributes:
        program: which one.
        port: where it listens on loopback.
        flags: its paths are relative to the directory of the stack.
    """

    program: Program
    port: int
    flags: tuple[str, ...]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


def local_file(settings: Settings) -> RenderedFile:
    """`local.json`."""
    return json_file(FILE, _HEAD, {program.name: _entry(program, settings.monitoring) for program in PROGRAMS})


def _entry(program: Program, stack: MonitoringSettings) -> dict[str, object]:
    flags = {
        PROMETHEUS.name: prometheus_flags(stack, config="prometheus/prometheus.yml", data=f"{DATA}/prometheus"),
        ALERTMANAGER.name: alertmanager_flags(
            stack, config="alertmanager/alertmanager.yml", data=f"{DATA}/alertmanager"
        ),
        NODE_EXPORTER.name: node_flags(stack, _NODE_QUIET),
        BLACKBOX_EXPORTER.name: blackbox_flags(stack, config="blackbox/blackbox.yml"),
        GRAFANA.name: grafana_flags(stack, provisioning=f"{DATA}/grafana/provisioning", data=f"{DATA}/grafana"),
    }
    return {"port": getattr(stack, program.setting.removeprefix("monitoring.")), "flags": flags[program.name]}


def read_launches(directory: Path) -> list[Launch]:
    """What is to be run of a rendered stack.

    Raises:
        FileOperationError: there is none, or its file was damaged.
    """
    path = directory / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, _Entry])
    except FileNotFoundError as error:
        advice = f"pocket-agent monitoring render {directory}"
        raise FileOperationError(f"{directory} holds no monitoring stack; write one: {advice}") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise FileOperationError(f"{path} cannot be used: {error}") from error
    known = {program.name: program for program in PROGRAMS}
    strange = sorted(found.keys() - known.keys())
    if strange:
        raise FileOperationError(f"{path} cannot be used: it names {', '.join(strange)}")
    return [Launch(known[name], entry.port, tuple(entry.flags)) for name, entry in found.items()]
