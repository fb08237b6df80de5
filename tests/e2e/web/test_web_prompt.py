"""Giving prompts, and everything that can be done with an agent beside answering it."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tests.harness.browser import PHONE, WAIT_MS
from tests.harness.follow import eventually
from tests.harness.scene import Stage
from tests.harness.screen import screen

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_prompts_of_several_lines_by_keyboard(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        await seen.open((await client.create_project(str(folder))).id)
        await seen.page.keyboard.press("/")
        await expect(seen.prompt_field).to_be_focused()
        await seen.page.keyboard.type("first line")
        await seen.page.keyboard.press("Shift+Enter")
        await seen.page.keyboard.type("second line")
        await seen.page.keyboard.press("Enter")
        await expect(seen.prompt_field).to_have_value("")
        await expect(seen.page.locator(".prompt-text")).to_have_text("first line\nsecond line", timeout=WAIT_MS)
        await seen.is_idle()


async def test_on_a_touch_screen_enter_is_a_new_line(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, size=PHONE) as seen:
        await seen.open((await client.create_project(str(folder))).id)
        await seen.prompt_field.fill("one")
        await seen.prompt_field.press("Enter")
        await seen.page.keyboard.type("two")
        await expect(seen.prompt_field).to_have_value("one\ntwo")
        assert await seen.prompt_field.evaluate("(field) => parseFloat(getComputedStyle(field).fontSize)") >= 16


async def test_a_draft_survives_a_reload_and_stays_with_its_project(
    stage: Stage, browser: Browser, tmp_path: Path
) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        ids = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            ids.append((await client.create_project(str(tmp_path / name))).id)
        await seen.open(ids[0])
        await seen.prompt_field.fill("half a thou")
        await seen.reload()
        await expect(seen.prompt_field).to_have_value("half a thou")
        await seen.open(ids[1])
        await expect(seen.prompt_field).to_have_value("")
        await seen.open(ids[0])
        await expect(seen.prompt_field).to_have_value("half a thou")


async def test_an_agent_is_interrupted_by_a_key(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        await seen.open((await client.create_project(str(folder))).id)
        await seen.send("demo:slow=60s")
        await expect(seen.page.locator(".said.live")).to_contain_text("00003", timeout=WAIT_MS)
        await seen.prompt_field.press("Escape")
        await seen.press_twice("s")
        await seen.is_idle()
        end = seen.page.locator(".row-result")
        await expect(end).to_contain_text("Stopped", timeout=WAIT_MS)
        await expect(end).not_to_contain_text(re.compile(r"\b0 tokens in"))


async def test_a_conversation_is_begun_again_resumed_and_forked(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        await seen.send("demo:text the first conversation")
        await seen.is_idle()
        await seen.says("This is a plain answer of the demo model.")
        await seen.choose("New session")
        await seen.says("New session")
        await seen.send("demo:text the second conversation")
        await expect(seen.page.locator(".row-result")).to_have_count(2, timeout=WAIT_MS)
        await seen.choose("Older sessions")
        rows = seen.page.get_by_role("dialog").get_by_role("listitem")
        await expect(rows).to_have_count(2, timeout=WAIT_MS)
        await expect(rows.first).to_contain_text("This one")
        first = rows.filter(has_text="the first conversation")
        await first.get_by_role("button", name="Resume").click()
        await expect(seen.page.get_by_text("The next prompt continues")).to_be_visible(timeout=WAIT_MS)
        await seen.send("demo:text and on it goes")
        await expect(seen.page.locator(".row-result")).to_have_count(3, timeout=WAIT_MS)
        sessions = await client.sessions(project_id)
        (current,) = [one for one in sessions if one.current]
        assert "the first conversation" in current.title
        await seen.choose("Older sessions")
        await rows.filter(has_text="the second conversation").get_by_role("button", name="Fork").click()
        await expect(seen.page.get_by_text("continues a copy of")).to_be_visible(timeout=WAIT_MS)
        await seen.send("demo:text elsewhere")
        await expect(seen.page.locator(".row-result")).to_have_count(4, timeout=WAIT_MS)
        assert len(await client.sessions(project_id)) == 3
    assert len(stage.model.saw("the second conversation")) == 2, "once alone, once in what was forked"
    assert len(stage.model.saw("the first conversation")) == 2, "once alone, once as what came before"


async def test_a_new_conversation_can_be_taken_back(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        await seen.send("demo:text")
        await seen.is_idle()
        await expect(seen.page.locator(".row-result")).to_have_count(1, timeout=WAIT_MS)
        (session,) = await client.sessions(project_id)
        await seen.choose("New session")
        await seen.button("Undo").click()

        async def is_back() -> bool:
            (state,) = [one for one in await client.projects() if one.id == project_id]
            return state.session_id == session.session_id

        await eventually(is_back, "the conversation is the old one again")


async def test_model_and_permission_mode_are_chosen(stage: Stage, browser: Browser, folder: Path) -> None:
    async with (
        stage.server.client() as client,
        screen(browser, stage.server) as seen,
        screen(browser, stage.server) as other,
    ):
        project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        await other.open(project_id)
        await seen.page.get_by_role("button", name="Model: Default").click()
        await seen.page.get_by_label("Haiku").click()
        await expect(other.page.get_by_role("button", name="Model: Haiku")).to_be_visible(timeout=WAIT_MS)
        await other.page.get_by_role("button", name="Permission mode: Ask").click()
        await other.page.get_by_label("Edits files without asking").click()
        await expect(seen.page.get_by_role("button", name="Permission mode: Edit")).to_be_visible(timeout=WAIT_MS)
        await seen.send("demo:edit=note.md")
        await seen.is_idle()
        await seen.says("I wrote note.md")
        await seen.page.get_by_role("button", name="Model: Haiku").click()
        await seen.page.get_by_label("Another model").fill("no-such-model")
        await seen.button("Use").click()
        await expect(other.page.get_by_role("button", name="Model: no-such-model")).to_be_visible(timeout=WAIT_MS)
        await seen.page.get_by_role("button", name="Permission mode: Edit").click()
        await seen.page.get_by_label("Never asks").click()
        await expect(seen.page.get_by_text("is switched off on this server")).to_be_visible(timeout=WAIT_MS)
    assert (folder / "note.md").exists()


async def test_what_is_written_is_set_and_can_be_copied(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        await seen.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await seen.open((await client.create_project(str(folder))).id)
        await seen.send("demo:markdown")
        await seen.is_idle()
        said = seen.page.locator(".row-text .markdown")
        await expect(said.get_by_role("heading", name="What I found")).to_be_visible(timeout=WAIT_MS)
        await expect(said.get_by_role("table")).to_contain_text("3 for 2")
        await expect(said.get_by_role("checkbox")).to_have_count(3)
        await expect(said.get_by_role("link", name="the decimal module")).to_have_attribute("target", "_blank")
        python = said.locator("figure.code").first
        await expect(python.locator(".hljs-keyword").first).to_have_text("from", timeout=WAIT_MS)
        await python.get_by_role("button", name="Copy code").click()
        copied = await seen.page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("from decimal import ROUND_HALF_EVEN, Decimal\n")
        assert copied.rstrip().endswith("ROUND_HALF_EVEN)")


async def test_thinking_is_folded_and_todos_are_a_list(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        await seen.open((await client.create_project(str(folder))).id)
        await seen.send("demo:think")
        await seen.is_idle()
        thought = seen.page.get_by_label("Thinking")
        await expect(thought.get_by_role("button")).to_have_attribute("aria-expanded", "false", timeout=WAIT_MS)
        await thought.get_by_role("button").click()
        await expect(thought.locator(".markdown")).to_contain_text("This is a thought.")
        await seen.send("demo:todo")
        await seen.says("The todo list is done.")
        await expect(seen.page.locator(".todo").last.get_by_role("listitem")).to_have_count(2)
        await expect(seen.page.get_by_label("Todo 2 of 2 done")).to_be_visible()
