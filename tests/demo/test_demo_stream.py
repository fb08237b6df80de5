"""The bytes of an answer."""

import json
from typing import Any

import pytest

from pocket_agent.demo import scripted_model as stream
from pocket_agent.demo.scenario import AWKWARD_TEXT, Failure, Message, Text, Thinking, ToolUse, say

MIXED = Message(
    (
        Thinking("hm"),
        Text(AWKWARD_TEXT, delta_characters=5),
        Text("", delta_characters=5),
        ToolUse("Bash", {"command": "echo 'x' \u2028"}),
        ToolUse("Read", {}),
    )
)


def envelope(message: Message) -> stream.Envelope:
    return stream.Envelope("0a1b", "some-model", stream.usage(60_000, message))


def parsed(message: Message) -> list[dict[str, Any]]:
    found = []
    for chunk in stream.events(message, envelope(message)):
        name, data, end, last = chunk.data.split(b"\n")
        assert (end, last) == (b"", b"")
        event: dict[str, Any] = json.loads(data.removeprefix(b"data: "))
        assert name == f"event: {event['type']}".encode()
        found.append(event)
    return found


def assembled(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content that a client of the API puts together from the events."""
    content: list[dict[str, Any]] = []
    partial = ""
    for event in events:
        match event:
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert index == len(content)
                content.append(dict(block))
                partial = ""
            case {"delta": {"type": "text_delta", "text": text}}:
                content[-1]["text"] += text
            case {"delta": {"type": "thinking_delta", "thinking": text}}:
                content[-1]["thinking"] += text
            case {"delta": {"type": "signature_delta", "signature": text}}:
                content[-1]["signature"] += text
            case {"delta": {"type": "input_json_delta", "partial_json": text}}:
                partial += text
            case {"type": "content_block_stop"} if partial:
                content[-1]["input"] = json.loads(partial)
    return content


def test_the_events_of_a_text_come_in_the_documented_order() -> None:
    names = [event["type"] for event in parsed(Message((Text("abcdef", delta_characters=3),)))]
    assert names == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_streamed_and_whole_answers_say_the_same() -> None:
    whole = json.loads(stream.whole(MIXED, envelope(MIXED)))
    events = parsed(MIXED)
    assert assembled(events) == whole["content"]
    assert whole["content"][1]["text"] == AWKWARD_TEXT
    assert whole["content"][3]["input"] == {"command": "echo 'x' \u2028"}
    assert whole["stop_reason"] == events[-2]["delta"]["stop_reason"] == "tool_use"
    assert whole["id"] == events[0]["message"]["id"] == "msg_0a1b"
    assert whole["usage"]["output_tokens"] == events[-2]["usage"]["output_tokens"]


def test_ids_of_tool_uses_differ() -> None:
    content = assembled(parsed(MIXED))
    assert len({block["id"] for block in content if block["type"] == "tool_use"}) == 2


def test_a_plain_answer_ends_the_turn() -> None:
    assert parsed(say("x"))[-2]["delta"]["stop_reason"] == "end_turn"


def test_everything_is_ascii_on_the_wire() -> None:
    assert all(chunk.data.isascii() for chunk in stream.events(MIXED, envelope(MIXED)))
    assert stream.whole(MIXED, envelope(MIXED)).isascii()


@pytest.mark.parametrize("size", [0, 1, 100, 60_000, 12_000_000])
def test_token_counts_are_never_zero_and_always_the_same(size: int) -> None:
    found = stream.usage(size, say("hello"))
    assert found == stream.usage(size, say("hello"))
    assert found.input_tokens >= 1
    assert found.cache_read_input_tokens >= 1
    assert found.cache_creation_input_tokens >= 1
    assert found.output_tokens >= 1


def test_more_text_costs_more() -> None:
    assert stream.usage(9, say("x" * 4000)).output_tokens == 1000
    assert (
        stream.usage(80_000, say("x")).cache_read_input_tokens > stream.usage(8_000, say("x")).cache_read_input_tokens
    )


def test_pauses_are_summed_for_an_answer_that_does_not_stream() -> None:
    assert stream.pause_seconds(Message((Text("abcd", 2, 0.5), Text("x", 1, 0.25)))) == pytest.approx(1.25)


def test_an_error_has_the_form_of_the_api() -> None:
    body = json.loads(stream.error_body(Failure(400, "invalid_request_error", "No.")))
    assert body == {"type": "error", "error": {"type": "invalid_request_error", "message": "No."}}
