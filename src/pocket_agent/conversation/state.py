"""The state of a conversation in memory, and its views for clients: project, queue, approvals, partial message."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import msgspec

from pocket_agent import model
from pocket_agent.claude import control
from pocket_agent.claude.control import PermissionRequest
from pocket_agent.conversation.accounting import UsageLimits
from pocket_agent.conversation.conversation_log import ConversationLog, Draft, live_draft, tick
from pocket_agent.errors import InternalError, ValidationError
from pocket_agent.events import ApprovalResolved
from pocket_agent.model import Approval, ApprovalId, ConversationRecord, Execution, HoldReason, QueueHold
from pocket_agent.protocol.frame import encode_data, timestamp
from pocket_agent.protocol.push import (
    ApprovalRequestedData,
    ApprovalResolvedData,
    BackgroundTaskData,
    LastLineData,
    ProjectStateData,
    QueuedPrompt,
    QueueHoldData,
    QueueStateData,
    SessionData,
    UsageWindowData,
    WorktreeData,
)
from pocket_agent.protocol.requests import ApprovalRespond, ExecutionData, PartialData, UsageData

# ----------------------------------------------------------------------
# The reason of a hold as text.

_SAID_CHARACTERS: Final = 500
CAUSES: Final = {
    HoldReason.INTERRUPTED: "The execution was interrupted.",
    HoldReason.KILLED: "The execution was killed.",
    HoldReason.USAGE_LIMIT: "The account's usage limit is reached.",
    HoldReason.LOST: "The agent's process was lost, as with a restart of the machine.",
    HoldReason.CREDIT: "The account has no credit left.",
    HoldReason.AUTHENTICATION: "Claude Code is not logged in, or its login is not accepted.",
    HoldReason.OVERLOADED: "The API is overloaded or fails.",
    HoldReason.NETWORK: "The API cannot be reached.",
    HoldReason.DIRECTORY: "A directory that the agent needs is not available.",
    HoldReason.CLI: "The Claude Code CLI is not available.",
    HoldReason.START: "Claude Code ends before it takes a prompt.",
    HoldReason.CONVERSATION: "The conversation cannot go on; a new session can.",
    HoldReason.TRUST: "The project's own settings would make Claude Code do something that has not been accepted yet.",
}
"""What holds the queue, for a user."""
VERIFIABLE: Final = frozenset({HoldReason.DIRECTORY, HoldReason.CLI, HoldReason.TRUST})
"""The server ends the hold once it finds that the cause is gone."""


def queue_hold(
    reason: HoldReason, said: str, at: model.Milliseconds, until: model.Milliseconds | None = None
) -> QueueHold:
    """A hold that starts at `at`, until a time if it is given; `said` is the message of the error, or empty."""
    goes_on = "when that is over" if reason in VERIFIABLE else "when the queue is resumed"
    if reason is HoldReason.TRUST:
        goes_on = "once it is accepted, or gone"
    if until is not None:
        goes_on = f"at {datetime.fromtimestamp(until / 1000).astimezone():%Y-%m-%d %H:%M %Z}, or {goes_on}"
    texts = [CAUSES[reason], said[:_SAID_CHARACTERS], f"The prompts that wait start {goes_on}."]
    return QueueHold(reason, " ".join(filter(None, texts)), at, until)


# ----------------------------------------------------------------------
# The message that the agent is writing, for a client that subscribes in the middle of it.


class Partial:
    """Collects the text and the thinking of stream events until the complete message comes."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._thinking: list[str] = []

    def take(self, steps: Iterable[tuple[str, str]]) -> None:
        """Add deltas of the kinds "text" and "thinking" (others are not shown) and apply ("clear", ""), in order."""
        for kind, text in steps:
            if kind == "clear":
                self.clear()
            elif kind == "text":
                self._text.append(text)
            elif kind == "thinking":
                self._thinking.append(text)

    def after(self, steps: Iterable[tuple[str, str]]) -> PartialData | None:
        """The result of `value` after `take(steps)`; nothing changes."""
        copy = Partial()
        copy.take(("text", part) for part in self._text)
        copy.take(("thinking", part) for part in self._thinking)
        copy.take(steps)
        return copy.value()

    def clear(self) -> None:
        """Drop the message: its complete line has come, or none will."""
        self._text.clear()
        self._thinking.clear()

    def value(self) -> PartialData | None:
        """The message so far; None when no message is being written."""
        if not self._text and not self._thinking:
            return None
        return PartialData(text="".join(self._text), thinking="".join(self._thinking))


