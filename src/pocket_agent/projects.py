"""The projects of a server and their conversations: create, find, delete, prune; their paths and their number."""

import asyncio
import contextlib
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from pocket_agent import errors
from pocket_agent.claude.process import kill_marked, kill_orphans
from pocket_agent.claude.trust import Inspection, check_shown, inspect
from pocket_agent.conversation.accounting import KEPT_DAYS, Budget, UsageLimits
from pocket_agent.conversation.agent import Agent, AgentContext
from pocket_agent.conversation.capacity import Capacity
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.conversation.conversation_log import ConversationLog, entry_draft, now
from pocket_agent.conversation.loops import ConversationLoops
from pocket_agent.conversation.state import Acceptance, State
from pocket_agent.conversation.terminal_turns import TerminalTurns
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
from pocket_agent.git import Git, PendingWork, is_checked_out, slug
from pocket_agent.hub import Channel, Hub, WireFrame
from pocket_agent.model import (
    ConversationId,
    ConversationRecord,
    Entry,
    KeptSession,
    Milliseconds,
    ProjectId,
    ProjectState,
    StrayWorktree,
    Trust,
    UsageWindow,
    Worktree,
    project_of,
)
from pocket_agent.protocol.frame import encode_data, encode_frame, websocket_frame
from pocket_agent.protocol.push import ConversationDeletedData, ProjectDeletedData, SessionResumedData
from pocket_agent.protocol.requests import WorktreeRequest
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
    """All projects and their conversations, while `running`."""

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
        self.git = Git(context.environment, context.confinement)
        self.directories = Directories(settings, settings.current.data.dir)
        self._conversations: dict[ConversationId, Conversation] = {}
        self._runs: dict[ConversationId, asyncio.Task[None]] = {}
        self._accepted: dict[ProjectId, Acceptance] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._changing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load all projects, adopt running agents, and run the conversations; agents continue after it."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for day, spent in await self._store.spent_usd(KEPT_DAYS):  # the clock may be a day ahead, and be set back
                self.budget.load(day, spent)
            self.limits.load(await self._store.usage_windows())
            records = await self._store.conversations()
            processes = [await self._store.process(record.id) for record in records]
            await kill_orphans(self._context.spool_dir, {process.id for process in processes if process is not None})
            for record in records:
                self._open(record)
            with contextlib.suppress(TimeoutError):  # a project that cannot be restored yet delays only itself
                async with asyncio.timeout(_RESTORE_SECONDS):
                    for conversation in self._conversations.values():
                        await conversation.loops.ready.wait()
            strays = partial(self._remove_strays, await self._store.stray_worktrees())
            background = [
                tasks.create_task(supervise("worktrees", strays, self._observer)),
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
        for conversation in self._conversations.values():
            conversation.release()

    async def close_idle(self) -> None:
        """End the processes that wait for a prompt: without the server they would never end."""
        await asyncio.gather(*(conversation.close_if_idle() for conversation in self.all()), return_exceptions=True)

    def renew(self) -> None:
        """Apply changed settings."""
        limits, claude = self._settings.current.limits, self._settings.current.claude
        self.capacity.resize(max_executions=limits.max_executions, max_processes=claude.max_processes)
        for conversation in self.all():
            conversation.loops.renew()

    def __len__(self) -> int:
        """The number of projects."""
        return len(self._accepted)

    def all(self) -> Sequence[Conversation]:
        """All conversations."""
        return list(self._conversations.values())

    def mains(self) -> Sequence[Conversation]:
        """The main conversations: one for each project."""
        conversations = (self._conversations.get(project_id) for project_id in self._accepted)
        return [conversation for conversation in conversations if conversation is not None]  # one that is being deleted

    def of(self, project_id: str) -> Sequence[Conversation]:
        """A project's conversations, the main one first."""
        return [
            conversation
            for conversation in self._conversations.values()
            if conversation.state.record.project_id == project_id
        ]

    def get(self, conversation_id: str) -> Conversation:
        """The conversation of an id; the id of a project is that of its main one.

        Raises:
            ProjectNotFoundError: there is no such project, or no such conversation in it.
        """
        conversation = self._conversations.get(ConversationId(conversation_id))
        if conversation is None:
            what = "project" if project_of(conversation_id) == conversation_id else "conversation"
            raise errors.ProjectNotFoundError(f"There is no such {what}.")
        return conversation

    def at(self, path: str) -> ProjectId | None:
        """The project with exactly this path, given or real."""
        for conversation in self.mains():
            project = conversation.state.record
            if path in {project.real_path, project.path}:
                return project.project_id
        return None

    def name_of(self, project_id: str) -> str | None:
        conversation = self._conversations.get(project_of(project_id))
        return conversation.state.record.name if conversation is not None else None

    def title_of(self, conversation_id: str) -> str | None:
        """The name of a conversation for people: that of its project, and its own title behind it."""
        conversation = self._conversations.get(ConversationId(conversation_id))
        if conversation is None:
            return None
        found = conversation.state.record
        return f"{found.name} ({found.title})" if found.title else found.name

    async def inspect(self, path: str) -> tuple[str, Inspection]:
        """The real path of a directory, and what it has the CLI do without asking, as a project or if it were one.

        Raises:
            InvalidPathError: not an absolute path of an existing directory inside the allowed roots.
        """
        for conversation in self.all():
            if conversation.state.record.worktree is not None and conversation.state.record.path == path:
                return path, await conversation.inspect()
        real_path = await self.directories.find(path)
        project_id = self.at(str(real_path))
        if project_id is not None:
            return str(real_path), await self.get(project_id).inspect()
        return str(real_path), await self._inspect(real_path)

    async def _inspect(self, directory: Path) -> Inspection:
        """The claims of a directory that is not a project: none is accepted."""
        return await asyncio.to_thread(inspect, directory, self._settings.current.claude.setting_sources, frozenset())

    async def create(self, path: str, *, shown: str | None = None, correlation_id: str | None = None) -> Conversation:
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
            project = ConversationRecord(
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
            await self._store.commit(Change(record=project, trust=Trust(project_id, found.digests)))
            conversation = self._open(project)
            await conversation.loops.ready.wait()
        self._observer.emit(ProjectCreated(project_id, correlation_id))
        self._broadcast("project_state", encode_data(conversation.state.view()), project.id)
        return conversation

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
            conversations = self.of(project_id)
            worktrees = [conversation.state.record.worktree for conversation in conversations]
            strays = [StrayWorktree(worktree) for worktree in worktrees if worktree is not None]
            await self._close_for_deletion(conversations)
            try:
                await self._store.note_worktrees(strays)
                await self._store.delete_project(main.state.record)
            except errors.PocketAgentError:
                _reopen(conversations)  # it is still stored
                raise
            for conversation in conversations:
                await self._drop(conversation)
            del self._accepted[project_id]
            await self._remove_strays(strays)
        self._observer.emit(ProjectDeleted(project_id, correlation_id))
        self._broadcast("project_deleted", encode_data(ProjectDeletedData(project_id)), project_id)

    async def _remove_strays(self, strays: Sequence[StrayWorktree]) -> None:
        """Delete noted worktrees without a conversation and without work; the next start retries those that fail."""
        owned = {conversation.state.record.worktree for conversation in self.all()}
        for worktree, is_new in ((stray.worktree, stray.is_new) for stray in strays):
            with contextlib.suppress(errors.FileOperationError):
                if worktree not in owned:
                    if is_new:
                        await kill_marked(worktree.root)  # git outlives a server that is killed
                        if not await asyncio.to_thread(is_checked_out, worktree):
                            await self.git.remove_worktree(worktree, keep_branch=True)
                    if not any(await self.git.pending_work(worktree)):
                        await self.git.remove_worktree(worktree, keep_branch=False)
                await self._store.note_worktrees(settled=[worktree.root])

    async def _close_for_deletion(self, conversations: Sequence[Conversation]) -> None:
        """Close all conversations, or none; raises as `Conversation.close_for_deletion`."""
        closed: list[Conversation] = []
        try:
            for conversation in conversations:
                await conversation.close_for_deletion()
                closed.append(conversation)
        except errors.PocketAgentError:
            _reopen(closed)
            raise

    async def _drop(self, conversation: Conversation) -> None:
        """End a conversation that is no longer stored."""
        key = conversation.state.record.id
        run = self._runs.pop(key)
        run.cancel()
        await asyncio.wait({run})
        del self._conversations[key]
        self._hub.channels.pop(key, None)

    async def begin(
        self,
        project_id: ProjectId,
        *,
        title: str | None = None,
        worktree: WorktreeRequest | None = None,
        session_id: str | None = None,
        fork: bool = False,
        found: KeptSession | None = None,
        correlation_id: str | None = None,
    ) -> Conversation:
        """Begin another conversation in a project.

        Args:
            project_id: the project.
            title: a name for people.
            worktree: gives it a git worktree as its directory; None for the project's directory.
            session_id: the CLI's session that it continues; None for a new one.
            fork: whether to continue a copy of it.
            found: the session of this id that the CLI keeps, if it does.
            correlation_id: that of the request.

        Raises:
            ProjectNotFoundError: there is no such project (any more).
            ResourceLimitError: limits.conversations is reached.
            ValidationError: no such session, one of another conversation, or a worktree that cannot be made.
            FileOperationError: the worktree's folder cannot be written, or the store failed.
        """
        main = self.get(project_id).state.record
        self._refuse_more(project_id)
        known = await self._store.session(project_id, session_id) if session_id is not None else None
        continued = known if known is not None or found is None else found.record
        if session_id is not None and continued is None:
            raise errors.ValidationError("This project has no such session (session_list).")
        suffix = secrets.token_hex(4)
        key = ConversationId(f"{project_id}.{suffix}")
        path, real_path, made = main.path, main.real_path, None
        strays: list[StrayWorktree] = []

        async def making(found: Worktree) -> None:
            strays.append(StrayWorktree(found, is_new=True))
            await self._store.note_worktrees(strays)

        try:
            if worktree is not None:
                name = f"{slug(title or main.name) or 'conversation'}-{suffix}"
                project = Path(main.real_path)
                directory, made = await self.git.add_worktree(
                    project, self._worktrees, name, branch=worktree.branch, base=worktree.base, making=making
                )
                path = real_path = str(directory)
            async with self._changing:
                self.get(project_id)
                self._refuse_more(project_id)
                if not fork:
                    self._refuse_taken(key, session_id)
                at = now()
                record = ConversationRecord(
                    number=await self._store.next_project_number(),
                    id=key,
                    path=path,
                    real_path=real_path,
                    name=main.name,
                    state=ProjectState.IDLE,
                    session_id=session_id,
                    epoch=secrets.token_hex(4),
                    head=0,
                    first=1,
                    created_at=at,
                    last_active=at,
                    model=main.model,
                    permission_mode=main.permission_mode,
                    fork=fork and session_id is not None,
                    title=title,
                    worktree=made,
                    transcript=found.end if found is not None and not fork else None,
                )
                sessions = (found.record,) if found is not None and known is None else ()
                await self._store.commit(Change(record=record, sessions=sessions))
                conversation = self._open(record)
        except BaseException:
            await asyncio.shield(self._remove_strays(strays))
            raise
        with contextlib.suppress(errors.FileOperationError):  # the next start finds its conversation
            await self._store.note_worktrees(settled=[stray.worktree.root for stray in strays])
        await conversation.loops.ready.wait()
        if continued is not None:
            end = found.end.position if found is not None else None
            resumed = SessionResumedData(continued.id, record.fork, continued.title, end)
            await conversation.state.log.write([entry_draft("session_resumed", resumed)])
        self._observer.emit(ConversationCreated(project_id, record.id, made is not None, correlation_id))
        self._broadcast("project_state", encode_data(conversation.state.view()), record.id)
        return conversation

    @property
    def _worktrees(self) -> Path:
        return worktrees_folder(self._settings.current)

    def _refuse_more(self, project_id: ProjectId) -> None:
        limit = self._settings.current.limits.conversations
        if len(self.of(project_id)) >= limit:
            raise errors.ResourceLimitError(
                f"This project has {limit} conversations already (limits.conversations); delete one."
            )

    async def resume(
        self, conversation: Conversation, session_id: str, *, fork: bool, found: KeptSession | None
    ) -> None:
        """See `Conversation.resume`; raises ValidationError also for a session of another conversation."""
        async with self._changing:
            if not fork:
                self._refuse_taken(conversation.state.record.id, session_id)
            await conversation.resume(session_id, fork=fork, found=found)

    def _refuse_taken(self, conversation_id: ConversationId, session_id: str | None) -> None:
        """Refuse a CLI session that another conversation continues: two processes would write one transcript.

        Raises:
            ValidationError: another conversation of the project continues it.
        """
        for conversation in self.of(project_of(conversation_id)):
            other = conversation.state.record
            is_taken = other.session_id == session_id and not other.fork and other.id != conversation_id
            if session_id is not None and is_taken:
                raise errors.ValidationError(
                    "Another conversation of this project continues this session; continue it there, or as a copy "
                    "(fork).",
                    details={"conversation_id": other.id},
                )

    async def delete_conversation(
        self, conversation: Conversation, *, discard: bool, correlation_id: str | None = None
    ) -> ConversationDeletedData:
        """Delete a conversation with its log and its worktree.

        Args:
            conversation: not the main one.
            discard: also when the worktree has work that only it has. A branch with such commits stays.
            correlation_id: that of the request.

        Raises:
            ValidationError: the main conversation, or a worktree with such work.
            ProcessActiveError: an execution runs or waits in it.
            FileOperationError: git or the store failed; the log is unchanged.
        """
        record = conversation.state.record
        if record.is_main:
            raise errors.ValidationError("The main conversation is deleted with its project (project_delete).")
        kept = None
        async with self._changing:
            self.get(record.id)
            await conversation.close_for_deletion()
            try:
                if record.worktree is not None:
                    kept = await self._remove_worktree(record.worktree, discard=discard)
                await self._store.delete_project(record)
            except errors.PocketAgentError:
                _reopen([conversation])
                raise
            await self._drop(conversation)
        self._observer.emit(ConversationDeleted(record.project_id, record.id, correlation_id))
        deleted = ConversationDeletedData(record.project_id, record.id, kept)
        self._broadcast("conversation_deleted", encode_data(deleted), record.id)
        return deleted

    async def _remove_worktree(self, worktree: Worktree, *, discard: bool) -> str | None:
        try:
            pending = await self.git.pending_work(worktree)
        except errors.FileOperationError:
            if not discard:
                raise
            pending = PendingWork(0, 1)  # unknown, so its branch stays
        if any(pending) and not discard:
            raise errors.ValidationError(
                f"The worktree has {pending.changes} changes that are not committed and {pending.commits} commits that "
                "are on no other branch and no remote. Commit and push or merge them, or delete it with `discard`.",
                details=pending._asdict(),
            )
        return await self.git.remove_worktree(worktree, keep_branch=pending.commits > 0)

    async def _refuse_overlap(self, real_path: Path) -> None:
        others = [Path(conversation.state.record.real_path) for conversation in self.mains()]
        seen: dict[Path, list[tuple[int, int]]] = {}
        with contextlib.suppress(TimeoutError):  # a disk hangs: only the paths are compared
            async with asyncio.timeout(_STAT_SECONDS):
                seen = await asyncio.to_thread(lambda: {path: identities(path) for path in (real_path, *others)})
        here = seen.get(real_path, [])
        for conversation in self.mains():
            other = Path(conversation.state.record.real_path)
            there = seen.get(other, [])
            if real_path == other or here[:1] == there[:1] != []:
                raise errors.ProjectExistsError(
                    "This directory is a project already.", details={"project_id": conversation.state.record.id}
                )
            inside = real_path.is_relative_to(other) or (there and there[0] in here)
            if inside or other.is_relative_to(real_path) or (here and here[0] in there):
                raise errors.ProjectNestingError(
                    "A project cannot be inside another one, or contain one.",
                    details={"project_id": conversation.state.record.id},
                )

    def _open(self, project: ConversationRecord) -> Conversation:
        assert self._tasks is not None
        store = self._store

        async def read_page(after: int) -> Sequence[Entry]:
            return await store.read(log.record, after=after, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES)

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
        log = ConversationLog(project, store, channel, self._observer)
        acceptance = self._accepted.setdefault(project.project_id, Acceptance())
        state = State(log, acceptance=acceptance, limits=self.limits)
        agent = Agent(project, self._context)
        main = self._conversations.get(project.project_id)
        directories = [*([main.state.record.real_path] if main is not None else []), project.real_path]
        terminal = TerminalTurns(state, directories, self._context.transcripts)
        loops = ConversationLoops(
            *(state, agent, store, self.capacity, self.budget, self._settings, self._observer, self._gate, terminal)
        )
        conversation = Conversation(loops, state, agent, store, self._settings, self._observer)
        self._hub.channels[project.id] = channel
        self._conversations[project.id] = conversation
        self._runs[project.id] = self._tasks.create_task(self._keep(conversation))
        return conversation

    async def _keep(self, conversation: Conversation) -> None:
        """Run a session; after an exception it starts again from the store, and others are not affected."""
        while True:
            try:
                await conversation.loops.run()
            except Exception as error:  # noqa: BLE001 - the border of a project
                self._observer.emit(ProjectFaulted(conversation.state.record.project_id, error))
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
            known = max(
                (conversation.state.record.last_active / 1000 for conversation in self.all()), default=time.time()
            )
        clock = SettledClock(known)
        while True:
            await asyncio.sleep(_RETENTION_SECONDS)
            limits = self._settings.current.storage
            at = clock.now()
            oldest = int((at - limits.max_age) * 1000) if limits.max_age > 0 else 0
            for conversation in self.all():
                project_id = conversation.state.record.project_id
                try:
                    await conversation.state.log.prune(
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


def _reopen(conversations: Sequence[Conversation]) -> None:
    """Take requests again, after a deletion that failed."""
    for conversation in conversations:
        conversation.loops.closed = False
