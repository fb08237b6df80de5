"""A client's answer to a tool request: the line that goes to the CLI, and what is told of it."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from pocket_agent.claude import control
from pocket_agent.errors import InternalError
from pocket_agent.events import ApprovalResolved
from pocket_agent.model import Approval, ApprovalStatus, Execution

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
        remember: allow what the agent suggests for the rest of this session.
    """
    if not allow:
        return control.deny(approval.request_id, message or _DENIED)
    request = control.read_permission_request(approval.request_id, approval.request)
    if request is None:
        raise InternalError("A stored tool request cannot be read.")
    suggestions = request.permission_suggestions
    return control.allow(
        approval.request_id,
        msgspec.json.encode(updated_input) if updated_input is not None else bytes(request.input),
        control.for_session(suggestions) if remember and suggestions is not None else None,
    )


def suggestions(approval: Approval) -> msgspec.Raw | None:
    """What the CLI says would make the question unnecessary; None when it says nothing."""
    request = control.read_permission_request(approval.request_id, approval.request)
    return request.permission_suggestions if request is not None else None


def tool_name(approval: Approval) -> str:
    """The tool that a request is about, as the agent calls it; empty when the request cannot be read."""
    request = control.read_permission_request(approval.request_id, approval.request)
    return request.tool_name if request is not None else ""


def approval_event(approval: Approval, execution: Execution | None) -> ApprovalResolved:
    """What is told of a request that is answered or withdrawn.

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
    resolved_at = approval.resolved_at if approval.resolved_at is not None else approval.created_at
    return ApprovalResolved(
        project_id=approval.project_id,
        context=execution.context if execution is not None else None,
        approval_id=approval.id,
        tool=tool_name(approval),
        behavior=behavior,
        by=approval.by,
        requested_at=approval.created_at,
        waited=(resolved_at - approval.created_at) / 1000,
    )
