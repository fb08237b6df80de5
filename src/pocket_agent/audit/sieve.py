"""What of refusals and logins is written, so that whoever makes thousands of them fills no disk; pure."""

import dataclasses
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from pocket_agent.audit.record import Record

_BURST: Final = 20.0
_PER_SECOND: Final = 1 / 60
_BURST_OF_ALL: Final = 500.0
_PER_SECOND_OF_ALL: Final = 1 / 10
"""About 3 MB a day at the most, if it never ends."""
_MAX_SOURCES: Final = 1000
_MAX_KINDS: Final = 100


class _Allowance:
    """So many at once, and so many a second later on."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, at: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, at

    def take(self, at: float) -> bool:
        """Whether there is one left."""
        self._left = min(self._burst, self._left + (at - self._at) * self._rate)
        self._at = at
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Sieve:
    """Lets through each record of something that was done, and a bounded number of the others.

    The others are refusals and logins, which cost who makes them nothing. Each source (a device at an
    address) has an allowance, and all of them together have another; what is left out is counted.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sources: OrderedDict[tuple[str | None, ...], _Allowance] = OrderedDict()
        self._all = _Allowance(_PER_SECOND_OF_ALL, _BURST_OF_ALL, clock())
        self._left_out: Counter[str] = Counter()

    def take(self, record: Record) -> Record | None:
        """The record as it is to be written, with what was left out before it; None when it is left out."""
        if not _is_cheap(record):
            return record
        if not self._is_allowed(record):
            kind = f"{record.action} {record.outcome}"
            count = record.details.get("count", 1)
            known = kind in self._left_out or len(self._left_out) < _MAX_KINDS
            self._left_out[kind if known else "others"] += count if isinstance(count, int) else 1
            return None
        left_out = self.rest()
        return dataclasses.replace(record, details={**record.details, "left_out": left_out}) if left_out else record

    def rest(self) -> dict[str, int]:
        """How many of each kind were left out since this was last told."""
        found, self._left_out = self._left_out, Counter()
        return dict(found)

    def _is_allowed(self, record: Record) -> bool:
        at = self._clock()
        source = (record.address, record.device_id or record.by, record.action, record.outcome)
        allowance = self._sources.pop(source, None) or _Allowance(_PER_SECOND, _BURST, at)
        self._sources[source] = allowance
        if len(self._sources) > _MAX_SOURCES:
            self._sources.popitem(last=False)
        return allowance.take(at) and self._all.take(at)


def _is_cheap(record: Record) -> bool:
    return record.outcome != "ok" or record.action == "login"
