"""The waits between attempts stay between their bounds, and spread."""

from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.client import Backoff


@given(st.integers(min_value=0, max_value=10**6))
def test_a_wait_never_exceeds_its_bounds(attempt: int) -> None:
    backoff = Backoff(initial=0.5, maximum=8.0)
    assert 0 <= backoff.delay(attempt) <= min(8.0, 0.5 * 2 ** min(attempt, 10))


def test_waits_spread_over_the_whole_range() -> None:
    waits = [Backoff(initial=1.0, maximum=1.0).delay(0) for _ in range(200)]
    assert min(waits) < 0.5 < max(waits)
