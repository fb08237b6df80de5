"""Requests: one class declares each, with its reply.

Unknown fields are ignored; unknown types and invalid values are errors.
"""

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from pocket_agent.errors import ValidationError
from pocket_agent.model import (
    MAX_OFFSET,
    Claim,
    Credential,
    ExecuteOptions,
    ExecutionStatus,
    Position,
    ProjectState,
)
from pocket_agent.protocol import push

Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET, description="An entry's number; 0 is before the first")]
Id = Annotated[str, Meta(min_length=1, max_length=200)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
DeviceName = Annotated[str, Meta(min_length=1, max_length=100)]
Path = Annotated[str, Meta(min_length=1, max_length=4096)]
Prompt = Annotated[str, Meta(min_length=1)]
Interval = Annotated[float, Meta(ge=0, le=3600)]
PermissionMode = Literal["default", "acceptEdits", "plan", "auto", "dontAsk", "bypassPermissions"]
"""The values of the CLI's `--permission-mode`."""
LIMITED_MODES: Final[tuple[PermissionMode, ...]] = ("default", "plan")
"""The permission modes that a device may choose that is limited to some projects."""

SessionId = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]

MAX_REQUEST_ID: Final = 200


class Since(Struct, frozen=True):
    """The last entry that a client has.

    `timestamp` is that of the entry at `offset`: another one shows that the log was restored to an older state.
    """

    offset: Offset
    epoch: str | None = None
    timestamp: str | None = None

    def position(self, epoch: str) -> Position:
        """The position; `epoch` is that of the log, for a client that named none."""
        return Position(epoch if self.epoch is None else self.epoch, self.offset)


class Need(Enum):
    """What a request needs of the device that makes it."""

    WATCH = "watch"  # nothing: it changes nothing, and the reply contains only what the device may see
    OVERVIEW = "overview"  # access to all projects: it changes nothing, but its reply is about all projects together
    ACT = "act"  # more than viewing: it changes something within one project
    OWN = "own"  # more than viewing, and access to all projects: it concerns the server as a whole


class Spec(NamedTuple):
    """A request, without its fields.

    Attributes:
        name: the `type` of its frame.
        reply: the `type` of the reply's frame.
        data: the `data` of the reply.
        needs: the permission that the device needs.
        operation: its value of the metric label `operation`.
        waits: it may wait for a project or a disk; other requests of the connection overtake it.
        repeatable: clients send it again when the connection ended before the reply came.
        audited: the audit log records it.
        rare: metrics count its frames as `other`, which bounds the number of series.
    """

    name: str
    reply: str
    data: type[Struct]
    needs: Need
    operation: str
    waits: bool
    repeatable: bool
    audited: bool
    rare: bool


class Request(Struct, frozen=True):
    """Base class of all requests."""

    spec: ClassVar[Spec]

    def audit_details(self) -> dict[str, object]:
        """Ids and choices for the audit log, but no text that a user or an agent wrote."""
        found: dict[str, object] = msgspec.to_builtins(self)
        found.pop("project_id", None)
        return found


class ProjectRequest(Request, frozen=True, kw_only=True):
    """Base class of the requests that are about a conversation of a project: the main one by default."""

    project_id: Id | None = None


_R = TypeVar("_R", bound=Request)
_requests: Final[dict[str, type[Request]]] = {}


def _request(
    data: type[Struct],
    needs: Need,
    operation: str,
    *,
    reply: str | None = None,
    waits: bool = False,
    repeatable: bool = False,
    audited: bool | None = None,
    rare: bool = False,
) -> Callable[[type[_R]], type[_R]]:
    """Declare a request; see `Spec`.

    Its `type` is the name of the class in snake case, and the default of `reply`. `audited` is by default true for
    requests that change something. `data` needs no docstring when this is its only request.
    """

    def declare(kind: type[_R]) -> type[_R]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
        recorded = needs in {Need.ACT, Need.OWN} if audited is None else audited
        kind.spec = Spec(name, reply or name, data, needs, operation, waits, repeatable, recorded, rare)
        _requests[name] = kind
        data.__doc__ = data.__doc__ or f"Reply to `{name}`."
        return kind

    return declare


@_request(push.ProjectStateData, Need.OWN, "project", reply="project_state", waits=True)
class ProjectCreate(Request, frozen=True):
    """Make a directory a project, and accept what its own settings have the CLI do.

    `hash` (of `path_inspect`) accepts only that state of the settings: in another one the error is
    `VALIDATION_FAILED`, with its `hash` in the details. Without `hash` the current state is accepted.
    """

    path: Path
    hash: Hash | None = None


class ProjectListData(Struct, frozen=True):
    projects: list[push.ProjectStateData]
    total: int


