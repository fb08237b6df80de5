"""The control protocol: requests to the CLI, answers to its requests, and prompts, one JSON line each.

Observed with 2.1.330: the CLI exits when it reads a line that is not JSON, a `control_request`
without `request`, or a `user` message whose role is not "user". Nothing but whole lines made here
may therefore be written to it.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from pocket_agent.claude.stream import CliMessage
from pocket_agent.errors import ValidationError

_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")


ELICITATION: Final = "Elicitation"
"""The `tool_name` of a question of an MCP server, which is named like the CLI's hook for it."""


class PermissionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The CLI asks whether it may use a tool (`can_use_tool`), or an MCP server asks the user (`elicitation`).

    Attributes:
        request_id: identifies the request in the answer and in a withdrawal.
        raw: the whole request object (JSON).
        input: the arguments of the tool, or the whole question (a JSON object).
        permission_suggestions: rules that would make the question unnecessary (a JSON array).
        is_elicitation: whether an MCP server asks.
        needs_content: whether the answer to its question has the fields of a form.
    """

    tool_name: str
    request_id: str
    raw: bytes
    input: msgspec.Raw = _EMPTY_OBJECT
    permission_suggestions: msgspec.Raw | None = None
    is_elicitation: bool = False
    needs_content: bool = False
    tool_use_id: str | None = None
    title: str | None = None
    display_name: str | None = None
    description: str | None = None
    agent_id: str | None = None


class _ToolRequest(msgspec.Struct, frozen=True):
    """The part of a tool request without which it cannot be shown or answered."""

    tool_name: str
    input: dict[str, msgspec.Raw] = {}


class _Schema(msgspec.Struct, frozen=True):
    properties: dict[str, msgspec.Raw] = {}


class _Question(msgspec.Struct, frozen=True):
    """The part of an elicitation (2.1.332) without which it cannot be shown or answered."""

    mcp_server_name: str
    message: str
    mode: str = "form"
    requested_schema: _Schema = _Schema()


_OPTIONAL_TEXT: Final = ("tool_use_id", "title", "display_name", "description", "agent_id")
_NOT_IN_QUESTION: Final = {"subtype", *_OPTIONAL_TEXT}


def parse_permission_request(message: CliMessage) -> PermissionRequest | None:
    """Read a line of kind CONTROL_REQUEST; None when it is another or a malformed request."""
    return read_permission_request(message.request_id or "", bytes(message.request))


def read_permission_request(request_id: str, raw: bytes) -> PermissionRequest | None:
    """Read a request object (JSON); see `parse_permission_request`."""
    if not request_id:
        return None
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        match _text(fields.get("subtype")):
            case "can_use_tool":
                return _tool_request(request_id, raw, fields)
            case "elicitation":
                return _elicitation(request_id, raw, fields)
            case _:
                return None
    except (msgspec.DecodeError, RecursionError):
        return None


def _tool_request(request_id: str, raw: bytes, fields: Mapping[str, msgspec.Raw]) -> PermissionRequest:
    suggestions = fields.get("permission_suggestions")
    call, title, label, description, agent = (_text(fields.get(name)) for name in _OPTIONAL_TEXT)
    return PermissionRequest(
        tool_name=msgspec.json.decode(raw, type=_ToolRequest).tool_name,
        request_id=request_id,
        raw=raw,
        input=fields.get("input", _EMPTY_OBJECT),
        permission_suggestions=suggestions if suggestions and bytes(suggestions).startswith(b"[") else None,
        tool_use_id=call,
        title=title,
        display_name=label,
        description=description,
        agent_id=agent,
    )


def _elicitation(request_id: str, raw: bytes, fields: Mapping[str, msgspec.Raw]) -> PermissionRequest:
    question = msgspec.json.decode(raw, type=_Question)
    shown = {name: value for name, value in fields.items() if name not in _NOT_IN_QUESTION}
    _, title, label, description, _ = (_text(fields.get(name)) for name in _OPTIONAL_TEXT)
    return PermissionRequest(
        tool_name=ELICITATION,
        request_id=request_id,
        raw=raw,
        input=msgspec.Raw(msgspec.json.encode(shown)),
        is_elicitation=True,
        needs_content=question.mode != "url" and bool(question.requested_schema.properties),
        title=title,
        display_name=label,
        description=description or question.message,
    )


class McpServer(msgspec.Struct, frozen=True):
    """An MCP server of a process and its state; its configuration, which may hold secrets, is left out."""

    name: str = ""
    status: str = ""
    error: str | None = None


class _McpStatus(msgspec.Struct, rename="camel"):
    mcp_servers: list[McpServer] = []


class ContextCategory(msgspec.Struct, frozen=True):
    """A part of the context window; `kind` is "used", "free", ..."""

    name: str = ""
    tokens: int = 0
    kind: str = ""


class ContextUsage(msgspec.Struct, frozen=True, rename="camel"):
    """The use of the context window, in tokens."""

    total_tokens: int = 0
    max_tokens: int = 0
    model: str = ""
    categories: list[ContextCategory] = []


class Rewind(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a `rewind_files`; a rewind that is not dry reports no files."""

    can_rewind: bool = False
    error: str | None = None
    files_changed: list[str] = []
    insertions: int = 0
    deletions: int = 0


