"""Counts values in buckets as plain numbers, so that measuring needs no metrics library."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Distribution:
    """The number of values at or below each bound; one thread observes, any thread may read.

    Attributes:
        bounds: the upper bounds of the buckets, ascending; a value above the last is counted too.
        total: the sum of all values, in the unit of the values.
    """

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float] = ()) -> None:
        self.bounds = tuple(bounds)
        self.total = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> list[int]:
        """The number of values at or below each bound, and last the number of all values."""
        return list(accumulate(self._counts))
