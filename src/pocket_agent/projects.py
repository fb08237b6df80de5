"""The projects of a server: create, find, delete, prune; their paths and their number."""

import asyncio
import contextlib
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from pocket_agent import errors
from pocket_agent.claude.process import kill_orphans
from pocket_agent.claude.trust import Inspection, check_shown, inspect
from pocket_agent.directory import Directories, identities
from pocket_agent.events import Observer, ProjectCreated, ProjectDeleted, ProjectFaulted, StorageFailed
from pocket_agent.hub import Channel, Hub, WireFrame
from pocket_agent.model import Entry, Milliseconds, Project, ProjectId, ProjectState, Trust, UsageWindow
from pocket_agent.protocol.frame import encode_data, encode_frame, websocket_frame
from pocket_agent.protocol.push import ProjectDeletedData
from pocket_agent.session.accounting import Budget, UsageLimits
from pocket_agent.session.agent import Agent, AgentContext
from pocket_agent.session.capacity import Capacity
from pocket_agent.session.loops import ConversationLoops
from pocket_agent.session.project_log import ProjectLog, now
from pocket_agent.session.session import Session
from pocket_agent.session.state import State
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Change, Store
from pocket_agent.storage.retention import SettledClock
from pocket_agent.supervision import supervise

_PAGE_ENTRIES: Final = 500
_PAGE_BYTES: Final = 512 * 1024
_STAT_SECONDS: Final = 5.0  # the limit for reading the identities of all project directories
_RETENTION_SECONDS: Final = 60.0
_STORE_CLOCK_SECONDS: Final = 3600.0  # how often the clock of the retention is stored for the next start
_RESTART_SECONDS: Final = 1.0
_RESTORE_SECONDS: Final = 10.0


