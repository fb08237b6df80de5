"""What each request does: check the device's permission, find the project, act, reply."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import msgspec

from pocket_agent.errors import ForbiddenError, ProjectNotFoundError, ValidationError
from pocket_agent.hub import Hub
from pocket_agent.model import (
    Claim,
    Device,
    Direction,
    Entry,
    ExecuteOptions,
    Milliseconds,
    Position,
    ProjectId,
    ProjectState,
)
from pocket_agent.policy import Policy
from pocket_agent.projects import Projects
from pocket_agent.protocol import requests as message
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.preview import preview
from pocket_agent.protocol.push import ProjectDeletedData, ServerStatsData, SubscribersData
from pocket_agent.protocol.requests import (
    ClientFrame,
    DirectoryData,
    HealthCheckData,
    MessageData,
    MessagesData,
    MessagesMetadata,
    Need,
    PairingCancelledData,
    PathCompleteData,
    PathInspectData,
    ProjectJoinData,
    ProjectLeaveData,
    PromptChangedData,
    Request,
    ServerHistoryData,
    ServerOverviewData,
    SessionListData,
    SessionResumeData,
    SetModelData,
    SetPermissionModeData,
    Since,
    WaitingApproval,
    WatchData,
)
from pocket_agent.server.answer import without_ids
from pocket_agent.server.connection import Connection, Done
from pocket_agent.server.devices import Devices
from pocket_agent.session.project_log import live_draft
from pocket_agent.session.session import Session
from pocket_agent.session.state import State
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Store

# ----------------------------------------------------------------------
# Permissions: a device may do everything, or only watch, or only within some projects.

LIMITED_MODES: Final = ("default", "plan")
"""The permission modes in which a device that is limited to some projects may have an agent work."""
_UNLIMITED_OPTIONS: Final = (
    "allowed_tools",
    "mcp_config",
    "add_dirs",
    "append_system_prompt",
    "dangerously_skip_permissions",
)
"""Options with which a prompt runs programs without an approval, or leaves its project."""


def check_permission(device: Device, need: Need) -> None:
    """Refuse a request that is not for this device; which projects it may name is checked elsewhere.

    Raises:
        ForbiddenError: the device may only watch, or only see some projects.
    """
    if device.view_only and need in {Need.ACT, Need.OWN}:
        raise ForbiddenError("This device may only watch.")
    if device.projects is not None and need in {Need.OVERVIEW, Need.OWN}:
        raise ForbiddenError("This device may only see some projects; this concerns the whole server.")


def limit_options(device: Device, options: ExecuteOptions, inherited: str | None) -> ExecuteOptions:
    """The options of a prompt, held to what a device that is limited to some projects may choose.

    Args:
        device: gives the prompt.
        options: as it chose them.
        inherited: the permission mode that holds without a choice. It may be one that another device chose for
            the project, so the prompt of a limited device names its own.

    Raises:
        ForbiddenError: it chose something that takes questions away, or leaves the project.
    """
    if device.projects is None:
        return options
    chosen = [name for name in _UNLIMITED_OPTIONS if getattr(options, name)]
    if chosen:
        raise ForbiddenError(f"A device that is limited to some projects may not choose {', '.join(chosen)}.")
    if options.permission_mode is not None:
        check_limited_mode(device, options.permission_mode)
        return options
    mode = inherited if inherited in LIMITED_MODES else LIMITED_MODES[0]
    return msgspec.structs.replace(options, permission_mode=mode)


def check_limited_mode(device: Device, mode: str) -> None:
    """Refuse a permission mode beyond those of `LIMITED_MODES` to a device that is limited to some projects.

    Raises:
        ForbiddenError: it is one.
    """
    if device.projects is not None and mode not in LIMITED_MODES:
        raise ForbiddenError(
            f"A device that is limited to some projects may only choose the modes {' and '.join(LIMITED_MODES)}."
        )


def check_limited_answer(device: Device, *, changed: bool, remembered: bool) -> None:
    """Refuse answers that do more than allow or deny what the agent asked for, to a limited device.

    Raises:
        ForbiddenError: it changes the input, or has the answer remembered.
    """
    if device.projects is not None and (changed or remembered):
        what = "change what an agent asked for" if changed else "have an answer remembered"
        raise ForbiddenError(f"A device that is limited to some projects may not {what}; allow it once, or deny it.")


# ----------------------------------------------------------------------
# The handlers: each returns its reply or raises.

_PAGE_BYTES: Final = 8 * 1024 * 1024
"""The largest page of history, so that one request cannot fill the memory; `has_more` tells the rest."""

_PAGE_CLAIMS: Final = 200
_PAGE_CLAIM_CHARACTERS: Final = 256 * 1024
"""How much one reply to `path_inspect` holds."""


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

_R = TypeVar("_R", bound=Request)


@dataclass(frozen=True, slots=True)
class _Call:
    """One request: who sent it, and its name in logs."""

    connection: Connection
    frame: ClientFrame
    correlation_id: str


_Handle = Callable[["Handlers", _Call, _R], Awaitable[Reply]]
_HandleInProject = Callable[["Handlers", _Call, Session, _R], Awaitable[Reply]]
_HANDLERS: Final[dict[type[Request], Callable[..., Awaitable[Reply]]]] = {}
_IN_PROJECT: Final[set[type[Request]]] = set()


def _handles(kind: type[_R]) -> Callable[[_Handle[_R]], _Handle[_R]]:
    """Register a method of `Handlers` for a request that concerns the server."""

    def register(handle: _Handle[_R]) -> _Handle[_R]:
        _HANDLERS[kind] = handle
        return handle

    return register


def _handles_in_project(kind: type[_R]) -> Callable[[_HandleInProject[_R]], _HandleInProject[_R]]:
    """Register a method of `Handlers` for a request that concerns one project."""

    def register(handle: _HandleInProject[_R]) -> _HandleInProject[_R]:
        _HANDLERS[kind] = handle
        _IN_PROJECT.add(kind)
        return handle

    return register


@dataclass(frozen=True, slots=True)
class _Range:
    after: int
    before: int | None


class Handlers:
    """Carries out requests. It is the `Handler` of every connection."""

    def __init__(
        self, projects: Projects, store: Store, hub: Hub, settings: CurrentSettings, report: Report, devices: Devices
    ) -> None:
        self._projects = projects
        self._policy = Policy(settings)
        self._devices = devices
        self._store = store
        self._hub = hub
        self._report = report
        self._stopping = False

    def refuse_new_work(self) -> None:
        """The server is stopping: what would begin something is refused from here on."""
        self._stopping = True

    def prepare(self, connection: Connection, frame: ClientFrame, correlation_id: str) -> Callable[[], Awaitable[Done]]:
        """Settle now which project is meant; the result carries the request out and replies."""
        request = frame.request
        if self._stopping and isinstance(request, message.Execute | message.ProjectCreate):
            raise ForbiddenError("The server is stopping; it takes no new work. Connect again in a moment.")
        check_permission(connection.device, request.spec.needs)
        session = self._session(connection, frame) if type(request) in _IN_PROJECT else None
        scope = () if session is None else (session,)

        async def carry_out() -> Done:
            call = _Call(connection, frame, correlation_id)
            result = await _HANDLERS[type(request)](self, call, *scope, request)
            project_id = session.state.project.id if session is not None else None
            done = result if isinstance(result, Done) else Done(project_id, result)
            await self._reply(connection, frame, done)
            return done

        return carry_out

    async def _reply(self, connection: Connection, frame: ClientFrame, done: Done) -> None:
        kind = frame.request.spec.reply
        if isinstance(done.reply, MessagesData):
            await connection.send_page(kind, done.reply, project_id=done.project_id, request_id=frame.request_id)
        elif done.reply is not None:
            connection.send(kind, done.reply, project_id=done.project_id, request_id=frame.request_id)

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
        if connection.device.projects is None:
            return states
        return [state for state in states if connection.sees(state.project.id)]

    @_handles(message.ProjectCreate)
    async def _project_create(self, call: _Call, request: message.ProjectCreate) -> Reply:
        session = await self._projects.create(request.path, shown=request.hash, correlation_id=call.correlation_id)
        return Done(session.state.project.id, session.state.view())

    @_handles(message.ProjectList)
    async def _project_list(self, call: _Call, request: message.ProjectList) -> Reply:
        states = [state.encoded_view() for state in self._states(call.connection)]
        return b'{"projects":[%b],"total":%d}' % (b",".join(states), len(states))

    @_handles(message.Watch)
    async def _watch(self, call: _Call, request: message.Watch) -> Reply:
        call.connection.away, call.connection.announces = request.away, request.announce
        self._hub.watchers[call.connection] = None
        return self._watched(call.connection)

    def _watched(self, connection: Connection) -> WatchData:
        states = self._states(connection)
        return WatchData(
            projects=[state.view() for state in states],
            approvals=[WaitingApproval(state.project.id, waiting) for state in states for waiting in state.pending()],
        )

    def renew_watch(self, connection: Connection) -> None:
        """Send the state of all projects, instead of the changes that a congested connection did not get."""
        connection.send("watch", self._watched(connection))

    @_handles(message.PathComplete)
    async def _path_complete(self, call: _Call, request: message.PathComplete) -> Reply:
        found = await self._projects.directories.complete(request.path)
        return PathCompleteData(
            path=request.path,
            entries=[DirectoryData(entry, self._projects.at(entry)) for entry in found.paths],
            truncated=found.truncated,
        )

    @_handles(message.PathInspect)
    async def _path_inspect(self, call: _Call, request: message.PathInspect) -> Reply:
        real_path, found = await self._projects.inspect(request.path)
        counts = Counter(str(claim.kind) for claim in found.claims)
        page = _claims_page(found.claims[request.offset :])
        project_id = self._projects.at(real_path)
        return PathInspectData(real_path, project_id, page, len(found.claims), dict(counts), found.new, found.hash)

    @_handles(message.DeviceList)
    async def _device_list(self, call: _Call, request: message.DeviceList) -> Reply:
        return await self._devices.all(call.connection.device)

    @_handles(message.DeviceRename)
    async def _device_rename(self, call: _Call, request: message.DeviceRename) -> Reply:
        return await self._devices.rename(call.connection.device, request)

    @_handles(message.DeviceRevoke)
    async def _device_revoke(self, call: _Call, request: message.DeviceRevoke) -> Reply:
        return await self._devices.revoke(call.connection.device, request)

    @_handles(message.DeviceRotate)
    async def _device_rotate(self, call: _Call, request: message.DeviceRotate) -> Reply:
        return await self._devices.rotate(call.connection.device, request)

    @_handles(message.PairingStart)
    async def _pairing_start(self, call: _Call, request: message.PairingStart) -> Reply:
        return await self._devices.pair(call.connection.device, request, call.connection.peer.origin)

    @_handles(message.PairingCancel)
    async def _pairing_cancel(self, call: _Call, request: message.PairingCancel) -> Reply:
        if not await self._store.cancel_pairing(request.pairing_id):
            raise ValidationError("There is no such pairing code; it was used, cancelled, or has expired.")
        return PairingCancelledData(request.pairing_id)

    @_handles(message.HealthCheck)
    async def _health_check(self, call: _Call, request: message.HealthCheck) -> Reply:
        return self._visible(call.connection, await self._report.health())

    @_handles(message.ServerStats)
    async def _server_stats(self, call: _Call, request: message.ServerStats) -> Reply:
        call.connection.feed(call.frame.type, request.interval, self._report.stats)
        return self._report.stats()

    @_handles(message.ServerOverview)
    async def _server_overview(self, call: _Call, request: message.ServerOverview) -> Reply:
        call.connection.feed(call.frame.type, request.interval, self._report.overview)
        return self._report.overview()

    @_handles(message.ServerHistory)
    async def _server_history(self, call: _Call, request: message.ServerHistory) -> Reply:
        points = self._report.history(request.range)
        reply = points.read()
        call.connection.feed(call.frame.type, request.interval, points.more)
        return reply

    def _visible(self, connection: Connection, health: HealthCheckData) -> HealthCheckData:
        """The server's health with the figures of those projects alone that the device may know of."""
        if connection.device.projects is None:
            return health
        states = self._states(connection)
        executing = sum(state.shown is ProjectState.EXECUTING for state in states)
        figures = msgspec.structs.replace(health.projects, count=len(states), executing=executing)
        return msgspec.structs.replace(health, projects=figures, checks=without_ids(health.checks))

    @_handles_in_project(message.ProjectDelete)
    async def _project_delete(self, call: _Call, session: Session, request: message.ProjectDelete) -> Reply:
        project_id = session.state.project.id
        await self._projects.delete(project_id, correlation_id=call.correlation_id)
        for sink in list(self._hub.sinks):
            if isinstance(sink, Connection):
                sink.leave(project_id)
        return ProjectDeletedData(project_id)

    @_handles_in_project(message.ProjectTrust)
    async def _project_trust(self, call: _Call, session: Session, request: message.ProjectTrust) -> Reply:
        await session.trust(request.hash, correlation_id=call.correlation_id)
        return session.state.view()

    @_handles_in_project(message.ProjectJoin)
    async def _project_join(self, call: _Call, session: Session, request: message.ProjectJoin) -> Reply:
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

    @_handles_in_project(message.ProjectLeave)
    async def _project_leave(self, call: _Call, session: Session, request: message.ProjectLeave) -> Reply:
        project_id = session.state.project.id
        if call.connection.leave(project_id):
            self.left(project_id)
        return ProjectLeaveData(project_id)

    def left(self, project_id: ProjectId) -> None:
        """Tell who still follows a project that one has left; a project that is gone has nobody."""
        with suppress(ProjectNotFoundError):
            log = self._projects.get(project_id).state.log
            log.say([live_draft("project_left", SubscribersData(project_id, log.channel.subscribers))])

    @_handles_in_project(message.Execute)
    async def _execute(self, call: _Call, session: Session, request: message.Execute) -> Reply:
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

    @_handles_in_project(message.AgentKill)
    async def _agent_kill(self, call: _Call, session: Session, request: message.AgentKill) -> Reply:
        return await session.kill(execution_id=request.execution_id, hold_queue=request.hold_queue)

    @_handles_in_project(message.AgentInterrupt)
    async def _agent_interrupt(self, call: _Call, session: Session, request: message.AgentInterrupt) -> Reply:
        return await session.interrupt(execution_id=request.execution_id, hold_queue=request.hold_queue)

    @_handles_in_project(message.AgentNewSession)
    async def _agent_new_session(self, call: _Call, session: Session, request: message.AgentNewSession) -> Reply:
        return await session.new_session()

    @_handles_in_project(message.GetMessages)
    async def _get_messages(self, call: _Call, session: Session, request: message.GetMessages) -> Reply:
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

    @_handles_in_project(message.ApprovalRespond)
    async def _approval_respond(self, call: _Call, session: Session, request: message.ApprovalRespond) -> Reply:
        updated = request.updated_input
        changed = updated is not None and session.changes_input(request.approval_id, updated)
        check_limited_answer(call.connection.device, changed=changed, remembered=request.remember)
        return await session.respond(
            request.approval_id,
            allow=request.behavior == "allow",
            by=call.connection.device.name,
            message=request.message,
            updated_input=request.updated_input,
            remember=request.remember,
        )

    @_handles_in_project(message.PromptEdit)
    async def _prompt_edit(self, call: _Call, session: Session, request: message.PromptEdit) -> Reply:
        await session.edit(request.execution_id, request.prompt, call.connection.device)
        return PromptChangedData(session.state.project.id, request.execution_id)

    @_handles_in_project(message.PromptCancel)
    async def _prompt_cancel(self, call: _Call, session: Session, request: message.PromptCancel) -> Reply:
        await session.cancel(request.execution_id)
        return PromptChangedData(session.state.project.id, request.execution_id)

    @_handles_in_project(message.QueueResume)
    async def _queue_resume(self, call: _Call, session: Session, request: message.QueueResume) -> Reply:
        return await session.resume_queue()

    @_handles_in_project(message.SetModel)
    async def _set_model(self, call: _Call, session: Session, request: message.SetModel) -> Reply:
        if request.model is not None and "\0" in request.model:
            raise ValidationError("model contains a NUL character, which no option can hold.")
        await session.set_model(request.model)
        return SetModelData(session.state.project.id, request.model)

    @_handles_in_project(message.SetPermissionMode)
    async def _set_permission_mode(self, call: _Call, session: Session, request: message.SetPermissionMode) -> Reply:
        check_limited_mode(call.connection.device, request.mode)
        self._policy.check_mode(request.mode)
        await session.set_permission_mode(request.mode)
        return SetPermissionModeData(session.state.project.id, request.mode)

    @_handles_in_project(message.SessionList)
    async def _session_list(self, call: _Call, session: Session, request: message.SessionList) -> Reply:
        return SessionListData(session.state.project.id, await session.sessions())

    @_handles_in_project(message.SessionResume)
    async def _session_resume(self, call: _Call, session: Session, request: message.SessionResume) -> Reply:
        await session.resume(request.session_id, fork=request.fork)
        return SessionResumeData(session.state.project.id, request.session_id, request.fork)

    @_handles_in_project(message.ExecutionList)
    async def _execution_list(self, call: _Call, session: Session, request: message.ExecutionList) -> Reply:
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
