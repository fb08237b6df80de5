"""Requests: one class each, which declares everything about it, with its reply; and the decoder of client frames.

Unknown fields are ignored; unknown types and unacceptable values are errors.
"""

import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from pocket_agent.errors import InvalidMessageError, ValidationError
from pocket_agent.model import (
    MAX_OFFSET,
    Claim,
    Credential,
    ExecuteOptions,
    ExecutionStatus,
    Position,
    ProjectState,
)
from pocket_agent.protocol.push import (
    PUSHES,
    AgentKillData,
    ApprovalRequestedData,
    ApprovalResolvedData,
    ConnectionFigures,
    ProjectDeletedData,
    ProjectFigures,
    ProjectStateData,
    QueuedPrompt,
    ServerStatsData,
    SessionResetData,
)

Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET, description="An entry's number; 0 is before the first")]
Id = Annotated[str, Meta(min_length=1, max_length=200)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
DeviceName = Annotated[str, Meta(min_length=1, max_length=100)]
Path = Annotated[str, Meta(min_length=1, max_length=4096)]
Prompt = Annotated[str, Meta(min_length=1)]
Interval = Annotated[float, Meta(ge=0, le=3600)]
PermissionMode = Literal["default", "acceptEdits", "plan", "auto", "dontAsk", "bypassPermissions"]
"""The values of the CLI's `--permission-mode`."""

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]

MAX_REQUEST_ID: Final = 200


class Since(Struct, frozen=True):
    """A place in the log that a client has seen up to and including.

    `timestamp` is that of the entry at `offset`, as its frame has it: another one shows that the log was put back to
    an older state.
    """

    offset: Offset
    epoch: str | None = None
    timestamp: str | None = None


class Need(Enum):
    """What a request needs of the device that makes it."""

    WATCH = "watch"
    """Nothing: it changes nothing, and the reply shows only what the device may see."""
    OVERVIEW = "overview"
    """Access to all projects: it changes nothing, but its reply is about all projects together."""
    ACT = "act"
    """More than viewing: it changes something within one project."""
    OWN = "own"
    """More than viewing, and access to all projects: it concerns the server as a whole."""


class Spec(NamedTuple):
    """What there is to know about a request besides its fields.

    Attributes:
        name: the `type` of its frame.
        reply: the `type` of the reply's frame.
        data: the `data` of the reply.
        needs: what the device must be allowed.
        operation: its value of the metric label `operation`.
        waits: it may wait for a project's turn or for a disk; other requests of the connection overtake it.
        repeatable: clients send it again when the connection ended before the reply came.
        audited: it is written to the audit log.
    """

    name: str
    reply: str
    data: type[Struct]
    needs: Need
    operation: str
    waits: bool
    repeatable: bool
    audited: bool


class Request(Struct, frozen=True):
    """Base class of all requests."""

    spec: ClassVar[Spec]

    def audit_details(self) -> dict[str, object]:
        """What the audit log says about it: ids and choices, but no text that a person or an agent wrote."""
        found: dict[str, object] = msgspec.to_builtins(self)
        found.pop("project_id", None)
        return found


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
) -> Callable[[type[_R]], type[_R]]:
    """Declare a request; see `Spec`.

    Its `type` is the name of the class in snake case. `reply` is the same unless given. Requests that change something
    are audited unless `audited` says otherwise.
    """
    changes = needs in {Need.ACT, Need.OWN}

    def declare(kind: type[_R]) -> type[_R]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
        noted = changes if audited is None else audited
        kind.spec = Spec(name, reply or name, data, needs, operation, waits, repeatable, noted)
        _requests[name] = kind
        return kind

    return declare


@_request(ProjectStateData, Need.OWN, "project", reply="project_state", waits=True)
class ProjectCreate(Request, frozen=True):
    """Make a directory a project. What its own settings have the CLI do counts as accepted from then on.

    `hash` (of `path_inspect`) accepts only what a person has seen: when the directory is in another state, the error is
    `VALIDATION_FAILED`, with the `hash` of that in its details. Without it everything that is there is accepted.
    """

    path: Path
    hash: Hash | None = None


class ProjectListData(Struct, frozen=True):
    """Reply to `project_list`."""

    projects: list[ProjectStateData]
    total: int


@_request(ProjectListData, Need.WATCH, "project", reply="project_list_response", repeatable=True)
class ProjectList(Request, frozen=True):
    """List all projects."""


