"""Which alert's runbook tells what to do: /docs/runbooks/NAME, by the name of the alert."""

from collections.abc import Mapping
from typing import Final

from pocket_agent import errors
from pocket_agent.observability.operation import SERVER_CODES

OF_CHECK: Final[Mapping[str, str]] = {
    "claude": "HealthCheckFailing",
    "disk": "DiskSpaceLow",
    "storage": "StorageErrors",
    "event_loop": "EventLoopLagHigh",
    "certificate": "TLSCertificateExpiring",
    "queue": "HealthCheckFailing",
}
"""By the name of a health check."""
OF_LIMIT: Final[Mapping[str, str]] = {
    "connections": "TooManyConnections",
    "projects": "LimitNearlyReached",
    "executions": "LimitNearlyReached",
    "memory_bytes": "HighMemoryUsage",
    "cost_usd_per_day": "ClaudeCostBudget",
}
"""By the name of a limit; that of processes may be reached, since idle ones are kept up to it."""
_OF_OPERATION: Final[Mapping[str, str]] = {"storage": "StorageErrors", "connection": "ConnectionsRejected"}
_OF_CODE: Final[Mapping[str, str]] = {
    errors.ExecutionFailedError.code: "ExecutionsFailing",
    errors.ExecutionTimeoutError.code: "ExecutionsFailing",
    errors.ClaudeNotFoundError.code: "HealthCheckFailing",
    errors.ProjectLimitError.code: "LimitNearlyReached",
}


def runbook_of(code: str, operation: str) -> str | None:
    """The runbook for an error; None for a mistake of a client, which has none."""
    found = _OF_OPERATION.get(operation) or _OF_CODE.get(code)
    return found or ("HighErrorRate" if code in SERVER_CODES else None)
