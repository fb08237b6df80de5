"""The values that the packages exchange: Project, Execution, Approval, Entry, Position.

Times are integer milliseconds since the Unix epoch (UTC), sizes are bytes. All values are immutable msgspec Structs.
"""

import enum
import uuid
from typing import Final, Literal, NewType

import msgspec

ConversationId = NewType("ConversationId", str)
"""The id of a conversation: that of its project, or PROJECT.SUFFIX for the conversations other than the main one."""
ProjectId = NewType("ProjectId", ConversationId)
"""The id of a project, which is also the id of its main conversation."""
ExecutionId = NewType("ExecutionId", str)
ApprovalId = NewType("ApprovalId", str)
Milliseconds = NewType("Milliseconds", int)
"""Milliseconds since 1970-01-01T00:00:00Z."""

_CONTINUATION: Final = uuid.UUID("6f2d1c1e-5a51-4c3b-9f5e-0b8f6a2f4f10")
"""The namespace of the uuids of continuations (RFC 9562, section 5.5)."""

MAX_OFFSET: Final = 2**40 - 1
"""The largest offset of one log: about 10^12 entries, which no log reaches."""


def continuation_id(execution_id: str, number: int) -> str:
    """The `uuid` of the message with which an execution continues for the Nth time, from 1."""
    return str(uuid.uuid5(_CONTINUATION, f"{execution_id}/{number}"))


def project_of(conversation_id: str) -> ProjectId:
    """The project of a conversation."""
    return ProjectId(ConversationId(conversation_id.partition(".")[0]))


class ProjectState(enum.StrEnum):
    """The state of a project, as clients see it."""

    IDLE = "IDLE"
    EXECUTING = "EXECUTING"
    ERROR = "ERROR"


class ExecutionStatus(enum.StrEnum):
    """The status of an execution. The last five are final, the two before them are paused."""

    QUEUED = "queued"
    STARTING = "starting"
    """Stored as started; the prompt may or may not have reached the CLI yet."""
    RUNNING = "running"
    """The prompt was written to the CLI."""
    STEERING = "steering"
    """Written into the turn of the running execution, which has not taken it up yet."""
    WAITING = "waiting"
    """Paused: a usage limit stopped it, and it continues after the reset."""
    INTERRUPTED = "interrupted"
    """Paused: its process was lost, as with a restart of the machine."""
    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"
    CANCELLED = "cancelled"
    """Withdrawn from the queue, before it ran or while it was paused."""

    @property
    def is_final(self) -> bool:
        """Whether the execution is over."""
        return not self.is_paused and self not in _UNFINISHED

    @property
    def is_paused(self) -> bool:
        """Whether the execution has run, and is first in the queue to continue."""
        return self in {ExecutionStatus.WAITING, ExecutionStatus.INTERRUPTED}

    @property
    def waits(self) -> bool:
        """Whether the execution is in the queue."""
        return self is ExecutionStatus.QUEUED or self.is_paused


_UNFINISHED: Final = frozenset(
    {ExecutionStatus.QUEUED, ExecutionStatus.STARTING, ExecutionStatus.RUNNING, ExecutionStatus.STEERING}
)


class StopRequest(enum.StrEnum):
    """How a client asked to end an execution."""

    INTERRUPT = "interrupt"
    KILL = "kill"


class ApprovalStatus(enum.StrEnum):
    """The status of a request of the CLI to use a tool."""

    PENDING = "pending"
    ALLOWED = "allow"
    DENIED = "deny"
    CANCELLED = "cancelled"


class ClaimKind(enum.StrEnum):
    """The kind of a claim."""

    PROGRAM = "program"
    """A hook, a helper or a plugin: it runs as the user of the server."""
    SERVER = "server"
    """An MCP server: a program or an address."""
    RULE = "rule"
    """Allows an action that otherwise needs an approval."""
    VARIABLE = "variable"
    """An environment variable of all programs that the CLI runs."""
    UNKNOWN = "unknown"
    """Settings that cannot be read, or files beyond the limit."""