@_request(ProjectListData, Need.WATCH, "project", reply="project_list_response", repeatable=True)
class ProjectList(Request, frozen=True):
    """List all projects."""


@_request(push.ProjectStateData, Need.OWN, "project", reply="project_state", waits=True, rare=True)
class ProjectTrust(ProjectRequest, frozen=True):
    """Accept what the project's own settings have the CLI do, in the state with this `hash` (`path_inspect`).

    Before each prompt the server compares the settings with the accepted ones. While something is new or changed, the
    prompts wait, with a `queue_hold` of the reason `trust`. When the directory is in another state than `hash`, the
    error is `VALIDATION_FAILED`, with the `hash` of that state in its details.
    """

    hash: Hash


@_request(push.ProjectDeletedData, Need.ACT, "project", reply="project_deleted", waits=True, rare=True)
class ProjectDelete(ProjectRequest, frozen=True):
    """Delete a project and its log; the directory itself is not touched."""


Large = Literal["whole", "reference"]
"""Whether entries of more than 16 KiB are sent whole, or as a preview; `get_messages` fetches them whole."""


class PartialData(Struct, frozen=True):
    """The text and the thinking so far of a message that is being written."""

    text: str
    thinking: str


Title = Annotated[str, Meta(min_length=1, max_length=200)]
Branch = Annotated[str, Meta(min_length=1, max_length=200)]


class WorktreeRequest(Struct, frozen=True):
    """A git worktree to make for a conversation, in the folder of the setting `data.worktrees`.

    `branch`: an existing branch that is checked out nowhere else, or the name of a new one (by default a new one is
    named after the title). `base`: the commit at which a new branch begins (default: that of the project's directory).
    """

    branch: Branch | None = None
    base: Branch | None = None


@_request(push.ProjectStateData, Need.ACT, "project", waits=True, rare=True)
class ConversationCreate(ProjectRequest, frozen=True):
    """Begin another conversation in a project, with a log, a queue and an agent of its own.

    `worktree` gives it a working directory of its own on a branch of its own; without it, it works in the project's
    directory. `session_id` continues a session of `session_list`, as a copy with `fork`. The reply is its
    `project_state`; other clients that know of conversations get it as a push.
    """

    title: Title | None = None
    worktree: WorktreeRequest | None = None
    session_id: SessionId | None = None
    fork: bool = False

    def audit_details(self) -> dict[str, object]:
        """The choices without the title, which is a text of the user."""
        return {name: value for name, value in super().audit_details().items() if name != "title"}


class ConversationListData(Struct, frozen=True):
    """Reply to `conversation_list`: the state of each conversation, the main one first.

    `worktrees`: null when a conversation can have a worktree, else the reason why not.
    """

    project_id: str
    conversations: list[push.ProjectStateData]
    worktrees: str | None


@_request(ConversationListData, Need.WATCH, "project", waits=True, repeatable=True, rare=True)
class ConversationList(ProjectRequest, frozen=True):
    """List the conversations of a project; with `archived` also the archived ones."""

    archived: bool = False


@_request(push.ProjectStateData, Need.ACT, "project", waits=True, rare=True)
class ConversationRename(ProjectRequest, frozen=True):
    """Give a conversation a title; null shows its first prompt instead."""

    title: Title | None

    def audit_details(self) -> dict[str, object]:
        """Nothing: the title is a text of the user."""
        return {}


@_request(push.ProjectStateData, Need.ACT, "project", waits=True, rare=True)
class ConversationArchive(ProjectRequest, frozen=True):
    """Leave a conversation out of lists, and end its idle process; with `archived: false`, or a prompt, show it again.

    Refused with `PROCESS_ACTIVE` while it works or prompts wait, and for the main conversation.
    """

    archived: bool = True


@_request(push.ConversationDeletedData, Need.ACT, "project", waits=True, rare=True)
class ConversationDelete(ProjectRequest, frozen=True):
    """Delete a conversation, its log and its worktree; the main one goes only with the project.

    A worktree with changes that are not committed, or with commits that are on no other branch and no remote, is
    refused with `VALIDATION_FAILED` (`changes` and `commits` in the details), unless `discard` is set. A branch with
    such commits is never deleted.
    """

    discard: bool = False


class ProjectJoinData(Struct, frozen=True, omit_defaults=True):
    """Reply to `project_join`, with the approvals and prompts that wait."""

    project_id: str
    state: ProjectState
    session_id: str | None
    epoch: str
    offset: int
    recovered: bool
    approvals: list[push.ApprovalRequestedData]
    queue: list[push.QueuedPrompt]
    partial: PartialData | None = None


