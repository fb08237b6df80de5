"""Requests: one class each, which declares everything about it, and the decoder of client frames.

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
from pocket_agent.model import MAX_OFFSET, ExecuteOptions, Position
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


@_request(push.ProjectStateData, Need.OWN, "project", reply="project_state", waits=True)
class ProjectCreate(Request, frozen=True):
    """Make a directory a project. What its own settings have the CLI do counts as accepted from then on.

    `hash` (of `path_inspect`) accepts only what a person has seen: when the directory is in another state, the error is
    `VALIDATION_FAILED`, with the `hash` of that in its details. Without it everything that is there is accepted.
    """

    path: Path
    hash: Hash | None = None


@_request(push.ProjectListData, Need.WATCH, "project", reply="project_list_response", repeatable=True)
class ProjectList(Request, frozen=True):
    """List all projects."""


@_request(push.ProjectStateData, Need.OWN, "project", reply="project_state", waits=True)
class ProjectTrust(Request, frozen=True):
    """Accept what the project's own settings have the CLI do, as it is in the state with this `hash` (`path_inspect`).

    Before each prompt the server compares the settings with what was accepted. While something is new or changed, the
    prompts wait, with a `queue_hold` of the reason `trust`. When the directory is in another state than `hash`, nothing
    is accepted, and the error is `VALIDATION_FAILED`, with the `hash` of that state in its details.
    """

    hash: Hash
    project_id: Id | None = None


@_request(push.ProjectDeletedData, Need.ACT, "project", reply="project_deleted", waits=True)
class ProjectDelete(Request, frozen=True):
    """Forget a project and its log; the directory itself is not touched."""

    project_id: Id | None = None


Large = Literal["whole", "reference"]
"""How entries of more than 16 KiB come: whole, or as a preview, to be fetched whole by `get_messages`."""


@_request(push.ProjectJoinData, Need.WATCH, "project")
class ProjectJoin(Request, frozen=True):
    """Subscribe to a project, optionally with everything after `since`.

    With `large: "reference"` an entry of more than 16 KiB comes as a preview, with `size` and `cut` next to its
    `data` (see `MessageData`), so that no frame is long under way on a slow link; requests for an approval come whole.
    """

    project_id: Id | None = None
    since: Since | Annotated[int, Meta(ge=0, le=MAX_OFFSET)] | str | None = None
    large: Large = "whole"


@_request(push.ProjectLeaveData, Need.WATCH, "project")
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


@_request(push.ExecuteData, Need.ACT, "execute", waits=True)
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


@_request(push.AgentKillData, Need.ACT, "agent", waits=True)
class AgentKill(Request, frozen=True):
    """End the running execution and all its processes.

    With `execution_id` only that one: when it has ended or another one runs, the error is `PROCESS_NOT_FOUND`. With
    `hold_queue` the prompts that wait stay until `queue_resume`.
    """

    project_id: Id | None = None
    execution_id: Id | None = None
    hold_queue: bool = False


@_request(push.AgentInterruptData, Need.ACT, "agent", waits=True)
class AgentInterrupt(Request, frozen=True):
    """Ask the agent to stop what it does; its session stays warm.

    `execution_id` and `hold_queue` as for `agent_kill`.
    """

    project_id: Id | None = None
    execution_id: Id | None = None
    hold_queue: bool = False


@_request(push.SessionResetData, Need.ACT, "agent", waits=True)
class AgentNewSession(Request, frozen=True):
    """Begin a fresh conversation with the next prompt."""

    project_id: Id | None = None


@_request(push.MessagesData, Need.WATCH, "history", reply="messages_response", repeatable=True)
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


@_request(push.ApprovalResolvedData, Need.ACT, "approval", reply="approval_resolved", waits=True)
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


@_request(push.PromptChangedData, Need.ACT, "execute", waits=True)
class PromptEdit(Request, frozen=True):
    """Change a prompt that still waits in the queue."""

    execution_id: Id
    prompt: Prompt
    project_id: Id | None = None

    def audit_details(self) -> dict[str, object]:
        """The execution's id."""
        return {"execution_id": self.execution_id}


@_request(push.PromptChangedData, Need.ACT, "execute", waits=True)
class PromptCancel(Request, frozen=True):
    """Withdraw a prompt that still waits in the queue."""

    execution_id: Id
    project_id: Id | None = None


@_request(push.QueueResumeData, Need.ACT, "execute", waits=True)
class QueueResume(Request, frozen=True):
    """Let the prompts that wait go on, in order, after the queue was on hold; without a hold nothing changes."""

    project_id: Id | None = None


@_request(push.SetModelData, Need.ACT, "agent", waits=True)
class SetModel(Request, frozen=True):
    """Choose the model of the project, now and for later prompts; null is the CLI's default."""

    model: Name | None
    project_id: Id | None = None


@_request(push.SetPermissionModeData, Need.ACT, "agent", waits=True)
class SetPermissionMode(Request, frozen=True):
    """Choose the permission mode of the project, now and for later prompts."""

    mode: PermissionMode
    project_id: Id | None = None


