"""The whole monitoring stack as files, out of the settings of the servers that it watches."""

from collections.abc import Sequence

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.aggregation import aggregation_files
from pocket_agent.monitoring.alertmanager import alertmanager_file
from pocket_agent.monitoring.blackbox import blackbox_file
from pocket_agent.monitoring.compose import compose_files
from pocket_agent.monitoring.grafana import provisioning_files
from pocket_agent.monitoring.k6 import k6_file
from pocket_agent.monitoring.output import RenderedFile
from pocket_agent.monitoring.prometheus import prometheus_file
from pocket_agent.monitoring.rulefile import rule_files
from pocket_agent.monitoring.systemd import systemd_files
from pocket_agent.monitoring.target import target_of
from pocket_agent.monitoring.tracing import tracing_files


def render(settings: Settings, others: Sequence[Settings] = ()) -> list[RenderedFile]:
    """Every file of the stack, the same bytes each time, sorted by path.

    Args:
        settings: the server's; its `monitoring` and `alerts` sections are those of the stack.
        others: further servers on this machine that the same stack watches.
    """
    targets = [target_of(settings)]
    targets += [target_of(other, unit=f"pocket-agent-{number}") for number, other in enumerate(others, start=2)]
    files = [
        prometheus_file(settings, targets),
        *rule_files(settings),
        alertmanager_file(settings),
        blackbox_file(targets),
        *aggregation_files(settings, targets),
        *tracing_files(settings),
        *provisioning_files(settings),
        k6_file(targets[0]),
        *compose_files(settings),
        *systemd_files(settings),
    ]
    return sorted(files, key=lambda file: file.path)
