"""A service that notifications go to: an HTTP server on loopback that takes apprise's JSON, or does not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tests.server.room import until


class Receiver:
    """What it got, and how it behaves.

    Attributes:
        port: where it listens.
        got: the bodies that it got, whatever it answered.
        status: what it answers with.
        hangs: whether it answers only when it is closed.
    """

    def __init__(self) -> None:
        self.port = 0
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.hangs = False
        self.go_on = asyncio.Event()

    @property
    def url(self) -> str:
        """Its address for apprise, with something in it that nobody may see."""
        return f"json://me:hunter2@127.0.0.1:{self.port}/secret-path?cto=1&rto=1"

    @property
    def titles(self) -> list[str]:
        """The titles of what it got."""
        return [str(body["title"]) for body in self.got]

    async def until(self, count: int) -> None:
        """Wait until it got so many."""
        await until(lambda: len(self.got) >= count)

    async def take(self, request: web.Request) -> web.Response:
        """Take a notification."""
        self.got.append(await request.json())
        if self.hangs:
            await self.go_on.wait()
        return web.Response(status=self.status)


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/secret-path", receiver.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        receiver.go_on.set()
        await runner.cleanup()
