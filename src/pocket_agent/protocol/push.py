"""What the server says: the `data` of each reply and push."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct

from pocket_agent.model import Claim, Credential, ExecutionStatus, HoldReason, ProjectState


class QueueHoldData(Struct, frozen=True):
    """The prompts that wait do not start: `message` says why to a person, `since` is RFC 3339.

    A fault that is not the prompts' own holds the queue, and so does a client with `hold_queue`. The hold ends with
    `queue_resume`, with a new `execute` (whose prompt goes behind those that wait), when no prompt waits any more, and
    by itself when the directory (`directory`) or the CLI (`cli`) is back. `trust`: the project's own settings have the
    CLI do something that nobody has accepted; it ends with `project_trust`, or when that is gone, and with neither of
    the others.
    """

    reason: HoldReason
    message: str
    since: str


class BackgroundTaskData(Struct, frozen=True):
    """Something that the agent runs next to its turns; `type` is the CLI's: `local_agent` is a subagent, `local_bash`
    a command in the background."""

    task_id: str
    type: str
    description: str


class ProjectStateData(Struct, frozen=True):
    """A project as it is now. `path` is byte for byte as its creator gave it.

    `queue_hold` is null unless prompts wait and do not start.

    `state` is EXECUTING also while a subagent, or a turn that the agent began by itself, runs without a prompt;
    `agent_interrupt` and `agent_kill` end these too. A command in the background (in `tasks`) does not make it
    EXECUTING: it may run for ever. `permission_mode` is the one that holds in the agent's process, or what was chosen
    for the next one. `session_title` is the first prompt of the conversation, cut.
    """

    id: str
    path: str
    name: str
    state: ProjectState
    session_id: str | None
    created_at: str
    last_active: str
    epoch: str
    offset: int
    queue_depth: int
    pending_approvals: int
    model: str | None
    permission_mode: str | None
    queue_hold: QueueHoldData | None = None
    tasks: list[BackgroundTaskData] = []
    session_title: str | None = None


class ProjectListData(Struct, frozen=True):
    """Reply to `project_list`."""

    projects: list[ProjectStateData]
    total: int


class ProjectDeletedData(Struct, frozen=True):
    """A project that is no more."""

    project_id: str


class QueuedPrompt(Struct, frozen=True):
    """A prompt that waits; `position` counts from 1."""

    execution_id: str
    prompt: str
    position: int
    created_at: str


class QueueStateData(Struct, frozen=True):
    """The prompts that wait, in the order in which they will run; `queue_hold` as in `project_state`."""

    queue: list[QueuedPrompt]
    queue_hold: QueueHoldData | None = None


class ApprovalRequestedData(Struct, frozen=True):
    """The agent asks to use a tool, and waits. `tool_use_id` is that of the `tool_use` block in its message.

    `suggestions` is what `remember` adds to an allowance: the rule for this tool where the CLI suggests one, else all
    that it suggests (such as the permission mode `acceptEdits`), which a client must show. `agent_id` names the
    subagent that asks, absent for the main thread. A subagent may ask when no execution runs (`execution_id` is null).
    The request is open until it is answered, the agent withdraws it, its turn ends, or its process is gone.
    """

    approval_id: str
    tool_name: str
    input: msgspec.Raw
    title: str | None
    description: str | None
    suggestions: msgspec.Raw
    execution_id: str | None
    tool_use_id: str | None = None
    agent_id: str | None = None


class ApprovalResolvedData(Struct, frozen=True):
    """A device answered the request; `by` names it.

    `updated_input` is what the tool is called with instead of the request's `input`, when the device changed it.
    """

    approval_id: str
    behavior: Literal["allow", "deny"]
    by: str
    message: str | None = None
    updated_input: dict[str, msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


class ApprovalCancelledData(Struct, frozen=True):
    """The request was withdrawn: by the agent, or because its turn or the agent's process ended."""

    approval_id: str
    reason: str


