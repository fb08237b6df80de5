"""What readings tell of a stretch of time."""

import math
from array import array

import pytest

from pocket_agent.observability import catalogue
from pocket_agent.observability.dashboard import CELLS, Cell, Reading, Window, bucket_cells, cell

SUCCESS = cell(catalogue.EXECUTIONS_TOTAL, "success")
BUCKETS = bucket_cells(catalogue.REQUEST_DURATION)
BOUNDS = catalogue.REQUEST_DURATION.buckets


def reading(at: float, found: dict[Cell, float]) -> Reading:
    """A reading at a time, 0 where nothing is given."""
    row = array("d", [at, *[0.0] * len(CELLS)])
    for place, value in found.items():
        row[CELLS[place]] = value
    return row


def window_of(*values: float, step: float = 10.0, late: float = 0.0) -> Window:
    """A window with these values of a counter, the last reading so much late."""
    window = Window(step)
    for number, value in enumerate(values):
        at = number * step + (late if number == len(values) - 1 else 0.0)
        window.add(reading(at, {SUCCESS: value}))
    return window


def test_an_increase_looks_back_as_far_as_asked() -> None:
    window = window_of(1, 2, 4, 8)
    assert [window.increase(SUCCESS, seconds) for seconds in (10, 20, 30)] == [4, 6, 7]
    assert window.now(SUCCESS) == 8


def test_what_is_younger_than_that_counts_from_its_first_reading() -> None:
    assert window_of(1, 3).increase(SUCCESS, 3600) == 2
    assert window_of(1, 3).rate(SUCCESS, 3600) == 0.2


def test_a_rate_is_of_the_time_that_really_passed() -> None:
    assert window_of(0, 10, late=10).rate(SUCCESS, 10) == 0.5


def test_the_first_reading_has_no_rate() -> None:
    assert math.isnan(window_of(5).rate(SUCCESS, 60))
    assert window_of(5).increase(SUCCESS, 60) == 0


def test_only_an_hour_is_kept() -> None:
    window = window_of(*range(1000))
    assert window.increase(SUCCESS, 1e9) == 360


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((0, 0, 0, 0, 0, 0, 0), math.nan),
        ((10, 10, 10, 10, 10, 10, 10), 0.000475),
        ((0, 10, 10, 10, 10, 10, 10), 0.0005 + 0.0045 * 0.95),
        ((0, 0, 0, 0, 0, 0, 10), 2.5),
        ((90, 90, 90, 100, 100, 100, 100), 0.025 + 0.075 * 0.5),
    ],
)
def test_a_percentile_is_estimated_as_prometheus_does(counts: tuple[int, ...], expected: float) -> None:
    window = Window(10)
    window.add(reading(0, {}))
    window.add(reading(10, dict(zip(BUCKETS, map(float, counts), strict=True))))
    assert window.quantile(0.95, BOUNDS, BUCKETS, 60) == pytest.approx(expected, nan_ok=True)
