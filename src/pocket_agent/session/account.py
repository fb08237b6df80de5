"""What is told of an execution that is over: how it ended, how long it took, what it used."""

from pocket_agent.events import ExecutionFinished
from pocket_agent.model import Execution, ModelUsage, Project
from pocket_agent.session.log import now


def execution_event(
    execution: Execution, project: Project, code: str | None, model: str | None, usage: tuple[ModelUsage, ...]
) -> ExecutionFinished:
    """The event of an execution's end.

    Args:
        execution: as it is now, final.
        project: its project.
        code: the wire code of the error that ended it.
        model: the model that answered.
        usage: what it used, by model.
    """
    finished_at = execution.finished_at if execution.finished_at is not None else now()
    began = execution.started_at if execution.started_at is not None else finished_at
    return ExecutionFinished(
        context=execution.context,
        status=execution.status,
        created_at=execution.created_at,
        started_at=execution.started_at,
        finished_at=finished_at,
        duration=(finished_at - began) / 1000,
        waited=execution.waited_ms / 1000,
        code=code,
        session_id=project.session_id,
        model=model,
        usage=usage,
    )