@_request(ProjectJoinData, Need.WATCH, "project")
class ProjectJoin(ProjectRequest, frozen=True):
    """Subscribe to a project, optionally with everything after `since`.

    With `large: "reference"` an entry of more than 16 KiB is sent as a preview, with `size` and `cut` next to its
    `data` (see `MessageData`), so that no frame blocks a slow link for long; approval requests are sent whole.
    """

    since: Since | Annotated[int, Meta(ge=0, le=MAX_OFFSET)] | str | None = None
    large: Large = "whole"


class ProjectLeaveData(Struct, frozen=True):
    project_id: str


@_request(ProjectLeaveData, Need.WATCH, "project", rare=True)
class ProjectLeave(ProjectRequest, frozen=True):
    """Unsubscribe from a project."""


class Options(Struct, frozen=True):
    """The choices of a client for one execution."""

    model: Name | None = None
    fallback_model: Name | None = None
    permission_mode: PermissionMode | None = None
    allowed_tools: Annotated[tuple[Name, ...], Meta(max_length=200)] = ()
    disallowed_tools: Annotated[tuple[Name, ...], Meta(max_length=200)] = ()
    append_system_prompt: Annotated[str, Meta(max_length=100_000)] | None = None
    mcp_config: Annotated[str, Meta(max_length=100_000)] | None = None
    strict_mcp_config: bool = False
    add_dirs: Annotated[tuple[Path, ...], Meta(max_length=50)] = ()
    dangerously_skip_permissions: bool = False

    def to_model(self) -> ExecuteOptions:
        """Convert to the type of the core; raises ValidationError for a NUL, which no program argument can hold."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            texts = value if isinstance(value, tuple) else (value,)
            if any(isinstance(text, str) and "\0" in text for text in texts):
                raise ValidationError(f"options.{name} contains a NUL character, which no option can hold.")
        return ExecuteOptions(**{name: getattr(self, name) for name in self.__struct_fields__})


class ExecuteData(Struct, frozen=True):
    """Reply to `execute`; `position` is 0 for a prompt that runs, else its place in the queue from 1.

    `steering`: it was written into the running turn.
    """

    project_id: str
    execution_id: str
    status: Literal["started", "queued", "steering"]
    position: int


@_request(ExecuteData, Need.ACT, "execute", waits=True)
class Execute(ProjectRequest, frozen=True):
    """Give the agent a prompt; it runs now or waits in the queue.

    `when`: `queue` behind the prompts that wait; `now` into the running turn, which takes it up between two steps (see
    `PromptData`); `interrupt` ends the running execution and starts this one. A prompt that cannot join the running
    turn, since that has just begun or has other options, becomes the next one of the queue.

    `traceparent` (W3C Trace Context) makes the execution part of the client's trace; a malformed one is ignored.
    While a terminal has the conversation open, the error is `PROCESS_ACTIVE`.
    """

    prompt: Prompt
    options: Options | None = None
    prompt_id: Id | None = None
    traceparent: Annotated[str, Meta(max_length=200)] | None = None
    when: Literal["queue", "now", "interrupt"] = "queue"

    def audit_details(self) -> dict[str, object]:
        """The prompt's id and options, without texts."""
        options: dict[str, Any] = {} if self.options is None else msgspec.to_builtins(self.options.to_model())
        options.pop("append_system_prompt", None)
        if "mcp_config" in options:
            options["mcp_config"] = True
        return {"prompt_id": self.prompt_id, "options": options, "when": self.when}


@_request(push.AgentKillData, Need.ACT, "agent", waits=True, rare=True)
class AgentKill(ProjectRequest, frozen=True):
    """End the running execution and all its processes.

    With `execution_id` only that one: when it does not run, the error is `PROCESS_NOT_FOUND`. With `hold_queue` the
    prompts that wait stay queued until `queue_resume`.
    """

    execution_id: Id | None = None
    hold_queue: bool = False


class AgentInterruptData(Struct, frozen=True):
    """Reply to `agent_interrupt`; `execution_id` as of `agent_kill`. An interrupt ends the turn and the subagents;
    commands in the background go on, unless nothing else runs."""

    project_id: str
    execution_id: str | None
    status: Literal["interrupting"] = "interrupting"


@_request(AgentInterruptData, Need.ACT, "agent", waits=True, rare=True)
class AgentInterrupt(ProjectRequest, frozen=True):
    """Ask the agent to stop; its session stays warm.

    `execution_id` and `hold_queue` as for `agent_kill`.
    """

    execution_id: Id | None = None
    hold_queue: bool = False


class StopTaskData(Struct, frozen=True):
    project_id: str
    task_id: str


