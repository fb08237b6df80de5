"""Frames of every shape that a line of the CLI can give them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.client import Client, Frame, ProtocolViolationError
from pocket_agent.model import Direction, Entry, Milliseconds
from pocket_agent.protocol.frame import encode_frame
from tests.client.scripted import Json, Peer, ScriptedServer

TEXTS = st.text(alphabet=st.characters(), max_size=20)  # lone surrogates too
LINES = st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=3), max_size=4)


def entry(data: bytes) -> bytes:
    made = Entry(3, Milliseconds(0), Direction.CLAUDE, "agent_message", data)
    return encode_frame(made.type, made.data, made.timestamp, conversation_id="p", offset=made.offset)


@given(LINES, st.booleans())
def test_a_line_comes_through_byte_for_byte(line: dict[str, object], spaced: bool) -> None:
    data = json.dumps(line, separators=None if spaced else (",", ":")).encode()
    frame = Frame(entry(data))
    assert (frame.type, frame.project_id, frame.offset) == ("agent_message", "p", 3)
    assert frame.payload == data
    assert frame.data == line


def test_a_line_that_is_nested_deeper_than_the_parser_goes() -> None:
    data = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    frame = Frame(entry(data))
    assert frame.offset == 3
    assert frame.payload == data
    with pytest.raises(ProtocolViolationError, match="agent_message"):
        _ = frame.data


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b'{"type":"x"}', b'{"data":{}}', b'{"type":"x","data":', b'{"type":"x","data":{"a":"\\ud800"}'],
)
def test_what_is_no_frame_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolViolationError, match="unreadable frame"):
        Frame(raw)


def test_data_that_is_no_object_is_refused_when_asked_for() -> None:
    with pytest.raises(ProtocolViolationError, match="not an object"):
        _ = Frame(b'{"type":"x","data":[]}').data


@pytest.mark.parametrize(
    "line",
    [
        rb'{"a":"\ud83db"}',
        rb'{"a": "\ud83d\ude00 \\ud800 \udc00\ud800\u0041"}',
        rb'{"a":"plain"}',
        rb'{"\udfff":"\"\ud800"}',
    ],
)
async def test_a_page_of_history_is_byte_for_byte_too(server: ScriptedServer, line: bytes) -> None:
    async def answer(peer: Peer, frame: Json) -> None:
        message = b'{"offset":%d,"timestamp":"t","direction":"claude","type":"agent_message","message":%b}'
        data = b'{"messages":[%b,%b],"metadata":{"epoch":"e","first_offset":1,"last_offset":2,"has_more":false}}'
        page = data % (message % (1, line), message % (2, line))
        reply = encode_frame("messages_response", page, Milliseconds(0), request_id=frame["request_id"])
        await peer.socket.send_str(reply.decode())

    server.handlers["get_messages"] = answer
    async with Client(server.url) as client:
        found = await client.messages("p")
    assert [bytes(message.message) for message in found.messages] == [line, line]
