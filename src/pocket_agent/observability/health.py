"""Health checks: each limited in time, never run twice at once, and reported when its status changes.

The messages of checks are shown without authentication: they contain ids and numbers, no paths and no names.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Final, Literal, TypeVar

from pocket_agent import events
from pocket_agent.claude.installation import Installer
from pocket_agent.distribution import Distribution
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import CertificateLoaded, Event, ExecutionDelayed, HealthChanged, Observer
from pocket_agent.projects import Projects
from pocket_agent.protocol.requests import CheckData, ClaudeFigures
from pocket_agent.session.session import Session
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Store

_LAG_PERIOD_SECONDS: Final = 0.25
"""Time between two measurements."""
LAG_WINDOW_SECONDS: Final = 60.0
"""How far back `LoopMonitor.worst` can look."""


class LoopMonitor:
    """Sleeps, and sees how much later than asked for it is woken.

    The lag of a blocked loop is measured when it runs again.

    Args:
        lags: where the seconds of each measurement are counted.

    Attributes:
        lags: as given.
    """

    def __init__(self, lags: Distribution | None = None) -> None:
        self.lags = Distribution() if lags is None else lags
        # (when, lag), each lag smaller than the one before: what a larger one came after cannot be the worst.
        self._peaks: deque[tuple[float, float]] = deque()
        self._due: float | None = None

    async def run(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                self._due = time.monotonic() + _LAG_PERIOD_SECONDS
                await asyncio.sleep(_LAG_PERIOD_SECONDS)
                lag = self._overdue()
                self.lags.observe(lag)
                self._note(lag)
        finally:
            self._due = None

    def worst(self, seconds: float) -> float:
        """The largest lag of the last `seconds` (at most `WINDOW_SECONDS`), in seconds; 0 if there was none."""
        since = time.monotonic() - seconds
        seen = next((lag for at, lag in self._peaks if at >= since), 0.0)
        # A caller right after a block may run before its measurement.
        return max(seen, self._overdue())

    def _overdue(self) -> float:
        return max(0.0, time.monotonic() - self._due) if self._due is not None else 0.0

    def _note(self, lag: float) -> None:
        now = time.monotonic()
        while self._peaks and self._peaks[-1][1] <= lag:
            self._peaks.pop()
        self._peaks.append((now, lag))
        while self._peaks[0][0] < now - LAG_WINDOW_SECONDS:
            self._peaks.popleft()


OverallStatus = Literal["healthy", "degraded", "unhealthy"]

_FRESH_SECONDS: Final = 2.0
"""Age up to which a result is reused, so that frequent requests run no checks."""


@dataclass(frozen=True, slots=True)
class TimedCheck:
    """A health check with its time limit.

    Attributes:
        look: runs it; a PocketAgentError means unhealthy, with its message.
        seconds: how long that may take.
    """

    look: Callable[[], Awaitable[CheckData]]
    seconds: float


class HealthMonitor:
    """Runs the checks at an interval and on request, and keeps the latest result of each.

    A check that hangs counts as unhealthy and is not started again before it ends.

    Args:
        checks: by name.
        settings: how often.
        observer: gets an event for each status that differs from the one before.
    """

    def __init__(self, checks: Mapping[str, TimedCheck], settings: CurrentSettings, observer: Observer) -> None:
        self._watches = {name: _CheckState(name, check) for name, check in checks.items()}
        self._settings = settings
        self._observer = observer
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Check, round after round, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    for watch in self._watches.values():
                        self._begin(tasks, watch)
                    await asyncio.sleep(self._settings.current.health.interval)
            finally:
                self._tasks = None

    async def look(self, *names: str, wait: float) -> dict[str, CheckData | None]:
        """How things are now, by name of the check; None for one that has no result yet.

        Args:
            names: which checks; without any, all.
            wait: seconds to wait at most for the results of checks that take time, before the earlier ones do.
        """
        watches = [self._watches[name] for name in names] or list(self._watches.values())
        if self._tasks is not None:
            for watch in watches:
                if watch.age() >= min(_FRESH_SECONDS, self._settings.current.health.interval):
                    self._begin(self._tasks, watch)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                for watch in watches:
                    await watch.settled.wait()
        return {watch.name: watch.result for watch in watches}

    def known(self) -> dict[str, tuple[CheckData | None, float | None]]:
        """The latest result of each check, None before the first, and when its status last changed (Unix time)."""
        return {watch.name: (watch.result, watch.since) for watch in self._watches.values()}

    def _begin(self, tasks: asyncio.TaskGroup, watch: "_CheckState") -> None:
        if not watch.running:
            watch.running = True
            watch.settled.clear()
            tasks.create_task(self._run(tasks, watch))

    async def _run(self, tasks: asyncio.TaskGroup, watch: "_CheckState") -> None:
        try:
            look = tasks.create_task(_check_result(watch.check))
            done, _ = await asyncio.wait({look}, timeout=watch.check.seconds)
            if not done:
                self._settle(watch, CheckData("unhealthy", f"The check took longer than {watch.check.seconds:g} s."))
            result = await look
        finally:
            watch.running = False
        self._settle(watch, result)

    def _settle(self, watch: "_CheckState", result: CheckData) -> None:
        previous = watch.result
        watch.result, watch.at = result, time.monotonic()
        watch.settled.set()
        if previous is None or previous.status != result.status:
            watch.since = time.time()
            before = previous.status if previous is not None else None
            self._observer.emit(HealthChanged(watch.name, result.status, before, result.message))


class _CheckState:
    """A check, its latest result and whether it runs; `settled` is set unless a result is awaited."""

    def __init__(self, name: str, check: TimedCheck) -> None:
        self.name = name
        self.check = check
        self.result: CheckData | None = None
        self.at = 0.0
        self.since: float | None = None
        self.running = False
        self.settled = asyncio.Event()

    def age(self) -> float:
        """Seconds since the latest result."""
        return time.monotonic() - self.at if self.result is not None else float("inf")


async def _check_result(check: TimedCheck) -> CheckData:
    try:
        return await check.look()
    except PocketAgentError as error:
        return CheckData("unhealthy", error.message)
    except Exception as error:  # noqa: BLE001 - the border of a check: a fault in one must not end the server
        return CheckData("unhealthy", f"The check failed: {type(error).__name__}.")


def overall_status(results: Mapping[str, CheckData]) -> OverallStatus:
    """The guide's sum: without storage nothing works, without anything else not everything."""
    if results["storage"].status == "unhealthy":
        return "unhealthy"
    return "healthy" if all(result.status == "healthy" for result in results.values()) else "degraded"


