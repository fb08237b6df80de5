"""Counts values by size as plain numbers, so that whoever measures needs no metrics library."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Distribution:
    """How many values fell at or below each bound; one thread observes, any thread may read.

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
        """Count a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def cumulative(self) -> list[int]:
        """For each bound how many values were at or below it, and last how many there were in all."""
        return list(accumulate(self._counts))