# ----------------------------------------------------------------------
# Values of the core as payloads of the protocol.


def project_state_data(
    project: ConversationRecord,
    *,
    queue_depth: int,
    pending_approvals: int,
    state: model.ProjectState | None = None,
    permission_mode: str | None = None,
    tasks: Sequence[model.BackgroundTask] = (),
    session_title: str | None = None,
    usage_windows: Sequence[model.UsageWindow] = (),
) -> ProjectStateData:
    """The payload of `project_state`.

    Args:
        project: as it is stored.
        queue_depth, pending_approvals: the numbers of waiting prompts and tool requests.
        state: replaces the stored one.
        permission_mode: that of the running process.
        tasks: the tasks in the background.
        session_title: of the conversation.
        usage_windows: the usage limits of the account.
    """
    worktree, line = project.worktree, project.last_line
    return ProjectStateData(
        id=project.project_id,
        path=project.path,
        name=project.name,
        state=state or project.state,
        session_id=project.session_id,
        created_at=timestamp(project.created_at),
        last_active=timestamp(project.last_active),
        epoch=project.epoch,
        offset=project.head,
        queue_depth=queue_depth,
        pending_approvals=pending_approvals,
        model=project.model,
        permission_mode=permission_mode or project.permission_mode,
        queue_hold=queue_hold_data(project.queue_hold),
        tasks=[
            BackgroundTaskData(
                *(task.id, task.type, task.description, _optional_timestamp(task.started_at)),
                *(task.tokens, task.tool_uses, task.last_tool, task.summary),
            )
            for task in tasks
        ],
        session_title=session_title,
        usage_windows=usage_windows_data(usage_windows),
        conversation_id=msgspec.UNSET if project.is_main else project.id,
        title=project.title or msgspec.UNSET,
        worktree=WorktreeData(worktree.branch, worktree.base) if worktree is not None else msgspec.UNSET,
        archived=project.archived or msgspec.UNSET,
        last_line=LastLineData(line.text, line.by, timestamp(line.at)) if line is not None else msgspec.UNSET,
    )


def usage_windows_data(windows: Sequence[model.UsageWindow]) -> list[UsageWindowData]:
    """The usage limits of the account as clients see them."""
    return [
        UsageWindowData(window.window, window.utilization, timestamp(window.resets_at), window.status)
        for window in windows
    ]


def queue_hold_data(hold: QueueHold | None) -> QueueHoldData | None:
    """A hold as clients see it."""
    if hold is None:
        return None
    return QueueHoldData(hold.reason, hold.message, timestamp(hold.since), _optional_timestamp(hold.until))


def queue_state_data(queue: Sequence[Execution], hold: QueueHold | None) -> QueueStateData:
    """The payload of `queue_state`."""
    prompts = [
        QueuedPrompt(execution.id, execution.prompt, position, timestamp(execution.created_at), execution.status)
        for position, execution in enumerate(queue, start=1)
    ]
    return QueueStateData(queue=prompts, queue_hold=queue_hold_data(hold))


def approval_requested_data(approval: Approval, request: PermissionRequest) -> ApprovalRequestedData:
    """A tool request as clients see it; its input stays as the agent wrote it."""
    return ApprovalRequestedData(
        approval_id=approval.id,
        tool_name=request.tool_name,
        input=request.input,
        title=request.title or request.display_name,
        description=request.description,
        suggestions=control.remembered(request) or msgspec.Raw(b"[]"),
        execution_id=approval.execution_id,
        tool_use_id=request.tool_use_id,
        agent_id=request.agent_id,
    )


def session_data(value: model.SessionRecord, *, current: bool) -> SessionData:
    """A conversation in `session_list`."""
    return SessionData(
        session_id=value.id,
        title=value.title,
        created_at=timestamp(value.created_at),
        last_active=timestamp(value.last_active),
        current=current,
    )


def execution_data(value: model.ExecutionSummary) -> ExecutionData:
    """An execution in `execution_list`."""
    return ExecutionData(
        execution_id=value.id,
        prompt_id=value.prompt_id,
        by=value.by,
        prompt=value.prompt,
        status=value.status,
        created_at=timestamp(value.created_at),
        started_at=_optional_timestamp(value.started_at),
        finished_at=_optional_timestamp(value.finished_at),
        waited_ms=value.waited_ms,
        code=value.code,
        session_id=value.session_id,
        model=value.model,
        usage=[UsageData(**msgspec.structs.asdict(used)) for used in value.usage],
        cost_usd=sum(used.cost_usd for used in value.usage),
        incomplete=value.incomplete,
    )


