"""pocket_agent.load.schedule: what is due, and when, is decided before anything is sent."""

from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.load.plan import Kind
from pocket_agent.load.schedule import offsets, rotation


def test_a_steady_rate() -> None:
    assert list(offsets(4, 0, 1)) == [0, 0.25, 0.5, 0.75]


@given(
    rate=st.floats(min_value=0.5, max_value=500),
    duration=st.floats(min_value=0.1, max_value=10),
    share=st.floats(min_value=0, max_value=1),
)
def test_as_many_as_the_rate_and_the_ramp_say(rate: float, duration: float, share: float) -> None:
    ramp = share * duration
    due = list(offsets(rate, ramp, duration))
    assert len(due) == pytest.approx(rate * (duration - ramp / 2), abs=1.01)
    assert all(first < second for first, second in pairwise(due))
    assert all(0 <= offset < duration for offset in due)


def test_the_rate_rises_evenly_during_the_ramp() -> None:
    due = list(offsets(100, 10, 10))
    quarters = Counter(int(offset // 2.5) for offset in due)
    # The area under a straight line: 1, 3, 5 and 7 sixteenths.
    assert [quarters[number] for number in range(4)] == pytest.approx([500 * part / 16 for part in (1, 3, 5, 7)], abs=1)


@given(st.dictionaries(st.sampled_from(Kind), st.integers(min_value=1, max_value=20), min_size=1))
def test_each_kind_comes_as_often_as_its_weight_says(mix: dict[Kind, int]) -> None:
    total = sum(mix.values())
    kinds = list(islice(rotation(mix), 3 * total))
    assert Counter(kinds[:total]) == mix
    assert kinds == kinds[:total] * 3


def test_kinds_are_spread() -> None:
    turns = list(islice(rotation({Kind.LIST: 4, Kind.JOIN: 2}), 6))
    assert turns == [Kind.LIST, Kind.JOIN, Kind.LIST] * 2
