"""What a batch of the CLI's lines starts from, and what it amounts to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pocket_agent.claude.stream import CliMessage
from pocket_agent.model import (
    Account,
    Approval,
    ApprovalId,
    Execution,
    ExecutionStatus,
    ModelUsage,
    Project,
    Session,
    Spending,
)
from pocket_agent.session.log import Draft
from pocket_agent.session.partial import Partial
from pocket_agent.session.tool import Completed


@dataclass(frozen=True, slots=True)
class Present:
    """What a plan starts from: the session as it is now.

    Attributes:
        last: the execution that ended last.
        account: what the process has used so far.
        verdict: how the running execution is to end, when somebody ends it.
        killed: whether that is by `agent_kill`, which is an entry of its own.
        told_mode: the permission mode that was last set in the process; None when none was set.
        may_choose: whether a client may choose a permission mode.
        new_approval_id: makes an id.
        queued: whether prompts wait behind the execution.
        partial: the message that is being written.
    """

    project: Project
    execution: Execution | None
    approvals: Mapping[ApprovalId, Approval]
    session: Session | None
    last: Execution | None
    account: Account
    verdict: ExecutionStatus | None
    killed: bool
    new_approval_id: Callable[[], ApprovalId]
    told_mode: str | None = None
    partial: Partial = field(default_factory=Partial)
    may_choose: Callable[[str], bool] = lambda _: True
    queued: bool = False


@dataclass(slots=True)
class Plan:
    """What a batch of lines amounts to.

    Attributes:
        drafts: what is said, in order.
        project: fields of the project that change.
        opened: tool requests that came, and are still open.
        closed: tool requests that were withdrawn.
        partial: the message being written: ("clear", "") or (kind, text) in order.
        answers: control responses of the CLI.
        refusals: lines to answer requests of the CLI that this server does not know.
        running: the execution, when a withdrawn request has changed how long it waited, or it has used something.
        finished: the execution, final, when its result was among the lines.
        earlier: the execution that ended last, when it has used something since.
        late: what was used while no execution ran.
        account: what the process has used, after these lines.
        spent: what to add to the history of spending.
        tools: tool calls that ended, in order.
        spoke: whether the model said anything.
        mode: the permission mode that the CLI has changed to without a request of the server.
        notified: whether a background task ended, which the CLI reports to the model, if need be in a turn of its own.
        rejected: reasons for lines that are not lines of the protocol.
    """

    drafts: list[Draft] = field(default_factory=list)
    project: dict[str, Any] = field(default_factory=dict)
    opened: dict[ApprovalId, Approval] = field(default_factory=dict)
    closed: dict[ApprovalId, Approval] = field(default_factory=dict)
    partial: list[tuple[str, str]] = field(default_factory=list)
    answers: list[CliMessage] = field(default_factory=list)
    refusals: list[bytes] = field(default_factory=list)
    session: Session | None = None
    running: Execution | None = None
    finished: Execution | None = None
    earlier: Execution | None = None
    late: tuple[ModelUsage, ...] = ()
    account: Account | None = None
    spent: tuple[Spending, ...] = ()
    tools: list[Completed] = field(default_factory=list)
    spoke: bool = False
    mode: str | None = None
    notified: bool = False
    rejected: list[str] = field(default_factory=list)
