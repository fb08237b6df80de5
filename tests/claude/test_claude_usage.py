"""What results tell of tokens and dollars, however wrong their figures are."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.claude.stream import (
    MAX_MODELS,
    MAX_TOKENS,
    TokenUsage,
    added,
    main_model,
    peek,
    replaced,
    tokens_of,
    turn_usage,
)
from pocket_agent.model import ModelUsage

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"


def told(figures: object) -> tuple[ModelUsage, ...] | None:
    """What a result with these figures tells."""
    return turn_usage(peek(json.dumps({"type": "result", "model_usage_since_last_result": figures}).encode()))


def figures(**changes: Any) -> dict[str, Any]:
    """The CLI's figures of one model."""
    return {
        "inputTokens": 1,
        "outputTokens": 2,
        "cacheReadInputTokens": 3,
        "cacheCreationInputTokens": 4,
        "webSearchRequests": 0,
        "costUSD": 0.5,
        "costBasis": "list",
        **changes,
    }


def test_each_model_is_told_by_its_full_name() -> None:
    assert told({OPUS: figures(), f"{HAIKU}[1m]": figures(inputTokens=9, costUSD=0.25)}) == (
        ModelUsage(OPUS, 1, 2, 3, 4, 0.5),
        ModelUsage(f"{HAIKU}[1m]", 9, 2, 3, 4, 0.25),
    )


def test_nothing_used_is_not_nothing_told() -> None:
    assert told({}) == ()
    assert told(None) is None
    assert turn_usage(peek(b'{"type":"result"}')) is None
    assert told([1]) is None
    assert told("many") is None


@pytest.mark.parametrize("wrong", [-1, 1e300, "7", None, True, [1], {}, MAX_TOKENS + 1, 10**30])
def test_a_wrong_figure_counts_as_none_and_hides_no_other(wrong: object) -> None:
    assert told({OPUS: figures(inputTokens=wrong)}) == (ModelUsage(OPUS, 0, 2, 3, 4, 0.5),)
    assert told({OPUS: figures(costUSD=wrong), HAIKU: figures()}) == (
        ModelUsage(OPUS, 1, 2, 3, 4, 1.0 if wrong == 1 and wrong is not True else 0.0),
        ModelUsage(HAIKU, 1, 2, 3, 4, 0.5),
    )


def test_figures_that_are_no_object_are_nothing() -> None:
    assert told({OPUS: 7, HAIKU: figures()}) == (ModelUsage(HAIKU, 1, 2, 3, 4, 0.5),)


def test_names_and_their_number_are_bounded() -> None:
    found = told({f"{number}-{'x' * 1000}": figures() for number in range(500)})
    assert found is not None
    assert len(found) == MAX_MODELS
    assert {len(used.model) for used in found} == {200}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=8), st.fixed_dictionaries({"inputTokens": _JSON, "costUSD": _JSON}) | _JSON))
def test_no_figures_break_anything_or_go_backwards(figures: object) -> None:
    for used in told(figures) or ():
        assert 0 <= used.input_tokens <= MAX_TOKENS
        assert math.isfinite(used.cost_usd)
        assert used.cost_usd >= 0


def test_a_delta_replaces_what_it_has_and_leaves_the_rest() -> None:
    before = tokens_of(OPUS, TokenUsage(11, 1, 30, 40))
    assert replaced(before, TokenUsage(output_tokens=7)) == ModelUsage(OPUS, 11, 7, 40, 30)
    assert replaced(before, TokenUsage(12, 7, 0, 400)) == ModelUsage(OPUS, 12, 7, 400, 0)


def test_sums_are_by_model_and_leave_out_what_was_not_used() -> None:
    one, two = ModelUsage(OPUS, 1, 1, 1, 1, 0.5), ModelUsage(HAIKU, 2, 2, 2, 2, 0.25)
    assert added([one], [two, one, ModelUsage("none")]) == (ModelUsage(OPUS, 2, 2, 2, 2, 1.0), two)


def test_the_main_model_is_the_one_that_answered_most() -> None:
    assert main_model([ModelUsage(OPUS, 500, 1), ModelUsage(HAIKU, 1, 2)]) == HAIKU
    assert main_model([]) is None
