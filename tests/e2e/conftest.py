"""One server with the real CLI, and one browser, for all tests that leave them as they found them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser
from tests.harness.browser import browsing
from tests.harness.claude import require_claude
from tests.harness.recorder import RecordingModel
from tests.harness.scene import Stage
from tests.harness.screen import BUILD
from tests.harness.server import running_server

from pocket_agent.demo.demo_process import child_environment


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A server with the real CLI, and the scripted model in the test's own process.

    Its tests make a project of their own each, and run on the session's event loop:
    `pytestmark = pytest.mark.asyncio(loop_scope="session")`.
    """
    binary = require_claude()
    folder = tmp_path_factory.mktemp("stage")
    home = folder / "claude-home"
    home.mkdir()
    model = RecordingModel()
    base_url = await model.start()
    env = {
        "PA_CLAUDE_BINARY": str(binary),
        # A CLI process takes 240 MB; old ones make room.
        "PA_CLAUDE_MAX_PROCESSES": "4",
        "PA_LIMITS_MAX_EXECUTIONS": "4",
        **child_environment(base_url, home),
    }
    try:
        async with running_server(folder, env=env) as server:
            yield Stage(server, model)
    finally:
        await model.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A real browser; each test opens contexts of its own, and closes them."""
    if not BUILD.exists():
        pytest.fail("the web client is not built: run scripts/web")
    async with browsing() as opened:
        yield opened
