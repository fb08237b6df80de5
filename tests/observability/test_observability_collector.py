"""What the core keeps, at the moment of a scrape, to the unit."""

import math
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from pocket_agent import __version__
from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError
from pocket_agent.observability import catalogue, metrics
from pocket_agent.observability.catalogue import Metric
from pocket_agent.observability.metrics import CoreCollector, CoreValues, HistogramValue, core_families
from tests.server.room import Room, open_room, until


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A server with little room, and the stand-in for its agent."""
    async with open_room(tmp_path, limits__max_executions=1, limits__cost_usd_per_day=2.5) as opened:
        yield opened


def core_of(room: Room, lags: Distribution | None = None) -> CoreCollector:
    """A collector of the room's figures."""
    return CoreCollector(
        room.hub,
        room.projects,
        room.store,
        room.losses,
        room.metrics,
        room.settings,
        Distribution() if lags is None else lags,
    )


def value(figures: CoreValues, metric: Metric, *key: str) -> float:
    """One figure."""
    found = figures[metric]
    assert not isinstance(found, HistogramValue)
    return found[key]


async def test_a_server_at_work(room: Room) -> None:
    core = core_of(room)
    one, two = await room.project("one"), await room.project("two")
    async with room.client() as client, room.client() as other:
        first, second = one.state.project.id, two.state.project.id
        async with client.subscribe(first), other.subscribe(first), other.subscribe(second):
            await client.execute(first, "ask Bash")
            await client.execute(first, "hello")
            await client.execute(second, "hello")
            found = await core.collect()
            assert value(found, catalogue.CONNECTIONS_ACTIVE) == 2
            assert value(found, catalogue.PROJECTS_TOTAL) == 2
            assert value(found, catalogue.PROJECTS_ACTIVE, "EXECUTING") == 1
            assert value(found, catalogue.PROJECTS_ACTIVE, "IDLE") == 1
            assert value(found, catalogue.EXECUTIONS_ACTIVE) == 1
            assert value(found, catalogue.EXECUTION_QUEUE_DEPTH) == 2
            assert value(found, catalogue.SUBSCRIPTIONS_ACTIVE) == 3
            assert value(found, catalogue.SEND_QUEUE_BYTES) == sum(
                connection.buffered for connection in room.endpoint.connections()
            )
            assert value(found, catalogue.LIMIT_USAGE, "processes") == 1
            await until(lambda: bool(one.state.approvals))
            assert value(await core.collect(), catalogue.APPROVALS_PENDING) == 1
            await client.kill(first)
    await room.until_connections(0)
    found = await core.collect()
    assert value(found, catalogue.CONNECTIONS_ACTIVE) == 0
    assert value(found, catalogue.SUBSCRIPTIONS_ACTIVE) == 0


async def test_deliveries_by_type(room: Room) -> None:
    core = core_of(room)
    session = await room.project("one")
    async with room.client() as client, client.subscribe(session.state.project.id) as stream:
        await client.execute(session.state.project.id, "lines 5")
        async for frame in stream:
            if frame.type == "project_state" and frame.data["state"] == "IDLE" and frame.data["offset"] > 5:
                break
        found = await core.collect()
        # init, five lines and the result, to one subscriber
        assert value(found, catalogue.MESSAGES_SENT, "agent_message") == 7
        assert value(found, catalogue.MESSAGES_SENT, "prompt") == 1
        assert value(found, catalogue.MESSAGES_SENT, "other") == 0
        assert value(found, catalogue.MESSAGE_BYTES, "received") == room.hub.received_bytes > 0
        assert value(found, catalogue.MESSAGE_BYTES, "sent") == room.hub.sent_bytes > 1000
        room.hub.sent_by_type["no such frame"] += 3
        assert value(await core.collect(), catalogue.MESSAGES_SENT, "other") == 3


async def test_limits_and_their_usage(room: Room) -> None:
    found = await core_of(room).collect()
    limits = found[catalogue.LIMIT]
    assert limits == {
        ("connections",): 100,
        ("projects",): 100,
        ("executions",): 1,
        ("processes",): 10,
        ("memory_bytes",): value(found, catalogue.LIMIT, "memory_bytes"),
        ("cost_usd_per_day",): 2.5,
    }
    usage = found[catalogue.LIMIT_USAGE]
    assert not isinstance(usage, HistogramValue)
    assert set(usage) == {(name,) for name in catalogue.LIMITS}
    assert usage["memory_bytes",] == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    room.projects.budget.spend(room.projects.budget.today, 1.25)
    assert value(await core_of(room).collect(), catalogue.LIMIT_USAGE, "cost_usd_per_day") == 1.25


