"""Hears what happens and tells who is not there. It is an `Observer` of the core, and never slows it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from pocket_agent import events
from pocket_agent.config.settings import NotificationSettings
from pocket_agent.errors import ExecutionFailedError, ExecutionTimeoutError, ProjectNotFoundError
from pocket_agent.events import Event, NotificationLost, Observer
from pocket_agent.model import ExecutionStatus
from pocket_agent.notification.destination import Destination, Send, Tell, close_all, read_addresses, sender
from pocket_agent.notification.news import End, compose
from pocket_agent.notification.pending import Pending, Subjects, Watched
from pocket_agent.projects import Projects

_LOOK_SECONDS: Final = 1.0
"""How often it is looked whether something is due, while something waits."""
_CLOSE_SECONDS: Final = 2.0
"""How long a message that is being sent may take when the server stops."""
_CODES: Final = {
    ExecutionStatus.SUCCESS: None,
    ExecutionStatus.ERROR: ExecutionFailedError.code,
    ExecutionStatus.TIMEOUT: ExecutionTimeoutError.code,
}
"""The ends that are told of; whoever kills an execution knows of it."""


class Route(NamedTuple):
    """An address that messages go to, and what sends to it."""

    name: str
    url: str
    send: Send


def find_routes(settings: NotificationSettings) -> list[Route]:
    """All addresses of the settings; blocking, and the first one takes a second.

    Raises:
        ConfigurationError: an address cannot be used.
    """
    return [Route(address.name, address.url, sender(address)) for address in read_addresses(settings)]


class Notifier:
    """Notifies.

    Args:
        settings: whom, of what, and when; what of it changes, but for the addresses, counts from then on.
        lost: is told how many messages were lost; by any thread.

    Raises:
        ConfigurationError: an address cannot be used.
    """

    def __init__(self, settings: NotificationSettings, lost: Callable[[int], None]) -> None:
        self._settings = settings
        self._lost = lost
        self._routes = find_routes(settings)
        self._destinations: dict[str, Destination] = {}
        self._changed = True
        self._pending = Pending(settings, time.monotonic)
        self._wake = asyncio.Event()
        self._watched: Watched = lambda _: False

    def emit(self, event: Event) -> None:
        """Take note of what somebody may want to know."""
        if not self._routes:
            return
        match event:
            case events.ApprovalRequested():
                if not self._pending.asked(event.project_id, event.approval_id, event.tool):
                    self._lost(1)
            case events.ApprovalResolved():
                self._pending.answered(event.approval_id)
                return
            case events.ExecutionFinished(context=context) if event.status in _CODES:
                end = End(event.duration, event.code or _CODES[event.status])
                seen = self._watched(context.project_id)
                self._pending.ended(context.project_id, context.execution_id, end, seen=seen)
            case events.ProjectDeleted():
                self._pending.gone(event.project_id)
                return
            case _:
                return
        self._wake.set()

    def renew(self, routes: Sequence[Route]) -> None:
        """Go on with other addresses, and with settings that have changed."""
        self._routes = list(routes)
        self._changed = True
        self._wake.set()

    async def run(self, projects: Projects, watched: Watched, address: str, observer: Observer) -> None:
        """Tell until cancelled.

        Args:
            projects: the words for what is told, and what waited already when the server started.
            watched: whether somebody who could answer sees a project.
            address: where the server's pages are, for links, unless `base_url` says so.
            observer: is told of messages that are lost.
        """
        self._watched = watched
        subjects = _subjects(projects)
        loop = asyncio.get_running_loop()

        def tell(name: str, reason: str) -> None:
            with suppress(RuntimeError):  # a service that hangs has outlived the server
                loop.call_soon_threadsafe(observer.emit, NotificationLost(name, reason))

        try:
            while True:
                if self._changed:
                    self._open(projects, tell)
                if not self._pending.any:
                    self._wake.clear()
                    await self._wake.wait()
                self._tell(subjects, address)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            closing, self._destinations = list(self._destinations.values()), {}
            self._changed = True  # so that the next run, after a fault, opens them again
            await asyncio.to_thread(close_all, closing, _CLOSE_SECONDS)

    def _open(self, projects: Projects, tell: Tell) -> None:
        """Take up the addresses that there are now, and what waits already."""
        for url in self._destinations.keys() - {route.url for route in self._routes}:
            self._destinations.pop(url).retire()
        for name, url, send in self._routes:
            if url in self._destinations:
                self._destinations[url].name = name
            else:
                self._destinations[url] = Destination(name, send, self._lost, tell)
        self._changed = False
        if not self._routes:
            self._pending.forget()
            return
        for session in projects.all():
            for approval in session.state.pending():
                self._pending.asked(session.state.project.id, approval.approval_id, approval.tool_name)

    def _tell(self, subjects: Subjects, address: str) -> None:
        news = self._pending.take(self._watched, subjects)
        if news:
            message = compose(news, (self._settings.base_url or address).rstrip("/"))
            for destination in self._destinations.values():
                destination.put(message)


def _subjects(projects: Projects) -> Subjects:
    return Subjects(projects.name_of, partial(_wish, projects), partial(_prompt, projects))


def _wish(projects: Projects, project_id: str, approval_id: str) -> str | None:
    """What a tool is to do, in the CLI's words."""
    with suppress(ProjectNotFoundError):
        for approval in projects.get(project_id).state.pending():
            if approval.approval_id == approval_id:
                return approval.description or approval.title or bytes(approval.input).decode()
    return None


def _prompt(projects: Projects, project_id: str, execution_id: str) -> str | None:
    """The prompt of an execution, if it is the last that ended."""
    with suppress(ProjectNotFoundError):
        last = projects.get(project_id).state.last
        if last is not None and last.id == execution_id:
            return last.prompt
    return None
