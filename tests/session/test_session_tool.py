"""Tool calls are paired with their results, and each ends in one of three ways."""

import json
from typing import Any

import pytest

from pocket_agent.claude.stream import CliMessage, peek
from pocket_agent.session.accounting import Completed, ToolTrack


def line(**fields: Any) -> CliMessage:
    """A line as the server reads it."""
    return peek(json.dumps(fields).encode())


def call(track: ToolTrack, *calls: tuple[str, str]) -> None:
    """The model calls tools: ids and names."""
    content = [{"type": "tool_use", "id": name, "name": tool, "input": {"a": ["b"]}} for name, tool in calls]
    message = line(type="assistant", message={"id": "m", "content": [{"type": "text", "text": "I do."}, *content]})
    assert message.message is not None
    track.called(message.message)


def give(track: ToolTrack, name: str, *, failed: bool | None = None, kind: str | None = None) -> None:
    """A tool's result."""
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": name, "content": [{"type": "text", "text": "out"}]}
    if failed is not None:
        block["is_error"] = failed
    about: dict[str, Any] = {"id": name, "permission_decision": {"decision": "accept"}}
    if kind is not None:
        about["non_execution_kind"] = kind
    found = line(type="user", message={"role": "user", "content": [block]}, tool_result_meta=[{"id": "x"}, about])
    assert found.message is not None
    track.returned(found.message, found.tool_result_meta)


@pytest.mark.parametrize(
    ("failed", "kind", "outcome"),
    [
        (None, None, "success"),
        (False, None, "success"),
        (True, None, "error"),
        (True, "permission-rule", "denied"),
        (True, "automode-unavailable", "denied"),
        (True, "user-rejected", "denied"),
    ],
)
def test_outcomes(failed: bool | None, kind: str | None, outcome: str) -> None:
    track = ToolTrack({})
    call(track, ("t-1", "mcp__my_server__good_thing"))
    give(track, "t-1", failed=failed, kind=kind)
    assert track.completed == [("mcp__my_server__good_thing", outcome)]
    assert track.running == {}


def test_parallel_calls_end_in_any_order_and_each_once() -> None:
    track = ToolTrack({"t-0": "Read"})
    call(track, ("t-1", "Bash"), ("t-2", "Edit"))
    for name in ("t-2", "t-0", "t-2", "unknown", "t-1"):
        give(track, name)
    assert track.completed == [
        Completed("Edit", "success"),
        Completed("Read", "success"),
        Completed("Bash", "success"),
    ]


def test_a_cli_that_says_no_more_than_that_it_failed() -> None:
    track = ToolTrack({"t-1": "Bash"})
    found = line(type="user", message={"content": [{"type": "tool_result", "tool_use_id": "t-1", "is_error": True}]})
    assert found.message is not None
    track.returned(found.message, None)
    assert track.completed == [("Bash", "error")]


def test_what_is_remembered_is_bounded() -> None:
    track = ToolTrack({})
    call(track, *((f"t-{number}", "x" * 5000) for number in range(2000)))
    assert len(track.running) == 500
    assert list(track.running)[-1] == "t-1999"
    assert {len(name) for name in track.running.values()} == {200}


def test_a_prompt_that_comes_back_is_no_result() -> None:
    message = line(type="user", message={"role": "user", "content": "tool_result"}).message
    assert message is not None
    track = ToolTrack({"t-1": "Bash"})
    track.returned(message, None)
    assert track.completed == []
