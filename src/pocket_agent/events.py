"""The events of the server, each declared once with its log line, and the observers that receive them.

The core emits events to the `Observer` that it was given and has no access to logs, metrics or traces. A class
declares level and message of its log line; its fields become fields of the line as their types and annotations
say (`observability/structured_log.py`). Durations are in seconds, sizes in bytes, points in time in milliseconds
since the Unix epoch, money in United States dollars.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol, TypeVar, dataclass_transform

from pocket_agent import errors
from pocket_agent.model import ExecutionContext, ExecutionStatus, HoldReason, Milliseconds, ModelUsage

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogDeclaration:
    """Level and `msg` of the log line of a kind of event; events for which `warning_if` is true are warnings."""

    level: Level
    message: str
    warning_if: Callable[[Any], bool] = lambda _: False
    warning_message: str | None = None

    def line_of(self, event: "Event") -> tuple[Level, str]:
        """Level and message of the line of one event."""
        if self.warning_if(event):
            return "warning", self.warning_message or self.message
        return self.level, self.message


@dataclass(frozen=True, slots=True)
class LogField:
    """How a field of an event is logged, unless with its own name and value."""

    name: str | None = None  # the field's name in the line
    logged: bool = True
    unit: Literal["seconds", "usd"] | None = None  # `seconds` are logged as whole milliseconds, `usd` with six decimals
    redacted: bool = False  # whether secrets are removed, since the value quotes a user's configuration


NOT_LOGGED: Final = LogField(logged=False)
Seconds = Annotated[float, LogField(unit="seconds")]
"""A duration; logged in milliseconds, with `_ms` after its name."""


@dataclass(frozen=True, slots=True)
class Event:
    """Base class of all events; `log_as` is the log line, or the reason why there is none."""

    log_as: ClassVar[LogDeclaration | str]


EventT = TypeVar("EventT", bound=Event)
EVENTS: Final[list[type[Event]]] = []
"""Every kind of event, in the order of declaration."""


@dataclass_transform(frozen_default=True)
def declared(log_as: LogDeclaration | str) -> Callable[[type[EventT]], type[EventT]]:
    """Declare a kind of event with its log line, or with the reason why it has none."""

    def declare(kind: type[EventT]) -> type[EventT]:
        made = dataclass(frozen=True, slots=True)(kind)
        made.log_as = log_as
        EVENTS.append(made)
        return made

    return declare


@dataclass_transform(frozen_default=True)
def logged(level: Level, message: str, **warning: Any) -> Callable[[type[EventT]], type[EventT]]:
    """Declare a kind of event that is logged; the arguments are those of `LogDeclaration`."""
    return declared(LogDeclaration(level, message, **warning))


@logged("info", "server ready")
class ServerStarted(Event):
    """The server accepts connections; `addresses` are its URLs."""

    version: Annotated[str, NOT_LOGGED]
    addresses: tuple[str, ...]
    projects: int


@logged("info", "server stopping")
class ServerStopping(Event):
    reason: str


@logged("info", "server stopped")
class ServerStopped(Event):
    """The server has closed everything; agents that ran go on."""

    agents_left: Annotated[int, LogField("agents_left_running")]


@logged("info", "listening", warning_if=lambda event: not event.protected)
class ListenersOpened(Event):
    """Clients can connect, and at the `exposed` addresses from other machines. `protected`: only with a token."""

    addresses: tuple[str, ...]
    exposed: tuple[str, ...]
    protected: bool


@logged("info", "metrics served")
class MetricsServed(Event):
    """Scrapes are answered; `token_file` holds the token that they need, if any."""

    address: str
    token_file: str | None


@logged("info", "certificate loaded")
class CertificateLoaded(Event):
    not_after: datetime
    self_signed: bool


@logged("info", "settings reloaded", warning_if=lambda event: bool(event.deferred))
class SettingsReloaded(Event):
    """The settings were reloaded; those `changed` are in effect, those `deferred` take effect at the next start."""

    changed: tuple[str, ...]
    deferred: Annotated[tuple[str, ...], LogField("needs_restart")]


@logged("error", "settings not reloaded")
class SettingsRefused(Event):
    """The settings were read again and are not valid; the previous ones stay in effect."""

    reason: Annotated[str, LogField(redacted=True)]


@logged("warning", "setting ignored")
class SettingIgnored(Event):
    """A setting cannot be applied; the server continues without it."""

    setting: str
    reason: Annotated[str, LogField(redacted=True)]


@logged("warning", "claude vulnerable")
class CliVulnerable(Event):
    """Published security advisories affect the Claude Code CLI; `reason` names the version that fixes them."""

    version: Annotated[str, LogField("claude_version")]
    advisories: tuple[str, ...]
    reason: str


@logged("info", "health changed", warning_if=lambda event: event.status != "healthy")
class HealthChanged(Event):
    """A health check has another status than before (None: its first)."""

    check: str
    status: str
    previous: str | None
    message: str | None


ClientKind = Literal["web", "chat", "library", "other"]
"""The kind of a client, by its `User-Agent`."""


@logged("info", "connection opened")
class ConnectionOpened(Event):
    connection_id: Annotated[str, LogField("correlation_id")]
    device: str
    device_id: Annotated[str, NOT_LOGGED]
    remote: str
    client: ClientKind


REJECTIONS: Final[Mapping[str, type[errors.PocketAgentError]]] = {
    "unauthorized": errors.UnauthorizedError,
    "throttled": errors.RateLimitedError,
    "host": errors.ForbiddenError,
    "origin": errors.ForbiddenError,
    "rate": errors.RateLimitedError,
    "limit": errors.ResourceLimitError,
    "stopping": errors.ResourceLimitError,
}
"""The error of a refused connection, by the reason."""


@logged("warning", "connection rejected")
class ConnectionRejected(Event):
    """A connection was refused before it was accepted; `count`: refusals of this kind since the last event."""

    reason: Literal["unauthorized", "throttled", "host", "origin", "rate", "limit", "stopping"]
    remote: str
    count: int = 1
    attempt: Annotated[Literal["login", "pair"], NOT_LOGGED] = "login"

    @property
    def code(self) -> str:
        """The wire code of the refusal."""
        return REJECTIONS[self.reason].code


@logged("info", "connection closed")
class ConnectionClosed(Event):
    connection_id: Annotated[str, LogField("correlation_id")]
    device: str
    code: Annotated[int, LogField("close_code")]  # in an index of log lines a name has one type, and `code` is a text
    initiator: Literal["client", "server"]
    duration: Seconds
    client: ClientKind


@logged("info", "device paired")
class DevicePaired(Event):
    """A device exchanged a pairing code for its own token."""

    device: str
    remote: str


@logged("info", "device revoked")
class DeviceRevoked(Event):
    """A device may no longer connect; `by`: device that revoked it."""

    device: str
    by: str


@logged("info", "device rotated")
class DeviceRotated(Event):
    """A device has a new token; `by`: device that rotated it."""

    device: str
    by: str


@declared("one for each ping; the round trip is a metric")
class PongReceived(Event):
    connection_id: str
    duration: Seconds


@logged("warning", "slow consumer dropped")
class ConsumerDropped(Event):
    """A connection was closed because its transport accepted no data for too long."""

    connection_id: Annotated[str, LogField("correlation_id")]
    device: str


@logged("debug", "request handled")
class RequestHandled(Event):
    """A request was answered; `code` and `message` are those of the error, None without one."""

    type: str
    code: str | None
    duration: Seconds
    project_id: str | None
    correlation_id: str
    message: Annotated[str | None, NOT_LOGGED] = None


@logged("error", "request faulted")
class RequestFaulted(Event):
    """A request raised an exception; the client got INTERNAL_ERROR."""

    type: str
    correlation_id: str
    error: BaseException


@logged("info", "project created")
class ProjectCreated(Event):
    project_id: str
    correlation_id: str | None


@logged("info", "project deleted")
class ProjectDeleted(Event):
    project_id: str
    correlation_id: str | None


@logged("info", "conversation created")
class ConversationCreated(Event):
    """A client began another conversation; `worktree`: in a git worktree."""

    project_id: str
    conversation_id: str
    worktree: bool
    correlation_id: str | None


@logged("info", "conversation deleted")
class ConversationDeleted(Event):
    project_id: str
    conversation_id: str
    correlation_id: str | None


@logged("info", "project trusted")
class ProjectTrusted(Event):
    """A person accepted the claims of a project's own settings; `new` of them were new or changed."""

    project_id: str
    correlation_id: str | None
    new: int


