"""SIGHUP: reads the settings again and applies those that can change at run time, all of them or none."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pocket_agent.errors import PocketAgentError
from pocket_agent.events import Observer, SettingsRefused, SettingsReloaded, TaskFaulted
from pocket_agent.notification import Notifier, Route, find_routes
from pocket_agent.observability import Log
from pocket_agent.server.guard import Hosts
from pocket_agent.server.listener import adopt, certified_hosts
from pocket_agent.server.tls import Tls
from pocket_agent.settings import LiveSettings, LoadedSettings, SettingChange, merge_reload

_RETRY_SECONDS: Final = 60.0
"""Pause before the settings are stored again after the store refused them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a server that hold more of the settings than they read each time.

    Attributes:
        tls: the encryption of the main listener, if enabled.
        hosts: get the names of its certificate.
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
    """Reads the settings again on request, and replaces the snapshot of `live`; `read` reads them as at the start."""

    def __init__(
        self, live: LiveSettings, read: Callable[[], LoadedSettings], parts: Parts, observer: Observer
    ) -> None:
        self._live = live
        self._read = read
        self._parts = parts
        self._observer = observer
        self._remembered = True

    async def run(self, asked: asyncio.Event) -> None:
        """Reload each time the event is set, until cancelled."""
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
        except Exception as error:  # noqa: BLE001 - the border of a reload: any fault refuses it
            self._observer.emit(TaskFaulted("reload", error))
            self._observer.emit(SettingsRefused(f"The settings could not be put in place ({type(error).__name__})."))

    async def _reload(self) -> None:
        """Do everything that can fail first; then change all parts without an await in between."""
        parts = self._parts
        read = await asyncio.to_thread(self._read)
        merged, result = merge_reload(self._live.loaded, read)
        routes = await asyncio.to_thread(find_routes, merged.settings.notifications)
        server = merged.settings.server
        certificate = None
        if parts.tls is not None:  # in a thread, since it may start a process that makes a certificate
            certificate = await asyncio.to_thread(parts.tls.read, server.tls, certified_hosts(server))
        log = await parts.log.prepare(merged.settings.logging)
        try:
            if parts.tls is not None and certificate is not None:
                parts.tls.use(certificate)
            self._take_over(merged, routes)
            log.use()
            self._remembered = False
            parts.note(result.applied)
            changed, deferred = (tuple(change.key for change in kind) for kind in (result.applied, result.deferred))
            self._observer.emit(SettingsReloaded(changed, deferred))
        finally:
            await log.close()

    def _take_over(self, merged: LoadedSettings, routes: Sequence[Route]) -> None:
        parts, before = self._parts, self._live.loaded
        try:
            self._live.loaded = merged
            for take_over in parts.renewals:
                take_over()
        except Exception:
            self._live.loaded = before
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
