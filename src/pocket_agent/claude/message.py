"""A peek into a line of the CLI: the few fields that the server needs, and whether it is JSON at all.

The line itself is passed on byte for byte, so it has to be valid as a whole: msgspec checks the
syntax of what it skips but not its UTF-8, which is therefore checked here. msgspec refuses escaped
lone surrogates (`"\\ud800"`), which RFC 8259 permits and JavaScript prints when text was cut within
a pair; such lines take a slower path. Types and fields that are not known do no harm.
"""

import enum
import json
import re
from typing import Any, Final, NoReturn

import msgspec

from pocket_agent.claude.content import ApiMessage, Origin, PromptOutcome, StreamEvent, Task, ToolResultMeta, Usage
from pocket_agent.model import HoldReason

_EXCERPT_CHARACTERS: Final = 200
_TEXT_CHARACTERS: Final = 10_000
_NULL: Final = msgspec.Raw(b"null")


class Kind(enum.Enum):
    """What the server does with a line depends on this."""

    INIT = "init"
    ASSISTANT = "assistant"
    USER = "user"
    RESULT = "result"
    STREAM_EVENT = "stream_event"
    CONTROL_REQUEST = "control_request"
    CONTROL_CANCEL_REQUEST = "control_cancel_request"
    CONTROL_RESPONSE = "control_response"
    LIFECYCLE = "command_lifecycle"
    OTHER = "other"
    """Valid, and neither ends nor begins a turn; the subtype of a `system` message says more."""
    GARBAGE = "garbage"
    """Not a JSON object."""


_KINDS: Final = {kind.value: kind for kind in Kind if kind not in {Kind.INIT, Kind.OTHER, Kind.GARBAGE}}


class ControlResponse(msgspec.Struct, frozen=True, gc=False):
    """The CLI's answer to a control request.

    Attributes:
        subtype: "success" or "error".
        response: the answer's content (JSON), null when there is none.
        error, error_code: a sentence and a stable word, when it failed.
    """

    subtype: str = ""
    request_id: str | None = None
    response: msgspec.Raw = _NULL
    error: str | None = None
    error_code: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the request was carried out."""
        return self.subtype == "success"


_RENAMED: Final = {
    "is_replay": "isReplay",
    "permission_mode": "permissionMode",
    "lifecycle_state": "state",
    "turn_usage": "model_usage_since_last_result",
    # No line of the CLI has keys like these two; they are set here, for garbage.
    "reason": "(reason)",
    "excerpt": "(excerpt)",
}


class Message(msgspec.Struct, kw_only=True, rename=_RENAMED):
    """The fields of a line that the server needs, named as the CLI names them; absent ones are None.

    Attributes:
        result: of a `result`, the final text; the text of the error when the API refused.
        errors: of a `result`, what went wrong.
        usage, num_turns: of a `result`, for this turn alone; without subagents, and zero when it was interrupted.
        turn_usage: of a `result`, tokens and dollars since the one before, by model (JSON); complete.
        total_cost_usd: of a `result`, United States dollars, summed over the life of the session: a resumed
            one goes on from where it was.
        api_error_status: of a `result`, the HTTP status with which the API refused (2.1.330).
        terminal_reason: of a `result`, how the turn ended: "completed", "api_error", ... (2.1.330).
        origin: of a `result`, who began the turn, when that was not a prompt.
        duration_ms: of a `result`, how long the turn took.
        permission_denials: of a `result`, the tool uses that were denied.
        message: of `assistant` and `user`, the API's message.
        tool_result_meta: of a `user` line with tool results, more about these.
        request: of a `control_request`, the whole request object (JSON).
        response: of a `control_response`, the answer.
        event: of a `stream_event`, the API's event.
        tasks: of a `background_tasks_changed`, all that runs next to the turns.
        task_id, task_type, description, is_backgrounded, status: of a `task_started` and a `task_notification`.
        user_message_uuids: of an `init` and a `result`, the prompts that the turn has taken in (2.1.330).
        prompt_submit_outcome: of an `informational`, what a hook made of a prompt.
        lifecycle_state, command_uuid: of a `command_lifecycle`, the prompt's uuid and where it is:
            "queued", "started", "completed", "cancelled".
        reason, excerpt: of garbage, what it is ("a line that is not JSON"), and its printable beginning.
    """

    type: str = ""
    subtype: str | None = None
    session_id: str | None = None
    uuid: str | None = None
    parent_tool_use_id: str | None = None
    model: str | None = None
    permission_mode: str | None = None
    is_error: bool | None = None
    is_replay: bool | None = None
    result: str | None = None
    errors: list[str] | None = None
    usage: Usage | None = None
    turn_usage: msgspec.Raw = _NULL
    total_cost_usd: float | None = None
    api_error_status: int | None = None
    terminal_reason: str | None = None
    duration_ms: float | None = None
    num_turns: int | None = None
    permission_denials: list[msgspec.Raw] | None = None
    origin: Origin | None = None
    message: ApiMessage | None = None
    tool_result_meta: list[ToolResultMeta] | None = None
    request: msgspec.Raw = _NULL
    response: ControlResponse | None = None
    event: StreamEvent | None = None
    tasks: list[Task] | None = None
    task_id: str | None = None
    task_type: str | None = None
    description: str | None = None
    is_backgrounded: bool | None = None
    status: str | None = None
    user_message_uuids: list[str] | None = None
    prompt_submit_outcome: PromptOutcome | None = None
    lifecycle_state: str | None = None
    command_uuid: str | None = None
    reason: str | None = None
    excerpt: str | None = None
    outer_request_id: str | None = msgspec.field(name="request_id", default=None)

    @property
    def kind(self) -> Kind:
        """What the line is."""
        if self.reason is not None:
            return Kind.GARBAGE
        if self.type == "system":
            return Kind.INIT if self.subtype == "init" else Kind.OTHER
        return _KINDS.get(self.type, Kind.OTHER)

    @property
    def is_entry(self) -> bool:
        """Whether the line belongs into the log; partial text is live only, garbage is neither."""
        return self.kind is not Kind.STREAM_EVENT and self.kind is not Kind.GARBAGE

    @property
    def request_id(self) -> str | None:
        """Of the three control kinds: which request it is, is withdrawn, or is answered."""
        return self.response.request_id if self.response is not None else self.outer_request_id

    @property
    def event_type(self) -> str | None:
        """Of a `stream_event`: the type of the API's event."""
        return self.event.type if self.event is not None else None

    @property
    def delta_kind(self) -> str | None:
        """Of a `stream_event` that brings text: "text", "thinking" or "input_json"."""
        return self.event.delta_kind if self.event is not None else None

    @property
    def delta_text(self) -> str | None:
        """Of a `stream_event` that brings text: the text."""
        return self.event.delta_text if self.event is not None else None

    @property
    def is_own_turn(self) -> bool:
        """Whether a `result` ends a turn that the CLI began by itself, such as for a background task (2.1.330)."""
        return self.origin is not None and self.origin.kind not in {"", "human"}

    @property
    def result_text(self) -> str | None:
        """Of a `result`: its text, or its errors, at most 10,000 characters."""
        text = self.result or "\n".join(self.errors or ())
        return text[:_TEXT_CHARACTERS] or None

    @property
    def fault(self) -> HoldReason | None:
        """Of a `result`: the fault of the account, the API or the network that another prompt would meet, too."""
        if not self.is_error or self.terminal_reason not in {None, "api_error"}:
            return None
        status, text = self.api_error_status, self.result_text or ""
        if status in _BY_STATUS:
            return _BY_STATUS[status]
        if status is not None and status >= 500:
            return HoldReason.OVERLOADED
        return next((reason for pattern, reason in _BY_TEXT if pattern.match(text)), None)

    @property
    def lost_conversation(self) -> bool:
        """Whether a `result` says that the session to resume does not exist (wording of 2.1.330)."""
        return any(
            error.startswith("No conversation found") or "--resume requires" in error for error in self.errors or ()
        )


