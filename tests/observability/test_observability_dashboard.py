"""The time series of /dashboard: rates and percentiles of samples, kept at equal steps in fixed memory."""

import asyncio
import math
import tracemalloc
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pocket_agent.observability import catalogue, dashboard
from pocket_agent.observability.dashboard import (
    CELLS,
    CHART_SERIES,
    DAY,
    Cell,
    DashboardHistory,
    MetricSampler,
    Reading,
    Window,
    bucket_cells,
    cell,
)
from pocket_agent.observability.metrics import core_families
from tests.server.room import Room, open_room, until

SUCCESS = cell(catalogue.EXECUTIONS_TOTAL, "success")
BUCKETS = bucket_cells(catalogue.REQUEST_DURATION)
BOUNDS = catalogue.REQUEST_DURATION.buckets


def reading(at: float, found: dict[Cell, float]) -> Reading:
    """A reading at a time, 0 where nothing is given."""
    row = array("d", [at, *[0.0] * len(CELLS)])
    for place, value in found.items():
        row[CELLS[place]] = value
    return row


def window_of(*values: float, step: float = 10.0, late: float = 0.0) -> Window:
    """A window with these values of a counter, the last reading so much late."""
    window = Window(step)
    for number, value in enumerate(values):
        at = number * step + (late if number == len(values) - 1 else 0.0)
        window.add(reading(at, {SUCCESS: value}))
    return window


def test_an_increase_looks_back_as_far_as_asked() -> None:
    window = window_of(1, 2, 4, 8)
    assert [window.increase(SUCCESS, seconds) for seconds in (10, 20, 30)] == [4, 6, 7]
    assert window.now(SUCCESS) == 8


def test_what_is_younger_than_that_counts_from_its_first_reading() -> None:
    assert window_of(1, 3).increase(SUCCESS, 3600) == 2
    assert window_of(1, 3).rate(SUCCESS, 3600) == 0.2


def test_a_rate_is_of_the_time_that_really_passed() -> None:
    assert window_of(0, 10, late=10).rate(SUCCESS, 10) == 0.5


def test_the_first_reading_has_no_rate() -> None:
    assert math.isnan(window_of(5).rate(SUCCESS, 60))
    assert window_of(5).increase(SUCCESS, 60) == 0


def test_only_an_hour_is_kept() -> None:
    window = window_of(*range(1000))
    assert window.increase(SUCCESS, 1e9) == 360


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((0, 0, 0, 0, 0, 0, 0), math.nan),
        ((10, 10, 10, 10, 10, 10, 10), 0.000475),
        ((0, 10, 10, 10, 10, 10, 10), 0.0005 + 0.0045 * 0.95),
        ((0, 0, 0, 0, 0, 0, 10), 2.5),
        ((90, 90, 90, 100, 100, 100, 100), 0.025 + 0.075 * 0.5),
    ],
)
def test_a_percentile_is_estimated_as_prometheus_does(counts: tuple[int, ...], expected: float) -> None:
    window = Window(10)
    window.add(reading(0, {}))
    window.add(reading(10, dict(zip(BUCKETS, map(float, counts), strict=True))))
    assert window.quantile(0.95, BOUNDS, BUCKETS, 60) == pytest.approx(expected, nan_ok=True)


class Counted:
    """Readings whose every number is how many there were before."""

    def __init__(self) -> None:
        self.taken = 0

    async def read(self) -> Reading:
        """The next one."""
        row = array("d", [self.taken * 10.0, *[float(self.taken)] * len(CELLS)])
        self.taken += 1
        return row


class Clock:
    """A time that is what it is set to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Kept(NamedTuple):
    """A history, and what moves it."""

    history: DashboardHistory
    clock: Clock

    async def take(self, count: int) -> None:
        """Let so many readings be taken, one every ten seconds."""
        for _ in range(count):
            self.clock.now += 10
            await self.history.take()


@pytest.fixture
def kept() -> Kept:
    """A history of made-up readings."""
    clock = Clock()
    return Kept(DashboardHistory(Counted().read, clock), clock)


async def test_the_last_hour_has_a_point_every_ten_seconds(kept: Kept) -> None:
    await kept.take(400)
    found = kept.history.follow(3600).read()
    assert (found.step, len(found.times)) == (10, 360)
    assert found.times[-1] == kept.clock.now * 1000
    assert {after - before for before, after in zip(found.times, found.times[1:], strict=False)} == {10_000}
    assert found.series["connections"] == [float(number) for number in range(40, 400)]
    quarter = kept.history.follow(900).read()
    assert (quarter.times, quarter.step) == (found.times[-90:], 10)


async def test_six_hours_have_one_each_minute_and_a_day_one_every_four(kept: Kept) -> None:
    await kept.take(2400)
    found = kept.history.follow(6 * 3600).read()
    assert (found.step, len(found.times)) == (60, 360)
    day = kept.history.follow(DAY).read()
    assert (day.step, len(day.times)) == (240, 100)
    assert set(day.times) < {*found.times, *range(day.times[0], found.times[0])}
    assert day.series["connections"][:3] == [0.0, 24.0, 48.0]


async def test_who_follows_gets_each_point_once(kept: Kept) -> None:
    await kept.take(5)
    follower = kept.history.follow(900)
    seen = follower.read().times
    assert follower.more() is None
    await kept.take(2)
    more = follower.more()
    assert more is not None
    assert follower.more() is None
    assert [*seen, *more.times] == kept.history.follow(900).read().times


async def test_who_was_away_longer_than_the_ring_reaches_gets_what_is_there(kept: Kept) -> None:
    follower = kept.history.follow(900)
    await kept.take(500)
    assert len(follower.read().times) == 360


async def test_times_grow_even_when_the_clock_is_set_back(kept: Kept) -> None:
    await kept.take(3)
    kept.clock.now -= 3600
    await kept.take(3)
    times = kept.history.follow(3600).read().times
    assert times == sorted(set(times))


async def test_the_memory_is_the_same_after_two_days(kept: Kept) -> None:
    await kept.take(400)  # the readings of an hour are all there
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await kept.take(1000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # What is traced from here on replaces samples and points of an hour, and adds a point for each minute.
    assert grown < 8 * (361 * len(CELLS) + (360 + 170) * len(CHART_SERIES)) * 1.5 + 50_000


async def test_readings_are_taken_at_equal_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    kept = DashboardHistory(counted.read)
    monkeypatch.setattr(dashboard, "STEP_SECONDS", 0.01)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(kept.run())
        await until(lambda: counted.taken >= 3)
        running.cancel()


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A server."""
    async with open_room(tmp_path) as opened:
        yield opened


