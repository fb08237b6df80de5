"""The CLI's output: bytes to bounded lines, and the few fields of each line that the server needs. Pure."""

import enum
import json
import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NoReturn

import msgspec

from pocket_agent.model import BackgroundTask, HoldReason, Milliseconds, ModelUsage, UsageWindow

# ----------------------------------------------------------------------
# Bytes to bounded lines, with the place of each in the stream.


class Line(msgspec.Struct, frozen=True, gc=False):
    """A complete line.

    Attributes:
        data: the line without its line end (LF or CRLF); never empty.
        end: bytes of the stream up to and including its newline.
    """

    data: bytes
    end: int


class Oversized(msgspec.Struct, frozen=True, gc=False):
    """A line that was longer than allowed; the framer dropped its bytes.

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
        start: the offset in the stream of the first byte to be fed; the start of a line.

    Attributes:
        pending: bytes fed since the last newline.
        consumed: bytes of the stream up to and including the last newline, empty lines included.
    """

    def __init__(self, max_line: int, *, start: int = 0) -> None:
        self._max_line = max_line
        self._parts: list[bytes] = []
        self._carriage_return = False
        self.pending = 0
        self.consumed = start

    def feed(self, data: bytes) -> list[Line | Oversized]:
        """Take the next bytes of the stream; returns the lines that they complete, in order."""
        pieces = data.split(b"\n")
        tail = pieces.pop()
        lines: list[Line | Oversized] = []
        if pieces and self.pending:
            self._hold(pieces.pop(0))
            self._complete(lines, newline=1)
        end = self.consumed
        max_line = self._max_line
        for piece in pieces:
            end += len(piece) + 1
            line = piece[:-1] if piece.endswith(b"\r") else piece
            if len(line) > max_line:
                lines.append(Oversized(len(line), end))
            elif line:
                lines.append(Line(line, end))
        self.consumed = end
        if tail:
            self._hold(tail)
        return lines

    def finish(self) -> list[Line | Oversized]:
        """The last line, if the stream has ended without a newline."""
        lines: list[Line | Oversized] = []
        if self.pending:
            self._complete(lines, newline=0)
        return lines

    def _hold(self, piece: bytes) -> None:
        self.pending += len(piece)
        if piece:
            self._carriage_return = piece.endswith(b"\r")
        # One byte more than a line may have: it can be the CR of a CRLF.
        if self.pending <= self._max_line + 1:
            self._parts.append(piece)
        else:
            self._parts.clear()

    def _complete(self, lines: list[Line | Oversized], newline: int) -> None:
        end = self.consumed + self.pending + newline
        length = self.pending - self._carriage_return
        line = b"".join(self._parts)[:length]
        if length > self._max_line:
            lines.append(Oversized(length, end))
        elif line:
            lines.append(Line(line, end))
        self._parts.clear()
        self.pending = 0
        self.consumed = end


# ----------------------------------------------------------------------
# The fields of the API's messages that the server needs. Others are skipped: texts, inputs and outputs of tools are
# never decoded.

_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "input_json"}
_NULL: Final = msgspec.Raw(b"null")


class TokenUsage(msgspec.Struct, frozen=True, gc=False):
    """Tokens, named as in the Messages API; the four do not overlap.

    Attributes:
        total_tokens, tool_uses: of a `task_progress`, which has no others.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    total_tokens: int | None = None
    tool_uses: int | None = None


class ContentBlock(msgspec.Struct, frozen=True, gc=False):
    """A content block: a `tool_use` has `id`, `name`, `input`; a `tool_result` `tool_use_id` and maybe `is_error`; a
    `text` has `text`."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = _NULL
    tool_use_id: str | None = None
    is_error: bool | None = None
    text: str | None = None


class ApiMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of the Messages API, of either side.

    Attributes:
        model: `<synthetic>` when the CLI itself wrote it.
        usage: as of the start of the message (2.1.330); `output_tokens` is not final.
        content: its blocks, or a bare text.
    """

    id: str | None = None
    model: str | None = None
    usage: TokenUsage | None = None
    content: list[ContentBlock] | str = ""

    @property
    def blocks(self) -> list[ContentBlock]:
        """Its blocks; empty for a bare text."""
        return self.content if isinstance(self.content, list) else []


class Delta(msgspec.Struct, frozen=True, gc=False):
    """The `delta` of a `content_block_delta` event; its type decides which field is set."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class StreamEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of the Messages API's stream, inside a `stream_event` line.

    Attributes:
        message: of a `message_start`, the message that starts.
        usage: of a `message_delta`, the usage so far, which replaces the previous one.
    """

    type: str = ""
    delta: Delta | None = None
    message: ApiMessage | None = None
    usage: TokenUsage | None = None


class PermissionDecision(msgspec.Struct, frozen=True, gc=False):
    """Whether a tool call was permitted (2.1.330): "accept" or "reject", by a user or by a rule."""

    decision: str = ""


class ToolResultMeta(msgspec.Struct, frozen=True, gc=False):
    """Details of the CLI (2.1.330) about a tool call.

    Attributes:
        id: of the call.
        non_execution_kind: why it did not run to its end: `user-rejected` when an interrupt stopped it,
            else the kind of permission that refused it; None when it ran.
    """

    id: str = ""
    non_execution_kind: str | None = None
    permission_decision: PermissionDecision | None = None


class Origin(msgspec.Struct, frozen=True, gc=False):
    """The origin of a turn without a prompt: `task-notification`, `channel`, ..."""

    kind: str = ""


class Task(msgspec.Struct, frozen=True, gc=False):
    """One of the `tasks` of a `background_tasks_changed` (2.1.330)."""

    task_id: str = ""
    task_type: str = ""
    description: str = ""


class LimitWindow(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One of the `unifiedWindows`; `resets_at` is in seconds since the Unix epoch. Any value may be broken."""

    utilization: Any = 0.0
    resets_at: Any = None
    status: str | None = None