@logged("error", "project faulted")
class ProjectFaulted(Event):
    """The task of a project raised an exception; it is restarted from what is stored."""

    project_id: str
    error: BaseException


@logged("error", "background task faulted")
class TaskFaulted(Event):
    """A background task of the server raised an exception; it is restarted after a pause."""

    task: str
    error: BaseException


@logged("debug", "execution queued")
class ExecutionQueued(Event):
    """A prompt was accepted; `place`: its place in the queue, 0 when it starts at once."""

    context: ExecutionContext
    place: int


@logged("warning", "execution delayed")
class ExecutionDelayed(Event):
    """The next prompt of a queue cannot start now; it keeps its place."""

    context: ExecutionContext
    code: str
    reason: str


@logged("info", "execution withdrawn")
class ExecutionWithdrawn(Event):
    context: ExecutionContext
    created_at: Annotated[Milliseconds, NOT_LOGGED]


@logged("debug", "execution started")
class ExecutionStarted(Event):
    """A prompt was written to the agent."""

    context: ExecutionContext
    warm: bool  # whether the agent's process was running
    queued: Seconds  # time from the prompt's arrival until its turn
    preparation: Seconds  # time from its turn until the agent's process was running and the start was stored


@logged("warning", "execution paused")
class ExecutionPaused(Event):
    """An execution stopped before its end, for a usage limit or since its process was lost, and is to continue."""

    context: ExecutionContext
    reason: HoldReason
    until: Milliseconds | None  # when it continues by itself; None when a client has to decide
    duration: Seconds


