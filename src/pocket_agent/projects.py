"""The projects of a server and their conversations: create, find, delete, prune; their paths and their number."""

import asyncio
import contextlib
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent import errors, git
from pocket_agent.claude.process import kill_orphans
from pocket_agent.claude.trust import Inspection, check_shown, inspect
from pocket_agent.directory import Directories, identities, worktrees_folder
from pocket_agent.events import (
    ConversationCreated,
    ConversationDeleted,
    Observer,
    ProjectCreated,
    ProjectDeleted,
    ProjectFaulted,
    StorageFailed,
)
from pocket_agent.hub import Channel, Hub, WireFrame
from pocket_agent.model import (
    ConversationId,
    Entry,
    Milliseconds,
    Project,
    ProjectId,
    ProjectState,
    SessionRecord,
    Trust,
    UsageWindow,
    Worktree,
    project_of,
)
from pocket_agent.protocol.frame import encode_data, encode_frame, websocket_frame
from pocket_agent.protocol.push import ConversationDeletedData, ProjectDeletedData, SessionResumedData
from pocket_agent.protocol.requests import WorktreeRequest
from pocket_agent.session.accounting import Budget, UsageLimits
from pocket_agent.session.agent import Agent, AgentContext
from pocket_agent.session.capacity import Capacity
from pocket_agent.session.loops import ConversationLoops
from pocket_agent.session.project_log import ProjectLog, entry_draft, now
from pocket_agent.session.session import Session
from pocket_agent.session.state import Acceptance, State
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
    """All projects and their conversations, each with its session, while `running`."""

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
        self._sessions: dict[ConversationId, Session] = {}
        self._runs: dict[ConversationId, asyncio.Task[None]] = {}
        self._accepted: dict[ProjectId, Acceptance] = {}
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
            conversations = await self._store.conversations()
            records = [await self._store.process(conversation.id) for conversation in conversations]
            await kill_orphans(self._context.spool_dir, {record.id for record in records if record is not None})
            for conversation in conversations:
                self._open(conversation)
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
        """The number of projects."""
        return len(self._accepted)

    def all(self) -> Sequence[Session]:
        """The sessions of all conversations."""
        return list(self._sessions.values())

    def mains(self) -> Sequence[Session]:
        """The sessions of the main conversations: one for each project."""
        sessions = (self._sessions.get(project_id) for project_id in self._accepted)
        return [session for session in sessions if session is not None]  # one that is being deleted

    def of(self, project_id: str) -> Sequence[Session]:
        """The sessions of a project's conversations, the main one first."""
        return [session for session in self._sessions.values() if session.state.project.project_id == project_id]

    def get(self, conversation_id: str) -> Session:
        """The session of a conversation; the id of a project is that of its main one.

        Raises:
            ProjectNotFoundError: there is no such project, or no such conversation in it.
        """
        session = self._sessions.get(ConversationId(conversation_id))
        if session is None:
            what = "project" if project_of(conversation_id) == conversation_id else "conversation"
            raise errors.ProjectNotFoundError(f"There is no such {what}.")
        return session

    def at(self, path: str) -> ProjectId | None:
        """The project with exactly this path, given or real."""
        for session in self.mains():
            project = session.state.project
            if path in {project.real_path, project.path}:
                return project.project_id
        return None

    def name_of(self, project_id: str) -> str | None:
        session = self._sessions.get(project_of(project_id))
        return session.state.project.name if session is not None else None

    def title_of(self, conversation_id: str) -> str | None:
        """The name of a conversation for people: that of its project, and its own title behind it."""
        session = self._sessions.get(ConversationId(conversation_id))
        if session is None:
            return None
        found = session.state.project
        return f"{found.name} ({found.title})" if found.title else found.name

    async def inspect(self, path: str) -> tuple[str, Inspection]:
        """The real path of a directory, and what it has the CLI do without asking, as a project or if it were one.

        Raises:
            InvalidPathError: not an absolute path of an existing directory inside the allowed roots.
        """
        for session in self.all():
            if session.state.project.worktree is not None and session.state.project.path == path:
                return path, await session.inspect()
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
            if len(self) >= limit:
                raise errors.ProjectLimitError(f"There are {limit} projects already (limits.max_projects).")
            if shown is not None:
                check_shown(found, shown)
            at = now()
            project_id = project_of(str(uuid.uuid4()))
            project = Project(
                number=await self._store.next_project_number(),
                id=project_id,
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
            await self._store.commit(Change(project=project, trust=Trust(project_id, found.digests)))
            session = self._open(project)
            await session.loops.ready.wait()
        self._observer.emit(ProjectCreated(project_id, correlation_id))
        self._broadcast("project_state", encode_data(session.state.view()), project.id)
        return session

    async def delete(self, project_id: ProjectId, *, correlation_id: str | None = None) -> None:
        """Delete a project with all its conversations and logs; its directory is not touched.

        Worktrees without work that only they have are deleted, the others stay.

        Raises:
            ProjectNotFoundError: there is no such project.
            ProcessActiveError: an execution runs or waits in it.
            FileOperationError: the store failed; the project is unchanged.
        """
        async with self._changing:
            main = self.get(project_id)
            sessions = self.of(project_id)
            await self._close_for_deletion(sessions)
            try:
                await self._store.delete_project(main.state.project)
            except errors.PocketAgentError:
                _reopen(sessions)  # it is still stored
                raise
            for session in sessions:
                await self._drop(session)
            del self._accepted[project_id]
            for session in sessions:
                worktree = session.state.project.worktree
                if worktree is not None:
                    with contextlib.suppress(errors.FileOperationError):
                        if not any(await git.pending_work(worktree)):
                            await git.remove_worktree(worktree, keep_branch=False)
        self._observer.emit(ProjectDeleted(project_id, correlation_id))
        self._broadcast("project_deleted", encode_data(ProjectDeletedData(project_id)), project_id)

    async def _close_for_deletion(self, sessions: Sequence[Session]) -> None:
        """Close all sessions, or none; raises as `Session.close_for_deletion`."""
        closed: list[Session] = []
        try:
            for session in sessions:
                await session.close_for_deletion()
                closed.append(session)
        except errors.PocketAgentError:
            _reopen(closed)
            raise

    async def _drop(self, session: Session) -> None:
        """End a session whose conversation is no longer stored."""
        key = session.state.project.id
        run = self._runs.pop(key)
        run.cancel()
        await asyncio.wait({run})
        del self._sessions[key]
        self._hub.channels.pop(key, None)

    async def begin(
        self,
        project_id: ProjectId,
        *,
        title: str | None = None,
        worktree: WorktreeRequest | None = None,
        session_id: str | None = None,
        fork: bool = False,
        found: SessionRecord | None = None,
        correlation_id: str | None = None,
    ) -> Session:
        """Begin another conversation in a project.

        Args:
            project_id: the project.
            title: a name for people.
            worktree: gives it a git worktree as its directory; None for the project's directory.
            session_id: the CLI's session that it continues; None for a new one.
            fork: whether to continue a copy of it.
            found: the session of a terminal with this id.
            correlation_id: that of the request.

        Raises:
            ProjectNotFoundError: there is no such project (any more).
            ResourceLimitError: limits.conversations is reached.
            ValidationError: no such session, one of another conversation, or a worktree that cannot be made.
            FileOperationError: the worktree's folder cannot be written, or the store failed.
        """
        main = self.get(project_id).state.project
        self._refuse_more(project_id)
        known = await self._store.session(project_id, session_id) if session_id is not None else None
        continued = known or found
        if session_id is not None and continued is None:
            raise errors.ValidationError("This project has no such session (session_list).")
        suffix = secrets.token_hex(4)
        key = ConversationId(f"{project_id}.{suffix}")
        path, real_path, made = main.path, main.real_path, None
        if worktree is not None:
            name = f"{git.slug(title or main.name) or 'conversation'}-{suffix}"
            directory, made = await git.add_worktree(
                Path(main.real_path), self._worktrees, name, branch=worktree.branch, base=worktree.base
            )
            path = real_path = str(directory)
        try:
            async with self._changing:
                self.get(project_id)
                self._refuse_more(project_id)
                if not fork:
                    self.refuse_taken(key, session_id)
                at = now()
                conversation = msgspec.structs.replace(
                    main,
                    number=await self._store.next_project_number(),
                    id=key,
                    path=path,
                    real_path=real_path,
                    state=ProjectState.IDLE,
                    session_id=session_id,
                    fork=fork and session_id is not None,
                    epoch=secrets.token_hex(4),
                    head=0,
                    first=1,
                    created_at=at,
                    last_active=at,
                    queue_hold=None,
                    title=title,
                    worktree=made,
                )
                sessions = (found,) if found is not None and known is None else ()
                await self._store.commit(Change(project=conversation, sessions=sessions))
                session = self._open(conversation)
        except BaseException:
            if made is not None:
                with contextlib.suppress(errors.FileOperationError):
                    await asyncio.shield(git.remove_worktree(made, keep_branch=False))
            raise
        await session.loops.ready.wait()
        if continued is not None:
            resumed = SessionResumedData(continued.id, conversation.fork, continued.title)
            await session.state.log.write([entry_draft("session_resumed", resumed)])
        self._observer.emit(ConversationCreated(project_id, conversation.id, made is not None, correlation_id))
        self._broadcast("project_state", encode_data(session.state.view()), conversation.id)
        return session

    @property
    def _worktrees(self) -> Path:
        return worktrees_folder(self._settings.current)

    def _refuse_more(self, project_id: ProjectId) -> None:
        limit = self._settings.current.limits.conversations
        if len(self.of(project_id)) >= limit:
            raise errors.ResourceLimitError(
                f"This project has {limit} conversations already (limits.conversations); delete one."
            )

    def refuse_taken(self, conversation_id: ConversationId, session_id: str | None) -> None:
        """Refuse a CLI session that another conversation continues: two processes would write one transcript.

        Raises:
            ValidationError: another conversation of the project continues it.
        """
        for session in self.of(project_of(conversation_id)):
            other = session.state.project
            if session_id is not None and other.session_id == session_id and other.id != conversation_id:
                raise errors.ValidationError(
                    "Another conversation of this project continues this session; continue it there, or as a copy "
                    "(fork).",
                    details={"conversation_id": other.id},
                )

    async def delete_conversation(
        self, session: Session, *, discard: bool, correlation_id: str | None = None
    ) -> ConversationDeletedData:
        """Delete a conversation with its log and its worktree.

        Args:
            session: that of the conversation.
            discard: also when the worktree has work that only it has. A branch with such commits stays.
            correlation_id: that of the request.

        Raises:
            ValidationError: the main conversation, or a worktree with such work.
            ProcessActiveError: an execution runs or waits in it.
            FileOperationError: git or the store failed; the log is unchanged.
        """
        conversation = session.state.project
        if conversation.is_main:
            raise errors.ValidationError("The main conversation is deleted with its project (project_delete).")
        kept = None
        async with self._changing:
            self.get(conversation.id)
            await session.close_for_deletion()
            try:
                if conversation.worktree is not None:
                    kept = await self._remove_worktree(conversation.worktree, discard=discard)
                await self._store.delete_project(conversation)
            except errors.PocketAgentError:
                _reopen([session])
                raise
            await self._drop(session)
        self._observer.emit(ConversationDeleted(conversation.project_id, conversation.id, correlation_id))
        deleted = ConversationDeletedData(conversation.project_id, conversation.id, kept)
        self._broadcast("conversation_deleted", encode_data(deleted), conversation.id)
        return deleted

    async def _remove_worktree(self, worktree: Worktree, *, discard: bool) -> str | None:
        try:
            pending = await git.pending_work(worktree)
        except errors.FileOperationError:
            if not discard:
                raise
            pending = git.PendingWork(0, 1)  # unknown, so its branch stays
        if any(pending) and not discard:
            raise errors.ValidationError(
                f"The worktree has {pending.changes} changes that are not committed and {pending.commits} commits that "
                "are on no other branch and no remote. Commit and push or merge them, or delete it with `discard`.",
                details=pending._asdict(),
            )
        return await git.remove_worktree(worktree, keep_branch=pending.commits > 0)

    async def _refuse_overlap(self, real_path: Path) -> None:
        others = [Path(session.state.project.real_path) for session in self.mains()]
        seen: dict[Path, list[tuple[int, int]]] = {}
        with contextlib.suppress(TimeoutError):  # a disk hangs: only the paths are compared
            async with asyncio.timeout(_STAT_SECONDS):
                seen = await asyncio.to_thread(lambda: {path: identities(path) for path in (real_path, *others)})
        here = seen.get(real_path, [])
        for session in self.mains():
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
                websocket_frame(encode_frame(draft.type, draft.data, now(), conversation_id=project.id))
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
        acceptance = self._accepted.setdefault(project.project_id, Acceptance())
        state = State(log, acceptance=acceptance, limits=self.limits)
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
                self._observer.emit(ProjectFaulted(session.state.project.project_id, error))
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
                project_id = session.state.project.project_id
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

    def _broadcast(self, kind: str, data: bytes, conversation_id: ConversationId) -> None:
        frame = websocket_frame(encode_frame(kind, data, now(), conversation_id=conversation_id))
        self._hub.broadcast(conversation_id, WireFrame(frame, None, kind))


def _reopen(sessions: Sequence[Session]) -> None:
    """Take requests again, after a deletion that failed."""
    for session in sessions:
        session.loops.closed = False
