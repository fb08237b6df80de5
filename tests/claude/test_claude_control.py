"""What is written to the CLI is always exactly one line of valid JSON."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.claude import control
from pocket_agent.claude.stream import Kind, peek
from pocket_agent.errors import ValidationError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def read(line: bytes) -> Any:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line)


@given(TEXT, TEXT)
def test_any_text_is_one_line(text: str, other: str) -> None:
    prompt = read(control.user_message(text, other))
    assert prompt["message"] == {"role": "user", "content": text}
    assert prompt["uuid"] == other
    assert read(control.deny(text, other))["response"]["response"] == {"behavior": "deny", "message": other}
    assert read(control.set_model(text, other))["request"] == {"subtype": "set_model", "model": other}
    assert read(control.set_permission_mode(text, other))["request"]["mode"] == other
    assert read(control.refuse(text, other))["response"] == {"subtype": "error", "request_id": text, "error": other}


@given(st.dictionaries(TEXT, st.recursive(TEXT | st.integers(), st.lists, max_leaves=5), max_size=4))
def test_an_edited_input_is_embedded_without_line_breaks(value: dict[str, object]) -> None:
    pretty = json.dumps(value, indent=2).encode()
    answer = read(control.allow("r", pretty))["response"]
    assert answer == {
        "subtype": "success",
        "request_id": "r",
        "response": {"behavior": "allow", "updatedInput": value},
    }


def test_requests() -> None:
    assert read(control.initialize("i")) == {
        "type": "control_request",
        "request_id": "i",
        "request": {"subtype": "initialize"},
    }
    assert read(control.interrupt("i"))["request"] == {"subtype": "interrupt"}
    assert read(control.end_session("i"))["request"] == {"subtype": "end_session"}
    assert read(control.set_environment("i", {"TRACEPARENT": "x"}))["request"] == {
        "subtype": "apply_flag_settings",
        "settings": {"env": {"TRACEPARENT": "x"}},
    }
    assert read(control.set_model("i", None))["request"] == {"subtype": "set_model", "model": None}


def test_a_denial_can_end_the_turn() -> None:
    assert read(control.deny("r", "no", interrupt=True))["response"]["response"]["interrupt"] is True


def test_permissions_can_be_granted_with_the_answer() -> None:
    answer = read(control.allow("r", b"{}", b'[\n{"type":"setMode"}]'))["response"]["response"]
    assert answer["updatedPermissions"] == [{"type": "setMode"}]


@pytest.mark.parametrize("value", [b"", b"[]", b"null", b"{", b'{"a":1}\n{"b":2}', b'{"a":"\xff"}', b'{"a":NaN}'])
def test_an_input_that_is_not_an_object_is_refused(value: bytes) -> None:
    with pytest.raises(ValidationError, match="updated_input"):
        control.allow("r", value)


def test_an_input_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValidationError, match="updated_input"):
        control.allow("r", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_permissions_that_are_no_array_are_refused() -> None:
    with pytest.raises(ValidationError, match="updated_permissions"):
        control.allow("r", b"{}", b"{}")


def test_suggestions_for_the_session_write_no_settings_file() -> None:
    suggestions = b'[{"type":"addRules","rules":[{"toolName":"Bash"}],"destination":"localSettings"},{"type":"x"}]'
    assert json.loads(control.for_session(suggestions)) == [
        {"type": "addRules", "rules": [{"toolName": "Bash"}], "destination": "session"},
        {"type": "x", "destination": "session"},
    ]
    with pytest.raises(ValidationError):
        control.for_session(b"[1]")


REQUEST: dict[str, Any] = {
    "subtype": "can_use_tool",
    "tool_name": "Bash",
    "display_name": "Bash",
    "input": {"command": "echo hi > f.txt"},
    "description": "d",
    "permission_suggestions": [{"type": "addRules"}],
    "blocked_path": "/cwd/f.txt",
    "tool_use_id": "toolu_12",
}


def asked(request: dict[str, Any]) -> control.PermissionRequest | None:
    line = json.dumps({"type": "control_request", "request_id": "r", "request": request}).encode()
    message = peek(line)
    assert message.kind is Kind.CONTROL_REQUEST
    return control.parse_permission_request(message)


def test_a_permission_request() -> None:
    request = asked(REQUEST)
    assert request is not None
    assert (request.request_id, request.tool_name, request.tool_use_id) == ("r", "Bash", "toolu_12")
    assert (request.description, request.blocked_path, request.title) == ("d", "/cwd/f.txt", None)
    assert json.loads(bytes(request.input)) == {"command": "echo hi > f.txt"}
    assert request.permission_suggestions is not None
    assert json.loads(bytes(request.permission_suggestions)) == [{"type": "addRules"}]
    assert json.loads(request.raw) == REQUEST
    again = control.read_permission_request("r", request.raw)
    assert again is not None
    assert bytes(again.input) == bytes(request.input)


def test_a_permission_request_with_odd_extras_can_still_be_answered() -> None:
    request = asked({**REQUEST, "description": ["a"], "title": 5, "permission_suggestions": "none"})
    assert request is not None
    assert (request.description, request.title, request.permission_suggestions) == (None, None, None)


@pytest.mark.parametrize(
    "request_",
    [
        {"subtype": "hook_callback", "callback_id": "x"},
        {"subtype": "mcp_message"},
        {"subtype": "can_use_tool", "input": {}},
        {"subtype": "can_use_tool", "tool_name": 5, "input": {}},
        {"subtype": "can_use_tool", "tool_name": "Bash", "input": [1]},
        {},
    ],
)
def test_what_is_no_permission_request_is_told_apart(request_: dict[str, Any]) -> None:
    assert asked(request_) is None


def test_a_request_without_a_request_is_told_apart() -> None:
    assert control.parse_permission_request(peek(b'{"type":"control_request","request_id":"r"}')) is None
    assert control.read_permission_request("r", b"") is None


def test_the_answer_is_built_from_the_request_as_it_came() -> None:
    request = asked(REQUEST)
    assert request is not None
    assert isinstance(request.input, msgspec.Raw)
    answer = read(control.allow(request.request_id, request.input, request.permission_suggestions))
    assert answer["response"]["response"]["updatedInput"] == REQUEST["input"]
