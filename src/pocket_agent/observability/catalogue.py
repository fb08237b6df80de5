"""Every metric, once: its name, kind, help, and the values that its labels may have.

The names are those of the monitoring guide. A value that is not listed becomes "other", so that no
client can add series.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pocket_agent.errors import PocketAgentError
from pocket_agent.model import ProjectState
from pocket_agent.protocol.push import PUSHES
from pocket_agent.protocol.request import REQUESTS

OTHER: Final = "other"
PREFIX: Final = "pocket_agent_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    Attributes:
        name: the whole name, as it is scraped.
        labels: each label with its allowed values, `other` not counted.
        buckets: upper bounds, for a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


def _codes() -> tuple[str, ...]:
    """The wire codes of all errors."""
    kinds, codes = [PocketAgentError], set()
    while kinds:
        kind = kinds.pop()
        codes.add(kind.code)
        kinds += kind.__subclasses__()
    return tuple(sorted(codes))


_STATUS: Final = ("success", "error", "timeout", "killed")

BUILD_INFO: Final = Metric(PREFIX + "build_info", "gauge", "Always 1; the labels say what is running.")
CONNECTIONS_ACTIVE: Final = Metric(PREFIX + "connections_active", "gauge", "Number of active WebSocket connections.")
CONNECTIONS_TOTAL: Final = Metric(PREFIX + "connections_total", "counter", "WebSocket connections since the start.")
PROJECTS_TOTAL: Final = Metric(PREFIX + "projects_total", "gauge", "Number of projects.")
PROJECTS_ACTIVE: Final = Metric(
    PREFIX + "projects_active", "gauge", "Projects by state.", {"state": tuple(state.value for state in ProjectState)}
)
EXECUTIONS_TOTAL: Final = Metric(
    PREFIX + "executions_total",
    "counter",
    "Executions that are over, or were refused.",
    {"status": (*_STATUS, "rejected")},
)
EXECUTION_DURATION: Final = Metric(
    PREFIX + "execution_duration_seconds",
    "histogram",
    "Time from the start of an execution to its end.",
    {"status": _STATUS},
    (1, 5, 10, 30, 60, 120, 300, 600),
)
MESSAGES_RECEIVED: Final = Metric(
    PREFIX + "messages_received_total", "counter", "Frames from clients.", {"type": (*REQUESTS, "invalid")}
)
MESSAGES_SENT: Final = Metric(
    PREFIX + "messages_sent_total",
    "counter",
    "Frames handed to connections.",
    {"type": (*PUSHES, "agent_message")},
)
ERRORS_TOTAL: Final = Metric(
    PREFIX + "errors_total",
    "counter",
    "Errors, told to a client or of an execution.",
    {"code": _codes(), "operation": ("request", "execution", "storage")},
)

ERROR_CODES: Final[Mapping[str, tuple[str, ...]]] = {
    "execution": ("EXECUTION_FAILED", "EXECUTION_TIMEOUT"),
    "storage": ("FILE_OPERATION",),
    OTHER: (OTHER,),
}
"""The codes that an operation can have, where that is not all of them."""

CATALOGUE: Final = (
    BUILD_INFO,
    CONNECTIONS_ACTIVE,
    CONNECTIONS_TOTAL,
    PROJECTS_TOTAL,
    PROJECTS_ACTIVE,
    EXECUTIONS_TOTAL,
    EXECUTION_DURATION,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    ERRORS_TOTAL,
)
