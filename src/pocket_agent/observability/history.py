"""The last hours of the server's figures, kept in memory of a fixed size for the dashboard."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from pocket_agent.model import Milliseconds
from pocket_agent.observability.reading import Reading
from pocket_agent.observability.ring import Ring
from pocket_agent.observability.series import ERRORS_PREFIX, SERIES
from pocket_agent.observability.window import Window
from pocket_agent.protocol.frame import timestamp
from pocket_agent.protocol.push import ServerHistoryData

STEP_SECONDS: Final = 10
"""Time between two readings, and between the points of the last hour."""
_COARSE_SECONDS: Final = 60
_HOUR: Final = 3600
DAY: Final = 24 * _HOUR
_MOST_POINTS: Final = 360
"""Points of a reply; a chart on a phone has about as many pixels."""
_DIGITS: Final = 6
"""Significant digits of a value, so that a reply is short."""


class Source(Protocol):
    """Where readings come from."""

    async def read(self) -> Reading:
        """The numbers of this moment; see `reading.CELLS`."""


class History:
    """Takes readings at equal steps: the last hour at each of them, the last day at each minute.

    Args:
        source: where readings come from.
        clock: the present time, in seconds since the Unix epoch.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._window = Window(STEP_SECONDS)
        self._fine = Ring(STEP_SECONDS, _HOUR // STEP_SECONDS, len(SERIES))
        self._coarse = Ring(_COARSE_SECONDS, DAY // _COARSE_SECONDS, len(SERIES))
        self._began = timestamp(Milliseconds(round(clock() * 1000)))
        self._last = 0

    @property
    def size_bytes(self) -> int:
        """The memory that all points take, however many there are."""
        return self._fine.size_bytes + self._coarse.size_bytes

    async def run(self) -> None:
        """Take readings until cancelled."""
        begin, taken = time.monotonic(), 0
        while True:
            await self.take()
            # What was missed, as by a machine that slept, is not made up for.
            taken = max(taken + 1, int((time.monotonic() - begin) / STEP_SECONDS))
            await asyncio.sleep(max(0.0, begin + taken * STEP_SECONDS - time.monotonic()))

    async def take(self) -> None:
        """Take one reading."""
        row = await self._source.read()
        # A chart needs times that grow; a clock that was set back stands still until it has caught up.
        self._last = max(round(self._clock() * 1000), self._last + 1)
        self._window.add(row)
        values = [_rounded(series.figure(self._window)) for series in SERIES]
        if self._fine.count % (_COARSE_SECONDS // STEP_SECONDS) == 0:
            self._coarse.add(self._last, values)
        self._fine.add(self._last, values)

    def follow(self, seconds: int) -> "Follower":
        """Somebody who gets the points of the last `seconds`, then each that comes."""
        ring = self._fine if seconds <= _HOUR else self._coarse
        points = seconds // ring.step
        stride = -(-points // _MOST_POINTS)
        return Follower(self._began, ring, ring.count - points, stride)


class Follower:
    """How far somebody has got in a ring.

    Args:
        began: names the run of the server.
        ring: the points.
        next_number: the first point that is wanted.
        stride: of how many points one is wanted.
    """

    def __init__(self, began: str, ring: Ring, next_number: int, stride: int) -> None:
        self._began = began
        self._ring = ring
        self._next = next_number
        self._stride = stride

    def more(self) -> ServerHistoryData | None:
        """The points that are new; None when there are none."""
        return self.read() if self._ring.numbers(self._next, self._stride) else None

    def read(self) -> ServerHistoryData:
        """The points that are new."""
        ring, numbers = self._ring, self._ring.numbers(self._next, self._stride)
        self._next = ring.count
        series: dict[str, list[float | None]] = {}
        for index, described in enumerate(SERIES):
            values = ring.values(index, numbers)
            if not described.name.startswith(ERRORS_PREFIX) or any(value > 0 for value in values):
                series[described.name] = [*values]
        return ServerHistoryData(
            began=self._began, step=ring.step * self._stride, times=ring.times(numbers), series=series
        )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
