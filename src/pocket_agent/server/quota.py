"""How many messages one device may send, and how large they may be in all."""

import time
from collections.abc import Callable
from typing import Final

from pocket_agent.server.bucket import Bucket, Buckets
from pocket_agent.settings import CurrentSettings

_BURST_SECONDS: Final = 5.0


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
        self._messages.resize(messages, messages * _BURST_SECONDS)
        # One message of the largest size must not use up twice what there is.
        self._size.resize(size, max(size * _BURST_SECONDS, 2.0 * self._settings.current.limits.message_size))

    def of(self, device_id: str) -> Quota:
        """That of a device, the same one for all its connections."""
        return Quota(self._messages.of(device_id), self._size.of(device_id))
