"""Token buckets: so much at once, then so much a second."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MAX_BUCKETS: Final = 10_000


class Bucket:
    """One budget. Whoever takes from an empty one gets into debt, which is a measure of how much he ignores.

    Args:
        rate: how much comes in each second.
        burst: how much it holds.
        clock: seconds that only grow.

    Attributes:
        exhausted: whether the last that was taken has brought the debt to where it gets no larger.
    """

    __slots__ = ("_at", "_burst", "_clock", "_level", "_rate", "exhausted")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()
        self.exhausted = False

    def take(self, amount: float = 1.0) -> bool:
        """Take an amount, however large, if there is anything; whether there was. The debt is bounded by a burst."""
        self._refill()
        had = self._level > 0
        left = self._level - amount
        self.exhausted = left <= -self._burst
        self._level = max(left, -self._burst)
        return had

    def wait(self) -> float:
        """Seconds until there is something again."""
        self._refill()
        return max(0.0, -self._level / self._rate)

    def resize(self, rate: float, burst: float) -> None:
        """Go on with another rate and burst; what is there stays, as far as it fits."""
        self._refill()
        self._rate, self._burst = rate, burst
        self._level = max(-burst, min(burst, self._level))

    def _refill(self) -> None:
        at = self._clock()
        self._level = min(self._burst, self._level + (at - self._at) * self._rate)
        self._at = at


class Buckets:
    """A bucket for each source; those that have been idle longest are forgotten when there are too many.

    Args:
        rate: of each.
        burst: of each.
        clock: seconds that only grow.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, source: str) -> Bucket:
        """The bucket of a source."""
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = Bucket(self._rate, self._burst, self._clock)
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(source)
        return bucket

    def resize(self, rate: float, burst: float) -> None:
        """Go on with another rate and burst, in the buckets that there are, too."""
        self._rate, self._burst = rate, burst
        for bucket in self._buckets.values():
            bucket.resize(rate, burst)

    def __len__(self) -> int:
        return len(self._buckets)
