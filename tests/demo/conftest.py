"""A running scripted model for the tests of `pocket_agent.demo`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from tests.harness import DEADLINE_SECONDS

from pocket_agent.demo.scripted_model import ScriptedModel


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    """A scripted model that is stopped after the test; the test starts it."""
    scripted = ScriptedModel()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client whose answers a test waits for within a generous bound."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Waits until a condition holds, within a generous bound."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await condition():  # noqa: ASYNC110 (other processes set no Event)
                await asyncio.sleep(0.02)

    return wait