class PartialData(Struct, frozen=True):
    """The message that is being written, as far as it is known: its text and its thinking."""

    text: str
    thinking: str


class ProjectJoinData(Struct, frozen=True, omit_defaults=True):
    """Reply to `project_join`; beside the log it carries what still waits for somebody."""

    project_id: str
    state: ProjectState
    session_id: str | None
    epoch: str
    offset: int
    recovered: bool
    approvals: list[ApprovalRequestedData]
    queue: list[QueuedPrompt]
    partial: PartialData | None = None


class SubscribersData(Struct, frozen=True):
    """How many connections follow the project now (`project_joined`, `project_left`)."""

    project_id: str
    subscribers: int


class ProjectLeaveData(Struct, frozen=True):
    """Reply to `project_leave`."""

    project_id: str


class ExecuteData(Struct, frozen=True):
    """Reply to `execute`; `position` is 0 for a prompt that runs, else its place in the queue from 1."""

    project_id: str
    execution_id: str
    status: Literal["started", "queued"]
    position: int


class PromptData(Struct, frozen=True, omit_defaults=True):
    """An entry: a prompt was given to the agent."""

    execution_id: str
    prompt: str
    by: str
    prompt_id: str | None = None


class AgentKillData(Struct, frozen=True):
    """Reply to `agent_kill`, and the entry `process_killed`. `execution_id` is null when no prompt was running, but a
    subagent, a turn of the agent's own, or a command in the background."""

    project_id: str
    execution_id: str | None
    status: Literal["killed"] = "killed"


class AgentInterruptData(Struct, frozen=True):
    """Reply to `agent_interrupt`; `execution_id` as of `agent_kill`. An interrupt ends the turn and the subagents;
    commands in the background go on, unless nothing else runs."""

    project_id: str
    execution_id: str | None
    status: Literal["interrupting"] = "interrupting"


class QueueResumeData(Struct, frozen=True):
    """Reply to `queue_resume`."""

    project_id: str
    status: Literal["resumed"] = "resumed"


class SessionResetData(Struct, frozen=True):
    """Reply to `agent_new_session`, and the entry `session_reset`."""

    project_id: str
    old_session_id: str | None
    status: Literal["reset"] = "reset"


class SessionResumedData(Struct, frozen=True):
    """The next prompt continues this conversation, or with `fork` a copy of it; `title` is its first prompt, cut."""

    session_id: str
    fork: bool
    title: str


class AgentPartialData(Struct, frozen=True):
    """What the agent had written of a message when its execution ended, so that the complete line never came."""

    text: str
    thinking: str


class MessageData(Struct, frozen=True, omit_defaults=True):
    """An entry in a page of history: `type` and `message` are the type and `data` of its frame.

    Of a large one, where that was asked for, `message` is a preview: an object of the same shape, with long strings,
    arrays and objects cut at their end. `size` is then the bytes of the whole, and `cut` says where something is
    missing, as JSON pointers (RFC 6901; "" is everything). Frames of entries have the two next to their `data`.
    """

    offset: int
    timestamp: str
    direction: str
    type: str
    message: msgspec.Raw
    size: int | None = None
    cut: tuple[str, ...] = ()


class MessagesMetadata(Struct, frozen=True):
    """Where the page lies in the log. `has_more` is about the direction of reading."""

    epoch: str
    first_offset: int
    last_offset: int
    has_more: bool


class MessagesData(Struct, frozen=True):
    """Reply to `get_messages`."""

    messages: list[MessageData]
    metadata: MessagesMetadata


class PromptChangedData(Struct, frozen=True):
    """Reply to `prompt_edit` and `prompt_cancel`."""

    project_id: str
    execution_id: str


class SetModelData(Struct, frozen=True):
    """Reply to `set_model`."""

    project_id: str
    model: str | None


