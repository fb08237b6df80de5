"""A client's answer becomes one line for the CLI."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from pocket_agent.conversation.state import permission_answer
from pocket_agent.errors import InternalError, ValidationError
from pocket_agent.model import Approval
from tests.conversation import sample


def answer(
    approval: Approval,
    *,
    allow: bool = True,
    message: str | None = None,
    updated_input: Mapping[str, bytes] | None = None,
    remember: bool = False,
) -> dict[str, Any]:
    """The line, read back."""
    edited = None if updated_input is None else {name: msgspec.Raw(value) for name, value in updated_input.items()}
    text = permission_answer(approval, allow=allow, message=message, updated_input=edited, remember=remember)
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
