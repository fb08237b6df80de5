"""One browser for all stories of the web client; each story has windows of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser
from tests.harness.browser import browsing
from tests.harness.screen import BUILD


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A real browser."""
    if not BUILD.exists():
        pytest.fail("the web client is not built: run scripts/web")
    async with browsing() as opened:
        yield opened
