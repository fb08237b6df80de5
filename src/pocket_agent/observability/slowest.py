"""The executions that took longest, of those that ended lately."""

from collections import deque
from heapq import nlargest
from typing import Final

from pocket_agent.events import Event, ExecutionFinished

_KEPT: Final = 500
"""Executions that are remembered, so that a busy day is remembered for less than a calm one."""
_SHOWN: Final = 10


class Slowest:
    """Remembers executions that ended. It is an `Observer` of the core."""

    def __init__(self) -> None:
        self._ended: deque[ExecutionFinished] = deque(maxlen=_KEPT)

    def emit(self, event: Event) -> None:
        """Remember the end of an execution that ran."""
        if isinstance(event, ExecutionFinished) and event.started_at is not None:
            self._ended.append(event)

    def found(self, since: float) -> list[ExecutionFinished]:
        """The slowest, the slowest first.

        Args:
            since: when they ended at the earliest, in seconds since the Unix epoch.
        """
        lately = (event for event in self._ended if event.finished_at >= since * 1000)
        return nlargest(_SHOWN, lately, key=lambda event: event.duration)
