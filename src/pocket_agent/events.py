"""What happened, as typed values in the past tense, and who is told.

The core emits these to the `Observer` it was given and knows nothing of logs, metrics or traces;
`observability/` maps them. Durations are in seconds, sizes in bytes, points in time milliseconds
since the Unix epoch, money United States dollars.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from pocket_agent.model import ExecutionContext, ExecutionStatus, Milliseconds, ModelUsage


@dataclass(frozen=True, slots=True)
class ServerStarted:
    """The server answers; `addresses` are its URLs."""

    version: str
    addresses: tuple[str, ...]
    projects: int


@dataclass(frozen=True, slots=True)
class ServerStopping:
    """New work is refused from here on."""

    reason: str


@dataclass(frozen=True, slots=True)
class ServerStopped:
    """Everything is closed; agents that ran still run."""

    agents_left: int


@dataclass(frozen=True, slots=True)
class ListenersOpened:
    """Clients can connect; by the `exposed` addresses from other machines, too. `protected`: only with a token."""

    addresses: tuple[str, ...]
    exposed: tuple[str, ...]
    protected: bool


@dataclass(frozen=True, slots=True)
class MetricsServed:
    """A scrape is answered from here on; `token_file` holds what it has to show, None when that is nothing."""

    address: str
    token_file: str | None


@dataclass(frozen=True, slots=True)
class CertificateLoaded:
    """A TLS certificate is in use from here on."""

    not_after: datetime
    self_signed: bool


@dataclass(frozen=True, slots=True)
class SettingsReloaded:
    """The settings were read again; those `changed` count from here on, those `deferred` from the next start on."""

    changed: tuple[str, ...]
    deferred: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingsRefused:
    """The settings were read again and cannot be used; all stays as it was."""

    reason: str


@dataclass(frozen=True, slots=True)
class SettingIgnored:
    """Something that was asked for is not possible; the server goes on without it."""

    setting: str
    reason: str


@dataclass(frozen=True, slots=True)
class CliVulnerable:
    """Published security advisories affect the Claude Code CLI; `reason` names the version that fixes them."""

    version: str
    advisories: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """A health check gives another status than before (None: its first)."""

    check: str
    status: str
    previous: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A client is in."""

    connection_id: str
    device: str
    device_id: str
    remote: str


@dataclass(frozen=True, slots=True)
class ConnectionRejected:
    """A client was turned away before it was in; `count`: so often since that was last told; `attempt`: at what."""

    reason: Literal["unauthorized", "throttled", "host", "origin", "rate", "limit", "stopping"]
    remote: str
    count: int = 1
    attempt: Literal["login", "pair"] = "login"


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """A client is gone. `initiator` is who closed."""

    connection_id: str
    device: str
    code: int
    initiator: Literal["client", "server"]
    duration: float


@dataclass(frozen=True, slots=True)
class DevicePaired:
    """A device has traded a pairing code for a token of its own."""

    device: str
    remote: str


@dataclass(frozen=True, slots=True)
class DeviceRevoked:
    """A device may no longer connect; `by` names the device that saw to it."""

    device: str
    by: str


@dataclass(frozen=True, slots=True)
class DeviceRotated:
    """A device has another token; `by` names the device that saw to it."""

    device: str
    by: str


@dataclass(frozen=True, slots=True)
class PongReceived:
    """A client answered a ping; `duration` is the time from one to the other."""

    connection_id: str
    duration: float


@dataclass(frozen=True, slots=True)
class ConsumerDropped:
    """A connection was closed because its transport took nothing for too long."""

    connection_id: str
    device: str


@dataclass(frozen=True, slots=True)
class RequestHandled:
    """A request was answered; `code` is the error's code, and `message` what it says, None when there was none."""

    type: str
    code: str | None
    duration: float
    project_id: str | None
    correlation_id: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class RequestFaulted:
    """A request met a fault of the server; the client was told INTERNAL_ERROR."""

    type: str
    correlation_id: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class ProjectCreated:
    """A directory became a project."""

    project_id: str
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class ProjectDeleted:
    """A project was forgotten."""

    project_id: str
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class ProjectTrusted:
    """A person accepted what a project's own settings have the CLI do; `new` of it was new or changed."""

    project_id: str
    correlation_id: str | None
    new: int


@dataclass(frozen=True, slots=True)
class ProjectFaulted:
    """A project's own task met a fault of the server; it is started again from what is stored."""

    project_id: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class TaskFaulted:
    """A background task of the server raised an exception; it is started again after a pause."""

    task: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class ExecutionQueued:
    """A prompt was accepted; `place` is its place in the queue, 0 when it starts at once."""

    context: ExecutionContext
    place: int


@dataclass(frozen=True, slots=True)
class ExecutionDelayed:
    """The next prompt of a queue cannot start now, by no fault of its own; it keeps its place."""

    context: ExecutionContext
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExecutionWithdrawn:
    """A prompt was taken back before it ran; `created_at` is when it had come."""

    context: ExecutionContext
    created_at: Milliseconds


@dataclass(frozen=True, slots=True)
class ExecutionStarted:
    """A prompt went to the agent.

    Attributes:
        warm: whether the agent's process ran already.
        queued: time from the prompt's arrival until its turn.
        preparation: time from its turn until the agent's process was there and the start was stored.
    """

    context: ExecutionContext
    warm: bool
    queued: float
    preparation: float


@dataclass(frozen=True, slots=True)
class FirstMessageReceived:
    """The agent said its first word of an execution; `duration` is the time since the start."""

    context: ExecutionContext
    duration: float