@_request(StopTaskData, Need.ACT, "agent", waits=True, rare=True)
class StopTask(ProjectRequest, frozen=True):
    """End one background task of the agent (`project_state.tasks`): a subagent or a command."""

    task_id: Id


class ContextCategoryData(Struct, frozen=True):
    """A part of the context window; `kind` is the CLI's: `used`, `free`, ..."""

    name: str
    tokens: int
    kind: str


class ContextUsageData(Struct, frozen=True):
    """The use of the context window, in tokens."""

    model: str
    total_tokens: int
    max_tokens: int
    categories: list[ContextCategoryData]


class McpServerData(Struct, frozen=True):
    """An MCP server of the agent; `status` is the CLI's: `connected`, `failed`, `needs-auth`, `pending`, ..."""

    name: str
    status: str
    error: str | None


class AgentReportData(Struct, frozen=True):
    """Reply to `agent_report`; only the part that was asked for is not null."""

    project_id: str
    context: ContextUsageData | None = None
    mcp_servers: list[McpServerData] | None = None
    usage_windows: list[push.UsageWindowData] | None = None


@_request(AgentReportData, Need.WATCH, "agent", waits=True, repeatable=True, rare=True)
class AgentReport(ProjectRequest, frozen=True):
    """Ask the agent's process about itself: its context window, its MCP servers, or the usage limits of its account.

    Without a process the error is `PROCESS_NOT_FOUND`; the next prompt starts one.
    """

    report: Literal["context", "mcp", "usage"]


class RewindFilesData(Struct, frozen=True):
    """Reply to `rewind_files`: the files (of a dry run) and the numbers of lines that it changes. `error`: why not."""

    project_id: str
    execution_id: str
    can_rewind: bool
    files: list[str]
    insertions: int
    deletions: int
    error: str | None


@_request(RewindFilesData, Need.ACT, "agent", waits=True, rare=True)
class RewindFiles(ProjectRequest, frozen=True):
    """Set the files back to their state before an execution, as far as the agent's file tools have changed them.

    Commands of the agent, and the user's own changes, are not undone. `dry_run` only reports what would change.
    `PROCESS_ACTIVE` while the agent works. The prompt has to be one of the agent's present conversation.
    """

    execution_id: Id
    dry_run: bool = False


@_request(push.SessionResetData, Need.ACT, "agent", waits=True, rare=True)
class AgentNewSession(ProjectRequest, frozen=True):
    """Start a fresh conversation with the next prompt."""


class MessageData(Struct, frozen=True, omit_defaults=True):
    """An entry in a page of history: `type` and `message` are the type and `data` of its frame.

    With `large: "reference"` the `message` of a large one is a preview: an object of the same shape, with long strings,
    arrays and objects truncated. `size` is then the bytes of the whole, and `cut` has JSON pointers to the truncated
    places (RFC 6901; "" is everything). Frames of entries have the two next to their `data`.
    """

    offset: int
    timestamp: str
    direction: str
    type: str
    message: msgspec.Raw
    size: int | None = None
    cut: tuple[str, ...] = ()


class MessagesMetadata(Struct, frozen=True):
    """The page's place in the log. `has_more` is about the direction of reading."""

    epoch: str
    first_offset: int
    last_offset: int
    has_more: bool


class MessagesData(Struct, frozen=True):
    messages: list[MessageData]
    metadata: MessagesMetadata


@_request(MessagesData, Need.WATCH, "history", reply="messages_response", repeatable=True)
class GetMessages(ProjectRequest, frozen=True):
    """Read a page of the log: the newest entries, those before `before`, or those after `since`.

    A page has at most `limit` entries and `max_bytes` of data (8 MiB by default), but one entry always. With
    `large: "reference"` an entry of more than 16 KiB is a preview, see `MessageData`; a page of one entry without it
    fetches the whole.
    """

    since: Since | Annotated[int, Meta(ge=0, le=MAX_OFFSET)] | str | None = None
    before: Since | Annotated[int, Meta(ge=0, le=MAX_OFFSET)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    direction: Literal["all", "client", "claude", "server"] = "all"
    max_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * 1024)] | None = None
    large: Large = "whole"


@_request(push.ApprovalResolvedData, Need.ACT, "approval", reply="approval_resolved", waits=True)
class ApprovalRespond(ProjectRequest, frozen=True):
    """Answer a tool request of the agent, or a question of an MCP server; the first answer wins. `remember` applies the
    request's `suggestions` to the rest of the session.

    `content` and `cancel` are for questions of MCP servers (`Elicitation`): `allow` accepts, with the values of the
    form's fields; `deny` declines, or closes the question without an answer (`cancel`).
    """

    approval_id: Id
    behavior: Literal["allow", "deny"]
    message: Annotated[str, Meta(max_length=100_000)] | None = None
    updated_input: dict[str, msgspec.Raw] | None = None
    remember: bool = False
    content: dict[str, msgspec.Raw] | None = None
    cancel: bool = False

    def audit_details(self) -> dict[str, object]:
        """The answer, and whether the tool's input was changed; not the values of a form."""
        details: dict[str, object] = {
            "approval_id": self.approval_id,
            "behavior": self.behavior,
            "remember": self.remember,
            "changed_input": self.updated_input is not None,
        }
        return {**details, "cancel": True} if self.cancel else details