class RateLimitInfo(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What the API's `anthropic-ratelimit-unified-*` headers said (2.1.332).

    Attributes:
        status: "allowed", "allowed_warning" or "rejected"; of the limit `rate_limit_type`, as are the next two.
        resets_at: seconds since the Unix epoch.
        utilization: the used share, from 0 to 1.
        unified_windows: every window of the account by its name.
    """

    status: str | None = None
    resets_at: Any = None
    rate_limit_type: str | None = None
    utilization: Any = None
    unified_windows: dict[str, LimitWindow | None] | None = None


class ApiErrorParams(msgspec.Struct, frozen=True, gc=False):
    """The details of a refused request (2.1.332); `rate_limit_info` when a usage limit refused it."""

    rate_limit_info: RateLimitInfo | None = None


class PromptOutcome(msgspec.Struct, frozen=True, gc=False):
    """Why a prompt did not reach the model (2.1.330): `blocked_by_hook`, `stopped_by_hook`."""

    kind: str = ""
    reason: str = ""


# ----------------------------------------------------------------------
# A peek into a line: the few fields that the server needs, and whether it is JSON at all.
#
# The line itself is passed on byte for byte, so it has to be valid as a whole: msgspec checks the
# syntax of skipped fields but not their UTF-8, which is therefore checked here. msgspec refuses escaped
# lone surrogates (`"\ud800"`), which RFC 8259 permits and JavaScript prints when text was cut within
# a pair; such lines take a slower path. Unknown types and fields are ignored.

_EXCERPT_CHARACTERS: Final = 200
_TEXT_CHARACTERS: Final = 10_000


class Kind(enum.Enum):
    """The kinds of lines that the server treats differently."""

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
    """Valid, and neither ends nor starts a turn; a `system` message has a subtype."""
    GARBAGE = "garbage"
    """Not a JSON object."""


_KINDS: Final = {kind.value: kind for kind in Kind if kind not in {Kind.INIT, Kind.OTHER, Kind.GARBAGE}}


class ControlResponse(msgspec.Struct, frozen=True, gc=False):
    """The CLI's answer to a control request.

    Attributes:
        subtype: "success" or "error".
        error: of an error, the reason.
        response: the content of the answer (JSON) or null.
    """

    subtype: str = ""
    request_id: str | None = None
    response: msgspec.Raw = _NULL
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the request was carried out."""
        return self.subtype == "success"


_RENAMED: Final = {
    "permission_mode": "permissionMode",
    "lifecycle_state": "state",
    "turn_usage": "model_usage_since_last_result",
    # No line of the CLI has keys like these two; they are set here, for garbage.
    "reason": "(reason)",
    "excerpt": "(excerpt)",
}


class CliMessage(msgspec.Struct, kw_only=True, rename=_RENAMED):
    """The fields of a line that the server needs, named as the CLI names them; None when they are absent.

    Attributes:
        result: of a `result`, the final text; the text of the error when the API refused.
        errors: of a `result`, the errors.
        usage: of a `result`, of this turn only; without subagents, and zero when it was interrupted.
        turn_usage: of a `result`, tokens and dollars since the previous result, by model (JSON); complete.
        total_cost_usd: of a `result`, United States dollars, summed over the life of the session and its resumptions.
        rate_limit_info: of a `rate_limit_event`, the limits of a subscription.
        api_error_params: of `assistant`, the details of a refused request.
        error: of `assistant`, the kind of a fault that the CLI reports as a message (2.1.332).
        api_error_status: of a `result`, the HTTP status with which the API refused (2.1.330).
        terminal_reason: of a `result`, how the turn ended: "completed", "api_error", ... (2.1.330).
        origin: of a `result`, the origin of a turn without a prompt.
        message: of `assistant` and `user`, the API's message.
        tool_result_meta: of a `user` line with tool results, details about these.
        request: of a `control_request`, the whole request object (JSON).
        response: of a `control_response`, the answer.
        event: of a `stream_event`, the API's event.
        tasks: of a `background_tasks_changed`, all background tasks.
        task_id, task_type, description, is_backgrounded, status: of a `task_started` and a `task_notification`.
        parent_task_id: of a `task_started` of a subagent, the task in which it runs.
        status: of a `system/status` also "requesting", before each API request of the main thread (2.1.330).
        last_tool_name, summary: of a `task_progress`, the newest tool, and what the task does.
        user_message_uuids: of an `init` and a `result`, the prompts of the turn (2.1.330).
        prompt_submit_outcome: of an `informational`, why a hook stopped a prompt.
        lifecycle_state, command_uuid: of a `command_lifecycle`, the state ("queued", "started", "completed",
            "cancelled") and the uuid of a prompt.
        reason, excerpt: of garbage, the reason ("a line that is not JSON"), and its printable beginning.
    """

    type: str = ""
    subtype: str | None = None
    session_id: str | None = None
    parent_tool_use_id: str | None = None
    model: str | None = None
    permission_mode: str | None = None
    is_error: bool | None = None
    result: str | None = None
    errors: list[str] | None = None
    usage: TokenUsage | None = None
    turn_usage: msgspec.Raw = _NULL
    total_cost_usd: float | None = None
    rate_limit_info: RateLimitInfo | None = None
    api_error_params: ApiErrorParams | None = None
    error: str | None = None
    api_error_status: int | None = None
    terminal_reason: str | None = None
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
    parent_task_id: str | None = None
    last_tool_name: str | None = None
    summary: str | None = None
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
        """The kind of the line."""
        if self.reason is not None:
            return Kind.GARBAGE
        if self.type == "system":
            return Kind.INIT if self.subtype == "init" else Kind.OTHER
        return _KINDS.get(self.type, Kind.OTHER)

    @property
    def request_id(self) -> str | None:
        """Of the three control kinds: the id of the request that is sent, withdrawn or answered."""
        return self.response.request_id if self.response is not None else self.outer_request_id

    @property
    def said(self) -> str:
        """Of `assistant`: the last text of the main thread; empty without one."""
        if self.type != "assistant" or self.parent_tool_use_id is not None or self.message is None:
            return ""
        texts = [block.text for block in self.message.blocks if block.type == "text" and block.text]
        return texts[-1] if texts else ""

    @property
    def event_type(self) -> str | None:
        """Of a `stream_event`: the type of the API's event."""
        return self.event.type if self.event is not None else None

    @property
    def delta_kind(self) -> str | None:
        """Of a `stream_event` with text: "text", "thinking" or "input_json"."""
        delta = self.event.delta if self.event is not None else None
        return _DELTAS.get(delta.type) if delta is not None else None

    @property
    def delta_text(self) -> str | None:
        """Of a `stream_event` with text: the text."""
        delta = self.event.delta if self.event is not None else None
        if delta is None:
            return None
        texts = {"text": delta.text, "thinking": delta.thinking, "input_json": delta.partial_json}
        return texts.get(self.delta_kind or "")

    @property
    def is_own_turn(self) -> bool:
        """Whether a `result` ends a turn that the CLI started by itself, such as for a background task (2.1.330)."""
        return self.origin is not None and self.origin.kind not in {"", "human"}

    @property
    def failed(self) -> bool:
        """Of a `result`: whether the turn failed. Some versions report it in the subtype, and hooks in the reason."""
        is_stopped = self.terminal_reason == "hook_stopped"
        return bool(self.is_error) or (self.subtype or "").startswith("error") or is_stopped

    @property
    def result_text(self) -> str | None:
        """Of a `result`: its text, or its errors, at most 10,000 characters."""
        text = self.result or "\n".join(self.errors or ())
        if not text and self.terminal_reason == "hook_stopped":
            text = "A hook stopped the agent before it was done."
        return text[:_TEXT_CHARACTERS] or None

    def fault(self, error: str | None = None) -> HoldReason | None:
        """Of a `result`: the fault, of the account or the network say, that also stops the next prompt.

        Args:
            error: the `error` of the turn's last message.
        """
        if self.failed and self.terminal_reason in _FULL:
            return HoldReason.CONVERSATION
        if not self.failed or self.terminal_reason not in {None, "api_error"}:
            return None
        status, text = self.api_error_status, self.result_text or ""
        found = next((reason for pattern, reason in _BY_TEXT if pattern.match(text)), None) or _BY_STATUS.get(status)
        if found is None and status is not None and status >= 500:
            return HoldReason.OVERLOADED
        return found or _BY_ERROR.get(error)

    @property
    def refused_until(self) -> Milliseconds | None:
        """The reset of the usage limit that refused a request, as this line says; None when it does not."""
        info = self.rate_limit_info
        if self.api_error_params is not None:
            info = self.api_error_params.rate_limit_info
        if info is not None:
            return _instant(info.resets_at) if info.status == "rejected" else None
        found = _OLD_LIMIT.search(self.result or "") if self.type == "result" else None
        return _instant(int(found[1])) if found is not None else None

    @property
    def lost_conversation(self) -> bool:
        """Whether a `result` says that the session to resume does not exist (wording of 2.1.330)."""
        return any(
            error.startswith("No conversation found") or "--resume requires" in error for error in self.errors or ()
        )


_OLD_LIMIT: Final = re.compile(r"limit reached\|(\d{10,13})$")
"""How versions before 2.1 reported the reset, in seconds since the Unix epoch (github.com/anthropics/claude-code)."""
_FULL: Final = frozenset({"prompt_too_long", "blocking_limit", "rapid_refill_breaker"})
"""The ends of a turn (`terminal_reason`, 2.1.332) whose conversation is longer than the model's context."""
_BY_STATUS: Final[dict[int | None, HoldReason]] = {
    401: HoldReason.AUTHENTICATION,
    402: HoldReason.CREDIT,
    403: HoldReason.AUTHENTICATION,
    407: HoldReason.NETWORK,
    408: HoldReason.NETWORK,
    429: HoldReason.USAGE_LIMIT,
}
_BY_ERROR: Final[dict[str | None, HoldReason]] = {
    "authentication_failed": HoldReason.AUTHENTICATION,
    "oauth_org_not_allowed": HoldReason.AUTHENTICATION,
    "account_on_hold": HoldReason.AUTHENTICATION,
    "verification_required": HoldReason.AUTHENTICATION,
    "cloud_credential_error": HoldReason.AUTHENTICATION,
    "billing_error": HoldReason.CREDIT,
    "rate_limit": HoldReason.USAGE_LIMIT,
    "overloaded": HoldReason.OVERLOADED,
    "server_error": HoldReason.OVERLOADED,
}
_LOGIN: Final = HoldReason.AUTHENTICATION
_BY_TEXT: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"credit balance is too low|api error: (402\b|usage credits)", HoldReason.CREDIT),
        (r"not logged in|invalid (api key|auth token)|please run /login|failed to (authenticate|refresh)", _LOGIN),
        (
            r"oauth (token|authentication)|api error: 40[13]\b|login (expired|reached)|could not refresh your login",
            _LOGIN,
        ),
        (r"authentication (required|error)|your (anthropic_api_key|organization|account|apikeyhelper)\b", _LOGIN),
        (r"(api error: )?(server is temporarily limiting|\w+ is experiencing high load)", HoldReason.OVERLOADED),
        (
            r"(api error: 400 )?you('ve| have) (hit|reached) your\b.*\blimit|claude( ai)? usage limit",
            HoldReason.USAGE_LIMIT,
        ),
        (r"[^\n]{0,40}\blimit reached\b|api error: (request rejected \()?429\b", HoldReason.USAGE_LIMIT),
        (r"api error: 5\d\d\b|(api error: )?(repeated 529 )?overloaded", HoldReason.OVERLOADED),
        (r"request timed out", HoldReason.NETWORK),
        (r"prompt is too long", HoldReason.CONVERSATION),
        (
            r"api error:.*(connect|network|timed out|can't reach|fetch failed|dns|socket|certificate|\bE[A-Z_]{4,}\b)",
            HoldReason.NETWORK,
        ),
    )
)
"""The beginnings of the texts of refused requests: of 2.1.330 as observed, of older versions, which report no status,
as the CLI's changelog and issues quote them (github.com/anthropics/claude-code)."""

