"""A client's answer becomes one line for the CLI."""

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from pocket_agent.conversation.conversation_log import ConversationLog, tick
from pocket_agent.conversation.state import State, permission_answer
from pocket_agent.errors import InternalError, ValidationError
from pocket_agent.model import Account, Approval
from pocket_agent.protocol.requests import ApprovalRespond
from tests.conversation import sample


def raw(values: Mapping[str, bytes] | None) -> dict[str, msgspec.Raw] | None:
    return None if values is None else {name: msgspec.Raw(value) for name, value in values.items()}


def answer(
    approval: Approval,
    *,
    allow: bool = True,
    message: str | None = None,
    updated_input: Mapping[str, bytes] | None = None,
    remember: bool = False,
    content: Mapping[str, bytes] | None = None,
    cancel: bool = False,
) -> dict[str, Any]:
    """The line, read back."""
    given = ApprovalRespond(
        approval_id=approval.id,
        behavior="allow" if allow else "deny",
        message=message,
        updated_input=raw(updated_input),
        remember=remember,
        content=raw(content),
        cancel=cancel,
    )
    text = permission_answer(approval, given)
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1, "a second line would be a message of its own"
    read = json.loads(text)
    assert read["type"] == "control_response"
    assert read["response"]["request_id"] == approval.request_id
    response: dict[str, Any] = read["response"]["response"]
    return response


def test_allowing_gives_back_the_input_that_was_asked_for() -> None:
    assert answer(sample.approval()) == {"behavior": "allow", "updatedInput": {"command": "date"}}


def test_an_edited_input_replaces_it_and_stays_one_line() -> None:
    edited = answer(sample.approval(), updated_input={"command": b'"a\\nb"', "more": b'{\n"x":\n[1]}'})
    assert edited["updatedInput"] == {"command": "a\nb", "more": {"x": [1]}}


def test_an_input_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ValidationError, match="updated_input"):
        answer(sample.approval(), updated_input={"command": b'"\xff"'})


def test_denying_tells_the_model_why() -> None:
    denied = answer(sample.approval(), allow=False, message="not now\n", updated_input={"command": b'"x"'})
    assert denied == {"behavior": "deny", "message": "not now\n"}


@pytest.mark.parametrize("message", [None, ""])
def test_a_denial_without_a_reason_has_one(message: str | None) -> None:
    assert answer(sample.approval(), allow=False, message=message)["message"]


def test_remembering_lasts_for_the_session_and_writes_no_settings_file() -> None:
    suggestion = {"type": "addRules", "destination": "localSettings", "rules": [{"toolName": "Bash"}]}
    asked = sample.approval(request=sample.tool_request(permission_suggestions=[suggestion]))
    remembered = answer(asked, remember=True)["updatedPermissions"]
    assert remembered == [{**suggestion, "destination": "session"}]
    assert "updatedPermissions" not in answer(asked)


def test_remembering_without_a_suggestion_is_a_plain_yes() -> None:
    assert "updatedPermissions" not in answer(sample.approval(), remember=True)


def test_a_stored_request_that_cannot_be_read_is_a_fault_of_the_server() -> None:
    with pytest.raises(InternalError):
        answer(sample.approval(request=b"{}"))


def elicitation(**fields: object) -> Approval:
    """A question of an MCP server with a form of one field."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    request = {"subtype": "elicitation", "mcp_server_name": "crm", "message": "Who?", "requested_schema": schema}
    return sample.approval(request=json.dumps({**request, **fields}).encode())


def test_a_question_of_an_mcp_server_is_accepted_declined_or_closed() -> None:
    asked = elicitation()
    accepted = answer(asked, content={"name": b'"A\\nB"', "list": b"[\n1]"})
    assert accepted == {"action": "accept", "content": {"name": "A\nB", "list": [1]}}
    assert answer(asked, allow=False) == {"action": "decline"}
    assert answer(asked, allow=False, cancel=True) == {"action": "cancel"}
    assert answer(elicitation(mode="url", url="https://x.example")) == {"action": "accept"}
    assert answer(elicitation(requested_schema={"type": "object", "properties": {}})) == {"action": "accept"}


def test_an_answer_fits_the_request() -> None:
    asked, tool = elicitation(), sample.approval()
    for approval, given, problem in (
        (asked, {}, "content"),
        (asked, {"updated_input": {}, "content": {}}, "updated_input"),
        (asked, {"content": {}, "cancel": True}, "cancel"),
        (asked, {"content": {"name": b'"\xff"'}}, "content"),
        (tool, {"content": {}}, "tool request"),
        (tool, {"allow": False, "cancel": True}, "tool request"),
    ):
        with pytest.raises(ValidationError, match=problem):
            answer(approval, **given)


def test_the_wait_for_an_answer_counts_for_no_call_of_a_server() -> None:
    account = Account(tools={"a": "mcp__crm__ask", "b": "Bash"}, tool_ticks={"a": 1000, "b": 2000})
    state = State(cast(ConversationLog, None), account=account)
    state.restart_waits(replace(elicitation(), created_tick=tick() - 5000))
    ticks = state.account.tool_ticks
    assert ticks["a"] >= 6000
    assert ticks["b"] == 2000