class Claim(msgspec.Struct, frozen=True):
    """An effect of a directory's own settings that the CLI applies without asking.

    Attributes:
        file: relative to the directory; the CLI also reads some files above it.
        text: a description on one line.
    """

    file: str
    kind: ClaimKind
    text: str


class Trust(msgspec.Struct, frozen=True):
    """The accepted claims of a project's directory, each by its `claude.trust.claim_digest`."""

    project_id: ProjectId
    digests: tuple[str, ...]


class Direction(enum.StrEnum):
    """The source of an entry: a client, the CLI, or the server itself."""

    CLIENT = "client"
    CLAUDE = "claude"
    SERVER = "server"


class Position(msgspec.Struct, frozen=True):
    """A place in a project's log. Offsets count from 1 within an epoch; 0 is before the first entry."""

    epoch: str
    offset: int


class Entry(msgspec.Struct, frozen=True):
    """One line of a project's log.

    Attributes:
        offset: its number, from 1 without gaps (the oldest ones may have been pruned).
        timestamp: when the server stored it.
        type: the type of the frame that carries it ("agent_message", "prompt", ...).
        data: the JSON object of the frame's `data`, byte for byte as it came.
    """

    offset: int
    timestamp: Milliseconds
    direction: Direction
    type: str
    data: bytes


class HoldReason(enum.StrEnum):
    """Why the queue of a project is on hold."""

    INTERRUPTED = "interrupted"
    """A client interrupted the execution and asked for it (`hold_queue`)."""
    KILLED = "killed"
    """A client killed the execution and asked for it (`hold_queue`)."""
    USAGE_LIMIT = "usage_limit"
    """The account's usage limit is reached."""
    LOST = "lost"
    """The process of an execution was lost, as with a restart of the machine; a client decides how it goes on."""
    CREDIT = "credit"
    """The account's credit or billing refuses the request."""
    AUTHENTICATION = "authentication"
    """The CLI is not logged in, or its login or API key is not accepted."""
    OVERLOADED = "overloaded"
    """The API is overloaded or fails."""
    NETWORK = "network"
    """The API cannot be reached."""
    DIRECTORY = "directory"
    """The project's directory, or a path in the options of the next prompt, is not available."""
    CLI = "cli"
    """The Claude Code CLI is missing or too old."""
    START = "start"
    """The Claude Code CLI ends before it takes a prompt, for instance because its own settings cannot be read."""
    CONVERSATION = "conversation"
    """The CLI no longer has the conversation of the prompts, or it is longer than the context of the model."""
    TRUST = "trust"
    """The project's settings make the CLI do something that has not been accepted yet."""


class QueueHold(msgspec.Struct, frozen=True):
    """Stops the start of queued prompts; `message` is plain English for the user.

    Attributes:
        until: when the server ends the hold by itself; None when it does not.
    """

    reason: HoldReason
    message: str
    since: Milliseconds
    until: Milliseconds | None = None


class UsageWindow(msgspec.Struct, frozen=True):
    """A usage limit of the account, and how much of it is used.

    Attributes:
        window: the CLI's name: `five_hour`, `seven_day`, `seven_day_opus`, ...
        utilization: the used share, 1.0 at the limit; it may exceed that.
        resets_at: when the window starts again.
        status: the API's: `allowed`, `allowed_warning` or `rejected`.
    """

    window: str
    utilization: float
    resets_at: Milliseconds
    status: str = "allowed"


class Worktree(msgspec.Struct, frozen=True):
    """A git worktree that the server made for a conversation.

    Attributes:
        branch: the branch that was checked out in it.
        base: the commit at which it began, as a full object name.
        root: its directory.
        git_dir: the directory of the repository that it shares with the project.
        is_own_branch: whether the server made the branch.
    """

    branch: str
    base: str
    root: str
    git_dir: str
    is_own_branch: bool = True