def mcp_status(request_id: str) -> bytes:
    """Report the MCP servers; see `McpServer`."""
    return _request(request_id, {"subtype": "mcp_status"})


def mcp_servers(response: msgspec.Raw) -> list[McpServer]:
    """The answer to `mcp_status`; raises msgspec.DecodeError."""
    return msgspec.json.decode(response, type=_McpStatus).mcp_servers


def get_context_usage(request_id: str) -> bytes:
    """Report the `ContextUsage`, from local estimates (2.1.332), without requests to the API."""
    return _request(request_id, {"subtype": "get_context_usage", "detail": "summary"})


def get_usage(request_id: str) -> bytes:
    """Report the limits of a subscription (2.1.332), without the scan of local transcripts."""
    return _request(request_id, {"subtype": "get_usage", "skip_behaviors": True, "detached": True})


def rewind_files(request_id: str, message_id: str, *, dry: bool) -> bytes:
    """Set the files back that the agent has changed since a prompt; needs `CHECKPOINTS` in the environment."""
    return _request(request_id, {"subtype": "rewind_files", "user_message_id": message_id, "dry_run": dry})


CHECKPOINTS: Final = {"CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING": "1"}
"""Has the CLI keep the files that it changes, so that `rewind_files` works (2.1.332)."""


