"""What a day may cost, shared by all projects: counts what is spent, tells of an excess, refuses what begins."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from datetime import time as clock_time
from typing import Final

from pocket_agent.errors import ResourceLimitError
from pocket_agent.events import BudgetExceeded, Observer
from pocket_agent.model import Milliseconds
from pocket_agent.settings import CurrentSettings

_KEPT_DAYS: Final = 7


def local_day(at: Milliseconds) -> str:
    """The local date of a time, YYYY-MM-DD."""
    return _local(at / 1000).date().isoformat()


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


class Budget:
    """The budget of the present day, which is the machine's local one.

    Args:
        limits: `cost_usd_per_day` and `refuse_over_budget` count.
        observer: is told once for each day whose budget is used up, and again for another budget.
        clock: the present time, in seconds since the Unix epoch.
    """

    def __init__(self, settings: CurrentSettings, observer: Observer, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._observer = observer
        self._clock = clock
        # By day, so that a clock which is set back finds what it left.
        self._spent: dict[str, float] = {}
        self._told: tuple[str, float] | None = None

    @property
    def limit_usd(self) -> float:
        """What a day may cost; 0 is unlimited."""
        return self._settings.current.limits.cost_usd_per_day

    @property
    def today(self) -> str:
        """The local date, YYYY-MM-DD."""
        return local_day(Milliseconds(round(self._clock() * 1000)))

    @property
    def spent_usd(self) -> float:
        """What today's executions have cost so far."""
        return self._spent.get(self.today, 0.0)

    @property
    def refusing(self) -> bool:
        """Whether no execution may begin today."""
        return self._settings.current.limits.refuse_over_budget and self._is_used_up(self.spent_usd)

    @property
    def until(self) -> Milliseconds:
        """When the next day begins."""
        # A naive time is local, whatever the zone does that night (PEP 495); a midnight that is left out
        # is the moment at which the clocks leap over it.
        midnight = datetime.combine(_local(self._clock()).date() + timedelta(days=1), clock_time())
        return Milliseconds(round(midnight.timestamp() * 1000))

    def _is_used_up(self, spent: float) -> bool:
        return 0 < self.limit_usd <= spent

    def load(self, day: str, spent_usd: float) -> None:
        """Take over what is stored of a day; an excess was told of when it came."""
        self._spent[day] = spent_usd
        if self._is_used_up(spent_usd):
            self._told = day, self.limit_usd

    def spend(self, day: str, cost_usd: float) -> None:
        """Something was spent.

        Args:
            day: the local date, YYYY-MM-DD, under which it is stored.
            cost_usd: United States dollars.
        """
        after = self._spent.get(day, 0.0) + cost_usd
        others = [(name, spent) for name, spent in self._spent.items() if name != day]
        self._spent = dict([*others[-_KEPT_DAYS:], (day, after)])
        if self._is_used_up(after) and self._told != (day, self.limit_usd):
            self._told = day, self.limit_usd
            self._observer.emit(
                BudgetExceeded(after, self.limit_usd, self._settings.current.limits.refuse_over_budget, self.until)
            )

    def check(self) -> None:
        """Refuse an execution that is to begin.

        Raises:
            ResourceLimitError: the day's budget is used up.
        """
        if not self.refusing:
            return
        end = _local(self.until / 1000)
        raise ResourceLimitError(
            f"Today's budget is used up: ${self.spent_usd:.2f} of ${self.limit_usd:.2f} are spent "
            f"(limits.cost_usd_per_day). The next prompt may begin at {end:%Y-%m-%d %H:%M %Z}.",
            details={"spent_usd": self.spent_usd, "limit_usd": self.limit_usd, "until": self.until},
        )
