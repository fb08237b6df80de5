"""People who do not look are told, though a page of theirs is still open somewhere."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tests.harness.browser import WAIT_MS
from tests.harness.claude import require_claude
from tests.harness.screen import screen
from tests.harness.server import running_server
from tests.notification.receiver import receiving

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_page_behind_others_does_not_keep_its_owner_from_being_told(
    tmp_path: Path, browser: Browser, folder: Path
) -> None:
    async with receiving() as receiver:
        env = {
            "PA_CLAUDE_BINARY": str(require_claude()),
            "PA_NOTIFICATIONS_URLS": receiver.url,
            "PA_NOTIFICATIONS_APPROVAL_DELAY": "0s",
            "PA_NOTIFICATIONS_FINISHED_AFTER": "0s",
            "PA_NOTIFICATIONS_PROJECT_PAUSE": "0s",
        }
        async with (
            running_server(tmp_path, env=env, flags=["--demo"]) as server,
            server.client() as client,
            screen(browser, server) as seen,
        ):
            project_id = (await client.create_project(str(folder))).id
            await seen.open(project_id)
            await seen.send("demo:bash=touch seen.txt")
            await expect(seen.dock).to_be_visible(timeout=WAIT_MS)
            await seen.answer("Allow")
            await seen.is_idle()
            await seen.send("demo:bash=touch unseen.txt")
            await expect(seen.dock).to_be_visible(timeout=WAIT_MS)
            await seen.look(away=True)
            await receiver.until(1)
            await seen.look(away=False)
            await seen.answer("Allow")
            await seen.is_idle()
            await seen.look(away=True)
            await client.execute(project_id, "good morning")
            await receiver.until(2)
            # What happened while somebody looked was told on the page alone.
            assert receiver.titles == [f"Approval wanted: {folder.name}", f"Finished: {folder.name}"]
