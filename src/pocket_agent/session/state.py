"""What a session knows of its project now, and how it tells the subscribers."""

import time
from dataclasses import dataclass, field

from pocket_agent.claude import control
from pocket_agent.model import (
    Account,
    Approval,
    ApprovalId,
    Execution,
    ExecutionStatus,
    Project,
    ProjectState,
    Work,
)
from pocket_agent.model import (
    Session as Conversation,
)
from pocket_agent.protocol.frame import encode_data
from pocket_agent.protocol.push import ApprovalRequestedData, ProjectStateData, QueuedPrompt
from pocket_agent.session import view
from pocket_agent.session.answer import waits_for
from pocket_agent.session.log import Draft, ProjectLog, live_draft
from pocket_agent.session.partial import Partial


@dataclass(slots=True)
class State:
    """The memory of one session; what must survive is in the store as well.

    Attributes:
        log: the project and the writer of its log.
        queue: prompts that wait, the next one first.
        current: the execution that runs.
        last: the execution that ended last.
        account: what the agent's process has used, as far as its lines were taken in.
        approvals: the tool requests that wait for an answer.
        conversation: the CLI's session that the log is in.
        accepted: the digests of the claims of the directory that a person has accepted; None for a project of a
            version that did not note them.
        verdict: how `current` is to end, once somebody decided to end it.
        killed: whether `agent_kill` decided it.
        silent_from: the spool's size when the prompt was written; no more bytes, no output.
        attempts: how often the prompt of `current` was written to a process.
        has_slot: whether this project holds an execution slot.
        heard: whether the model has begun to answer `current`.
        turn_due: until when (monotonic) a turn that the CLI begins by itself is to be expected.
    """

    log: ProjectLog
    queue: list[Execution] = field(default_factory=list)
    current: Execution | None = None
    last: Execution | None = None
    account: Account = field(default_factory=Account)
    approvals: dict[ApprovalId, Approval] = field(default_factory=dict)
    conversation: Conversation | None = None
    accepted: frozenset[str] | None = None
    partial: Partial = field(default_factory=Partial)
    verdict: ExecutionStatus | None = None
    killed: bool = False
    silent_from: int = 0
    attempts: int = 0
    has_slot: bool = False
    heard: bool = False
    turn_due: float = 0.0
    _encoded: bytes = b""
    _encoded_of: tuple[object, ...] = ()

    @property
    def project(self) -> Project:
        """The project as it is stored."""
        return self.log.project

    @property
    def work(self) -> Work:
        """What the agent's process is doing."""
        return self.account.work

    @property
    def works_alone(self) -> bool:
        """Whether a subagent, or a turn that the CLI began by itself, runs while no prompt does."""
        return self.current is None and self.work.is_agent_working

    @property
    def is_busy(self) -> bool:
        """Whether the agent does or awaits something: a prompt, a turn, a task, or an answer."""
        work = self.work
        return bool(self.current is not None or work.turn or work.tasks or self.approvals)

    @property
    def is_turn_due(self) -> bool:
        """Whether the CLI may be about to begin a turn by itself, since a task has just ended."""
        return time.monotonic() < self.turn_due

    @property
    def is_engaged(self) -> bool:
        """Whether something would be lost with the process."""
        return self.is_busy or self.is_turn_due

    @property
    def shown(self) -> ProjectState:
        """What clients are told that the project is doing."""
        return ProjectState.EXECUTING if self.works_alone else self.project.state

    def awaited(self) -> dict[ApprovalId, Approval]:
        """The tool requests that the turn of `current` waits for; those of subagents next to it are others."""
        return {key: approval for key, approval in self.approvals.items() if waits_for(approval, self.work)}

    def view(self) -> ProjectStateData:
        """The payload of `project_state`."""
        return view.project_state(
            self.project,
            state=self.shown,
            permission_mode=self.work.permission_mode,
            tasks=self.work.tasks,
            session_title=self.conversation.title if self.conversation is not None else None,
            queue_depth=len(self.queue),
            pending_approvals=len(self.approvals),
        )

    def encoded_view(self) -> bytes:
        """The same as JSON, encoded again only when it changed."""
        of = (self.log.project, self.conversation, self.account, self.current, len(self.queue), len(self.approvals))
        if self._encoded_of != of:
            self._encoded, self._encoded_of = encode_data(self.view()), of
        return self._encoded

    def queued(self) -> list[QueuedPrompt]:
        """The prompts that wait, as clients see them."""
        return view.queue_state(self.queue, None).queue

    def pending(self) -> list[ApprovalRequestedData]:
        """The tool requests that wait, oldest first, as clients see them."""
        shown = []
        for approval in self.approvals.values():
            request = control.read_permission_request(approval.request_id, approval.request)
            if request is not None:
                shown.append(view.approval_requested(approval, request))
        return shown

    def announce(self, *, queue: bool = False) -> list[Draft]:
        """Live frames that tell how things are now."""
        drafts = [live_draft("project_state", self.view())]
        if queue:
            drafts.append(live_draft("queue_state", view.queue_state(self.queue, self.project.queue_hold)))
        return drafts

    def place_of(self, execution: Execution) -> int:
        """The place of an execution in the queue from 1, or 0 when it is not there."""
        for position, waiting in enumerate(self.queue, start=1):
            if waiting.id == execution.id:
                return position
        return 0
