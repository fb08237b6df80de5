"""The whole monitoring stack as files, out of the settings of the servers that it watches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.aggregation import aggregation_files
from pocket_agent.monitoring.alertmanager import alertmanager_file
from pocket_agent.monitoring.blackbox import blackbox_file
from pocket_agent.monitoring.compose import compose_file
from pocket_agent.monitoring.conflict import refuse_conflicts
from pocket_agent.monitoring.dashboard import dashboard_files
from pocket_agent.monitoring.elastic import elastic_files
from pocket_agent.monitoring.grafana import provisioning_files
from pocket_agent.monitoring.index import index_file
from pocket_agent.monitoring.k6 import k6_file
from pocket_agent.monitoring.local import local_file
from pocket_agent.monitoring.output import RenderedFile
from pocket_agent.monitoring.prometheus import prometheus_file
from pocket_agent.monitoring.rulefile import rule_files, rule_test_files
from pocket_agent.monitoring.systemd import systemd_files
from pocket_agent.monitoring.target import SERVICE_FILE, target_of
from pocket_agent.monitoring.tracing import tracing_files


@dataclass(frozen=True, slots=True)
class Server:
    """A server that the stack watches.

    Attributes:
        settings: all of them.
        file: where it reads them from.
    """

    settings: Settings
    file: Path = SERVICE_FILE


def render(settings: Settings, others: Sequence[Settings] = ()) -> list[RenderedFile]:
    """Every file of the stack for servers whose settings files are where those of services are; see `render_stack`."""
    files = [SERVICE_FILE.with_stem(f"server-{number}") for number in range(2, len(others) + 2)]
    return render_stack([Server(settings), *map(Server, others, files)])


def render_stack(servers: Sequence[Server]) -> list[RenderedFile]:
    """Every file of the stack, the same bytes each time, sorted by path.

    Args:
        servers: on this machine; the sections `monitoring` and `alerts` of the first are those of the stack.

    Raises:
        ConfigurationError: the settings are of no use for a stack.
    """
    settings, *others = [server.settings for server in servers]
    refuse_conflicts(settings, others)
    targets = [
        target_of(server.settings, unit="pocket-agent" if number == 1 else f"pocket-agent-{number}", config=server.file)
        for number, server in enumerate(servers, start=1)
    ]
    files = [
        prometheus_file(settings, targets),
        *rule_files(settings),
        *rule_test_files(settings),
        alertmanager_file(settings),
        blackbox_file(targets),
        *aggregation_files(settings, targets),
        *elastic_files(targets),
        *tracing_files(settings),
        *provisioning_files(settings),
        *dashboard_files(settings),
        k6_file(targets[0]),
        compose_file(settings, targets),
        *systemd_files(settings, targets),
        local_file(settings),
    ]
    files.append(index_file(files, settings, targets))
    return sorted(files, key=lambda file: file.path)
