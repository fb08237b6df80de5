"""The day's budget: what is spent, when the day ends, who is told and who is refused."""

import os
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from pocket_agent.conversation.accounting import Budget
from pocket_agent.errors import ResourceLimitError
from pocket_agent.events import BudgetExceeded, Event
from pocket_agent.settings import LimitSettings, LiveSettings, LoadedSettings, Settings, load_settings


class Clock:
    """A time that the test sets, in local terms."""

    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        """It is this local time now."""
        self.seconds = datetime.fromisoformat(text).timestamp()

    def __call__(self) -> float:
        return self.seconds


class Told:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """The machine is in another time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def budget(clock: Clock, *, limit: float = 1.0, refuse: bool = True) -> tuple[Budget, Told]:
    """A budget, and who is told."""
    told = Told()
    return Budget(Settings(limits=LimitSettings(cost_usd_per_day=limit, refuse_over_budget=refuse)), told, clock), told


def test_it_refuses_from_the_moment_that_it_is_used_up_until_midnight() -> None:
    clock = Clock("2026-03-10T12:00")
    day, told = budget(clock)
    day.spend(day.today, 0.75)
    assert (day.spent_usd, day.limit_usd, day.refusing) == (0.75, 1.0, False)
    day.check()
    day.spend(day.today, 0.25)
    assert day.refusing
    with pytest.raises(ResourceLimitError, match=r"budget of \$1\.00 .* 2026-03-11 00:00") as caught:
        day.check()
    midnight = round(datetime.fromisoformat("2026-03-11T00:00").timestamp() * 1000)
    assert caught.value.details == {"limit_usd": 1.0, "until": midnight}, "not what other projects cost"
    assert told.events == [BudgetExceeded(1.0, 1.0, True, day.until)]
    clock.set("2026-03-10T23:59:59")
    assert day.refusing
    clock.set("2026-03-11T00:00")
    assert (day.spent_usd, day.refusing) == (0.0, False)
    day.check()


def test_it_tells_once_a_day() -> None:
    clock = Clock("2026-03-10T12:00")
    day, told = budget(clock, refuse=False)
    for _ in range(5):
        day.spend(day.today, 0.5)
    assert not day.refusing
    day.check()
    clock.set("2026-03-11T12:00")
    day.spend(day.today, 2.0)
    assert [(event.spent_usd, event.refusing) for event in told.events if isinstance(event, BudgetExceeded)] == [
        (1.0, False),
        (2.0, False),
    ]


def test_what_was_spent_before_the_start_counts_and_is_not_told_again() -> None:
    clock = Clock("2026-03-10T12:00")
    day, told = budget(clock)
    day.load("2026-03-10", 1.5)
    assert day.refusing
    day.spend("2026-03-10", 0.25)
    assert day.spent_usd == 1.75
    assert told.events == []


def test_no_limit_refuses_nothing() -> None:
    day, told = budget(Clock("2026-03-10T12:00"), limit=0.0)
    day.spend(day.today, 1e5)
    assert (day.spent_usd, day.refusing, told.events) == (1e5, False, [])


def test_a_clock_that_is_set_back_finds_what_it_left() -> None:
    clock = Clock("2026-03-10T12:00")
    day, _ = budget(clock)
    day.spend(day.today, 0.5)
    clock.set("2036-01-01T12:00")
    day.spend(day.today, 0.25)
    clock.set("2026-03-10T13:00")
    assert day.spent_usd == 0.5


def test_only_some_days_are_remembered() -> None:
    clock = Clock("2026-03-10T12:00")
    day, _ = budget(clock)
    for number in range(100):
        day.spend(f"day {number}", 0.1)
    assert len(day._spent) < 10


@pytest.mark.parametrize(
    ("zone", "at", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T00:00", 23),
        ("Europe/Berlin", "2026-10-25T00:00", 25),
        # There is no midnight: the clocks go from 23:59:59 to 01:00.
        ("America/Asuncion", "2023-09-30T00:00", 24),
        ("Asia/Kathmandu", "2026-03-29T00:00", 24),
    ],
    indirect=["zone"],
)
def test_a_day_is_as_long_as_the_clocks_make_it(zone: None, at: str, hours: int) -> None:
    clock = Clock(at)
    day, _ = budget(clock)
    end = day.until / 1000
    assert end - clock.seconds == hours * 3600
    today = day.today
    clock.seconds = end - 1
    assert day.today == today
    clock.seconds = end
    assert day.today > today


def costing(limit: float, *, refuse: bool = False) -> LoadedSettings:
    """Settings with a budget."""
    flags = {"limits.cost_usd_per_day": limit, "limits.refuse_over_budget": refuse}
    return load_settings(config=None, environ={}, flags=flags)


def test_another_budget_counts_at_once_and_is_told_of_anew() -> None:
    told = Told()
    live = LiveSettings(costing(1.0))
    budget = Budget(live, told, Clock("2026-03-04 12:00:00"))
    budget.spend(budget.today, 2.0)
    budget.spend(budget.today, 2.0)
    assert len(told.events) == 1
    live.loaded = costing(3.0, refuse=True)
    assert budget.refusing
    budget.spend(budget.today, 0.5)
    assert [event.limit_usd for event in told.events if isinstance(event, BudgetExceeded)] == [1.0, 3.0]
    live.loaded = costing(9.0, refuse=True)
    assert not budget.refusing
