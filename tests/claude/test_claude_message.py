"""The peek tells what a line is, never raises, and never lets through what is not JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.claude.stream import CliMessage, Kind, peek

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NAMES = [field for field in CliMessage.__struct_encode_fields__ if not field.startswith("(")]


def is_json_object(line: bytes) -> bool:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return isinstance(json.loads(line.decode(), parse_constant=refuse), dict)
    except ValueError:
        return False


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(), JSON), st.booleans())
def test_every_json_object_is_a_message(value: dict[str, object], ascii_only: bool) -> None:
    line = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    message = peek(line)
    assert (message.kind is Kind.GARBAGE) == (not is_json_object(line)), line
    if isinstance(value.get("type"), str) and message.kind is not Kind.GARBAGE:
        assert message.type == value["type"]


@given(st.binary())
def test_any_bytes_give_a_message(line: bytes) -> None:
    message = peek(line)
    assert message.kind is not Kind.GARBAGE or (message.reason and message.excerpt is not None)
    assert (message.kind is Kind.GARBAGE) == (not is_json_object(line))


@given(JSON, st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_damaged_line_passes_only_if_it_is_still_json(value: object, place: int, damage: bytes) -> None:
    line = json.dumps({"type": "assistant", "message": value}).encode()
    place %= len(line)
    damaged = line[:place] + damage + line[place + len(damage) :]
    assert (peek(damaged).kind is Kind.GARBAGE) == (not is_json_object(damaged))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "a line that is not JSON"),
        (b"", "a line that is not JSON"),
        (b'{"type":"assistant"', "a line that is not JSON"),
        (b'{"type":"assistant"} x', "a line that is not JSON"),
        (b'{"type":"assistant","x":NaN}', "a line that is not JSON"),
        (b'{"type":"assistant","x":"\\ud800","y":NaN}', "a line that is not JSON"),
        (b'{"type":5,"x":NaN}', "a line that is not JSON"),
        (b'{"type":"assistant","x":"\xff\xfe"}', "text that is not UTF-8"),
        (b'{"type":"assistant","x":"\xed\xa0\x80"}', "text that is not UTF-8"),
        (b'{"type":"assistant","\xff":1}', "text that is not UTF-8"),
        (b"[1,2]", "JSON that is not an object"),
        (b'"text"', "JSON that is not an object"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON that is nested too deeply"),
        (b'{"type":5,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON that is nested too deeply"),
    ],
)
def test_garbage_says_what_it_is(line: bytes, reason: str) -> None:
    message = peek(line)
    assert (message.kind, message.reason, message.is_entry) == (Kind.GARBAGE, reason, False)


def test_the_excerpt_of_garbage_is_printable_and_bounded() -> None:
    excerpt = peek(b"\x1b[31mred\x00\xff" + "é\u2028".encode() + b"x" * 10_000).excerpt
    assert excerpt is not None
    assert excerpt.startswith("\ufffd[31mred\ufffd\ufffdé\ufffdxxx")
    assert len(excerpt) == 200
    assert excerpt.isprintable()


def test_a_line_cannot_pretend_to_be_garbage() -> None:
    assert peek(b'{"type":"result","reason":"x","excerpt":"y"}').kind is Kind.RESULT


@pytest.mark.parametrize(
    ("line", "kind", "is_entry"),
    [
        ('{"type":"system","subtype":"init"}', Kind.INIT, True),
        ('{"type":"system","subtype":"status"}', Kind.OTHER, True),
        ('{"type":"assistant"}', Kind.ASSISTANT, True),
        ('{"type":"user"}', Kind.USER, True),
        ('{"duration_api_ms":34,"is_error":false,"type":"result"}', Kind.RESULT, True),
        ('{"type":"stream_event","event":{"type":"ping"}}', Kind.STREAM_EVENT, False),
        ('{"type":"control_request"}', Kind.CONTROL_REQUEST, True),
        ('{"type":"control_cancel_request"}', Kind.CONTROL_CANCEL_REQUEST, True),
        ('{"type":"control_response"}', Kind.CONTROL_RESPONSE, True),
        ('{"type":"command_lifecycle"}', Kind.LIFECYCLE, True),
        ('{"type":"of tomorrow","field":[1]}', Kind.OTHER, True),
        ('{"type":"init"}', Kind.OTHER, True),
        ('{"type":"garbage"}', Kind.OTHER, True),
        ("{}", Kind.OTHER, True),
    ],
)
def test_kinds(line: str, kind: Kind, is_entry: bool) -> None:
    message = peek(line.encode())
    assert (message.kind, message.is_entry) == (kind, is_entry)


def test_a_result() -> None:
    message = peek(
        b'{"duration_api_ms":34,"stop_reason":"end_turn","session_id":"s","usage":{"input_tokens":10,'
        b'"output_tokens":12,"cache_read_input_tokens":3,"cache_creation_input_tokens":4,"tier":"x"},'
        b'"total_cost_usd":0.0003006,"duration_ms":60,"num_turns":2,"is_error":false,"subtype":"success",'
        b'"permission_denials":[{"tool_name":"Bash"}],"result":"done","uuid":"u","type":"result"}'
    )
    assert message.kind is Kind.RESULT
    assert (message.session_id, message.uuid, message.is_error) == ("s", "u", False)
    assert (message.total_cost_usd, message.duration_ms, message.num_turns) == (0.0003006, 60, 2)
    assert message.usage is not None
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 12)
    assert (message.usage.cache_read_input_tokens, message.usage.cache_creation_input_tokens) == (3, 4)
    assert message.permission_denials is not None
    assert len(message.permission_denials) == 1
    assert (message.result_text, message.lost_conversation) == ("done", False)


def test_a_result_whose_conversation_is_lost() -> None:
    message = peek(
        b'{"type":"result","subtype":"error_during_execution","is_error":true,'
        b'"errors":["No conversation found with session ID: x","second"]}'
    )
    assert message.lost_conversation
    assert message.result_text == "No conversation found with session ID: x\nsecond"


def test_the_text_of_a_result_is_bounded() -> None:
    text = peek(json.dumps({"type": "result", "result": "x" * 1_000_000}).encode()).result_text
    assert text == "x" * 10_000


@pytest.mark.parametrize(
    ("delta", "kind", "text"),
    [
        ({"type": "text_delta", "text": "hé"}, "text", "hé"),
        ({"type": "thinking_delta", "thinking": "hm"}, "thinking", "hm"),
        ({"type": "input_json_delta", "partial_json": '{"a'}, "input_json", '{"a'),
        ({"type": "signature_delta", "signature": "x"}, None, None),
        ({"type": "text_delta", "text": "cut \ud83d"}, "text", "cut \ufffd"),
    ],
)
def test_partial_text(delta: dict[str, str], kind: str | None, text: str | None) -> None:
    event = {"type": "content_block_delta", "index": 3, "delta": delta}
    message = peek(json.dumps({"type": "stream_event", "event": event, "parent_tool_use_id": None}).encode())
    assert message.kind is Kind.STREAM_EVENT
    assert (message.event_type, message.delta_kind, message.delta_text) == ("content_block_delta", kind, text)
    assert message.event is not None
    assert message.event.index == 3


def test_control_lines_name_their_request() -> None:
    assert peek(b'{"type":"control_request","request_id":"a","request":{"subtype":"x"}}').request_id == "a"
    assert peek(b'{"type":"control_cancel_request","request_id":"b"}').request_id == "b"
    success = peek(b'{"type":"control_response","response":{"subtype":"success","request_id":"c","response":{"n":1}}}')
    assert success.response is not None
    assert (success.request_id, success.response.succeeded) == ("c", True)
    assert json.loads(bytes(success.response.response)) == {"n": 1}
    failure = peek(b'{"type":"control_response","response":{"subtype":"error","request_id":"d","error":"no"}}')
    assert failure.response is not None
    assert (failure.request_id, failure.response.succeeded, failure.response.error) == ("d", False, "no")


def test_fields_of_unexpected_types_hide_nothing_else() -> None:
    message = peek(
        b'{"type":"result","session_id":7,"is_error":true,"usage":{"input_tokens":"many"},"result":{"a":1},'
        b'"num_turns":1e400,"total_cost_usd":0.5}'
    )
    assert (message.kind, message.is_error, message.total_cost_usd) == (Kind.RESULT, True, 0.5)
    assert (message.session_id, message.usage, message.result, message.num_turns) == (None, None, None, None)


def test_lone_surrogates_are_valid_and_shown_as_replacement_characters() -> None:
    message = peek(b'{"type":"result","result":"a\\ud800b","session_id":"s"}')
    assert (message.kind, message.result_text, message.session_id) == (Kind.RESULT, "a\ufffdb", "s")


def test_a_tool_request_with_a_lone_surrogate_can_be_embedded() -> None:
    message = peek(
        b'{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","input":{"c":"\\udc00"}}}'
    )
    assert json.loads(bytes(message.request))["input"] == {"c": "\ufffd"}


def test_numbers_beyond_64_bits_do_no_harm() -> None:
    assert peek(b'{"type":"result","duration_ms":' + b"9" * 5000 + b"}").kind is Kind.RESULT
    assert peek(b'{"type":"result","num_turns":' + b"9" * 30 + b',"session_id":"s"}').session_id == "s"
