"""A client's answer to a tool request, as the line that goes to the CLI."""

from collections.abc import Mapping

import msgspec

from pocket_agent.claude import control
from pocket_agent.errors import InternalError
from pocket_agent.model import Approval

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
