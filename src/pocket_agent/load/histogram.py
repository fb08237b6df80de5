"""A distribution of times in bounded memory, which can be merged with others."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final, Self

RELATIVE_ERROR: Final = 0.01
"""How far a quantile may be from the recorded value that it stands for."""

_GROWTH: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH: Final = math.log(_GROWTH)
_SMALLEST_SECONDS: Final = 1e-6
_LARGEST_SECONDS: Final = 1e5


class Histogram:
    """Times in seconds, counted in buckets whose width grows with the time.

    The buckets are those of DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019): bucket i holds what is
    above g^(i-1) and at most g^i, and a value of it is told as the point from which both ends are
    RELATIVE_ERROR away. Times under a microsecond and over a day share a bucket, so there are about 1,300.

    Attributes:
        count: how many were recorded.
        max: the longest, exactly.
        buckets: how many there are in each bucket that has any.
    """

    def __init__(self) -> None:
        self.count = 0
        self.max = 0.0
        self.buckets: Counter[int] = Counter()

    def record(self, seconds: float) -> None:
        """Count one time; a negative one counts as 0."""
        self.count += 1
        self.max = max(self.max, seconds)
        bounded = min(max(seconds, _SMALLEST_SECONDS), _LARGEST_SECONDS)
        self.buckets[math.ceil(math.log(bounded) / _LOG_GROWTH)] += 1

    @classmethod
    def merged(cls, parts: Iterable["Histogram"]) -> Self:
        """What one histogram would be that had been given everything that `parts` were given."""
        whole = cls()
        for part in parts:
            whole.count += part.count
            whole.max = max(whole.max, part.max)
            whole.buckets.update(part.buckets)
        return whole

    def quantile(self, share: float) -> float:
        """The time in seconds that a `share` of all (0 to 1) did not exceed, by nearest rank; 0 when there is none."""
        rank = max(1, math.ceil(share * self.count))
        seen = 0
        for bucket, count in sorted(self.buckets.items()):
            seen += count
            if seen >= rank:
                return min(self.max, 2 * _GROWTH**bucket / (_GROWTH + 1))
        return 0.0
