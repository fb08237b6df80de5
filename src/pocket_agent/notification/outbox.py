"""Notifications: collects events, batches them per project, and delivers messages through Apprise."""

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
from datetime import datetime
from typing import Final, Literal, NamedTuple

from pocket_agent import events
from pocket_agent.errors import ConfigurationError, ProjectNotFoundError
from pocket_agent.events import Event, NotificationLost, Observer
from pocket_agent.model import ExecutionContext, ExecutionStatus, HoldReason, project_of
from pocket_agent.projects import Projects
from pocket_agent.settings import CurrentSettings, NotificationSettings, is_uri, read_source

_LONGEST_NAME: Final = 60
_LONGEST_DETAIL: Final = 200
_LISTED: Final = 5  # projects that a message names; the others are counted

Urgency = Literal["info", "success", "warning", "failure"]


class PendingApproval(NamedTuple):
    """A tool request that waits; `detail`: what the tool will do, None unless `notifications.content` is on."""

    tool: str
    detail: str | None = None


class FinishedExecution(NamedTuple):
    """The end of an execution, or its pause; `detail`: its prompt, as in a `PendingApproval`.

    `code`: of its error. `paused`: why it stopped, and when it continues; it counts as failed.
    """

    seconds: float
    code: str | None = None
    detail: str | None = None
    paused: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether it has stopped before its end."""
        return bool(self.code or self.paused)


@dataclass(frozen=True, slots=True)
class ProjectDigest:
    """What a message says about one project: open approvals, the latest executions that ended, and totals of these."""

    conversation_id: str
    name: str
    approvals: tuple[PendingApproval, ...] = ()
    executions: tuple[FinishedExecution, ...] = ()
    finished: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Notification:
    """A message."""

    title: str
    body: str
    urgency: Urgency


def compose(digests: Sequence[ProjectDigest], base_url: str) -> Notification:
    """One message for all projects, at least one; `base_url` is that of the web client, without a slash at its end."""
    alone = digests[0] if len(digests) == 1 else None
    link = f"{base_url}/p/{alone.conversation_id}" if alone is not None else f"{base_url}/"
    where = _name(alone.name) if alone is not None else f"{len(digests)} projects"
    lines = [line for digest in digests[:_LISTED] for line in _lines(digest, named=alone is None)]
    if len(digests) > _LISTED:
        lines.append(f"And {len(digests) - _LISTED} more projects.")
    return Notification(f"{_headline(digests)}: {where}", "\n".join([*lines, link]), _urgency(digests))


def trial(base_url: str) -> Notification:
    """A test message."""
    body = f"Notifications of Pocket Agent Server arrive here.\n{base_url}/"
    return Notification("Pocket Agent: a test", body, "info")


def _headline(digests: Sequence[ProjectDigest]) -> str:
    approvals = sum(len(digest.approvals) for digest in digests)
    failed = sum(digest.failed for digest in digests)
    finished = sum(digest.finished for digest in digests)
    if approvals + failed + finished == 1:
        paused = any(end.paused for digest in digests for end in digest.executions)
        return "Approval wanted" if approvals else "Paused" if paused else "Failed" if failed else "Finished"
    parts = [
        f"{approvals} approval{'s wait' if approvals > 1 else ' waits'}" if approvals else "",
        f"{failed} failed" if failed else "",
        f"{finished} finished" if finished else "",
    ]
    return ", ".join(filter(None, parts))


def _urgency(digests: Iterable[ProjectDigest]) -> Urgency:
    if any(digest.approvals for digest in digests):
        return "warning"
    return "failure" if any(digest.failed for digest in digests) else "success"


def _lines(digest: ProjectDigest, *, named: bool) -> list[str]:
    prefix = f"{_name(digest.name)}: " if named else ""
    lines = []
    if digest.approvals:
        tools = list(dict.fromkeys(_clean(approval.tool, _LONGEST_NAME) for approval in digest.approvals))
        verb = "wait" if len(digest.approvals) > 1 else "waits"
        lines.append(f"{prefix}{', '.join(tools[:_LISTED])} {verb} for your answer.")
        lines += [_clean(each.detail, _LONGEST_DETAIL) for each in digest.approvals[:_LISTED] if each.detail]
    for end in digest.executions:
        why = f" ({end.code})" if end.code else f": {_clean(end.paused, _LONGEST_DETAIL)}" if end.paused else ""
        verb = "Paused" if end.paused else "Failed" if end.code else "Finished"
        lines.append(f"{prefix}{verb} after {_duration(end.seconds)}{why}.")
        lines += [_clean(end.detail, _LONGEST_DETAIL)] if end.detail else []
    more = digest.finished + digest.failed - len(digest.executions)
    return [*lines, f"{prefix}{more} more ended."] if more > 0 else lines


def _name(name: str) -> str:
    return _clean(name, _LONGEST_NAME) or "a project"


def _clean(text: str, longest: int) -> str:
    """The text in one line, without control characters and truncated."""
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
_MAX_APPROVALS: Final = 1000
_MAX_EXECUTIONS: Final = 3  # executions of a project that a message lists; the others are counted

Watched = Callable[[str], bool]
"""Whether a client that may answer shows a conversation, by its id."""


@dataclass(slots=True)
class _OpenApproval:
    conversation_id: str
    tool: str
    due: float
    sent: bool = False


@dataclass(slots=True)
class _EndedExecutions:
    latest: deque[tuple[str, FinishedExecution]] = field(default_factory=lambda: deque(maxlen=_MAX_EXECUTIONS))
    finished: int = 0
    failed: int = 0


class Descriptions:
    """Texts for messages; None if the project, the approval or the execution is gone."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects
        self.name = projects.title_of

    def approval(self, conversation_id: str, approval_id: str) -> str | None:
        """What a tool will do, in the CLI's words."""
        with suppress(ProjectNotFoundError):
            for approval in self._projects.get(conversation_id).state.pending():
                if approval.approval_id == approval_id:
                    return approval.description or approval.title or bytes(approval.input).decode()
        return None

    def prompt(self, conversation_id: str, execution_id: str) -> str | None:
        """The prompt of an execution, if it is the last that ended."""
        with suppress(ProjectNotFoundError):
            last = self._projects.get(conversation_id).state.last
            if last is not None and last.id == execution_id:
                return last.prompt
        return None