def _optional_timestamp(at: model.Milliseconds | None) -> str | None:
    return timestamp(at) if at is not None else None


# ----------------------------------------------------------------------
# A client's answer to a tool request or to a question of an MCP server: the line for the CLI, and the event.

_DENIED = "The user denied this."


def check_answer(request: PermissionRequest, answer: ApprovalRespond) -> None:
    """Raise ValidationError for an answer that does not fit the request."""
    if not request.is_elicitation:
        if answer.content is not None or answer.cancel:
            raise ValidationError("content and cancel answer a question of an MCP server; this is a tool request.")
    elif answer.updated_input is not None:
        raise ValidationError("updated_input: a question of an MCP server is answered with content.")
    elif answer.behavior == "allow" and answer.cancel:
        raise ValidationError('cancel: a question is closed without an answer with the behavior "deny".')
    elif answer.behavior == "allow" and request.needs_content and answer.content is None:
        raise ValidationError("content: the values of the form's fields are needed to accept this question.")


def permission_answer(approval: Approval, answer: ApprovalRespond) -> bytes:
    """The control response (one line).

    Raises:
        ValidationError: the answer does not fit the request.
    """
    request = _request_of(approval)
    if request is None:
        if answer.behavior == "deny":
            return control.deny(approval.request_id, answer.message or _DENIED)
        raise InternalError("A stored tool request cannot be read.")
    check_answer(request, answer)
    if request.is_elicitation:
        if answer.behavior == "allow":
            return control.accept_elicitation(request.request_id, answer.content if request.needs_content else None)
        return control.refuse_elicitation(request.request_id, "cancel" if answer.cancel else "decline")
    if answer.behavior == "deny":
        return control.deny(request.request_id, answer.message or _DENIED)
    suggestions = control.remembered(request)
    updated = answer.updated_input
    return control.allow(
        request.request_id,
        msgspec.json.encode(updated) if updated is not None else bytes(request.input),
        control.for_session(suggestions) if answer.remember and suggestions is not None else None,
    )


def resolved_data(answer: ApprovalRespond, by: str) -> ApprovalResolvedData:
    """An answer as clients see it."""
    is_allowed = answer.behavior == "allow"
    return ApprovalResolvedData(
        answer.approval_id,
        answer.behavior,
        by,
        answer.message,
        updated_input=answer.updated_input if is_allowed and answer.updated_input is not None else msgspec.UNSET,
        content=answer.content if is_allowed and answer.content is not None else msgspec.UNSET,
        cancel=answer.cancel or msgspec.UNSET,
    )


def _request_of(approval: Approval) -> PermissionRequest | None:
    return control.read_permission_request(approval.request_id, approval.request)


def suggestions(approval: Approval) -> msgspec.Raw | None:
    """The permission updates that `remember` sends to the CLI; None when the CLI suggested none."""
    request = _request_of(approval)
    return control.remembered(request) if request is not None else None


