"""Request handlers: check the device's permission, find the project, act, reply."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from pocket_agent import model
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.conversation.conversation_log import live_draft
from pocket_agent.conversation.state import State
from pocket_agent.errors import ForbiddenError, ProjectNotFoundError, ValidationError
from pocket_agent.hub import Hub
from pocket_agent.policy import Policy
from pocket_agent.projects import Projects
from pocket_agent.protocol import push, requests
from pocket_agent.protocol.frame_parser import ClientFrame
from pocket_agent.protocol.preview import message_data
from pocket_agent.protocol.requests import LIMITED_MODES, Need, Since
from pocket_agent.server.answer import without_ids
from pocket_agent.server.connection import Call, Connection, Done
from pocket_agent.server.devices import Devices
from pocket_agent.server.terminal_approvals import TerminalApprovals
from pocket_agent.server.terminal_sessions import TerminalSessions
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Store

# ----------------------------------------------------------------------
# Permissions: a device may be limited to viewing, to some projects, or to neither.

_UNLIMITED_OPTIONS: Final = (
    "allowed_tools",
    "mcp_config",
    "add_dirs",
    "append_system_prompt",
    "dangerously_skip_permissions",
)
"""Options by which a prompt runs programs without an approval, or leaves its project."""


def check_permission(device: model.Device, need: Need) -> None:
    """Raise ForbiddenError for a request that this device may not make; `Handlers` checks its project."""
    if device.view_only and need in {Need.ACT, Need.OWN}:
        raise ForbiddenError("This device may only watch.")
    if device.projects is not None and need in {Need.OVERVIEW, Need.OWN}:
        raise ForbiddenError("This device may only see some projects; this concerns the whole server.")


def limit_options(device: model.Device, options: model.ExecuteOptions, inherited: str | None) -> model.ExecuteOptions:
    """Check the options of a prompt, for a device that is limited to some projects.

    Args:
        device: the one that sent the prompt.
        options: as the device chose them.
        inherited: the permission mode that applies by default. Another device may have chosen it for the project, so
            the prompt of a limited device gets one of its own.

    Raises:
        ForbiddenError: an option replaces approvals, or leaves the project.
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


def check_limited_mode(device: model.Device, mode: str) -> None:
    """Raise ForbiddenError for a mode outside LIMITED_MODES, for a device that is limited to some projects."""
    if device.projects is not None and mode not in LIMITED_MODES:
        raise ForbiddenError(
            f"A device that is limited to some projects may only choose the modes {' and '.join(LIMITED_MODES)}."
        )


def check_limited_answer(device: model.Device, *, changed: bool, remembered: bool) -> None:
    """Raise ForbiddenError for an answer beyond allow and deny, for a device that is limited to some projects."""
    if device.projects is not None and (changed or remembered):
        what = "change what an agent asked for" if changed else "have an answer remembered"
        raise ForbiddenError(f"A device that is limited to some projects may not {what}; allow it once, or deny it.")


# ----------------------------------------------------------------------
# The handlers: each returns its reply or raises.

_PAGE_BYTES: Final = 8 * 1024 * 1024
"""The largest page of history, so that one request cannot fill the memory; `has_more` is set for the rest."""
_PAGE_CLAIMS: Final = 200
_PAGE_CLAIM_CHARACTERS: Final = 256 * 1024  # limits of one reply to `path_inspect`


class Points(Protocol):
    def read(self) -> requests.ServerHistoryData:
        """The points since the last call."""

    def more(self) -> requests.ServerHistoryData | None:
        """As `read`; None when there are none."""


class Report(Protocol):
    async def health(self) -> requests.HealthCheckData: ...

    async def unready(self) -> str | None:
        """Why the server is not ready, in a line; None when it is."""

    def stats(self) -> push.ServerStatsData: ...

    def overview(self) -> requests.ServerOverviewData: ...

    def history(self, seconds: int) -> Points:
        """The samples of the last `seconds`, and later ones."""


Reply = object