class StrayWorktree(msgspec.Struct, frozen=True):
    """A worktree that no conversation has: yet, any more, or for ever when the server is killed now.

    Attributes:
        is_new: whether it is being made, so that it may be half a checkout.
    """

    worktree: Worktree
    is_new: bool = False


class TranscriptMark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much of the CLI's own file of a session is known to a conversation's log.

    Attributes:
        session_id: the session.
        position: the end of the last known record, in bytes.
        digest: of the bytes before it, by which the file is recognised.
        in_terminal: whether the record before it belongs to a turn of a terminal, which may go on.
    """

    session_id: str
    position: int = 0
    digest: str = ""
    in_terminal: bool = False


LAST_LINE_CHARACTERS: Final = 120


class LastLine(msgspec.Struct, frozen=True):
    """The beginning of the newest prompt or text of the agent in a log, on one line, for lists.

    Attributes:
        by: the user or the agent.
        offset: of its entry.
    """

    text: str
    by: Literal["user", "agent"]
    at: Milliseconds
    offset: int


class ConversationRecord(msgspec.Struct, frozen=True):
    """A conversation of a project: one log, one queue, at most one CLI process.

    The main conversation is the project itself, and has its id.

    Attributes:
        number: the row key of the conversation; never reused.
        path: byte for byte as the client gave it; of a worktree as `real_path`.
        real_path: the directory that the agent works in: absolute, symlinks resolved.
        name: of the project.
        session_id: the CLI's session that the next prompt continues; None for a new one.
        title: chosen by a client; None for the first prompt.
        archived: whether lists leave it out.
        fork: whether the next prompt continues a copy of `session_id` instead of the session itself.
        head: the offset of the newest entry, 0 for an empty log.
        first: the offset of the oldest entry that is still stored, head + 1 for an empty log.
        transcript: how much of the session's file is in the log, or is its history; None when that is not known.
        last_line: deleted with its entry.
    """

    number: int
    id: ConversationId
    path: str
    real_path: str
    name: str
    state: ProjectState
    session_id: str | None
    epoch: str
    head: int
    first: int
    created_at: Milliseconds
    last_active: Milliseconds
    model: str | None = None
    permission_mode: str | None = None
    fork: bool = False
    queue_hold: QueueHold | None = None
    title: str | None = None
    archived: bool = False
    worktree: Worktree | None = None
    transcript: TranscriptMark | None = None
    last_line: LastLine | None = None

    @property
    def project_id(self) -> ProjectId:
        """The project that it belongs to."""
        return project_of(self.id)

    @property
    def is_main(self) -> bool:
        """Whether it is the main conversation of its project."""
        return self.id == self.project_id

    def since(self, first: int) -> "ConversationRecord":
        """The record of a log whose older entries were deleted."""
        line = self.last_line
        kept = line if line is not None and line.offset >= first else None
        return msgspec.structs.replace(self, first=first, last_line=kept)


class ExecuteOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The options of one execution that a client may choose; names as in the protocol."""

    model: str | None = None
    fallback_model: str | None = None
    permission_mode: str | None = None
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    append_system_prompt: str | None = None
    mcp_config: str | None = None
    strict_mcp_config: bool = False
    add_dirs: tuple[str, ...] = ()
    dangerously_skip_permissions: bool = False


class ExecutionContext(msgspec.Struct, frozen=True):
    """Identifies an execution and its request in events.

    Attributes:
        correlation_id: the `request_id` of the client's request, or one that the server made for it.
        traceparent: the client's trace context (W3C Trace Context, section 3.2), None without one.
    """

    conversation_id: ConversationId
    execution_id: ExecutionId
    correlation_id: str
    traceparent: str | None = None

    @property
    def project_id(self) -> ProjectId:
        """The project of the conversation."""
        return project_of(self.conversation_id)


