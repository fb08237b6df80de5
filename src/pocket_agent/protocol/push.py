"""The `data` of each push, which the server sends without a request. Some are also replies."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct

from pocket_agent.model import ExecutionStatus, HoldReason, ProjectState


class QueueHoldData(Struct, frozen=True):
    """The prompts that wait do not start: `message` is the reason for a person, `since` is RFC 3339.

    An error that is not the prompts' own holds the queue, and so does a client with `hold_queue`. The hold ends with
    `queue_resume`, with a new `execute` (whose prompt is queued behind those that wait), when no prompt waits any more,
    and by itself when the directory (`directory`) or the CLI (`cli`) is back. `trust`: the project's own settings have
    the CLI do something that was not accepted; it ends only with `project_trust`, or when the settings are gone.

    While the first prompt of the queue is paused (`QueuedPrompt.status`), the hold stays when a new prompt comes. It
    ends at `until` by itself, when that is not null (`usage_limit`), with `queue_resume`, which continues the paused
    prompt at once, and with the `prompt_cancel` of a prompt whose process was `lost`.
    """

    reason: HoldReason
    message: str
    since: str
    until: str | None = None


class UsageWindowData(Struct, frozen=True):
    """A usage limit of the account: `five_hour`, `seven_day`, ...; `utilization` is the used share, 1 at the limit."""

    window: str
    utilization: float
    resets_at: str
    status: str


class BackgroundTaskData(Struct, frozen=True):
    """A background task of the agent; `type` is the CLI's: `local_agent` is a subagent, `local_bash` a command.

    Of a subagent also what it has used so far, its newest tool, and what it does now (`summary`).
    """

    task_id: str
    type: str
    description: str
    started_at: str | None = None
    tokens: int = 0
    tool_uses: int = 0
    last_tool: str = ""
    summary: str = ""


class WorktreeData(Struct, frozen=True):
    """The git worktree of a conversation; `base` is the commit at which its branch began."""

    branch: str
    base: str


class LastLineData(Struct, frozen=True):
    """The beginning of the newest prompt (`by` is `user`) or text of the agent, on one line of at most 120 characters.

    `at` is the time of its entry.
    """

    text: str
    by: Literal["user", "agent"]
    at: str


class ProjectStateData(Struct, frozen=True):
    """The current state of a project, that is of its main conversation; or of another conversation of the project.

    `path` is byte for byte as its creator gave it. Another conversation has its `conversation_id`, and may have a
    `title`, a `worktree` (`path` is then that of the worktree) and `archived`.

    `queue_hold` is null unless prompts wait and do not start.

    `state` is EXECUTING also while a subagent, or a turn that the agent started by itself, runs without a prompt;
    `agent_interrupt` and `agent_kill` end these too. A command in the background (in `tasks`) does not make it
    EXECUTING: it may run for ever. `permission_mode` is that of the agent's process, or the choice for the next one.
    `session_title` is the first prompt of the conversation, truncated. `usage_windows`: the limits of a subscription,
    as the API reported them last to any project of the server. `last_line` is not there before the first prompt, and
    after the deletion of its entry.
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
    usage_windows: list[UsageWindowData] = []
    conversation_id: str | msgspec.UnsetType = msgspec.UNSET
    title: str | msgspec.UnsetType = msgspec.UNSET
    worktree: WorktreeData | msgspec.UnsetType = msgspec.UNSET
    archived: bool | msgspec.UnsetType = msgspec.UNSET
    last_line: LastLineData | msgspec.UnsetType = msgspec.UNSET


class ConversationDeletedData(Struct, frozen=True):
    """A conversation was deleted. `kept_branch`: the branch of its worktree, when it stays."""

    project_id: str
    conversation_id: str
    kept_branch: str | None = None


class ProjectDeletedData(Struct, frozen=True):
    """A project was deleted."""

    project_id: str


class QueuedPrompt(Struct, frozen=True):
    """A prompt that waits; `position` counts from 1.

    `status`: `queued`; or of the first one `waiting` or `interrupted`, when it has run and is paused, for a usage limit
    or since its process was lost. `queue_resume` continues it, `prompt_cancel` drops it.
    """

    execution_id: str
    prompt: str
    position: int
    created_at: str
    status: ExecutionStatus = ExecutionStatus.QUEUED


