"""Notifications: collects what people are told, batches it per project, and delivers it through Apprise."""

import asyncio
import logging
import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, NamedTuple

from pocket_agent import events
from pocket_agent.errors import ConfigurationError, ExecutionFailedError, ExecutionTimeoutError, ProjectNotFoundError
from pocket_agent.events import Event, NotificationLost, Observer
from pocket_agent.model import ExecutionStatus
from pocket_agent.projects import Projects
from pocket_agent.settings import CurrentSettings, NotificationSettings, is_uri

_LONGEST_NAME: Final = 60
_LONGEST_DETAIL: Final = 200
_LISTED: Final = 5
"""Projects that a message names; it counts the others."""

Urgency = Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A tool request that waits; `detail` says what the tool is to do, where that may be told."""

    tool: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class FinishedExecution:
    """The end of an execution; `code` is the error's, None for a success; `detail` as of a `PendingApproval`."""

    seconds: float
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ProjectDigest:
    """What is new in one project.

    Attributes:
        name: the project's.
        wishes: tool requests that wait.
        ends: the latest executions that ended.
        finished, failed: how many there were in all.
    """

    project_id: str
    name: str
    wishes: tuple[PendingApproval, ...] = ()
    ends: tuple[FinishedExecution, ...] = ()
    finished: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Notification:
    """What is sent."""

    title: str
    body: str
    urgency: Urgency


def compose(news: Sequence[ProjectDigest], base_url: str) -> Notification:
    """One message of all that is new, with a link to where it is.

    Args:
        news: one for each project, at least one.
        base_url: the address of the web client, without a slash at its end.
    """
    alone = news[0] if len(news) == 1 else None
    link = f"{base_url}/p/{alone.project_id}" if alone is not None else f"{base_url}/"
    where = _name(alone.name) if alone is not None else f"{len(news)} projects"
    lines = [line for one in news[:_LISTED] for line in _lines(one, named=alone is None)]
    if len(news) > _LISTED:
        lines.append(f"And {len(news) - _LISTED} more projects.")
    return Notification(f"{_headline(news)}: {where}", "\n".join([*lines, link]), _urgency(news))


def trial(base_url: str) -> Notification:
    """What shows that messages arrive."""
    body = f"Notifications of Pocket Agent Server arrive here.\n{base_url}/"
    return Notification("Pocket Agent: a test", body, "info")


def _headline(news: Sequence[ProjectDigest]) -> str:
    wishes = sum(len(one.wishes) for one in news)
    failed, finished = (sum(getattr(one, kind) for one in news) for kind in ("failed", "finished"))
    if wishes + failed + finished == 1:
        return "Approval wanted" if wishes else "Failed" if failed else "Finished"
    parts = [
        f"{wishes} approval{'s wait' if wishes > 1 else ' waits'}" if wishes else "",
        f"{failed} failed" if failed else "",
        f"{finished} finished" if finished else "",
    ]
    return ", ".join(part for part in parts if part)


def _urgency(news: Iterable[ProjectDigest]) -> Urgency:
    if any(one.wishes for one in news):
        return "warning"
    return "failure" if any(one.failed for one in news) else "success"


def _lines(news: ProjectDigest, *, named: bool) -> list[str]:
    prefix = f"{_name(news.name)}: " if named else ""
    lines = []
    if news.wishes:
        tools = list(dict.fromkeys(_clean(wish.tool, _LONGEST_NAME) for wish in news.wishes))
        verb = "wait" if len(news.wishes) > 1 else "waits"
        lines.append(f"{prefix}{', '.join(tools[:_LISTED])} {verb} for your answer.")
        lines += [_clean(wish.detail, _LONGEST_DETAIL) for wish in news.wishes[:_LISTED] if wish.detail]
    for end in news.ends:
        how = (
            f"Failed after {_duration(end.seconds)} ({end.code})"
            if end.code
            else f"Finished after {_duration(end.seconds)}"
        )
        lines.append(f"{prefix}{how}.")
        lines += [_clean(end.detail, _LONGEST_DETAIL)] if end.detail else []
    more = news.finished + news.failed - len(news.ends)
    if more > 0:
        lines.append(f"{prefix}{more} more ended.")
    return lines


def _name(name: str) -> str:
    return _clean(name, _LONGEST_NAME) or "a project"


