"""Health checks: each has a time limit, runs once at a time, and emits an event when its status changes.

The messages of checks are shown without authentication: they contain ids and numbers, no paths and no names.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Final, Literal, NamedTuple, TypeVar

from pocket_agent import events
from pocket_agent.claude.installation import Installer
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.distribution import Distribution
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import CertificateLoaded, Event, ExecutionDelayed, HealthChanged, Observer
from pocket_agent.projects import Projects
from pocket_agent.protocol.requests import CheckData, ClaudeFigures
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Store

_LAG_PERIOD_SECONDS: Final = 0.25  # time between two measurements
LAG_WINDOW_SECONDS: Final = 60.0
"""Longest period of `LoopMonitor.worst`."""


class LoopMonitor:
    """Measures how late the event loop wakes a sleeping task, in seconds; the lag of a block when it is over."""

    def __init__(self, lags: Distribution | None = None) -> None:
        self.lags = Distribution() if lags is None else lags
        # (when, lag), with descending lags: a smaller lag before a larger one cannot be the worst.
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
                self._add_peak(lag)
        finally:
            self._due = None

    def worst(self, seconds: float) -> float:
        """The largest lag of the last `seconds` (at most `LAG_WINDOW_SECONDS`); 0 if there was none."""
        since = time.monotonic() - seconds
        seen = next((lag for at, lag in self._peaks if at >= since), 0.0)
        # After a block, the caller may run before the measurement.
        return max(seen, self._overdue())

    def _overdue(self) -> float:
        return max(0.0, time.monotonic() - self._due) if self._due is not None else 0.0

    def _add_peak(self, lag: float) -> None:
        now = time.monotonic()
        while self._peaks and self._peaks[-1][1] <= lag:
            self._peaks.pop()
        self._peaks.append((now, lag))
        while self._peaks[0][0] < now - LAG_WINDOW_SECONDS:
            self._peaks.popleft()


_FRESH_SECONDS: Final = 2.0  # age up to which a result is reused, so that frequent requests run no checks


class TimedCheck(NamedTuple):
    """A check with its time limit in seconds; `run` may raise PocketAgentError, whose message makes it unhealthy."""

    run: Callable[[], Awaitable[CheckData]]
    seconds: float


class HealthMonitor:
    """Runs the checks at an interval and on request, and keeps the latest result of each.

    A check that hangs counts as unhealthy and is not started again before it ends. Each change of a status emits an
    event.
    """

    def __init__(self, checks: Mapping[str, TimedCheck], settings: CurrentSettings, observer: Observer) -> None:
        self._states = {name: _CheckState(name, check) for name, check in checks.items()}
        self._settings = settings
        self._observer = observer
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Run the checks at the interval until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    for state in self._states.values():
                        self._start(tasks, state)
                    await asyncio.sleep(self._settings.current.health.interval)
            finally:
                self._tasks = None

    async def results(self, *names: str, wait: float) -> dict[str, CheckData | None]:
        """Run the checks, all without names, and return their results; None for a check that has no result yet.

        After `wait` seconds the previous results of checks that still run are returned.
        """
        states = [self._states[name] for name in names] or list(self._states.values())
        if self._tasks is not None:
            fresh = time.monotonic() - min(_FRESH_SECONDS, self._settings.current.health.interval)
            for state in states:
                if state.at <= fresh:
                    self._start(self._tasks, state)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                for state in states:
                    await state.settled.wait()
        return {state.name: state.result for state in states}

    def known(self) -> dict[str, tuple[CheckData | None, float | None]]:
        """The latest result of each check, None before the first, and when its status last changed (Unix time)."""
        return {state.name: (state.result, state.since) for state in self._states.values()}

    def _start(self, tasks: asyncio.TaskGroup, state: "_CheckState") -> None:
        if not state.running:
            state.running = True
            state.settled.clear()
            tasks.create_task(self._run(tasks, state))

    async def _run(self, tasks: asyncio.TaskGroup, state: "_CheckState") -> None:
        try:
            running = tasks.create_task(_check_result(state.check))
            done, _ = await asyncio.wait({running}, timeout=state.check.seconds)
            if not done:
                self._settle(state, CheckData("unhealthy", f"The check took longer than {state.check.seconds:g} s."))
            result = await running
        finally:
            state.running = False
        self._settle(state, result)

    def _settle(self, state: "_CheckState", result: CheckData) -> None:
        before = state.result.status if state.result is not None else None
        state.result, state.at = result, time.monotonic()
        state.settled.set()
        if before != result.status:
            state.since = time.time()
            self._observer.emit(HealthChanged(state.name, result.status, before, result.message))


@dataclass(slots=True)
class _CheckState:
    """A check and its latest result, which came `at` a monotonic time; `settled` is set unless it is awaited."""

    name: str
    check: TimedCheck
    result: CheckData | None = None
    at: float = -math.inf
    since: float | None = None
    running: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)


async def _check_result(check: TimedCheck) -> CheckData:
    try:
        return await check.run()
    except PocketAgentError as error:
        return CheckData("unhealthy", error.message)
    except Exception as error:  # noqa: BLE001 - the border of a check: a fault in one must not end the server
        return CheckData("unhealthy", f"The check failed: {type(error).__name__}.")


def overall_status(results: Mapping[str, CheckData]) -> Literal["healthy", "degraded", "unhealthy"]:
    """The status of the server: unhealthy without storage, degraded when any other check is not healthy."""
    if results["storage"].status == "unhealthy":
        return "unhealthy"
    return "healthy" if all(result.status == "healthy" for result in results.values()) else "degraded"


Result = TypeVar("Result")

_CHECK_SECONDS: Final = 6.0  # longest check
_STORAGE_SECONDS: Final = 10.0
"""Longest check of the store: twice the time that a commit waits for another program's lock, which it then reports."""
_CLAUDE_SECONDS: Final = 12.0  # longest check of the CLI, whose `--version` has its own timeout
_VERSION_SECONDS: Final = 300.0  # time between two runs of a CLI that works
_STUCK_SECONDS: Final = 30.0  # a prompt that could run and waits this long is stuck; before, its start may be under way
_MAX_NAMED: Final = 3  # projects that a message names