class QueueStateData(Struct, frozen=True):
    """The prompts that wait, in order; `queue_hold` as in `project_state`."""

    queue: list[QueuedPrompt]
    queue_hold: QueueHoldData | None = None


class TerminalData(Struct, frozen=True):
    """A session of the CLI in a terminal, and the directory that it is in."""

    session_id: str
    directory: str


class ApprovalRequestedData(Struct, frozen=True):
    """The agent asks to use a tool, and waits. `tool_use_id` is that of the `tool_use` block in its message.

    `suggestions` is what `remember` also allows: the rule for this tool where the CLI suggests one, else all its
    suggestions (such as the permission mode `acceptEdits`), which a client must show. `agent_id` names the subagent
    that asks, absent for the main thread. A subagent may ask when no execution runs (`execution_id` is null). The
    request is open until it is answered, the agent withdraws it, its turn ends, or its process has ended.

    `tool_name` is `Elicitation` when an MCP server asks the user. `input` has the server (`mcp_server_name`), its
    `message`, and either the form's `requested_schema` (as MCP 2025-11-25 defines it) with its `property_order`, or,
    with the `mode` `url`, the address `url` at which the user answers; to accept such a question says that it is done.

    `terminal` is there when a session in a terminal asks, which shows a dialog of its own: the request is withdrawn
    when it is answered there. It is not an entry of the log.
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
    terminal: TerminalData | msgspec.UnsetType = msgspec.UNSET


class ApprovalResolvedData(Struct, frozen=True):
    """A device answered the request; `by` names it.

    `updated_input` replaces the request's `input` in the call of the tool, when the device changed it. `content` is the
    answer to a question of an MCP server, and `cancel` is there when the question was closed without one.
    """

    approval_id: str
    behavior: Literal["allow", "deny"]
    by: str
    message: str | None = None
    updated_input: dict[str, msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    content: dict[str, msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    cancel: bool | msgspec.UnsetType = msgspec.UNSET


class ApprovalCancelledData(Struct, frozen=True):
    """The request was withdrawn: by the agent, or because its turn or the agent's process ended."""

    approval_id: str
    reason: str


class SubscribersData(Struct, frozen=True):
    """The number of connections that are subscribed to the project (`project_joined`, `project_left`)."""

    project_id: str
    subscribers: int


class PromptData(Struct, frozen=True, omit_defaults=True):
    """An entry: a prompt was given to the agent.

    `continues`: the execution was paused for this reason and continues, with a short prompt of the server when its
    session has the original one. `steers`: the prompt was written into the running turn of this execution. The agent
    takes it up between two steps, and its execution is then over; a turn that ends before starts another one with it.
    `typed_at`: it was given in a terminal, at this time (RFC 3339), see `TerminalTurnsData`; `execution_id` is then the
    `uuid` of its record, and there is no such execution.
    """

    execution_id: str
    prompt: str
    by: str
    prompt_id: str | None = None
    continues: HoldReason | None = None
    steers: str | None = None
    typed_at: str | None = None


class ExecutionPausedData(Struct, frozen=True):
    """An entry: an execution stopped before its end, and is first in the queue to continue; see `QueueHoldData`."""

    execution_id: str
    reason: HoldReason
    message: str
    until: str | None


class AgentKillData(Struct, frozen=True):
    """Reply to `agent_kill`, and the entry `process_killed`. `execution_id` is null when no prompt was running, but a
    subagent, a turn of the agent's own, or a command in the background."""

    project_id: str
    execution_id: str | None
    status: Literal["killed"] = "killed"


class SessionResetData(Struct, frozen=True):
    """Reply to `agent_new_session`, and the entry `session_reset`."""

    project_id: str
    old_session_id: str | None
    status: Literal["reset"] = "reset"


class SessionResumedData(Struct, frozen=True, omit_defaults=True):
    """The next prompt continues this conversation, or a copy (`fork`); `title` is its first prompt, truncated.

    `end` is the position in the file of the session behind its history at that time: `session_history` with it as
    `before` has the turns that precede this entry. Null when the CLI keeps no file of it.
    """

    session_id: str
    fork: bool
    title: str
    end: int | None = None


