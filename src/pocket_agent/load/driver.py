"""Carries out a load test: sends each request when it is due, and never waits for the one before."""

import asyncio
import contextlib
import random
import time
import uuid
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from pocket_agent.client import Client
from pocket_agent.errors import ConfigurationError, PocketAgentError, ProjectNotFoundError
from pocket_agent.load.fleet import Connect, Fleet
from pocket_agent.load.histogram import Histogram
from pocket_agent.load.lag import LagMeter
from pocket_agent.load.plan import ABOUT_PROJECTS, DEFAULT_MIX, MAX_IN_FLIGHT, Kind, Mix, Plan
from pocket_agent.load.report import Report, Run, ServerSide, make_report
from pocket_agent.load.schedule import offsets, rotation
from pocket_agent.load.scrape import Exporter, Samples, ScrapeError, changes
from pocket_agent.load.tally import Tally
from pocket_agent.protocol.push import ServerStatsData

_REQUESTS: Final = {
    Kind.LIST: "project_list",
    Kind.JOIN: "project_join",
    Kind.EXECUTE: "execute",
    Kind.HISTORY: "get_messages",
}
_HISTORY_ENTRIES: Final = 50
_FIGURES_SECONDS: Final = 5.0
_MAX_REMEMBERED_PROMPTS: Final = 10_000


