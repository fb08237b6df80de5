"""Logging, metrics, tracing and health of the server.

`app.py` builds one `Observability`, gives its `observer` to the core and attaches the core to it. The names
below are imported at their first use: `monitoring` imports `catalogue` alone, and must not load prometheus_client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocket_agent.observability.catalogue import Losses
    from pocket_agent.observability.observation import Observability
    from pocket_agent.observability.status import StatusReport
    from pocket_agent.observability.structured_log import Log, open_log

__all__ = ["Log", "Losses", "Observability", "StatusReport", "open_log"]


def __getattr__(name: str) -> object:
    """Import an exported name; raises AttributeError for others."""
    if name in __all__:
        for module in ("catalogue", "structured_log", "observation", "status"):
            found = vars(import_module(f"{__name__}.{module}")).get(name)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