Result = TypeVar("Result")

_GIB: Final = 2**30
_CHECK_SECONDS: Final = 6.0
"""Longest check."""
_STORAGE_SECONDS: Final = 10.0
"""Longest check of the store: twice the time that a commit waits for another program's lock, which it then reports."""
_CLAUDE_SECONDS: Final = 12.0
"""Longest check of the CLI, whose `--version` has its own timeout."""
_VERSION_SECONDS: Final = 300.0
"""How often the CLI is really run, when nothing is wrong with it."""
_STUCK_SECONDS: Final = 30.0
"""A prompt that waits so long though it could run is stuck; before, its turn may just be coming."""
_MAX_NAMED: Final = 3
"""How many projects a message names."""


class CheckConditions:
    """State that the checks need, kept from events. It is an `Observer` of the core.

    Attributes:
        certificate: the one in use; None without TLS.
        delayed: why the next prompt of a project cannot start, by project.
    """

    def __init__(self) -> None:
        self.certificate: CertificateLoaded | None = None
        self.delayed: dict[str, ExecutionDelayed] = {}

    def emit(self, event: Event) -> None:
        """Note what the checks need."""
        match event:
            case CertificateLoaded():
                self.certificate = event
            case ExecutionDelayed():
                self.delayed[event.context.project_id] = event
            case events.ExecutionStarted() | events.ExecutionFinished():
                self.delayed.pop(event.context.project_id, None)
            case events.ProjectDeleted():
                self.delayed.pop(event.project_id, None)
            case _:
                pass


