"""Runs the health checks: each bounded in time, never twice at once, and told of when its status changes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from pocket_agent.config.settings import HealthSettings
from pocket_agent.errors import PocketAgentError
from pocket_agent.events import HealthChanged, Observer
from pocket_agent.protocol.push import CheckData

Status = Literal["healthy", "degraded", "unhealthy"]

_FRESH_SECONDS: Final = 2.0
"""How long a result stands, so that asking often costs nothing."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        look: says how it is; a PocketAgentError means unhealthy, with its message.
        seconds: how long that may take.
    """

    look: Callable[[], Awaitable[CheckData]]
    seconds: float


class Health:
    """The latest result of each check, renewed again and again and when somebody asks.

    A check that hangs is left to hang: it counts as unhealthy, and is not begun again before it ends.

    Args:
        checks: by name.
        settings: how often.
        observer: told of each status that differs from the one before.
    """

    def __init__(self, checks: Mapping[str, Check], settings: HealthSettings, observer: Observer) -> None:
        self._watches = {name: _Watch(name, check) for name, check in checks.items()}
        self._settings = settings
        self._observer = observer
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Check, round after round, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    for watch in self._watches.values():
                        self._begin(tasks, watch)
                    await asyncio.sleep(self._settings.interval)
            finally:
                self._tasks = None

    async def look(self, *names: str, wait: float) -> dict[str, CheckData | None]:
        """How things are now, by name of the check; None for one that has no result yet.

        Args:
            names: which checks; without any, all.
            wait: seconds to wait at most for the results of checks that take time, before the earlier ones do.
        """
        watches = [self._watches[name] for name in names] or list(self._watches.values())
        if self._tasks is not None:
            for watch in watches:
                if watch.age() >= min(_FRESH_SECONDS, self._settings.interval):
                    self._begin(self._tasks, watch)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                for watch in watches:
                    await watch.settled.wait()
        return {watch.name: watch.result for watch in watches}

    def known(self) -> dict[str, tuple[CheckData | None, float | None]]:
        """The latest result of each check, None before the first, and since when its status is the same (Unix time)."""
        return {watch.name: (watch.result, watch.since) for watch in self._watches.values()}

    def _begin(self, tasks: asyncio.TaskGroup, watch: "_Watch") -> None:
        if not watch.running:
            watch.running = True
            watch.settled.clear()
            tasks.create_task(self._run(tasks, watch))

    async def _run(self, tasks: asyncio.TaskGroup, watch: "_Watch") -> None:
        try:
            look = tasks.create_task(_outcome(watch.check))
            done, _ = await asyncio.wait({look}, timeout=watch.check.seconds)
            if not done:
                self._settle(watch, CheckData("unhealthy", f"The check took longer than {watch.check.seconds:g} s."))
            result = await look
        finally:
            watch.running = False
        self._settle(watch, result)

    def _settle(self, watch: "_Watch", result: CheckData) -> None:
        previous = watch.result
        watch.result, watch.at = result, time.monotonic()
        watch.settled.set()
        if previous is None or previous.status != result.status:
            watch.since = time.time()
            before = previous.status if previous is not None else None
            self._observer.emit(HealthChanged(watch.name, result.status, before, result.message))


class _Watch:
    """A check, its latest result and whether it runs; `settled` while nobody needs to wait for it."""

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self.check = check
        self.result: CheckData | None = None
        self.at = 0.0
        self.since: float | None = None
        self.running = False
        self.settled = asyncio.Event()

    def age(self) -> float:
        """Seconds since the latest result."""
        return time.monotonic() - self.at if self.result is not None else float("inf")


async def _outcome(check: Check) -> CheckData:
    try:
        return await check.look()
    except PocketAgentError as error:
        return CheckData("unhealthy", error.message)
    except Exception as error:  # noqa: BLE001 - the border of a check: a fault in one must not end the server
        return CheckData("unhealthy", f"The check failed: {type(error).__name__}.")


def overall(results: Mapping[str, CheckData]) -> Status:
    """The guide's sum: without storage nothing works, without anything else not everything."""
    if results["storage"].status == "unhealthy":
        return "unhealthy"
    return "healthy" if all(result.status == "healthy" for result in results.values()) else "degraded"
