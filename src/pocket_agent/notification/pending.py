"""What is to be told, until it is due: what was answered meanwhile is not told, what comes together is told together.

Pure but for the clock that it is given.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pocket_agent.config.settings import NotificationSettings
from pocket_agent.notification.news import End, News, Wish

_HOUR: Final = 3600.0
_MOST_WISHES: Final = 1000
_MOST_ENDS: Final = 3
"""Executions of a project that a message tells of one by one."""

Watched = Callable[[str], bool]
"""Whether somebody who could answer sees a project, by its id."""


@dataclass(slots=True)
class _Wish:
    project_id: str
    tool: str
    due: float
    told: bool = False


@dataclass(slots=True)
class _Ends:
    latest: deque[tuple[str, End]] = field(default_factory=lambda: deque(maxlen=_MOST_ENDS))
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

    def __init__(self, settings: NotificationSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._wishes: dict[str, _Wish] = {}
        self._ends: dict[str, _Ends] = {}
        self._paused: dict[str, float] = {}
        self._sent: deque[float] = deque()

    @property
    def any(self) -> bool:
        """Whether something may come to be told without anything else happening."""
        return bool(self._ends) or any(not wish.told for wish in self._wishes.values())

    def asked(self, project_id: str, approval_id: str, tool: str) -> bool:
        """A tool request waits; False when there is no room for it."""
        if not self._settings.approval or approval_id in self._wishes:
            return True
        if len(self._wishes) >= _MOST_WISHES:
            return False
        self._wishes[approval_id] = _Wish(project_id, tool, self._clock() + self._settings.approval_delay)
        return True

    def answered(self, approval_id: str) -> None:
        """A tool request waits no more."""
        self._wishes.pop(approval_id, None)

    def ended(self, project_id: str, execution_id: str, end: End, *, seen: bool) -> None:
        """An execution ended; `seen` is whether somebody watched."""
        settings = self._settings
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

    def take(self, watched: Watched, subjects: Subjects) -> list[News]:
        """What is to be told now, which counts as told from here on; nothing when it is too early."""
        now = self._clock()
        ready = self._ready(now, watched)
        ready = {key: wishes for key, wishes in ready.items() if self._paused.get(key, now) <= now}
        while self._sent and self._sent[0] <= now - _HOUR:
            self._sent.popleft()
        if not ready or len(self._sent) >= self._settings.max_per_hour:
            return []
        self._sent.append(now)
        self._paused = {key: until for key, until in self._paused.items() if until > now}
        self._paused |= dict.fromkeys(ready, now + self._settings.project_pause)
        return [self._news(project_id, wishes, subjects) for project_id, wishes in ready.items()]

    def _ready(self, now: float, watched: Watched) -> dict[str, list[str]]:
        """The tool requests that are due by project; a project with none of them has an execution that ended."""
        ready: dict[str, list[str]] = {}
        only_unwatched = self._settings.when == "unwatched"
        projects = {wish.project_id for wish in self._wishes.values() if not wish.told} | self._ends.keys()
        seen = {project_id for project_id in projects if only_unwatched and watched(project_id)}
        for key, wish in self._wishes.items():
            if wish.project_id in seen:
                # Who sees it may go without an answer; then it has waited from that moment on.
                wish.due = now + self._settings.approval_delay
            elif not wish.told and wish.due <= now:
                ready.setdefault(wish.project_id, []).append(key)
        for project_id in list(self._ends):
            if project_id in seen:
                del self._ends[project_id]
            else:
                ready.setdefault(project_id, [])
        return ready

    def _news(self, project_id: str, approvals: list[str], subjects: Subjects) -> News:
        content = self._settings.content
        wishes = []
        for key in approvals:
            wish = self._wishes[key]
            wish.told = True
            wishes.append(Wish(wish.tool, subjects.wish(project_id, key) if content else None))
        ends = self._ends.pop(project_id, _Ends())
        told = [
            End(end.seconds, end.code, subjects.end(project_id, key) if content else None) for key, end in ends.latest
        ]
        name = subjects.name(project_id) or ""
        return News(project_id, name, tuple(wishes), tuple(told), ends.finished, ends.failed)
