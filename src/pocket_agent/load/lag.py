"""How late the load generator's own event loop is, so that it never takes its own slowness for the server's."""

import asyncio
import time
from typing import Final

from pocket_agent.load.histogram import Histogram

_INTERVAL_SECONDS: Final = 0.05


class LagMeter:
    """Sleeps again and again, and measures how much longer than asked it took to be woken.

    Attributes:
        lag: the times.
    """

    def __init__(self) -> None:
        self.lag = Histogram()

    async def run(self) -> None:
        """Measure until it is cancelled."""
        while True:
            due = time.monotonic() + _INTERVAL_SECONDS
            await asyncio.sleep(_INTERVAL_SECONDS)
            self.lag.record(time.monotonic() - due)
