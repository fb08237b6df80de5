"""pocket_agent.protocol.requests: whatever comes in is a request or a clear refusal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.errors import InvalidMessageError, ValidationError
from pocket_agent.model import MAX_OFFSET, ExecuteOptions, Position
from pocket_agent.protocol import requests
from pocket_agent.protocol.frame_parser import decode, request_id_of
from pocket_agent.protocol.requests import REQUESTS, Options, Since

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted({field for kind in REQUESTS.values() for field in kind.__struct_fields__})
PLAUSIBLE = st.dictionaries(
    st.sampled_from(FIELDS),
    JSON | st.sampled_from(["p", 0, -1, MAX_OFFSET + 1, True, "allow", "default", {"offset": 3}]),
    max_size=6,
)


def frame(kind: str, data: object = None, **envelope: object) -> bytes:
    return json.dumps({"type": kind, "data": data, **envelope}).encode()


def try_to_decode(text: bytes | str) -> None:
    try:
        found = decode(text)
    except (InvalidMessageError, ValidationError) as error:
        assert error.message.endswith(".")
    else:
        assert isinstance(found.request, REQUESTS[found.type])


@given(st.binary() | st.text())
def test_arbitrary_input_is_refused_politely(text: bytes | str) -> None:
    try_to_decode(text)
    request_id_of(text)


@given(JSON)
def test_arbitrary_json_is_refused_politely(value: object) -> None:
    try_to_decode(json.dumps(value))


@given(
    st.sampled_from(sorted(REQUESTS)),
    JSON | PLAUSIBLE,
    st.fixed_dictionaries({}, optional={"project_id": JSON, "request_id": JSON}),
)
def test_arbitrary_data_is_a_request_or_refused(kind: str, data: object, envelope: dict[str, Any]) -> None:
    try_to_decode(frame(kind, data, **envelope))


@pytest.mark.parametrize("depth", [10, 1_000, 100_000])
@pytest.mark.parametrize("key", ["data", "other"])
def test_deep_nesting_is_refused_politely(depth: int, key: str) -> None:
    try_to_decode(b'{"type":"approval_respond","%s":%s%s}' % (key.encode(), b"[" * depth, b"]" * depth))
    inner = b'{"approval_id":"a","behavior":"allow","updated_input":{"x":%s%s}}' % (b"[" * depth, b"]" * depth)
    try_to_decode(b'{"type":"approval_respond","%s":%s}' % (key.encode(), inner))


def test_a_request_with_everything() -> None:
    found = decode(
        b'{"type":"execute","project_id":"p","request_id":"7","new":1,'
        b'"data":{"prompt":"hi","prompt_id":"x","options":{"model":"m","add_dirs":["/a"]},"new":2}}'
    )
    assert found.type == "execute"
    assert found.project_id == "p"
    assert found.request_id == "7"
    assert isinstance(found.request, requests.Execute)
    assert found.request.prompt == "hi"
    assert found.request.prompt_id == "x"
    assert found.request.options is not None
    assert found.request.options.to_model() == ExecuteOptions(model="m", add_dirs=("/a",))


@pytest.mark.parametrize("data", ["", ',"data":null', ',"data":{}'])
def test_data_may_be_missing_where_nothing_is_needed(data: str) -> None:
    assert isinstance(decode(f'{{"type":"project_list"{data}}}').request, requests.ProjectList)


def test_the_project_is_named_outside_or_inside_but_not_twice_differently() -> None:
    assert decode(frame("agent_kill", {"project_id": "a"})).project_id == "a"
    assert decode(frame("agent_kill", {}, project_id="b")).project_id == "b"
    assert decode(frame("agent_kill", {"project_id": "a"}, project_id="a")).project_id == "a"
    with pytest.raises(ValidationError, match="two different projects"):
        decode(frame("agent_kill", {"project_id": "a"}, project_id="b"))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (b"{", InvalidMessageError, "Not valid JSON"),
        (b"[]", InvalidMessageError, "Not a message"),
        (b"{}", InvalidMessageError, "type"),
        (b'{"type":"nothing"}', InvalidMessageError, "Unknown message type 'nothing'"),
        (b'{"type":"execute"}', ValidationError, "prompt"),
        (frame("execute", {"prompt": ""}), ValidationError, "prompt"),
        (frame("execute", {"prompt": 5}), ValidationError, "prompt"),
        (frame("project_join", {"since": -1}), ValidationError, "since"),
        (frame("project_join", {"since": MAX_OFFSET + 1}), ValidationError, "since"),
        (frame("project_join", {"since": {"offset": -1}}), ValidationError, "since"),
        (frame("get_messages", {"limit": 0}), ValidationError, "limit"),
        (frame("get_messages", {"limit": 10**30}), ValidationError, "limit"),
        (frame("set_permission_mode", {"mode": "--dangerous"}), ValidationError, "mode"),
        (frame("session_resume", {"session_id": "--help"}), ValidationError, "session_id"),
        (frame("project_list", {}, request_id="x" * 201), InvalidMessageError, "request_id"),
        (frame("project_list", {}, request_id=5), InvalidMessageError, "request_id"),
    ],
)
def test_a_refusal_names_what_is_wrong(text: bytes, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        decode(text)


def test_the_request_id_of_a_wrong_frame_is_found() -> None:
    assert request_id_of(frame("nothing", 5, request_id="9")) == "9"
    assert request_id_of(b'{"request_id":"9"}') == "9"
    assert request_id_of(b'{"request_id":9}') is None
    assert request_id_of(b"{") is None
    assert request_id_of(frame("x", request_id="y" * 201)) is None


@pytest.mark.parametrize(
    "options", [Options(model="a\0b"), Options(add_dirs=("/a", "/b\0")), Options(append_system_prompt="\0")]
)
def test_options_with_nul_are_refused(options: Options) -> None:
    with pytest.raises(ValidationError, match="NUL"):
        options.to_model()


def test_a_place_without_an_epoch_is_in_the_present_one() -> None:
    assert Since(offset=4).position("now") == Position("now", 4)
    assert Since(offset=4, epoch="old").position("now") == Position("old", 4)