class ModelUsage(msgspec.Struct, frozen=True):
    """The usage of one model: tokens, and United States dollars as the CLI calculates them."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def is_any(self) -> bool:
        """Whether any number is above 0."""
        return any(msgspec.structs.astuple(self)[1:])

    def plus(self, other: "ModelUsage") -> "ModelUsage":
        """The sum of both, under this model."""
        pairs = zip(msgspec.structs.astuple(self)[1:], msgspec.structs.astuple(other)[1:], strict=True)
        return ModelUsage(self.model, *(one + more for one, more in pairs))


class BackgroundTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A subagent or a background command of the CLI, next to its turns.

    Attributes:
        id: the CLI's own; of a subagent also the `agent_id` of its tool requests.
        type: the CLI's own: `local_agent`, `local_bash`, ...
        description: as text.
        started_at: when the server first heard of it.
        tokens, tool_uses: so far; the CLI reports them of subagents only.
        last_tool: the tool that it used last.
        summary: what it does now, in a line.
    """

    id: str
    type: str = ""
    description: str = ""
    started_at: Milliseconds | None = None
    tokens: int = 0
    tool_uses: int = 0
    last_tool: str = ""
    summary: str = ""

    @property
    def is_agent(self) -> bool:
        """Whether a model works in it, so that it ends by itself; a command may run for ever (a dev server)."""
        return self.type in {"local_agent", "local_workflow"}


class Work(msgspec.Struct, frozen=True, omit_defaults=True):
    """The activity of a CLI process, up to its ingested lines.

    Attributes:
        tasks: the background tasks.
        nested: the ids of the subagents for which background tasks wait.
        turn: the running turn: "prompt", "own" (the CLI started it by itself), or "" for none.
        prompt: the progress of the running execution's prompt: "", "queued" or "started".
        blocked: why a hook blocked the prompt of this turn.
        error: the kind of a fault in the last message of this turn.
        refused_until: the reset of the usage limit that refused a request of this turn.
        permission_mode: the mode of the process; None until it is known.
        requested_model: the model that the server last requested of the process; None for the CLI's default, "" when
            it is not known, as without an answer or in the record of an earlier version.
        requested_mode: the permission mode, as `requested_model`, or the one that the CLI has chosen since.
        interrupted: whether a client has interrupted what works without a prompt.
    """

    tasks: tuple[BackgroundTask, ...] = ()
    nested: tuple[str, ...] = ()
    turn: str = ""
    prompt: str = ""
    blocked: str | None = None
    error: str | None = None
    permission_mode: str | None = None
    refused_until: Milliseconds | None = None
    requested_model: str | None = ""
    requested_mode: str | None = ""
    interrupted: bool = False

    @property
    def is_agent_working(self) -> bool:
        """Whether a model works without a prompt: in an own turn or in a subagent."""
        return self.turn == "own" or any(task.is_agent for task in self.tasks)


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """The usage, tool calls and activity of a process, complete enough to continue after a restart.

    Attributes:
        cost_usd: the session's cost at the last result, as the CLI summed it; None when it is not known,
            as before the first result of a process that resumes a session.
        model: the model of the turn, as the CLI names it.
        usage: since the last result, without `current`; a lower bound.
        current: the usage of the main thread's newest message, which may still change.
        messages: the id of the newest message of each thread, by the tool call that started the thread
            ("" for the main one), so that no message is counted twice.
        tools: the names of the running tools, by the id of the call.
        tool_ticks: when each of them started (`project_log.tick`), without the wait for its approval.
        repeats: the tool call that a thread has made last (a digest of name and input), and how often in a row.
        requested_tick: when the API request of the main thread that is not answered yet was sent.
    """

    cost_usd: float | None = None
    model: str | None = None
    usage: tuple[ModelUsage, ...] = ()
    current: ModelUsage | None = None
    messages: dict[str, str] = {}
    tools: dict[str, str] = {}
    work: Work = Work()
    tool_ticks: dict[str, int] = {}
    repeats: dict[str, tuple[str, int]] = {}
    requested_tick: int | None = None