class Handlers:
    """Executes requests: `on_NAME` each, here, in `Devices` or in `TerminalSessions`.

    It is the `Handler` of every connection.
    """

    def __init__(
        self,
        projects: Projects,
        store: Store,
        hub: Hub,
        settings: CurrentSettings,
        report: Report,
        devices: Devices,
        terminal: TerminalSessions,
        terminal_approvals: TerminalApprovals,
    ) -> None:
        self._projects = projects
        self._policy = Policy(settings)
        self._store = store
        self._hub = hub
        self._report = report
        self._terminal = terminal
        self._terminal_approvals = terminal_approvals
        self._stopping = False
        self._handlers: dict[type[requests.Request], Callable[..., Awaitable[Reply]]] = {
            kind: next(getattr(one, f"on_{name}") for one in (self, devices, terminal) if hasattr(one, f"on_{name}"))
            for name, kind in requests.REQUESTS.items()
        }

    def refuse_new_work(self) -> None:
        """Refuse prompts and new projects: the server is stopping."""
        self._stopping = True

    def prepare(self, connection: Connection, frame: ClientFrame, correlation_id: str) -> Callable[[], Awaitable[Done]]:
        """Check the permission and find the project; the result executes the request and replies."""
        request = frame.request
        if self._stopping and isinstance(request, requests.Execute | requests.ProjectCreate):
            raise ForbiddenError("The server is stopping; it takes no new work. Connect again in a moment.")
        check_permission(connection.device, request.spec.needs)
        if frame.conversation_id != frame.project_id:
            connection.conversations = True
        conversation = self._addressed(connection, frame) if isinstance(request, requests.ProjectRequest) else None
        scope = () if conversation is None else (conversation,)

        async def execute() -> Done:
            result = await self._handlers[type(request)](Call(connection, frame, correlation_id), *scope, request)
            conversation_id = conversation.state.record.id if conversation is not None else None
            done = result if isinstance(result, Done) else Done(conversation_id, result)
            kind, to = request.spec.reply, {"conversation_id": done.conversation_id, "request_id": frame.request_id}
            if isinstance(done.reply, requests.MessagesData | requests.SessionHistoryData):
                await connection.send_page(kind, done.reply, **to)
            elif done.reply is not None:
                connection.send(kind, done.reply, **to)
            return done

        return execute

    def _addressed(self, connection: Connection, frame: ClientFrame) -> Conversation:
        """The conversation that the frame names, else the one that the connection has joined."""
        if frame.conversation_id is not None:
            return self._seen(connection, frame.conversation_id)
        if len(connection.cursors) == 1:
            return self._seen(connection, next(iter(connection.cursors)))
        joined = "several" if connection.cursors else "no"
        raise ValidationError(f"project_id is needed: this connection has joined {joined} projects.")

    def _seen(self, connection: Connection, conversation_id: str) -> Conversation:
        if not connection.device.sees(conversation_id):
            raise ProjectNotFoundError("There is no such project.")
        return self._projects.get(conversation_id)

    def _states(self, connection: Connection) -> list[State]:
        """The main conversations that the device may see."""
        states = [conversation.state for conversation in self._projects.mains()]
        if connection.device.projects is None:
            return states
        return [state for state in states if connection.sees(state.record.id)]

    async def on_project_create(self, call: Call, request: requests.ProjectCreate) -> Reply:
        conversation = await self._projects.create(request.path, shown=request.hash, correlation_id=call.correlation_id)
        return Done(conversation.state.record.id, conversation.state.view())

    async def on_project_list(self, call: Call, request: requests.ProjectList) -> Reply:
        states = [state.encoded_view() for state in self._states(call.connection)]
        return b'{"projects":[%b],"total":%d}' % (b",".join(states), len(states))

    async def on_watch(self, call: Call, request: requests.Watch) -> Reply:
        call.connection.away, call.connection.announces = request.away, request.announce
        call.connection.conversations = call.connection.conversations or request.conversations
        self._hub.watchers[call.connection] = None
        return self._watched(call.connection)

    def _watched(self, connection: Connection) -> requests.WatchData:
        found = [conversation.state for conversation in self._projects.all()]
        states = [state for state in found if connection.sees(state.record.id)]
        others = [state.view() for state in states if not state.record.is_main]
        return requests.WatchData(
            projects=[state.view() for state in states if state.record.is_main],
            approvals=[_waiting(state, request) for state in states for request in state.pending()],
            conversations=others if connection.conversations else msgspec.UNSET,
        )

    def renew_watch(self, connection: Connection) -> None:
        connection.send("watch", self._watched(connection))

    async def on_path_complete(self, call: Call, request: requests.PathComplete) -> Reply:
        found = await self._projects.directories.complete(request.path)
        return requests.PathCompleteData(
            path=request.path,
            entries=[requests.DirectoryData(entry, self._projects.at(entry)) for entry in found.paths],
            truncated=found.truncated,
        )

    async def on_path_inspect(self, call: Call, request: requests.PathInspect) -> Reply:
        real_path, found = await self._projects.inspect(request.path)
        counts = Counter(str(claim.kind) for claim in found.claims)
        page = _claims_page(found.claims[request.offset :])
        project_id = self._projects.at(real_path)
        return requests.PathInspectData(
            real_path, project_id, page, len(found.claims), dict(counts), found.new, found.hash
        )

    async def on_health_check(self, call: Call, request: requests.HealthCheck) -> Reply:
        return self._visible(call.connection, await self._report.health())

    async def on_server_stats(self, call: Call, request: requests.ServerStats) -> Reply:
        call.connection.feed(call.frame.type, request.interval, self._report.stats)
        return self._report.stats()

    async def on_server_overview(self, call: Call, request: requests.ServerOverview) -> Reply:
        call.connection.feed(call.frame.type, request.interval, self._report.overview)
        return self._report.overview()

    async def on_server_history(self, call: Call, request: requests.ServerHistory) -> Reply:
        points = self._report.history(request.range)
        reply = points.read()
        call.connection.feed(call.frame.type, request.interval, points.more)
        return reply

    def _visible(self, connection: Connection, health: requests.HealthCheckData) -> requests.HealthCheckData:
        """The server's health with the numbers of those projects alone that the device may see."""
        if connection.device.projects is None:
            return health
        states = self._states(connection)
        executing = sum(state.shown is model.ProjectState.EXECUTING for state in states)
        figures = msgspec.structs.replace(health.projects, count=len(states), executing=executing)
        return msgspec.structs.replace(health, projects=figures, checks=without_ids(health.checks))

    async def on_project_delete(self, call: Call, conversation: Conversation, request: requests.ProjectDelete) -> Reply:
        project = conversation.state.record
        if not project.is_main:
            raise ValidationError("project_delete deletes a whole project; conversation_delete deletes a conversation.")
        gone = [other.state.record.id for other in self._projects.of(project.project_id)]
        await self._projects.delete(project.project_id, correlation_id=call.correlation_id)
        self._leave_all(gone)
        return push.ProjectDeletedData(project.project_id)

    def _leave_all(self, conversations: Sequence[model.ConversationId]) -> None:
        """Unsubscribe all connections from deleted conversations."""
        for sink in list(self._hub.sinks):
            if isinstance(sink, Connection):
                for conversation_id in conversations:
                    sink.leave(conversation_id)

    async def on_conversation_create(
        self, call: Call, conversation: Conversation, request: requests.ConversationCreate
    ) -> Reply:
        call.connection.conversations = True
        found = None
        if request.session_id is not None:
            found = await self._terminal.find(conversation, request.session_id, fork=request.fork)
        begun = await self._projects.begin(
            conversation.state.record.project_id,
            title=request.title,
            worktree=request.worktree,
            session_id=request.session_id,
            fork=request.fork,
            found=found,
            correlation_id=call.correlation_id,
        )
        return Done(begun.state.record.id, begun.state.view())

    async def on_conversation_list(
        self, call: Call, conversation: Conversation, request: requests.ConversationList
    ) -> Reply:
        call.connection.conversations = True
        project = conversation.state.record
        states = [other.state for other in self._projects.of(project.project_id)]
        shown = [state.view() for state in states if request.archived or not state.record.archived]
        main = self._projects.get(project.project_id).state.record
        reason = await self._projects.git.why_no_worktree(Path(main.real_path))
        return Done(project.project_id, requests.ConversationListData(project.project_id, shown, reason))

    async def on_conversation_rename(
        self, call: Call, conversation: Conversation, request: requests.ConversationRename
    ) -> Reply:
        await conversation.rename(request.title)
        return conversation.state.view()

    async def on_conversation_archive(
        self, call: Call, conversation: Conversation, request: requests.ConversationArchive
    ) -> Reply:
        await conversation.archive(archived=request.archived)
        return conversation.state.view()

    async def on_conversation_delete(
        self, call: Call, conversation: Conversation, request: requests.ConversationDelete
    ) -> Reply:
        deleted = await self._projects.delete_conversation(
            conversation, discard=request.discard, correlation_id=call.correlation_id
        )
        self._leave_all([conversation.state.record.id])
        return deleted

    async def on_project_trust(self, call: Call, conversation: Conversation, request: requests.ProjectTrust) -> Reply:
        await conversation.trust(request.hash, correlation_id=call.correlation_id)
        return conversation.state.view()

    async def on_project_join(self, call: Call, conversation: Conversation, request: requests.ProjectJoin) -> Reply:
        place = await self._place(conversation, request.since)
        state = conversation.state
        if place is not None and await self._went_back(conversation, place, request.since):
            await state.log.renew_epoch()
            # Also when the log has a new epoch already, which is not this client's.
            place = model.Position("", place.offset)
        project, channel = state.record, state.log.channel
        recovered = place is None or (
            place.epoch == project.epoch and project.first - 1 <= place.offset <= project.head
        )
        after = None
        if place is not None:
            after = place.offset if recovered else project.first - 1
        call.connection.leave(project.id)
        call.connection.send(
            "project_join",
            requests.ProjectJoinData(
                project_id=project.project_id,
                state=state.shown,
                session_id=project.session_id,
                epoch=project.epoch,
                offset=channel.head,
                recovered=recovered,
                approvals=state.pending(),
                queue=state.queued(),
                partial=state.partial.value(),
            ),
            conversation_id=project.id,
            request_id=call.frame.request_id,
        )
        call.connection.send("project_state", state.encoded_view(), conversation_id=project.id)
        call.connection.join(channel, after, previews=request.large == "reference")
        conversation.loops.terminal.wake.set()
        state.log.say([live_draft("project_joined", push.SubscribersData(project.project_id, channel.subscribers))])
        return None

    async def _place(self, conversation: Conversation, since: Since | int | str | None) -> model.Position | None:
        match since:
            case None:
                return None
            case int():
                return model.Position(conversation.state.record.epoch, since)
            case Since():
                return since.position(conversation.state.record.epoch)
            case str():
                offset = await self._store.offset_at(conversation.state.record, _milliseconds(since))
                return model.Position(conversation.state.record.epoch, offset)

    async def _went_back(
        self, conversation: Conversation, place: model.Position, since: Since | int | str | None
    ) -> bool:
        """Whether a client has entries of this epoch that are no longer in the log."""
        project = conversation.state.record
        if not isinstance(since, Since) or since.epoch is None or place.epoch != project.epoch:
            return False
        if place.offset > project.head:
            return True
        if since.timestamp is None or place.offset < project.first:
            return False
        found = await self._store.read(project, after=place.offset - 1, limit=1, max_bytes=0)
        return bool(found) and found[0].offset == place.offset and found[0].timestamp != _milliseconds(since.timestamp)

    async def on_project_leave(self, call: Call, conversation: Conversation, request: requests.ProjectLeave) -> Reply:
        project = conversation.state.record
        if call.connection.leave(project.id):
            self.left(project.id)
        return requests.ProjectLeaveData(project.project_id)

    def left(self, conversation_id: model.ConversationId) -> None:
        """Send the number of subscribers to those that a conversation still has; it may have been deleted."""
        with suppress(ProjectNotFoundError):
            log = self._projects.get(conversation_id).state.log
            data = push.SubscribersData(model.project_of(conversation_id), log.channel.subscribers)
            log.say([live_draft("project_left", data)])

    async def on_execute(self, call: Call, conversation: Conversation, request: requests.Execute) -> Reply:
        chosen = request.options.to_model() if request.options is not None else model.ExecuteOptions()
        device, project = call.device, conversation.state.record
        chosen = limit_options(device, chosen, project.permission_mode or self._policy.default_mode)
        return await conversation.prompts.execute(
            request.prompt,
            await self._policy.admit(chosen, project.real_path),
            prompt_id=request.prompt_id,
            by=device.name,
            device_id=device.id,
            generation=device.generation,
            correlation_id=call.correlation_id,
            traceparent=request.traceparent,
            when=request.when,
        )

    async def on_agent_kill(self, call: Call, conversation: Conversation, request: requests.AgentKill) -> Reply:
        return await conversation.kill(execution_id=request.execution_id, hold_queue=request.hold_queue)

    async def on_agent_interrupt(
        self, call: Call, conversation: Conversation, request: requests.AgentInterrupt
    ) -> Reply:
        return await conversation.interrupt(execution_id=request.execution_id, hold_queue=request.hold_queue)

    async def on_stop_task(self, call: Call, conversation: Conversation, request: requests.StopTask) -> Reply:
        await conversation.stop_task(request.task_id)
        return requests.StopTaskData(conversation.state.record.project_id, request.task_id)

    async def on_agent_report(self, call: Call, conversation: Conversation, request: requests.AgentReport) -> Reply:
        return await conversation.report(request.report)

    async def on_rewind_files(self, call: Call, conversation: Conversation, request: requests.RewindFiles) -> Reply:
        return await conversation.rewind(request.execution_id, dry=request.dry_run)

    async def on_agent_new_session(
        self, call: Call, conversation: Conversation, request: requests.AgentNewSession
    ) -> Reply:
        return await conversation.new_session()

    async def on_get_messages(self, call: Call, conversation: Conversation, request: requests.GetMessages) -> Reply:
        after, before = await self._range(conversation, request)
        project = conversation.state.record
        direction = None if request.direction == "all" else model.Direction(request.direction)
        if before is not None or request.since is None:  # the newest first
            before = project.head + 1 if before is None else before
            entries = await self._store.read_before(
                project, before=before, limit=request.limit, max_bytes=_PAGE_BYTES, direction=direction
            )
            messages = [message_data(entry, request.large) for entry in reversed(entries) if entry.offset > after]
            messages = _within(messages, request.max_bytes)[::-1]
            oldest = messages[0].offset if messages else before
            has_more = bool(messages) and max(after + 1, project.first) < oldest
        else:
            entries = await self._store.read(
                project, after=after, limit=request.limit, max_bytes=_PAGE_BYTES, direction=direction
            )
            messages = _within([message_data(entry, request.large) for entry in entries], request.max_bytes)
            has_more = bool(messages) and messages[-1].offset < project.head
        metadata = requests.MessagesMetadata(project.epoch, project.first, project.head, has_more)
        return requests.MessagesData(messages, metadata)

    async def _range(self, conversation: Conversation, request: requests.GetMessages) -> tuple[int, int | None]:
        """The offsets `after` and `before` of a page of history."""
        since = await self._place(conversation, request.since)
        has_seen = isinstance(request.since, Since) and request.since.timestamp is not None
        if since is not None and has_seen and await self._went_back(conversation, since, request.since):
            await conversation.state.log.renew_epoch()
            since = model.Position("", since.offset)
        epoch = conversation.state.record.epoch
        before = request.before
        if isinstance(before, int):
            before = Since(offset=before)
        for position in (since, before):
            if position is not None and position.epoch not in {None, epoch}:
                raise ValidationError(
                    "This epoch is over: the log was restored or renewed. Read it again without `since` and `before`.",
                    details={"epoch": epoch},
                )
        return since.offset if since is not None else 0, before.offset if before else None

    async def on_approval_respond(
        self, call: Call, conversation: Conversation, request: requests.ApprovalRespond
    ) -> Reply:
        updated = request.updated_input
        of_terminal = self._terminal_approvals.has(request.approval_id)
        asker = self._terminal_approvals if of_terminal else conversation
        changed = updated is not None and asker.changes_input(request.approval_id, updated)
        check_limited_answer(call.device, changed=changed, remembered=request.remember)
        if of_terminal:
            return await self._terminal_approvals.respond(conversation, request, call.device.name)
        return await conversation.respond(request, call.device.name)

    async def on_prompt_edit(self, call: Call, conversation: Conversation, request: requests.PromptEdit) -> Reply:
        await conversation.prompts.edit(request.execution_id, request.prompt, call.device)
        return requests.PromptChangedData(conversation.state.record.project_id, request.execution_id)

    async def on_prompt_promote(self, call: Call, conversation: Conversation, request: requests.PromptPromote) -> Reply:
        await conversation.prompts.promote(request.execution_id)
        return requests.PromptChangedData(conversation.state.record.project_id, request.execution_id)

    async def on_prompt_cancel(self, call: Call, conversation: Conversation, request: requests.PromptCancel) -> Reply:
        await conversation.prompts.cancel(request.execution_id)
        return requests.PromptChangedData(conversation.state.record.project_id, request.execution_id)

    async def on_queue_resume(self, call: Call, conversation: Conversation, request: requests.QueueResume) -> Reply:
        return await conversation.prompts.resume()

    async def on_set_model(self, call: Call, conversation: Conversation, request: requests.SetModel) -> Reply:
        if request.model is not None and "\0" in request.model:
            raise ValidationError("model contains a NUL character, which no option can hold.")
        await conversation.set_model(request.model)
        return requests.SetModelData(conversation.state.record.project_id, request.model)

    async def on_set_permission_mode(
        self, call: Call, conversation: Conversation, request: requests.SetPermissionMode
    ) -> Reply:
        check_limited_mode(call.device, request.mode)
        self._policy.check_mode(request.mode)
        await conversation.set_permission_mode(request.mode)
        return requests.SetPermissionModeData(conversation.state.record.project_id, request.mode)

    async def on_execution_list(self, call: Call, conversation: Conversation, request: requests.ExecutionList) -> Reply:
        return await conversation.executions(before=request.before, limit=request.limit)