@_request(ProjectStateData, Need.OWN, "project", reply="project_state", waits=True)
class ProjectTrust(Request, frozen=True):
    """Accept what the project's own settings have the CLI do, as it is in the state with this `hash` (`path_inspect`).

    Before each prompt the server compares the settings with what was accepted. While something is new or changed, the
    prompts wait, with a `queue_hold` of the reason `trust`. When the directory is in another state than `hash`, nothing
    is accepted, and the error is `VALIDATION_FAILED`, with the `hash` of that state in its details.
    """

    hash: Hash
    project_id: Id | None = None


@_request(ProjectDeletedData, Need.ACT, "project", reply="project_deleted", waits=True)
class ProjectDelete(Request, frozen=True):
    """Forget a project and its log; the directory itself is not touched."""

    project_id: Id | None = None


Large = Literal["whole", "reference"]
"""How entries of more than 16 KiB come: whole, or as a preview, to be fetched whole by `get_messages`."""


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


@_request(ProjectJoinData, Need.WATCH, "project")
class ProjectJoin(Request, frozen=True):
    """Subscribe to a project, optionally with everything after `since`.

    With `large: "reference"` an entry of more than 16 KiB comes as a preview, with `size` and `cut` next to its
    `data` (see `MessageData`), so that no frame is long under way on a slow link; requests for an approval come whole.
    """

    project_id: Id | None = None
    since: Since | Annotated[int, Meta(ge=0, le=MAX_OFFSET)] | str | None = None
    large: Large = "whole"


class ProjectLeaveData(Struct, frozen=True):
    """Reply to `project_leave`."""

    project_id: str


@_request(ProjectLeaveData, Need.WATCH, "project")
class ProjectLeave(Request, frozen=True):
    """Stop following a project."""

    project_id: Id | None = None


class Options(Struct, frozen=True):
    """What a client may choose for one execution."""

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
        """The same values as the core's own type; strings that no program argument can hold are refused.

        Raises:
            ValidationError: a NUL character in a value.
        """
        for name in self.__struct_fields__:
            value = getattr(self, name)
            texts = value if isinstance(value, tuple) else (value,)
            if any(isinstance(text, str) and "\0" in text for text in texts):
                raise ValidationError(f"options.{name} contains a NUL character, which no option can hold.")
        return ExecuteOptions(**{name: getattr(self, name) for name in self.__struct_fields__})


class ExecuteData(Struct, frozen=True):
    """Reply to `execute`; `position` is 0 for a prompt that runs, else its place in the queue from 1."""

    project_id: str
    execution_id: str
    status: Literal["started", "queued"]
    position: int


@_request(ExecuteData, Need.ACT, "execute", waits=True)
class Execute(Request, frozen=True):
    """Give the agent a prompt; it runs now or waits in the queue.

    `traceparent` (W3C Trace Context) makes the execution part of the client's trace; one that is
    malformed is ignored.
    """

    prompt: Prompt
    project_id: Id | None = None
    options: Options | None = None
    prompt_id: Id | None = None
    traceparent: Annotated[str, Meta(max_length=200)] | None = None

    def audit_details(self) -> dict[str, object]:
        """The prompt's id and its options, without the texts among them."""
        options: dict[str, Any] = {} if self.options is None else msgspec.to_builtins(self.options.to_model())
        options.pop("append_system_prompt", None)
        if "mcp_config" in options:
            options["mcp_config"] = True
        return {"prompt_id": self.prompt_id, "options": options}


@_request(AgentKillData, Need.ACT, "agent", waits=True)
class AgentKill(Request, frozen=True):
    """End the running execution and all its processes.

    With `execution_id` only that one: when it has ended or another one runs, the error is `PROCESS_NOT_FOUND`. With
    `hold_queue` the prompts that wait stay until `queue_resume`.
    """

    project_id: Id | None = None
    execution_id: Id | None = None
    hold_queue: bool = False


class AgentInterruptData(Struct, frozen=True):
    """Reply to `agent_interrupt`; `execution_id` as of `agent_kill`. An interrupt ends the turn and the subagents;
    commands in the background go on, unless nothing else runs."""

    project_id: str
    execution_id: str | None
    status: Literal["interrupting"] = "interrupting"


@_request(AgentInterruptData, Need.ACT, "agent", waits=True)
class AgentInterrupt(Request, frozen=True):
    """Ask the agent to stop what it does; its session stays warm.

    `execution_id` and `hold_queue` as for `agent_kill`.
    """

    project_id: Id | None = None
    execution_id: Id | None = None
    hold_queue: bool = False