@logged("info", "execution continued")
class ExecutionContinued(Event):
    """A paused execution continues; `waited`: the time it has spent paused and waiting for approvals."""

    context: ExecutionContext
    reason: HoldReason
    waited: Seconds


@logged("debug", "first message received")
class FirstMessageReceived(Event):
    context: ExecutionContext
    duration: Seconds


_CODE_OF_STATUS: Final = {
    ExecutionStatus.ERROR: errors.ExecutionFailedError.code,
    ExecutionStatus.TIMEOUT: errors.ExecutionTimeoutError.code,
}


@logged(
    "info",
    "Execution completed",
    warning_if=lambda event: event.status in {ExecutionStatus.ERROR, ExecutionStatus.TIMEOUT},
    warning_message="Execution failed",
)
class ExecutionFinished(Event):
    """An execution ended; `started_at` is the time when the prompt was written to the agent, if it was."""

    context: ExecutionContext
    status: ExecutionStatus
    created_at: Annotated[Milliseconds, NOT_LOGGED]
    started_at: Annotated[Milliseconds | None, NOT_LOGGED]
    finished_at: Annotated[Milliseconds, NOT_LOGGED]
    duration: Seconds  # time from `started_at` to the end
    waited: Seconds  # the part of it that was spent waiting for approvals
    code: str | None  # the wire code of the error that ended it
    session_id: str | None
    model: str | None  # the model that answered
    usage: tuple[ModelUsage, ...]  # by model, as the CLI reported it
    requested_model: Annotated[str | None, NOT_LOGGED] = None  # the model that the prompt requested
    was_paused: Annotated[bool, NOT_LOGGED] = False  # `waited` then has the time paused as well

    @property
    def measured(self) -> float:
        """Seconds from the start to the end; without the time paused, and the waits, of one that was paused."""
        return max(0.0, self.duration - self.waited) if self.was_paused else self.duration

    @property
    def error_code(self) -> str | None:
        """The wire code of the error, derived from the status if the event has no `code`."""
        return self.code or _CODE_OF_STATUS.get(self.status)


