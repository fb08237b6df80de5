"""Several conversations of a project: begun, told apart, answered, put away and deleted."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, ViewportSize, expect
from tests.e2e.web.test_web_screen import is_sound
from tests.harness.browser import DESKTOP, PHONE, WAIT_MS
from tests.harness.font import LARGE, SMALL
from tests.harness.repository import repository
from tests.harness.scene import Stage
from tests.harness.screen import Look, Screen, screen

from pocket_agent.protocol.requests import WorktreeRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL_PHONE = ViewportSize(width=320, height=640)


async def chooses(seen: Screen, name: str) -> None:
    """Choose from the menu of a conversation that is not the main one."""
    await seen.button("Conversation menu").click()
    await seen.page.get_by_role("dialog").get_by_role("button", name=name).click()


async def test_a_conversation_from_its_first_prompt_to_its_deletion(
    stage: Stage, browser: Browser, folder: Path
) -> None:
    repository(folder)
    async with stage.server.client() as client, screen(browser, stage.server, size=PHONE) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await expect(seen.button("Conversations")).to_have_count(0)
        await seen.send("demo:text this is the main one")
        await seen.is_idle()
        dialog = seen.page.get_by_role("dialog")

        await seen.choose("New conversation")
        await seen.page.get_by_label("Title").fill("Side work")
        await seen.page.get_by_label("In a git worktree").check()
        await seen.page.get_by_label("Branch", exact=True).fill("side")
        await seen.button("Start").click()
        await expect(seen.page.get_by_role("heading", name="Side work")).to_be_visible(timeout=WAIT_MS)
        await seen.is_live()
        await expect(seen.page.get_by_text("No messages yet")).to_be_visible()
        await seen.prompt_field.fill("a draft of this one alone")
        await seen.button("Conversations").click()
        await dialog.get_by_role("link", name="Main conversation").click()
        await expect(seen.page.get_by_role("heading", name=folder.name)).to_be_visible()
        await seen.says("this is the main one")
        await expect(seen.prompt_field).to_have_value("")

        # It asks while another one is open, and is one tap away.
        (_, side) = (await client.conversations(project.id)).conversations
        await client.execute(str(side.conversation_id), "demo:bash=touch made.txt")
        await seen.dock.get_by_role("link", name=f"{folder.name} / Side work").click()
        await expect(seen.prompt_field).to_have_value("a draft of this one alone")
        await seen.answer("Allow")
        await seen.is_idle()
        assert (Path(side.path) / "made.txt").exists()
        assert not (folder / "made.txt").exists()
        await seen.page.get_by_role("link", name="To the projects").click()
        row = seen.page.locator(".project", has_text=str(folder))
        entry = row.get_by_role("link", name="Side work")
        await expect(entry).to_contain_text("side")
        await expect(entry.get_by_text("New", exact=True)).to_have_count(0)
        await client.execute(str(side.conversation_id), "demo:text more of it")
        await expect(entry.get_by_text("New", exact=True)).to_be_visible(timeout=WAIT_MS)
        await expect(entry.locator(".last-line")).to_have_text("This is a plain answer of the demo model.")
        await seen.is_not_wider_than_the_screen()
        await seen.cuts_no_text()
        await entry.click()
        await seen.says("more of it")

        await chooses(seen, "Rename")
        await seen.page.get_by_label("Title").fill("Renamed")
        await seen.button("Rename").click()
        await expect(seen.page.get_by_role("heading", name="Renamed")).to_be_visible(timeout=WAIT_MS)
        await seen.is_idle()
        await seen.has_left_sheets()
        await chooses(seen, "Archive")
        await expect(seen.page.get_by_role("heading", name=folder.name)).to_be_visible(timeout=WAIT_MS)
        await seen.is_live()
        await seen.button("Conversations").click()
        await expect(dialog.get_by_role("link")).to_have_count(1)
        await dialog.get_by_label("Show archived (1)").check()
        await dialog.get_by_role("link", name="Renamed").click()
        await seen.is_live()
        await chooses(seen, "Take out of the archive")
        await expect(seen.page.get_by_text("Taken out of the archive.")).to_be_visible(timeout=WAIT_MS)

        await seen.has_left_sheets()
        await chooses(seen, "Delete the conversation")
        await dialog.get_by_role("button", name="Delete", exact=True).click()
        await expect(dialog.get_by_text("1 changes that are not committed")).to_be_visible(timeout=WAIT_MS)
        discard = dialog.get_by_role("button", name="Delete with this work")
        await expect(discard).to_be_disabled()
        assert Path(side.path).exists()
        await dialog.get_by_label("Delete this work for good").check()
        await discard.click()
        await expect(seen.page.get_by_role("heading", name=folder.name)).to_be_visible(timeout=WAIT_MS)
        assert not Path(side.path).exists()
        await expect(seen.button("Conversations")).to_have_count(0)
        await seen.go(f"/p/{side.conversation_id}")
        await expect(seen.page.get_by_text("Conversation not found")).to_be_visible(timeout=WAIT_MS)
        await client.delete_project(project.id)


@pytest.mark.parametrize(
    "looks",
    [[Look(SMALL_PHONE, "dark", LARGE), Look(PHONE, "light", SMALL)], [Look(DESKTOP, "dark", LARGE)]],
    ids=["phone", "desktop"],
)
async def test_every_screen_of_conversations_is_sound(
    stage: Stage, browser: Browser, folder: Path, looks: list[Look]
) -> None:
    looks = [*looks]
    size, theme, _ = looks[0]
    repository(folder)
    async with stage.server.client() as client:
        project = await client.create_project(str(folder))
        title = "One with a title that is rather long and has to be cut somewhere or other"
        state = await client.create_conversation(project.id, title=title, worktree=WorktreeRequest())
        key = str(state.conversation_id)
        for number in range(5):
            await client.create_conversation(project.id, title=f"Number {number}")
        await client.archive_conversation(
            str((await client.conversations(project.id)).conversations[-1].conversation_id)
        )
        await client.execute(key, "demo:bash=touch asked.txt")
        async with screen(browser, stage.server, size=size, theme=theme) as seen:
            dialog = seen.page.get_by_role("dialog")
            await expect(seen.dock).to_be_visible(timeout=WAIT_MS)
            await is_sound(seen, looks)
            await seen.button("All 6 conversations").click()
            await dialog.get_by_label("Show archived (1)").check()
            await is_sound(seen, looks)
            await seen.button("New conversation").click()
            await expect(seen.page.get_by_label("In a git worktree")).to_be_enabled(timeout=WAIT_MS)
            await seen.page.get_by_label("In a git worktree").check()
            await seen.page.get_by_label("Continue").select_option(index=1)
            await is_sound(seen, looks)
            await seen.page.keyboard.press("Escape")
            await seen.open(key)
            await is_sound(seen, looks)
            await seen.answer("Deny")
            await seen.answer("Deny")
            await seen.is_idle()
            for choice in ("Conversations", "Rename", "Delete the conversation"):
                await chooses(seen, choice)
                await is_sound(seen, looks)
                await seen.page.keyboard.press("Escape")
                await expect(dialog).to_have_count(0)
                await seen.has_left_sheets()
            (Path(state.path) / "left.txt").touch()
            await chooses(seen, "Delete the conversation")
            await dialog.get_by_role("button", name="Delete", exact=True).click()
            await expect(dialog.get_by_label("Delete this work for good")).to_be_visible(timeout=WAIT_MS)
            await is_sound(seen, looks)
            await seen.page.keyboard.press("Escape")
            if size is DESKTOP:
                await expect(dialog).to_have_count(0)
                await seen.has_left_sheets()
                await seen.advance_clock(5000)  # a letter soon after a field is text
                await seen.page.keyboard.press("c")
                await expect(seen.page.get_by_role("dialog", name="Conversations of")).to_be_visible()
                await seen.page.keyboard.press("Escape")
        async with screen(browser, stage.server, size=size, theme=theme, view_only=True) as watcher:
            await watcher.open(key)
            await watcher.button("Conversations").click()
            await expect(watcher.button("New conversation")).to_have_count(0)
            await is_sound(watcher, looks)
            await watcher.page.keyboard.press("Escape")
            await watcher.button("Conversation menu").click()
            await expect(watcher.page.get_by_role("dialog").get_by_role("listitem")).to_have_count(0)
        await client.delete_conversation(key, discard=True)
        await client.delete_project(project.id)
