"""Fixtures of the client's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.client.scripted import ScriptedServer, scripted_server


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A scripted server on a free loopback port."""
    async with scripted_server() as started:
        yield started
