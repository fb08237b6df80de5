"""Lines of the CLI to one atomic write: what goes into the log, and what changes with it."""

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from pocket_agent import model
from pocket_agent.claude import control
from pocket_agent.claude.stream import CliMessage, Kind, Line, Oversized, peek, progress, usage_windows
from pocket_agent.conversation.accounting import Completed, Meter, charged, spending
from pocket_agent.conversation.conversation_log import Draft, entry_draft, now, tick
from pocket_agent.conversation.state import (
    CAUSES,
    State,
    agent_id,
    approval_requested_data,
    is_elicitation,
    queue_hold,
    waits_for,
)
from pocket_agent.model import (
    Approval,
    ApprovalId,
    Direction,
    Execution,
    ExecutionStatus,
    HoldReason,
    Milliseconds,
    ModelUsage,
    ProjectState,
    TranscriptMark,
)
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.push import (
    AgentKillData,
    AgentPartialData,
    ApprovalCancelledData,
    ErrorData,
    ExecutionPausedData,
)

# ----------------------------------------------------------------------
# The result of a batch of lines.


@dataclass(slots=True)
class BatchResult:
    """The effects of a batch of lines.

    Attributes:
        drafts: entries and live frames, in order.
        record: fields of the record that change.
        opened: tool requests that came, and are still open.
        closed: tool requests that were withdrawn.
        partial: the message being written: ("clear", "") or (kind, text) in order.
        answers: control responses of the CLI.
        refusals: lines to answer requests of the CLI that this server does not know.
        running: the execution, when a withdrawn request has changed how long it waited, or it has used something.
        finished: the execution, final, when its result was among the lines.
        paused: the execution, when it ended there and is to continue.
        taken: the number of lines that the plan is about; the others are the next batch.
        joined: prompts that the running turn has taken up, final.
        next: the prompt that was written into a turn which ended without it, and which the CLI runs next.
        requeued: prompts that were written into a turn and have not reached it, back in the queue.
        earlier: the execution that ended last, when it has used something since.
        late: usage while no execution ran.
        account: the account of the process after these lines.
        spent: rows to add to the history of spending.
        tools: tool calls that ended, in order.
        requests: see `Meter.requests`.
        spoke: whether the model said anything.
        windows: usage limits of the account, as the API reported them.
        notified: whether a background task ended, which the CLI reports to the model, if need be in a turn of its own.
        rejected: reasons for lines that are not lines of the protocol.
        results: the number of results.
    """

    drafts: list[Draft] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    opened: dict[ApprovalId, Approval] = field(default_factory=dict)
    closed: dict[ApprovalId, Approval] = field(default_factory=dict)
    partial: list[tuple[str, str]] = field(default_factory=list)
    answers: list[CliMessage] = field(default_factory=list)
    refusals: list[bytes] = field(default_factory=list)
    session: model.SessionRecord | None = None
    running: Execution | None = None
    finished: Execution | None = None
    paused: Execution | None = None
    taken: int = 0
    joined: list[Execution] = field(default_factory=list)
    next: Execution | None = None
    requeued: list[Execution] = field(default_factory=list)
    earlier: Execution | None = None
    late: tuple[ModelUsage, ...] = ()
    account: model.Account | None = None
    spent: tuple[model.Spending, ...] = ()
    tools: list[Completed] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    spoke: bool = False
    windows: tuple[model.UsageWindow, ...] = ()
    notified: bool = False
    rejected: list[str] = field(default_factory=list)
    results: int = 0


# ----------------------------------------------------------------------
# Planning a batch. Nothing here changes the state: a plan is made, stored, and only then applied, so that a
# write that fails can be planned again from the same lines.

TITLE_CHARACTERS: Final = 80
_REASON_CHARACTERS: Final = 1_000
_MAX_NESTED: Final = 100


