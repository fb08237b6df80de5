"""pocket_agent.protocol.json_schema and .codegen: the schema and docs/protocol.md fit what the server sends."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent import errors
from pocket_agent.cli.main import schema
from pocket_agent.errors import PocketAgentError
from pocket_agent.model import Milliseconds, ProjectState
from pocket_agent.protocol import push, requests
from pocket_agent.protocol.codegen import render_protocol_document
from pocket_agent.protocol.frame import encode_data, encode_frame
from pocket_agent.protocol.frame_parser import decode
from pocket_agent.protocol.json_schema import ENTRY_TYPES, error_codes, protocol_schema
from pocket_agent.protocol.requests import FRAMES, REQUESTS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "protocol.md"
PACKAGE = ROOT / "src" / "pocket_agent"
SCHEMA = protocol_schema()
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value fits a schema; knows the keywords that the document uses, and no others."""
    return all(_keyword_fits(value, name, rule, schema) for name, rule in schema.items())


def _keyword_fits(value: Any, name: str, rule: Any, schema: dict[str, Any]) -> bool:  # noqa: PLR0911 - a table
    match name:
        case "$ref":
            return fits(value, SCHEMA["$defs"][rule.removeprefix("#/$defs/")])
        case "anyOf":
            return any(fits(value, option) for option in rule)
        case "oneOf":
            return sum(fits(value, option) for option in rule) == 1
        case "const":
            return bool(value == rule)
        case "enum":
            return value in rule
        case "type":
            names = rule if isinstance(rule, list) else [rule]
            if isinstance(value, bool):
                return "boolean" in names
            return any(isinstance(value, TYPES[kind]) for kind in names)
        case "required":
            return not isinstance(value, dict) or set(rule) <= set(value)
        case "properties":
            return not isinstance(value, dict) or all(fits(value[key], rule[key]) for key in rule if key in value)
        case "additionalProperties":
            known = schema.get("properties", {})
            return not isinstance(value, dict) or all(fits(value[key], rule) for key in value if key not in known)
        case "items":
            return not isinstance(value, list) or all(fits(item, rule) for item in value)
        case "minimum":
            return not _is_number(value) or value >= rule
        case "maximum":
            return not _is_number(value) or value <= rule
        case "minLength":
            return not isinstance(value, str) or len(value) >= rule
        case "maxLength":
            return not isinstance(value, str) or len(value) <= rule
        case "minItems":
            return not isinstance(value, list) or len(value) >= rule
        case "maxItems":
            return not isinstance(value, list) or len(value) <= rule
        case "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        case "title" | "description" | "default" | "format":
            return True
        case _:
            raise AssertionError(f"the test does not know the keyword {name}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def client_fits(frame: object) -> bool:
    return fits(frame, {"$ref": "#/$defs/ClientFrame"})


def server_fits(frame: object) -> bool:
    return fits(frame, {"$ref": "#/$defs/ServerFrame"})


def test_every_reference_leads_somewhere() -> None:
    found = set(references(SCHEMA))
    assert found
    assert all(name.removeprefix("#/$defs/") in SCHEMA["$defs"] for name in found)


def test_every_request_and_every_push_is_there() -> None:
    assert set(SCHEMA["x-replies"]) == set(REQUESTS)
    assert all(f"{name}.request" in SCHEMA["$defs"] for name in REQUESTS)
    assert all(f"{name}.frame" in SCHEMA["$defs"] for name in [*FRAMES, "agent_message"])
    assert all(f"{name}.frame" in SCHEMA["$defs"] for name in SCHEMA["x-replies"].values())
    assert {*FRAMES, "agent_message"} >= ENTRY_TYPES
    sources = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert {*re.findall(r'entry_draft\(\s*"(\w+)"', sources), "agent_message"} == ENTRY_TYPES


def test_every_code_of_the_tree_is_there_and_nothing_else() -> None:
    def codes(kind: type[PocketAgentError]) -> set[str]:
        return {kind.code}.union(*(codes(child) for child in kind.__subclasses__()))

    assert set(error_codes()) == codes(PocketAgentError)
    assert error_codes()["INTERNAL_ERROR"] == errors.InternalError.__doc__
    assert all(error_codes().values())


SAMPLES: dict[str, Any] = {
    "path": "/x",
    "prompt": "hi",
    "approval_id": "a",
    "behavior": "allow",
    "execution_id": "e",
    "model": "m",
    "mode": "plan",
    "session_id": "0f1e2d3c-0000-4000-8000-000000000000",
    "project_id": "p",
    "since": 0,
    "before": {"offset": 3},
    "limit": 10,
    "offset": 200,
    "max_bytes": 4096,
    "large": "reference",
    "direction": "all",
    "fork": True,
    "away": True,
    "epoch": "e",
    "after": 4096,
    "announce": True,
    "conversations": True,
    "title": "the tests",
    "worktree": {"branch": "b", "base": "main"},
    "archived": True,
    "discard": True,
    "interval": 1.5,
    "range": 900,
    "prompt_id": "q",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "options": {"model": "m", "allowed_tools": ["Bash"]},
    "message": "no",
    "updated_input": {"a": 1},
    "remember": True,
    "content": {"a": 1},
    "cancel": True,
    "hold_queue": True,
    "when": "now",
    "task_id": "t",
    "report": "context",
    "dry_run": True,
    "device_id": "d",
    "pairing_id": "c",
    "kill": True,
    "paired": True,
    "name": "phone",
    "hash": "0" * 64,
    "view_only": True,
    "projects": ["p"],
    "watch": True,
}
OWN_SAMPLES: dict[str, dict[str, Any]] = {"execution_list": {"before": "e"}, "session_history": {"before": 4096}}
"""Where a request means something else by a name."""


def sample(name: str) -> dict[str, Any]:
    """The data of a request with every field."""
    known = {**SAMPLES, **OWN_SAMPLES.get(name, {})}
    return {field: known[field] for field in REQUESTS[name].__struct_fields__}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_with_every_field_fits(name: str) -> None:
    data = sample(name)
    frame = {"type": name, "data": data, "request_id": "1"}
    assert client_fits(frame)
    assert decode(json.dumps(frame)).type == name
    assert not client_fits({**frame, "type": "nothing"})
    assert not server_fits(frame)


@given(
    st.sampled_from(sorted(REQUESTS)),
    st.dictionaries(
        st.sampled_from(sorted(SAMPLES)),
        st.sampled_from([*SAMPLES.values(), None, -1, 0, "", "x" * 5000, 2**50, [], {}, True, 1.5]),
        max_size=5,
    ),
    st.booleans(),
)
def test_what_the_schema_allows_is_what_the_server_takes(name: str, wrong: dict[str, Any], full: bool) -> None:
    data = sample(name) if full else {}
    frame = {"type": name, "data": data | wrong}
    try:
        decode(json.dumps(frame))
        taken = True
    except errors.ValidationError:
        taken = False
    assert client_fits(frame) is taken


def test_frames_that_the_server_makes_fit() -> None:
    state = push.ProjectStateData("p", "/x", "x", ProjectState.IDLE, None, "t", "t", "e", 3, 0, 0, None, None)
    queued = push.QueuedPrompt("x", "hi", 1, "t")
    approval = push.ApprovalRequestedData("a", "Bash", msgspec.Raw(b"{}"), None, None, msgspec.Raw(b"[]"), "x")
    checks = {"disk": requests.CheckData("healthy")}
    samples: dict[str, object] = {
        "project_state": state,
        "project_list_response": {"projects": [state], "total": 1},
        "project_join": requests.ProjectJoinData("p", ProjectState.IDLE, None, "e", 3, True, [approval], [queued]),
        "execute": requests.ExecuteData("p", "x", "queued", 1),
        "queue_state": push.QueueStateData([queued]),
        "error": push.ErrorData("INTERNAL_ERROR", "m", {"a": [1]}),
        "approval_requested": approval,
        "approval_resolved": push.ApprovalResolvedData("a", "allow", "me"),
        "messages_response": requests.MessagesData(
            [requests.MessageData(1, "t", "claude", "prompt", msgspec.Raw(b"{}"))],
            requests.MessagesMetadata("e", 1, 1, False),
        ),
        "health_check": requests.HealthCheckData(
            "healthy", "1", 5, push.ConnectionFigures(1, 2), push.ProjectFigures(1, 2, 0),
            requests.ResourceFigures(0.5, 1.0, 2.0), requests.ClaudeFigures(True, None), checks,
        ),
    }  # fmt: skip
    for name, data in samples.items():
        frame = json.loads(encode_frame(name, encode_data(data), Milliseconds(0), conversation_id="p", request_id="1"))
        assert server_fits(frame), name
        assert not client_fits({**frame, "data": []}), name
        assert not server_fits({**frame, "data": []}), name
    wrong = json.loads(encode_frame("error", b'{"code":"NOT_A_CODE","message":""}', Milliseconds(0)))
    assert not server_fits(wrong)


def test_an_offset_only_stands_on_entries() -> None:
    for name in [*FRAMES, "agent_message"]:
        properties = SCHEMA["$defs"][f"{name}.frame"]["properties"]
        assert ("offset" in properties) == (name in ENTRY_TYPES)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    schema()
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(SCHEMA))
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_protocol_document(), "run: make generate"


def test_every_link_of_the_page_leads_to_a_heading() -> None:
    text = render_protocol_document()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert len(links) > len(REQUESTS)
    assert links <= anchors


def test_every_request_push_and_code_is_on_the_page() -> None:
    text = render_protocol_document()
    for name in [*REQUESTS, *FRAMES]:
        assert f"### `{name}`" in text
    for code in error_codes():
        assert f"| `{code}` |" in text
