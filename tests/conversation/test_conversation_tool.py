"""Tool calls are paired with their results, and each ends in one of three ways."""

import json
import time
from typing import Any

import pytest

from pocket_agent.claude.stream import ApiMessage, CliMessage, ToolResultMeta, peek
from pocket_agent.conversation import accounting
from pocket_agent.conversation.accounting import Completed, ToolTrack
from pocket_agent.model import Account


def line(**fields: Any) -> CliMessage:
    """A line as the server reads it."""
    return peek(json.dumps(fields).encode())


def call(track: ToolTrack, *calls: tuple[str, str]) -> None:
    """The model calls tools: ids and names."""
    content = [{"type": "tool_use", "id": name, "name": tool, "input": {"a": ["b"]}} for name, tool in calls]
    message = line(type="assistant", message={"id": "m", "content": [{"type": "text", "text": "I do."}, *content]})
    assert message.message is not None
    track.called(message.message)


def give(
    track: ToolTrack, name: str, *, failed: bool | None = None, kind: str | None = None, decision: str = "accept"
) -> None:
    """A tool's result."""
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": name, "content": [{"type": "text", "text": "out"}]}
    if failed is not None:
        block["is_error"] = failed
    about: dict[str, Any] = {"id": name, "permission_decision": {"decision": decision}}
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
    track = ToolTrack(Account())
    call(track, ("t-1", "mcp__my_server__good_thing"))
    give(track, "t-1", failed=failed, kind=kind)
    assert [(done.tool, done.outcome) for done in track.completed] == [("mcp__my_server__good_thing", outcome)]
    assert not track.running
    assert not track.ticks


def test_parallel_calls_end_in_any_order_and_each_once() -> None:
    track = ToolTrack(Account(tools={"t-0": "Read"}))
    call(track, ("t-1", "Bash"), ("t-2", "Edit"))
    for name in ("t-2", "t-0", "t-2", "unknown", "t-1"):
        give(track, name)
    assert track.completed == [
        Completed("Edit", "success"),
        Completed("Read", "success"),
        Completed("Bash", "success"),
    ]


def test_a_cli_that_says_no_more_than_that_it_failed() -> None:
    track = ToolTrack(Account(tools={"t-1": "Bash"}))
    found = line(type="user", message={"content": [{"type": "tool_result", "tool_use_id": "t-1", "is_error": True}]})
    assert found.message is not None
    track.returned(found.message, None)
    assert track.completed == [Completed("Bash", "error")]


def test_what_is_remembered_is_bounded() -> None:
    track = ToolTrack(Account())
    call(track, *((f"t-{number}", "x" * 5000) for number in range(2000)))
    assert track.running.keys() == track.ticks.keys()
    assert len(track.running) == 500
    assert list(track.running)[-1] == "t-1999"
    assert {len(name) for name in track.running.values()} == {200}


def test_a_prompt_that_comes_back_is_no_result() -> None:
    message = line(type="user", message={"role": "user", "content": "tool_result"}).message
    assert message is not None
    track = ToolTrack(Account(tools={"t-1": "Bash"}))
    track.returned(message, None)
    assert track.completed == []


def test_a_decision_is_the_clis_own_where_it_reports_one() -> None:
    track = ToolTrack(Account())
    call(track, *((f"t-{number}", "Edit") for number in range(3)))
    give(track, "t-0", failed=True)
    give(track, "t-1", failed=True, kind="permission-rule", decision="reject")
    denied = line(type="user", message={"content": [{"type": "tool_result", "tool_use_id": "t-2", "is_error": True}]})
    assert denied.message is not None
    track.returned(denied.message, [ToolResultMeta("t-2", "permission-rule")])
    assert [done.decision for done in track.completed] == ["accept", "reject", "reject"]


def test_a_duration_spans_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "tick", lambda: 1_000)
    first = ToolTrack(Account())
    call(first, ("t-1", "Bash"), ("t-2", "Read"))
    monkeypatch.setattr(accounting, "tick", lambda: 3_500)
    second = ToolTrack(Account(tools=first.running, tool_ticks={"t-1": first.ticks["t-1"]}))
    give(second, "t-1")
    give(second, "t-2")
    assert [done.seconds for done in second.completed] == [2.5, 0.0], "0 when the start is not known"


def use(tool: str, **input_: object) -> ApiMessage:
    """A message with one tool call."""
    block = {"type": "tool_use", "id": f"t-{time.monotonic_ns()}", "name": tool, "input": input_}
    message = line(type="assistant", message={"id": "m", "content": [block]}).message
    assert message is not None
    return message


def test_the_same_call_is_counted_by_thread() -> None:
    track = ToolTrack(Account())
    for thread, command in (("", "a"), ("sub", "b"), ("", "a"), ("sub", "c"), ("", "a")):
        track.called(use("Bash", command=command), thread)
    assert {thread: count for thread, (_, count) in track.repeats.items()} == {"": 3, "sub": 1}
    again = ToolTrack(Account(repeats=track.repeats))
    again.called(use("Bash", command="a"))
    assert again.repeats[""][1] == 4
    again.called(use("Read", command="a"))
    assert again.repeats[""][1] == 1
    again.turn_ended()
    assert again.repeats == {}


def test_threads_that_repeat_calls_are_bounded() -> None:
    track = ToolTrack(Account())
    for number in range(2_000):
        track.called(use("Bash", command="a"), str(number))
    assert len(track.repeats) == 500
