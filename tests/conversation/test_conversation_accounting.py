"""Counting what a process uses: exact from results, a lower bound from lines, and never twice."""

import json
from typing import Any

import msgspec
import pytest

from pocket_agent.claude.stream import peek
from pocket_agent.conversation import accounting
from pocket_agent.conversation.accounting import Meter, charged, local_day, spending
from pocket_agent.model import Account, ModelUsage
from tests.conversation import sample

OPUS = "claude-opus-5-5"
TOLD = {"inputTokens": 420, "outputTokens": 10, "cacheReadInputTokens": 12195, "cacheCreationInputTokens": 840}
STARTED = {
    "input_tokens": 420,
    "output_tokens": 1,
    "cache_read_input_tokens": 12195,
    "cache_creation_input_tokens": 840,
}


def see(meter: Meter, **line: Any) -> None:
    """Show the meter a line."""
    message = peek(json.dumps(line).encode())
    meter.see(message, message.kind)


def start(meter: Meter, name: str, **usage: int) -> None:
    """A message of the main thread begins."""
    message = {"id": name, "model": OPUS, "content": [], "usage": {**STARTED, **usage}}
    see(meter, type="stream_event", event={"type": "message_start", "message": message}, parent_tool_use_id=None)


def delta(meter: Meter, **usage: int) -> None:
    """Its final figures."""
    see(meter, type="stream_event", event={"type": "message_delta", "usage": usage}, parent_tool_use_id=None)


def block(meter: Meter, name: str, parent: str | None = None, model: str = OPUS) -> None:
    """A line for one of its blocks."""
    content = [{"type": "text", "text": "x"}]
    message = {"id": name, "model": model, "content": content, "usage": STARTED}
    see(meter, type="assistant", message=message, parent_tool_use_id=parent)


def result(meter: Meter, **fields: Any) -> tuple[ModelUsage, ...]:
    """What a result settles."""
    return meter.settle(peek(json.dumps({"type": "result", **fields}).encode()))


def metered(*, model: str | None = OPUS, cost_usd: float | None = 0.0) -> Meter:
    """A meter at the beginning of a turn."""
    return Meter(Account(cost_usd=cost_usd, model=model))


def test_a_result_replaces_what_the_lines_told() -> None:
    meter = metered()
    start(meter, "m-1")
    block(meter, "m-1")
    delta(meter, output_tokens=9)
    used = result(meter, model_usage_since_last_result={OPUS: {**TOLD, "costUSD": 0.5}}, total_cost_usd=9.5)
    assert used == (ModelUsage(OPUS, 420, 10, 12195, 840, 0.5),)
    assert meter.seen() == (), "it is not counted again when the process ends"
    assert meter.account.cost_usd == 9.5


def test_a_message_counts_once_however_many_blocks_it_has() -> None:
    meter = metered()
    start(meter, "m-1")
    for _ in range(4):
        block(meter, "m-1")
    assert meter.seen() == (ModelUsage(OPUS, 420, 1, 12195, 840),)
    delta(meter, output_tokens=28)
    start(meter, "m-2", input_tokens=3)
    delta(meter, input_tokens=5, output_tokens=2)
    assert meter.give_up() == (ModelUsage(OPUS, 425, 30, 2 * 12195, 2 * 840),)
    assert meter.give_up() == ()


def test_without_partial_messages_the_lines_are_counted() -> None:
    meter = metered()
    for name in ("m-1", "m-1", "m-2"):
        block(meter, name)
    assert meter.seen() == (ModelUsage(OPUS, 840, 2, 2 * 12195, 1680),)


def test_subagents_count_beside_each_other_and_the_main_thread() -> None:
    meter = metered()
    start(meter, "m-1")
    for name, parent in [("a-1", "t-1"), ("b-1", "t-2"), ("a-1", "t-1"), ("b-1", "t-2"), ("b-2", "t-2")]:
        block(meter, name, parent, "claude-haiku-5-5")
    block(meter, "m-1")
    delta(meter, output_tokens=9)
    assert meter.seen() == (
        ModelUsage("claude-haiku-5-5", 3 * 420, 3, 3 * 12195, 3 * 840),
        ModelUsage(OPUS, 420, 9, 12195, 840),
    )


def test_a_subagent_that_goes_on_after_the_result_is_not_counted_twice() -> None:
    meter = metered()
    block(meter, "a-1", "t-1")
    result(meter, model_usage_since_last_result={OPUS: TOLD})
    block(meter, "a-1", "t-1")
    assert meter.seen() == ()


def test_what_the_cli_wrote_itself_costs_nothing() -> None:
    meter = metered()
    block(meter, "m-1", model="<synthetic>")
    assert meter.seen() == ()


def test_the_model_keeps_the_name_that_results_give_it() -> None:
    meter = metered(model=None)
    see(meter, type="system", subtype="init", model=f"{OPUS}[1m]")
    start(meter, "m-1")
    assert [used.model for used in meter.seen()] == [f"{OPUS}[1m]"]
    block(meter, "m-2", model="claude-other")
    assert [used.model for used in meter.seen()] == [f"{OPUS}[1m]", "claude-other"]


