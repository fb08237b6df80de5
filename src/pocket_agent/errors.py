"""The exceptions of the project as one tree; each class has the error code that clients get.

The codes are part of the protocol (docs/protocol.md, "Errors"). A handler raises; the connection turns the exception
into one `error` frame. Messages are for users and name no path outside the project.
"""

from collections.abc import Mapping
from typing import ClassVar


class PocketAgentError(Exception):
    """The root of the tree.

    Attributes:
        code: the wire code, stable across versions.
        message: one or two sentences for the user.
        details: machine-readable values (JSON); may be empty.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, object] = dict(details or {})


class InternalError(PocketAgentError):
    """A fault of the server itself; what happened is in its log."""


class InvalidMessageError(PocketAgentError):
    """The frame is not a message of the protocol."""

    code = "INVALID_MESSAGE"


class ValidationError(PocketAgentError):
    """The message is well formed, a value in it is not acceptable."""

    code = "VALIDATION_FAILED"


class InvalidPathError(PocketAgentError):
    """A project path that is relative, missing, not a directory, or outside the allowed roots."""

    code = "INVALID_PATH"


class ProjectNestingError(PocketAgentError):
    """A project inside another project, or around one."""

    code = "PROJECT_NESTING"


class ProjectExistsError(PocketAgentError):
    """The directory is a project already."""

    code = "PROJECT_EXISTS"


class ProjectNotFoundError(PocketAgentError):
    """There is no such project."""

    code = "PROJECT_NOT_FOUND"


class ProjectLimitError(PocketAgentError):
    """`limits.max_projects` is reached."""

    code = "PROJECT_LIMIT"


class ProcessActiveError(PocketAgentError):
    """Not while an execution, a subagent or a command in the background runs."""

    code = "PROCESS_ACTIVE"


class ProcessNotFoundError(PocketAgentError):
    """Nothing is running, or the named execution is not there to be acted on."""

    code = "PROCESS_NOT_FOUND"


class ApprovalNotFoundError(PocketAgentError):
    """The approval does not exist, or was answered or withdrawn already."""

    code = "APPROVAL_NOT_FOUND"


class ExecutionTimeoutError(PocketAgentError):
    """The execution ran longer than `timeouts.execution`."""

    code = "EXECUTION_TIMEOUT"


class ExecutionFailedError(PocketAgentError):
    """The CLI ended, or answered with an error, before the execution was done."""

    code = "EXECUTION_FAILED"


class DirectoryUnavailableError(ExecutionFailedError):
    """The project's directory is gone, was replaced by a link, or may not be entered."""


class ClaudeNotFoundError(PocketAgentError):
    """The Claude Code CLI is missing, cannot be started, or is too old."""

    code = "CLAUDE_NOT_FOUND"


class TrustRequiredError(PocketAgentError):
    """The directory's settings have the CLI do something that no user has accepted (`project_trust`)."""

    code = "TRUST_REQUIRED"


class ResourceLimitError(PocketAgentError):
    """A limit of the server is reached (connections, queue, disk space)."""

    code = "RESOURCE_LIMIT"


class RateLimitedError(PocketAgentError):
    """Too many requests in too short a time."""

    code = "RATE_LIMITED"


class UnauthorizedError(PocketAgentError):
    """No valid token."""

    code = "UNAUTHORIZED"


class ForbiddenError(PocketAgentError):
    """A valid token that may not do this."""

    code = "FORBIDDEN"


class FileOperationError(PocketAgentError):
    """The disk or the database refused a read or a write."""

    code = "FILE_OPERATION"


class ConfigurationError(PocketAgentError):
    """A setting that cannot be used; the message names the setting, its source and its line."""


class SchemaTooNewError(FileOperationError):
    """The database was written by a newer version of this program."""
