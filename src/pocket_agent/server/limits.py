"""Limits by address and by device: token buckets, failed logins, messages, connections and requests."""

import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from pocket_agent.errors import RateLimitedError
from pocket_agent.server.peer import Networks, source_of
from pocket_agent.settings import CurrentSettings, connections_for

# ----------------------------------------------------------------------
# Token buckets: a burst at once, then a rate per second.

_MAX_SOURCES: Final = 10_000
"""Of buckets, and of failures, so that an attacker with many addresses cannot fill the memory."""


class Bucket:
    """A token bucket. The balance may go negative, down to -burst; the debt shows how far a client exceeds its limit.

    Args:
        rate: tokens per second.
        burst: the capacity.
        clock: monotonic clock.
    """

    __slots__ = ("_at", "_burst", "_clock", "_level", "_rate", "exhausted")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()
        self.exhausted = False  # the last `take` has brought the debt to its limit

    def take(self, amount: float = 1.0) -> bool:
        """Take an amount; returns whether the balance was positive before."""
        self._refill()
        had = self._level > 0
        left = self._level - amount
        self.exhausted = left <= -self._burst
        self._level = max(left, -self._burst)
        return had

    def wait(self) -> float:
        """Seconds until the balance is not negative."""
        self._refill()
        return max(0.0, -self._level / self._rate)

    def resize(self, rate: float, burst: float) -> None:
        """Change rate and burst; the balance stays within the new limits."""
        self._refill()
        self._rate, self._burst = rate, burst
        self._level = max(-burst, min(burst, self._level))

    def _refill(self) -> None:
        at = self._clock()
        self._level = min(self._burst, self._level + (at - self._at) * self._rate)
        self._at = at