def _clean(text: str, longest: int) -> str:
    """A text as part of a line: no control characters, no line ends, not too long."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return words if len(words) <= longest else f"{words[:longest]}…"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


_HOUR: Final = 3600.0
_MOST_WISHES: Final = 1000
_MOST_ENDS: Final = 3
"""Executions of a project that a message tells of one by one."""

Watched = Callable[[str], bool]
"""Whether somebody who could answer sees a project, by its id."""


@dataclass(slots=True)
class _PendingWish:
    project_id: str
    tool: str
    due: float
    told: bool = False


@dataclass(slots=True)
class _Ends:
    latest: deque[tuple[str, FinishedExecution]] = field(default_factory=lambda: deque(maxlen=_MOST_ENDS))
    finished: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Subjects:
    """Finds the words for what is told.

    Attributes:
        name: the name of a project; None when it is gone.
        wish: what a tool is to do, by project and approval.
        end: what an execution was to do, by project and execution.
    """

    name: Callable[[str], str | None]
    wish: Callable[[str, str], str | None]
    end: Callable[[str, str], str | None]


class Pending:
    """Keeps what is not told yet.

    Args:
        settings: what is told, and when.
        clock: the present time, in seconds that only grow.
    """

    def __init__(self, settings: CurrentSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._wishes: dict[str, _PendingWish] = {}
        self._ends: dict[str, _Ends] = {}
        self._paused: dict[str, float] = {}
        self._sent: deque[float] = deque()

    @property
    def any(self) -> bool:
        """Whether something may come to be told without anything else happening."""
        return bool(self._ends) or any(not wish.told for wish in self._wishes.values())

    def asked(self, project_id: str, approval_id: str, tool: str) -> bool:
        """A tool request waits; False when there is no room for it."""
        if not self._settings.current.notifications.approval or approval_id in self._wishes:
            return True
        if len(self._wishes) >= _MOST_WISHES:
            return False
        self._wishes[approval_id] = _PendingWish(
            project_id, tool, self._clock() + self._settings.current.notifications.approval_delay
        )
        return True

    def answered(self, approval_id: str) -> None:
        """A tool request waits no more."""
        self._wishes.pop(approval_id, None)

    def ended(self, project_id: str, execution_id: str, end: FinishedExecution, *, seen: bool) -> None:
        """An execution ended; `seen` is whether somebody watched."""
        settings = self._settings.current.notifications
        wanted = settings.failed if end.code else settings.finished and end.seconds >= settings.finished_after
        if not wanted or (seen and settings.when == "unwatched"):
            return
        ends = self._ends.setdefault(project_id, _Ends())
        ends.latest.append((execution_id, end))
        ends.failed += bool(end.code)
        ends.finished += not end.code

    def gone(self, project_id: str) -> None:
        """A project was deleted."""
        self._ends.pop(project_id, None)
        self._wishes = {key: wish for key, wish in self._wishes.items() if wish.project_id != project_id}

    def forget(self) -> None:
        """Nobody is to be told any more."""
        self._wishes.clear()
        self._ends.clear()

    def take(self, watched: Watched, subjects: Subjects) -> list[ProjectDigest]:
        """What is to be told now, which counts as told from here on; nothing when it is too early."""
        now = self._clock()
        ready = self._ready(now, watched)
        ready = {key: wishes for key, wishes in ready.items() if self._paused.get(key, now) <= now}
        while self._sent and self._sent[0] <= now - _HOUR:
            self._sent.popleft()
        if not ready or len(self._sent) >= self._settings.current.notifications.max_per_hour:
            return []
        self._sent.append(now)
        self._paused = {key: until for key, until in self._paused.items() if until > now}
        self._paused |= dict.fromkeys(ready, now + self._settings.current.notifications.project_pause)
        return [self._news(project_id, wishes, subjects) for project_id, wishes in ready.items()]

    def _ready(self, now: float, watched: Watched) -> dict[str, list[str]]:
        """The tool requests that are due by project; a project with none of them has an execution that ended."""
        ready: dict[str, list[str]] = {}
        only_unwatched = self._settings.current.notifications.when == "unwatched"
        projects = {wish.project_id for wish in self._wishes.values() if not wish.told} | self._ends.keys()
        seen = {project_id for project_id in projects if only_unwatched and watched(project_id)}
        for key, wish in self._wishes.items():
            if wish.project_id in seen:
                # Who sees it may go without an answer; then it has waited from that moment on.
                wish.due = now + self._settings.current.notifications.approval_delay
            elif not wish.told and wish.due <= now:
                ready.setdefault(wish.project_id, []).append(key)
        for project_id in list(self._ends):
            if project_id in seen:
                del self._ends[project_id]
            else:
                ready.setdefault(project_id, [])
        return ready

    def _news(self, project_id: str, approvals: list[str], subjects: Subjects) -> ProjectDigest:
        content = self._settings.current.notifications.content
        wishes = []
        for key in approvals:
            wish = self._wishes[key]
            wish.told = True
            wishes.append(PendingApproval(wish.tool, subjects.wish(project_id, key) if content else None))
        ends = self._ends.pop(project_id, _Ends())
        told = [
            FinishedExecution(end.seconds, end.code, subjects.end(project_id, key) if content else None)
            for key, end in ends.latest
        ]
        name = subjects.name(project_id) or ""
        return ProjectDigest(project_id, name, tuple(wishes), tuple(told), ends.finished, ends.failed)


_WAITING: Final = 20
"""Messages that wait for an address; more are lost."""
_PAUSES: Final = (2.0, 10.0)
"""Seconds before each further attempt."""
_TELL_SECONDS: Final = 60.0
"""How often the log is told that messages are being lost."""

Send = Callable[[Notification], bool]
"""Sends a message; whether it arrived."""
Tell = Callable[[str, str], None]
"""Is told of a message that was lost: the name of the address, and why."""


class Address(NamedTuple):
    """An address, and what it may be called: its place in the list and its scheme, nothing of the rest."""

    name: str
    url: str


def read_addresses(settings: NotificationSettings) -> list[Address]:
    """The addresses of the settings and of their file.

    Raises:
        ConfigurationError: the file cannot be read, or a line of it is no address.
    """
    urls = [*settings.urls]
    file = settings.urls_file
    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(f"The file {file} (notifications.urls_file) cannot be used: {reason}.") from error
        for number, line in enumerate(lines, start=1):
            if line and not line.startswith("#"):
                if not is_uri(line):
                    raise ConfigurationError(f"Line {number} of {file} (notifications.urls_file) is no URL.")
                urls.append(line)
    unique = dict.fromkeys(urls)
    return [Address(f"{number} ({url.partition(':')[0].lower()})", url) for number, url in enumerate(unique, start=1)]


def sender(address: Address) -> Send:
    """What sends to an address.

    Raises:
        ConfigurationError: apprise does not understand the address.
    """
    import apprise  # noqa: PLC0415 - it takes its time to load, and most servers notify nobody

    # It would tell of each failure, with the address in the text.
    logging.getLogger("apprise").disabled = True
    made = apprise.Apprise()
    with warnings.catch_warnings():
        # The first address loads all services, some of which use what newer Pythons no longer like.
        warnings.simplefilter("ignore", DeprecationWarning)
        understood = made.add(address.url)
    if not understood:
        raise ConfigurationError(
            f"Address {address.name} of notifications.urls is none that apprise understands; "
            "see https://github.com/caronc/apprise/wiki."
        )
    kinds = {
        "info": apprise.NotifyType.INFO,
        "success": apprise.NotifyType.SUCCESS,
        "warning": apprise.NotifyType.WARNING,
        "failure": apprise.NotifyType.FAILURE,
    }

    def send(message: Notification) -> bool:
        return bool(
            made.notify(
                message.body,
                title=message.title,
                notify_type=kinds[message.urgency],
                body_format=apprise.NotifyFormat.TEXT,
            )
        )

    return send


class Destination:
    """Delivers to one address, in a thread of its own.

    Args:
        name: what it is called in the log.
        send: sends a message; it may take as long as it likes.
        lost: is told how many messages were lost; by any thread.
        tell: is told of one that was lost, once a minute at most; by any thread.

    Attributes:
        name: the same, which may be changed.
    """

    def __init__(self, name: str, send: Send, lost: Callable[[int], None], tell: Tell) -> None:
        self.name = name
        self._send = send
        self._lost = lost
        self._tell = tell
        self._queue: queue.Queue[Notification | None] = queue.Queue(_WAITING)
        self._stop = threading.Event()
        self._told = -_TELL_SECONDS
        self._thread = threading.Thread(target=self._run, name=f"notification-{name}", daemon=True)
        self._thread.start()

    def put(self, message: Notification) -> None:
        """Deliver a message some time, without waiting; beyond what may wait it is lost."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._lose("too many wait")

    def retire(self) -> None:
        """Begin to end: what waits is still sent."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self.close()

    def close(self) -> None:
        """Begin to end: what is being sent may come to its end, what waits is lost."""
        self._stop.set()
        try:
            while True:
                if self._queue.get_nowait() is not None:
                    self._lose("the server stopped")
        except queue.Empty:
            pass
        self._queue.put_nowait(None)

    def join(self, seconds: float) -> None:
        """Wait for the end, for so long at most."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            reason = self._deliver(message)
            if reason is not None:
                self._lose(reason)

    def _deliver(self, message: Notification) -> str | None:
        """Send a message, a few times if need be; why it did not arrive, else None."""
        reason = "refused, or nobody answered"
        for pause in (*_PAUSES, None):
            try:
                if self._send(message):
                    return None
            except Exception as error:  # noqa: BLE001 - the border of a library with a hundred services
                reason = type(error).__name__
            if pause is None or self._stop.wait(pause):
                break
        return reason

    def _lose(self, reason: str) -> None:
        self._lost(1)
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            self._tell(self.name, reason)


def close_all(destinations: Sequence[Destination], seconds: float) -> None:
    """End them all, within so many seconds together."""
    for destination in destinations:
        destination.close()
    deadline = time.monotonic() + seconds
    for destination in destinations:
        destination.join(max(0.0, deadline - time.monotonic()))


_LOOK_SECONDS: Final = 1.0
"""How often it is looked whether something is due, while something waits."""
_CLOSE_SECONDS: Final = 2.0
"""How long a message that is being sent may take when the server stops."""
_END_CODES: Final = {
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

    def __init__(self, settings: CurrentSettings, lost: Callable[[int], None]) -> None:
        self._settings = settings
        self._lost = lost
        self._routes = find_routes(settings.current.notifications)
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
            case events.ExecutionFinished(context=context) if event.status in _END_CODES:
                end = FinishedExecution(event.duration, event.code or _END_CODES[event.status])
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
            message = compose(news, (self._settings.current.notifications.base_url or address).rstrip("/"))
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
