"""What a device may ask for: everything, or only to watch, or only within some projects."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from pocket_agent.errors import ForbiddenError
from pocket_agent.model import Device


class Need(Enum):
    """What a request needs of the device that makes it."""

    WATCH = "watch"
    """Nothing: it changes nothing, and is answered with what the device may see."""
    ACT = "act"
    """To be no viewer: it changes something within one project."""
    OWN = "own"
    """To be neither a viewer nor limited to some projects: it concerns the server as a whole."""


NEEDS: Final[Mapping[str, Need]] = MappingProxyType(
    {
        "project_list": Need.WATCH,
        "project_join": Need.WATCH,
        "project_leave": Need.WATCH,
        "get_messages": Need.WATCH,
        "session_list": Need.WATCH,
        "execution_list": Need.WATCH,
        "watch": Need.WATCH,
        "health_check": Need.WATCH,
        "project_delete": Need.ACT,
        "execute": Need.ACT,
        "agent_kill": Need.ACT,
        "agent_interrupt": Need.ACT,
        "agent_new_session": Need.ACT,
        "approval_respond": Need.ACT,
        "prompt_edit": Need.ACT,
        "prompt_cancel": Need.ACT,
        "queue_resume": Need.ACT,
        "set_model": Need.ACT,
        "set_permission_mode": Need.ACT,
        "session_resume": Need.ACT,
        "project_create": Need.OWN,
        "path_complete": Need.OWN,
        "path_inspect": Need.OWN,
        "device_list": Need.OWN,
        "device_rename": Need.OWN,
        "device_revoke": Need.OWN,
        "device_rotate": Need.OWN,
        "pairing_start": Need.OWN,
        "pairing_cancel": Need.OWN,
    }
)
"""What each request needs; one that does not stand here needs the most."""

FIGURES: Final = frozenset({"server_stats", "server_history", "server_overview"})
"""They change nothing, but tell of all projects together."""


def check_permission(device: Device, kind: str) -> None:
    """Refuse a request that is not for this device; which projects it may name is looked at elsewhere.

    Raises:
        ForbiddenError: the device may only watch, or only see some projects.
    """
    if kind in FIGURES and device.projects is None:
        return
    need = NEEDS.get(kind, Need.OWN)
    if device.view_only and need is not Need.WATCH:
        raise ForbiddenError("This device may only watch.")
    if device.projects is not None and need is Need.OWN:
        raise ForbiddenError("This device may only see some projects; this concerns the whole server.")
