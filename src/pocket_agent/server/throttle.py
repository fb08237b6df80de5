"""Failed attempts to get in: whoever fails often waits, twice as long each time, and nobody else does."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pocket_agent.errors import RateLimitedError
from pocket_agent.server.network import source_of

_FREE_FAILURES: Final = 5
_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 300.0
_FORGET_SECONDS: Final = 3600.0
_MAX_SOURCES: Final = 10_000
"""How many are remembered, so that whoever has many addresses fills no memory."""


@dataclass(slots=True)
class _Record:
    failures: int
    last: float
    until: float


class Throttle:
    """Counts failures by source.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def check(self, address: str) -> None:
        """Refuse a source that has to wait.

        Raises:
            RateLimitedError: too many failures; `details["retry_after"]` says how many seconds to wait.
        """
        record = self._records.get(source_of(address))
        at = self._clock()
        if record is not None and record.until > at:
            wait = max(1, round(record.until - at))
            raise RateLimitedError(
                f"Too many failed attempts from your address; wait {wait} seconds.", details={"retry_after": wait}
            )

    def failed(self, address: str) -> None:
        """Take note of a failure."""
        source = source_of(address)
        at = self._clock()
        record = self._records.pop(source, None)
        if record is None or at - record.last > _FORGET_SECONDS:
            record = _Record(0, at, at)
        record.failures += 1
        record.last = at
        excess = record.failures - _FREE_FAILURES
        if excess > 0:
            record.until = at + min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(excess - 1, 16))
        self._records[source] = record
        if len(self._records) > _MAX_SOURCES:
            self._records.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget the failures of a source that has got in."""
        self._records.pop(source_of(address), None)

    def __len__(self) -> int:
        return len(self._records)