@_request(SessionResetData, Need.ACT, "agent", waits=True)
class AgentNewSession(Request, frozen=True):
    """Begin a fresh conversation with the next prompt."""

    project_id: Id | None = None


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


@_request(MessagesData, Need.WATCH, "history", reply="messages_response", repeatable=True)
class GetMessages(Request, frozen=True):
    """Read a page of the log: the newest entries, those before `before`, or those after `since`.

    A page has at most `limit` entries and `max_bytes` of data, but one entry always; without `max_bytes` the bound
    is 8 MiB. With `large: "reference"` an entry of more than 16 KiB is a preview, see `MessageData`; a page of one
    entry without it fetches the whole.
    """

    project_id: Id | None = None
    since: Since | Annotated[int, Meta(ge=0, le=MAX_OFFSET)] | str | None = None
    before: Since | Annotated[int, Meta(ge=0, le=MAX_OFFSET)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    direction: Literal["all", "client", "claude", "server"] = "all"
    max_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * 1024)] | None = None
    large: Large = "whole"


@_request(ApprovalResolvedData, Need.ACT, "approval", reply="approval_resolved", waits=True)
class ApprovalRespond(Request, frozen=True):
    """Answer a tool request of the agent; the first answer wins. `remember` allows for the rest of the session what the
    request's `suggestions` say."""

    approval_id: Id
    behavior: Literal["allow", "deny"]
    project_id: Id | None = None
    message: Annotated[str, Meta(max_length=100_000)] | None = None
    updated_input: dict[str, msgspec.Raw] | None = None
    remember: bool = False

    def audit_details(self) -> dict[str, object]:
        """The answer, and whether the tool's input was changed."""
        return {
            "approval_id": self.approval_id,
            "behavior": self.behavior,
            "remember": self.remember,
            "changed_input": self.updated_input is not None,
        }


class PromptChangedData(Struct, frozen=True):
    """Reply to `prompt_edit` and `prompt_cancel`."""

    project_id: str
    execution_id: str


@_request(PromptChangedData, Need.ACT, "execute", waits=True)
class PromptEdit(Request, frozen=True):
    """Change a prompt that still waits in the queue."""

    execution_id: Id
    prompt: Prompt
    project_id: Id | None = None

    def audit_details(self) -> dict[str, object]:
        """The execution's id."""
        return {"execution_id": self.execution_id}


@_request(PromptChangedData, Need.ACT, "execute", waits=True)
class PromptCancel(Request, frozen=True):
    """Withdraw a prompt that still waits in the queue."""

    execution_id: Id
    project_id: Id | None = None


class QueueResumeData(Struct, frozen=True):
    """Reply to `queue_resume`."""

    project_id: str
    status: Literal["resumed"] = "resumed"


@_request(QueueResumeData, Need.ACT, "execute", waits=True)
class QueueResume(Request, frozen=True):
    """Let the prompts that wait go on, in order, after the queue was on hold; without a hold nothing changes."""

    project_id: Id | None = None


class SetModelData(Struct, frozen=True):
    """Reply to `set_model`."""

    project_id: str
    model: str | None


@_request(SetModelData, Need.ACT, "agent", waits=True)
class SetModel(Request, frozen=True):
    """Choose the model of the project, now and for later prompts; null is the CLI's default."""

    model: Name | None
    project_id: Id | None = None


class SetPermissionModeData(Struct, frozen=True):
    """Reply to `set_permission_mode`."""

    project_id: str
    mode: str


@_request(SetPermissionModeData, Need.ACT, "agent", waits=True)
class SetPermissionMode(Request, frozen=True):
    """Choose the permission mode of the project, now and for later prompts."""

    mode: PermissionMode
    project_id: Id | None = None


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


@_request(SessionListData, Need.WATCH, "history", repeatable=True)
class SessionList(Request, frozen=True):
    """List the conversations of a project that can be resumed."""

    project_id: Id | None = None


class SessionResumeData(Struct, frozen=True):
    """Reply to `session_resume`: the conversation that the next prompt continues."""

    project_id: str
    session_id: str
    fork: bool


@_request(SessionResumeData, Need.ACT, "agent", waits=True)
class SessionResume(Request, frozen=True):
    """Continue an older conversation with the next prompt, or a copy of it (`fork`)."""

    session_id: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    project_id: Id | None = None
    fork: bool = False


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