def _text(value: msgspec.Raw | None) -> str | None:
    """A descriptive field; a value that is not text is left out rather than refused."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.ValidationError:
        return None


def initialize(request_id: str) -> bytes:
    """Start the control protocol; the answer lists commands, models and the account."""
    return _request(request_id, {"subtype": "initialize"})


def interrupt(request_id: str) -> bytes:
    """Stop the running turn; harmless without one."""
    return _request(request_id, {"subtype": "interrupt"})


def stop_task(request_id: str, task_id: str) -> bytes:
    """End a background task; harmless when it does not exist."""
    return _request(request_id, {"subtype": "stop_task", "task_id": task_id})


def set_model(request_id: str, model: str | None) -> bytes:
    """Use another model from the next API request on; None for the default one."""
    return _request(request_id, {"subtype": "set_model", "model": model})


def set_permission_mode(request_id: str, mode: str) -> bytes:
    """Use another permission mode from now on; an unknown one is answered with an error."""
    return _request(request_id, {"subtype": "set_permission_mode", "mode": mode})


def set_environment(request_id: str, variables: Mapping[str, str]) -> bytes:
    """Change environment variables of the process for the lines that follow.

    The CLI (2.1.330) merges them into its settings, in the order of its input, and writes nothing to
    disk; an empty text takes a variable away. Within a turn only commands that start later see them.
    """
    return _request(request_id, {"subtype": "apply_flag_settings", "settings": {"env": dict(variables)}})


def user_message(prompt: str, uuid: str) -> bytes:
    """A prompt. The CLI runs a `uuid` once: it skips a message that it has seen, also before a resume."""
    message = {"role": "user", "content": prompt}
    return _line({"type": "user", "session_id": "", "message": message, "parent_tool_use_id": None, "uuid": uuid})


def allow(
    request_id: str, updated_input: bytes | msgspec.Raw, updated_permissions: bytes | msgspec.Raw | None = None
) -> bytes:
    """Allow the use of the tool.

    Args:
        request_id: of the permission request.
        updated_input: the arguments of the tool (a JSON object): the request's own `input`, or an edited one.
        updated_permissions: a JSON array of permission updates to apply with it.

    Raises:
        ValidationError: an argument is not JSON of that type.
    """
    answer: dict[str, object] = {
        "behavior": "allow",
        "updatedInput": _embedded(updated_input, dict[str, msgspec.Raw], "updated_input", "object"),
    }
    if updated_permissions is not None:
        answer["updatedPermissions"] = _embedded(updated_permissions, list[msgspec.Raw], "updated_permissions", "array")
    return _answer(request_id, answer)


def deny(request_id: str, message: str) -> bytes:
    """Refuse the use of the tool; the model reads `message` and goes on."""
    return _answer(request_id, {"behavior": "deny", "message": message})


def accept_elicitation(request_id: str, content: Mapping[str, msgspec.Raw] | None) -> bytes:
    """Answer the question of an MCP server; `content` has the fields of its form; None: it has no form."""
    answer: dict[str, object] = {"action": "accept"}
    if content is not None:
        encoded = msgspec.json.encode(content)
        answer["content"] = _embedded(encoded, dict[str, msgspec.Raw], "content", "object")
    return _answer(request_id, answer)


def refuse_elicitation(request_id: str, action: Literal["decline", "cancel"]) -> bytes:
    """Answer the question of an MCP server as a user who says no, or who closes it."""
    return _answer(request_id, {"action": action})


def refuse(request_id: str, message: str) -> bytes:
    """Answer a request that this host does not know, so that the CLI does not wait for ever."""
    response = {"subtype": "error", "request_id": request_id, "error": message}
    return _line({"type": "control_response", "response": response})


class _SuggestedRule(msgspec.Struct, rename="camel"):
    tool_name: str = ""


class _SuggestedUpdate(msgspec.Struct):
    type: str = ""
    behavior: str = ""
    rules: list[_SuggestedRule] = []


def remembered(request: PermissionRequest) -> msgspec.Raw | None:
    """The permission updates (a JSON array) for "always allow": of the CLI's suggestions, those for this tool, if any.

    With a rule the CLI (2.1.330) may suggest more, such as the permission mode `acceptEdits` and a directory for a
    `touch`. Those allow more than this tool, so they are left out if there is a rule. Without a rule, as for `Write`,
    all suggestions count. None when the CLI suggests nothing.
    """
    suggested = request.permission_suggestions
    if suggested is None:
        return None
    try:
        updates = msgspec.json.decode(suggested, type=list[msgspec.Raw])
        rules = [
            update
            for update in updates
            if _is_rule(msgspec.json.decode(update, type=_SuggestedUpdate), request.tool_name)
        ]
    except msgspec.DecodeError:
        return suggested
    return msgspec.Raw(msgspec.json.encode(rules)) if rules else suggested


def _is_rule(update: _SuggestedUpdate, tool: str) -> bool:
    allows = update.type == "addRules" and update.behavior == "allow"
    return allows and bool(update.rules) and all(rule.tool_name == tool for rule in update.rules)


def for_session(suggestions: bytes | msgspec.Raw) -> bytes:
    """The CLI's permission suggestions (a JSON array), made to last as long as the process.

    As suggested, `destination` may be a settings file of the project, which the CLI would then
    write; with "session" it writes nothing (observed).

    Raises:
        ValidationError: not an array of objects.
    """
    try:
        updates = msgspec.json.decode(suggestions, type=list[dict[str, msgspec.Raw]])
    except msgspec.DecodeError as error:
        raise ValidationError(f"The permission suggestions are not an array of objects: {error}") from error
    session = msgspec.Raw(b'"session"')
    return msgspec.json.encode([{**update, "destination": session} for update in updates])


def _embedded(
    value: bytes | msgspec.Raw, type_: type[dict[str, msgspec.Raw]] | type[list[msgspec.Raw]], name: str, what: str
) -> msgspec.Raw:
    """The checked value without line breaks, since it becomes part of one line."""
    try:
        bytes(value).decode()
        msgspec.json.decode(value, type=type_)
        return msgspec.Raw(msgspec.json.format(bytes(value), indent=-1))
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError) as error:
        raise ValidationError(f"{name} is not a JSON {what}: {error}") from error


def _request(request_id: str, request: dict[str, object]) -> bytes:
    return _line({"type": "control_request", "request_id": request_id, "request": request})


def _answer(request_id: str, answer: dict[str, object]) -> bytes:
    response = {"subtype": "success", "request_id": request_id, "response": answer}
    return _line({"type": "control_response", "response": response})


def _line(value: dict[str, object]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