@dataclass(frozen=True, slots=True)
class ExecutionFinished:
    """An execution is over; the figures come from the CLI, where it gave them.

    Attributes:
        started_at: when it was given to the agent; None when it never was.
        duration: time from then to the end.
        waited: how much of that was spent waiting for approvals.
        code: the wire code of the error that ended it.
        model: the model that answered.
        usage: what was used, by model.
        requested_model: the model that was asked for with the prompt.
    """

    context: ExecutionContext
    status: ExecutionStatus
    created_at: Milliseconds
    started_at: Milliseconds | None
    finished_at: Milliseconds
    duration: float
    waited: float
    code: str | None
    session_id: str | None
    model: str | None
    usage: tuple[ModelUsage, ...]
    requested_model: str | None = None


@dataclass(frozen=True, slots=True)
class UsageAdded:
    """An execution that is over used more, since a background task of its agent went on.

    Attributes:
        context: the execution; None when it is not known.
        usage: what was used beyond what its `ExecutionFinished` told, by model.
    """

    project_id: str
    context: ExecutionContext | None
    usage: tuple[ModelUsage, ...]


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The agent asks to use a tool; `context` is None when no execution runs."""

    project_id: str
    context: ExecutionContext | None
    approval_id: str
    tool: str


@dataclass(frozen=True, slots=True)
class ApprovalResolved:
    """A tool request was answered, or withdrawn (`cancelled`, by nobody)."""

    project_id: str
    context: ExecutionContext | None
    approval_id: str
    tool: str
    behavior: Literal["allow", "deny", "cancelled"]
    by: str | None
    requested_at: Milliseconds
    waited: float


@dataclass(frozen=True, slots=True)
class ToolCompleted:
    """A tool call of the agent is over."""

    project_id: str
    context: ExecutionContext | None
    tool: str
    outcome: Literal["success", "error", "denied"]


@dataclass(frozen=True, slots=True)
class ProcessSpawned:
    """A CLI process was started."""

    project_id: str
    context: ExecutionContext | None
    pid: int
    duration: float


@dataclass(frozen=True, slots=True)
class ProcessAdopted:
    """A CLI process of an earlier run of the server was found alive and taken over."""

    project_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """A CLI process is gone; `code` is None where it cannot be known."""

    project_id: str
    pid: int
    code: int | None


@dataclass(frozen=True, slots=True)
class LineRejected:
    """The CLI printed something that is not a line of its protocol."""

    project_id: str
    context: ExecutionContext | None
    reason: str


@dataclass(frozen=True, slots=True)
class StorageCommitted:
    """A step of a project is stored; `duration` is the time from handing it over."""

    project_id: str
    context: ExecutionContext | None
    entries: int
    duration: float


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """The store refused a write that will be tried again."""

    project_id: str
    context: ExecutionContext | None
    reason: str


@dataclass(frozen=True, slots=True)
class EpochRenewed:
    """A client has seen entries that are not in the log any more, so the log has a new epoch."""

    project_id: str


@dataclass(frozen=True, slots=True)
class AuditFailed:
    """The disk refused records of the audit log; they wait, and it is tried again."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotificationLost:
    """A message did not reach an address, which is named by its place in the settings; told once a minute for each."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class BudgetExceeded:
    """The day's executions have cost more than they may; `refusing`: no other begins before `until`."""

    spent_usd: float
    limit_usd: float
    refusing: bool
    until: Milliseconds


Event = (
    ServerStarted
    | ServerStopping
    | ServerStopped
    | ListenersOpened
    | MetricsServed
    | CertificateLoaded
    | SettingsReloaded
    | SettingsRefused
    | SettingIgnored
    | CliVulnerable
    | HealthChanged
    | ConnectionOpened
    | ConnectionRejected
    | ConnectionClosed
    | DevicePaired
    | DeviceRevoked
    | DeviceRotated
    | PongReceived
    | ConsumerDropped
    | RequestHandled
    | RequestFaulted
    | ProjectCreated
    | ProjectDeleted
    | ProjectTrusted
    | ProjectFaulted
    | TaskFaulted
    | ExecutionQueued
    | ExecutionDelayed
    | ExecutionWithdrawn
    | ExecutionStarted
    | FirstMessageReceived
    | ExecutionFinished
    | UsageAdded
    | ApprovalRequested
    | ApprovalResolved
    | ToolCompleted
    | ProcessSpawned
    | ProcessAdopted
    | ProcessExited
    | LineRejected
    | StorageCommitted
    | StorageFailed
    | EpochRenewed
    | AuditFailed
    | NotificationLost
    | BudgetExceeded
)


class Observer(Protocol):
    """Whoever wants to know. `emit` never blocks and never raises."""

    def emit(self, event: Event) -> None:
        """Take note of an event."""


class Propagator(Protocol):
    """Hands the trace of an execution on to its agent.

    Attributes:
        mark: tells the telemetry that a process was started with from any other; empty when tracing is off.
    """

    mark: str

    def environment(self, context: ExecutionContext) -> Mapping[str, str]:
        """Variables for a process that is started, by which its own telemetry joins; empty when tracing is off."""

    def prompt_environment(self, context: ExecutionContext) -> Mapping[str, str]:
        """Those of them that each prompt changes, for a process that runs."""


class NoPropagator:
    """The `Propagator` of a server that does not trace."""

    mark = ""

    def environment(self, context: ExecutionContext) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def prompt_environment(self, context: ExecutionContext) -> Mapping[str, str]:
        """Nothing."""
        return {}