class Intake:
    """Makes the plan for one batch of lines.

    Args:
        state: the session as it is now; not changed.
        may_choose: whether a client may choose a permission mode.
        resumes_at: when an execution continues by itself that a usage limit with this reset has stopped; None when it
            waits for a client.
        new_approval_id: makes the id of a tool request.
    """

    def __init__(
        self,
        state: State,
        *,
        may_choose: Callable[[str], bool] = lambda _: True,
        resumes_at: Callable[[Milliseconds], Milliseconds | None] = lambda reset: reset,
        new_approval_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._state = state
        self._may_choose = may_choose
        self._resumes_at = resumes_at
        self._new_approval_id = new_approval_id
        self._at = now()
        self._tick = tick()
        self._meter = Meter(state.account)
        self._work = state.work
        self.plan = BatchResult(tools=self._meter.tools.completed, requests=self._meter.requests)

    def take(self, lines: Sequence[Line | Oversized]) -> BatchResult:
        """Go through the lines in order."""
        for line in lines:
            if isinstance(line, Oversized):
                self._reject(f"a line of {line.length} bytes, more than claude.max_line allows", "RESOURCE_LIMIT")
            else:
                self._line(line.data)
            self.plan.taken += 1
            if self.plan.next is not None:
                break  # the lines that follow are about another execution
        return self._closed()

    def _closed(self) -> BatchResult:
        account = self._meter.account
        if self._work is not account.work:
            account = replace(account, work=self._work)
        self.plan.account = account
        return self.plan

    def _changed(self, **fields: Any) -> None:
        """Update the state of the process's work."""
        work = replace(self._work, **fields)
        if work != self._work:
            self._work = work

    @property
    def _execution(self) -> Execution | None:
        """The execution that runs after the lines so far."""
        is_over = self.plan.finished is not None or self.plan.paused is not None
        return None if is_over else self.plan.running or self._state.current

    def _line(self, data: bytes) -> None:
        message = peek(data)
        kind = message.kind
        if not self._work.turn and kind in {Kind.ASSISTANT, Kind.STREAM_EVENT} and self._is_answer(message):
            self._changed(turn="prompt")  # a CLI that prints `init` only once
        match kind:
            case Kind.GARBAGE:
                self._reject(message.reason or "not JSON", "INVALID_MESSAGE", message.excerpt)
            case Kind.STREAM_EVENT:
                self.plan.spoke = True
                self._meter.see(message, kind)
                self.plan.drafts.append(Draft("agent_message", data, None))
                if message.parent_tool_use_id is None and message.delta_text is not None:
                    self.plan.partial.append((message.delta_kind or "", message.delta_text))
                elif message.event_type == "message_start" and message.parent_tool_use_id is None:
                    self.plan.partial.append(("clear", ""))
            case Kind.CONTROL_RESPONSE:
                self.plan.answers.append(message)
            case Kind.CONTROL_REQUEST:
                self._request(message)
            case Kind.CONTROL_CANCEL_REQUEST:
                self._withdraw(message.request_id)
            case _:
                self._entry(data, message, kind)

    def _is_answer(self, message: CliMessage) -> bool:
        """Whether the main thread speaks while a prompt runs that does not wait behind another turn."""
        return self._execution is not None and message.parent_tool_use_id is None and self._work.prompt != "queued"

    def _entry(self, data: bytes, message: CliMessage, kind: Kind) -> None:
        plan = self.plan
        plan.drafts.append(Draft("agent_message", data, Direction.CLAUDE, message.said))
        if kind is Kind.INIT or kind is Kind.RESULT:
            self._session(message)
        if kind is Kind.INIT:
            self._turn(message)
        self._limits(message)
        if kind is Kind.RESULT:
            self._result(message)
            plan.partial.append(("clear", ""))
            return
        self._meter.see(message, kind)
        if kind is Kind.ASSISTANT:
            plan.spoke = True
            if message.parent_tool_use_id is None:
                self._changed(error=message.error)
                plan.partial.append(("clear", ""))
        elif kind is Kind.LIFECYCLE:
            self._lifecycle(message)
        elif message.type == "system":
            self._system(message)

    def _limits(self, message: CliMessage) -> None:
        """The usage limits of the account, and the reset of one that refused a request of this turn."""
        if message.rate_limit_info is not None:
            self.plan.windows = usage_windows(message.rate_limit_info)
        if (reset := message.refused_until) is not None:
            self._changed(refused_until=reset)

    def _turn(self, message: CliMessage) -> None:
        """A turn starts: that of the prompt, or one that the CLI starts by itself, for a task that ended.

        2.1.330 names the prompts of a turn, and reports first when a prompt is queued behind another turn.
        """
        execution = self._execution
        own = execution is None or (not message.user_message_uuids and self._work.prompt == "queued")
        self._changed(turn="own" if own else "prompt", blocked=None, refused_until=None, interrupted=False)
        if message.permission_mode:
            self._changed(permission_mode=message.permission_mode)

    def _system(self, message: CliMessage) -> None:
        """Reports of the CLI (2.1.330) about its background tasks, its permission mode, and hooks."""
        tasks, nested = self._work.tasks, self._work.nested
        match message.subtype:
            case "background_tasks_changed":
                known = {task.id: task for task in tasks}
                tasks = tuple(
                    replace(
                        known.get(task.task_id) or model.BackgroundTask(task.task_id, started_at=self._at),
                        type=task.task_type,
                        description=task.description,
                    )
                    for task in message.tasks or ()
                )
            case "task_started" if message.task_id and message.is_backgrounded is not False:
                began = model.BackgroundTask(
                    message.task_id, message.task_type or "", message.description or "", self._at
                )
                tasks = (*(task for task in tasks if task.id != began.id), began)
            case "task_started" if message.task_id and self._is_nested(message):
                nested = (*nested, message.task_id)[-_MAX_NESTED:]
            case "task_progress":
                tasks = tuple(progress(task, message) if task.id == message.task_id else task for task in tasks)
            case "task_notification":
                tasks = tuple(task for task in tasks if task.id != message.task_id)
                self.plan.notified = self.plan.notified or message.status not in {"stopped", "killed"}
            case "status" if message.permission_mode:
                self._mode(message.permission_mode)
            case "informational" if message.prompt_submit_outcome is not None:
                outcome = message.prompt_submit_outcome
                self._changed(blocked=outcome.reason or outcome.kind or "no reason was given")
        self._changed(tasks=tasks, nested=nested if tasks else ())

    def _is_nested(self, message: CliMessage) -> bool:
        work = self._work
        return message.parent_task_id in {*work.nested, *(task.id for task in work.tasks)}

    def _mode(self, mode: str) -> None:
        """The permission mode has changed. When the server did not request it, as after an approved plan, the project's
        choice changes with it: otherwise the next prompt would bring the old mode back."""
        before = self._work.permission_mode
        self._changed(permission_mode=mode)
        if mode in {before, self._work.requested_mode}:
            return
        self._changed(requested_mode=mode)
        if self._may_choose(mode):
            self.plan.record["permission_mode"] = mode

    def _reject(self, reason: str, code: str, excerpt: str | None = None) -> None:
        self.plan.rejected.append(reason)
        details: dict[str, object] | None = {"excerpt": excerpt} if excerpt else None
        self.plan.drafts.append(
            entry_draft("error", ErrorData(code, f"The agent printed {reason}; it was left out.", details))
        )

    def _session(self, message: CliMessage) -> None:
        """Take over the id of the conversation.

        The id of an error does not count: a CLI that cannot start reports an id that it has just made up (2.1.330, for
        instance when its `.claude.json` is broken), and a CLI that has started has reported its id in its `init`.
        """
        session_id = message.session_id
        project, running = self._state.record, self._state.current
        if not session_id or (message.kind is Kind.RESULT and message.failed):
            return
        known = self.plan.session or self._state.session
        if known is None or known.id != session_id:
            title = " ".join(running.prompt.split())[:TITLE_CHARACTERS] if running is not None else ""
            known = model.SessionRecord(session_id, project.project_id, self._at, self._at, title)
        self.plan.session = replace(known, last_active=self._at)
        if session_id != project.session_id or project.fork:
            # The file of a copy begins with the history of the other session.
            mark = None if project.fork else TranscriptMark(session_id)
            self.plan.record.update(session_id=session_id, fork=False, transcript=mark)

    def _request(self, message: CliMessage) -> None:
        request = control.parse_permission_request(message)
        if request is None:
            self.plan.refusals.append(control.refuse(message.request_id or "", "Not supported by this client."))
            return
        execution = self._state.current
        approval = Approval(
            id=ApprovalId(self._new_approval_id()),
            conversation_id=self._state.record.id,
            execution_id=execution.id if execution is not None else None,
            request_id=request.request_id,
            request=request.raw,
            status=model.ApprovalStatus.PENDING,
            created_at=self._at,
            created_tick=self._tick,
        )
        self.plan.opened[approval.id] = approval
        self.plan.drafts.append(
            entry_draft("approval_requested", approval_requested_data(approval, request), Direction.CLAUDE)
        )

    def _withdraw(self, request_id: str | None) -> None:
        for approval in list(self._open_approvals()):
            if approval.request_id == request_id:
                self._cancel(approval, "withdrawn by the agent")
                self._credit(approval)

    def _credit(self, gone: Approval) -> None:
        """Count the finished wait for a withdrawn request as time that the timeout leaves out."""
        execution = self._execution
        if execution is None or not waits_for(gone, self._work):
            return
        waited = waited_after(execution, {**self._awaited(), gone.id: gone}, gone.id, self._tick)
        self.plan.running = replace(execution, waited_ms=waited)

    def _awaited(self) -> dict[ApprovalId, Approval]:
        """The open approvals that the turn waits for."""
        return {approval.id: approval for approval in self._open_approvals() if waits_for(approval, self._work)}

    def _open_approvals(self) -> list[Approval]:
        known = {**self._state.approvals, **self.plan.opened}
        return [approval for key, approval in known.items() if key not in self.plan.closed]

    def _cancel(self, approval: Approval, reason: str) -> None:
        cancelled = replace(approval, status=model.ApprovalStatus.CANCELLED, resolved_at=self._at)
        self.plan.opened.pop(approval.id, None)
        self.plan.closed[approval.id] = cancelled
        self.plan.drafts.append(
            entry_draft("approval_cancelled", ApprovalCancelledData(approval.id, reason), Direction.CLAUDE)
        )

    def _result(self, message: CliMessage) -> None:
        self.plan.results += 1
        used = self._meter.settle(message)
        execution, blocked, turn = self._execution, self._work.blocked, self._work.turn
        reset, fault = self._work.refused_until, message.fault(self._work.error)
        # A second result of a turn ends nothing, not even a prompt that was written since.
        repeated = not turn and self._meter.model is not None
        self._changed(turn="", blocked=None, refused_until=None, error=None)
        if execution is None or repeated or not _ends(message, execution):
            self._cancel_turns("the turn ended")
            self._charge(used)
            return
        if not message.failed and not self._state.killed and blocked is None:
            status = ExecutionStatus.SUCCESS  # it was done before an interrupt reached it
        else:
            status = self._state.end_status or ExecutionStatus.ERROR
        error = None
        if message.lost_conversation:
            self.plan.record.update(session_id=None, fork=False)
            text = "The conversation to continue no longer exists; the next prompt starts a new one."
            error = ErrorData("EXECUTION_FAILED", text)
            self._hold(HoldReason.CONVERSATION, "The next prompt starts one.")
        elif status is ExecutionStatus.ERROR:
            error = ErrorData("EXECUTION_FAILED", message.result_text or "The agent ended with an error.")
            if blocked is not None:
                text = f"The prompt was not given to the model: {blocked[:_REASON_CHARACTERS]}"
                error = ErrorData("EXECUTION_FAILED", text)
            elif not turn and self._meter.model is None:
                self._hold(fault or HoldReason.START, error.message)
            elif fault is HoldReason.USAGE_LIMIT and reset is not None:
                until = self._resumes_at(reset)
                hold = queue_hold(HoldReason.USAGE_LIMIT, error.message, self._at, until)
                self._pause(ExecutionStatus.WAITING, hold, used)
                return
            elif fault is not None:
                self._hold(fault, error.message)
        self._end(status, error, used)

    def _hold(self, reason: HoldReason, said: str = "") -> None:
        """Hold the queue, so that waiting prompts do not meet the same fault."""
        if self._state.queue:
            self.plan.record["queue_hold"] = queue_hold(reason, said, self._at)

    def _cancel_turns(self, reason: str) -> None:
        """Withdraw the requests of the main thread, whose turn is over; a subagent goes on, and so do its requests.

        The CLI (2.1.332) does not report whose call made an MCP server ask: it may be that of a running subagent.
        """
        has_subagent = any(task.is_agent for task in self._work.tasks)
        for approval in self._open_approvals():
            if agent_id(approval) is None and not (has_subagent and is_elicitation(approval)):
                self._cancel(approval, reason)

    def _charge(self, used: tuple[ModelUsage, ...], *, incomplete: bool = False) -> None:
        """Record usage outside the turn of a prompt: by a background task, which outlives its execution."""
        if not used:
            return
        plan = self.plan
        plan.spent += spending(self._state.record, used, self._at, ended=None)
        running = plan.running or self._state.current
        if plan.finished is not None:
            plan.finished = charged(plan.finished, used, None)
        elif plan.paused is not None:
            plan.paused = charged(plan.paused, used, None)
        elif running is not None:
            plan.running = charged(running, used, None)
        else:
            plan.late += used
            earlier = plan.earlier or self._state.last
            if earlier is not None:
                changed = charged(earlier, used, None)
                plan.earlier = replace(changed, incomplete=incomplete or changed.incomplete)

    def _lifecycle(self, message: CliMessage) -> None:
        """How far the CLI has come with the prompt.

        A prompt that the CLI had seen already is reported as over without a result. A prompt that it took into a turn
        of its own is reported as over before that turn's result (2.1.330), which then names it.
        """
        execution, work = self._execution, self._work
        if execution is None:
            return
        if message.lifecycle_state == "started":
            self._join(message.command_uuid)
        if message.command_uuid != execution.message_id:
            return
        match message.lifecycle_state:
            case "queued":
                # A turn that runs before the prompt has started is not the prompt's.
                self._changed(prompt="queued", turn="own" if work.turn else "")
            case "started":
                self._changed(prompt="started")
            case "completed" if work.turn == "own" and work.prompt == "started":
                return
            case "completed" | "cancelled":
                text = "The agent had taken this prompt before it was cut off, and does not run it twice."
                self._end(self._state.end_status or ExecutionStatus.ERROR, ErrorData("EXECUTION_FAILED", text), None)

    @property
    def _steering(self) -> list[Execution]:
        """The prompts that were written into the running turn, without those that it has taken up."""
        joined = {execution.id for execution in self.plan.joined}
        return [execution for execution in self._state.steering if execution.id not in joined]

    def _join(self, message_id: str | None) -> None:
        """The running turn has taken up a prompt, which is from then on a part of the running execution."""
        for execution in self._steering:
            if execution.message_id == message_id:
                session_id = self.plan.record.get("session_id", self._state.record.session_id)
                done = replace(execution, status=ExecutionStatus.SUCCESS, finished_at=self._at, session_id=session_id)
                self.plan.joined.append(done)
                self.plan.spent += spending(self._state.record, (), self._at, ended=done)

    def finish(self, status: ExecutionStatus, error: ErrorData | None, *, silent: bool = False) -> BatchResult:
        """The process is gone: end the running execution, which gets no result, and withdraw all open requests.

        Args:
            status: how it ends.
            error: why, if that is a fault.
            silent: whether the process wrote nothing about the prompt.
        """
        if silent and error is not None:
            self._hold(HoldReason.START, error.message)
        self._end(status, error, None, gone=True)
        return self._closed()

    def interrupt(self, *, ask: bool, heard: bool) -> BatchResult:
        """The process was lost: pause the running execution, and withdraw all open requests.

        Args:
            ask: whether a client decides how it goes on; otherwise it continues at once.
            heard: whether the process wrote anything about the prompt, so that its session has it.
        """
        self._pause(ExecutionStatus.INTERRUPTED, queue_hold(HoldReason.LOST, "", self._at), None, gone=True, held=ask)
        if not heard and self.plan.paused is not None:
            self.plan.paused = replace(self.plan.paused, session_id=None)
        return self._closed()

    def leave(self, error: ErrorData | None = None) -> BatchResult:
        """The process is gone, and no execution ends with it: usage that no result has reported counts.

        Args:
            error: the error to report, if more than an idle process ended.
        """
        self._charge(self._meter.give_up(), incomplete=True)
        self._gone()
        self._keep_partial()
        if self._state.killed:
            killed = AgentKillData(project_id=self._state.record.project_id, execution_id=None)
            self.plan.drafts.append(entry_draft("process_killed", killed))
        if error is not None:
            self.plan.drafts.append(entry_draft("error", error))
            self.plan.record["state"] = ProjectState.ERROR
        return self._closed()

    def _keep_partial(self) -> None:
        """Store the message that the agent was writing, which no complete line will follow."""
        partial = self._state.partial.after(self.plan.partial)
        if partial is not None:
            self.plan.partial.append(("clear", ""))
            kept = AgentPartialData(text=partial.text, thinking=partial.thinking)
            self.plan.drafts.append(entry_draft("agent_partial", kept, Direction.CLAUDE))

    def _gone(self) -> None:
        """Withdraw all open requests, requeue the prompts that no turn has taken up, and reset the process's work."""
        # They come before all that wait, and in their order: each was promoted to the front by itself.
        first = self._first - len(self._steering)
        self.plan.requeued = [
            replace(each, status=ExecutionStatus.QUEUED, position=min(each.position, first + number))
            for number, each in enumerate(self._steering)
        ]
        for approval in self._open_approvals():
            self._cancel(approval, "the agent's process ended")
        self._work = model.Work()

    def _end(
        self,
        status: ExecutionStatus,
        error: ErrorData | None,
        used: tuple[ModelUsage, ...] | None,
        *,
        gone: bool = False,
    ) -> None:
        """End the running execution; without `used` no result reports its usage; `gone` when its process is gone."""
        execution, used = self._stopped(used, gone=gone)
        self.plan.finished = replace(
            execution, status=status, finished_at=self._at, code=error.code if error is not None else None
        )
        self.plan.spent += spending(self._state.record, used, self._at, ended=self.plan.finished)
        if self._state.killed:
            killed = AgentKillData(project_id=self._state.record.project_id, execution_id=execution.id)
            self.plan.drafts.append(entry_draft("process_killed", killed))
        if error is not None:
            details = {"execution_id": execution.id, **(error.details or {})}
            self.plan.drafts.append(entry_draft("error", replace(error, details=details)))
        if self._state.record.queue_hold is not None and not self._state.queue and not self.plan.requeued:
            self.plan.record["queue_hold"] = None  # the turn has taken up the prompts that were to wait
        failed = status in {ExecutionStatus.ERROR, ExecutionStatus.TIMEOUT}
        self.plan.record["state"] = ProjectState.ERROR if failed else ProjectState.IDLE
        if self.plan.next is not None:
            self.plan.record["state"] = ProjectState.EXECUTING

    def _stopped(self, used: tuple[ModelUsage, ...] | None, *, gone: bool) -> tuple[Execution, tuple[ModelUsage, ...]]:
        """The running execution with its usage, and this usage; its turn is over."""
        execution = self.plan.running or self._state.current
        assert execution is not None
        complete = used is not None
        used = used if used is not None else self._meter.give_up()
        execution = charged(execution, used, self._meter.model)
        waited = waited_ms(execution, self._awaited(), self._tick)
        if gone:
            self._gone()
        elif self._work.turn != "own":
            self._cancel_turns("the execution ended")
            self._changed(turn="", blocked=None)
        self._changed(prompt="")
        self.plan.running = None
        if not gone and self._steering:
            # The CLI runs the prompts that the turn has not taken up in a turn of their own.
            self.plan.next = replace(
                self._steering[0], status=ExecutionStatus.RUNNING, started_at=self._at, started_tick=self._tick
            )
        self._keep_partial()
        session_id = self.plan.record.get("session_id", self._state.record.session_id)
        incomplete = execution.incomplete or not complete
        return replace(execution, waited_ms=waited, session_id=session_id, incomplete=incomplete), used

    def _pause(
        self,
        status: ExecutionStatus,
        hold: model.QueueHold,
        used: tuple[ModelUsage, ...] | None,
        *,
        gone: bool = False,
        held: bool = True,
    ) -> None:
        """Put the running execution in front of the queue, and hold that, unless it is to continue at once.

        The other arguments are those of `_end`.
        """
        execution, used = self._stopped(used, gone=gone)
        # Prompts may have been promoted past its position while it ran. Others fit in between (see `State.front`).
        behind = max((each.position for each in self._state.queue if each.status.is_paused), default=0)
        position = max(min(execution.position, self._first - 1_000_000_000), behind + 1)
        paused = replace(execution, status=status, paused_for=hold.reason, paused_at=self._at, position=position)
        self.plan.paused = replace(paused, waited_ms=self._idle_ms(execution, gone=gone))
        self.plan.spent += spending(self._state.record, used, self._at, ended=None)
        state = ProjectState.IDLE if self.plan.next is None else ProjectState.EXECUTING
        self.plan.record.update(state=state, queue_hold=hold if held else None)
        until, message = (hold.until, hold.message) if held else (self._at, CAUSES[hold.reason])
        at = timestamp(until) if until is not None else None
        data = ExecutionPausedData(execution.id, hold.reason, message, at)
        self.plan.drafts.append(entry_draft("execution_paused", data))

    @property
    def _first(self) -> int:
        """The position of the first prompt in the queue that has not run; without one, a position behind all others."""
        waiting = (each.position for each in (*self.plan.requeued, *self._state.queue) if not each.status.is_paused)
        return min(waiting, default=sys.maxsize)

    def _idle_ms(self, execution: Execution, *, gone: bool) -> int:
        """The part of the wall time since the start of an execution in which it did not work.

        A paused execution continues by the wall clock (see `Runner._started`), which may have been set since its start.
        The time after the last entry of a process that is gone may be that of a machine that was off.
        """
        waited = execution.waited_ms
        if execution.started_at is None or execution.started_tick is None:
            return waited
        worked = self._tick - execution.started_tick - waited
        if gone:
            worked = min(worked, max(0, self._state.record.last_active - execution.started_at - waited))
        return max(waited, self._at - execution.started_at - worked)


def _ends(result: CliMessage, execution: Execution) -> bool:
    """Whether a `result` ends an execution: it names the prompts of its turn; before 2.1.330 by whose turn it was."""
    named = result.user_message_uuids
    return execution.message_id in named if named else not result.is_own_turn


def waited_after(execution: Execution, approvals: Mapping[ApprovalId, Approval], gone: ApprovalId, at: int) -> int:
    """The finished waiting of the execution once approval `gone` is answered at the tick `at`, without open waits."""
    rest = {key: approval for key, approval in approvals.items() if key != gone}
    ongoing = waited_ms(execution, rest, at) - execution.waited_ms
    return waited_ms(execution, approvals, at) - ongoing


def waited_ms(execution: Execution, approvals: Mapping[ApprovalId, Approval], at: int) -> int:
    """How long the execution has waited for approvals until the tick `at`, open waits included."""
    ticks = (approval.created_tick for approval in approvals.values() if approval.created_tick is not None)
    since = min(ticks, default=None)
    return execution.waited_ms + (max(0, at - since) if since is not None else 0)