@_request(push.SessionListData, Need.WATCH, "history", repeatable=True)
class SessionList(Request, frozen=True):
    """List the conversations of a project that can be resumed."""

    project_id: Id | None = None


@_request(push.SessionResumeData, Need.ACT, "agent", waits=True)
class SessionResume(Request, frozen=True):
    """Continue an older conversation with the next prompt, or a copy of it (`fork`)."""

    session_id: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    project_id: Id | None = None
    fork: bool = False


@_request(push.ExecutionListData, Need.WATCH, "history", repeatable=True)
class ExecutionList(Request, frozen=True):
    """List a project's executions with what they used, newest first; `before` is the last id of the page before."""

    project_id: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    before: Id | None = None


@_request(push.WatchData, Need.WATCH, "project", repeatable=True)
class Watch(Request, frozen=True):
    """Hear of the state and the approvals of all projects, joined or not; while `away`, nobody looks at this client.

    People are then notified as if it were not connected. Who asks again says anew whether somebody looks. With
    `announce`, `incoming` is sent before large frames, for clients that see nothing of a frame until all of it arrived.
    """

    away: bool = False
    announce: bool = False


@_request(push.PathCompleteData, Need.OWN, "project", waits=True, repeatable=True, audited=False)
class PathComplete(Request, frozen=True):
    """List the directories to which the path of a new project may go on; an empty path tells where to begin."""

    path: Annotated[str, Meta(max_length=4096)]


@_request(push.PathInspectData, Need.OWN, "project", waits=True, repeatable=True, audited=False)
class PathInspect(Request, frozen=True):
    """Tell what a directory has the CLI do without asking, before it becomes a project or while it is one.

    That is hooks, MCP servers, rules and variables of its own settings. Files that none of `claude.setting_sources`
    reads are left out. The reply has a page of them, from `offset` on.
    """

    path: Annotated[str, Meta(max_length=4096)]
    offset: Annotated[int, Meta(ge=0)] = 0


@_request(push.DeviceListData, Need.OWN, "device", repeatable=True, audited=False)
class DeviceList(Request, frozen=True):
    """List the devices that may connect."""


@_request(push.DeviceData, Need.OWN, "device")
class DeviceRename(Request, frozen=True):
    """Call a device by another name."""

    device_id: Id
    name: DeviceName


@_request(push.DeviceRevokedData, Need.OWN, "device")
class DeviceRevoke(Request, frozen=True):
    """End a device's access: its connections are closed, its pairing codes end, its queued prompts are withdrawn.

    `kill` also kills what it runs. `paired` also revokes the devices that came in by its pairing codes, and by theirs.
    """

    device_id: Id
    kill: bool = False
    paired: bool = False


@_request(push.DeviceRotatedData, Need.OWN, "device")
class DeviceRotate(Request, frozen=True):
    """Replace a device's token; the old one ends at once, and with it what `device_revoke` ends.

    A browser holds a cookie, which this turns into a token: it replaces its own by `POST /api/rotate`. `kill` also
    kills what the device runs.
    """

    device_id: Id
    kill: bool = False


@_request(push.PairingStartData, Need.OWN, "device")
class PairingStart(Request, frozen=True):
    """Get a code that lets one more device in, within five minutes.

    `name` is what it will be called (without, it says so itself), `view_only` lets it change nothing, and
    of `projects` it sees only these.
    """

    name: DeviceName | None = None
    view_only: bool = False
    projects: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=1000)] | None = None


@_request(push.PairingCancelledData, Need.OWN, "device")
class PairingCancel(Request, frozen=True):
    """End a pairing code that was not redeemed yet, by its `id` in `device_list`."""

    pairing_id: Id


@_request(push.HealthCheckData, Need.WATCH, "server", repeatable=True)
class HealthCheck(Request, frozen=True):
    """Ask how the server is."""


@_request(push.ServerStatsData, Need.OVERVIEW, "server", repeatable=True)
class ServerStats(Request, frozen=True):
    """Ask for figures, once or every `interval` seconds (0 stops)."""

    interval: Interval | None = None


@_request(push.ServerHistoryData, Need.OVERVIEW, "server", repeatable=True)
class ServerHistory(Request, frozen=True):
    """Ask for the figures of the last `range` seconds, then for what is new, every `interval` seconds (0 stops)."""

    range: Annotated[int, Meta(ge=60, le=86_400)] = 3600
    interval: Interval | None = None


@_request(push.ServerOverviewData, Need.OVERVIEW, "server", repeatable=True)
class ServerOverview(Request, frozen=True):
    """Ask for checks, limits, slow executions and the last errors, once or every `interval` seconds (0 stops)."""

    interval: Interval | None = None


REQUESTS: Final[Mapping[str, type[Request]]] = _requests
"""Every request by the `type` of its frame."""

FRAMES: Final[Mapping[str, type[Struct]]] = {
    **{kind.spec.reply: kind.spec.data for kind in REQUESTS.values()},
    **push.PUSHES,
}
"""The `data` of every frame of the server by its `type`: replies and pushes."""


class _Envelope(Struct, frozen=True):
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
_envelope = msgspec.json.Decoder(_Envelope)
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
