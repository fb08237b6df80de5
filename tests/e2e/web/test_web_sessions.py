"""Sessions of a terminal on the phone: listed with their command, read, and continued."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, ViewportSize, expect
from tests.e2e.web.test_web_screen import is_sound
from tests.harness.browser import PHONE, WAIT_MS
from tests.harness.claude import require_claude
from tests.harness.follow import eventually
from tests.harness.recorder import RecordingModel, said
from tests.harness.scene import Stage
from tests.harness.screen import screen
from tests.harness.server import running_server
from tests.harness.sessions import Machine, answer, name_of
from tests.harness.terminal import in_terminal, prepare_home

from pocket_agent.demo.demo_process import child_environment

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL_PHONE = ViewportSize(width=320, height=640)
WORDS = ("quince", "medlar", "rowan", "sloe", "bullace")
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


async def test_a_session_goes_from_the_terminal_to_the_phone_and_back(
    tmp_path: Path, browser: Browser, folder: Path
) -> None:
    home, claude, model = tmp_path / "user", str(require_claude()), RecordingModel()
    prepare_home(home, folder)
    environment = child_environment(await model.start(), home)
    env = {"PA_CLAUDE_BINARY": claude, **environment}
    try:
        async with (
            running_server(tmp_path / "server", env=env) as server,
            server.client() as client,
            screen(browser, server, size=PHONE) as seen,
        ):
            project = await client.create_project(str(folder))
            await seen.open(project.id)
            await seen.choose("Older sessions")
            dialog = seen.page.get_by_role("dialog")
            session = dialog.locator(".sessions").get_by_role("listitem")
            await expect(dialog).to_contain_text("No sessions yet", timeout=WAIT_MS)
            flags = [claude, "--permission-mode=default"]
            async with in_terminal(flags, folder, home, environment) as terminal:
                await terminal.prompt("demo:text a quince")
                await expect(session).to_contain_text("Open in a terminal", timeout=WAIT_MS)
                session_id = terminal.session_id
                await session.get_by_role("button", name="Read").click()
                records = dialog.get_by_role("log", name="Session")
                await expect(records).to_contain_text("a quince", timeout=WAIT_MS)
                await terminal.prompt("demo:text a medlar")
                await expect(records).to_contain_text("a medlar", timeout=WAIT_MS)
                await eventually(lambda: terminal.answers == 2, "the CLI keeps both answers")
            await expect(dialog).to_contain_text("Not open in a terminal", timeout=WAIT_MS)
            await seen.page.keyboard.press("Escape")
            await session.get_by_role("button", name="Resume").click()
            await seen.says("a medlar")
            await seen.send("demo:text a rowan")
            await eventually(lambda: bool(model.saw("a rowan")), "the model is asked")
            await seen.is_idle()
            await client.release_session(project.id)
            async with in_terminal([*flags, f"--resume={session_id}"], folder, home, environment) as terminal:
                await terminal.prompt("demo:text a sloe")
                await seen.says("a sloe")
                await server.kill()
                await terminal.prompt("demo:text a bullace")
                await eventually(lambda: terminal.answers == 4, "the CLI keeps both answers")
            await server.start()
            await seen.is_live()
            await seen.says("a bullace")
            rows = seen.page.get_by_role("log", name="Conversation").locator(".prompt-text")
            await expect(rows).to_have_text([f"demo:text a {word}" for word in WORDS], timeout=WAIT_MS)
            (body,) = model.saw("a bullace")
            assert all(f"a {word}" in said(body) for word in WORDS)
    finally:
        await model.stop()