class PromptChangedData(Struct, frozen=True):
    """Reply to `prompt_edit`, `prompt_promote` and `prompt_cancel`."""

    project_id: str
    execution_id: str


@_request(PromptChangedData, Need.ACT, "execute", waits=True, rare=True)
class PromptEdit(ProjectRequest, frozen=True):
    """Change a prompt that still waits in the queue."""

    execution_id: Id
    prompt: Prompt

    def audit_details(self) -> dict[str, object]:
        """The execution's id."""
        return {"execution_id": self.execution_id}


@_request(PromptChangedData, Need.ACT, "execute", waits=True, rare=True)
class PromptPromote(ProjectRequest, frozen=True):
    """Give a prompt that waits in the queue to the agent now, as `execute` with `when: "now"` does."""

    execution_id: Id


@_request(PromptChangedData, Need.ACT, "execute", waits=True, rare=True)
class PromptCancel(ProjectRequest, frozen=True):
    """Withdraw a prompt that still waits in the queue."""

    execution_id: Id


class QueueResumeData(Struct, frozen=True):
    project_id: str
    status: Literal["resumed"] = "resumed"


@_request(QueueResumeData, Need.ACT, "execute", waits=True, rare=True)
class QueueResume(ProjectRequest, frozen=True):
    """Start the prompts that wait, in order, after the queue was on hold; without a hold nothing changes."""


class SetModelData(Struct, frozen=True):
    project_id: str
    model: str | None


@_request(SetModelData, Need.ACT, "agent", waits=True, rare=True)
class SetModel(ProjectRequest, frozen=True):
    """Choose the model of the project, now and for later prompts; null is the CLI's default."""

    model: Name | None


class SetPermissionModeData(Struct, frozen=True):
    project_id: str
    mode: str


@_request(SetPermissionModeData, Need.ACT, "agent", waits=True, rare=True)
class SetPermissionMode(ProjectRequest, frozen=True):
    """Choose the permission mode of the project, now and for later prompts."""

    mode: PermissionMode


class SessionListData(Struct, frozen=True):
    """Reply to `session_list`, newest first.

    `truncated`: there are more of terminals than the last 100. `unavailable` is the reason why those of terminals are
    missing.
    """

    project_id: str
    sessions: list[push.SessionData]
    truncated: bool = False
    unavailable: str | None = None


@_request(SessionListData, Need.WATCH, "history", waits=True, repeatable=True, rare=True)
class SessionList(ProjectRequest, frozen=True):
    """List the conversations of a project that can be resumed: the server's, and those of terminals.

    With `watch` the connection gets `sessions_changed` from then on, until `session_unfollow` without a `session_id`.
    """

    watch: bool = False


class SessionResumeData(Struct, frozen=True):
    """Reply to `session_resume`: the conversation that the next prompt continues."""

    project_id: str
    session_id: str
    fork: bool


@_request(SessionResumeData, Need.ACT, "agent", waits=True, rare=True)
class SessionResume(ProjectRequest, frozen=True):
    """Continue an older conversation with the next prompt, or a copy of it (`fork`).

    A session that a terminal has open is refused with `PROCESS_ACTIVE` unless `fork` is set: the CLI would mix the
    records of both.
    """

    session_id: SessionId
    fork: bool = False


class SessionReleaseData(Struct, frozen=True):
    """Reply to `session_release`: the command that continues the conversation in a shell, null without a session."""

    project_id: str
    session_id: str | None
    directory: str
    resume_command: str | None


@_request(SessionReleaseData, Need.ACT, "agent", waits=True, rare=True)
class SessionRelease(ProjectRequest, frozen=True):
    """End the idle process of the agent, so that a terminal can continue the conversation.

    While the agent does something, the error is `PROCESS_ACTIVE`.
    """


class SessionHistoryData(Struct, frozen=True):
    """Reply to `session_history`, the oldest record first.

    A message is that of `get_messages`; its `offset` is the position of the record in the file, in bytes. Its type is
    `prompt` for what a user typed, `agent_message` for all other records, as the CLI wrote them, or `error` for a line
    that is not a record. `before` is the position for the page before, 0 at the beginning of the file; a page may be
    empty although there is an older one. `epoch` and `end` are for `session_follow`: the file, and the position behind
    the newest record.
    """

    project_id: str
    session_id: str
    epoch: str
    messages: list[MessageData]
    before: int
    end: int