def test_counting_goes_on_from_what_was_stored() -> None:
    meter = metered()
    start(meter, "m-1")
    block(meter, "m-1", "t-1")
    stored = msgspec.json.decode(msgspec.json.encode(meter.account), type=Account)
    again = Meter(stored)
    block(again, "m-1")
    delta(again, output_tokens=7)
    block(again, "m-1", "t-1")
    assert again.seen() == (ModelUsage(OPUS, 840, 8, 2 * 12195, 1680),)


def test_a_line_that_tells_nothing_new_leaves_the_account() -> None:
    meter = metered()
    before = meter._account
    see(meter, type="stream_event", event={"type": "content_block_delta", "delta": {"type": "text_delta"}})
    see(meter, type="user", message={"role": "user", "content": "text"})
    assert meter.account is before


def test_a_cli_that_does_not_tell_by_model_is_counted_by_what_the_cost_grew() -> None:
    meter = metered(cost_usd=0.25)
    used = result(meter, usage=STARTED, total_cost_usd=0.75)
    assert used == (ModelUsage(OPUS, 420, 1, 12195, 840, 0.5),)
    assert result(meter, usage=STARTED, total_cost_usd=0.5)[0].cost_usd == 0, "a cleared session begins at 0 again"
    assert result(meter, usage=STARTED, total_cost_usd=0.625)[0].cost_usd == 0.125


def test_the_first_result_of_a_resumed_session_is_no_baseline_for_itself() -> None:
    meter = metered(cost_usd=None)
    assert result(meter, usage=STARTED, total_cost_usd=40.0)[0].cost_usd == 0
    assert result(meter, usage=STARTED, total_cost_usd=40.5)[0].cost_usd == 0.5


def test_an_interrupted_turn_of_such_a_cli_is_counted_by_its_lines() -> None:
    meter = metered()
    start(meter, "m-1")
    zeros = dict.fromkeys(STARTED, 0)
    assert result(meter, usage=zeros, total_cost_usd=0.5) == (ModelUsage(OPUS, 420, 1, 12195, 840, 0.5),)


def test_wrong_sums_move_no_baseline() -> None:
    meter = metered(cost_usd=1.0)
    for wrong in (-5, "12", 1e300, None):
        assert result(meter, usage=STARTED, total_cost_usd=wrong)[0].cost_usd == 0
        assert meter.account.cost_usd == 1.0


def test_threads_are_bounded() -> None:
    meter = metered()
    start(meter, "main")
    for number in range(2000):
        block(meter, f"m-{number}", f"t-{number}")
    account = meter.account
    assert len(account.messages) == 500
    assert account.messages[""] == "main"


def test_a_charge_adds_up_and_names_who_answered() -> None:
    execution = charged(sample.execution(), [], "asked")
    assert (execution.usage, execution.model) == ((), "asked")
    one = charged(execution, [ModelUsage("a", 5, 1, cost_usd=0.5)], "asked")
    two = charged(one, [ModelUsage("a", 1), ModelUsage("b", 1, 2)], None)
    assert two.usage == (ModelUsage("a", 6, 1, cost_usd=0.5), ModelUsage("b", 1, 2))
    assert (one.model, two.model) == ("a", "b")


def test_an_execution_is_counted_once_among_its_models() -> None:
    ended = sample.execution(model="b")
    rows = spending(sample.project(), [ModelUsage("a", 1), ModelUsage("b", 2, cost_usd=0.5)], sample.BEGAN, ended=ended)
    assert [(row.model, row.input_tokens, row.cost_usd, row.executions) for row in rows] == [
        ("a", 1, 0.0, 0),
        ("b", 2, 0.5, 1),
    ]
    assert {(row.day, row.project_id, row.project_name) for row in rows} == {(local_day(sample.BEGAN), "p-1", "p")}
    (idle,) = spending(sample.project(), (), sample.BEGAN, ended=sample.execution())
    assert (idle.model, idle.executions, idle.cost_usd) == ("", 1, 0.0)
    assert spending(sample.project(), (), sample.BEGAN, ended=None) == ()


def test_a_request_to_the_api_lasts_until_the_end_of_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000]
    monkeypatch.setattr(accounting, "tick", lambda: clock[0])

    def see(meter: Meter, **fields: Any) -> None:
        message = peek(json.dumps(fields).encode())
        meter.see(message, message.kind)

    stop = {"type": "stream_event", "event": {"type": "message_stop"}}
    first = Meter(Account())
    see(first, type="system", subtype="status", status="requesting")
    clock[0] += 2_500
    see(first, **stop, parent_tool_use_id="of a subagent")
    second = Meter(first.account)
    see(second, **stop)
    see(second, **stop)
    assert (first.requests, second.requests) == ([], [2.5])
    third = Meter(second.account)
    see(third, type="system", subtype="status", status="requesting")
    third.settle(peek(b'{"type":"result"}'))
    see(third, **stop)
    assert third.requests == [], "a turn that ended without an answer"
