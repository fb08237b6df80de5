"""Lines of the CLI to one atomic write: what goes into the log, and what changes with it.

Nothing here changes the session: a plan is made, stored, and only then applied, so that a write
that fails can be planned again from the same lines.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pocket_agent.claude import control
from pocket_agent.claude.framing import Line, Oversized
from pocket_agent.claude.message import Kind, Message, peek
from pocket_agent.model import (
    Approval,
    ApprovalId,
    ApprovalStatus,
    Direction,
    Execution,
    ExecutionStatus,
    Milliseconds,
    ModelUsage,
    ProjectState,
    Session,
)
from pocket_agent.protocol.push import AgentKillData, ApprovalCancelledData, ErrorData
from pocket_agent.session import view
from pocket_agent.session.account import Meter, charged, spending
from pocket_agent.session.log import Draft, entry_draft, now
from pocket_agent.session.plan import Plan, Present

TITLE_CHARACTERS: Final = 80


class Intake:
    """Makes the plan for one batch of lines."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self._at = now()
        self._meter = Meter(present.account)
        self.plan = Plan(tools=self._meter.tools.completed)

    def take(self, lines: Sequence[Line | Oversized]) -> Plan:
        """Go through the lines in order."""
        for line in lines:
            if isinstance(line, Oversized):
                self._reject(f"a line of {line.length} bytes, more than claude.max_line allows", "RESOURCE_LIMIT")
            else:
                self._line(line.data)
        return self._closed()

    def _closed(self) -> Plan:
        self.plan.account = self._meter.account
        return self.plan

    def _line(self, data: bytes) -> None:
        message = peek(data)
        kind = message.kind
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

    def _entry(self, data: bytes, message: Message, kind: Kind) -> None:
        plan = self.plan
        plan.drafts.append(Draft("agent_message", data, Direction.CLAUDE))
        if kind is Kind.INIT or kind is Kind.RESULT:
            self._session(message)
        if kind is Kind.RESULT:
            plan.partial.append(("clear", ""))
            self._result(message)
            return
        self._meter.see(message, kind)
        if kind is Kind.ASSISTANT:
            plan.spoke = True
            if message.parent_tool_use_id is None:
                plan.partial.append(("clear", ""))
        elif kind is Kind.LIFECYCLE:
            self._lifecycle(message)

    def _reject(self, reason: str, code: str, excerpt: str | None = None) -> None:
        self.plan.rejected.append(reason)
        details: dict[str, object] | None = {"excerpt": excerpt} if excerpt else None
        self.plan.drafts.append(
            entry_draft("error", ErrorData(code, f"The agent printed {reason}; it was left out.", details))
        )

    def _session(self, message: Message) -> None:
        session_id = message.session_id
        present = self._present
        if not session_id or message.lost_conversation:
            return
        known = self.plan.session or present.session
        if known is None or known.id != session_id:
            prompt = present.execution.prompt if present.execution is not None else ""
            title = " ".join(prompt.split())[:TITLE_CHARACTERS]
            known = Session(session_id, present.project.id, self._at, self._at, title)
        self.plan.session = msgspec.structs.replace(known, last_active=self._at)
        if session_id != present.project.session_id or present.project.fork:
            self.plan.project.update(session_id=session_id, fork=False)

    def _request(self, message: Message) -> None:
        request = control.parse_permission_request(message)
        if request is None:
            self.plan.refusals.append(control.refuse(message.request_id or "", "Not supported by this client."))
            return
        execution = self._present.execution
        approval = Approval(
            id=self._present.new_approval_id(),
            project_id=self._present.project.id,
            execution_id=execution.id if execution is not None else None,
            request_id=request.request_id,
            request=request.raw,
            status=ApprovalStatus.PENDING,
            created_at=self._at,
        )
        self.plan.opened[approval.id] = approval
        self.plan.drafts.append(
            entry_draft("approval_requested", view.approval_requested(approval, request), Direction.CLAUDE)
        )

    def _withdraw(self, request_id: str | None) -> None:
        for approval in list(self._open_approvals()):
            if approval.request_id == request_id:
                self._cancel(approval, "withdrawn by the agent")
                self._credit(approval)

    def _credit(self, gone: Approval) -> None:
        """The wait for a withdrawn request is over, and remains time that the timeout does not count."""
        execution = self.plan.running or self._present.execution
        if execution is None or self.plan.finished is not None:
            return
        waiting = {approval.id: approval for approval in (*self._open_approvals(), gone)}
        waited = waited_after(execution, waiting, gone.id, self._at)
        self.plan.running = msgspec.structs.replace(execution, waited_ms=waited)

    def _open_approvals(self) -> list[Approval]:
        known = {**self._present.approvals, **self.plan.opened}
        return [approval for key, approval in known.items() if key not in self.plan.closed]

    def _cancel(self, approval: Approval, reason: str) -> None:
        cancelled = msgspec.structs.replace(approval, status=ApprovalStatus.CANCELLED, resolved_at=self._at)
        self.plan.opened.pop(approval.id, None)
        self.plan.closed[approval.id] = cancelled
        self.plan.drafts.append(
            entry_draft("approval_cancelled", ApprovalCancelledData(approval.id, reason), Direction.CLAUDE)
        )

    def _result(self, message: Message) -> None:
        used = self._meter.settle(message)
        if self._present.execution is None or self.plan.finished is not None or message.is_own_turn:
            self._charge(used)
            return
        if not message.is_error and not self._present.killed:
            status = ExecutionStatus.SUCCESS  # it was done before what was to end it got there
        else:
            status = self._present.verdict or ExecutionStatus.ERROR
        error = None
        if message.lost_conversation:
            self.plan.project.update(session_id=None, fork=False)
            error = ErrorData(
                "EXECUTION_FAILED",
                "The conversation to continue no longer exists; the next prompt starts a new one.",
            )
        elif status is ExecutionStatus.ERROR:
            error = ErrorData("EXECUTION_FAILED", message.result_text or "The agent ended with an error.")
        self._end(status, error, used)

    def _charge(self, used: tuple[ModelUsage, ...], *, incomplete: bool = False) -> None:
        """Note what was used beside the turn of a prompt: by a background task, which outlives its execution."""
        if not used:
            return
        plan = self.plan
        plan.spent += spending(self._present.project, used, self._at, ended=None)
        running = plan.running or self._present.execution
        if plan.finished is not None:
            plan.finished = charged(plan.finished, used, None)
        elif running is not None:
            plan.running = charged(running, used, None)
        else:
            plan.late += used
            earlier = plan.earlier or self._present.last
            if earlier is not None:
                changed = charged(earlier, used, None)
                plan.earlier = msgspec.structs.replace(changed, incomplete=incomplete or changed.incomplete)

    def _lifecycle(self, message: Message) -> None:
        """A prompt that the CLI had seen already is reported as over without ever giving a result."""
        execution = self._present.execution
        over = message.lifecycle_state in {"completed", "cancelled"}
        if execution is None or self.plan.finished is not None or not over:
            return
        if message.command_uuid == execution.id:
            text = "The agent had taken this prompt before it was cut off, and does not run it twice."
            self._end(self._present.verdict or ExecutionStatus.ERROR, ErrorData("EXECUTION_FAILED", text), None)

    def finish(self, status: ExecutionStatus, error: ErrorData | None) -> Plan:
        """End the running execution, which gets no result, and withdraw what it still asked for."""
        self._end(status, error, None)
        return self._closed()

    def leave(self) -> Plan:
        """The process is gone, and no execution ends with it: what it used and did not tell in a result counts."""
        self._charge(self._meter.give_up(), incomplete=True)
        return self._closed()

    def _end(self, status: ExecutionStatus, error: ErrorData | None, used: tuple[ModelUsage, ...] | None) -> None:
        """End the running execution; `used` is None when no result tells it."""
        execution = self.plan.running or self._present.execution
        assert execution is not None
        complete = used is not None
        used = used if used is not None else self._meter.give_up()
        execution = charged(execution, used, self._meter.model)
        waiting = self._open_approvals()
        waited = waited_ms(execution, {approval.id: approval for approval in waiting}, self._at)
        for approval in waiting:
            self._cancel(approval, "the execution ended")
        self.plan.running = None
        self.plan.finished = msgspec.structs.replace(
            execution,
            status=status,
            finished_at=self._at,
            waited_ms=waited,
            code=error.code if error is not None else None,
            session_id=self.plan.project.get("session_id", self._present.project.session_id),
            incomplete=not complete,
        )
        self.plan.spent += spending(self._present.project, used, self._at, ended=self.plan.finished)
        if self._present.killed:
            killed = AgentKillData(project_id=execution.project_id, execution_id=execution.id)
            self.plan.drafts.append(entry_draft("process_killed", killed))
        if error is not None:
            details = {"execution_id": execution.id, **(error.details or {})}
            self.plan.drafts.append(entry_draft("error", msgspec.structs.replace(error, details=details)))
        failed = status in {ExecutionStatus.ERROR, ExecutionStatus.TIMEOUT}
        self.plan.project["state"] = ProjectState.ERROR if failed else ProjectState.IDLE


def waited_after(
    execution: Execution,
    approvals: Mapping[ApprovalId, Approval],
    gone: ApprovalId,
    at: Milliseconds,
) -> int:
    """The finished waiting of the execution once approval `gone` is answered; what still waits is not in it."""
    rest = {key: approval for key, approval in approvals.items() if key != gone}
    ongoing = waited_ms(execution, rest, at) - execution.waited_ms
    return waited_ms(execution, approvals, at) - ongoing


def waited_ms(execution: Execution, approvals: Mapping[ApprovalId, Approval], at: Milliseconds) -> int:
    """How long the execution has waited for approvals, the wait that goes on now included."""
    since = min((approval.created_at for approval in approvals.values()), default=None)
    return execution.waited_ms + (max(0, at - since) if since is not None else 0)
