"""Writes events of the core to the audit log: logins, refused ones, starts and stops."""

from collections.abc import Mapping
from typing import Final

from pocket_agent import events
from pocket_agent.audit.audit_log import AuditLog, AuditRecord, timestamp
from pocket_agent.events import Event

_CODES: Final = {
    "unauthorized": "UNAUTHORIZED",
    "throttled": "RATE_LIMITED",
    "host": "FORBIDDEN",
    "origin": "FORBIDDEN",
    "rate": "RATE_LIMITED",
    "limit": "RESOURCE_LIMIT",
    "stopping": "RESOURCE_LIMIT",
}


class AuditObserver:
    """An `Observer` that notes logins, refused ones, and the start and the end of the server.

    Args:
        trail: where to.
    """

    def __init__(self, trail: AuditLog) -> None:
        self._trail = trail

    def emit(self, event: Event) -> None:
        """Note an event, if it is one of these."""
        match event:
            case events.ServerStarted():
                self._note("server_start", details={"version": event.version, "addresses": list(event.addresses)})
            case events.ServerStopping():
                self._note("server_stop", details={"reason": event.reason})
            case events.SettingsReloaded():
                self._note("settings_reload")
            case events.SettingsRefused():
                self._note("settings_reload", "VALIDATION_FAILED")
            case events.ConnectionOpened():
                details = {"connection_id": event.connection_id}
                self._note("login", by=event.device, device_id=event.device_id, address=event.remote, details=details)
            case events.ConnectionRejected():
                self._refused(event)

    def _refused(self, event: events.ConnectionRejected) -> None:
        details: dict[str, object] = {"reason": event.reason, "count": event.count}
        self._note(event.attempt, _CODES[event.reason], address=event.remote, details=details)

    def _note(
        self,
        action: str,
        outcome: str = "ok",
        *,
        by: str | None = None,
        device_id: str | None = None,
        address: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        self._trail.note(AuditRecord(timestamp(), action, outcome, by, device_id, address, None, details or {}))
