"""Points of many series at equal steps, the newest so many of them, in memory of a fixed size."""

from array import array
from collections.abc import Sequence


class Ring:
    """Columns of the same length, all allocated at the start.

    Args:
        step: seconds between two points.
        capacity: how many points are kept.
        width: how many series.

    Attributes:
        step: the same.
        capacity: the same.
        count: how many points were ever added, which numbers them: the next one has this number.
    """

    def __init__(self, step: int, capacity: int, width: int) -> None:
        self.step = step
        self.capacity = capacity
        self.count = 0
        self._times = array("q", bytes(8 * capacity))
        self._columns = [array("d", bytes(8 * capacity)) for _ in range(width)]

    @property
    def size_bytes(self) -> int:
        """The memory that the points take, however many there are."""
        return self._times.itemsize * self.capacity * (1 + len(self._columns))

    def add(self, at: int, values: Sequence[float]) -> None:
        """Add a point; beyond the capacity it replaces the oldest.

        Args:
            at: when, in milliseconds since the Unix epoch.
            values: one for each series.
        """
        place = self.count % self.capacity
        self._times[place] = at
        for column, value in zip(self._columns, values, strict=True):
            column[place] = value
        self.count += 1

    def numbers(self, first: int, stride: int = 1) -> range:
        """The numbers of the points from `first` on that are still there, as multiples of `stride`."""
        oldest = max(first, self.count - self.capacity, 0)
        return range(-(-oldest // stride) * stride, self.count, stride)

    def times(self, numbers: range) -> list[int]:
        """When these points were."""
        return [at for part in self._parts(numbers) for at in self._times[part]]

    def values(self, series: int, numbers: range) -> list[float]:
        """A series at these points."""
        column = self._columns[series]
        return [value for part in self._parts(numbers) for value in column[part]]

    def _parts(self, numbers: range) -> list[slice]:
        """Where points stand: up to the end of the columns, and on from their beginning."""
        before_end = -(-(self.capacity - numbers.start % self.capacity) // numbers.step)
        return [
            slice(part.start % self.capacity, part[-1] % self.capacity + 1, part.step)
            for part in (numbers[:before_end], numbers[before_end:])
            if part
        ]
