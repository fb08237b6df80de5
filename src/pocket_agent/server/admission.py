"""How many connections and requests there may be from one address, before anything is known of who it is."""

import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from pocket_agent.errors import RateLimitedError
from pocket_agent.server.bucket import Buckets
from pocket_agent.server.network import Networks, source_of
from pocket_agent.settings import CurrentSettings, connections_for

_BURST_SECONDS: Final = 10.0
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
            buckets.resize(limits.requests_per_second, limits.requests_per_second * _BURST_SECONDS)

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
