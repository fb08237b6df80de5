"""The runner of the checks: bounded, cached, one run of a check at a time, changes told once."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest

from pocket_agent.config.settings import HealthSettings
from pocket_agent.errors import FileOperationError
from pocket_agent.events import HealthChanged
from pocket_agent.observability import health as module
from pocket_agent.observability.health import HealthCheck, HealthMonitor, in_thread, overall_status
from pocket_agent.protocol.push import CheckData
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.server.room import Recorder

GOOD, LOW, BAD = CheckData("healthy"), CheckData("warning", "low"), CheckData("unhealthy", "gone")


class Part:
    """Something to check, whose state the test sets."""

    def __init__(self) -> None:
        self.state: CheckData | Exception = GOOD
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.begun = 0
        self.at_once = 0

    async def look(self) -> CheckData:
        """How it is, once it may tell."""
        self.begun += 1
        self.at_once += 1
        try:
            await self.may_answer.wait()
        finally:
            self.at_once -= 1
        assert self.at_once == 0, "two at a time"
        if isinstance(self.state, Exception):
            raise self.state
        return self.state


class Bench:
    """A part under watch, and what was told of it."""

    def __init__(self, interval: float, seconds: float) -> None:
        self.part = Part()
        self.seen = Recorder()
        self.health = HealthMonitor(
            {"part": HealthCheck(self.part.look, seconds)}, HealthSettings(interval=interval), self.seen
        )

    async def look(self) -> CheckData:
        """The result as somebody gets it who can wait."""
        result = (await self.health.look("part", wait=60))["part"]
        assert result is not None
        return result

    def told(self) -> list[tuple[str | None, str]]:
        """From which status to which."""
        assert all(event.check == "part" for event in self.seen.of(HealthChanged))
        return [(event.previous, event.status) for event in self.seen.of(HealthChanged)]


@contextlib.asynccontextmanager
async def bench(*, interval: float = 3600.0, seconds: float = 60.0) -> AsyncIterator[Bench]:
    """A running bench; what hangs at its end must not keep it."""
    made = Bench(interval, seconds)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        task = group.create_task(made.health.run())
        yield made
        task.cancel()


async def test_asking_often_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FRESH_SECONDS", 3600.0)
    async with bench() as here:
        here.part.may_answer.clear()
        answers = asyncio.gather(*(here.look() for _ in range(20)))
        await eventually(lambda: here.part.begun == 1, "it is looked at")
        here.part.may_answer.set()
        assert await answers == [GOOD] * 20
        await here.look()
        assert here.part.begun == 1
        monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)
        await here.look()
        assert here.part.begun == 2


async def test_it_looks_without_being_asked() -> None:
    async with bench(interval=0.01) as here:
        await eventually(lambda: here.part.begun >= 3, "three rounds")
        here.part.state = BAD
        await eventually(lambda: here.told() == [(None, "healthy"), ("healthy", "unhealthy")], "the change is told")


async def test_only_a_change_of_status_is_told() -> None:
    async with bench(interval=0.001) as here:
        for state in (GOOD, LOW, CheckData("warning", "lower"), BAD, FileOperationError("full"), GOOD):
            here.part.state = state
            begun = here.part.begun
            await eventually(lambda begun=begun: here.part.begun >= begun + 2, "a whole look at it")
        assert here.told() == [
            (None, "healthy"),
            ("healthy", "warning"),
            ("warning", "unhealthy"),
            ("unhealthy", "healthy"),
        ]
        assert [event.message for event in here.seen.of(HealthChanged)] == [None, "low", "gone", None]


async def test_a_check_that_hangs_is_unhealthy_and_left_alone_until_it_ends() -> None:
    async with bench(interval=0.001, seconds=0.05) as here:
        assert await here.look() == GOOD
        here.part.may_answer.clear()
        await eventually(lambda: here.told()[-1] == ("healthy", "unhealthy"), "it took too long")
        begun = here.part.begun
        for _ in range(10):
            assert await here.look() == CheckData("unhealthy", "The check took longer than 0.05 s.")
        await asyncio.sleep(0.05)  # room for many rounds, none of which may begin it again
        assert here.part.begun == begun
        here.part.may_answer.set()
        await eventually(lambda: here.told()[-1] == ("unhealthy", "healthy"), "it is well again")
        await eventually(lambda: here.part.begun > begun, "it is looked at again")


async def test_who_does_not_wait_gets_what_was_known() -> None:
    async with bench(interval=0.001) as here:
        here.part.may_answer.clear()
        assert await here.health.look(wait=0) == {"part": None}
        here.part.may_answer.set()
        await here.look()
        here.part.may_answer.clear()
        here.part.state = BAD
        await eventually(lambda: here.part.at_once == 1, "it hangs")
        assert await here.health.look("part", wait=0) == {"part": GOOD}


async def test_a_fault_in_a_check_ends_nothing_and_tells_no_more_than_its_kind() -> None:
    async with bench(interval=0.001) as here:
        await here.look()
        here.part.state = ValueError("/home/somebody/secret")
        await eventually(lambda: here.told()[-1] == ("healthy", "unhealthy"), "it is noticed")
        assert await here.look() == CheckData("unhealthy", "The check failed: ValueError.")
        here.part.state = GOOD
        await eventually(lambda: here.told()[-1] == ("unhealthy", "healthy"), "it goes on")


async def test_the_end_waits_for_no_check() -> None:
    async with bench(seconds=0.01) as here:
        here.part.may_answer.clear()
        await eventually(lambda: here.part.at_once == 1, "it hangs")
    assert here.part.at_once == 0


async def test_a_thread_that_a_disk_holds_up_keeps_nobody() -> None:
    held, begun = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        held.wait()
        return 7

    waiting = asyncio.create_task(in_thread(work, "a-disk"))
    await eventually(begun.is_set, "the thread runs")
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "a-disk"]
    assert thread.daemon, "the end of the server does not wait for it"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await in_thread(lambda: 8, "a-disk") == 8, "by another thread"
    held.set()
    assert await in_thread(work, "a-disk") == 7
    assert thread.is_alive(), "it is used again"

    def refused() -> int:
        raise FileOperationError("no")

    with pytest.raises(FileOperationError):
        await in_thread(refused, "a-disk")


@pytest.mark.parametrize(
    ("storage", "other", "expected"),
    [
        (GOOD, GOOD, "healthy"),
        (GOOD, LOW, "degraded"),
        (GOOD, BAD, "degraded"),
        (LOW, GOOD, "degraded"),
        (BAD, GOOD, "unhealthy"),
        (BAD, BAD, "unhealthy"),
    ],
)
def test_the_sum_is_the_guides(storage: CheckData, other: CheckData, expected: str) -> None:
    assert overall_status({"other": other, "storage": storage}) == expected
