"""Settings of a project that come later: the page says that they wait, shows them, and lets a person accept them."""

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tests.harness.browser import WAIT_MS, violations
from tests.harness.screen import screen
from tests.harness.server import running_server, write_standin

pytestmark = pytest.mark.asyncio(loop_scope="session")


def hooks(*commands: str) -> str:
    """Settings with a hook for each of these commands."""
    found = [{"hooks": [{"type": "command", "command": command}]} for command in commands]
    return json.dumps({"hooks": {"SessionStart": found}})


async def test_what_is_new_is_shown_first_and_accepted_as_it_was_shown(tmp_path: Path, browser: Browser) -> None:
    folder = tmp_path / "shop"
    (folder / ".claude").mkdir(parents=True)
    settings = folder / ".claude" / "settings.json"
    settings.write_text(hooks("./format"))
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with (
        running_server(tmp_path, env=env) as server,
        server.client() as client,
        screen(browser, server, "phone", size={"width": 320, "height": 568}) as seen,
        screen(browser, server, "wall", view_only=True) as watching,
    ):
        project = await client.create_project(str(folder))
        settings.write_text(hooks("./format", "echo \u202ehtap"))
        await seen.open(project.id)
        await watching.open(project.id)
        await seen.send("lines 3")
        hold = seen.page.get_by_label("The queue is on hold")
        await expect(hold).to_contain_text("New or changed: .claude/settings.json (1).", timeout=WAIT_MS)
        await expect(hold.get_by_role("button")).to_have_text(["Review", "Keep", "Drop"])
        watched = watching.page.get_by_label("The queue is on hold")
        await expect(watched).to_contain_text("has not been accepted", timeout=WAIT_MS)
        await expect(watched.get_by_role("button")).to_have_count(0)

        await hold.get_by_role("button", name="Review").click()
        sheet = seen.page.get_by_role("dialog", name="Settings of the project")
        listed = sheet.get_by_role("listitem")
        await expect(listed).to_have_text(
            ["Runs: SessionStart: command: echo <U+202E>htap", "Runs: SessionStart: command: ./format"], timeout=WAIT_MS
        )
        await expect(sheet.locator(".path")).to_have_text(["New .claude/settings.json", " .claude/settings.json"])
        await seen.has_all_its_styles()
        await seen.has_controls_for_fingers()
        await seen.is_not_wider_than_the_screen()
        assert await violations(seen.page) == []

        settings.write_text(hooks("./format", "./other"))
        await sheet.get_by_role("button", name="Accept").click()
        await expect(sheet.get_by_role("alert").last).to_contain_text("changed since they were shown", timeout=WAIT_MS)
        await expect(listed.first).to_have_text("Runs: SessionStart: command: ./other")
        await expect(hold).to_be_attached()
        await sheet.get_by_role("button", name="Accept").click()
        await expect(hold).to_have_count(0, timeout=WAIT_MS)
        await expect(sheet).to_have_count(0)
        await seen.is_idle()
        await expect(seen.queue).to_have_count(0)