class Driver:
    """One load test.

    Attributes:
        tally: what has happened so far.
        seconds: how long requests have been sent; 0 before the first.
    """

    def __init__(self, plan: Plan, url: str, connect: Connect, exporter: Exporter | None) -> None:
        """Prepare; nothing is sent before `run`.

        Args:
            plan: what to do.
            url: of the server, for the report.
            connect: makes the clients.
            exporter: where the server's metrics are; None does without.
        """
        self._plan = plan
        self._url = url
        self._exporter = exporter
        self.tally = Tally()
        self._fleet = Fleet(connect, self.tally)
        self._stop = asyncio.Event()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._queued: deque[tuple[str, str]] = deque(maxlen=_MAX_REMEMBERED_PROMPTS)
        self._began: float | None = None
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long requests have been sent."""
        if self._began is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._began

    def stop(self) -> None:
        """End the test now; `run` then reports what there is."""
        self._stop.set()

    async def run(self) -> Report:
        """Do it.

        Raises:
            PocketAgentError: the first connection cannot be opened, or the server has not got the
                projects that the plan is about.
        """
        async with self._fleet.member() as leader:
            projects = await self._projects(leader)
            mix = self._mix(projects)
            stats = await leader.stats()
            metrics, notes = await self._scrape()
            started = datetime.now(UTC).isoformat(timespec="milliseconds")
            async with asyncio.TaskGroup() as group:
                self._fleet.launch(group, self._plan.connections - 1, self._plan.ramp_seconds)
                cpu_ratio, lag = await self._drive(mix, projects)
                interrupted = self._stop.is_set()
                self._fleet.disband()
            withdrawn = await self._withdraw(leader)
            server = await self._server(leader, stats, metrics, notes)
            run = Run(self._url, started, self.seconds, cpu_ratio, lag, interrupted, mix, withdrawn, server)
            return make_report(self._plan, self.tally, run)

    async def _projects(self, leader: Client) -> tuple[str, ...]:
        """The ids of the projects to ask about.

        Raises:
            ProjectNotFoundError: the plan names one that the server has not got.
        """
        known = tuple(project.id for project in await leader.projects())
        missing = set(self._plan.projects) - set(known)
        if missing:
            raise ProjectNotFoundError(f"The server has no project {', '.join(sorted(missing))}.")
        return self._plan.projects or known

    def _mix(self, projects: tuple[str, ...]) -> Mix:
        """The mix of the plan, or the usual one; without projects, what can be asked then.

        Raises:
            ConfigurationError: the plan's mix needs a project, and there is none.
        """
        if projects:
            return dict(self._plan.mix or DEFAULT_MIX)
        if self._plan.mix is None:
            return {Kind.LIST: 1}
        needing = sorted(ABOUT_PROJECTS & self._plan.mix.keys())
        if needing:
            raise ConfigurationError(
                f"The server has no project for {', '.join(needing)}. Make one first, or use --mix list=1."
            )
        return self._plan.mix

    async def _drive(self, mix: Mix, projects: tuple[str, ...]) -> tuple[float, Histogram]:
        """Send everything and wait for the answers; returns the cores that it took and how late the loop was."""
        meter = LagMeter()
        began, cpu = time.monotonic(), time.process_time()
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(meter.run())
            working = group.create_task(self._work(group, mix, projects))
            stopping = group.create_task(self._stop.wait())
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (working, stopping, measuring, *self._in_flight):
                task.cancel()
        return (time.process_time() - cpu) / (time.monotonic() - began), meter.lag

    async def _work(self, group: asyncio.TaskGroup, mix: Mix, projects: tuple[str, ...]) -> None:
        try:
            await self._send_all(group, mix, projects)
        finally:
            self._ended = time.monotonic()
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    async def _send_all(self, group: asyncio.TaskGroup, mix: Mix, projects: tuple[str, ...]) -> None:
        plan, tally = self._plan, self.tally
        kinds = rotation(mix)
        turns = _turns(projects)
        choice = random.Random(0)  # noqa: S311 - spreads load, guards no secret
        began = self._began = time.monotonic()
        for offset in offsets(plan.rate, plan.ramp_seconds, plan.duration_seconds):
            due = began + offset
            # Also when it is late, so that answers are read meanwhile.
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            kind = next(kinds)
            tally.scheduled += 1
            if len(self._in_flight) >= MAX_IN_FLIGHT:
                tally.not_sent(kind)
                continue
            client = choice.choice(self._fleet.clients)
            project_id = next(turns) if kind in ABOUT_PROJECTS else None
            task = group.create_task(self._request(client, kind, project_id, due))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    async def _request(self, client: Client, kind: Kind, project_id: str | None, due: float) -> None:
        tally = self.tally
        tally.sent_late.record(time.monotonic() - due)
        try:
            reply = await client.request(
                _REQUESTS[kind], self._data(kind), project_id=project_id, timeout=self._plan.timeout_seconds
            )
            if kind is Kind.EXECUTE and project_id is not None and reply.data["status"] == "queued":
                self._queued.append((project_id, str(reply.data["execution_id"])))
        except (PocketAgentError, TimeoutError) as error:
            tally.fault(kind, error)
        else:
            tally.replied(kind, reply)
        tally.latency[kind].record(time.monotonic() - due)

    def _data(self, kind: Kind) -> dict[str, Any]:
        match kind:
            case Kind.HISTORY:
                return {"limit": _HISTORY_ENTRIES}
            case Kind.EXECUTE:
                return {"prompt": self._plan.prompt, "prompt_id": uuid.uuid4().hex}
            case Kind.LIST | Kind.JOIN:
                return {}

    async def _withdraw(self, leader: Client) -> int:
        """Take back the prompts of this test that still wait, so that nothing runs on after it; how many it was."""
        withdrawn = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIGURES_SECONDS):
                for project_id, execution_id in self._queued:
                    # Most have begun by now, and are over.
                    with contextlib.suppress(PocketAgentError):
                        await leader.cancel_prompt(project_id, execution_id)
                        withdrawn += 1
        return withdrawn

    async def _scrape(self) -> tuple[Samples | None, tuple[str, ...]]:
        if self._exporter is None:
            return None, ()
        try:
            return await self._exporter.scrape(), ()
        except ScrapeError as error:
            return None, (error.message,)

    async def _server(
        self, leader: Client, stats: ServerStatsData, metrics: Samples | None, notes: tuple[str, ...]
    ) -> ServerSide:
        """The server's figures afterwards, as far as they can be had."""
        after: ServerStatsData | None = None
        try:
            async with asyncio.timeout(_FIGURES_SECONDS):
                after = await leader.stats()
        except (PocketAgentError, TimeoutError) as error:
            notes = (*notes, f"The server did not tell its figures afterwards: {error or 'no answer in time'}.")
        changed = None
        if metrics is not None:
            metrics_after, more = await self._scrape()
            notes = (*notes, *more)
            changed = None if metrics_after is None else changes(metrics, metrics_after)
        restarted = after is not None and after.uptime < stats.uptime
        return ServerSide(stats, after, restarted, changed, notes)


def _turns(projects: tuple[str, ...]) -> Iterator[str]:
    while projects:
        yield from projects