class Projects:
    """All projects, with their sessions, while `running`."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        context: AgentContext,
        settings: CurrentSettings,
        observer: Observer,
    ) -> None:
        self._store = store
        self._hub = hub
        self._context = context
        self._settings = settings
        self._observer = observer
        limits, claude = settings.current.limits, settings.current.claude
        self.capacity = Capacity(max_executions=limits.max_executions, max_processes=claude.max_processes)
        self.budget = Budget(settings, observer)
        self.limits = UsageLimits(settings, note=self._note_windows)
        self._noted = asyncio.Event()
        self.directories = Directories(settings, settings.current.data.dir)
        self._sessions: dict[ProjectId, Session] = {}
        self._runs: dict[ProjectId, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._changing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load all projects, adopt running agents, and run the sessions; agents continue after it."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            today = self.budget.today
            self.budget.load(today, await self._store.spent_usd(today))
            self.limits.load(await self._store.usage_windows())
            projects = await self._store.projects()
            records = [await self._store.process(project.id) for project in projects]
            await kill_orphans(self._context.spool_dir, {record.id for record in records if record is not None})
            for project in projects:
                self._open(project)
            with contextlib.suppress(TimeoutError):  # a project that cannot be restored yet delays only itself
                async with asyncio.timeout(_RESTORE_SECONDS):
                    for session in self._sessions.values():
                        await session.loops.ready.wait()
            background = [
                tasks.create_task(supervise("retention", self._retain, self._observer)),
                tasks.create_task(supervise("usage limits", self._store_windows, self._observer)),
            ]
            try:
                yield
            finally:
                for task in background:
                    task.cancel()
                for run in self._runs.values():
                    run.cancel()
        for session in self._sessions.values():
            session.release()

    async def close_idle(self) -> None:
        """End the processes that wait for a prompt: without the server they would never end."""
        await asyncio.gather(*(session.close_if_idle() for session in self.all()), return_exceptions=True)

    def renew(self) -> None:
        """Apply changed settings."""
        limits, claude = self._settings.current.limits, self._settings.current.claude
        self.capacity.resize(max_executions=limits.max_executions, max_processes=claude.max_processes)
        for session in self.all():
            session.loops.renew()

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> Sequence[Session]:
        return list(self._sessions.values())

    def get(self, project_id: str) -> Session:
        """The session of a project; raises ProjectNotFoundError."""
        session = self._sessions.get(ProjectId(project_id))
        if session is None:
            raise errors.ProjectNotFoundError("There is no such project.")
        return session

    def at(self, path: str) -> ProjectId | None:
        """The project with exactly this path, given or real."""
        for session in self._sessions.values():
            project = session.state.project
            if path in {project.real_path, project.path}:
                return project.id
        return None

    def name_of(self, project_id: str) -> str | None:
        session = self._sessions.get(ProjectId(project_id))
        return session.state.project.name if session is not None else None

    async def inspect(self, path: str) -> tuple[str, Inspection]:
        """The real path of a directory, and what it has the CLI do without asking, as a project or if it were one.

        Raises:
            InvalidPathError: not an absolute path of an existing directory inside the allowed roots.
        """
        real_path = await self.directories.find(path)
        project_id = self.at(str(real_path))
        if project_id is not None:
            return str(real_path), await self.get(project_id).inspect()
        return str(real_path), await self._inspect(real_path)

    async def _inspect(self, directory: Path) -> Inspection:
        """The claims of a directory that is not a project: none is accepted."""
        return await asyncio.to_thread(inspect, directory, self._settings.current.claude.setting_sources, frozenset())

    async def create(self, path: str, *, shown: str | None = None, correlation_id: str | None = None) -> Session:
        """Make a directory a project, and accept its claims.

        Args:
            path: the directory.
            shown: the hash of the claims that a user has seen; None accepts the current ones.
            correlation_id: that of the request.

        Raises:
            ValidationError: the directory's claims are not those of `shown`.
            InvalidPathError: not an absolute path of an existing directory inside the allowed roots.
            ProjectExistsError: it is one already; details name it.
            ProjectNestingError: it is inside another project, or contains one.
            ProjectLimitError: limits.max_projects is reached.
        """
        real_path = await self.directories.find(path)
        found = await self._inspect(real_path)
        async with self._changing:
            await self._refuse_overlap(real_path)
            limit = self._settings.current.limits.max_projects
            if len(self._sessions) >= limit:
                raise errors.ProjectLimitError(f"There are {limit} projects already (limits.max_projects).")
            if shown is not None:
                check_shown(found, shown)
            at = now()
            project = Project(
                number=await self._store.next_project_number(),
                id=ProjectId(str(uuid.uuid4())),
                path=path,
                real_path=str(real_path),
                name=real_path.name or str(real_path),
                state=ProjectState.IDLE,
                session_id=None,
                epoch=secrets.token_hex(4),
                head=0,
                first=1,
                created_at=at,
                last_active=at,
            )
            await self._store.commit(Change(project=project, trust=Trust(project.id, found.digests)))
            session = self._open(project)
            await session.loops.ready.wait()
        self._observer.emit(ProjectCreated(project.id, correlation_id))
        self._broadcast("project_state", encode_data(session.state.view()), project.id)
        return session

    async def delete(self, project_id: str, *, correlation_id: str | None = None) -> None:
        """Delete a project and its log; its directory is not touched.

        Raises:
            ProjectNotFoundError: there is no such project.
            ProcessActiveError: an execution runs or waits in it.
            FileOperationError: the store failed; the project is unchanged.
        """
        async with self._changing:
            session = self.get(project_id)
            await session.close_for_deletion()
            key = session.state.project.id
            try:
                await self._store.delete_project(session.state.project)
            except errors.PocketAgentError:
                session.loops.closed = False  # it is still stored, so it stays open
                raise
            run = self._runs.pop(key)
            run.cancel()
            await asyncio.wait({run})
            del self._sessions[key]
        self._observer.emit(ProjectDeleted(key, correlation_id))
        self._broadcast("project_deleted", encode_data(ProjectDeletedData(key)), key)
        self._hub.channels.pop(key, None)

    async def _refuse_overlap(self, real_path: Path) -> None:
        others = [Path(session.state.project.real_path) for session in self._sessions.values()]
        seen: dict[Path, list[tuple[int, int]]] = {}
        with contextlib.suppress(TimeoutError):  # a disk hangs: only the paths are compared
            async with asyncio.timeout(_STAT_SECONDS):
                seen = await asyncio.to_thread(lambda: {path: identities(path) for path in (real_path, *others)})
        here = seen.get(real_path, [])
        for session in self._sessions.values():
            other = Path(session.state.project.real_path)
            there = seen.get(other, [])
            if real_path == other or here[:1] == there[:1] != []:
                raise errors.ProjectExistsError(
                    "This directory is a project already.", details={"project_id": session.state.project.id}
                )
            inside = real_path.is_relative_to(other) or (there and there[0] in here)
            if inside or other.is_relative_to(real_path) or (here and here[0] in there):
                raise errors.ProjectNestingError(
                    "A project cannot be inside another one, or contain one.",
                    details={"project_id": session.state.project.id},
                )

    def _open(self, project: Project) -> Session:
        assert self._tasks is not None
        store = self._store

        async def read_page(after: int) -> Sequence[Entry]:
            return await store.read(log.project, after=after, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES)

        def snapshot() -> list[bytes]:
            return [
                websocket_frame(encode_frame(draft.type, draft.data, now(), project_id=project.id))
                for draft in state.announce(queue=True)
            ]

        channel = Channel(
            project.id,
            project.head,
            max_bytes=self._settings.current.websocket.tail_size,
            read_page=read_page,
            snapshot=snapshot,
            hub=self._hub,
        )
        log = ProjectLog(project, store, channel, self._observer)
        state = State(log, limits=self.limits)
        agent = Agent(project, self._context)
        loops = ConversationLoops(
            state, agent, store, self.capacity, self.budget, self._settings, self._observer, self._gate
        )
        session = Session(loops, state, agent, store, self._settings, self._observer)
        self._hub.channels[project.id] = channel
        self._sessions[project.id] = session
        self._runs[project.id] = self._tasks.create_task(self._keep(session))
        return session

    async def _keep(self, session: Session) -> None:
        """Run a session; after an exception it starts again from the store, and others are not affected."""
        while True:
            try:
                await session.loops.run()
            except Exception as error:  # noqa: BLE001 - the border of a project
                self._observer.emit(ProjectFaulted(session.state.project.id, error))
                await asyncio.sleep(_RESTART_SECONDS)

    async def _gate(self) -> None:
        """Refuse an execution: the budget is spent, the disk is full, or the CLI is missing."""
        self.budget.check()
        needed = self._settings.current.limits.min_free_disk
        if self._store.free_bytes() < needed:
            raise errors.ResourceLimitError(
                "The disk of the server's data directory is full; free some space "
                f"(at least {needed // 2**20} MiB, limits.min_free_disk)."
            )
        await self._context.installer.find()

    async def _retain(self) -> None:
        known = await self._store.settled_time()
        if known is None:
            known = max((session.state.project.last_active / 1000 for session in self.all()), default=time.time())
        clock = SettledClock(known)
        while True:
            await asyncio.sleep(_RETENTION_SECONDS)
            limits = self._settings.current.storage
            at = clock.now()
            oldest = int((at - limits.max_age) * 1000) if limits.max_age > 0 else 0
            for session in self.all():
                project_id = session.state.project.id
                try:
                    await session.state.log.prune(
                        max_entries=limits.max_entries,
                        max_bytes=limits.max_size,
                        older_than=Milliseconds(oldest),
                    )
                except errors.ProjectNotFoundError:
                    continue
                except errors.FileOperationError as error:
                    self._observer.emit(StorageFailed(project_id, None, error.message))
            if abs(at - known) >= _STORE_CLOCK_SECONDS:
                await self._store.note_settled_time(at)
                known = at

    def _note_windows(self, _: tuple[UsageWindow, ...]) -> None:
        self._noted.set()

    async def _store_windows(self) -> None:
        """Store the usage limits of the account when they have changed, so that the next run shows them."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            with contextlib.suppress(errors.FileOperationError):  # the API reports them again with the next response
                await self._store.note_usage_windows(self.limits.windows)

    def _broadcast(self, kind: str, data: bytes, project_id: ProjectId) -> None:
        frame = websocket_frame(encode_frame(kind, data, now(), project_id=project_id))
        self._hub.broadcast(project_id, WireFrame(frame, None, kind))
