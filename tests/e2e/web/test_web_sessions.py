"""Sessions of a terminal on the phone: listed with their command, read, and continued."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, ViewportSize, expect
from tests.e2e.web.test_web_screen import is_sound
from tests.harness.browser import WAIT_MS
from tests.harness.follow import eventually
from tests.harness.scene import Stage
from tests.harness.screen import screen
from tests.harness.sessions import Machine, answer, name_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL_PHONE = ViewportSize(width=320, height=640)
TURNS = 70
"""More records than a page has."""


async def test_a_session_of_a_terminal_is_read_and_continued(stage: Stage, browser: Browser, folder: Path) -> None:
    machine = Machine(Path(stage.server.env["HOME"]) / ".claude", folder)
    machine.write(*(part for turn in range(TURNS) for part in (machine.prompt(f"ask {turn}."), answer(f"say {turn}."))))
    async with stage.server.client() as client, screen(browser, stage.server, size=SMALL_PHONE) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.choose("Older sessions")
        dialog = seen.page.get_by_role("dialog")
        session = dialog.locator(".sessions").get_by_role("listitem")
        await expect(session).to_contain_text(f"Terminal · {TURNS} turns", timeout=WAIT_MS)
        await expect(session.locator("code")).to_contain_text(f"claude --resume={name_of(1)}")
        await is_sound(seen)
        await session.get_by_role("button", name="Read").click()
        await expect(dialog.get_by_text(f"say {TURNS - 1}.")).to_be_visible(timeout=WAIT_MS)
        await is_sound(seen)
        machine.append(answer("said live."))
        await expect(dialog.get_by_text("said live.")).to_be_visible(timeout=WAIT_MS)
        records = dialog.get_by_role("log", name="Session")

        async def is_at_the_beginning() -> bool:
            await records.evaluate("list => { list.scrollTop = 0; }")
            return await dialog.get_by_text("ask 0.", exact=True).is_visible()

        await eventually(is_at_the_beginning, "the oldest record is read")
        machine.append(answer("said below."))
        await expect(dialog.get_by_text("ask 0.", exact=True)).to_be_visible(timeout=WAIT_MS)
        await expect(dialog.get_by_text("said below.")).to_have_count(0)
        await dialog.get_by_role("button", name="Newest").click()
        await expect(dialog.get_by_text("said below.")).to_be_visible(timeout=WAIT_MS)
        await seen.page.keyboard.press("Escape")
        await session.get_by_role("button", name="Resume").click()
        await expect(seen.page.get_by_text("The next prompt continues “ask 0.”.")).to_be_visible(timeout=WAIT_MS)
        # The conversation begins with the history of the session.
        await seen.says("said below.")
        await expect(seen.page.get_by_text("Back to “ask 0.”")).to_be_visible(timeout=WAIT_MS)
        await is_sound(seen)
        conversation = seen.page.get_by_role("log", name="Conversation")

        async def begins_with_history() -> bool:
            await conversation.evaluate("list => { list.scrollTop = 0; }")
            return await conversation.get_by_text("ask 0.", exact=True).is_visible()

        await eventually(begins_with_history, "the oldest record is shown")
        await client.delete_project(project.id)