_BY_STATUS: Final = {
    401: HoldReason.AUTHENTICATION,
    402: HoldReason.CREDIT,
    403: HoldReason.AUTHENTICATION,
    429: HoldReason.USAGE_LIMIT,
}
_BY_TEXT: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"credit balance is too low|api error: 402\b", HoldReason.CREDIT),
        (
            (
                r"not logged in|invalid api key|please run /login|failed to authenticate|oauth (token|authentication)"
                r"|api error: 40[13]\b"
            ),
            HoldReason.AUTHENTICATION,
        ),
        (
            (
                r"claude( ai)? usage limit|you've (hit|reached) your\b.*\blimit|[^\n]{0,40}\blimit reached\b"
                r"|api error: (request rejected \()?429\b"
            ),
            HoldReason.USAGE_LIMIT,
        ),
        (r"api error: 5\d\d\b|(api error: )?(repeated 529 )?overloaded", HoldReason.OVERLOADED),
        (
            r"api error:.*(connect|network|timed out|can't reach|fetch failed|dns|socket|certificate|\bE[A-Z_]{4,}\b)",
            HoldReason.NETWORK,
        ),
    )
)
"""How the texts of refused requests begin: 2.1.330 as observed, before it as the CLI's changes and reports of its
users quote them (github.com/anthropics/claude-code). Older versions report no status."""

_decode: Final = msgspec.json.Decoder(Message).decode


def peek(line: bytes) -> Message:
    """Read the fields that the server needs; never raises.

    Args:
        line: a line without its newline.
    """
    try:
        if not line.isascii():
            line.decode()
        return _decode(line)
    except UnicodeDecodeError:
        return _garbage(line, "text that is not UTF-8")
    except RecursionError:
        return _garbage(line, "JSON that is nested too deeply")
    except msgspec.ValidationError:
        return _peek_leniently(line)
    except msgspec.DecodeError:
        if b"\\ud" in line or b"\\uD" in line:
            return _peek_leniently(line)
        return _garbage(line, "a line that is not JSON")


def _peek_leniently(line: bytes) -> Message:
    """The same for a line with lone surrogates, or whose fields are not of the types expected."""
    try:
        value = json.loads(line.decode(), parse_constant=_refuse_constant, parse_int=_integer)
    except RecursionError:
        return _garbage(line, "JSON that is nested too deeply")
    except ValueError:
        return _garbage(line, "a line that is not JSON")
    if not isinstance(value, dict):
        return _garbage(line, "JSON that is not an object")
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(Message):
        if field.encode_name in value and not field.encode_name.startswith("("):
            try:
                cleaned = _without_surrogates(value[field.encode_name])
                fields[field.name] = msgspec.json.decode(msgspec.json.encode(cleaned), type=field.type)
            except (msgspec.ValidationError, OverflowError):
                continue
    return Message(**fields)


def _integer(digits: str) -> int | float:
    """Integers beyond what 64 bits hold are floats, as they are in JavaScript."""
    return int(digits) if len(digits) < 19 else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    """`NaN` and the infinities are not JSON, though Python reads them."""
    raise ValueError(name)


def _without_surrogates(value: object) -> object:
    """Replace lone surrogates by U+FFFD, as the CLI itself does with what it is given."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _garbage(line: bytes, reason: str) -> Message:
    text = line[: _EXCERPT_CHARACTERS * 4].decode("utf-8", "replace")[:_EXCERPT_CHARACTERS]
    excerpt = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return Message(reason=reason, excerpt=excerpt)
