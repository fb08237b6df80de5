"""pocket_agent.protocol.frame: bytes that a WebSocket client and a JSON parser read as they were meant."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.model import Direction, Entry, Milliseconds
from pocket_agent.protocol.frame import encode_data, encode_frame, entry_frame, timestamp, websocket_frame
from pocket_agent.protocol.push import ErrorData

TIMES = st.integers(min_value=0, max_value=253_402_300_799_999)  # the end of the year 9999


def payload_of(frame: bytes) -> bytes:
    """Read a frame as RFC 6455 section 5.2 says, and check that nothing is left over."""
    assert frame[0] == 0x81
    size, start = frame[1], 2
    assert size < 128, "a server's frames are not masked"
    if size == 126:
        size, start = int.from_bytes(frame[2:4], "big"), 4
        assert size > 125, "the shortest form is required"
    elif size == 127:
        size, start = int.from_bytes(frame[2:10], "big"), 10
        assert size > 0xFFFF, "the shortest form is required"
    assert len(frame) == start + size
    return frame[start:]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
def test_every_length_has_its_header(size: int) -> None:
    assert payload_of(websocket_frame(b"x" * size)) == b"x" * size


@given(TIMES)
def test_a_timestamp_is_rfc_3339_with_milliseconds(at: int) -> None:
    text = timestamp(Milliseconds(at))
    assert text.endswith("Z")
    assert len(text) == len("2026-01-31T12:00:00.123Z")
    read = datetime.fromisoformat(text)
    assert read.tzinfo is not None
    assert (read - datetime.fromtimestamp(0, UTC)).total_seconds() == pytest.approx(at / 1000, abs=1e-4)


def test_timestamps_of_one_second_and_of_others() -> None:
    assert timestamp(Milliseconds(1_769_860_800_123)) == "2026-01-31T12:00:00.123Z"
    assert timestamp(Milliseconds(1_769_860_800_007)) == "2026-01-31T12:00:00.007Z"
    assert timestamp(Milliseconds(0)) == "1970-01-01T00:00:00.000Z"


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=4),
    TIMES,
    st.integers(min_value=1, max_value=2**40),
    st.booleans(),
)
def test_an_entry_is_json_with_its_data_byte_for_byte(
    value: dict[str, object], at: int, offset: int, spaced: bool
) -> None:
    data = json.dumps(value, separators=(", ", ":  ") if spaced else None).encode()
    entry = Entry(offset, Milliseconds(at), Direction.CLAUDE, "agent_message", data)
    payload = payload_of(entry_frame("p", entry))
    assert payload.endswith(b'"data":' + data + b"}")
    assert json.loads(payload) == {
        "type": "agent_message",
        "project_id": "p",
        "timestamp": timestamp(Milliseconds(at)),
        "offset": offset,
        "data": value,
    }


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_request_id_comes_back_as_it_was(request_id: str) -> None:
    frame = encode_frame("execute", b"{}", Milliseconds(0), request_id=request_id)
    assert json.loads(frame)["request_id"] == request_id


def test_what_is_not_there_is_left_out() -> None:
    assert sorted(json.loads(encode_frame("x", b"{}", Milliseconds(0)))) == ["data", "timestamp", "type"]


def test_payloads_become_json() -> None:
    assert json.loads(encode_data(ErrorData("X", "y"))) == {"code": "X", "message": "y"}
    assert encode_data({"raw": msgspec.Raw(b'{"a":  1}')}) == b'{"raw":{"a":  1}}'
