"""pocket_agent.load.lag: an event loop that is held up is noticed."""

import asyncio
import time

from pocket_agent.load.lag import LagMeter
from tests.harness.follow import eventually


async def test_a_blocked_loop_shows() -> None:
    meter = LagMeter()
    task = asyncio.create_task(meter.run())
    await asyncio.sleep(0)
    # The meter waits now; it cannot be woken before this is over.
    time.sleep(0.5)  # noqa: ASYNC251 - the fault that is to be noticed
    await eventually(lambda: meter.lag.count > 0, "the meter is woken")
    task.cancel()
    await asyncio.wait({task})
    assert meter.lag.max > 0.4
