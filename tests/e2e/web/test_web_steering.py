"""While the agent works: prompts for the running turn, and tasks in the background that are stopped."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, ViewportSize, expect
from tests.e2e.web.test_web_screen import is_sound
from tests.harness.browser import WAIT_MS
from tests.harness.follow import eventually
from tests.harness.scene import Stage
from tests.harness.screen import screen

from pocket_agent.client import Client
from pocket_agent.model import ExecuteOptions

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL_PHONE = ViewportSize(width=320, height=640)


async def test_prompts_join_the_running_turn(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, size=SMALL_PHONE) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:bash=touch made.txt")
        await expect(seen.dock).to_be_visible(timeout=WAIT_MS)
        joined = seen.page.locator(".row-prompt", has_text="into the running turn")
        await seen.prompt_field.fill("demo:text at once")
        await is_sound(seen)
        await seen.button("Send now").click()
        await expect(joined).to_have_count(1, timeout=WAIT_MS)
        await expect(joined).to_contain_text("at once")
        await seen.send("demo:text later")
        await expect(seen.queue).to_have_count(1, timeout=WAIT_MS)
        await is_sound(seen)
        await seen.queue.get_by_role("button", name="Send now").click()
        await expect(seen.queue).to_have_count(0, timeout=WAIT_MS)
        await expect(joined).to_have_count(2, timeout=WAIT_MS)
        await seen.answer("Allow")
        await seen.is_idle()
        assert (folder / "made.txt").exists()
        await expect(seen.button("Send now")).to_have_count(0)
        await client.delete_project(project.id)


async def test_a_task_in_the_background_is_shown_and_stopped(stage: Stage, browser: Browser, folder: Path) -> None:
    async with (
        stage.server.client() as client,
        screen(browser, stage.server, size=SMALL_PHONE) as seen,
        screen(browser, stage.server, size=SMALL_PHONE, view_only=True) as watcher,
    ):
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await watcher.open(project.id)
        await client.execute(project.id, "demo:background=sleep 600", options=ExecuteOptions(allowed_tools=("Bash",)))
        for one in (seen, watcher):
            task = one.page.get_by_label("Background tasks").get_by_role("listitem")
            await expect(task).to_contain_text("Run in the background", timeout=WAIT_MS)
            await expect(task).to_contain_text("Command")
        await seen.is_idle()
        await is_sound(seen)
        await expect(watcher.page.get_by_role("button", name="Stop")).to_have_count(0)
        await seen.button("Stop Run in the background").click()
        for one in (seen, watcher):
            await expect(one.page.get_by_label("Background tasks")).to_have_count(0, timeout=WAIT_MS)
        await client.delete_project(project.id)


async def has_run_all(client: Client, project_id: str) -> None:
    """Wait until no prompt runs or waits. Between two prompts, and before the first, a page shows Idle."""

    async def look() -> bool:
        (project,) = (one for one in await client.projects() if one.id == project_id)
        return project.state == "IDLE" and project.queue_depth == 0

    await eventually(look, "all prompts have run")


async def test_a_prompt_replaces_the_running_one(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, size=SMALL_PHONE) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:slow=60s")
        await seen.says_state("Working")
        await seen.send("demo:text later")
        await expect(seen.queue).to_have_count(1, timeout=WAIT_MS)
        await seen.prompt_field.fill("demo:text in its place")
        await is_sound(seen)
        await seen.button("Send instead").click()
        await has_run_all(client, project.id)
        await seen.says("demo:text later")
        prompts = [line.words for line in await seen.told() if line.kind == "prompt"]
        assert prompts == ["demo:slow=60s", "demo:text in its place", "demo:text later"]
        await client.delete_project(project.id)


async def test_context_servers_and_limits_are_shown_and_files_set_back(
    stage: Stage, browser: Browser, folder: Path
) -> None:
    note = folder / "note.md"
    async with stage.server.client() as client, screen(browser, stage.server, size=SMALL_PHONE) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        dialog = seen.page.get_by_role("dialog")
        await seen.choose("Context, MCP servers and limits")
        await expect(dialog).to_contain_text("No agent runs", timeout=WAIT_MS)
        await seen.page.keyboard.press("Escape")
        await seen.has_left_sheets()
        await client.execute(project.id, "demo:edit=note.md", options=ExecuteOptions(permission_mode="acceptEdits"))
        await has_run_all(client, project.id)
        assert note.exists()
        await seen.choose("Context, MCP servers and limits")
        await expect(dialog.get_by_label("Context window")).to_contain_text("tokens", timeout=WAIT_MS)
        await expect(dialog.get_by_label("MCP servers")).to_contain_text("The agent has no MCP servers.")
        await expect(dialog.get_by_label("Usage limits")).to_contain_text("no usage limits", timeout=WAIT_MS)
        await is_sound(seen)
        await seen.page.keyboard.press("Escape")
        await seen.has_left_sheets()
        await seen.choose("Set files back")
        await expect(dialog).to_contain_text(str(note), timeout=WAIT_MS)
        await is_sound(seen)
        await seen.button("Set back").click()
        await expect(seen.page.get_by_text("as they were before the last prompt")).to_be_visible(timeout=WAIT_MS)
        assert not note.exists()
        await client.delete_project(project.id)
