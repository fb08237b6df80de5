"""Slots are handed out first come first served, none is lost, and idle processes make room."""

import asyncio
import random

import pytest

from pocket_agent.conversation.capacity import Capacity
from tests.harness import DEADLINE_SECONDS


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_are_handed_out_in_the_order_of_asking() -> None:
    capacity = Capacity(max_executions=2, max_processes=2)
    order: list[int] = []

    async def work(number: int) -> None:
        await capacity.acquire()
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(work(number))
        await settle()
        assert order == [0, 1]
        assert not capacity.try_acquire()
        for expected in (2, 3, 4):
            capacity.release()
            await settle()
            assert order[-1] == expected
    assert capacity.executing == 2


async def test_nobody_overtakes_who_waits() -> None:
    capacity = Capacity(max_executions=1, max_processes=1)
    assert capacity.try_acquire()
    waiting = asyncio.ensure_future(capacity.acquire())
    await settle()
    capacity.release()
    assert not capacity.try_acquire(), "the slot belongs to who has waited"
    await waiting
    assert capacity.executing == 1


@pytest.mark.parametrize("granted", [False, True])
async def test_a_slot_is_not_lost_when_its_waiter_is_cancelled(granted: bool) -> None:
    capacity = Capacity(max_executions=1, max_processes=1)
    assert capacity.try_acquire()
    first = asyncio.ensure_future(capacity.acquire())
    second = asyncio.ensure_future(capacity.acquire())
    await settle()
    if granted:
        capacity.release()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    if not granted:
        capacity.release()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await second
    assert capacity.executing == 1
    capacity.release()
    assert capacity.try_acquire()


async def test_an_adopted_execution_counts_though_there_is_no_room() -> None:
    capacity = Capacity(max_executions=1, max_processes=1)
    capacity.occupy()
    capacity.occupy()
    assert capacity.executing == 2
    capacity.release()
    assert not capacity.try_acquire(), "one still runs"
    capacity.release()
    assert capacity.try_acquire()


@pytest.mark.parametrize("seed", range(20))
async def test_slots_are_never_lost_nor_made(seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311 - a repeatable choice, not a secret
    capacity = Capacity(max_executions=3, max_processes=3)
    held = 0
    waiting: list[asyncio.Task[None]] = []
    for _ in range(200):
        match choose.randrange(4):
            case 0:
                held += capacity.try_acquire()
            case 1:
                waiting.append(asyncio.ensure_future(capacity.acquire()))
            case 2 if waiting:
                waiting.pop(choose.randrange(len(waiting))).cancel()
            case 3 if held:
                capacity.release()
                held -= 1
        if choose.random() < 0.7:
            await settle()
            held += sum(task.done() for task in waiting)
            waiting = [task for task in waiting if not task.done()]
            assert capacity.executing == held <= 3, f"seed {seed}"
            assert not waiting or held == 3, f"seed {seed}: somebody waits though there is a slot"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


class Warm:
    """Idle processes by name; the busy ones are not to be closed."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.closed: list[str] = []
        self.busy: set[str] = set()

    def use(self, name: str) -> None:
        """A process runs and was used."""

        async def evict() -> bool:
            await asyncio.sleep(0)
            if name in self.busy:
                return False
            self.closed.append(name)
            self.capacity.gone(name)
            return True

        self.capacity.used(name, evict)


async def test_the_least_recently_used_process_makes_room() -> None:
    capacity = Capacity(max_executions=1, max_processes=3)
    warm = Warm(capacity)
    for name in ("a", "b", "c", "a"):
        warm.use(name)
    await capacity.reserve_process("d")
    assert warm.closed == ["b"]


async def test_busy_processes_are_left_alone() -> None:
    capacity = Capacity(max_executions=1, max_processes=2)
    warm = Warm(capacity)
    warm.busy = {"a"}
    warm.use("a")
    warm.use("b")
    await capacity.reserve_process("c")
    assert warm.closed == ["b"]


async def test_there_is_room_for_every_execution_whatever_the_limit() -> None:
    capacity = Capacity(max_executions=3, max_processes=1)
    warm = Warm(capacity)
    warm.use("a")
    warm.use("b")
    await capacity.reserve_process("c")
    assert warm.closed == []


async def test_a_process_makes_no_room_for_itself() -> None:
    capacity = Capacity(max_executions=1, max_processes=1)
    warm = Warm(capacity)
    warm.use("a")
    await capacity.reserve_process("a")
    assert warm.closed == []


async def test_a_process_that_is_gone_takes_no_room() -> None:
    capacity = Capacity(max_executions=1, max_processes=2)
    warm = Warm(capacity)
    warm.use("a")
    warm.use("b")
    capacity.gone("a")
    capacity.gone("a")
    await capacity.reserve_process("c")
    assert warm.closed == []


async def test_more_room_lets_those_in_who_wait_and_less_throws_nobody_out() -> None:
    capacity = Capacity(max_executions=1, max_processes=1)
    await capacity.acquire()
    waiting = [asyncio.ensure_future(capacity.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    capacity.resize(max_executions=3, max_processes=1)
    await asyncio.gather(*waiting[:2])
    assert (capacity.executing, capacity.max_processes) == (3, 3)
    capacity.resize(max_executions=1, max_processes=2)
    assert (capacity.executing, capacity.max_processes) == (3, 2)
    capacity.release()
    capacity.release()
    await asyncio.sleep(0)
    assert not waiting[2].done()
    capacity.release()
    await waiting[2]
    assert capacity.executing == 1


async def test_processes_that_start_at_the_same_time_find_each_place_taken() -> None:
    """Ten projects start one at once, and each needs a while; the least recently used idle ones go."""
    capacity = Capacity(max_executions=10, max_processes=10)
    ended: list[str] = []

    def idle(name: str) -> None:
        async def evict() -> bool:
            await asyncio.sleep(0)
            ended.append(name)
            return True

        capacity.used(name, evict)

    for number in range(8):
        idle(f"idle-{number}")
    most = 0

    async def start(name: str) -> None:
        nonlocal most
        await capacity.reserve_process(name)
        most = max(most, capacity.processes)
        await asyncio.sleep(0)
        idle(name)

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(start(f"new-{number}"))
    assert most <= 10
    assert capacity.processes <= 10
    assert set(ended) == {f"idle-{number}" for number in range(8)}
    await capacity.reserve_process("fails")
    capacity.gone("fails")
    assert capacity.processes <= 10