@_request(SessionHistoryData, Need.WATCH, "history", waits=True, repeatable=True, rare=True)
class SessionHistory(ProjectRequest, frozen=True):
    """Read a page of a session from the CLI's own file: the newest records, or those before the position `before`.

    Records of the CLI's own bookkeeping, and of subagents, are left out. `limit`, `max_bytes` and `large` are those of
    `get_messages`.
    """

    session_id: SessionId
    before: Offset | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    max_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * 1024)] | None = None
    large: Large = "whole"


class SessionLinesData(Struct, frozen=True):
    """Reply to `session_follow`, and its pushes: the records that a terminal has written since.

    `end` is the position behind them. `active`: a terminal has the session open; a push without messages reports a
    change of it. `ended`: the file was `deleted`, or `replaced` by another or a shorter one, and is not followed any
    longer; read the history again.
    """

    session_id: str
    epoch: str
    messages: list[MessageData]
    end: int
    active: bool
    ended: Literal["deleted", "replaced"] | None = None


@_request(SessionLinesData, Need.WATCH, "history", reply="session_lines", waits=True, rare=True)
class SessionFollow(ProjectRequest, frozen=True):
    """Get the records of a session from a position on, and new ones within 2 seconds, until `session_unfollow`.

    `epoch` and `after` are `epoch` and `end` of `session_history`; without them only new records are sent. A connection
    can follow 8 sessions and lists; following one again replaces its position.
    """

    session_id: SessionId
    epoch: Id | None = None
    after: Offset | None = None
    large: Large = "whole"


class SessionUnfollowData(Struct, frozen=True):
    project_id: str
    session_id: str | None


@_request(SessionUnfollowData, Need.WATCH, "history", rare=True)
class SessionUnfollow(ProjectRequest, frozen=True):
    """Stop to follow a session, or without `session_id` to watch the list; nothing happens when it is not followed."""

    session_id: SessionId | None = None


class UsageData(Struct, frozen=True):
    """The usage of one model. The four counts of tokens do not overlap; the CLI computes the cost."""

    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    cost_usd: float


class ExecutionData(Struct, frozen=True):
    """An execution, with the beginning of its prompt (200 characters).

    `waited_ms` is the time it waited for approvals, `code` the error that ended it, `model` the one that answered
    most; `cost_usd` is the sum over `usage`. `incomplete`: it ended before the CLI reported its usage, so that this
    is a lower bound, without dollars.
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


@_request(ExecutionListData, Need.WATCH, "history", repeatable=True, rare=True)
class ExecutionList(ProjectRequest, frozen=True):
    """List a project's executions with what they used, newest first; `before` is the last id of the page before."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    before: Id | None = None


class WaitingApproval(Struct, frozen=True):
    """A tool request that waits, and its project; `conversation_id` of a conversation that is not the main one."""

    project_id: str
    approval: push.ApprovalRequestedData
    conversation_id: str | msgspec.UnsetType = msgspec.UNSET


class WatchData(Struct, frozen=True):
    """Reply to `watch`: the current state of all projects.

    From then on the connection also gets each `project_state`, `approval_requested`, `approval_resolved` and
    `approval_cancelled` of the projects that it has not joined. Send `watch` again after leaving a project before all
    its entries have come. A connection that was too congested for these pushes gets a `watch` without a `request_id`
    once it has space: the state at that time, which replaces the earlier one. `conversations`: those other than the
    main ones, for clients that know of them.
    """

    projects: list[push.ProjectStateData]
    approvals: list[WaitingApproval]
    conversations: list[push.ProjectStateData] | msgspec.UnsetType = msgspec.UNSET


@_request(WatchData, Need.WATCH, "project", repeatable=True, rare=True)
class Watch(Request, frozen=True):
    """Get the state and the approvals of all projects, joined or not; `away`: no user is at this client.

    Users are then notified as if it were not connected. Each `watch` replaces `away` of the one before. With
    `announce`, `incoming` is sent before large frames, for clients that see a frame only once all of it arrived.
    With `conversations`, or once it has named a `conversation_id`, the connection also gets the frames of conversations
    other than the main ones; without, it sees each project as one conversation.
    """

    away: bool = False
    announce: bool = False
    conversations: bool = False


class DirectoryData(Struct, frozen=True):
    """A directory, and the project that it is already."""

    path: str
    project_id: str | None


