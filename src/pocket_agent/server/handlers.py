"""What each request does: find the project, act, reply. A handler returns its reply or raises."""

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

import msgspec

from pocket_agent.config.settings import Settings
from pocket_agent.errors import ForbiddenError, ProjectNotFoundError, ValidationError
from pocket_agent.hub import Hub
from pocket_agent.model import Claim, Direction, Entry, ExecuteOptions, Milliseconds, Position, ProjectId, ProjectState
from pocket_agent.policy import Policy
from pocket_agent.projects import Projects
from pocket_agent.protocol import request as message
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.preview import preview
from pocket_agent.protocol.push import (
    REPLY_TYPES,
    DirectoryData,
    HealthCheckData,
    MessageData,
    MessagesData,
    MessagesMetadata,
    PathCompleteData,
    PathInspectData,
    ProjectDeletedData,
    ProjectJoinData,
    ProjectLeaveData,
    PromptChangedData,
    ServerHistoryData,
    ServerOverviewData,
    ServerStatsData,
    SessionListData,
    SessionResumeData,
    SetModelData,
    SetPermissionModeData,
    SubscribersData,
    WaitingApproval,
    WatchData,
)
from pocket_agent.protocol.request import ClientFrame, Since
from pocket_agent.server.answer import without_ids
from pocket_agent.server.connection import Connection, Done
from pocket_agent.server.device import Devices
from pocket_agent.server.permission import (
    check_limited_answer,
    check_limited_mode,
    check_permission,
    limit_options,
)
from pocket_agent.session.log import live_draft
from pocket_agent.session.session import Session
from pocket_agent.session.state import State
from pocket_agent.storage import Store

_PAGE_BYTES: Final = 8 * 1024 * 1024
"""The largest page of history, so that one request cannot fill the memory; `has_more` tells the rest."""

_PAGE_CLAIMS: Final = 200
_PAGE_CLAIM_CHARACTERS: Final = 256 * 1024
"""How much one reply to `path_inspect` holds."""

_WAITING: Final = frozenset(
    {
        "project_create",
        "project_delete",
        "execute",
        "agent_kill",
        "agent_interrupt",
        "agent_new_session",
        "approval_respond",
        "prompt_edit",
        "prompt_cancel",
        "queue_resume",
        "set_model",
        "set_permission_mode",
        "session_resume",
        "path_complete",
        "path_inspect",
        "project_trust",
    }
)
"""Requests that may wait for a project's turn or for a disk; others of the same connection overtake them."""


class Points(Protocol):
    """Figures over a time, as far as they were not read yet."""

    def read(self) -> ServerHistoryData:
        """The points that are new."""

    def more(self) -> ServerHistoryData | None:
        """The same; None when there are none."""


class Report(Protocol):
    """Where figures and health come from."""

    async def health(self) -> HealthCheckData:
        """How the server is."""

    async def unready(self) -> str | None:
        """Why the server may not take work, in a line; None when it may."""

    def stats(self) -> ServerStatsData:
        """Figures since the start."""

    def overview(self) -> ServerOverviewData:
        """Checks, limits, slow executions and the last errors."""

    def history(self, seconds: int) -> Points:
        """The figures of the last so many seconds, and those that come."""


Reply = object


@dataclass(frozen=True, slots=True)
class _Call:
    """One request: who asks, for what, and the name of it in whatever is told."""

    connection: Connection
    frame: ClientFrame
    correlation_id: str


_Act = Callable[[_Call, Session], Coroutine[Any, Any, Reply]]


@dataclass(frozen=True, slots=True)
class _Range:
    after: int
    before: int | None


