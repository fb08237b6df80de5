"""The control protocol: requests to the CLI, answers to its own, and prompts, one JSON line each.

Observed with 2.1.330: the CLI exits when it reads a line that is not JSON, a `control_request`
without `request`, or a `user` message whose role is not "user". Nothing but whole lines made here
may therefore be written to it.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from pocket_agent.claude.stream import CliMessage
from pocket_agent.errors import ValidationError

_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")


class PermissionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The CLI asks whether it may use a tool (`can_use_tool`).

    Attributes:
        request_id: names the request in the answer and in a withdrawal.
        raw: the whole request object (JSON).
        input: what the tool would be called with (a JSON object).
        permission_suggestions: rules that would make the question unnecessary (a JSON array).
        blocked_path, decision_reason: why the CLI asks.
    """

    subtype: str
    tool_name: str
    request_id: str = ""
    raw: bytes = b""
    input: msgspec.Raw = _EMPTY_OBJECT
    tool_use_id: str | None = None
    permission_suggestions: msgspec.Raw | None = None
    title: str | None = None
    display_name: str | None = None
    description: str | None = None
    blocked_path: str | None = None
    decision_reason: str | None = None
    decision_reason_type: str | None = None
    agent_id: str | None = None


class _Required(msgspec.Struct, frozen=True):
    """The part of a permission request without which it cannot be shown or answered."""

    subtype: str
    tool_name: str
    input: dict[str, msgspec.Raw] = {}


_OPTIONAL_TEXT: Final = (
    "tool_use_id",
    "title",
    "display_name",
    "description",
    "blocked_path",
    "decision_reason",
    "decision_reason_type",
    "agent_id",
)


def parse_permission_request(message: CliMessage) -> PermissionRequest | None:
    """Read a `control_request`; None when it asks for something else, or cannot be understood.

    Args:
        message: a message of kind CONTROL_REQUEST.
    """
    return read_permission_request(message.request_id or "", bytes(message.request))


def read_permission_request(request_id: str, raw: bytes) -> PermissionRequest | None:
    """The same from a stored request object (JSON)."""
    try:
        required = msgspec.json.decode(raw, type=_Required)
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return None
    if required.subtype != "can_use_tool" or not request_id:
        return None
    suggestions = fields.get("permission_suggestions")
    return PermissionRequest(
        subtype=required.subtype,
        tool_name=required.tool_name,
        request_id=request_id,
        raw=raw,
        input=fields.get("input", _EMPTY_OBJECT),
        permission_suggestions=suggestions if suggestions and bytes(suggestions).startswith(b"[") else None,
        **{name: _text(fields.get(name)) for name in _OPTIONAL_TEXT},
    )