class PendingDigests:
    """Batches events per conversation until a message about them is due; `clock` is monotonic, in seconds."""

    def __init__(self, settings: CurrentSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._approvals: dict[str, _OpenApproval] = {}
        self._executions: dict[str, _EndedExecutions] = {}
        self._paused: dict[str, float] = {}
        self._sent: deque[float] = deque()

    @property
    def any(self) -> bool:
        """Whether a message may become due without another event."""
        return bool(self._executions) or any(not approval.sent for approval in self._approvals.values())

    def approval_requested(self, conversation_id: str, approval_id: str, tool: str) -> bool:
        """Add a tool request; False when too many are open."""
        settings = self._settings.current.notifications
        if not settings.approval or approval_id in self._approvals:
            return True
        if len(self._approvals) >= _MAX_APPROVALS:
            return False
        self._approvals[approval_id] = _OpenApproval(conversation_id, tool, self._clock() + settings.approval_delay)
        return True

    def approval_resolved(self, approval_id: str) -> None:
        """Remove a tool request."""
        self._approvals.pop(approval_id, None)

    def execution_finished(
        self, conversation_id: str, execution_id: str, end: FinishedExecution, *, seen: bool
    ) -> None:
        """Add the end of an execution; `seen`: a client showed the conversation."""
        settings = self._settings.current.notifications
        wanted = settings.failed if end.has_failed else settings.finished and end.seconds >= settings.finished_after
        if not wanted or (seen and settings.when == "unwatched"):
            return
        ended = self._executions.setdefault(conversation_id, _EndedExecutions())
        ended.latest.append((execution_id, end))
        ended.failed += end.has_failed
        ended.finished += not end.has_failed

    def deleted(self, gone: str) -> None:
        """Remove all events of a conversation, with the main one those of the whole project."""
        kept = {key for key in self._keys() if gone not in {key, project_of(key)}}
        self._executions = {key: found for key, found in self._executions.items() if key in kept}
        self._approvals = {key: found for key, found in self._approvals.items() if found.conversation_id in kept}

    def _keys(self) -> set[str]:
        return {*self._executions, *(found.conversation_id for found in self._approvals.values())}

    def clear(self) -> None:
        """Remove all events."""
        self._approvals.clear()
        self._executions.clear()

    def take(self, watched: Watched, descriptions: Descriptions) -> list[ProjectDigest]:
        """Remove and return what is due; empty when nothing is, or while the rate limits forbid a message."""
        settings, now = self._settings.current.notifications, self._clock()
        ready = {key: due for key, due in self._ready(now, watched).items() if self._paused.get(key, now) <= now}
        while self._sent and self._sent[0] <= now - _HOUR:
            self._sent.popleft()
        if not ready or len(self._sent) >= settings.max_per_hour:
            return []
        self._sent.append(now)
        self._paused = {key: until for key, until in self._paused.items() if until > now}
        self._paused |= dict.fromkeys(ready, now + settings.project_pause)
        return [self._digest(conversation_id, approvals, descriptions) for conversation_id, approvals in ready.items()]

    def _ready(self, now: float, watched: Watched) -> dict[str, list[str]]:
        """The approvals that are due, by project; a project without any has an execution that ended."""
        ready: dict[str, list[str]] = {}
        settings = self._settings.current.notifications
        waiting = {approval.conversation_id for approval in self._approvals.values() if not approval.sent}
        waiting |= self._executions.keys()
        seen = {key for key in waiting if settings.when == "unwatched" and watched(key)}
        for key, approval in self._approvals.items():
            if approval.conversation_id in seen:
                # The user may close the page without an answer; the delay starts at that moment.
                approval.due = now + settings.approval_delay
            elif not approval.sent and approval.due <= now:
                ready.setdefault(approval.conversation_id, []).append(key)
        for conversation_id in list(self._executions):
            if conversation_id in seen:
                del self._executions[conversation_id]
            else:
                ready.setdefault(conversation_id, [])
        return ready

    def _digest(self, conversation_id: str, keys: list[str], descriptions: Descriptions) -> ProjectDigest:
        content = self._settings.current.notifications.content
        approvals = []
        for key in keys:
            approval = self._approvals[key]
            approval.sent = True
            detail = descriptions.approval(conversation_id, key) if content else None
            approvals.append(PendingApproval(approval.tool, detail))
        ended = self._executions.pop(conversation_id, _EndedExecutions())
        prompt = descriptions.prompt
        executions = tuple(
            end._replace(detail=prompt(conversation_id, key) if content else None) for key, end in ended.latest
        )
        name = descriptions.name(conversation_id) or ""
        return ProjectDigest(conversation_id, name, tuple(approvals), executions, ended.finished, ended.failed)


_MAX_QUEUED: Final = 20  # messages queued for an address; further ones are lost
_RETRY_PAUSES: Final = (2.0, 10.0)  # seconds before each further attempt
_REPORT_SECONDS: Final = 60.0  # shortest time between two reports of lost messages

Send = Callable[[Notification], bool]
"""Sends a message and returns whether it arrived; it may block without a limit."""
ReportLoss = Callable[[str, str], None]
"""Reports a lost message: the name of the address, and the reason."""


class Address(NamedTuple):
    """An address; its name has its number in the settings and its scheme, since the rest may be secret."""

    name: str
    url: str


Route = tuple[Address, Send]
"""An address and what sends to it."""


_MAX_FILE_BYTES: Final = 256 * 1024


def read_addresses(settings: NotificationSettings) -> list[Address]:
    """The addresses of the settings and of `notifications.urls_file`.

    Raises:
        ConfigurationError: the file cannot be read, or a line of it is not a URL.
    """
    urls = [*settings.urls]
    file = settings.urls_file
    if file is not None:
        try:
            lines = [line.strip() for line in read_source(file, _MAX_FILE_BYTES).decode("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(f"The file {file} (notifications.urls_file) cannot be used: {reason}.") from error
        for number, line in enumerate(lines, start=1):
            if line and not line.startswith("#"):
                if not is_uri(line):
                    raise ConfigurationError(f"Line {number} of {file} (notifications.urls_file) is not a URL.")
                urls.append(line)
    unique = dict.fromkeys(urls)
    return [Address(f"{number} ({url.partition(':')[0].lower()})", url) for number, url in enumerate(unique, start=1)]


def sender(address: Address) -> Send:
    """What sends to an address. Raises ConfigurationError: apprise does not support the address."""
    import apprise  # noqa: PLC0415 - it loads slowly, and most servers send no notifications

    # It would log each failure with the address in the text.
    logging.getLogger("apprise").disabled = True
    made = apprise.Apprise()
    with warnings.catch_warnings():
        # The first address loads all services, some of which use deprecated parts of Python.
        warnings.simplefilter("ignore", DeprecationWarning)
        supported = made.add(address.url)
    if not supported:
        raise ConfigurationError(
            f"Address {address.name} of notifications.urls is not supported by apprise; "
            "see https://github.com/caronc/apprise/wiki."
        )

    def send(message: Notification) -> bool:
        kind = getattr(apprise.NotifyType, message.urgency.upper())
        form = apprise.NotifyFormat.TEXT
        return bool(made.notify(message.body, title=message.title, notify_type=kind, body_format=form))

    return send


def find_routes(settings: NotificationSettings) -> list[Route]:
    """All addresses of the settings; blocking, and the first one takes a second.

    Raises:
        ConfigurationError: an address cannot be used.
    """
    return [(address, sender(address)) for address in read_addresses(settings)]


class Destination:
    """Delivers to one address, in a thread of its own, which ends after `retire` or `close`.

    Any thread calls `lost` with the number of lost messages, and `report` once a minute at most.
    """

    def __init__(self, name: str, send: Send, lost: Callable[[int], None], report: ReportLoss) -> None:
        self.name = name
        self._send = send
        self._lost = lost
        self._report = report
        self._queue: queue.Queue[Notification | None] = queue.Queue(_MAX_QUEUED)
        self._stop = threading.Event()
        self._reported = -_REPORT_SECONDS
        self.thread = threading.Thread(target=self._run, name=f"notification-{name}", daemon=True)
        self.thread.start()

    def put(self, message: Notification) -> None:
        """Queue a message without blocking; when the queue is full the message is lost."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._lose("too many wait")

    def retire(self) -> None:
        """Stop after the queued messages."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self.close()

    def close(self) -> None:
        """Stop after the message that is being sent; the queued ones are lost."""
        self._stop.set()
        with suppress(queue.Empty):
            while True:
                if self._queue.get_nowait() is not None:
                    self._lose("the server stopped")
        self._queue.put_nowait(None)

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            reason = self._deliver(message)
            if reason is not None:
                self._lose(reason)

    def _deliver(self, message: Notification) -> str | None:
        """Send a message, with retries; returns why it did not arrive, else None."""
        reason = "refused, or no answer"
        for pause in (*_RETRY_PAUSES, None):
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
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            self._report(self.name, reason)


def close_all(destinations: Sequence[Destination], seconds: float) -> None:
    """Close all destinations and wait `seconds` at most for their threads."""
    for destination in destinations:
        destination.close()
    deadline = time.monotonic() + seconds
    for destination in destinations:
        destination.thread.join(max(0.0, deadline - time.monotonic()))


_POLL_SECONDS: Final = 1.0  # time between two checks whether something is due, while something waits
_CLOSE_SECONDS: Final = 2.0  # time limit for a message that is being sent when the server stops
_REPORTED: Final = {ExecutionStatus.SUCCESS, ExecutionStatus.ERROR, ExecutionStatus.TIMEOUT}
"""Statuses that cause a message; a user who killed an execution needs none."""


def _paused(event: events.ExecutionPaused) -> str:
    """Why an execution was paused, and when it continues."""
    why = "a usage limit is reached" if event.reason is HoldReason.USAGE_LIMIT else "its process was lost"
    if event.until is None:
        return f"{why}, continue it or drop it"
    return f"{why}, it continues at {datetime.fromtimestamp(event.until / 1000).astimezone():%Y-%m-%d %H:%M %Z}"


class Notifier:
    """An `Observer` that sends notifications. Changed settings take effect at once, those of addresses by `renew`.

    Raises:
        ConfigurationError: an address cannot be used.
    """

    def __init__(self, settings: CurrentSettings, lost: Callable[[int], None]) -> None:
        self._settings = settings
        self._lost = lost
        self._routes = find_routes(settings.current.notifications)
        self._destinations: dict[str, Destination] = {}
        self._changed = True
        self._pending = PendingDigests(settings, time.monotonic)
        self._wake = asyncio.Event()
        self._watched: Watched = lambda _: False

    def emit(self, event: Event) -> None:
        """Add an event that may cause a message."""
        if not self._routes:
            return
        match event:
            case events.ApprovalRequested():
                if not self._pending.approval_requested(event.conversation_id, event.approval_id, event.tool):
                    self._lost(1)
                self._wake.set()
            case events.ApprovalResolved():
                self._pending.approval_resolved(event.approval_id)
            case events.ExecutionFinished(context=context) if event.status in _REPORTED:
                self._ended(context, FinishedExecution(event.duration, event.error_code))
            case events.ExecutionPaused(context=context):
                self._ended(context, FinishedExecution(event.duration, paused=_paused(event)))
            case events.ProjectDeleted():
                self._pending.deleted(event.project_id)
            case events.ConversationDeleted():
                self._pending.deleted(event.conversation_id)

    def _ended(self, context: ExecutionContext, end: FinishedExecution) -> None:
        seen = self._watched(context.conversation_id)
        self._pending.execution_finished(context.conversation_id, context.execution_id, end, seen=seen)
        self._wake.set()

    def renew(self, routes: Sequence[Route]) -> None:
        """Replace the addresses, and apply settings that have changed."""
        self._routes = list(routes)
        self._changed = True
        self._wake.set()

    async def run(self, projects: Projects, watched: Watched, address: str, observer: Observer) -> None:
        """Send messages until cancelled; their links lead to `address` unless `base_url` is set.

        Also about the approvals of `projects` that were open at the start. `observer` gets events for lost messages.
        """
        self._watched = watched
        descriptions = Descriptions(projects)
        loop = asyncio.get_running_loop()

        def report(name: str, reason: str) -> None:
            with suppress(RuntimeError):  # a service that hangs has outlived the server
                loop.call_soon_threadsafe(observer.emit, NotificationLost(name, reason))

        try:
            while True:
                if self._changed:
                    self._open(projects, report)
                if not self._pending.any:
                    self._wake.clear()
                    await self._wake.wait()
                digests = self._pending.take(self._watched, descriptions)
                if digests:
                    base_url = self._settings.current.notifications.base_url or address
                    message = compose(digests, base_url.rstrip("/"))
                    for destination in self._destinations.values():
                        destination.put(message)
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            closing, self._destinations = list(self._destinations.values()), {}
            self._changed = True  # so that the next run, after a fault, opens them again
            await asyncio.to_thread(close_all, closing, _CLOSE_SECONDS)

    def _open(self, projects: Projects, report: ReportLoss) -> None:
        """Open and retire destinations as the routes require, and add the approvals that are open."""
        for url in self._destinations.keys() - {address.url for address, _ in self._routes}:
            self._destinations.pop(url).retire()
        for (name, url), send in self._routes:
            if url in self._destinations:
                self._destinations[url].name = name
            else:
                self._destinations[url] = Destination(name, send, self._lost, report)
        self._changed = False
        if not self._routes:
            self._pending.clear()
            return
        for conversation in projects.all():
            for approval in conversation.state.pending():
                self._pending.approval_requested(conversation.state.record.id, approval.approval_id, approval.tool_name)
