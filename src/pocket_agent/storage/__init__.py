"""What the server remembers: projects, their logs, executions, approvals, processes, sessions, devices."""

from pocket_agent.storage.device_table import (
    add_device,
    add_pairing,
    cancel_pairing,
    connection_beside,
    device_by_hash,
    device_named,
    devices,
    let_in_by,
    open_pairings,
    process_of,
    redeem_pairing,
    remove_device,
    remove_devices,
    rename_device,
    rotate_device,
    running_of,
    touch_device,
)
from pocket_agent.storage.epoch import advance_audit_head, audit_head
from pocket_agent.storage.maintenance import backup
from pocket_agent.storage.store import Change, Store
from pocket_agent.storage.tables import projects, spending_since

__all__ = [
    "Change",
    "Store",
    "add_device",
    "add_pairing",
    "advance_audit_head",
    "audit_head",
    "backup",
    "cancel_pairing",
    "connection_beside",
    "device_by_hash",
    "device_named",
    "devices",
    "let_in_by",
    "open_pairings",
    "process_of",
    "projects",
    "redeem_pairing",
    "remove_device",
    "remove_devices",
    "rename_device",
    "rotate_device",
    "running_of",
    "spending_since",
    "touch_device",
]
