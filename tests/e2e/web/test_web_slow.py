"""A link of 50 kB/s: a project opens, whatever large files its log holds, and all of it can be reached."""

from pathlib import Path

import pytest
from benchmarks.opening import EDITS, PROJECT, SLOW, lines
from benchmarks.stage import fill
from playwright.async_api import Browser, expect
from tests.harness.browser import PHONE, WAIT_MS
from tests.harness.proxy import running_proxy
from tests.harness.screen import screen
from tests.harness.server import ServerProcess, started, write_standin

from pocket_agent.client import Client

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_project_with_a_large_file_opens_over_a_slow_link(browser: Browser, tmp_path: Path) -> None:
    made = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    await fill(made, tmp_path / "project", lines())
    async with (
        started(made) as server,
        running_proxy(server.port, pace=SLOW) as proxy,
        screen(browser, server, size=PHONE, port=proxy.port) as seen,
    ):
        await seen.open(PROJECT)
        await expect(seen.page.locator(".row-result")).to_be_visible(timeout=WAIT_MS)
        await seen.ends_with_its_last_row()
        await seen.page.evaluate("document.querySelector('.list').scrollTop = 0")
        write = seen.page.locator(".tool", has_text="Write").first
        await expect(write.get_by_text("value_1 =")).to_be_visible(timeout=WAIT_MS)
        await expect(write.get_by_text("value_900 =")).to_have_count(0)
        await write.get_by_role("button", name="Show all (").click()
        await expect(write.get_by_text("value_900 =")).to_be_visible(timeout=WAIT_MS)
        await write.get_by_role("button", name="Show more").click()
        await expect(write.get_by_text("value_2499 =")).to_be_visible(timeout=WAIT_MS)
        async with Client(f"ws://127.0.0.1:{proxy.port}/ws", token=server.token) as client:
            page = await client.messages(PROJECT, limit=200, max_bytes=131_072, large="reference")
            assert len(page.messages) == 2 * EDITS + 4
            (whole,) = (await client.messages(PROJECT, since=page.messages[4].offset - 1, limit=1)).messages
            assert len(bytes(whole.message)) == page.messages[4].size