class Handlers:
    """Carries out requests. It is the `Handler` of every connection."""

    def __init__(
        self, projects: Projects, store: Store, hub: Hub, settings: Settings, report: Report, devices: Devices
    ) -> None:
        self._projects = projects
        self._policy = Policy(settings)
        self._devices = devices
        self._store = store
        self._hub = hub
        self._report = report
        self._stopping = False
        self._of_project: dict[str, _Act] = {
            "project_delete": self._project_delete,
            "project_join": self._project_join,
            "project_leave": self._project_leave,
            "project_trust": self._project_trust,
            "execute": self._execute,
            "agent_kill": self._agent_kill,
            "agent_interrupt": self._agent_interrupt,
            "agent_new_session": self._agent_new_session,
            "get_messages": self._get_messages,
            "approval_respond": self._approval_respond,
            "prompt_edit": self._prompt_edit,
            "prompt_cancel": self._prompt_cancel,
            "queue_resume": self._queue_resume,
            "set_model": self._set_model,
            "set_permission_mode": self._set_permission_mode,
            "session_list": self._session_list,
            "session_resume": self._session_resume,
            "execution_list": self._execution_list,
        }

    def refuse_new_work(self) -> None:
        """The server is stopping: what would begin something is refused from here on."""
        self._stopping = True

    def waits(self, frame: ClientFrame) -> bool:
        """Whether the request may wait for a project, so that others overtake it."""
        return frame.type in _WAITING

    def prepare(self, connection: Connection, frame: ClientFrame, correlation_id: str) -> Callable[[], Awaitable[Done]]:
        """Settle now which project is meant; the result carries the request out and replies."""
        if self._stopping and frame.type in {"execute", "project_create"}:
            raise ForbiddenError("The server is stopping; it takes no new work. Connect again in a moment.")
        check_permission(connection.device, frame.type)
        call = _Call(connection, frame, correlation_id)
        of_project = self._of_project.get(frame.type)
        if of_project is not None:
            session = self._session(connection, frame)
            act = of_project

            async def carry_out() -> Done:
                reply = await act(call, session)
                await self._reply(connection, frame, reply, session.state.project.id)
                return Done(session.state.project.id, reply)

            return carry_out
        return lambda: self._of_server(call)

    async def _of_server(self, call: _Call) -> Done:
        connection, frame = call.connection, call.frame
        project_id: ProjectId | None = None
        reply: Reply
        match frame.request:
            case message.ProjectCreate(path=path, hash=shown):
                session = await self._projects.create(path, shown=shown, correlation_id=call.correlation_id)
                project_id = session.state.project.id
                reply = session.state.view()
            case message.ProjectList():
                reply = self._project_list(connection)
            case message.Watch(away=away, announce=announce):
                connection.away, connection.announces = away, announce
                self._hub.watchers[connection] = None
                reply = self._watch(connection)
            case message.PathComplete(path=path):
                reply = await self._path_complete(path)
            case message.PathInspect(path=path, offset=offset):
                reply = await self._path_inspect(path, offset)
            case (
                message.DeviceList()
                | message.DeviceRename()
                | message.DeviceRevoke()
                | message.DeviceRotate()
                | message.PairingStart()
                | message.PairingCancel()
            ):
                reply = await self._devices.answer(connection, frame.request)
            case message.HealthCheck():
                reply = self._visible(connection, await self._report.health())
            case message.ServerStats(interval=interval):
                connection.feed(frame.type, interval, self._report.stats)
                reply = self._report.stats()
            case message.ServerOverview(interval=interval):
                connection.feed(frame.type, interval, self._report.overview)
                reply = self._report.overview()
            case message.ServerHistory(range=seconds, interval=interval):
                points = self._report.history(seconds)
                reply = points.read()
                connection.feed(frame.type, interval, points.more)
            case other:
                raise AssertionError(other)
        await self._reply(connection, frame, reply, project_id)
        return Done(project_id, reply)

    async def _reply(
        self, connection: Connection, frame: ClientFrame, reply: Reply, project_id: ProjectId | None
    ) -> None:
        if reply is None:
            return
        kind = REPLY_TYPES.get(frame.type, frame.type)
        if isinstance(reply, MessagesData):
            await connection.send_page(kind, reply, project_id=project_id, request_id=frame.request_id)
        else:
            connection.send(kind, reply, project_id=project_id, request_id=frame.request_id)

    def _session(self, connection: Connection, frame: ClientFrame) -> Session:
        """The project that the frame names, or else the one that the connection has joined."""
        if frame.project_id is not None:
            return self._seen(connection, frame.project_id)
        if len(connection.cursors) == 1:
            return self._seen(connection, next(iter(connection.cursors)))
        joined = "several" if connection.cursors else "no"
        raise ValidationError(f"project_id is needed: this connection has joined {joined} projects.")

    def _seen(self, connection: Connection, project_id: str) -> Session:
        """A project, unless this device may not know that there is one."""
        if not connection.device.sees(project_id):
            raise ProjectNotFoundError("There is no such project.")
        return self._projects.get(project_id)

    def _states(self, connection: Connection) -> list[State]:
        """The projects that a connection may know of."""
        states = [session.state for session in self._projects.all()]
        return [state for state in states if connection.sees(state.project.id)]

    def _project_list(self, connection: Connection) -> bytes:
        states = [state.encoded_view() for state in self._states(connection)]
        return b'{"projects":[%b],"total":%d}' % (b",".join(states), len(states))

    def _watch(self, connection: Connection) -> WatchData:
        states = self._states(connection)
        return WatchData(
            projects=[state.view() for state in states],
            approvals=[WaitingApproval(state.project.id, waiting) for state in states for waiting in state.pending()],
        )

    def renew_watch(self, connection: Connection) -> None:
        """Send the state of all projects, instead of the changes that a congested connection did not get."""
        connection.send("watch", self._watch(connection))

    async def _path_complete(self, path: str) -> PathCompleteData:
        found = await self._projects.directories.complete(path)
        return PathCompleteData(
            path=path,
            entries=[DirectoryData(entry, self._projects.at(entry)) for entry in found.paths],
            truncated=found.truncated,
        )

    async def _path_inspect(self, path: str, offset: int) -> PathInspectData:
        real_path, found = await self._projects.inspect(path)
        counts = Counter(str(claim.kind) for claim in found.claims)
        page = _claims_page(found.claims[offset:])
        project_id = self._projects.at(real_path)
        return PathInspectData(real_path, project_id, page, len(found.claims), dict(counts), found.new, found.hash)

    def _visible(self, connection: Connection, health: HealthCheckData) -> HealthCheckData:
        """The server's health with the figures of those projects alone that the device may know of."""
        if connection.device.projects is None:
            return health
        states = self._states(connection)
        executing = sum(state.shown is ProjectState.EXECUTING for state in states)
        figures = msgspec.structs.replace(health.projects, count=len(states), executing=executing)
        return msgspec.structs.replace(health, projects=figures, checks=without_ids(health.checks))

    async def _project_delete(self, call: _Call, session: Session) -> Reply:
        project_id = session.state.project.id
        await self._projects.delete(project_id, correlation_id=call.correlation_id)
        for sink in list(self._hub.sinks):
            if isinstance(sink, Connection):
                sink.leave(project_id)
        return ProjectDeletedData(project_id)

    async def _project_trust(self, call: _Call, session: Session) -> Reply:
        request = cast("message.ProjectTrust", call.frame.request)
        await session.trust(request.hash, correlation_id=call.correlation_id)
        return session.state.view()

    async def _project_join(self, call: _Call, session: Session) -> Reply:
        request = cast("message.ProjectJoin", call.frame.request)
        place = await self._place(session, request.since)
        state = session.state
        if place is not None and await self._went_back(session, place, request.since):
            await state.log.renew_epoch()
            place = Position("", place.offset)  # also when the log has a new epoch already: it is not this client's
        project, channel = state.project, state.log.channel
        recovered = place is None or (
            place.epoch == project.epoch and project.first - 1 <= place.offset <= project.head
        )
        after = None
        if place is not None:
            after = place.offset if recovered else project.first - 1
        call.connection.leave(project.id)
        call.connection.send(
            "project_join",
            ProjectJoinData(
                project_id=project.id,
                state=state.shown,
                session_id=project.session_id,
                epoch=project.epoch,
                offset=channel.head,
                recovered=recovered,
                approvals=state.pending(),
                queue=state.queued(),
                partial=state.partial.value(),
            ),
            project_id=project.id,
            request_id=call.frame.request_id,
        )
        call.connection.send("project_state", state.encoded_view(), project_id=project.id)
        call.connection.join(channel, after, previews=request.large == "reference")
        state.log.say([live_draft("project_joined", SubscribersData(project.id, channel.subscribers))])
        return None

    async def _place(self, session: Session, since: Since | int | str | None) -> Position | None:
        project = session.state.project
        match since:
            case None:
                return None
            case int():
                return Position(project.epoch, since)
            case Since():
                return message.position_of(since, project.epoch)
            case str():
                offset = await self._store.offset_at(session.state.project, _milliseconds(since))
                return Position(session.state.project.epoch, offset)

    async def _went_back(self, session: Session, place: Position, since: Since | int | str | None) -> bool:
        """Whether a client has seen entries of this epoch that are not in the log any more."""
        project = session.state.project
        if not isinstance(since, Since) or since.epoch is None or place.epoch != project.epoch:
            return False
        if place.offset > project.head:
            return True
        if since.timestamp is None or place.offset < project.first:
            return False
        found = await self._store.read(project, after=place.offset - 1, limit=1, max_bytes=0)
        return bool(found) and found[0].offset == place.offset and found[0].timestamp != _milliseconds(since.timestamp)

    async def _project_leave(self, call: _Call, session: Session) -> Reply:
        project_id = session.state.project.id
        if call.connection.leave(project_id):
            self.left(project_id)
        return ProjectLeaveData(project_id)

    def left(self, project_id: ProjectId) -> None:
        """Tell who still follows a project that one has left; a project that is gone has nobody."""
        with suppress(ProjectNotFoundError):
            log = self._projects.get(project_id).state.log
            log.say([live_draft("project_left", SubscribersData(project_id, log.channel.subscribers))])

    async def _execute(self, call: _Call, session: Session) -> Reply:
        request = cast("message.Execute", call.frame.request)
        chosen = request.options.to_model() if request.options is not None else ExecuteOptions()
        device = call.connection.device
        inherited = session.state.project.permission_mode or self._policy.default_mode
        chosen = limit_options(device, chosen, inherited)
        options = await self._policy.admit(chosen, session.state.project.real_path)
        return await session.execute(
            request.prompt,
            options,
            prompt_id=request.prompt_id,
            by=call.connection.device.name,
            device_id=call.connection.device.id,
            generation=call.connection.device.generation,
            correlation_id=call.correlation_id,
            traceparent=request.traceparent,
        )

    async def _agent_kill(self, call: _Call, session: Session) -> Reply:
        request = cast("message.AgentKill", call.frame.request)
        return await session.kill(execution_id=request.execution_id, hold_queue=request.hold_queue)

    async def _agent_interrupt(self, call: _Call, session: Session) -> Reply:
        request = cast("message.AgentInterrupt", call.frame.request)
        return await session.interrupt(execution_id=request.execution_id, hold_queue=request.hold_queue)

    async def _agent_new_session(self, call: _Call, session: Session) -> Reply:
        return await session.new_session()

    async def _get_messages(self, call: _Call, session: Session) -> Reply:
        request = cast("message.GetMessages", call.frame.request)
        bounds = await self._range(session, request)
        project = session.state.project
        direction = None if request.direction == "all" else Direction(request.direction)
        newest_first = bounds.before is not None or request.since is None
        if newest_first:
            before = bounds.before if bounds.before is not None else project.head + 1
            entries = await self._store.read_before(
                project, before=before, limit=request.limit, max_bytes=_PAGE_BYTES, direction=direction
            )
            messages = [_message(entry, request.large) for entry in reversed(entries) if entry.offset > bounds.after]
            messages = _within(messages, request.max_bytes)[::-1]
            oldest = messages[0].offset if messages else before
            has_more = bool(messages) and max(bounds.after + 1, project.first) < oldest
        else:
            entries = await self._store.read(
                project, after=bounds.after, limit=request.limit, max_bytes=_PAGE_BYTES, direction=direction
            )
            messages = _within([_message(entry, request.large) for entry in entries], request.max_bytes)
            has_more = bool(messages) and messages[-1].offset < project.head
        metadata = MessagesMetadata(
            epoch=project.epoch, first_offset=project.first, last_offset=project.head, has_more=has_more
        )
        return MessagesData(messages, metadata)

    async def _range(self, session: Session, request: message.GetMessages) -> _Range:
        since = await self._place(session, request.since)
        has_seen = isinstance(request.since, Since) and request.since.timestamp is not None
        if since is not None and has_seen and await self._went_back(session, since, request.since):
            await session.state.log.renew_epoch()
            since = Position("", since.offset)
        epoch = session.state.project.epoch
        before = request.before
        if isinstance(before, int):
            before = Since(offset=before)
        for position in (since, before):
            if position is not None and position.epoch not in {None, epoch}:
                raise ValidationError(
                    "This epoch is over: the log was restored or renewed. Read it again without `since` and `before`.",
                    details={"epoch": epoch},
                )
        return _Range(after=since.offset if since is not None else 0, before=before.offset if before else None)

    async def _approval_respond(self, call: _Call, session: Session) -> Reply:
        request = cast("message.ApprovalRespond", call.frame.request)
        changed = request.updated_input is not None
        check_limited_answer(call.connection.device, changed=changed, remembered=request.remember)
        return await session.respond(
            request.approval_id,
            allow=request.behavior == "allow",
            by=call.connection.device.name,
            message=request.message,
            updated_input=request.updated_input,
            remember=request.remember,
        )

    async def _prompt_edit(self, call: _Call, session: Session) -> Reply:
        request = cast("message.PromptEdit", call.frame.request)
        await session.edit(request.execution_id, request.prompt, call.connection.device)
        return PromptChangedData(session.state.project.id, request.execution_id)

    async def _prompt_cancel(self, call: _Call, session: Session) -> Reply:
        request = cast("message.PromptCancel", call.frame.request)
        await session.cancel(request.execution_id)
        return PromptChangedData(session.state.project.id, request.execution_id)

    async def _queue_resume(self, call: _Call, session: Session) -> Reply:
        return await session.resume_queue()

    async def _set_model(self, call: _Call, session: Session) -> Reply:
        request = cast("message.SetModel", call.frame.request)
        if request.model is not None and "\0" in request.model:
            raise ValidationError("model contains a NUL character, which no option can hold.")
        await session.set_model(request.model)
        return SetModelData(session.state.project.id, request.model)

    async def _set_permission_mode(self, call: _Call, session: Session) -> Reply:
        request = cast("message.SetPermissionMode", call.frame.request)
        check_limited_mode(call.connection.device, request.mode)
        self._policy.check_mode(request.mode)
        await session.set_permission_mode(request.mode)
        return SetPermissionModeData(session.state.project.id, request.mode)

    async def _session_list(self, call: _Call, session: Session) -> Reply:
        return SessionListData(session.state.project.id, await session.sessions())

    async def _session_resume(self, call: _Call, session: Session) -> Reply:
        request = cast("message.SessionResume", call.frame.request)
        await session.resume(request.session_id, fork=request.fork)
        return SessionResumeData(session.state.project.id, request.session_id, request.fork)

    async def _execution_list(self, call: _Call, session: Session) -> Reply:
        request = cast("message.ExecutionList", call.frame.request)
        return await session.executions(before=request.before, limit=request.limit)


