"""Figures that a connection asked for again and again."""

from collections.abc import Callable


class Feed:
    """One of them.

    Args:
        interval: seconds between two frames, above 0.
        read: the `data` of the next frame; None when there is nothing new.
        now: the present time, in seconds of the monotonic clock; the reply to the request was the first frame.

    Attributes:
        interval: the same.
        due: when the next frame is due.
    """

    def __init__(self, interval: float, read: Callable[[], object | None], now: float) -> None:
        self.interval = interval
        self.due = now + interval
        self._read = read

    def take(self, now: float) -> object | None:
        """What is to be sent, once it is due; None when there is nothing new."""
        self.due = now + self.interval
        return self._read()
