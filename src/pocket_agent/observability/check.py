"""What the health checks look at. Their messages are shown to anybody: ids and figures, no paths and no names."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Final, TypeVar

from pocket_agent import events
from pocket_agent.claude.installation import Installer
from pocket_agent.config.settings import Settings
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import CertificateLoaded, Event, ExecutionDelayed, Observer
from pocket_agent.observability.health import Check
from pocket_agent.observability.loop import WINDOW_SECONDS, LoopMonitor
from pocket_agent.projects import Projects
from pocket_agent.protocol.push import CheckData, ClaudeFigures
from pocket_agent.session.session import Session
from pocket_agent.storage import Store

Result = TypeVar("Result")

_GIB: Final = 2**30
_SECONDS: Final = 6.0
"""Longest check."""
_STORAGE_SECONDS: Final = 10.0
"""The same for the store: twice as long as a commit waits for a lock of another program, which can then be told."""
_CLAUDE_SECONDS: Final = 12.0
"""The same for the CLI, which has a bound of its own for naming its version."""
_VERSION_SECONDS: Final = 300.0
"""How often the CLI is really run, when nothing is wrong with it."""
_STUCK_SECONDS: Final = 30.0
"""A prompt that waits so long though it could run is stuck; before, its turn may just be coming."""
_NAMED: Final = 3
"""How many projects a message names."""


class Conditions:
    """What events told and still holds. It is an `Observer` of the core.

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


class Inspector:
    """Looks at the parts of a server.

    Attributes:
        claude: the CLI as it was found last.
        free_bytes: what was left on the disk of the data directory.
    """

    def __init__(
        self,
        store: Store,
        installer: Installer,
        projects: Projects,
        settings: Settings,
        loop: LoopMonitor,
        conditions: Conditions,
        observer: Observer,
        *,
        confined: bool = True,
    ) -> None:
        self.claude = ClaudeFigures(available=False, version=None, demo=settings.demo)
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

    def checks(self) -> Mapping[str, Check]:
        """All checks, by name."""
        return {
            "claude": Check(self._claude, _CLAUDE_SECONDS),
            "disk": Check(self._disk, _SECONDS),
            "storage": Check(self._storage, _STORAGE_SECONDS),
            "event_loop": Check(self._event_loop, _SECONDS),
            "certificate": Check(self._certificate, _SECONDS),
            "queue": Check(self._queue, _SECONDS),
        }

    async def _claude(self) -> CheckData:
        try:
            found = await self._installer.check(_VERSION_SECONDS)
        except PocketAgentError:
            self.claude = ClaudeFigures(available=False, version=None, demo=self._settings.demo)
            raise
        vulnerability = found.vulnerability
        if vulnerability and found.version is not None and found.version != self.claude.version:
            ids = tuple(advisory.id for advisory in found.advisories)
            self._observer.emit(events.CliVulnerable(found.version, ids, vulnerability))
        self.claude = ClaudeFigures(available=True, version=found.version, demo=self._settings.demo)
        unconfined = "" if self._confined else "Agents are not confined (claude.confinement)."
        return CheckData("healthy", " ".join(filter(None, (unconfined, vulnerability))) or None)

    async def _disk(self) -> CheckData:
        self.free_bytes = free = await in_thread(self._store.free_bytes, "health-disk")
        if free < self._settings.limits.min_free_disk:
            return CheckData("unhealthy", f"The disk is full: {free // 2**20} MiB free.")
        if free < self._settings.health.low_disk:
            return CheckData("warning", f"Low disk space: {free / _GIB:.1f} GB.")
        return CheckData("healthy")

    async def _storage(self) -> CheckData:
        await self._store.check()
        return CheckData("healthy")

    async def _event_loop(self) -> CheckData:
        worst = self._loop.worst(WINDOW_SECONDS)
        if worst < self._settings.health.loop_lag:
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
        if left.total_seconds() < self._settings.health.certificate_notice:
            return CheckData("warning", f"The certificate expires on {end}. {remedy}")
        return CheckData("healthy")

    async def _queue(self) -> CheckData:
        sessions = [session for session in self._projects.all() if session.state.queue]
        stuck = [text for session in sessions if (text := self._why_stuck(session)) is not None]
        waiting = {session.state.queue[0].id for session in sessions}
        self._idle_since = {key: since for key, since in self._idle_since.items() if key in waiting}
        if stuck:
            return CheckData("unhealthy", _listed(stuck))
        limit = self._settings.limits.max_queued_prompts
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
        if self._projects.capacity.executing >= self._settings.limits.max_executions:
            return None
        self._idle_since[execution.id] = since
        return f"{place} waits although it could run." if time.monotonic() - since >= _STUCK_SECONDS else None


def _listed(texts: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(texts) - _NAMED
    return " ".join([*texts[:_NAMED], *([f"And {more} more."] if more > 0 else [])])


_Job = Callable[[], None]
_IDLE_THREADS: Final[dict[str, list["SimpleQueue[_Job]"]]] = {}
"""By name, the queues of the threads that wait for work."""


async def in_thread(work: Callable[[], Result], name: str) -> Result:
    """The result of a call that a disk may hold up; the end of the server does not wait for its thread.

    Threads are kept and used again by name. `Thread.start` waits for the new thread, for ever when that thread
    has no memory to begin with, so a server must not start threads from its event loop again and again.
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
