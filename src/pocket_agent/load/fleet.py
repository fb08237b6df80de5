"""The connections of a load test: opened over the ramp, kept open, and closed at the end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from pocket_agent.client import Client, Frame, Status
from pocket_agent.errors import PocketAgentError
from pocket_agent.load.tally import Tally


class Connect(Protocol):
    """What makes the clients."""

    def __call__(self, *, on_status: Callable[[Status], None], on_push: Callable[[Frame], None]) -> Client:
        """A client that is not connected yet."""


class Fleet:
    """Opens connections and holds them.

    Attributes:
        clients: those that were opened; one that has lost its connection is opening it again.
    """

    def __init__(self, connect: Connect, tally: Tally) -> None:
        self._connect = connect
        self._tally = tally
        self._over = asyncio.Event()
        self.clients: list[Client] = []

    @contextlib.asynccontextmanager
    async def member(self) -> AsyncIterator[Client]:
        """A connection, open for as long as the block.

        Raises:
            PocketAgentError: it cannot be opened.
        """
        connections = 0

        def on_status(status: Status) -> None:
            nonlocal connections
            connections += status.online
            self._tally.reconnects += status.online and connections > 1

        began = time.monotonic()
        async with self._connect(on_status=on_status, on_push=self._tally.pushed) as client:
            self._tally.connected(time.monotonic() - began)
            self.clients.append(client)
            yield client

    def launch(self, group: asyncio.TaskGroup, count: int, ramp_seconds: float) -> None:
        """Open `count` further connections, evenly within `ramp_seconds`, in tasks of the group."""
        for number in range(1, count + 1):
            group.create_task(self._follow(number * ramp_seconds / (count + 1)))

    def disband(self) -> None:
        """Close all connections but the first; those that are not open yet are not opened any more."""
        self._over.set()

    async def _follow(self, delay_seconds: float) -> None:
        """Open a connection when its time has come, and keep it until the fleet is disbanded."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_seconds):
                await self._over.wait()
                return
        try:
            async with self.member():
                await self._over.wait()
        except PocketAgentError as error:
            self._tally.unconnected(error)
