"""Tells several observers of each event, and lets none of them disturb the core or the others."""

import logging
from collections.abc import Sequence
from typing import Final

from pocket_agent.events import Event, Observer
from pocket_agent.observability.loss import Losses

_LOGGER: Final = logging.getLogger(__name__)


class Fanout:
    """An `Observer` that tells others.

    One of them that raises has a fault of its own: the event is counted as lost, the log is told once
    for each kind of fault, and the next observer gets the event all the same.
    """

    def __init__(self, observers: Sequence[Observer], losses: Losses) -> None:
        self._observers = tuple(observers)
        self._losses = losses
        self._told: set[tuple[str, str, str]] = set()

    def emit(self, event: Event) -> None:
        """Tell each of them."""
        for observer in self._observers:
            try:
                observer.emit(event)
            except Exception as error:  # noqa: BLE001 - the border of an observer: the core must not see its faults
                self._fault(observer, event, error)

    def _fault(self, observer: Observer, event: Event, error: Exception) -> None:
        self._losses.add("events")
        kind = (type(observer).__name__, type(event).__name__, type(error).__name__)
        if kind not in self._told:
            self._told.add(kind)
            fields = {"observer": kind[0], "event": kind[1]}
            _LOGGER.error("observer failed", exc_info=error, extra={"fields": fields})
