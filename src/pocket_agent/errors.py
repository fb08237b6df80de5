"""The tree of errors; each class has the code that clients receive.

The codes are the contract of docs/protocol.md ("Errors"). A handler raises; the connection
converts the exception to one `error` frame. Messages are for users and contain no path outside
the project.
"""

from collections.abc import Mapping
from typing import ClassVar


class PocketAgentError(Exception):
    """The root of the tree.

    Attributes:
        code: the wire code, stable across versions.
        message: one or two sentences for a user.
        details: machine-readable facts (JSON values), empty when there are none.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, object] = dict(details or {})


class InternalError(PocketAgentError):
    """An internal error of the server; its log has the traceback."""


class InvalidMessageError(PocketAgentError):
    """The frame is not a message of the protocol."""

    code = "INVALID_MESSAGE"


class ValidationError(PocketAgentError):
    """The message is well-formed, but a value in it is invalid."""

    code = "VALIDATION_FAILED"


class InvalidPathError(PocketAgentError):
    """A project path that is relative, missing, not a directory, or outside the allowed roots."""

    code = "INVALID_PATH"


class ProjectNestingError(PocketAgentError):
    """The project would be inside another project, or contain one."""

    code = "PROJECT_NESTING"


class ProjectExistsError(PocketAgentError):
    """The directory is already a project."""

    code = "PROJECT_EXISTS"


class ProjectNotFoundError(PocketAgentError):
    """The project does not exist."""

    code = "PROJECT_NOT_FOUND"


class ProjectLimitError(PocketAgentError):
    """`limits.max_projects` is reached."""

    code = "PROJECT_LIMIT"


class ProcessActiveError(PocketAgentError):
    """Refused while an execution, a subagent or a background command runs."""

    code = "PROCESS_ACTIVE"


class ProcessNotFoundError(PocketAgentError):
    """Nothing is running, or the execution does not exist."""

    code = "PROCESS_NOT_FOUND"


class ApprovalNotFoundError(PocketAgentError):
    """The approval does not exist, or was already answered or withdrawn."""

    code = "APPROVAL_NOT_FOUND"


class ExecutionTimeoutError(PocketAgentError):
    """The execution ran longer than `timeouts.execution`."""

    code = "EXECUTION_TIMEOUT"


class ExecutionFailedError(PocketAgentError):
    """The CLI exited, or reported an error, before the end of the execution."""

    code = "EXECUTION_FAILED"


class DirectoryUnavailableError(ExecutionFailedError):
    """The project's directory is missing, was replaced by a link, or is not accessible."""


class ClaudeNotFoundError(PocketAgentError):
    """The Claude Code CLI is missing, cannot be started, or is too old."""

    code = "CLAUDE_NOT_FOUND"


class TrustRequiredError(PocketAgentError):
    """The directory's settings have claims that have not been accepted (`project_trust`)."""

    code = "TRUST_REQUIRED"


class ResourceLimitError(PocketAgentError):
    """A limit of the server is reached (connections, queue, disk space)."""

    code = "RESOURCE_LIMIT"


class RateLimitedError(PocketAgentError):
    """The rate limit was exceeded."""

    code = "RATE_LIMITED"


class UnauthorizedError(PocketAgentError):
    """The token is missing or invalid."""

    code = "UNAUTHORIZED"


class ForbiddenError(PocketAgentError):
    """The device is not permitted to do this."""

    code = "FORBIDDEN"


class FileOperationError(PocketAgentError):
    """The disk or the database refused a read or a write."""

    code = "FILE_OPERATION"


class ConfigurationError(PocketAgentError):
    """A setting is invalid; the message names the setting, its source and its line."""


class SchemaTooNewError(FileOperationError):
    """The database was written by a newer version of this program."""
