"""What a device may ask for: everything, or only to watch, or only within some projects."""

from typing import Final

import msgspec

from pocket_agent.errors import ForbiddenError
from pocket_agent.model import Device, ExecuteOptions
from pocket_agent.protocol.requests import Need

LIMITED_MODES: Final = ("default", "plan")
"""The permission modes in which a device that is limited to some projects may have an agent work."""
_UNLIMITED_OPTIONS: Final = (
    "allowed_tools",
    "mcp_config",
    "add_dirs",
    "append_system_prompt",
    "dangerously_skip_permissions",
)
"""Options with which a prompt runs programs without an approval, or leaves its project."""


def check_permission(device: Device, need: Need) -> None:
    """Refuse a request that is not for this device; which projects it may name is checked elsewhere.

    Raises:
        ForbiddenError: the device may only watch, or only see some projects.
    """
    if device.view_only and need in {Need.ACT, Need.OWN}:
        raise ForbiddenError("This device may only watch.")
    if device.projects is not None and need in {Need.OVERVIEW, Need.OWN}:
        raise ForbiddenError("This device may only see some projects; this concerns the whole server.")


def limit_options(device: Device, options: ExecuteOptions, inherited: str | None) -> ExecuteOptions:
    """The options of a prompt, held to what a device that is limited to some projects may choose.

    Args:
        device: gives the prompt.
        options: as it chose them.
        inherited: the permission mode that holds without a choice. It may be one that another device chose for
            the project, so the prompt of a limited device names its own.

    Raises:
        ForbiddenError: it chose something that takes questions away, or leaves the project.
    """
    if device.projects is None:
        return options
    chosen = [name for name in _UNLIMITED_OPTIONS if getattr(options, name)]
    if chosen:
        raise ForbiddenError(f"A device that is limited to some projects may not choose {', '.join(chosen)}.")
    if options.permission_mode is not None:
        check_limited_mode(device, options.permission_mode)
        return options
    mode = inherited if inherited in LIMITED_MODES else LIMITED_MODES[0]
    return msgspec.structs.replace(options, permission_mode=mode)


def check_limited_mode(device: Device, mode: str) -> None:
    """Refuse a permission mode beyond those of `LIMITED_MODES` to a device that is limited to some projects.

    Raises:
        ForbiddenError: it is one.
    """
    if device.projects is not None and mode not in LIMITED_MODES:
        raise ForbiddenError(
            f"A device that is limited to some projects may only choose the modes {' and '.join(LIMITED_MODES)}."
        )


def check_limited_answer(device: Device, *, changed: bool, remembered: bool) -> None:
    """Refuse answers that do more than allow or deny what the agent asked for, to a limited device.

    Raises:
        ForbiddenError: it changes the input, or has the answer remembered.
    """
    if device.projects is not None and (changed or remembered):
        what = "change what an agent asked for" if changed else "have an answer remembered"
        raise ForbiddenError(f"A device that is limited to some projects may not {what}; allow it once, or deny it.")
