"""SIGHUP: the settings are read again, and what can change while the server runs changes, all of it or nothing."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pocket_agent.errors import PocketAgentError
from pocket_agent.events import Observer, SettingsRefused, SettingsReloaded, TaskFaulted
from pocket_agent.notification.outbox import Notifier, Route, find_routes
from pocket_agent.observability import Log
from pocket_agent.server.guard import Hosts
from pocket_agent.server.listener import adopt, certified_hosts
from pocket_agent.server.tls import Tls
from pocket_agent.settings import LoadedSettings, SettingChange, Settings, apply_reload, merge_reload

_RETRY_SECONDS: Final = 60.0
"""How long to wait until the settings are stored again after the store refused them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a server that hold more of the settings than they read each time.

    Attributes:
        tls: the encryption of the main listener, if there is any.
        hosts: learn the names of its certificate.
        renewals: called when the settings have changed.
        note: appends the changes to the audit log; never blocks.
        remember: stores the settings, so that the next start knows which have changed; a store that refuses
            does not undo the reload.
    """

    log: Log
    notifier: Notifier
    tls: Tls | None
    hosts: Hosts
    renewals: Iterable[Callable[[], None]]
    note: Callable[[Iterable[SettingChange]], None]
    remember: Callable[[], Awaitable[None]]


class Reloader:
    """Reads the settings again when it is asked to.

    Args:
        running: the settings that all parts of the server read; their values change.
        read: reads the settings as at the start.
        parts: the parts of the server that get new settings.
        observer: gets the outcome of each reload.
    """

    def __init__(
        self, running: LoadedSettings, read: Callable[[], LoadedSettings], parts: Parts, observer: Observer
    ) -> None:
        self._running = running
        self._read = read
        self._parts = parts
        self._observer = observer
        self._remembered = True

    async def run(self, asked: asyncio.Event) -> None:
        """Read them again each time that the event is set, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._remembered else _RETRY_SECONDS):
                    await asked.wait()
            if asked.is_set():
                asked.clear()
                await self._try_to_reload()
            if not self._remembered:
                await self._remember()

    async def _try_to_reload(self) -> None:
        try:
            await self._reload()
        except PocketAgentError as error:
            self._observer.emit(SettingsRefused(error.message))
        except Exception as error:  # noqa: BLE001 - the border of a reload: it is refused, whatever was raised
            self._observer.emit(TaskFaulted("reload", error))
            self._observer.emit(SettingsRefused(f"The settings could not be put in place ({type(error).__name__})."))

    async def _reload(self) -> None:
        """Do everything that can fail first; then change all parts without an await in between."""
        parts = self._parts
        read = await asyncio.to_thread(self._read)
        merged, renewal = merge_reload(self._running, read)
        routes = await asyncio.to_thread(find_routes, merged.notifications)
        server = merged.server
        certificate = parts.tls.read(server.tls, certified_hosts(server)) if parts.tls is not None else None
        log = await parts.log.prepare(merged.logging)
        try:
            if parts.tls is not None and certificate is not None:
                parts.tls.use(certificate)
            self._take_over(merged, routes)
            log.use()
            self._remembered = False
            parts.note(renewal.applied)
            changed, deferred = (tuple(change.key for change in kind) for kind in (renewal.applied, renewal.deferred))
            self._observer.emit(SettingsReloaded(changed, deferred))
        finally:
            await log.close()

    def _take_over(self, merged: Settings, routes: Sequence[Route]) -> None:
        parts, settings = self._parts, self._running.settings
        before, _ = merge_reload(self._running, self._running)
        try:
            apply_reload(settings, merged)
            for take_over in parts.renewals:
                take_over()
        except Exception:
            apply_reload(settings, before)
            for take_over in parts.renewals:
                with contextlib.suppress(Exception):  # the first fault is raised; the parts before it go back
                    take_over()
            raise
        if parts.tls is not None:
            adopt(parts.tls, parts.hosts, self._observer)
        parts.notifier.renew(routes)

    async def _remember(self) -> None:
        try:
            await self._parts.remember()
        except PocketAgentError as error:
            self._observer.emit(TaskFaulted("settings memory", error))
        else:
            self._remembered = True