class Buckets:
    """A bucket for each source; beyond _MAX_SOURCES the least recently used one is evicted."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, source: str) -> Bucket:
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = Bucket(self._rate, self._burst, self._clock)
            if len(self._buckets) > _MAX_SOURCES:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(source)
        return bucket

    def resize(self, rate: float, burst: float) -> None:
        """Change rate and burst of all buckets, existing ones too."""
        self._rate, self._burst = rate, burst
        for bucket in self._buckets.values():
            bucket.resize(rate, burst)

    def __len__(self) -> int:
        return len(self._buckets)


# ----------------------------------------------------------------------
# Failed logins: exponential backoff for each address.

_FREE_FAILURES: Final = 5
_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 300.0
_FORGET_SECONDS: Final = 3600.0


@dataclass(slots=True)
class _Record:
    failures: int
    last: float
    until: float


class Throttle:
    """Counts failures by source; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise RateLimitedError for a source that has to wait; `details["retry_after"]` are the seconds."""
        record = self._records.get(source_of(address))
        at = self._clock()
        if record is not None and record.until > at:
            wait = max(1, round(record.until - at))
            raise RateLimitedError(
                f"Too many failed attempts from your address; wait {wait} seconds.", details={"retry_after": wait}
            )

    def failed(self, address: str) -> None:
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
        """Delete the failures of a source that has logged in."""
        self._records.pop(source_of(address), None)

    def __len__(self) -> int:
        return len(self._records)


# ----------------------------------------------------------------------
# Messages of one device: their number and their total size.

_MESSAGE_BURST_SECONDS: Final = 5.0


class Quota(NamedTuple):
    """The quota of one device, on all its connections together."""

    messages: Bucket
    size: Bucket

    def take(self, size: int) -> bool:
        """Count a message of `size` bytes; returns whether it is within the quota."""
        return all([self.messages.take(), self.size.take(size)])  # both are counted

    @property
    def exhausted(self) -> bool:
        """Whether the device has sent so much beyond its quota that it cannot be reading the errors."""
        return self.messages.exhausted or self.size.exhausted

    def wait(self) -> float:
        """Seconds until a message may be sent again."""
        return max(self.messages.wait(), self.size.wait())


class Quotas:
    """The quota of each device; `clock` is monotonic."""

    def __init__(self, settings: CurrentSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._messages = Buckets(1.0, 1.0, clock)
        self._size = Buckets(1.0, 1.0, clock)
        self.renew()

    def renew(self) -> None:
        """Apply changed limits."""
        limits = self._settings.current.limits
        self._messages.resize(limits.messages_per_second, limits.messages_per_second * _MESSAGE_BURST_SECONDS)
        # One message of the largest size must not exhaust the quota.
        burst = max(limits.bytes_per_second * _MESSAGE_BURST_SECONDS, 2.0 * limits.message_size)
        self._size.resize(limits.bytes_per_second, burst)

    def of(self, device_id: str) -> Quota:
        return Quota(self._messages.of(device_id), self._size.of(device_id))


# ----------------------------------------------------------------------
# Connections and requests from one address, before authentication.

_REQUEST_BURST_SECONDS: Final = 10.0
_SPARE_CONNECTIONS: Final = 256
_PER_CLIENT: Final = 8  # connections of one client: its WebSocket, and those of the browser
_MAX_REFUSED: Final = 1000
_LEAST: Final = 8  # the least limit of connections, whatever the limit of open files is
_SILENT_PART: Final = 4  # one in this many of all connections may have sent no request yet


class Admission:
    """Counts connections and requests by source; `clock` is monotonic.

    Connections of a trusted proxy have no limit, since they are of many users; the requests that it forwards count for
    their own source.
    """

    def __init__(self, settings: CurrentSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._arrivals = Buckets(1.0, 1.0, clock)
        self._requests = Buckets(1.0, 1.0, clock)
        self._open: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self.total = 0
        self.renew()

    def renew(self) -> None:
        """Apply changed settings; open connections stay."""
        limits = self._settings.current.limits
        self._exempt = Networks(limits.exempt_addresses)
        self._proxies = Networks(self._settings.current.server.trusted_proxies)
        self._most = limits.connections_per_address
        self._most_in_all = _PER_CLIENT * limits.max_connections + _SPARE_CONNECTIONS
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            # Without a descriptor left the server could neither start an agent nor read a file.
            self._most_in_all = min(self._most_in_all, max(_LEAST, connections_for(self._settings.current, files)))
        # Connections of a listener that may have sent no request yet.
        self.most_silent = max(1, self._most_in_all // _SILENT_PART)
        for buckets in (self._arrivals, self._requests):
            buckets.resize(limits.requests_per_second, limits.requests_per_second * _REQUEST_BURST_SECONDS)

    def exempts(self, address: str) -> bool:
        """Whether this address is exempt from the limits by address and by device."""
        return address in self._exempt

    def enter(self, address: str) -> bool:
        """Count a new connection; False when it has to be dropped."""
        source = source_of(address)
        unlimited = self.exempts(address) or address in self._proxies
        # A refused connection at the limit of all takes no token of its source.
        if self.full or not (unlimited or (self._open[source] < self._most and self._arrivals.of(source).take())):
            self._refuse(source)
            return False
        self._open[source] += 1
        self.total += 1
        return True

    def leave(self, address: str) -> None:
        source = source_of(address)
        self.total -= 1
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]

    def request(self, address: str) -> None:
        """Count an HTTP request of a client, not of a proxy before it.

        Raises:
            RateLimitedError: too many; `details["retry_after"]` are the seconds to wait.
        """
        if self.exempts(address):
            return
        source = source_of(address)
        bucket = self._requests.of(source)
        if not bucket.take():
            self._refuse(source)
            wait = max(1, round(bucket.wait()))
            raise RateLimitedError(f"Too many requests; wait {wait} seconds.", details={"retry_after": wait})

    def refused(self) -> Iterator[tuple[str, int]]:
        """The refused connections and requests since the last call, by source."""
        refused, self._refused = self._refused, Counter()
        yield from refused.items()

    @property
    def full(self) -> bool:
        return self.total >= self._most_in_all

    def _refuse(self, source: str) -> None:
        if source in self._refused or len(self._refused) < _MAX_REFUSED:
            self._refused[source] += 1
