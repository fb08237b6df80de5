"""The readings of the last hour, and what they tell of a stretch of time: increase, rate, percentile."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from pocket_agent.observability.reading import CELLS, Cell, Reading

HOUR: Final = 3600.0


class Window:
    """The latest readings; how far back they go is what `increase` can look at.

    Args:
        step: seconds between two readings.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._rows: deque[Reading] = deque(maxlen=round(HOUR / step) + 1)

    def add(self, row: Reading) -> None:
        """Take in the newest reading."""
        self._rows.append(row)

    def now(self, place: Cell) -> float:
        """A number of the newest reading."""
        return self._rows[-1][CELLS[place]]

    def increase(self, place: Cell, seconds: float) -> float:
        """By how much a counter grew within the last `seconds`, or since the first reading if that is later."""
        index = CELLS[place]
        return self._rows[-1][index] - self._before(seconds)[index]

    def rate(self, place: Cell, seconds: float) -> float:
        """The same for each second; NaN at the first reading."""
        index, before = CELLS[place], self._before(seconds)
        elapsed = self._rows[-1][0] - before[0]
        return (self._rows[-1][index] - before[index]) / elapsed if elapsed > 0 else math.nan

    def quantile(self, q: float, bounds: Sequence[float], places: Sequence[Cell], seconds: float) -> float:
        """An estimate of a quantile out of a histogram's buckets, as Prometheus makes it; NaN without values.

        Args:
            q: from 0 to 1.
            bounds: the upper bounds of the buckets, ascending.
            places: the cumulative counts of the buckets, and last that of all.
            seconds: how far back.
        """
        counts = [self.increase(place, seconds) for place in places]
        if not counts[-1] > 0:
            return math.nan
        rank = q * counts[-1]
        index = next(index for index, count in enumerate(counts) if count >= rank)
        if index == len(bounds):  # above the last bound nothing more is known
            return bounds[-1]
        lower, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
        return lower + (bounds[index] - lower) * (rank - below) / (counts[index] - below)

    def _before(self, seconds: float) -> Reading:
        return self._rows[max(0, len(self._rows) - 1 - round(seconds / self._step))]