class PathCompleteData(Struct, frozen=True):
    """Reply to `path_complete`, only with paths in `projects.allowed_roots`. `truncated`: there are more."""

    path: str
    entries: list[DirectoryData]
    truncated: bool


@_request(PathCompleteData, Need.OWN, "project", waits=True, repeatable=True, audited=False, rare=True)
class PathComplete(Request, frozen=True):
    """List the directories with which the path of a new project may continue; an empty path lists where to start."""

    path: Annotated[str, Meta(max_length=4096)]


class PathInspectData(Struct, frozen=True):
    """Reply to `path_inspect`: the real path, the project that it is already, and what it has the CLI do by itself.

    `claims`: a page, from the `offset` of the request on: those not accepted for this project first, each part with
    programs first and rules last. `total`: the number of all; `counts`: the number of each kind; `new`: the number of
    those not accepted, which is all for a directory that is not a project. `hash` names this state of the directory,
    for `project_create` and `project_trust`: another one on a later page means that it has changed.
    """

    path: str
    project_id: str | None
    claims: list[Claim]
    total: int = 0
    counts: dict[str, int] = {}
    new: int = 0
    hash: str = ""


@_request(PathInspectData, Need.OWN, "project", waits=True, repeatable=True, audited=False, rare=True)
class PathInspect(Request, frozen=True):
    """Show what a directory has the CLI do without asking, before it becomes a project or while it is one.

    That is hooks, MCP servers, rules and variables of its own settings, in files that one of `claude.setting_sources`
    reads. The reply has a page of them, from `offset` on.
    """

    path: Annotated[str, Meta(max_length=4096)]
    offset: Annotated[int, Meta(ge=0)] = 0


class RunningData(Struct, frozen=True):
    """A running execution; `conversation_id` of a conversation that is not the main one."""

    project_id: str
    execution_id: str
    conversation_id: str | msgspec.UnsetType = msgspec.UNSET