def _waiting(state: State, request: push.ApprovalRequestedData) -> requests.WaitingApproval:
    project = state.record
    return requests.WaitingApproval(project.project_id, request, msgspec.UNSET if project.is_main else project.id)


def _claims_page(claims: Sequence[model.Claim]) -> list[model.Claim]:
    """The first claims, of a bounded length together; always one, if there is any."""
    page: list[model.Claim] = []
    length = 0
    for claim in claims[:_PAGE_CLAIMS]:
        length += len(claim.text)
        if page and length > _PAGE_CLAIM_CHARACTERS:
            break
        page.append(claim)
    return page


def _within(messages: list[requests.MessageData], max_bytes: int | None) -> list[requests.MessageData]:
    """The first messages whose data has at most `max_bytes` together, and at least one."""
    if max_bytes is None:
        return messages
    size = 0
    for count, one in enumerate(messages):
        size += len(memoryview(one.message))
        if size > max_bytes and count > 0:
            return messages[:count]
    return messages


def _milliseconds(text: str) -> model.Milliseconds:
    """Parse an RFC 3339 time; raises ValidationError for an invalid one, or one without a zone."""
    refusal = ValidationError("`since` is not an RFC 3339 time such as 2026-01-31T12:00:00Z.")
    try:
        at = datetime.fromisoformat(text)
        milliseconds = int(at.astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise refusal from error
    if at.tzinfo is None:
        raise refusal
    return model.Milliseconds(max(0, milliseconds))