@logged("info", "usage added after the end")
class UsageAdded(Event):
    """Usage by model that no `ExecutionFinished` has: of a background task after it, of a paused prompt withdrawn."""

    project_id: str
    context: ExecutionContext | None
    usage: tuple[ModelUsage, ...]


@logged("info", "approval requested")
class ApprovalRequested(Event):
    """The agent asks to use a tool; without a `context` when no execution runs."""

    project_id: str
    conversation_id: Annotated[str, NOT_LOGGED]
    context: ExecutionContext | None
    approval_id: str
    tool: str


Behavior = Literal["allow", "deny", "cancelled"]


@logged("info", "approval resolved")
class ApprovalResolved(Event):
    """A tool request was answered, or withdrawn (`cancelled`, `by` None)."""

    project_id: str
    context: ExecutionContext | None
    approval_id: str
    tool: str
    behavior: Behavior
    by: str | None
    requested_at: Annotated[Milliseconds, NOT_LOGGED]
    waited: Annotated[float, LogField("duration_ms", unit="seconds")]


@logged("debug", "tool completed")
class ToolCompleted(Event):
    """A tool call of an agent ended; `duration` is without the wait for its approval, 0 when it is not known."""

    project_id: str
    context: ExecutionContext | None
    tool: str
    outcome: Literal["success", "error", "denied"]
    duration: Seconds
    decision: Literal["accept", "reject"]


@declared("one for each request of an agent; the duration is a metric")
class ApiRequestAnswered(Event):
    """The API answered a request of an agent, not of a subagent; `duration` ends with the end of the answer."""

    project_id: str
    context: ExecutionContext | None
    duration: Seconds


@logged("info", "process spawned")
class ProcessSpawned(Event):
    project_id: str
    context: ExecutionContext | None
    pid: int
    duration: Seconds


@logged("info", "process adopted")
class ProcessAdopted(Event):
    """A CLI process of an earlier run of the server was found alive and adopted."""

    project_id: str
    pid: int


@logged("info", "process exited")
class ProcessExited(Event):
    """A CLI process exited; None as `code` if it is not known."""

    project_id: str
    pid: int
    code: Annotated[int | None, LogField("exit_code")]


@logged("warning", "line rejected")
class LineRejected(Event):
    """The CLI printed a line that its protocol does not have."""

    project_id: str
    context: ExecutionContext | None
    reason: str


@logged("debug", "storage committed")
class StorageCommitted(Event):
    """A write of a project is committed; `duration` is the time since it was handed to the store."""

    project_id: str
    context: ExecutionContext | None
    entries: int
    duration: Seconds


@logged("error", "storage failed")
class StorageFailed(Event):
    """The store refused a write, which is retried."""

    project_id: str
    context: ExecutionContext | None
    reason: str


@logged("warning", "epoch renewed")
class EpochRenewed(Event):
    """A client has seen entries that the log no longer has, so the log got a new epoch."""

    project_id: str


@logged("error", "audit failed")
class AuditFailed(Event):
    """Records could not be written to the audit log; they are kept and retried."""

    reason: str


@logged("warning", "notification lost")
class NotificationLost(Event):
    """A notification did not reach `address`, its place in the settings; at most one event a minute for each."""

    address: Annotated[str, LogField("destination")]
    reason: str


@logged("warning", "budget exceeded")
class BudgetExceeded(Event):
    """The executions of the day cost more than the limit; `refusing`: none starts before `until`."""

    spent_usd: Annotated[float, LogField(unit="usd")]
    limit_usd: float
    refusing: bool
    until: Milliseconds


class Observer(Protocol):
    """Receives events. `emit` never blocks and never raises."""

    def emit(self, event: Event) -> None:
        """Receive an event."""


class Propagator:
    """Passes the trace of an execution to its agent; this base class is used when tracing is off."""

    mark = ""  # identifies the telemetry settings that a process was started with

    def environment(self, context: ExecutionContext) -> Mapping[str, str]:
        """Variables that make a new process join the trace."""
        return {}

    def prompt_environment(self, context: ExecutionContext) -> Mapping[str, str]:
        """The variables that change with each prompt, for a running process."""
        return {}
