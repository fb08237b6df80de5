"""Questions of MCP servers in the web client: a form, or an address, made for a thumb and a keyboard."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tests.harness.browser import PHONE, WAIT_MS
from tests.harness.follow import follow
from tests.harness.question import FORM, OPTIONS, answer_of, asking
from tests.harness.scene import Stage
from tests.harness.screen import screen

from pocket_agent.client import Frame

pytestmark = pytest.mark.asyncio(loop_scope="session")


def is_result(frame: Frame) -> bool:
    return frame.type == "agent_message" and frame.data["type"] == "result"


async def test_a_form_is_filled_in_on_a_phone(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, "phone", size=PHONE) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        async with client.subscribe(project.id, since=0) as stream:
            await client.execute(project.id, asking(FORM), options=OPTIONS)
            dock = seen.dock
            await expect(dock).to_contain_text("crm has a question", timeout=WAIT_MS)
            await expect(dock).to_contain_text("Whom is this for?")
            await expect(dock.get_by_role("checkbox", name="Urgent")).to_be_checked()
            await expect(dock.get_by_role("combobox", name="Kind")).to_have_value("new")
            await seen.is_not_wider_than_the_screen()
            await seen.has_controls_for_fingers()
            await seen.cuts_no_text()
            name = dock.get_by_role("textbox", name="Name")
            await seen.answer("Answer")
            await expect(name).to_be_focused()  # it is required, and empty
            await name.fill("Ada")
            await dock.get_by_role("spinbutton", name="Size").fill("3")
            await dock.get_by_role("combobox", name="Kind").select_option("old")
            await dock.get_by_role("group", name="Tags").get_by_role("checkbox", name="blue").check()
            await dock.get_by_role("checkbox", name="Urgent").uncheck()
            await name.press("Enter")
            frames = await follow(stream, is_result)
        content = {"name": "Ada", "size": 3, "kind": "old", "tags": ["blue"], "urgent": False}
        assert answer_of(frames) == {"action": "accept", "content": content}
        await expect(dock).to_be_hidden(timeout=WAIT_MS)
        await seen.says("answered by phone")


async def test_an_address_is_opened_by_the_user_only(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, "laptop") as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        actions = (
            ("https://crm.example/login?state=1", "Done", "accept"),
            ("javascript:alert(1)", "Dismiss", "cancel"),
        )
        for url, button, action in actions:
            question = {"mode": "url", "message": "Log in.", "url": url, "elicitationId": "e-1", "complete": True}
            async with client.subscribe(project.id) as stream:
                await client.execute(project.id, asking(question), options=OPTIONS)
                await expect(seen.dock).to_contain_text(url, timeout=WAIT_MS)
                link = seen.dock.get_by_role("link", name="Open this page")
                if action == "accept":
                    await expect(link).to_have_attribute("href", url)
                    await expect(link).to_have_attribute("rel", "noopener noreferrer")
                else:
                    await expect(link).to_have_count(0)
                await seen.answer(button)
                assert answer_of(await follow(stream, is_result)) == {"action": action}
            await expect(seen.dock).to_be_hidden(timeout=WAIT_MS)
        await seen.says("reports that its page is done")
