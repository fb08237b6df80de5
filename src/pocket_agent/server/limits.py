"""Limits for addresses and devices: token buckets, failed attempts to get in, messages, connections and requests."""

import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pocket_agent.errors import RateLimitedError
from pocket_agent.server.peer import Networks, source_of
from pocket_agent.settings import CurrentSettings, connections_for

# ----------------------------------------------------------------------
# Token buckets: a burst at once, then a rate per second.

_MAX_BUCKETS: Final = 10_000


class Bucket:
    """One budget. Whoever takes from an empty one gets into debt, which is a measure of how much he ignores.

    Args:
        rate: how much comes in each second.
        burst: how much it holds.
        clock: seconds that only grow.

    Attributes:
        exhausted: whether the last that was taken has brought the debt to where it gets no larger.
    """

    __slots__ = ("_at", "_burst", "_clock", "_level", "_rate", "exhausted")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()
        self.exhausted = False

    def take(self, amount: float = 1.0) -> bool:
        """Take an amount, however large, if there is anything; whether there was. The debt is bounded by a burst."""
        self._refill()
        had = self._level > 0
        left = self._level - amount
        self.exhausted = left <= -self._burst
        self._level = max(left, -self._burst)
        return had

    def wait(self) -> float:
        """Seconds until there is something again."""
        self._refill()
        return max(0.0, -self._level / self._rate)

    def resize(self, rate: float, burst: float) -> None:
        """Go on with another rate and burst; what is there stays, as far as it fits."""
        self._refill()
        self._rate, self._burst = rate, burst
        self._level = max(-burst, min(burst, self._level))

    def _refill(self) -> None:
        at = self._clock()
        self._level = min(self._burst, self._level + (at - self._at) * self._rate)
        self._at = at


class Buckets:
    """A bucket for each source; those that have been idle longest are forgotten when there are too many.

    Args:
        rate: of each.
        burst: of each.
        clock: seconds that only grow.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, source: str) -> Bucket:
        """The bucket of a source."""
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = Bucket(self._rate, self._burst, self._clock)
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(source)
        return bucket

    def resize(self, rate: float, burst: float) -> None:
        """Go on with another rate and burst, in the buckets that there are, too."""
        self._rate, self._burst = rate, burst
        for bucket in self._buckets.values():
            bucket.resize(rate, burst)

    def __len__(self) -> int:
        return len(self._buckets)


# ----------------------------------------------------------------------
# Failed attempts to connect: an address that fails often waits twice as long each time; no other address waits.

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


# ----------------------------------------------------------------------
# Messages of one device: their number, and their size in all.

_MESSAGE_BURST_SECONDS: Final = 5.0


class Quota:
    """What is left to one device, on all its connections together."""

    def __init__(self, messages: Bucket, size: Bucket) -> None:
        self._messages = messages
        self._size = size

    def take(self, size: int) -> bool:
        """Count a message of so many bytes; whether it may be."""
        # Both are counted, whichever is used up.
        return all([self._messages.take(), self._size.take(size)])

    @property
    def exhausted(self) -> bool:
        """Whether so much was sent beyond it that nobody can be listening to the refusals."""
        return self._messages.exhausted or self._size.exhausted

    def wait(self) -> float:
        """Seconds until a message may be sent again."""
        return max(self._messages.wait(), self._size.wait())


class Quotas:
    """The quota of each device.

    Args:
        settings: the limits.
        clock: seconds that only grow.
    """

    def __init__(self, settings: CurrentSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._messages = Buckets(1.0, 1.0, clock)
        self._size = Buckets(1.0, 1.0, clock)
        self.renew()

    def renew(self) -> None:
        """Take over limits that have changed."""
        messages, size = (
            self._settings.current.limits.messages_per_second,
            self._settings.current.limits.bytes_per_second,
        )
        self._messages.resize(messages, messages * _MESSAGE_BURST_SECONDS)
        # One message of the largest size must not use up twice what there is.
        self._size.resize(size, max(size * _MESSAGE_BURST_SECONDS, 2.0 * self._settings.current.limits.message_size))

    def of(self, device_id: str) -> Quota:
        """That of a device, the same one for all its connections."""
        return Quota(self._messages.of(device_id), self._size.of(device_id))


# ----------------------------------------------------------------------
# Connections and requests from one address, before its device is known.

_REQUEST_BURST_SECONDS: Final = 10.0
_SPARE_CONNECTIONS: Final = 256
_PER_CLIENT: Final = 8
"""Connections that the browser of one client may hold besides its WebSocket, in all."""
_MAX_REFUSED: Final = 1000
_LEAST: Final = 8
"""Connections that are taken in however few files may be open."""
_SILENT_PART: Final = 4
"""The part of all connections that may have sent no request yet is one in this many."""


class Admission:
    """Counts connections and requests by source.

    A trusted proxy's connections are not counted, since they are many people's; the requests that it
    passes on count for those it speaks for.

    Args:
        settings: the limits, the addresses that they are not for, and the trusted proxies.
        clock: seconds that only grow.

    Attributes:
        most_silent: connections of a listener that may have sent no request yet.
    """

    def __init__(self, settings: CurrentSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._arrivals = Buckets(1.0, 1.0, clock)
        self._requests = Buckets(1.0, 1.0, clock)
        self._open: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._total = 0
        self.renew()

    def renew(self) -> None:
        """Take over settings that have changed; whoever is in stays."""
        limits = self._settings.current.limits
        self._exempt = Networks(limits.exempt_addresses)
        self._proxies = Networks(self._settings.current.server.trusted_proxies)
        self._most = limits.connections_per_address
        self._most_in_all = _PER_CLIENT * limits.max_connections + _SPARE_CONNECTIONS
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            # Without a descriptor left the server could neither start an agent nor read a file.
            self._most_in_all = min(self._most_in_all, max(_LEAST, connections_for(self._settings.current, files)))
        self.most_silent = max(1, self._most_in_all // _SILENT_PART)
        for buckets in (self._arrivals, self._requests):
            buckets.resize(limits.requests_per_second, limits.requests_per_second * _REQUEST_BURST_SECONDS)

    def exempts(self, address: str) -> bool:
        """Whether the limits by address and by device are not for this one."""
        return address in self._exempt

    def enter(self, address: str) -> bool:
        """Take in a connection that was made; False when it has to be dropped, without an answer."""
        source = source_of(address)
        if self.full or not self._may_enter(address, source):
            self._refuse(source)
            return False
        self._open[source] += 1
        self._total += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was taken in is gone."""
        source = source_of(address)
        self._total -= 1
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]

    def request(self, address: str) -> None:
        """Count an HTTP request.

        Args:
            address: of whoever it comes from, also by way of a proxy.

        Raises:
            RateLimitedError: there were too many; `details["retry_after"]` says how many seconds to wait.
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
        """How many were refused since the last call, by source."""
        refused, self._refused = self._refused, Counter()
        yield from refused.items()

    @property
    def full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self._total >= self._most_in_all

    @property
    def total(self) -> int:
        """Connections that are open."""
        return self._total

    def _may_enter(self, address: str, source: str) -> bool:
        if self.exempts(address) or address in self._proxies:
            return True
        return self._open[source] < self._most and self._arrivals.of(source).take()

    def _refuse(self, source: str) -> None:
        if source in self._refused or len(self._refused) < _MAX_REFUSED:
            self._refused[source] += 1
