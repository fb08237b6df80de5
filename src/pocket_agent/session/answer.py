"""A client's answer to a tool request: the line that goes to the CLI, and what is told of it."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from pocket_agent.claude import control
from pocket_agent.errors import InternalError
from pocket_agent.events import ApprovalResolved
from pocket_agent.model import Approval, ApprovalStatus, Execution, Work
from pocket_agent.session.log import tick

_DENIED = "The user denied this."


def permission_answer(
    approval: Approval,
    *,
    allow: bool,
    message: str | None,
    updated_input: Mapping[str, msgspec.Raw] | None,
    remember: bool,
) -> bytes:
    """The control response (one line).

    Args:
        approval: what is answered.
        allow: whether the tool may be used.
        message: for a denial, what the model reads.
        updated_input: what the tool is called with instead of what the agent asked for.
        remember: also allow what `suggestions` lists, for the rest of this session.
    """
    if not allow:
        return control.deny(approval.request_id, message or _DENIED)
    request = control.read_permission_request(approval.request_id, approval.request)
    if request is None:
        raise InternalError("A stored tool request cannot be read.")
    suggestions = control.remembered(request)
    return control.allow(
        approval.request_id,
        msgspec.json.encode(updated_input) if updated_input is not None else bytes(request.input),
        control.for_session(suggestions) if remember and suggestions is not None else None,
    )


def suggestions(approval: Approval) -> msgspec.Raw | None:
    """What `remember` sends to the CLI with an allowance; None when it suggests nothing."""
    request = control.read_permission_request(approval.request_id, approval.request)
    return control.remembered(request) if request is not None else None


def changes_input(approval: Approval, updated_input: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a client's input differs from what the agent asked for by more than the answers to its questions.

    The CLI takes the answers to `AskUserQuestion` as the field `answers` of its input.
    """
    request = control.read_permission_request(approval.request_id, approval.request)
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
    """The tool that a request is about, as the agent calls it; empty when the request cannot be read."""
    request = control.read_permission_request(approval.request_id, approval.request)
    return request.tool_name if request is not None else ""


def agent_id(approval: Approval) -> str | None:
    """The subagent that asks; None for the main thread."""
    request = control.read_permission_request(approval.request_id, approval.request)
    return request.agent_id if request is not None else None


def waits_for(approval: Approval, work: Work) -> bool:
    """Whether the turn waits for an approval: unless a subagent asks that runs next to it."""
    asking = agent_id(approval)
    return asking is None or all(task.id != asking for task in work.tasks)


def approval_event(approval: Approval, execution: Execution | None) -> ApprovalResolved:
    """The event of a request that was answered or withdrawn just now.

    Args:
        approval: as it is now, resolved.
        execution: the one that runs.
    """
    behavior: Literal["allow", "deny", "cancelled"]
    match approval.status:
        case ApprovalStatus.ALLOWED:
            behavior = "allow"
        case ApprovalStatus.DENIED:
            behavior = "deny"
        case _:
            behavior = "cancelled"
    since = approval.created_tick
    return ApprovalResolved(
        project_id=approval.project_id,
        context=execution.context if execution is not None else None,
        approval_id=approval.id,
        tool=tool_name(approval),
        behavior=behavior,
        by=approval.by,
        requested_at=approval.created_at,
        waited=max(0, tick() - since) / 1000 if since is not None else 0.0,
    )