async def scraped(room: Room) -> dict[str, float]:
    """What a scrape says, summed by sample and by the label that matters."""
    found: dict[str, float] = {}
    for family in [*room.metrics.registry.collect(), *core_families(await room.core.collect())]:
        for sample in family.samples:
            for key in {"", *sample.labels.values()}:
                name = f"{sample.name} {key}".strip()
                found[name] = found.get(name, 0.0) + sample.value
    return found


async def test_the_figures_are_those_of_a_scrape(room: Room) -> None:
    session = await room.project()
    await room.history.take()
    async with room.wire() as wire:
        for prompt in ("lines 3", "lines 3", "fail"):
            await wire.ask("execute", {"prompt": prompt}, project_id=session.state.record.id)
            await until(lambda: session.state.current is None and not session.state.queue)
        await wire.ask("project_create", {"path": "/no/such/place"})
        before = await scraped(room)
        await room.history.take()
        found = {name: values[-1] for name, values in room.history.follow(900).read().series.items()}
        assert found["connections"] == before["pocket_agent_connections_active"] == 1
        assert found["projects"] == before["pocket_agent_projects_total"] == 1
        assert found["queue"] == before["pocket_agent_execution_queue_depth"]
        assert found["approvals"] == before["pocket_agent_approvals_pending"]
        ended = sum(before[f"pocket_agent_executions_total {status}"] for status in ("success", "error"))
        assert found["executions_hourly"] == ended == 3
        assert found["success_ratio"] == pytest.approx(
            before["pocket_agent_executions_total success"] / ended, rel=1e-5
        )
        assert found["execution_mean"] == pytest.approx(
            before["pocket_agent_execution_duration_seconds_sum"] / ended, rel=1e-5
        )
        assert found["cost"] == pytest.approx(before["pocket_agent_claude_cost_usd_total"], rel=1e-5)
        for kind in catalogue.CLAUDE_TOKENS.labels["type"]:
            assert found[f"tokens.{kind}"] == before[f"pocket_agent_claude_tokens_total {kind}"]
        for code in ("INVALID_PATH", "EXECUTION_FAILED"):
            assert (found[f"errors.{code}"] or 0) > 0
            assert before[f"pocket_agent_errors_total {code}"] == 1
        assert found["disk_free"] == pytest.approx(before["pocket_agent_storage_free_bytes"], rel=0.2)
        assert found["memory.server"] == pytest.approx(before["pocket_agent_limit_usage memory_bytes"], rel=0.2)


async def test_every_number_is_read_from_somewhere(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        await wire.ask("execute", {"prompt": "lines 3"}, project_id=session.state.record.id)
        await until(lambda: session.state.current is None)
        row = await MetricSampler(room.metrics.registry, room.core, room.loop).read()
    assert len(row) == 1 + len(CELLS)
    for place in (
        cell(catalogue.EXECUTIONS_TOTAL, "success"),
        cell(catalogue.REQUESTS_TOTAL, "ok"),
        cell(catalogue.EXECUTION_DURATION, "+Inf", part="bucket"),
        cell(catalogue.EXECUTION_DURATION, "600.0", part="bucket"),
        cell(catalogue.EXECUTION_DURATION, part="count"),
    ):
        assert row[CELLS[place]] == 1, place
    for name in ("cpu_seconds", "cpu_total_seconds", "memory_bytes"):
        assert row[CELLS["machine", name]] > 0
    assert not [place for place, index in CELLS.items() if math.isnan(row[index]) and place[0] != "machine"]


def test_the_documentation_has_every_series_with_its_unit() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "dashboard.md").read_text("utf-8")
    for series in CHART_SERIES:
        if not series.name.startswith("errors."):
            assert f"| `{series.name}` | {series.unit} | {series.about} |" in text