def _text(value: msgspec.Raw | None) -> str | None:
    """A field that helps a person; one that is not text is left out rather than refused."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.ValidationError:
        return None


def initialize(request_id: str) -> bytes:
    """Open the control protocol; the answer lists commands, models and the account."""
    return _request(request_id, {"subtype": "initialize"})


def interrupt(request_id: str) -> bytes:
    """Stop the turn that runs; harmless when none does."""
    return _request(request_id, {"subtype": "interrupt"})


def stop_task(request_id: str, task_id: str) -> bytes:
    """End a background task; harmless when there is none by that id."""
    return _request(request_id, {"subtype": "stop_task", "task_id": task_id})


def set_model(request_id: str, model: str | None) -> bytes:
    """Use another model from the next request on; None for the default one."""
    return _request(request_id, {"subtype": "set_model", "model": model})


def set_permission_mode(request_id: str, mode: str) -> bytes:
    """Use another permission mode from now on; an unknown one is answered with an error."""
    return _request(request_id, {"subtype": "set_permission_mode", "mode": mode})


def set_environment(request_id: str, variables: Mapping[str, str]) -> bytes:
    """Change environment variables of the process for what is written after this line.

    The CLI (2.1.330) merges them into its settings, in the order of its input, and writes nothing to
    disk; an empty text takes a variable away. Within a turn only commands that start later see them.
    """
    return _request(request_id, {"subtype": "apply_flag_settings", "settings": {"env": dict(variables)}})


def end_session(request_id: str) -> bytes:
    """Let an idle process end by itself, with exit status 0."""
    return _request(request_id, {"subtype": "end_session"})


def user_message(prompt: str, uuid: str, session_id: str = "") -> bytes:
    """A prompt. The CLI runs a `uuid` once: a message that it has seen, also before a resume, is skipped."""
    return _line(
        {
            "type": "user",
            "session_id": session_id,
            "message": {"role": "user", "content": prompt},
            "parent_tool_use_id": None,
            "uuid": uuid,
        }
    )


def allow(
    request_id: str,
    updated_input: bytes | msgspec.Raw,
    updated_permissions: bytes | msgspec.Raw | None = None,
) -> bytes:
    """Let the tool be used.

    Args:
        request_id: of the permission request.
        updated_input: a JSON object, what the tool is called with: the request's own `input`, or
            an edited one.
        updated_permissions: a JSON array of permission updates to apply with it.

    Raises:
        ValidationError: an argument is not the JSON that it should be.
    """
    answer: dict[str, object] = {
        "behavior": "allow",
        "updatedInput": _embedded(updated_input, dict[str, msgspec.Raw], "updated_input", "object"),
    }
    if updated_permissions is not None:
        answer["updatedPermissions"] = _embedded(updated_permissions, list[msgspec.Raw], "updated_permissions", "array")
    return _answer(request_id, answer)


def deny(request_id: str, message: str, *, interrupt: bool = False) -> bytes:
    """Refuse the tool; the model reads `message` and goes on, or the turn ends with `interrupt`."""
    answer: dict[str, object] = {"behavior": "deny", "message": message}
    if interrupt:
        answer["interrupt"] = True
    return _answer(request_id, answer)


def refuse(request_id: str, message: str) -> bytes:
    """Answer a request that this host does not know, so that the CLI does not wait for ever."""
    return _line(
        {
            "type": "control_response",
            "response": {"subtype": "error", "request_id": request_id, "error": message},
        }
    )


class _SuggestedRule(msgspec.Struct, rename="camel"):
    tool_name: str = ""


class _SuggestedUpdate(msgspec.Struct):
    type: str = ""
    behavior: str = ""
    rules: list[_SuggestedRule] = []


def remembered(request: PermissionRequest) -> msgspec.Raw | None:
    """What "always" means for a tool request: the CLI's suggestions (a JSON array), or of them the rules for this tool.

    With a rule the CLI (2.1.330) may suggest more, such as the permission mode `acceptEdits` and a directory for a
    `touch`. Those say more than that this tool may be used, so they are left out where there is a rule; where there
    is none, as for `Write`, they are all that can be remembered. None when nothing is suggested.
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
    value: bytes | msgspec.Raw,
    type_: type[dict[str, msgspec.Raw]] | type[list[msgspec.Raw]],
    name: str,
    what: str,
) -> msgspec.Raw:
    """Checked, and without line breaks, since it becomes part of one line."""
    try:
        bytes(value).decode()
        msgspec.json.decode(value, type=type_)
        return msgspec.Raw(msgspec.json.format(bytes(value), indent=-1))
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError) as error:
        raise ValidationError(f"{name} is not a JSON {what}: {error}") from error


def _request(request_id: str, request: dict[str, object]) -> bytes:
    return _line({"type": "control_request", "request_id": request_id, "request": request})


def _answer(request_id: str, answer: dict[str, object]) -> bytes:
    return _line(
        {
            "type": "control_response",
            "response": {"subtype": "success", "request_id": request_id, "response": answer},
        }
    )


def _line(value: dict[str, object]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