class SetPermissionModeData(Struct, frozen=True):
    """Reply to `set_permission_mode`."""

    project_id: str
    mode: str


class SessionData(Struct, frozen=True):
    """A conversation that can be resumed; `title` is the beginning of its first prompt."""

    session_id: str
    title: str
    created_at: str
    last_active: str
    current: bool


class SessionListData(Struct, frozen=True):
    """Reply to `session_list`, newest first."""

    project_id: str
    sessions: list[SessionData]


class SessionResumeData(Struct, frozen=True):
    """Reply to `session_resume`: the conversation that the next prompt continues."""

    project_id: str
    session_id: str
    fork: bool


class UsageData(Struct, frozen=True):
    """What was used of one model. The four counts of tokens do not overlap; the cost is the CLI's own reckoning."""

    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    cost_usd: float


class ExecutionData(Struct, frozen=True):
    """An execution, with the beginning of its prompt (200 characters).

    `waited_ms` is the time it waited for approvals, `code` the error that ended it, `model` the one that answered
    most; `cost_usd` is the sum over `usage`. `incomplete`: it ended before the CLI told its figures, so that these
    are a lower bound, without dollars.
    """

    execution_id: str
    prompt_id: str | None
    by: str
    prompt: str
    status: ExecutionStatus
    created_at: str
    started_at: str | None
    finished_at: str | None
    waited_ms: int
    code: str | None
    session_id: str | None
    model: str | None
    usage: list[UsageData]
    cost_usd: float
    incomplete: bool


class ExecutionListData(Struct, frozen=True):
    """Reply to `execution_list`, newest first."""

    project_id: str
    executions: list[ExecutionData]
    has_more: bool


class WaitingApproval(Struct, frozen=True):
    """A tool request that waits, and whose it is."""

    project_id: str
    approval: ApprovalRequestedData


class WatchData(Struct, frozen=True):
    """Reply to `watch`: how things are now.

    From then on the connection gets each `project_state`, `approval_requested`, `approval_resolved` and
    `approval_cancelled` of the projects that it has not joined, too. Ask again after leaving a project
    whose entries had not all come yet. To a connection that could not take all of these a `watch` without a
    `request_id` comes instead, as soon as it can: how things are then, in place of what was known.
    """

    projects: list[ProjectStateData]
    approvals: list[WaitingApproval]


class DirectoryData(Struct, frozen=True):
    """A directory, and the project that it is already."""

    path: str
    project_id: str | None


class PathCompleteData(Struct, frozen=True):
    """Reply to `path_complete`; nothing outside `projects.allowed_roots` is told. `truncated`: there are more."""

    path: str
    entries: list[DirectoryData]
    truncated: bool


class PathInspectData(Struct, frozen=True):
    """Reply to `path_inspect`: the real path, the project that it is already, and what it has the CLI do by itself.

    `claims`: a page of them, from the `offset` of the request on: those that nobody has accepted for this project
    first, each part with programs first and rules last. `total`: how many there are; `counts`: how many of each kind;
    `new`: how many nobody has accepted, which is all for a directory that is no project. `hash` names this state of the
    directory, for `project_create` and `project_trust`: another one on a later page means that it has changed.
    """

    path: str
    project_id: str | None
    claims: list[Claim]
    total: int = 0
    counts: dict[str, int] = {}
    new: int = 0
    hash: str = ""


class RunningData(Struct, frozen=True):
    """An execution that runs."""

    project_id: str
    execution_id: str


class DeviceData(Struct, frozen=True):
    """A device that may connect: how often it does now, and when and where it last did.

    `view_only`: it changes nothing. `projects`: all that it sees; null for everything. `current`: it is the one that
    asks. `paired_by`: the device whose pairing code let it in. `queued`: its prompts that wait; `running`: its
    executions that run. `credential`: `token` for programs, `cookie` for browsers, `either` for a device from before
    keys that has not come back yet. `bound`: its cookie counts only together with a key of the browser.
    """

    id: str
    name: str
    view_only: bool
    projects: tuple[str, ...] | None
    created_at: str
    last_seen: str | None
    last_address: str | None
    connections: int
    current: bool
    paired_by: str | None
    queued: int
    running: list[RunningData]
    credential: Credential
    bound: bool


