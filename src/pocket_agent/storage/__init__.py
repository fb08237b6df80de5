"""What the server remembers: projects, their logs, executions, approvals, processes, sessions, devices."""

from pocket_agent.storage.backup import backup
from pocket_agent.storage.change import Change
from pocket_agent.storage.device import (
    add_device,
    connection_beside,
    device_by_hash,
    devices,
    remove_device,
    touch_device,
)
from pocket_agent.storage.spending import spending_since
from pocket_agent.storage.sqlite import Store

__all__ = [
    "Change",
    "Store",
    "add_device",
    "backup",
    "connection_beside",
    "device_by_hash",
    "devices",
    "remove_device",
    "spending_since",
    "touch_device",
]
