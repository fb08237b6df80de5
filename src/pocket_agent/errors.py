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

    def __init_subclass__(cls, code: str | None = None) -> None:
        if code is not None:
            cls.code = code

    def __init__(self, message: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, object] = dict(details or {})


class InternalError(PocketAgentError):
    """A fault of the server itself; what happened is in its log."""


class InvalidMessageError(PocketAgentError, code="INVALID_MESSAGE"):
    """The frame is not a message of the protocol."""


class ValidationError(PocketAgentError, code="VALIDATION_FAILED"):
    """The message is well formed, a value in it is not acceptable."""


class InvalidPathError(PocketAgentError, code="INVALID_PATH"):
    """A project path that is relative, missing, not a directory, or outside the allowed roots."""


class MissingPathError(InvalidPathError):
    """A path that does not exist, or cannot be read, at the moment."""


class ProjectNestingError(PocketAgentError, code="PROJECT_NESTING"):
    """A project inside another project, or around one."""


class ProjectExistsError(PocketAgentError, code="PROJECT_EXISTS"):
    """The directory is a project already."""


class ProjectNotFoundError(PocketAgentError, code="PROJECT_NOT_FOUND"):
    """There is no such project."""


class ProjectLimitError(PocketAgentError, code="PROJECT_LIMIT"):
    """`limits.max_projects` is reached."""


class ProcessActiveError(PocketAgentError, code="PROCESS_ACTIVE"):
    """Not while an execution, a subagent or a command in the background runs."""


class SessionOpenError(ProcessActiveError):
    """A terminal has the CLI's session open."""


class ProcessNotFoundError(PocketAgentError, code="PROCESS_NOT_FOUND"):
    """Nothing is running, or the named execution is not there to be acted on."""


class ApprovalNotFoundError(PocketAgentError, code="APPROVAL_NOT_FOUND"):
    """The approval does not exist, or was answered or withdrawn already."""


class ExecutionTimeoutError(PocketAgentError, code="EXECUTION_TIMEOUT"):
    """The execution ran longer than `timeouts.execution`."""


class ExecutionFailedError(PocketAgentError, code="EXECUTION_FAILED"):
    """The CLI ended, or answered with an error, before the execution was done."""


class DirectoryUnavailableError(ExecutionFailedError):
    """The project's directory is gone, was replaced by a link, or may not be entered."""


class ClaudeNotFoundError(PocketAgentError, code="CLAUDE_NOT_FOUND"):
    """The Claude Code CLI is missing, cannot be started, or is too old."""


class TrustRequiredError(PocketAgentError, code="TRUST_REQUIRED"):
    """The directory's settings have the CLI do something that no user has accepted (`project_trust`)."""


class ResourceLimitError(PocketAgentError, code="RESOURCE_LIMIT"):
    """A limit of the server is reached (connections, queue, disk space)."""


class RateLimitedError(PocketAgentError, code="RATE_LIMITED"):
    """Too many requests in too short a time."""


class UnauthorizedError(PocketAgentError, code="UNAUTHORIZED"):
    """No valid token."""


class ForbiddenError(PocketAgentError, code="FORBIDDEN"):
    """A valid token that may not do this."""


class FileOperationError(PocketAgentError, code="FILE_OPERATION"):
    """The disk or the database refused a read or a write."""


class ConfigurationError(PocketAgentError):
    """A setting that cannot be used; the message names the setting, its source and its line."""


class SchemaTooNewError(FileOperationError):
    """The database was written by a newer version of this program."""