class DeviceData(Struct, frozen=True):
    """A device that may connect, its open connections, and when and where it last connected.

    `view_only`: it may change nothing. `projects`: those that it may see; null for all. `current`: it sent this
    request. `paired_by`: the device that made its pairing code. `queued`: its prompts that wait; `running`: its
    executions that run. `credential`: `token` for programs, `cookie` for browsers, `either` for a device from before
    keys that has not come back yet. `bound`: its cookie is valid only together with a key of the browser.
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

    `name`, `view_only`, `projects`: those of the new device. `device_id`: the device that made the code; null for the
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
    """Reply to `device_list`, the oldest first. `auth`: false where clients need no token.

    `pairings`: the codes that are valid now.
    """

    devices: list[DeviceData]
    auth: bool
    pairings: list[PairingData]


@_request(DeviceListData, Need.OWN, "device", repeatable=True, audited=False, rare=True)
class DeviceList(Request, frozen=True):
    """List the devices that may connect."""


@_request(DeviceData, Need.OWN, "device", rare=True)
class DeviceRename(Request, frozen=True):
    """Rename a device."""

    device_id: Id
    name: DeviceName


class DeviceRevokedData(Struct, frozen=True):
    """Reply to `device_revoke`.

    `revoked`: the devices that lost their access, this one first. `withdrawn`: the number of their queued prompts,
    which were withdrawn. `running`: their executions that go on, without `kill`; `agent_kill` ends them.
    """

    device_id: str
    revoked: list[str]
    withdrawn: int
    running: list[RunningData]


@_request(DeviceRevokedData, Need.OWN, "device", rare=True)
class DeviceRevoke(Request, frozen=True):
    """End a device's access: its connections are closed, its pairing codes end, its queued prompts are withdrawn.

    `kill` also kills its executions. `paired` also revokes the devices paired by its codes, and by theirs.
    """

    device_id: Id
    kill: bool = False
    paired: bool = False


class DeviceRotatedData(Struct, frozen=True):
    """Reply to `device_rotate`; `token` is sent only here. `withdrawn`, `running`: as in `device_revoke`."""

    device_id: str
    token: str
    withdrawn: int
    running: list[RunningData]


@_request(DeviceRotatedData, Need.OWN, "device", rare=True)
class DeviceRotate(Request, frozen=True):
    """Replace a device's token; the old one ends at once, and with it what `device_revoke` ends.

    The cookie of a browser becomes a token; a browser replaces its own cookie by `POST /api/rotate`. `kill` also kills
    the device's executions.
    """

    device_id: Id
    kill: bool = False


class PairingStartData(Struct, frozen=True):
    """Reply to `pairing_start`. Each of `urls` is a page that redeems the code, the best first.

    `qr` has each of them as a QR code: a line of `0` (light) and `1` (dark) for each row, without a quiet zone.
    `expires_in`: seconds until `expires_at`, for a client whose clock is wrong. `id`: for `pairing_cancel`.
    """

    id: str
    code: str
    expires_at: str
    expires_in: int
    urls: list[str]
    qr: list[list[str]]


@_request(PairingStartData, Need.OWN, "device", rare=True)
class PairingStart(Request, frozen=True):
    """Get a code that pairs one more device, within five minutes.

    `name`: its name (by default it chooses one itself); `view_only`: it may change nothing; `projects`: the only ones
    that it may see.
    """

    name: DeviceName | None = None
    view_only: bool = False
    projects: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=1000)] | None = None


class PairingCancelledData(Struct, frozen=True):
    pairing_id: str


@_request(PairingCancelledData, Need.OWN, "device", rare=True)
class PairingCancel(Request, frozen=True):
    """End a pairing code that was not redeemed yet, by its `id` in `device_list`."""

    pairing_id: Id


class ResourceFigures(Struct, frozen=True):
    """The resources of the server; the disk is the one of its data directory."""

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
    connections: push.ConnectionFigures
    projects: push.ProjectFigures
    resources: ResourceFigures
    claude: ClaudeFigures
    checks: dict[str, CheckData]


@_request(HealthCheckData, Need.WATCH, "server", repeatable=True, rare=True)
class HealthCheck(Request, frozen=True):
    """Get the health of the server."""


@_request(push.ServerStatsData, Need.OVERVIEW, "server", repeatable=True, rare=True)
class ServerStats(Request, frozen=True):
    """Get statistics, once or every `interval` seconds (0 stops)."""

    interval: Interval | None = None


class ServerHistoryData(Struct, frozen=True):
    """Reply to `server_history`, and its pushes, which hold the points since the one before.

    `times` are in milliseconds since the Unix epoch, `step` seconds apart; each of `series` has a value for each of
    `times`, null where there was no sample. A series of `errors` that is missing is 0 throughout. The history starts
    with the server: another `began` than before means a new history.
    """

    began: str
    step: int
    times: list[int]
    series: dict[str, list[float | None]]


@_request(ServerHistoryData, Need.OVERVIEW, "server", repeatable=True, rare=True)
class ServerHistory(Request, frozen=True):
    """Get the samples of the last `range` seconds, then the new ones, every `interval` seconds (0 stops)."""

    range: Annotated[int, Meta(ge=60, le=86_400)] = 3600
    interval: Interval | None = None


class CheckStateData(Struct, frozen=True):
    """A health check, and since when it has had this status (null: it has not run yet)."""

    name: str
    status: Literal["healthy", "warning", "unhealthy"]
    message: str | None
    since: str | None
    runbook: str | None


class LimitData(Struct, frozen=True):
    """A limit (0: none) and how much of it is used, as in the metrics `limit` and `limit_usage`."""

    name: str
    usage: float
    limit: float
    runbook: str | None


class SlowExecutionData(Struct, frozen=True):
    """An execution that runs, or one of the slowest that ended; `waiting`: it waits for an approval now.

    `conversation_id` of a conversation that is not the main one of its project.
    """

    execution_id: str
    project_id: str
    project: str | None
    status: ExecutionStatus
    model: str | None
    started_at: str
    duration_ms: int
    waited_ms: int
    waiting: bool
    conversation_id: str | msgspec.UnsetType = msgspec.UNSET


class LastErrorData(Struct, frozen=True):
    """An error, its number since the server started, and the time and the request of the last one."""

    code: str
    operation: str
    message: str
    count: int
    at: str
    correlation_id: str | None
    project_id: str | None
    runbook: str | None


class ServerOverviewData(Struct, frozen=True):
    """Reply to `server_overview`, and its pushes; `uptime` in seconds, a `runbook` is /docs/runbooks/NAME.

    `usage_windows`: the usage limits of the account. `paused`: the number of executions that wait for a reset, or for a
    client's decision since their process was lost.
    """

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
    usage_windows: list[push.UsageWindowData] = []
    paused: int = 0


@_request(ServerOverviewData, Need.OVERVIEW, "server", repeatable=True, rare=True)
class ServerOverview(Request, frozen=True):
    """Get checks, limits, slow executions and the last errors, once or every `interval` seconds (0 stops)."""

    interval: Interval | None = None


REQUESTS: Final[Mapping[str, type[Request]]] = _requests  # every request by the `type` of its frame

FRAMES: Final[Mapping[str, type[Struct]]] = {
    **{kind.spec.reply: kind.spec.data for kind in REQUESTS.values()},
    **push.PUSHES,
}
"""The `data` of every frame of the server by its `type`: replies and pushes."""
