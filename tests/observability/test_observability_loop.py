"""How late the loop is: nothing while it turns, the whole of a block after one, and for a minute only."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from pocket_agent.distribution import Distribution
from pocket_agent.observability import health
from pocket_agent.observability.health import LoopMonitor
from tests.harness.follow import eventually


@contextlib.asynccontextmanager
async def measuring(monitor: LoopMonitor) -> AsyncIterator[None]:
    """The monitor at work."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(monitor.run())
        await asyncio.sleep(0)
        yield
        task.cancel()


async def test_it_keeps_counting_in_the_distribution_it_was_given() -> None:
    lags = Distribution((3600.0,))
    async with measuring(LoopMonitor(lags)):
        await eventually(lambda: lags.count >= 3, "three measurements")
    assert lags.cumulative()[0] == lags.count, "in seconds, so none is as long as an hour"


async def test_a_blocked_loop_is_known_at_once_and_counted_after() -> None:
    monitor = LoopMonitor()
    async with measuring(monitor):
        time.sleep(0.8)  # noqa: ASYNC251 - this is the fault
        blocked = 0.8 - 0.25
        assert monitor.worst(60) >= blocked, "before the monitor was woken"
        assert monitor.lags.count == 0
        await eventually(lambda: monitor.lags.count > 0, "a measurement")
        assert monitor.worst(60) >= blocked
        assert monitor.lags.total >= blocked
        await eventually(lambda: monitor.worst(0.5) < blocked, "what is past is past")
        assert monitor.worst(60) >= blocked


async def test_only_the_last_minute_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_LAG_PERIOD_SECONDS", 0.001)
    monkeypatch.setattr(health, "LAG_WINDOW_SECONDS", 0.05)
    monitor = LoopMonitor()
    async with measuring(monitor):
        time.sleep(0.5)  # noqa: ASYNC251 - this is the fault
        await eventually(lambda: monitor.lags.count >= 1 and monitor.worst(3600) < 0.4, "the block is forgotten")
        await eventually(lambda: monitor.lags.count >= 200, "many measurements")
        assert len(monitor._peaks) < 200


def test_one_that_does_not_run_knows_nothing() -> None:
    assert LoopMonitor().worst(60) == 0.0
