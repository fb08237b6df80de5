"""What the events of the core tell of who came, and of the server itself."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from pocket_agent import events
from pocket_agent.audit.record import Record
from pocket_agent.audit.trail import Trail, timestamp
from pocket_agent.events import Event

_PER_SECOND: Final = 1.0
_AT_ONCE: Final = 100.0
"""Refusals that are written one by one, so that whoever is refused again and again fills no disk."""

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
        clock: seconds that only grow.
    """

    def __init__(self, trail: Trail, clock: Callable[[], float] = time.monotonic) -> None:
        self._trail = trail
        self._clock = clock
        self._left = _AT_ONCE
        self._at = clock()
        self._skipped = 0

    def emit(self, event: Event) -> None:
        """Note an event, if it is one of these."""
        match event:
            case events.ServerStarted():
                self._note("server_start", details={"version": event.version, "addresses": list(event.addresses)})
            case events.ServerStopping():
                self._note("server_stop", details={"reason": event.reason})
            case events.SettingsReloaded():
                self._note("settings_reload")
            case events.ConnectionOpened():
                details = {"connection_id": event.connection_id}
                self._note("login", by=event.device, address=event.remote, details=details)
            case events.ConnectionRejected():
                self._refused(event)

    def _refused(self, event: events.ConnectionRejected) -> None:
        at = self._clock()
        self._left = min(_AT_ONCE, self._left + (at - self._at) * _PER_SECOND)
        self._at = at
        if self._left < 1:
            self._skipped += event.count
            return
        self._left -= 1
        details: dict[str, object] = {"reason": event.reason, "count": event.count}
        if self._skipped:
            details["not_written_before"] = self._skipped
            self._skipped = 0
        self._note("login", _CODES[event.reason], address=event.remote, details=details)

    def _note(
        self,
        action: str,
        outcome: str = "ok",
        *,
        by: str | None = None,
        address: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        self._trail.note(Record(timestamp(), action, outcome, by, None, address, None, details or {}))
