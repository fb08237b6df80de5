"""How late the event loop is: whoever blocks it keeps every client waiting."""

import asyncio
import time
from collections import deque
from typing import Final

from pocket_agent.distribution import Distribution

_PERIOD_SECONDS: Final = 0.25
"""Time between two measurements."""
WINDOW_SECONDS: Final = 60.0
"""How far back `LoopMonitor.worst` can look."""


class LoopMonitor:
    """Sleeps, and sees how much later than asked for it is woken.

    A loop that is blocked cannot tell so meanwhile; it shows in the first measurement afterwards.

    Args:
        lags: where the seconds of each measurement are counted.

    Attributes:
        lags: the same.
    """

    def __init__(self, lags: Distribution | None = None) -> None:
        self.lags = Distribution() if lags is None else lags
        # (when, lag), each lag smaller than the one before: what a larger one came after cannot be the worst.
        self._peaks: deque[tuple[float, float]] = deque()
        self._due: float | None = None

    async def run(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                self._due = time.monotonic() + _PERIOD_SECONDS
                await asyncio.sleep(_PERIOD_SECONDS)
                lag = self._overdue()
                self.lags.observe(lag)
                self._note(lag)
        finally:
            self._due = None

    def worst(self, seconds: float) -> float:
        """The largest lag of the last `seconds` (at most `WINDOW_SECONDS`), in seconds; 0 if there was none."""
        since = time.monotonic() - seconds
        seen = next((lag for at, lag in self._peaks if at >= since), 0.0)
        # Who asks right after a block may come before the measurement of it.
        return max(seen, self._overdue())

    def _overdue(self) -> float:
        return max(0.0, time.monotonic() - self._due) if self._due is not None else 0.0

    def _note(self, lag: float) -> None:
        now = time.monotonic()
        while self._peaks and self._peaks[-1][1] <= lag:
            self._peaks.pop()
        self._peaks.append((now, lag))
        while self._peaks[0][0] < now - WINDOW_SECONDS:
            self._peaks.popleft()
