"""The audit log of a server: its head in the database, and the records of the server itself."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

from pocket_agent.audit import EMPTY, AuditLog, AuditRecord, FileAuditLog, Head, audit_path, timestamp
from pocket_agent.events import Observer
from pocket_agent.model import Device
from pocket_agent.settings import LiveSettings, LoadedSettings, SettingChange
from pocket_agent.storage import Store

_SETTINGS: Final = "settings_change"


@contextlib.asynccontextmanager
async def audited(
    trail: FileAuditLog | None, store: Store, loaded: LoadedSettings, observer: Observer
) -> AsyncIterator[None]:
    """Write the audit log until the block is left; its first record has the settings that changed since the last start.

    Without a trail no log is written; the last record of an older log is that auditing was disabled.
    """
    shown = _printed(loaded)
    before = await store.remember_settings(shown)
    changed = _difference(before, shown) if before else {}
    if trail is None and "audit.enabled" in changed:
        last = FileAuditLog(audit_path(loaded.settings.data.dir))
        last.append(AuditRecord(timestamp(), _SETTINGS, details=changed))
        async with _writing(last, store, observer):
            pass
    if trail is None:
        yield
        return
    if changed:
        trail.append(AuditRecord(timestamp(), _SETTINGS, details=changed))
    async with _writing(trail, store, observer):
        yield


@contextlib.asynccontextmanager
async def _writing(trail: FileAuditLog, store: Store, observer: Observer) -> AsyncIterator[None]:
    async def keep(head: Head) -> None:
        await store.advance_audit_head(head.seq, head.digest)

    known = await store.audit_head()
    async with trail.running(Head(*known) if known is not None else EMPTY, keep, observer):
        yield


def note_first(trail: AuditLog, device: Device) -> None:
    """Append that the server created the first device and a pairing code."""
    details = {"device_id": device.id, "name": device.name, "first": True}
    trail.append(AuditRecord(timestamp(), "device_add", details=details))
    trail.append(AuditRecord(timestamp(), "pairing_start", details={"first": True}))


def note_changes(trail: AuditLog | None, changes: Iterable[SettingChange]) -> None:
    """Append the settings that a reload has changed to the audit log."""
    details = {change.key: {"from": change.before, "to": change.after} for change in changes}
    if trail is not None and details:
        trail.append(AuditRecord(timestamp(), _SETTINGS, details=details))


async def remember_settings(store: Store, live: LiveSettings) -> None:
    """Store the settings as they are now, so that the next start does not log their changes again.

    Raises:
        FileOperationError: the store refused.
    """
    await store.remember_settings(_printed(live.loaded))


def _printed(loaded: LoadedSettings) -> dict[str, object]:
    """The settings as they are printed, without secrets."""
    return {found.setting.key: found.shown for found in loaded}


def _difference(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    return {key: {"from": before.get(key), "to": value} for key, value in after.items() if before.get(key) != value}
