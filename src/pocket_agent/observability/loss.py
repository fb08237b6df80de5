"""Counts what telemetry had to let go of, so that it never slows or stops the server unnoticed."""

import threading
from collections import Counter
from typing import Final

SIGNALS: Final = ("logs", "traces", "events", "notifications")
"""What can be lost: log lines, spans, events that met a fault in an observer, and notifications."""


class Losses:
    """How much of each signal was lost since the start; any thread may add and read."""

    def __init__(self) -> None:
        self._lost: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, signal: str, count: int = 1) -> None:
        """Note that `count` items of a signal were lost."""
        with self._lock:
            self._lost[signal] += count

    def of(self, signal: str) -> int:
        """How many items of a signal were lost."""
        with self._lock:
            return self._lost[signal]
