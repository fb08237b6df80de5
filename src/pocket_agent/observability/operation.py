"""What errors happen to: the operation of each request, and the errors that each operation can meet."""

from collections.abc import Mapping
from typing import Final

from pocket_agent import errors
from pocket_agent.errors import PocketAgentError
from pocket_agent.model import ExecutionStatus

OPERATION_OF: Final[Mapping[str, str]] = {
    "invalid": "protocol",
    "project_create": "project",
    "project_list": "project",
    "project_delete": "project",
    "project_join": "project",
    "project_leave": "project",
    "watch": "project",
    "path_complete": "project",
    "path_inspect": "project",
    "project_trust": "project",
    "execute": "execute",
    "prompt_edit": "execute",
    "prompt_cancel": "execute",
    "queue_resume": "execute",
    "agent_kill": "agent",
    "agent_interrupt": "agent",
    "agent_new_session": "agent",
    "session_resume": "agent",
    "set_model": "agent",
    "set_permission_mode": "agent",
    "approval_respond": "approval",
    "get_messages": "history",
    "session_list": "history",
    "execution_list": "history",
    "device_list": "device",
    "device_rename": "device",
    "device_revoke": "device",
    "device_rotate": "device",
    "pairing_start": "device",
    "pairing_cancel": "device",
    "health_check": "server",
    "server_stats": "server",
    "server_history": "server",
    "server_overview": "server",
}
"""The operation of each type of request; `invalid` is a frame that is none."""

_OF_PROJECT: Final = (
    errors.ForbiddenError,
    errors.ValidationError,
    errors.ProjectNotFoundError,
    errors.FileOperationError,
    errors.InternalError,
)
"""What every request that concerns a project can meet."""
_POSSIBLE: Final[Mapping[str, tuple[type[PocketAgentError], ...]]] = {
    "protocol": (errors.InvalidMessageError, errors.ValidationError, errors.RateLimitedError),
    "project": (
        *_OF_PROJECT,
        errors.InvalidPathError,
        errors.ProjectExistsError,
        errors.ProjectNestingError,
        errors.ProjectLimitError,
        errors.ProcessActiveError,
    ),
    "execute": (
        *_OF_PROJECT,
        errors.InvalidPathError,
        errors.ResourceLimitError,
        errors.ClaudeNotFoundError,
        errors.ExecutionFailedError,
        errors.ProcessActiveError,
        errors.ProcessNotFoundError,
    ),
    "agent": (*_OF_PROJECT, errors.ProcessActiveError, errors.ProcessNotFoundError),
    "approval": (*_OF_PROJECT, errors.ApprovalNotFoundError),
    # These requests are for every device, so none is refused as FORBIDDEN.
    "history": tuple(error for error in _OF_PROJECT if error is not errors.ForbiddenError),
    "device": (
        *_OF_PROJECT,
        errors.ResourceLimitError,
    ),
    "server": (errors.ForbiddenError, errors.InternalError),
    "execution": (
        errors.ExecutionFailedError,
        errors.ExecutionTimeoutError,
        errors.ProcessActiveError,
        errors.ClaudeNotFoundError,
        errors.ResourceLimitError,
        errors.FileOperationError,
        errors.ForbiddenError,
        errors.InvalidPathError,
        errors.TrustRequiredError,
        errors.InternalError,
    ),
    "storage": (errors.FileOperationError,),
    "connection": (
        errors.UnauthorizedError,
        errors.ForbiddenError,
        errors.RateLimitedError,
        errors.ResourceLimitError,
    ),
}
"""Beside requests: `execution` is one that ends, or cannot begin; `storage` a write that is tried again."""

ERRORS: Final = (
    *((error.code, operation) for operation, possible in _POSSIBLE.items() for error in possible),
    ("other", "other"),
)
"""Code and operation of each error that can happen."""
OPERATIONS: Final = (*_POSSIBLE, "other")
SERVER_CODES: Final = frozenset(
    error.code
    for error in (
        errors.InternalError,
        errors.FileOperationError,
        errors.ClaudeNotFoundError,
        errors.ExecutionFailedError,
        errors.ExecutionTimeoutError,
    )
)
"""The codes of the server's own faults; every other one is a client's mistake."""
CODE_OF_STATUS: Final[Mapping[ExecutionStatus, str]] = {
    ExecutionStatus.ERROR: errors.ExecutionFailedError.code,
    ExecutionStatus.TIMEOUT: errors.ExecutionTimeoutError.code,
}
"""The code of an end for which the event names none."""
CODE_OF_REJECTION: Final[Mapping[str, str]] = {
    "unauthorized": errors.UnauthorizedError.code,
    "throttled": errors.RateLimitedError.code,
    "host": errors.ForbiddenError.code,
    "origin": errors.ForbiddenError.code,
    "rate": errors.RateLimitedError.code,
    "limit": errors.ResourceLimitError.code,
    "stopping": errors.ResourceLimitError.code,
}
"""The code of a connection that was refused, by the reason."""