def changes_input(asking: Approval | PermissionRequest, updated_input: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a client's input differs from the agent's by more than the answers to its questions.

    The CLI takes the answers to `AskUserQuestion` as the field `answers` of its input.
    """
    request = _request_of(asking) if isinstance(asking, Approval) else asking
    if request is None or request.tool_name != "AskUserQuestion":
        return True
    asked, given = (_without_answers(input_) for input_ in (bytes(request.input), msgspec.json.encode(updated_input)))
    return asked != given


def _without_answers(input_: bytes) -> bytes:
    fields = msgspec.json.decode(input_)
    if isinstance(fields, dict):
        fields.pop("answers", None)
    return msgspec.json.encode(fields, order="sorted")


def tool_name(approval: Approval) -> str:
    """The tool of a request, as the agent calls it; empty when the request cannot be read."""
    request = _request_of(approval)
    return request.tool_name if request is not None else ""


def agent_id(approval: Approval) -> str | None:
    """The subagent that asks; None for the main thread."""
    request = _request_of(approval)
    return request.agent_id if request is not None else None


def is_elicitation(approval: Approval) -> bool:
    """Whether an MCP server asks."""
    request = _request_of(approval)
    return request is not None and request.is_elicitation


def waits_for(approval: Approval, work: model.Work) -> bool:
    """Whether the turn waits for an approval: not when a subagent asks that runs next to the turn."""
    asking = agent_id(approval)
    return asking is None or asking not in {*work.nested, *(task.id for task in work.tasks)}


def approval_event(approval: Approval, execution: Execution | None) -> ApprovalResolved:
    """The event of a request that was answered or withdrawn just now; `execution` is the running one."""
    behavior: Literal["allow", "deny", "cancelled"] = "cancelled"
    if approval.status is model.ApprovalStatus.ALLOWED:
        behavior = "allow"
    elif approval.status is model.ApprovalStatus.DENIED:
        behavior = "deny"
    since = approval.created_tick
    return ApprovalResolved(
        project_id=model.project_of(approval.conversation_id),
        context=execution.context if execution is not None else None,
        approval_id=approval.id,
        tool=tool_name(approval),
        behavior=behavior,
        by=approval.by,
        requested_at=approval.created_at,
        waited=max(0, tick() - since) / 1000 if since is not None else 0.0,
    )


# ----------------------------------------------------------------------
# The state of a conversation, and its pushes to the subscribers.


@dataclass(slots=True)
class Acceptance:
    """The accepted claims of a project's directory and worktrees.

    Attributes:
        digests: None for a project of a version that did not store them.
    """

    digests: frozenset[str] | None = None


@dataclass(slots=True)
class State:
    """The memory of one conversation; the store has all that must survive.

    Attributes:
        log: the project and the writer of its log.
        queue: waiting prompts, the next one first.
        current: the running execution.
        steering: prompts that were written into the turn of `current`, and that it has not taken up yet, in order.
        last: the execution that ended last.
        account: the account of the agent's process, up to the ingested lines.
        approvals: the tool requests that wait for an answer.
        terminal_approvals: those of sessions in a terminal, which are not stored.
        session: the CLI's session that the log is in.
        acceptance: the accepted claims of the project, shared by its conversations.
        end_status: how `current` is to end, once a request or a timeout has decided to end it.
        killed: whether `agent_kill` decided it.
        prompt_spool_offset: the spool's size when the prompt was written; without growth, no output.
        attempts: how often the prompt of `current` was written to a process.
        has_slot: whether this project holds an execution slot.
        first_message_seen: whether the model has started to answer `current`.
        limits: the usage limits of the account, shared by all projects.
        turn_due: the monotonic time until which the CLI may start a turn by itself.
        results: the number of results that this server has read from the agent's processes.
        heard_at: the monotonic time of the process's last output, or of the last prompt or answer to it.
    """

    log: ConversationLog
    queue: list[Execution] = field(default_factory=list)
    current: Execution | None = None
    steering: list[Execution] = field(default_factory=list)
    last: Execution | None = None
    account: model.Account = field(default_factory=model.Account)
    approvals: dict[ApprovalId, Approval] = field(default_factory=dict)
    terminal_approvals: dict[str, ApprovalRequestedData] = field(default_factory=dict)
    session: model.SessionRecord | None = None
    acceptance: Acceptance = field(default_factory=Acceptance)
    partial: Partial = field(default_factory=Partial)
    end_status: model.ExecutionStatus | None = None
    killed: bool = False
    prompt_spool_offset: int = 0
    attempts: int = 0
    has_slot: bool = False
    first_message_seen: bool = False
    turn_due: float = 0.0
    results: int = 0
    heard_at: float = field(default_factory=time.monotonic)
    limits: UsageLimits = field(default_factory=UsageLimits)
    _encoded: bytes = b""
    _encoded_of: tuple[object, ...] = ()

    @property
    def record(self) -> ConversationRecord:
        """The project as it is stored."""
        return self.log.record

    @property
    def work(self) -> model.Work:
        """What the agent's process is doing."""
        return self.account.work

    @property
    def works_alone(self) -> bool:
        """Whether a subagent, or a turn that the CLI started by itself, runs while no prompt does."""
        return self.current is None and self.work.is_agent_working

    @property
    def is_busy(self) -> bool:
        """Whether a prompt, a turn or a task runs, or an approval is pending."""
        work = self.work
        return bool(self.current is not None or work.turn or work.tasks or self.approvals)

    @property
    def is_turn_due(self) -> bool:
        """Whether the CLI may soon start a turn by itself, since a task has just ended."""
        return time.monotonic() < self.turn_due

    @property
    def is_engaged(self) -> bool:
        """Whether ending the process would lose work."""
        return self.is_busy or self.is_turn_due

    @property
    def works(self) -> bool:
        """Whether a model works, with a prompt or without, or waits for an approval."""
        return self.current is not None or self.works_alone

    @property
    def silence(self) -> float:
        """Seconds without output while the agent works and no approval is pending, else 0."""
        return time.monotonic() - self.heard_at if self.works and not self.approvals else 0.0

    @property
    def repeated_calls(self) -> int:
        """How often in a row the working agent, or one of its subagents, has made the same tool call."""
        return max((count for _, count in self.account.repeats.values()), default=0) if self.works else 0

    @property
    def pending_approvals(self) -> int:
        """The number of tool requests that wait for an answer, those of sessions in a terminal included."""
        return len(self.approvals) + len(self.terminal_approvals)

    def restart_waits(self, approval: Approval) -> None:
        """An approval was answered: its tool call starts now, and the agent's silence too.

        A question of an MCP server names no call; the wait for it does not count for any call of MCP tools.
        """
        self.heard_at = time.monotonic()
        request = _request_of(approval)
        if request is None:
            return
        ticks = dict(self.account.tool_ticks)
        if request.is_elicitation:
            waited = tick() - approval.created_tick if approval.created_tick is not None else 0
            asking = [call for call, name in self.account.tools.items() if name.startswith("mcp__") and call in ticks]
            ticks.update({call: ticks[call] + waited for call in asking})
        elif request.tool_use_id in ticks:
            ticks[request.tool_use_id] = tick()
        self.account = msgspec.structs.replace(self.account, tool_ticks=ticks)

    @property
    def shown(self) -> model.ProjectState:
        """The project's state as clients see it."""
        return model.ProjectState.EXECUTING if self.works_alone else self.record.state

    def awaited(self) -> dict[ApprovalId, Approval]:
        """The tool requests that the turn of `current` waits for, without those of subagents next to it."""
        return {key: approval for key, approval in self.approvals.items() if waits_for(approval, self.work)}

    def view(self) -> ProjectStateData:
        """The payload of `project_state`."""
        return project_state_data(
            self.record,
            state=self.shown,
            permission_mode=self.work.permission_mode,
            tasks=self.work.tasks,
            session_title=self.session.title if self.session is not None else None,
            queue_depth=len(self.queue),
            pending_approvals=self.pending_approvals,
            usage_windows=self.limits.windows,
        )

    def encoded_view(self) -> bytes:
        """The `view` as JSON, encoded again only when it changed."""
        counts = len(self.queue), len(self.approvals), len(self.terminal_approvals)
        of = (self.log.record, self.session, self.account, self.current, counts, self.limits.windows)
        if self._encoded_of != of:
            self._encoded, self._encoded_of = encode_data(self.view()), of
        return self._encoded

    def queued(self) -> list[QueuedPrompt]:
        """The waiting prompts, as clients see them."""
        return queue_state_data(self.queue, None).queue

    def pending(self) -> list[ApprovalRequestedData]:
        """The pending tool requests, oldest first, as clients see them."""
        found = [(approval, _request_of(approval)) for approval in self.approvals.values()]
        own = [approval_requested_data(approval, request) for approval, request in found if request is not None]
        return [*own, *self.terminal_approvals.values()]

    def announce(self, *, queue: bool = False) -> list[Draft]:
        """Live frames with the present state."""
        drafts = [live_draft("project_state", self.view())]
        if queue:
            drafts.append(live_draft("queue_state", queue_state_data(self.queue, self.record.queue_hold)))
        return drafts

    def enqueue(self, execution: Execution) -> None:
        """Put an execution into its place in the queue."""
        self.queue = sorted([*self.queue, execution], key=lambda waiting: waiting.position)

    def front(self) -> int:
        """A position before all prompts that have not run, and not before a paused one, whatever the clock says."""
        behind = max((execution.position for execution in self.queue if execution.status.is_paused), default=0)
        waiting = [execution.position for execution in self.queue if not execution.status.is_paused]
        # A second behind a paused one, so that others fit in between.
        return max(min(waiting) - 1, behind + 1) if waiting else max(time.time_ns(), behind + 1_000_000_000)

    def place_of(self, execution: Execution) -> int:
        """The place of an execution in the queue from 1, or 0 when it is not there."""
        return next((place for place, waiting in enumerate(self.queue, start=1) if waiting.id == execution.id), 0)
