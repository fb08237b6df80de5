"""pocket_agent.load.histogram: quantiles within the promised error, in bounded memory, mergeable."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.load.histogram import RELATIVE_ERROR, Histogram

TIMES = st.lists(st.floats(min_value=1e-6, max_value=1e4), min_size=1, max_size=200)


def filled(times: list[float]) -> Histogram:
    histogram = Histogram()
    for seconds in times:
        histogram.record(seconds)
    return histogram


@given(TIMES, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_as_near_as_promised(times: list[float], share: float) -> None:
    exact = sorted(times)[max(1, math.ceil(share * len(times))) - 1]
    assert filled(times).quantile(share) == pytest.approx(exact, rel=RELATIVE_ERROR * 1.0001)


@given(TIMES, TIMES)
def test_merged_is_as_if_one_had_been_given_everything(first: list[float], second: list[float]) -> None:
    merged, whole = Histogram.merged([filled(first), filled(second)]), filled(first + second)
    assert (merged.count, merged.max, merged.buckets) == (whole.count, whole.max, whole.buckets)


@given(TIMES)
def test_no_quantile_is_above_the_longest(times: list[float]) -> None:
    assert filled(times).quantile(1) <= max(times)


def test_nothing_recorded() -> None:
    assert Histogram().quantile(0.5) == 0
    assert Histogram.merged([]).count == 0


def test_memory_is_bounded_whatever_is_recorded() -> None:
    histogram = filled([-1.0, 0.0, 1e-300, 1e300, *(1.01**power for power in range(-5000, 5000))])
    assert histogram.count == 10_004
    assert len(histogram.buckets) < 1300
    assert histogram.max == 1e300
