"""From the first open to an approved tool call; and everything else that can be said to what an agent asks."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, ViewportSize, expect
from tests.harness.browser import DESKTOP, PHONE, WAIT_MS, page_of
from tests.harness.scene import Stage
from tests.harness.screen import Screen, pocket_agent, screen

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE_PHONE = ViewportSize(width=390, height=844)
SMALL_PHONE = ViewportSize(width=320, height=568)


@pytest.mark.parametrize("size", [LARGE_PHONE, PHONE, DESKTOP], ids=["phone", "small phone", "desktop"])
async def test_from_the_first_open_to_an_approved_tool_call_and_its_result(
    stage: Stage, browser: Browser, tmp_path: Path, size: ViewportSize
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    base = f"http://127.0.0.1:{stage.server.port}"
    async with page_of(browser, base, size) as page:
        seen = Screen(page, base)
        await expect(page.get_by_text("pocket-agent pair")).to_be_visible(timeout=WAIT_MS)
        code = (await pocket_agent(stage.server, "pair")).split("/pair#")[1].strip()
        await page.goto(f"{base}/pair#{code}")
        await expect(page.get_by_label("Code")).to_have_value(code)
        assert "#" not in page.url, "the code is not left in the address"
        await page.get_by_label("What to call this device").fill("my phone")
        await seen.button("Pair").click()
        await page.get_by_role("button", name="New project").or_(seen.button("Choose a directory")).first.click()
        await page.get_by_label("Directory").fill(str(folder)[:-2])
        await page.get_by_role("option", name="shop").click()
        await seen.button("Create").click()
        await expect(page.get_by_role("heading", name="shop", exact=True)).to_be_visible(timeout=WAIT_MS)
        await seen.send("demo:bash=echo approved > result.txt && cat result.txt")
        await expect(seen.dock).to_contain_text("echo approved > result.txt && cat result.txt", timeout=WAIT_MS)
        await seen.says_state("Waiting for approval")
        assert not (folder / "result.txt").exists()
        await expect(page).to_have_title("(1) shop · Pocket Agent")
        await seen.answer("Allow")
        await expect(seen.dock).to_be_hidden(timeout=WAIT_MS)
        await seen.is_idle()
        card = page.get_by_label("Run echo approved")
        await expect(card.locator(".output")).to_have_text("approved")
        await expect(card).to_contain_text("Allowed by my phone")
        await expect(page.locator(".row-result")).to_contain_text("Done")
        await expect(page.locator(".row-result")).to_contain_text("$")
        assert (folder / "result.txt").read_text() == "approved\n"
        await seen.is_not_wider_than_the_screen()
        await page.goto(base)
        row = page.locator(".project", has_text=str(folder))
        await expect(row).to_contain_text("Idle")
        await expect(row).to_contain_text("just now")


async def test_a_denial_says_why(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, "laptop") as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:bash=touch denied.txt")
        await seen.answer("Deny")
        await seen.page.get_by_label("Reason, for the agent").fill("Use the other folder, please.")
        await seen.answer("Deny")
        await seen.is_idle()
        await seen.says("Denied by laptop: Use the other folder, please.")
        await seen.says("The tool was refused or failed")
    assert stage.model.saw("Use the other folder, please.")
    assert not (folder / "denied.txt").exists()


async def test_what_was_changed_is_what_runs(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:bash=touch first.txt")
        await seen.answer("Edit")
        field = seen.dock.get_by_label("Change command")
        await expect(field).to_have_value("touch first.txt")
        await field.fill("touch second.txt")
        await seen.answer("Allow with changes")
        await seen.is_idle()
        card = seen.page.get_by_label("Run touch second.txt")
        await expect(card).to_contain_text("requested", timeout=WAIT_MS)
        await expect(card.locator(".removed")).to_contain_text("touch first.txt")
        await expect(card.locator(".added")).to_contain_text("touch second.txt")
        await seen.reload()
        await expect(card.locator(".removed")).to_contain_text("touch first.txt", timeout=WAIT_MS)
    assert [path.name for path in folder.iterdir()] == ["second.txt"]


async def test_what_is_allowed_for_the_session_is_not_asked_again(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:edit=note.md")
        await expect(seen.dock).to_contain_text("Write note.md?", timeout=WAIT_MS)
        await expect(seen.dock).to_contain_text("The demo model wrote this.")
        await expect(seen.dock).to_contain_text("Permission mode: all edits of files")
        await seen.answer("Allow for this session", exact=False)
        await seen.is_idle()
        await seen.says("I wrote note.md, read it back and edited it.")
    assert "wrote and edited this" in (folder / "note.md").read_text()


async def test_it_is_seen_wherever_somebody_is(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        projects = []
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
            projects.append((await client.create_project(str(tmp_path / name))).id)
        await seen.open(projects[0])
        await client.execute(projects[1], "demo:bash=touch elsewhere.txt")
        await expect(seen.dock).to_contain_text("Run this command? in there", timeout=WAIT_MS)
        await seen.page.get_by_role("link", name="Settings").first.click()
        await expect(seen.dock).to_contain_text("touch elsewhere.txt")
        await seen.reload()
        await expect(seen.dock).to_contain_text("touch elsewhere.txt", timeout=WAIT_MS)
        await seen.answer("Fold")
        await expect(seen.dock.get_by_role("button", name="Allow")).to_be_hidden()
        await expect(seen.dock).to_be_visible()
        await seen.answer("Unfold")
        await seen.dock.get_by_role("link", name="there").click()
        await seen.is_live()
        await seen.answer("Allow")
        await seen.is_idle()
    assert (tmp_path / "there" / "elsewhere.txt").exists()


async def test_an_answer_of_another_device_says_whose_it_was(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:bash=touch answered.txt")
        await expect(seen.dock).to_be_visible(timeout=WAIT_MS)
        (waiting,) = [one for one in (await client.watch()).approvals if one.project_id == project.id]
        await client.approve(project.id, waiting.approval.approval_id)
        await expect(seen.dock).to_contain_text("Allowed by test", timeout=WAIT_MS)
        await expect(seen.dock).to_be_hidden(timeout=WAIT_MS)
        await seen.is_idle()
        await seen.says("Allowed by test")


async def test_several_at_once_are_answered_one_after_the_other(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:parallel=3")
        for number in (1, 2, 3):
            await expect(seen.dock).to_contain_text(f"demo-parallel-{number}.txt", timeout=WAIT_MS)
            await seen.answer("Allow")
        await seen.is_idle()
    assert sorted(path.name for path in folder.iterdir()) == [f"demo-parallel-{number}.txt" for number in (1, 2, 3)]


async def test_a_question_of_the_agent_is_answered_by_choosing(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, size=PHONE) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:ask")
        await expect(seen.dock).to_contain_text("The agent has a question", timeout=WAIT_MS)
        answer = seen.dock.get_by_role("button", name="Answer")
        await expect(answer).to_be_disabled()
        await seen.dock.get_by_label("PostgreSQL").check()
        await seen.dock.get_by_label("Daily").check()
        await seen.dock.get_by_label("Another answer: Which reports are wanted?").fill("Hourly")
        await answer.click()
        await seen.is_idle()
        await seen.says("So be it.")
        card = seen.page.get_by_label("Question Where")
        await expect(card.get_by_label("PostgreSQL")).to_be_checked()
        await expect(card.get_by_label("Daily")).to_be_checked()
        await expect(card.locator(":checked")).to_have_count(2)
        await expect(card).to_contain_text("Answer: Hourly")
        await expect(card.locator(".question.answered")).to_have_count(2)
    assert stage.model.saw("PostgreSQL")
    assert stage.model.saw("Daily, Hourly")


async def test_characters_that_are_not_seen_are_marked(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "safe\u202eevil"
    folder.mkdir()
    command = "echo hi \u2067; touch x #\u2069 \u200b\U000e0041\u3164"
    shown = "echo hi <U+2067>; touch x #<U+2069> <U+200B><U+E0041><U+3164>"
    async with stage.server.client() as client, screen(browser, stage.server, size=LARGE_PHONE) as seen:
        project = await client.create_project(str(folder))
        await expect(seen.page.locator(".project", has_text="safe<U+202E>evil")).to_be_visible(timeout=WAIT_MS)
        await client.execute(project.id, f"demo:bash={command}")
        await expect(seen.dock).to_contain_text(shown, timeout=WAIT_MS)
        await expect(seen.dock).to_contain_text("in safe<U+202E>evil")
        await expect(seen.dock.get_by_role("alert")).to_contain_text("invisible or change the reading order")
        await seen.answer("Edit")
        await expect(seen.dock.get_by_label("Change command")).to_have_value(command)
        await expect(seen.dock).to_contain_text(shown)
        await seen.answer("Back")
        await seen.open(project.id)
        await seen.answer("Deny")
        await seen.answer("Deny")
        await seen.is_idle()
        await expect(seen.page.get_by_label(f"Run {shown[:20]}")).to_be_visible(timeout=WAIT_MS)
        await expect(seen.page.get_by_role("heading", name="safe<U+202E>evil")).to_be_visible()
        assert "\u2067" not in str(await seen.page.locator(".tool").text_content())


async def test_what_the_open_project_asks_for_comes_first(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    name = "a-project-whose-name-goes-on-and-on-until-no-phone-shows-it-in-one-line-" + "x" * 60
    async with stage.server.client() as client, screen(browser, stage.server, size=SMALL_PHONE) as seen:
        ids = []
        for one in (name, "other"):
            (tmp_path / one).mkdir()
            ids.append((await client.create_project(str(tmp_path / one))).id)
        await client.execute(ids[0], "demo:bash=touch elsewhere.txt")
        await expect(seen.dock).to_contain_text("touch elsewhere.txt", timeout=WAIT_MS)
        heading = seen.dock.get_by_role("heading")
        await expect(heading).to_have_text(f"Run this command? in {name}")
        assert await heading.evaluate("(one) => one.scrollWidth <= one.clientWidth && one.scrollHeight > 50")
        await seen.is_not_wider_than_the_screen()
        await seen.open(ids[1])
        await seen.send("demo:bash=touch here.txt")
        await expect(seen.dock).to_contain_text("touch here.txt", timeout=WAIT_MS)
        await expect(seen.dock).to_contain_text("1 of 2")
        await seen.dock.get_by_role("button", name="1 of 2").click()
        await expect(seen.dock).to_contain_text("touch elsewhere.txt")
        await seen.open(ids[1])
        await seen.answer("Allow")
        await seen.is_idle()
        assert (tmp_path / "other" / "here.txt").exists()
        assert not (tmp_path / name / "elsewhere.txt").exists()
        await seen.dock.get_by_role("link").click()
        await seen.answer("Allow")
        await seen.is_idle()


async def test_the_request_that_is_being_answered_stays(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        ids = []
        for one in ("answered", "open"):
            (tmp_path / one).mkdir()
            ids.append((await client.create_project(str(tmp_path / one))).id)
        await seen.open(ids[1])
        await client.execute(ids[0], "demo:bash=touch elsewhere.txt")
        await seen.answer("Deny")
        await expect(seen.page.get_by_label("Reason, for the agent")).to_be_focused()
        await seen.page.keyboard.type("not th")
        await client.execute(ids[1], "demo:bash=touch here.txt")
        await expect(seen.dock).to_contain_text("2 of 2", timeout=WAIT_MS)
        await seen.page.keyboard.type("ere\n")
        await expect(seen.dock).to_contain_text("touch here.txt", timeout=WAIT_MS)
        await seen.answer("Allow")
        await seen.is_idle()
    assert stage.model.saw("not there")


async def test_typing_never_answers(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await client.execute(project.id, "demo:bash=touch typed.txt")
        await expect(seen.dock).to_be_visible(timeout=WAIT_MS)
        await seen.advance_clock(0)  # a slow machine is no pause in typing
        # The first letter opens the field, even where the buttons that allow do nothing yet.
        await seen.page.keyboard.type("dwait, banana, aa")
        await expect(seen.page.get_by_label("Reason, for the agent")).to_have_value("wait, banana, aa")
        await seen.answer("Back")
        allow = seen.dock.get_by_role("button", name="Allow", exact=True)
        await expect(allow).to_be_enabled()
        # Nobody is in a field now, but was a moment ago.
        for word in ("wait", "salad", "aardvark aa", "said", "stop", "A"):
            await seen.page.keyboard.type(word)
        await seen.prompt_field.focus()
        await seen.page.keyboard.type("banana aa")
        await seen.page.keyboard.press("Escape")
        await seen.page.keyboard.type("aa")
        await expect(allow).to_be_enabled()
        await expect(seen.page.locator(".toast")).to_have_count(0)
        assert not (folder / "typed.txt").exists()
        await seen.press_twice("a")
        await expect(seen.dock).to_be_hidden(timeout=WAIT_MS)
        await seen.is_idle()
    assert (folder / "typed.txt").exists()


async def test_all_of_a_long_command_can_be_read_before_it_is_allowed(
    stage: Stage, browser: Browser, folder: Path
) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, size=SMALL_PHONE) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await client.execute(project.id, f"demo:bash=: {'x' * 120_000} ; touch the-end.txt")
        code = seen.dock.locator(".dock-call")
        await expect(code).to_contain_text("touch the-end.txt", timeout=WAIT_MS)
        assert await seen.dock.evaluate("""(dock) => {
            const body = dock.querySelector('.dock-body');
            body.scrollTop = body.scrollHeight;
            const end = document.createRange();
            end.selectNodeContents(body.querySelector('code'));
            end.collapse(false);
            const last = end.getBoundingClientRect();
            return last.bottom <= dock.querySelector('.allow').getBoundingClientRect().top;
        }""")
        await seen.answer("Deny")
        await seen.answer("Deny")
        await seen.is_idle()
