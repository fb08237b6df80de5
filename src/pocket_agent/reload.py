"""SIGHUP: the settings are read again, and what can change while the server runs changes, all of it or nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from pocket_agent.config import LoadedSettings
from pocket_agent.config.renewal import merge, renew
from pocket_agent.errors import ConfigurationError
from pocket_agent.events import Observer, SettingsRefused, SettingsReloaded
from pocket_agent.notification.notifier import Notifier, find_routes
from pocket_agent.observability.log import Log
from pocket_agent.server.guard import Hosts
from pocket_agent.server.listener import adopt, certified_hosts
from pocket_agent.server.tls import Tls


@dataclass(frozen=True, slots=True)
class Parts:
    """What holds more of the settings than it reads each time.

    Attributes:
        tls: the encryption of the main listener, if there is any.
        hosts: learn the names of its certificate.
        renewals: to be called when the settings have changed.
        after: the same, when all have been called.
    """

    log: Log
    notifier: Notifier
    tls: Tls | None
    hosts: Hosts
    renewals: Iterable[Callable[[], None]]
    after: Callable[[], Awaitable[None]]


class Reloader:
    """Reads the settings again when it is asked to.

    Args:
        running: the settings that everybody reads; their values change.
        read: reads the settings as at the start.
        parts: who is told.
        observer: is told what became of it.
    """

    def __init__(
        self, running: LoadedSettings, read: Callable[[], LoadedSettings], parts: Parts, observer: Observer
    ) -> None:
        self._running = running
        self._read = read
        self._parts = parts
        self._observer = observer

    async def run(self, asked: asyncio.Event) -> None:
        """Read them again each time that the event is set, until cancelled."""
        while True:
            await asked.wait()
            asked.clear()
            try:
                await self._reload()
            except ConfigurationError as error:
                self._observer.emit(SettingsRefused(error.message))

    async def _reload(self) -> None:
        """Everything that can fail comes first."""
        parts = self._parts
        read = await asyncio.to_thread(self._read)
        merged, renewal = merge(self._running, read)
        routes = await asyncio.to_thread(find_routes, merged.notifications)
        server = merged.server
        certificate = parts.tls.read(server.tls, certified_hosts(server)) if parts.tls is not None else None
        await parts.log.reload(merged.logging)
        if parts.tls is not None and certificate is not None:
            parts.tls.use(certificate)
        renew(self._running.settings, merged)
        for take_over in parts.renewals:
            take_over()
        if parts.tls is not None:
            adopt(parts.tls, parts.hosts, self._observer)
        parts.notifier.renew(routes)
        await parts.after()
        changed, deferred = (tuple(change.key for change in kind) for kind in (renewal.applied, renewal.deferred))
        self._observer.emit(SettingsReloaded(changed, deferred))
