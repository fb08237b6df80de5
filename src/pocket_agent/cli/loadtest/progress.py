"""How a load test is going: a line that changes on a terminal, a line now and then elsewhere."""

import asyncio
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pocket_agent.load.driver import Driver
from pocket_agent.load.histogram import Histogram
from pocket_agent.load.plan import Plan

_TERMINAL_SECONDS: Final = 0.25
_PLAIN_SECONDS: Final = 5.0


class Progress:
    """Tells how a test is going."""

    def __init__(self, driver: Driver, plan: Plan, console: Console) -> None:
        self._driver = driver
        self._plan = plan
        self._console = console

    async def run(self) -> None:
        """Tell it until cancelled."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(_PLAIN_SECONDS)
                self._console.print(self.line(), soft_wrap=True)
        with Live(self.line(), console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                await asyncio.sleep(_TERMINAL_SECONDS)
                live.update(self.line(), refresh=True)

    def line(self) -> Text:
        """Where the test stands."""
        tally, plan = self._driver.tally, self._plan
        p95_seconds = Histogram.merged(tally.latency.values()).quantile(0.95)
        failed = tally.failed.total()
        parts = [
            f"{self._driver.seconds:.0f} of {plan.duration_seconds:g} s",
            f"{tally.opened} of {plan.connections} connections",
            f"{tally.scheduled} requests, {tally.answered.total()} answered, {failed} failed",
            f"p95 {p95_seconds * 1000:.1f} ms",
            f"{tally.pushes} pushes",
        ]
        return Text(" · ".join(parts), style="red" if failed or tally.unopened else "")
