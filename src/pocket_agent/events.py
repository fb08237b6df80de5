"""What happened, as typed values in the past tense, and who is told.

The core emits these to the `Observer` it was given and knows nothing of logs, metrics or traces;
`observability/` maps them. Durations are in seconds, sizes in bytes.
"""

from dataclasses import dataclass
from typing import Literal, Protocol


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
class CertificateLoaded:
    """A TLS certificate is in use from here on."""

    not_after: str
    self_signed: bool


@dataclass(frozen=True, slots=True)
class SettingIgnored:
    """Something that was asked for is not possible; the server goes on without it."""

    setting: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A client is in."""

    connection_id: str
    device: str
    remote: str


@dataclass(frozen=True, slots=True)
class ConnectionRejected:
    """A client was turned away before it was in."""

    reason: Literal["unauthorized", "origin", "limit", "stopping"]
    remote: str


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """A client is gone. `initiator` is who closed."""

    connection_id: str
    device: str
    code: int
    initiator: Literal["client", "server"]
    duration: float


@dataclass(frozen=True, slots=True)
class RequestHandled:
    """A request was answered; `code` is the error's code, None when there was none."""

    type: str
    code: str | None
    duration: float
    project_id: str | None
    correlation_id: str


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


@dataclass(frozen=True, slots=True)
class ProjectDeleted:
    """A project was forgotten."""

    project_id: str


@dataclass(frozen=True, slots=True)
class ProjectFaulted:
    """A project's own task met a fault of the server; it is started again from what is stored."""

    project_id: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class ExecutionQueued:
    """A prompt was accepted."""

    project_id: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class ExecutionStarted:
    """A prompt went to the agent; `warm` tells whether its process ran already."""

    project_id: str
    execution_id: str
    warm: bool


@dataclass(frozen=True, slots=True)
class ExecutionFinished:
    """An execution is over; the figures come from the CLI's result line, where it gave them."""

    project_id: str
    execution_id: str
    session_id: str | None
    status: str
    duration: float
    waited: float
    model: str | None
    input_tokens: int
    output_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The agent asks to use a tool."""

    project_id: str
    execution_id: str | None
    approval_id: str
    tool: str


@dataclass(frozen=True, slots=True)
class ApprovalResolved:
    """A tool request was answered or withdrawn."""

    project_id: str
    approval_id: str
    behavior: str
    waited: float


@dataclass(frozen=True, slots=True)
class ProcessSpawned:
    """A CLI process was started."""

    project_id: str
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
    reason: str


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """The store refused a write that will be tried again."""

    project_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConsumerDropped:
    """A connection was closed because its transport took nothing for too long."""

    connection_id: str
    device: str


Event = (
    ServerStarted
    | ServerStopping
    | ServerStopped
    | CertificateLoaded
    | SettingIgnored
    | ConnectionOpened
    | ConnectionRejected
    | ConnectionClosed
    | RequestHandled
    | RequestFaulted
    | ProjectCreated
    | ProjectDeleted
    | ProjectFaulted
    | ExecutionQueued
    | ExecutionStarted
    | ExecutionFinished
    | ApprovalRequested
    | ApprovalResolved
    | ProcessSpawned
    | ProcessAdopted
    | ProcessExited
    | LineRejected
    | StorageFailed
    | ConsumerDropped
)


class Observer(Protocol):
    """Whoever wants to know. `emit` never blocks and never raises."""

    def emit(self, event: Event) -> None:
        """Take note of an event."""
