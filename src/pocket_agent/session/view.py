"""How a project looks to clients: core values as the payloads of the protocol."""

from collections.abc import Sequence

import msgspec

from pocket_agent.claude import control
from pocket_agent.claude.control import PermissionRequest
from pocket_agent.model import (
    Approval,
    BackgroundTask,
    Execution,
    ExecutionSummary,
    Milliseconds,
    Project,
    ProjectState,
    QueueHold,
    Session,
)
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.push import (
    ApprovalRequestedData,
    BackgroundTaskData,
    ProjectStateData,
    QueuedPrompt,
    QueueHoldData,
    QueueStateData,
)
from pocket_agent.protocol.requests import ExecutionData, SessionData, UsageData


def project_state(
    project: Project,
    *,
    queue_depth: int,
    pending_approvals: int,
    state: ProjectState | None = None,
    permission_mode: str | None = None,
    tasks: Sequence[BackgroundTask] = (),
    session_title: str | None = None,
) -> ProjectStateData:
    """The `project_state` of a project.

    Args:
        project: as it is stored.
        queue_depth, pending_approvals: how many prompts and tool requests wait.
        state: what it is doing, where more is known than what is stored.
        permission_mode: the one that holds in its process, if there is one.
        tasks: what runs in the background.
        session_title: of the conversation.
    """
    return ProjectStateData(
        id=project.id,
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
        queue_hold=queue_hold(project.queue_hold),
        tasks=[BackgroundTaskData(task.id, task.type, task.description) for task in tasks],
        session_title=session_title,
    )


def queue_hold(hold: QueueHold | None) -> QueueHoldData | None:
    """Why the prompts that wait do not start."""
    return QueueHoldData(hold.reason, hold.message, timestamp(hold.since)) if hold is not None else None


def queue_state(queue: Sequence[Execution], hold: QueueHold | None) -> QueueStateData:
    """The prompts that wait."""
    return QueueStateData(
        queue=[
            QueuedPrompt(
                execution_id=execution.id,
                prompt=execution.prompt,
                position=position,
                created_at=timestamp(execution.created_at),
            )
            for position, execution in enumerate(queue, start=1)
        ],
        queue_hold=queue_hold(hold),
    )


def approval_requested(approval: Approval, request: PermissionRequest) -> ApprovalRequestedData:
    """A tool request of the agent; what it would do stays as the agent wrote it."""
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


def session(value: Session, *, current: bool) -> SessionData:
    """A conversation in `session_list`."""
    return SessionData(
        session_id=value.id,
        title=value.title,
        created_at=timestamp(value.created_at),
        last_active=timestamp(value.last_active),
        current=current,
    )


def execution(value: ExecutionSummary) -> ExecutionData:
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


def _optional_timestamp(at: Milliseconds | None) -> str | None:
    return timestamp(at) if at is not None else None