class TerminalTurnsData(Struct, frozen=True, omit_defaults=True):
    """An entry: those that follow are turns of a terminal in the session, up to the next prompt without `typed_at`.

    Their `agent_message`s are the records of the CLI's file, as in `session_history`. `lost`: the file was replaced, or
    has become shorter, so that turns of a terminal may be missing here; `session_history` has what the file has now.
    """

    session_id: str
    lost: bool = False


class SessionData(Struct, frozen=True):
    """A conversation that can be resumed; `title` is the beginning of its first prompt, unless the CLI or its user
    named it.

    `origin` is `terminal` for a session that the CLI made without the server, in `directory`: that of the project, one
    inside it, or one of its Git worktrees. The fields from `directory` on are null, or absent, for a session whose file
    is gone. `turns` is the number of prompts, an estimate for a large file (`turns_estimated`), `size` that of the file
    in bytes. `active`: a terminal has the session open. `resume_command` continues it in a shell. `conversation_id`:
    the conversation of the project that continues it, if one does; `session_resume` in another one needs `fork`.
    """

    session_id: str
    title: str
    created_at: str
    last_active: str
    current: bool
    origin: Literal["server", "terminal"] = "server"
    directory: str | None = None
    first_prompt: str | None = None
    turns: int | None = None
    turns_estimated: bool = False
    size: int | None = None
    active: bool = False
    resume_command: str | None = None
    conversation_id: str | None = None


class SessionsChangedData(Struct, frozen=True):
    """Sessions that have begun or changed since `session_list` with `watch`, within 2 seconds, and those that are gone.

    Each of `sessions` replaces the one with its id. A change of nothing but `size` and `last_active` is not sent, so
    that a session that works does not send one each second.
    """

    project_id: str
    sessions: list[SessionData]
    gone: list[str] = []


class AgentPartialData(Struct, frozen=True):
    """The written part of a message whose execution ended before the message was complete."""

    text: str
    thinking: str


class ChallengeData(Struct, frozen=True):
    """The first frame to a page whose cookie is bound to a key: the page signs `nonce`, see *In a browser*."""

    nonce: str


class ProvedData(Struct, frozen=True):
    """Reply to `prove`: the page is authenticated as this device, and may send requests."""

    device_id: str


class IncomingData(Struct, frozen=True):
    """The next `frames` frames have `bytes` bytes together, more than 16 KiB; only for `watch` with `announce`."""

    bytes: int
    frames: int


class ConnectionFigures(Struct, frozen=True):
    """Open connections, and their limit."""

    active: int
    limit: int


class ProjectFigures(Struct, frozen=True):
    """Projects, their limit, and the number of those that execute."""

    count: int
    limit: int
    executing: int


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
    """The cost of today's executions and its limit (0: none), in US dollars; the day is the server's."""

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


class ErrorData(Struct, frozen=True, omit_defaults=True):
    """An error; `message` is for a person."""

    code: str
    message: str
    details: dict[str, object] | None = None


ENTRIES: Final[Mapping[str, type[Struct]]] = {
    "prompt": PromptData,
    "execution_paused": ExecutionPausedData,
    "process_killed": AgentKillData,
    "session_reset": SessionResetData,
    "session_resumed": SessionResumedData,
    "terminal_turns": TerminalTurnsData,
    "agent_partial": AgentPartialData,
    "approval_requested": ApprovalRequestedData,
    "approval_resolved": ApprovalResolvedData,
    "approval_cancelled": ApprovalCancelledData,
    "error": ErrorData,
}
"""The frames that are stored in a log, besides `agent_message`; those with an offset are entries."""

PUSHES: Final[Mapping[str, type[Struct]]] = {
    "challenge": ChallengeData,
    "prove": ProvedData,
    "incoming": IncomingData,
    "project_state": ProjectStateData,
    "project_deleted": ProjectDeletedData,
    "conversation_deleted": ConversationDeletedData,
    "project_joined": SubscribersData,
    "project_left": SubscribersData,
    "queue_state": QueueStateData,
    "sessions_changed": SessionsChangedData,
    "server_stats": ServerStatsData,
    **ENTRIES,
}
"""The `data` of every push; that of `agent_message` is the CLI's own line."""