@_request(ExecutionListData, Need.WATCH, "history", repeatable=True)
class ExecutionList(Request, frozen=True):
    """List a project's executions with what they used, newest first; `before` is the last id of the page before."""

    project_id: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    before: Id | None = None


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


@_request(WatchData, Need.WATCH, "project", repeatable=True)
class Watch(Request, frozen=True):
    """Hear of the state and the approvals of all projects, joined or not; while `away`, nobody looks at this client.

    People are then notified as if it were not connected. Who asks again says anew whether somebody looks. With
    `announce`, `incoming` is sent before large frames, for clients that see nothing of a frame until all of it arrived.
    """

    away: bool = False
    announce: bool = False


class DirectoryData(Struct, frozen=True):
    """A directory, and the project that it is already."""

    path: str
    project_id: str | None


class PathCompleteData(Struct, frozen=True):
    """Reply to `path_complete`; nothing outside `projects.allowed_roots` is told. `truncated`: there are more."""

    path: str
    entries: list[DirectoryData]
    truncated: bool


@_request(PathCompleteData, Need.OWN, "project", waits=True, repeatable=True, audited=False)
class PathComplete(Request, frozen=True):
    """List the directories to which the path of a new project may go on; an empty path tells where to begin."""

    path: Annotated[str, Meta(max_length=4096)]


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


@_request(PathInspectData, Need.OWN, "project", waits=True, repeatable=True, audited=False)
class PathInspect(Request, frozen=True):
    """Tell what a directory has the CLI do without asking, before it becomes a project or while it is one.

    That is hooks, MCP servers, rules and variables of its own settings. Files that none of `claude.setting_sources`
    reads are left out. The reply has a page of them, from `offset` on.
    """

    path: Annotated[str, Meta(max_length=4096)]
    offset: Annotated[int, Meta(ge=0)] = 0


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


@_request(DeviceListData, Need.OWN, "device", repeatable=True, audited=False)
class DeviceList(Request, frozen=True):
    """List the devices that may connect."""


@_request(DeviceData, Need.OWN, "device")
class DeviceRename(Request, frozen=True):
    """Call a device by another name."""

    device_id: Id
    name: DeviceName


class DeviceRevokedData(Struct, frozen=True):
    """Reply to `device_revoke`.

    `revoked`: the devices that lost their access, this one first. `withdrawn`: how many of their queued prompts were
    withdrawn. `running`: their executions that go on, unless `kill` was asked for; `agent_kill` ends them.
    """

    device_id: str
    revoked: list[str]
    withdrawn: int
    running: list[RunningData]


