"""The CLI's output: bytes to bounded lines, and the few fields of each line that the server needs. Pure."""

import enum
import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import msgspec

from pocket_agent.model import HoldReason, ModelUsage

# ----------------------------------------------------------------------
# Bytes to bounded lines, with the place of each in the stream.

_NEWLINE: Final = b"\n"


class Line(msgspec.Struct, frozen=True, gc=False):
    """A complete line.

    Attributes:
        data: the line without its line end (LF or CRLF); never empty.
        end: bytes of the stream up to and including its newline.
    """

    data: bytes
    end: int


class Oversized(msgspec.Struct, frozen=True, gc=False):
    """A line that was longer than allowed; its bytes were dropped.

    Attributes:
        length: its length in bytes without the newline.
        end: bytes of the stream up to and including its newline.
    """

    length: int
    end: int


class LineFramer:
    """Cuts a stream into lines; holds at most one line, of at most `max_line` bytes.

    Args:
        max_line: the longest line in bytes, without its newline.
        start: where in the stream the first byte to be fed stands; the beginning of a line.
    """

    def __init__(self, max_line: int, *, start: int = 0) -> None:
        self._max_line = max_line
        self._parts: list[bytes] = []
        self._pending = 0
        self._carriage_return = False
        self._consumed = start

    @property
    def pending(self) -> int:
        """Bytes fed since the last newline; they belong to a line that is not complete."""
        return self._pending

    @property
    def consumed(self) -> int:
        """Bytes of the stream up to and including the last newline, empty lines included."""
        return self._consumed

    def feed(self, data: bytes) -> list[Line | Oversized]:
        """Take the next bytes of the stream and give the lines that they complete, in order."""
        pieces = data.split(_NEWLINE)
        tail = pieces.pop()
        lines: list[Line | Oversized] = []
        if pieces and self._pending:
            self._hold(pieces.pop(0))
            self._complete(lines, newline=1)
        end = self._consumed
        max_line = self._max_line
        for piece in pieces:
            end += len(piece) + 1
            line = piece[:-1] if piece.endswith(b"\r") else piece
            if len(line) > max_line:
                lines.append(Oversized(len(line), end))
            elif line:
                lines.append(Line(line, end))
        self._consumed = end
        if tail:
            self._hold(tail)
        return lines

    def finish(self) -> list[Line | Oversized]:
        """Give what is left as a line (at most one): the stream has ended without a newline."""
        lines: list[Line | Oversized] = []
        if self._pending:
            self._complete(lines, newline=0)
        return lines

    def _hold(self, piece: bytes) -> None:
        self._pending += len(piece)
        if piece:
            self._carriage_return = piece.endswith(b"\r")
        # One byte more than a line may have: it can be the CR of a CRLF.
        if self._pending <= self._max_line + 1:
            self._parts.append(piece)
        else:
            self._parts.clear()

    def _complete(self, lines: list[Line | Oversized], newline: int) -> None:
        end = self._consumed + self._pending + newline
        length = self._pending - self._carriage_return
        line = b"".join(self._parts)[:length]
        if length > self._max_line:
            lines.append(Oversized(length, end))
        elif line:
            lines.append(Line(line, end))
        self._parts.clear()
        self._pending = 0
        self._consumed = end


# ----------------------------------------------------------------------
# The parts of a line that are about models and tools: the fields of the API's messages that are needed here.
#
# Other fields are skipped: texts, inputs and outputs of tools are never made into objects.

_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "input_json"}


class TokenUsage(msgspec.Struct, frozen=True, gc=False):
    """Tokens, named as in the Messages API; the four do not overlap."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class ContentBlock(msgspec.Struct, frozen=True, gc=False):
    """A content block; which fields are set depends on its type.

    Attributes:
        id, name: of a `tool_use`, the call and its tool.
        tool_use_id, is_error: of a `tool_result`, the call and whether it failed (absent: it did not).
    """

    type: str = ""
    id: str | None = None
    name: str | None = None
    tool_use_id: str | None = None
    is_error: bool | None = None


class ApiMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of the Messages API, of either side.

    Attributes:
        model: who wrote it; `<synthetic>` when the CLI itself did.
        usage: as it was when the message began (2.1.330); `output_tokens` is not the final figure.
        content: its blocks, or a bare text.
    """

    id: str | None = None
    model: str | None = None
    usage: TokenUsage | None = None
    content: list[ContentBlock] | str = ""

    @property
    def blocks(self) -> list[ContentBlock]:
        """Its blocks; none for a bare text."""
        return self.content if isinstance(self.content, list) else []


class Delta(msgspec.Struct, frozen=True, gc=False):
    """The `delta` of a `content_block_delta` event; which field is set depends on its type."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class StreamEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of the Messages API's stream, inside a `stream_event` line.

    Attributes:
        message: of a `message_start`, the message that begins.
        usage: of a `message_delta`, the figures so far, which replace those before.
    """

    type: str = ""
    index: int | None = None
    delta: Delta | None = None
    message: ApiMessage | None = None
    usage: TokenUsage | None = None

    @property
    def delta_kind(self) -> str | None:
        """Of an event that brings text: "text", "thinking" or "input_json"."""
        return _DELTAS.get(self.delta.type) if self.delta is not None else None

    @property
    def delta_text(self) -> str | None:
        """Of an event that brings text: the text."""
        if self.delta is None:
            return None
        match self.delta_kind:
            case "text":
                return self.delta.text
            case "thinking":
                return self.delta.thinking
            case "input_json":
                return self.delta.partial_json
        return None