class HealthChecks:
    """The checks of one server.

    Attributes:
        claude: the CLI as the last check found it.
        free_bytes: free space on the disk of the data directory.
    """

    def __init__(
        self,
        store: Store,
        installer: Installer,
        projects: Projects,
        settings: CurrentSettings,
        loop: LoopMonitor,
        conditions: CheckConditions,
        observer: Observer,
        *,
        confined: bool = True,
    ) -> None:
        self.claude = ClaudeFigures(available=False, version=None, demo=settings.current.demo)
        self.free_bytes = 0
        self._store = store
        self._installer = installer
        self._projects = projects
        self._settings = settings
        self._loop = loop
        self._conditions = conditions
        self._observer = observer
        self._confined = confined
        self._idle_since: dict[str, float] = {}

    def checks(self) -> Mapping[str, TimedCheck]:
        """All checks, by name."""
        return {
            "claude": TimedCheck(self._claude, _CLAUDE_SECONDS),
            "disk": TimedCheck(self._disk, _CHECK_SECONDS),
            "storage": TimedCheck(self._storage, _STORAGE_SECONDS),
            "event_loop": TimedCheck(self._event_loop, _CHECK_SECONDS),
            "certificate": TimedCheck(self._certificate, _CHECK_SECONDS),
            "queue": TimedCheck(self._queue, _CHECK_SECONDS),
        }

    async def _claude(self) -> CheckData:
        try:
            found = await self._installer.check(_VERSION_SECONDS)
        except PocketAgentError:
            self.claude = ClaudeFigures(available=False, version=None, demo=self._settings.current.demo)
            raise
        vulnerability = found.vulnerability
        if vulnerability and found.version is not None and found.version != self.claude.version:
            ids = tuple(advisory.id for advisory in found.advisories)
            self._observer.emit(events.CliVulnerable(found.version, ids, vulnerability))
        self.claude = ClaudeFigures(available=True, version=found.version, demo=self._settings.current.demo)
        unconfined = "" if self._confined else "Agents are not confined (claude.confinement)."
        return CheckData("healthy", " ".join(filter(None, (unconfined, vulnerability))) or None)

    async def _disk(self) -> CheckData:
        self.free_bytes = free = await in_thread(self._store.free_bytes, "health-disk")
        if free < self._settings.current.limits.min_free_disk:
            return CheckData("unhealthy", f"The disk is full: {free // 2**20} MiB free.")
        if free < self._settings.current.health.low_disk:
            return CheckData("warning", f"Low disk space: {free / _GIB:.1f} GB.")
        return CheckData("healthy")

    async def _storage(self) -> CheckData:
        await self._store.check()
        return CheckData("healthy")

    async def _event_loop(self) -> CheckData:
        worst = self._loop.worst(LAG_WINDOW_SECONDS)
        if worst < self._settings.current.health.loop_lag:
            return CheckData("healthy")
        return CheckData("warning", f"The event loop was late by {worst:.1f} s within the last minute.")

    async def _certificate(self) -> CheckData:
        certificate = self._conditions.certificate
        if certificate is None:
            return CheckData("healthy", "TLS is off.")
        left = certificate.not_after - datetime.now(UTC)
        end = f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"
        remedy = "SIGHUP makes a new one." if certificate.self_signed else "Renew it, then send SIGHUP."
        if left <= timedelta(0):
            return CheckData("unhealthy", f"The certificate expired on {end}. {remedy}")
        if left.total_seconds() < self._settings.current.health.certificate_notice:
            return CheckData("warning", f"The certificate expires on {end}. {remedy}")
        return CheckData("healthy")

    async def _queue(self) -> CheckData:
        sessions = [session for session in self._projects.all() if session.state.queue]
        stuck = [text for session in sessions if (text := self._why_stuck(session)) is not None]
        waiting = {session.state.queue[0].id for session in sessions}
        self._idle_since = {key: since for key, since in self._idle_since.items() if key in waiting}
        if stuck:
            return CheckData("unhealthy", _listed(stuck))
        limit = self._settings.current.limits.max_queued_prompts
        full = [
            f"The queue of project {session.state.project.id} is full ({limit} prompts)."
            for session in sessions
            if len(session.state.queue) >= limit
        ]
        return CheckData("warning", _listed(full)) if full else CheckData("healthy")

    def _why_stuck(self, session: Session) -> str | None:
        """Why the next prompt of a queue does not start although nothing runs; None when all is well."""
        state, execution = session.state, session.state.queue[0]
        since = self._idle_since.pop(execution.id, time.monotonic())
        if state.current is not None:
            return None
        place = f"Project {state.project.id}: execution {execution.id}"
        delayed = self._conditions.delayed.get(state.project.id)
        if delayed is not None:
            return f"{place} cannot start ({delayed.code})."
        if self._projects.capacity.executing >= self._settings.current.limits.max_executions:
            return None
        self._idle_since[execution.id] = since
        return f"{place} waits although it could run." if time.monotonic() - since >= _STUCK_SECONDS else None


def _listed(texts: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(texts) - _MAX_NAMED
    return " ".join([*texts[:_MAX_NAMED], *([f"And {more} more."] if more > 0 else [])])


_Job = Callable[[], None]
_IDLE_THREADS: Final[dict[str, list["SimpleQueue[_Job]"]]] = {}
"""By name, the queues of the threads that wait for work."""


async def in_thread(work: Callable[[], Result], name: str) -> Result:
    """The result of a call that a disk may hold up; the end of the server does not wait for its thread.

    Threads are kept and used again by name. `Thread.start` waits for the new thread, for ever when that thread
    gets no memory, so a server must not repeatedly start threads from its event loop.
    """
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised in the coroutine that waits
            done.set_exception(error)

    idle = _IDLE_THREADS.setdefault(name, [])
    if idle:
        jobs = idle.pop()
    else:
        jobs = SimpleQueue()
        threading.Thread(target=_work, args=(jobs, idle), name=name, daemon=True).start()
    jobs.put(run)
    return await asyncio.wrap_future(done)


def _work(jobs: "SimpleQueue[_Job]", idle: list["SimpleQueue[_Job]"]) -> None:
    while True:
        jobs.get()()
        idle.append(jobs)
