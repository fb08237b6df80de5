"""Restarts the background tasks of the server after exceptions."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from pocket_agent.events import Observer, TaskFaulted

_FIRST_SECONDS: Final = 1.0
"""Pause before a task that failed is started again; it doubles with each failure that follows soon."""
_LONGEST_SECONDS: Final = 60.0


async def supervise(
    name: str,
    run: Callable[[], Awaitable[None]],
    observer: Observer,
    *,
    first_seconds: float = _FIRST_SECONDS,
) -> None:
    """Run a task until it returns or is cancelled; start it again after each exception.

    A task that ran longer than the longest pause before it failed is restarted after the first pause again.

    Args:
        name: the task's name in the log.
        run: starts the task; it must be able to run again after it raised.
        observer: gets a TaskFaulted event for each exception.
        first_seconds: pause after the first exception, in seconds.
    """
    pause = first_seconds
    while True:
        began = time.monotonic()
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - the border of a background task: a fault in it must not end the server
            if time.monotonic() - began > _LONGEST_SECONDS:
                pause = first_seconds
            observer.emit(TaskFaulted(name, error))
        else:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_SECONDS)