_decode: Final = msgspec.json.Decoder(CliMessage).decode


def peek(line: bytes) -> CliMessage:
    """Decode the fields that the server needs from a line without its newline; never raises."""
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
    """Decode a line with lone surrogates, or with fields of unexpected types, which are left out."""
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
                cleaned = without_surrogates(value[field.encode_name])
                fields[field.name] = msgspec.json.decode(msgspec.json.encode(cleaned), type=field.type)
            except (msgspec.ValidationError, OverflowError):
                continue
    return CliMessage(**fields)


def _integer(digits: str) -> int | float:
    """Integers beyond 64 bits become floats, as in JavaScript."""
    return int(digits) if len(digits) < 19 else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    """`NaN` and the infinities are not JSON, though Python reads them."""
    raise ValueError(name)


def without_surrogates(value: object) -> object:
    """Replace lone surrogates by U+FFFD, as the CLI does with its own input."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def _garbage(line: bytes, reason: str) -> CliMessage:
    text = line[: _EXCERPT_CHARACTERS * 4].decode("utf-8", "replace")[:_EXCERPT_CHARACTERS]
    excerpt = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return CliMessage(reason=reason, excerpt=excerpt)


# ----------------------------------------------------------------------
# Tokens and dollars of the CLI as values of the server.
#
# A number that is negative, not finite, too large, or not a number counts as 0: a broken line may make usage too
# low, but sums never decrease and never overflow.

MAX_TOKENS: Final = 10**12
MAX_COST_USD: Final = 1e6
"""Larger numbers of one turn are garbage."""
MAX_MODELS: Final = 50
MAX_NAME_CHARACTERS: Final = 200
SYNTHETIC: Final = "<synthetic>"
"""The model of messages that the CLI wrote itself (2.1.330)."""


def turn_usage(message: CliMessage) -> tuple[ModelUsage, ...] | None:
    """The usage in a `result` since the previous one, by model as `system/init` names it, subagents included.

    None when the CLI reports none (2.1.330 does); empty when no model was used.
    """
    try:
        models = msgspec.json.decode(message.turn_usage)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(models, dict):
        return None
    return added((), [_of_model(name, usage) for name, usage in list(models.items())[:MAX_MODELS]])


def _of_model(name: str, usage: object) -> ModelUsage:
    given = usage if isinstance(usage, dict) else {}
    return ModelUsage(
        model=name[:MAX_NAME_CHARACTERS],
        input_tokens=_tokens(given.get("inputTokens")),
        output_tokens=_tokens(given.get("outputTokens")),
        cache_read_tokens=_tokens(given.get("cacheReadInputTokens")),
        cache_creation_tokens=_tokens(given.get("cacheCreationInputTokens")),
        cost_usd=dollars(given.get("costUSD")) or 0.0,
    )


def tokens_of(model: str, usage: TokenUsage | None) -> ModelUsage:
    """Tokens as the API reports them, under the name of a model."""
    return replaced(ModelUsage(model[:MAX_NAME_CHARACTERS]), usage or TokenUsage())


def replaced(before: ModelUsage, usage: TokenUsage) -> ModelUsage:
    """The usage of a message after a `message_delta`, which replaces the fields that it has."""
    given = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_input_tokens,
        "cache_creation_tokens": usage.cache_creation_input_tokens,
    }
    known = {name: _tokens(value) for name, value in given.items() if value is not None}
    return msgspec.structs.replace(before, **known)


def dollars(value: object) -> float | None:
    """An amount of money; None for any other value."""
    return _number(value, MAX_COST_USD)


def progress(task: BackgroundTask, message: CliMessage) -> BackgroundTask:
    """A task after a `task_progress` about it; its numbers never decrease."""
    used = message.usage or TokenUsage()
    return msgspec.structs.replace(
        task,
        tokens=max(task.tokens, _tokens(used.total_tokens)),
        tool_uses=max(task.tool_uses, _tokens(used.tool_uses)),
        last_tool=(message.last_tool_name or task.last_tool)[:MAX_NAME_CHARACTERS],
        summary=(message.summary or message.description or task.summary)[:MAX_NAME_CHARACTERS],
    )


def _tokens(value: object) -> int:
    return int(_number(value, MAX_TOKENS) or 0)


_MAX_INSTANT: Final = 4_102_444_800
"""2100-01-01 in seconds since the Unix epoch; a later time is garbage."""
_MAX_UTILIZATION: Final = 1000.0


def _instant(value: object) -> Milliseconds | None:
    """A time in seconds or, as no second is as large, in milliseconds since the Unix epoch, or as ISO 8601."""
    if isinstance(value, str):
        try:
            value = float(value) if value.isdecimal() else datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            return None
    valid = _number(value, 1000 * _MAX_INSTANT)
    return Milliseconds(round(valid if valid > _MAX_INSTANT else valid * 1000)) if valid else None


def usage_windows(info: RateLimitInfo) -> tuple[UsageWindow, ...]:
    """The usage limits of a `rate_limit_event`; one without a valid reset or use is left out."""
    windows = {name: window for name, window in (info.unified_windows or {}).items() if window is not None}
    name = info.rate_limit_type
    if name is not None and info.resets_at is not None:
        known = windows.get(name, LimitWindow())
        used = known.utilization if info.utilization is None else info.utilization
        if info.status == "rejected" and name not in windows:
            used = max(_number(used, _MAX_UTILIZATION) or 0.0, 1.0)
        windows[name] = LimitWindow(used, info.resets_at, info.status or known.status)
    found = (_window(name, window) for name, window in list(windows.items())[:MAX_MODELS])
    return tuple(window for window in found if window is not None)


def _window(name: str, window: LimitWindow) -> UsageWindow | None:
    resets_at, used = _instant(window.resets_at), _number(window.utilization, _MAX_UTILIZATION)
    if resets_at is None or used is None:
        return None
    status = window.status if window.status in {"allowed_warning", "rejected"} else "allowed"
    return UsageWindow(name[:MAX_NAME_CHARACTERS], used, resets_at, status)


def usage_report(response: msgspec.Raw) -> tuple[UsageWindow, ...]:
    """The usage limits in the answer to `get_usage` (2.1.332): percentages and ISO 8601 times by the window's name."""
    try:
        limits = msgspec.json.decode(response, type=_UsageReport).rate_limits or {}
    except (msgspec.DecodeError, RecursionError):
        return ()
    found = []
    for name, limit in limits.items():
        try:
            used = msgspec.json.decode(limit, type=_ReportedWindow | None)
            if used is not None and used.utilization is not None and used.resets_at is not None:
                found.append(_window(name, LimitWindow(used.utilization / 100, used.resets_at)))
        except msgspec.DecodeError:
            continue
    return tuple(window for window in found if window is not None)


class _ReportedWindow(msgspec.Struct):
    utilization: float | None = None
    resets_at: str | None = None


class _UsageReport(msgspec.Struct):
    rate_limits: dict[str, msgspec.Raw] | None = None


def _number(value: object, maximum: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= maximum else None


def added(one: Iterable[ModelUsage], other: Iterable[ModelUsage]) -> tuple[ModelUsage, ...]:
    """The sum by model, without models that were not used."""
    sums: dict[str, ModelUsage] = {}
    for used in (*one, *other):
        before = sums.get(used.model)
        sums[used.model] = used if before is None else before.plus(used)
    return tuple(used for used in sums.values() if used.is_any)


def main_model(usage: Iterable[ModelUsage]) -> str | None:
    """The model with the most output; None when no model answered."""
    return max(usage, key=lambda used: used.output_tokens, default=ModelUsage("")).model or None