@_request(DeviceRevokedData, Need.OWN, "device")
class DeviceRevoke(Request, frozen=True):
    """End a device's access: its connections are closed, its pairing codes end, its queued prompts are withdrawn.

    `kill` also kills what it runs. `paired` also revokes the devices that came in by its pairing codes, and by theirs.
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


@_request(DeviceRotatedData, Need.OWN, "device")
class DeviceRotate(Request, frozen=True):
    """Replace a device's token; the old one ends at once, and with it what `device_revoke` ends.

    A browser holds a cookie, which this turns into a token: it replaces its own by `POST /api/rotate`. `kill` also
    kills what the device runs.
    """

    device_id: Id
    kill: bool = False


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


@_request(PairingStartData, Need.OWN, "device")
class PairingStart(Request, frozen=True):
    """Get a code that lets one more device in, within five minutes.

    `name` is what it will be called (without, it says so itself), `view_only` lets it change nothing, and
    of `projects` it sees only these.
    """

    name: DeviceName | None = None
    view_only: bool = False
    projects: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=1000)] | None = None


class PairingCancelledData(Struct, frozen=True):
    """Reply to `pairing_cancel`."""

    pairing_id: str


@_request(PairingCancelledData, Need.OWN, "device")
class PairingCancel(Request, frozen=True):
    """End a pairing code that was not redeemed yet, by its `id` in `device_list`."""

    pairing_id: Id


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


@_request(HealthCheckData, Need.WATCH, "server", repeatable=True)
class HealthCheck(Request, frozen=True):
    """Ask how the server is."""


@_request(ServerStatsData, Need.OVERVIEW, "server", repeatable=True)
class ServerStats(Request, frozen=True):
    """Ask for figures, once or every `interval` seconds (0 stops)."""

    interval: Interval | None = None


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


@_request(ServerHistoryData, Need.OVERVIEW, "server", repeatable=True)
class ServerHistory(Request, frozen=True):
    """Ask for the figures of the last `range` seconds, then for what is new, every `interval` seconds (0 stops)."""

    range: Annotated[int, Meta(ge=60, le=86_400)] = 3600
    interval: Interval | None = None


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


@_request(ServerOverviewData, Need.OVERVIEW, "server", repeatable=True)
class ServerOverview(Request, frozen=True):
    """Ask for checks, limits, slow executions and the last errors, once or every `interval` seconds (0 stops)."""

    interval: Interval | None = None


REQUESTS: Final[Mapping[str, type[Request]]] = _requests
"""Every request by the `type` of its frame."""

FRAMES: Final[Mapping[str, type[Struct]]] = {
    **{kind.spec.reply: kind.spec.data for kind in REQUESTS.values()},
    **PUSHES,
}
"""The `data` of every frame of the server by its `type`: replies and pushes."""


class _RequestEnvelope(Struct, frozen=True):
    type: str
    project_id: Annotated[str, Meta(max_length=200)] | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")
    request_id: str | None = None


class ClientFrame(Struct, frozen=True):
    """A decoded frame.

    Attributes:
        project_id: the project that the frame names, in its envelope or in its data.
    """

    type: str
    request: Request
    project_id: str | None
    request_id: str | None


class _RequestId(Struct, frozen=True):
    request_id: str | None = None


_NULL: Final = msgspec.Raw(b"null")
_envelope = msgspec.json.Decoder(_RequestEnvelope)
_request_id = msgspec.json.Decoder(_RequestId)
_payloads: Final = {name: msgspec.json.Decoder(kind) for name, kind in REQUESTS.items()}


def request_id_of(frame: bytes | str) -> str | None:
    """The `request_id` of a frame that may be wrong in every other way, so that its error can name it."""
    try:
        found: object = _request_id.decode(frame).request_id
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        found = _request_id_leniently(frame)
    return found if isinstance(found, str) and len(found) <= MAX_REQUEST_ID else None


def _request_id_leniently(frame: bytes | str) -> object:
    """The same for JSON that msgspec refuses: escaped lone surrogates, and numbers beyond a float."""
    try:
        read = json.loads(frame, parse_int=float)
        found = read.get("request_id") if isinstance(read, dict) else None
        str(found).encode()  # it has to fit into a frame itself
    except (ValueError, RecursionError):
        return None
    return cast("object", found)


def decode(frame: bytes | str) -> ClientFrame:
    """Turn a text frame into a typed request.

    Raises:
        InvalidMessageError: not JSON, not an object, no `type`, or a type that does not exist.
        ValidationError: the type exists, its `data` does not fit.
    """
    try:
        envelope = _envelope.decode(frame)
    except msgspec.ValidationError as error:
        raise InvalidMessageError(f"Not a message of this protocol: {error}.") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidMessageError(f"Not valid JSON: {error}.") from error
    except RecursionError as error:
        raise InvalidMessageError("The message is nested too deeply.") from error
    if envelope.request_id is not None and len(envelope.request_id) > MAX_REQUEST_ID:
        raise InvalidMessageError(f"request_id is longer than {MAX_REQUEST_ID} characters.")
    decoder = _payloads.get(envelope.type)
    if decoder is None:
        raise InvalidMessageError(f"Unknown message type {envelope.type[:100]!r}.")
    try:
        request = decoder.decode(b"{}" if envelope.data == _NULL else envelope.data)
    except msgspec.MsgspecError as error:
        raise ValidationError(f"{envelope.type}: {error}.") from error
    except RecursionError as error:
        raise InvalidMessageError("The message is nested too deeply.") from error
    return ClientFrame(
        type=envelope.type,
        request=request,
        project_id=_named_project(envelope.project_id, request),
        request_id=envelope.request_id,
    )


def _named_project(outer: str | None, request: Request) -> str | None:
    inner: str | None = getattr(request, "project_id", None)
    if outer is not None and inner is not None and outer != inner:
        raise ValidationError("project_id of the frame and data.project_id name two different projects.")
    return outer if outer is not None else inner


def position_of(since: Since, epoch: str) -> Position:
    """A client's `since` as a position; without an epoch it means the log's present one."""
    return Position(epoch=since.epoch if since.epoch is not None else epoch, offset=since.offset)