class CheckConditions:
    """An `Observer` that keeps state for the checks."""

    def __init__(self) -> None:
        self.certificate: CertificateLoaded | None = None  # the one in use; None without TLS
        self.delayed: dict[str, ExecutionDelayed] = {}  # why the next prompt of a project cannot start, by conversation

    def emit(self, event: Event) -> None:
        match event:
            case CertificateLoaded():
                self.certificate = event
            case ExecutionDelayed():
                self.delayed[event.context.conversation_id] = event
            case events.ExecutionStarted() | events.ExecutionFinished():
                self.delayed.pop(event.context.conversation_id, None)
            case events.ProjectDeleted():
                self.delayed.pop(event.project_id, None)
            case events.ConversationDeleted():
                self.delayed.pop(event.conversation_id, None)


@dataclass
class HealthChecks:
    """The checks of one server; `claude` and `free_bytes` (of the data directory) are from the last check."""

    store: Store
    installer: Installer
    projects: Projects
    settings: CurrentSettings
    loop: LoopMonitor
    conditions: CheckConditions
    observer: Observer
    confined: bool = field(default=True, kw_only=True)
    free_bytes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.claude = ClaudeFigures(available=False, version=None, demo=self.settings.current.demo)
        self._idle_since: dict[str, float] = {}

    def checks(self) -> Mapping[str, TimedCheck]:
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
            found = await self.installer.check(_VERSION_SECONDS)
        except PocketAgentError:
            self.claude = ClaudeFigures(available=False, version=None, demo=self.settings.current.demo)
            raise
        vulnerability = found.vulnerability
        if vulnerability and found.version is not None and found.version != self.claude.version:
            ids = tuple(advisory.id for advisory in found.advisories)
            self.observer.emit(events.CliVulnerable(found.version, ids, vulnerability))
        self.claude = ClaudeFigures(available=True, version=found.version, demo=self.settings.current.demo)
        unconfined = "" if self.confined else "Agents are not confined (claude.confinement)."
        return CheckData("healthy", " ".join(filter(None, (unconfined, vulnerability))) or None)

    async def _disk(self) -> CheckData:
        self.free_bytes = free = await in_thread(self.store.free_bytes, "health-disk")
        if free < self.settings.current.limits.min_free_disk:
            return CheckData("unhealthy", f"The disk is full: {free // 2**20} MiB free.")
        if free < self.settings.current.health.low_disk:
            return CheckData("warning", f"Low disk space: {free / 2**30:.1f} GB.")
        return CheckData("healthy")

    async def _storage(self) -> CheckData:
        await self.store.check()
        return CheckData("healthy")

    async def _event_loop(self) -> CheckData:
        worst = self.loop.worst(LAG_WINDOW_SECONDS)
        if worst < self.settings.current.health.loop_lag:
            return CheckData("healthy")
        return CheckData("warning", f"The event loop was late by {worst:.1f} s within the last minute.")

    async def _certificate(self) -> CheckData:
        certificate = self.conditions.certificate
        if certificate is None:
            return CheckData("healthy", "TLS is off.")
        left = certificate.not_after - datetime.now(UTC)
        end = f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"
        remedy = "SIGHUP makes a new one." if certificate.self_signed else "Renew it, then send SIGHUP."
        if left <= timedelta(0):
            return CheckData("unhealthy", f"The certificate expired on {end}. {remedy}")
        if left.total_seconds() < self.settings.current.health.certificate_notice:
            return CheckData("warning", f"The certificate expires on {end}. {remedy}")
        return CheckData("healthy")

    async def _queue(self) -> CheckData:
        conversations = [conversation for conversation in self.projects.all() if conversation.state.queue]
        stuck = [text for conversation in conversations if (text := self._why_stuck(conversation)) is not None]
        waiting = {conversation.state.queue[0].id for conversation in conversations}
        self._idle_since = {key: since for key, since in self._idle_since.items() if key in waiting}
        if stuck:
            return CheckData("unhealthy", _listed(stuck))
        limit = self.settings.current.limits.max_queued_prompts
        full = [
            f"The queue of project {conversation.state.record.id} is full ({limit} prompts)."
            for conversation in conversations
            if len(conversation.state.queue) >= limit
        ]
        return CheckData("warning", _listed(full)) if full else CheckData("healthy")

    def _why_stuck(self, conversation: Conversation) -> str | None:
        """Why the next prompt of a queue does not start although nothing runs; None when it is not stuck."""
        state, execution = conversation.state, conversation.state.queue[0]
        since = self._idle_since.pop(execution.id, time.monotonic())
        if state.current is not None:
            return None
        place = f"Project {state.record.id}: execution {execution.id}"
        delayed = self.conditions.delayed.get(state.record.id)
        if delayed is not None:
            return f"{place} cannot start ({delayed.code})."
        if self.projects.capacity.executing >= self.settings.current.limits.max_executions:
            return None
        self._idle_since[execution.id] = since
        return f"{place} waits although it could run." if time.monotonic() - since >= _STUCK_SECONDS else None


def _listed(texts: list[str]) -> str:
    more = len(texts) - _MAX_NAMED
    return " ".join([*texts[:_MAX_NAMED], *([f"And {more} more."] if more > 0 else [])])


_IDLE_THREADS: Final[dict[str, list["SimpleQueue[Callable[[], None]]"]]] = {}
"""The queues of the threads that wait for work, by name."""


async def in_thread(work: Callable[[], Result], name: str) -> Result:
    """Run a call that a disk may block, in a daemon thread, so that the server can end without it.

    Threads are kept and reused by name. `Thread.start` waits for the new thread, for ever when that thread
    gets no memory, so a server must not repeatedly start threads from its event loop.
    """
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()
    idle = _IDLE_THREADS.setdefault(name, [])
    if idle:
        jobs = idle.pop()
    else:
        jobs = SimpleQueue()

        def loop() -> None:
            while True:
                jobs.get()()

        threading.Thread(target=loop, name=name, daemon=True).start()

    def run() -> None:
        # The thread is idle again before its caller knows that it is done, and may call again.
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised in the coroutine that waits
            idle.append(jobs)
            done.set_exception(error)
        else:
            idle.append(jobs)
            done.set_result(result)

    jobs.put(run)
    return await asyncio.wrap_future(done)