async def test_what_is_lost_dropped_and_parked(room: Room) -> None:
    room.losses.add("logs", 2)
    room.losses.add("traces", 3)
    room.losses.add("notifications", 6)
    room.hub.parked = 4
    room.metrics.dropped = 5
    found = await core_of(room).collect()
    assert found[catalogue.TELEMETRY_DROPPED] == {
        ("logs",): 2,
        ("traces",): 3,
        ("events",): 0,
        ("notifications",): 6,
    }
    assert found[catalogue.SLOW_CONSUMER] == {("parked",): 4, ("dropped",): 5}


async def test_what_is_running(room: Room) -> None:
    (key,) = (await core_of(room).collect())[catalogue.BUILD_INFO]  # type: ignore[misc]
    assert key[0] == __version__
    assert all(key)


async def test_the_disk(room: Room) -> None:
    before = room.store.size_bytes()
    found = await core_of(room).collect()
    assert 0 < before <= value(found, catalogue.STORAGE_SIZE) <= room.store.size_bytes()
    assert value(found, catalogue.STORAGE_FREE) == pytest.approx(room.store.free_bytes(), rel=0.2)


async def test_a_disk_that_cannot_be_read_is_no_number(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise FileOperationError("gone")

    monkeypatch.setattr(room.store, "free_bytes", refuse)
    assert math.isnan(value(await core_of(room).collect(), catalogue.STORAGE_FREE))


async def test_a_disk_that_hangs_keeps_no_scrape_and_takes_one_thread(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def hang() -> int:
        go_on.wait()
        return 1

    monkeypatch.setattr(room.store, "free_bytes", hang)
    monkeypatch.setattr(metrics, "_DISK_SECONDS", 0.01)
    core = core_of(room)
    try:
        for _ in range(5):
            found = await core.collect()
            assert math.isnan(value(found, catalogue.STORAGE_FREE))
            assert value(found, catalogue.PROJECTS_TOTAL) == 0
        assert [thread.name for thread in threading.enumerate()].count("metrics-disk") == 1
    finally:
        go_on.set()


async def test_distributions_are_histograms(room: Room) -> None:
    lags = Distribution((0.5, 1))
    for seconds in (0.5, 0.75, 0.75, 3):
        lags.observe(seconds)
    found = await core_of(room, lags).collect()
    assert found[catalogue.EVENT_LOOP_LAG] == HistogramValue((0.5, 1), (1, 3, 4), 5.0)
    (family,) = [family for family in core_families(found) if family.name == catalogue.EVENT_LOOP_LAG.name]
    samples = {
        sample.name.removeprefix(family.name) + sample.labels.get("le", ""): sample.value for sample in family.samples
    }
    assert samples == {"_bucket0.5": 1, "_bucket1.0": 3, "_bucket+Inf": 4, "_count": 4, "_sum": 5}


async def test_families_are_those_of_the_catalogue_in_its_order(room: Room) -> None:
    found = await core_of(room).collect()
    names = [family.name for family in core_families(found)]
    order = [metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name for metric in found]
    assert sorted(names) == sorted(order)
    known = [
        metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        for metric in catalogue.CATALOGUE
    ]
    assert names == [name for name in known if name in names]


async def test_figures_stay_what_they_were_while_everything_goes_on(room: Room) -> None:
    """They are rendered in another thread than the one that changes what they were taken from."""

    def rendered() -> list[tuple[str, dict[str, str], float]]:
        return [
            (sample.name, sample.labels, sample.value) for family in core_families(found) for sample in family.samples
        ]

    await room.project("one")
    found = await core_of(room).collect()
    before = rendered()
    await room.project("two")
    room.hub.sent_by_type["agent_message"] += 5
    room.hub.sent_by_type["another"] += 5
    room.losses.add("logs")
    assert rendered() == before
    found = await core_of(room).collect()
    assert rendered() != before