class PairingData(Struct, frozen=True):
    """A pairing code that was not redeemed yet; the code itself is not stored.

    `name`, `view_only`, `projects`: what the device will be. `device_id`: the device that made the code; null for the
    server and for commands on its machine.
    """

    id: str
    name: str | None
    view_only: bool
    projects: tuple[str, ...] | None
    device_id: str | None
    created_at: str
    expires_at: str


class DeviceListData(Struct, frozen=True):
    """Reply to `device_list`, the oldest first. `auth`: false where everybody is let in without being one of them.

    `pairings`: the codes by which further devices may come in now.
    """

    devices: list[DeviceData]
    auth: bool
    pairings: list[PairingData]


class DeviceRevokedData(Struct, frozen=True):
    """Reply to `device_revoke`.

    `revoked`: the devices that lost their access, this one first. `withdrawn`: how many of their queued prompts were
    withdrawn. `running`: their executions that go on, unless `kill` was asked for; `agent_kill` ends them.
    """

    device_id: str
    revoked: list[str]
    withdrawn: int
    running: list[RunningData]


class DeviceRotatedData(Struct, frozen=True):
    """Reply to `device_rotate`; `token` is sent only here. `withdrawn`, `running`: as in `device_revoke`."""

    device_id: str
    token: str
    withdrawn: int
    running: list[RunningData]


class PairingStartData(Struct, frozen=True):
    """Reply to `pairing_start`. Each of `urls` leads to a page that takes the code, the best first.

    `qr` has each of them as a QR code: a line of `0` (light) and `1` (dark) for each row, without a quiet zone.
    `expires_in`: seconds until `expires_at`, for a client whose clock is wrong. `id` names it for `pairing_cancel`.
    """

    id: str
    code: str
    expires_at: str
    expires_in: int
    urls: list[str]
    qr: list[list[str]]


class PairingCancelledData(Struct, frozen=True):
    """Reply to `pairing_cancel`."""

    pairing_id: str


class ChallengeData(Struct, frozen=True):
    """The first frame to a page whose cookie is bound to a key: `nonce` is to be signed, see *In a browser*."""

    nonce: str


class ProvedData(Struct, frozen=True):
    """Reply to `prove`: the page is in as this device, and may send requests."""

    device_id: str


class IncomingData(Struct, frozen=True):
    """The next `frames` frames have `bytes` bytes together, more than 16 KiB; only for `watch` with `announce`."""

    bytes: int
    frames: int


class ConnectionFigures(Struct, frozen=True):
    """Connections now, and how many there may be."""

    active: int
    limit: int


class ProjectFigures(Struct, frozen=True):
    """Projects now, how many there may be, and how many execute."""

    count: int
    limit: int
    executing: int


class ResourceFigures(Struct, frozen=True):
    """What the server uses; the disk is the one of its data directory."""

    cpu_percent: float
    memory_mb: float
    disk_free_gb: float


class ClaudeFigures(Struct, frozen=True, omit_defaults=True):
    """The CLI that the server found. `demo`: it talks to the scripted demo model, which is not an AI."""

    available: bool
    version: str | None
    demo: bool = False


class CheckData(Struct, frozen=True, omit_defaults=True):
    """One health check."""

    status: Literal["healthy", "warning", "unhealthy"]
    message: str | None = None


class HealthCheckData(Struct, frozen=True):
    """Reply to `health_check`; `uptime` in seconds."""

    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    uptime: int
    connections: ConnectionFigures
    projects: ProjectFigures
    resources: ResourceFigures
    claude: ClaudeFigures
    checks: dict[str, CheckData]