class Spending(msgspec.Struct, frozen=True):
    """The usage of one model by a project in one day; the history of spending, which outlives the project.

    Attributes:
        day: the local date, YYYY-MM-DD.
        project_name: the project's name when it was last written.
        model: as the CLI names it; empty when it is not known.
        executions: the number of ended executions whose main model it was.
    """

    day: str
    project_id: ProjectId
    project_name: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    cost_usd: float = 0.0
    executions: int = 0


class Execution(msgspec.Struct, frozen=True):
    """One prompt, from the queue to its result.

    Attributes:
        prompt_id: the client's own id, which makes a re-sent prompt the same execution.
        by: the name of the device that gave the prompt, or that edited it last.
        position: its place in the order of the project's prompts (larger is later).
        spool_offset: the offset in the process's spool at which it started; None before.
        waited_ms: time spent waiting for approvals, or paused, which the timeout does not count.
        correlation_id, traceparent: see `ExecutionContext`.
        code: the wire code of the error that ended it.
        session_id: the CLI's session that it ran in.
        model: the model with the most output.
        usage: by model.
        incomplete: whether it ended without a result of the CLI: `usage` is then a lower bound, without dollars.
        stop: a client's request to end it; a restarted server carries it out.
        started_tick: the monotonic time at which it started, in milliseconds since the boot (`project_log.tick`).
        device_id: the device of `by`; None for executions from before schema version 6.
        generation: the device's `Device.generation` when it gave the prompt. A queued prompt does not start
            when the device is gone or has another generation.
        paused_for: why it was paused last; None when it never was.
        paused_at: when it was paused; None while it runs.
        continuations: how often a short prompt of the server continued it in its session.
    """

    id: ExecutionId
    conversation_id: ConversationId
    prompt_id: str | None
    prompt: str
    options: ExecuteOptions
    status: ExecutionStatus
    position: int
    created_at: Milliseconds
    started_at: Milliseconds | None = None
    finished_at: Milliseconds | None = None
    spool_offset: int | None = None
    waited_ms: int = 0
    by: str = ""
    correlation_id: str = ""
    traceparent: str | None = None
    code: str | None = None
    session_id: str | None = None
    model: str | None = None
    usage: tuple[ModelUsage, ...] = ()
    incomplete: bool = False
    stop: StopRequest | None = None
    started_tick: int | None = None
    device_id: str | None = None
    generation: int = 0
    paused_for: HoldReason | None = None
    paused_at: Milliseconds | None = None
    continuations: int = 0

    @property
    def message_id(self) -> str:
        """The `uuid` of the CLI's user message that it waits for: the prompt's, or that of its last continuation.

        It follows from the stored fields, so that a message that is written twice is the same message for the CLI.
        """
        return continuation_id(self.id, self.continuations) if self.continuations else self.id

    @property
    def context(self) -> ExecutionContext:
        """The identity of the execution in events."""
        return ExecutionContext(self.conversation_id, self.id, self.correlation_id, self.traceparent)


class ExecutionSummary(msgspec.Struct, frozen=True):
    """An execution in a list; see `Execution`. `prompt` is only the beginning of the prompt."""

    id: ExecutionId
    prompt_id: str | None
    by: str
    prompt: str
    status: ExecutionStatus
    created_at: Milliseconds
    started_at: Milliseconds | None
    finished_at: Milliseconds | None
    waited_ms: int
    code: str | None
    session_id: str | None
    model: str | None
    usage: tuple[ModelUsage, ...]
    incomplete: bool


class Approval(msgspec.Struct, frozen=True):
    """A request of the CLI to use a tool, and its answer.

    Attributes:
        request_id: the CLI's id of the control request.
        request: the CLI's whole request object (JSON), from which the answer is built.
        answer: the control response (one JSON line).
        delivered: whether the answer was written to the CLI.
        created_tick: the monotonic time of `created_at`, in milliseconds since the boot (`session.project_log.tick`).
    """

    id: ApprovalId
    conversation_id: ConversationId
    execution_id: ExecutionId | None
    request_id: str
    request: bytes
    status: ApprovalStatus
    created_at: Milliseconds
    resolved_at: Milliseconds | None = None
    by: str | None = None
    answer: bytes | None = None
    delivered: bool = False
    created_tick: int | None = None


