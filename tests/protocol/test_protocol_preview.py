"""Previews of large entries: the same shape, bounded, and honest about what is missing."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.model import Milliseconds
from pocket_agent.protocol.frame import encode_frame, frame_payload, websocket_frame
from pocket_agent.protocol.preview import LARGE_BYTES, preview, preview_frame

EDIT = {
    "type": "user",
    "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "done"}]},
    "tool_use_result": {"filePath": "/a", "originalFile": "x = 1\n" * 20_000, "patch": [{"n": n} for n in range(5000)]},
}


def test_what_is_small_goes_whole() -> None:
    assert preview(b'{"text":"%b"}' % (b"x" * (LARGE_BYTES - 11))) is None
    assert preview(b'{"text":"%b"}' % (b"x" * (LARGE_BYTES - 10))) is not None


def test_the_answer_of_an_edit_is_there_without_the_file() -> None:
    data = json.dumps(EDIT).encode()
    found = preview(data)
    assert found is not None
    assert found.size == len(data)
    assert found.cut == ("/tool_use_result/originalFile", "/tool_use_result/patch")
    assert json.loads(found.data)["message"] == EDIT["message"]


def test_names_of_fields_are_escaped() -> None:
    found = preview(json.dumps({"a/b~c": "x" * 20_000}).encode())
    assert found is not None
    assert found.cut == ("/a~1b~0c",)


def test_lone_surrogates_and_what_is_nested_too_deeply_are_bounded_too() -> None:
    found = preview(b'{"text":"\\ud800%b"}' % (b"x" * 20_000))
    assert found is not None
    assert json.loads(found.data)["text"].startswith("\ud800xxx")
    found = preview(b'{"a":%b%b}' % (b"[" * 100_000, b"]" * 100_000))
    assert found is not None
    assert (found.data, found.cut) == (b"{}", ("",))


def test_a_frame_keeps_its_envelope() -> None:
    payload = encode_frame(
        "agent_message", json.dumps(EDIT).encode(), Milliseconds(0), conversation_id='p,"data":', offset=7
    )
    frame = json.loads(frame_payload(preview_frame(websocket_frame(payload))))
    assert (frame["type"], frame["project_id"], frame["offset"]) == ("agent_message", 'p,"data":', 7)
    assert frame["size"] == len(json.dumps(EDIT))
    assert frame["data"]["message"] == EDIT["message"]
    small = websocket_frame(b"{}")
    assert preview_frame(small) is small


VALUES = st.recursive(
    st.text(max_size=3000) | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=50) | st.dictionaries(st.text(max_size=300), inner, max_size=50),
)


@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=20))
def test_a_preview_is_bounded_whatever_is_in_the_entry(value: dict[str, object]) -> None:
    data = json.dumps({"fill": ["y"] * 6000, **value}).encode()
    found = preview(data)
    assert found is not None
    assert found.cut
    assert len(found.data) < 4 * 16 * 1024
    assert isinstance(json.loads(found.data), dict)