class ExecutionFigures(Struct, frozen=True):
    """Executions since the server started."""

    active: int
    total: int
    success: int
    failed: int
    avg_duration_ms: float


class MessageFigures(Struct, frozen=True):
    """Frames since the server started; the rate is of sent frames since the last report."""

    sent: int
    received: int
    rate_per_sec: float


class CostFigures(Struct, frozen=True):
    """What the executions of today have cost, and may (0: no limit), in US dollars; the day is the server's."""

    today_usd: float
    limit_usd: float


class ServerStatsData(Struct, frozen=True):
    """Reply to `server_stats`, and its pushes; `uptime` in seconds."""

    connections: ConnectionFigures
    projects: ProjectFigures
    executions: ExecutionFigures
    messages: MessageFigures
    uptime: int
    cost: CostFigures


class ServerHistoryData(Struct, frozen=True):
    """Reply to `server_history`, and its pushes, which hold the points that came since.

    `times` are in milliseconds since the Unix epoch, `step` seconds apart; `series` holds for each name as many
    values as there are times, null where there was nothing to tell. A series of `errors` that is missing is 0
    throughout. The history begins with the server: another `began` than before means that it begins anew.
    """

    began: str
    step: int
    times: list[int]
    series: dict[str, list[float | None]]


class CheckStateData(Struct, frozen=True):
    """A health check, and since when it has been so (null: it has not been done yet)."""

    name: str
    status: Literal["healthy", "warning", "unhealthy"]
    message: str | None
    since: str | None
    runbook: str | None


class LimitData(Struct, frozen=True):
    """A limit (0: none) and how much of it is used, as the metrics `limit` and `limit_usage` tell."""

    name: str
    usage: float
    limit: float
    runbook: str | None


class SlowExecutionData(Struct, frozen=True):
    """An execution that runs, or one of the slowest that ended; `waiting`: it waits for an approval now."""

    execution_id: str
    project_id: str
    project: str | None
    status: ExecutionStatus
    model: str | None
    started_at: str
    duration_ms: int
    waited_ms: int
    waiting: bool


class LastErrorData(Struct, frozen=True):
    """An error, how often it came since the server started, and when and for which request it came last."""

    code: str
    operation: str
    message: str
    count: int
    at: str
    correlation_id: str | None
    project_id: str | None
    runbook: str | None


class ServerOverviewData(Struct, frozen=True):
    """Reply to `server_overview`, and its pushes; `uptime` in seconds, a `runbook` is /docs/runbooks/NAME."""

    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    revision: str
    python_version: str
    started_at: str
    uptime: int
    claude: ClaudeFigures
    checks: list[CheckStateData]
    limits: list[LimitData]
    running: list[SlowExecutionData]
    slowest: list[SlowExecutionData]
    errors: list[LastErrorData]


class ErrorData(Struct, frozen=True, omit_defaults=True):
    """Something went wrong; `message` is for a person."""

    code: str
    message: str
    details: dict[str, object] | None = None


PUSHES: Final[Mapping[str, type[Struct]]] = {
    "challenge": ChallengeData,
    "prove": ProvedData,
    "incoming": IncomingData,
    "project_state": ProjectStateData,
    "project_deleted": ProjectDeletedData,
    "project_joined": SubscribersData,
    "project_left": SubscribersData,
    "prompt": PromptData,
    "queue_state": QueueStateData,
    "process_killed": AgentKillData,
    "session_reset": SessionResetData,
    "session_resumed": SessionResumedData,
    "agent_partial": AgentPartialData,
    "approval_requested": ApprovalRequestedData,
    "approval_resolved": ApprovalResolvedData,
    "approval_cancelled": ApprovalCancelledData,
    "server_stats": ServerStatsData,
    "error": ErrorData,
}
"""The `data` of every frame that the server sends unasked; `agent_message` carries the CLI's own line instead."""