class ProcessRecord(msgspec.Struct, frozen=True):
    """The stored data of a CLI process, with which a new server can adopt it.

    Attributes:
        id: the name of the process's spool files; unique.
        pid: the process (and process group) id.
        start_time: identifies the process together with its pid (see `claude.process`).
        boot_id: the boot of the machine that it was started in.
        consumed: the bytes of its spool that are in the log.
        options: the options that only a new process can change (JSON, see `claude.command_line.process_options`).
        account: up to the end of the log.
        claims: the hash of the directory's claims when it was started (`claude.trust.Inspection`), which stay in force
            in it; empty when an older version started it.
    """

    id: str
    conversation_id: ConversationId
    pid: int
    start_time: str
    boot_id: str
    consumed: int
    options: bytes
    started_at: Milliseconds
    account: Account = Account()
    claims: str = ""


class SessionRecord(msgspec.Struct, frozen=True):
    """A session of the CLI in a project that can be resumed."""

    id: str
    project_id: ProjectId
    created_at: Milliseconds
    last_active: Milliseconds
    title: str
    """The beginning of its first prompt."""


class KeptSession(msgspec.Struct, frozen=True):
    """A session that the CLI keeps, to be continued; `end` is that of its history."""

    record: SessionRecord
    end: TranscriptMark


LOCAL_DEVICE: Final = "local"
"""The device id of all clients of a server without authentication."""
USER_PREFIX: Final = "user-"
"""The prefix of the ids of users that a proxy has signed in."""


def is_stored(device_id: str | None) -> bool:
    """Whether devices of such an id are in the store; commands and the server itself have the id None."""
    return device_id is not None and device_id != LOCAL_DEVICE and not device_id.startswith(USER_PREFIX)


class Credential(enum.StrEnum):
    """How a device sends its secret. A cookie's value is not a bearer token, and a token is not a cookie."""

    TOKEN = "token"  # noqa: S105 - a name
    COOKIE = "cookie"
    EITHER = "either"
    """From before schema version 6: it works as a bearer token, and a browser exchanges it for a cookie once."""


class Device(msgspec.Struct, frozen=True):
    """A holder of a token; the token itself is not stored, only its SHA-256.

    Attributes:
        last_address: the address of its last connection.
        view_only: whether it may watch, but not change anything.
        projects: the projects that it may see; None for all, and for requests about the whole server.
        generation: how often its credential was replaced; prompts and pairing codes of an older generation
            are void.
        paired_by: the id of the device that made its pairing code; None for codes and tokens made by a
            command on the server's machine.
        public_key: the browser's ECDSA P-256 key (DER, SubjectPublicKeyInfo), with which it proves its cookie;
            None where the browser could not hold a key.
    """

    id: str
    name: str
    token_hash: str
    created_at: Milliseconds
    last_seen: Milliseconds | None = None
    last_address: str | None = None
    view_only: bool = False
    projects: tuple[ProjectId, ...] | None = None
    generation: int = 0
    paired_by: str | None = None
    credential: Credential = Credential.TOKEN
    public_key: bytes | None = None

    def sees(self, project_id: str) -> bool:
        """Whether it may see a project, or the project of a conversation."""
        return self.projects is None or project_of(project_id) in self.projects


class Pairing(msgspec.Struct, frozen=True):
    """A code that pairs one device; only its SHA-256 is stored.

    Attributes:
        name: of the new device; None lets it choose its name.
        view_only, projects: see `Device`.
        id: identifies the code in lists and for its cancellation; no secret.
        device_id, generation: the device that made the code; None for the server and for commands on its
            machine. The code is void when that device is gone or has another generation.
    """

    code_hash: str
    name: str | None
    view_only: bool
    projects: tuple[ProjectId, ...] | None
    created_at: Milliseconds
    expires_at: Milliseconds
    id: str
    device_id: str | None = None
    generation: int = 0