def _message(entry: Entry, large: message.Large) -> MessageData:
    found = preview(entry.data) if large == "reference" else None
    return MessageData(
        offset=entry.offset,
        timestamp=timestamp(entry.timestamp),
        direction=entry.direction,
        type=entry.type,
        message=msgspec.Raw(entry.data if found is None else found.data),
        size=None if found is None else found.size,
        cut=() if found is None else found.cut,
    )


def _claims_page(claims: Sequence[Claim]) -> list[Claim]:
    """The first of some claims, of a bounded length together; always one, if there is any."""
    page: list[Claim] = []
    length = 0
    for claim in claims[:_PAGE_CLAIMS]:
        length += len(claim.text)
        if page and length > _PAGE_CLAIM_CHARACTERS:
            break
        page.append(claim)
    return page


def _within(messages: list[MessageData], max_bytes: int | None) -> list[MessageData]:
    """The first messages whose data has at most `max_bytes` together, and at least one."""
    if max_bytes is None:
        return messages
    size = 0
    for count, one in enumerate(messages):
        size += len(memoryview(one.message))
        if size > max_bytes and count > 0:
            return messages[:count]
    return messages


def _milliseconds(text: str) -> Milliseconds:
    """An RFC 3339 time.

    Raises:
        ValidationError: it is none, or has no zone.
    """
    refusal = ValidationError("`since` is not an RFC 3339 time such as 2026-01-31T12:00:00Z.")
    try:
        at = datetime.fromisoformat(text)
        milliseconds = int(at.astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise refusal from error
    if at.tzinfo is None:
        raise refusal
    return Milliseconds(max(0, milliseconds))