class ToolResultMeta(msgspec.Struct, frozen=True, gc=False):
    """What the CLI (2.1.330) says of a tool call beside its result.

    Attributes:
        id: the call.
        non_execution_kind: why it did not run to its end: `user-rejected` when an interrupt stopped it,
            else the kind of permission that refused it; None when it ran.
    """

    id: str = ""
    non_execution_kind: str | None = None


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Who began a turn, when that was not a prompt: `task-notification`, `channel`, ..."""

    kind: str = ""


class Task(msgspec.Struct, frozen=True, gc=False):
    """One of the `tasks` of a `background_tasks_changed` (2.1.330)."""

    task_id: str = ""
    task_type: str = ""
    description: str = ""


class PromptOutcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a prompt that did not get to the model (2.1.330): `blocked_by_hook`, `stopped_by_hook`."""

    kind: str = ""
    reason: str = ""


# ----------------------------------------------------------------------
# A peek into a line: the few fields that the server needs, and whether it is JSON at all.
#
# The line itself is passed on byte for byte, so it has to be valid as a whole: msgspec checks the
# syntax of what it skips but not its UTF-8, which is therefore checked here. msgspec refuses escaped
# lone surrogates (`"\ud800"`), which RFC 8259 permits and JavaScript prints when text was cut within
# a pair; such lines take a slower path. Types and fields that are not known do no harm.

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


class CliMessage(msgspec.Struct, kw_only=True, rename=_RENAMED):
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
    usage: TokenUsage | None = None
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

_decode: Final = msgspec.json.Decoder(CliMessage).decode


def peek(line: bytes) -> CliMessage:
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


def _peek_leniently(line: bytes) -> CliMessage:
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
    for field in msgspec.structs.fields(CliMessage):
        if field.encode_name in value and not field.encode_name.startswith("("):
            try:
                cleaned = _without_surrogates(value[field.encode_name])
                fields[field.name] = msgspec.json.decode(msgspec.json.encode(cleaned), type=field.type)
            except (msgspec.ValidationError, OverflowError):
                continue
    return CliMessage(**fields)


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


def _garbage(line: bytes, reason: str) -> CliMessage:
    text = line[: _EXCERPT_CHARACTERS * 4].decode("utf-8", "replace")[:_EXCERPT_CHARACTERS]
    excerpt = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return CliMessage(reason=reason, excerpt=excerpt)


# ----------------------------------------------------------------------
# Tokens and dollars of the CLI as values of the server.
#
# A number that is negative, not finite, a text or beyond all bounds counts as 0: a broken line may make usage too
# low, but sums never decrease and never overflow.

MAX_TOKENS: Final = 10**12
MAX_COST_USD: Final = 1e6
"""Figures of one turn above these are garbage."""
MAX_MODELS: Final = 50
MAX_NAME_CHARACTERS: Final = 200
SYNTHETIC: Final = "<synthetic>"
"""The model of messages that the CLI wrote itself (2.1.330)."""


def turn_usage(message: CliMessage) -> tuple[ModelUsage, ...] | None:
    """What was used since the result before this one, by model, subagents and compaction included.

    Models are named as in `system/init`. Nothing was used: empty.

    Args:
        message: a `result`.

    Returns:
        None when the CLI does not tell; 2.1.330 does.
    """
    try:
        told = msgspec.json.decode(message.turn_usage)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    return added((), [_of_model(name, figures) for name, figures in list(told.items())[:MAX_MODELS]])


def _of_model(name: str, figures: object) -> ModelUsage:
    given = figures if isinstance(figures, dict) else {}
    return ModelUsage(
        model=name[:MAX_NAME_CHARACTERS],
        input_tokens=_tokens(given.get("inputTokens")),
        output_tokens=_tokens(given.get("outputTokens")),
        cache_read_tokens=_tokens(given.get("cacheReadInputTokens")),
        cache_creation_tokens=_tokens(given.get("cacheCreationInputTokens")),
        cost_usd=dollars(given.get("costUSD")) or 0.0,
    )


def tokens_of(model: str, usage: TokenUsage | None, cost_usd: float = 0.0) -> ModelUsage:
    """The API's figures under the name of a model."""
    if usage is None:
        return ModelUsage(model[:MAX_NAME_CHARACTERS], cost_usd=cost_usd)
    return ModelUsage(
        model=model[:MAX_NAME_CHARACTERS],
        input_tokens=_tokens(usage.input_tokens),
        output_tokens=_tokens(usage.output_tokens),
        cache_read_tokens=_tokens(usage.cache_read_input_tokens),
        cache_creation_tokens=_tokens(usage.cache_creation_input_tokens),
        cost_usd=cost_usd,
    )


def replaced(before: ModelUsage, usage: TokenUsage) -> ModelUsage:
    """A message's figures after a `message_delta`, which replaces those that it has and leaves the others."""
    after = tokens_of(before.model, usage)
    given = (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
    known = {name: getattr(after, name) for name, value in zip(names, given, strict=True) if value is not None}
    return msgspec.structs.replace(before, **known)


def dollars(value: object) -> float | None:
    """An amount of money; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= MAX_COST_USD else None


def _tokens(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if math.isfinite(value) and 0 <= value <= MAX_TOKENS else 0


def added(one: Iterable[ModelUsage], other: Iterable[ModelUsage]) -> tuple[ModelUsage, ...]:
    """Both together, each model once; models that were not used are left out."""
    sums: dict[str, ModelUsage] = {}
    for used in (*one, *other):
        before = sums.get(used.model)
        sums[used.model] = used if before is None else before.plus(used)
    return tuple(used for used in sums.values() if used.is_any)


def main_model(usage: Iterable[ModelUsage]) -> str | None:
    """The model that answered most; None when none did."""
    return max(usage, key=lambda used: used.output_tokens, default=ModelUsage("")).model or None
