"""What phones, poor networks and other scripts do to the page: keyboards, the back gesture, compositions, outages."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, ViewportSize, expect
from tests.harness.browser import PHONE, WAIT_MS, page_of
from tests.harness.follow import stored
from tests.harness.scene import Stage
from tests.harness.screen import BUILD, pairing_code, screen, told
from tests.harness.server import running_server, write_standin

pytestmark = pytest.mark.asyncio(loop_scope="session")

_COMPOSE = """([codes, before]) => {
    const field = document.querySelector('.composer-text');
    field.dispatchEvent(new CompositionEvent('compositionstart', { bubbles: true }));
    if (before) field.dispatchEvent(new CompositionEvent('compositionend', { bubbles: true }));
    for (const keyCode of codes) {
        const event = new KeyboardEvent('keydown', { key: 'Enter', keyCode, bubbles: true, cancelable: true });
        field.dispatchEvent(event);
    }
    if (!before) field.dispatchEvent(new CompositionEvent('compositionend', { bubbles: true }));
}"""
"""Ends a composition by Enter: `before` is Safari's order, in which the composition has ended when the key comes."""


async def test_a_phone(stage: Stage, browser: Browser, folder: Path) -> None:
    """One project: its examples, the back gesture, compositions, text of either direction, and the keyboard."""
    async with stage.server.client() as client, screen(browser, stage.server, size=PHONE) as seen:
        page = seen.page
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await page.get_by_role("button", name="What does this project do").click()
        await expect(seen.prompt_field).to_have_value("What does this project do, and how is it built?")
        # The back gesture closes what is open, and only then leaves the page.
        await seen.choose("Model")
        await expect(page.get_by_role("dialog", name="Model")).to_be_visible()
        await page.go_back()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page).to_have_url(f"{seen.base}/p/{project.id}")
        await seen.choose("Permission mode")
        await page.get_by_label("Never asks").click()
        await expect(page.get_by_text("is switched off on this server")).to_be_visible(timeout=WAIT_MS)
        await expect(page.get_by_label("Never asks")).not_to_be_checked()
        await expect(page.get_by_label("Asks before it changes anything")).to_be_checked()
        await page.get_by_role("button", name="Close").click()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await seen.has_left_sheets()
        await page.go_back()
        await expect(page.get_by_role("heading", name="Projects", exact=True)).to_be_visible(timeout=WAIT_MS)
        await page.go_forward()
        await seen.is_live()
        # A composition that ends sends nothing, in any order.
        await page.evaluate("matchMedia = () => ({ matches: false, addEventListener() {} })")
        await seen.prompt_field.fill("demo:text שלום")
        for codes, before in (([229], True), ([13], True), ([229], False)):
            await page.evaluate(_COMPOSE, [codes, before])
        await expect(seen.prompt_field).to_have_value("demo:text שלום")
        await expect(seen.prompt_field).to_have_attribute("dir", "auto")
        await seen.send("demo:text שלום")
        await expect(page.locator(".prompt-text")).to_have_attribute("dir", "auto", timeout=WAIT_MS)
        await seen.is_idle()
        # A keyboard that lies over the page, as on an iPhone: only the visual viewport gets smaller.
        await seen.send("demo:ask")
        await expect(seen.dock.get_by_label("Another answer: Which reports")).to_be_attached(timeout=WAIT_MS)
        await page.evaluate("""() => {
            for (const [name, value] of [['height', 380], ['offsetTop', 0]]) {
                Object.defineProperty(visualViewport, name, { get: () => value, configurable: true });
            }
            document.querySelector('.dock .question:last-child input[type=text]').focus();
            visualViewport.dispatchEvent(new Event('resize'));
        }""")
        assert await page.evaluate("document.activeElement.getBoundingClientRect().bottom") <= 380
        await seen.choose("Older sessions")
        sheet = page.get_by_role("dialog")
        await expect(sheet).to_contain_text("This one", timeout=WAIT_MS)
        await page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => 0)))")
        assert await sheet.evaluate("(one) => one.getBoundingClientRect().bottom") <= 381
        await page.keyboard.press("Escape")
        await client.kill(project.id)


async def test_a_stop_holds_the_queue_and_what_was_written_stays(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:slow=60s")
        await expect(seen.page.locator(".said.live")).to_contain_text("00003", timeout=WAIT_MS)
        await seen.send("demo:text after it")
        await expect(seen.queue).to_have_count(1, timeout=WAIT_MS)
        await seen.button("Stop").click()
        hold = seen.page.get_by_label("The queue is on hold")
        await expect(hold).to_be_visible(timeout=WAIT_MS)
        await expect(seen.queue).to_have_count(1)
        await hold.get_by_role("button", name="Keep").click()
        await expect(hold.get_by_role("button", name="Keep")).to_be_hidden()
        await expect(hold.get_by_role("button", name="Drop")).to_be_visible()
        await hold.get_by_role("button", name="Run").click()
        await seen.says("This is a plain answer of the demo model.")
        await seen.is_idle()
        # Killed, and loaded again: nothing that was said is lost.
        await seen.send("demo:slow=60s")
        await expect(seen.page.locator(".said.live")).to_contain_text("00003", timeout=WAIT_MS)
        await seen.choose("Kill the execution")
        await seen.page.get_by_role("dialog").get_by_role("button", name="Kill", exact=True).click()
        await seen.says("The execution was killed.")
        await expect(seen.page.get_by_role("dialog")).to_be_hidden()
        await seen.reload()
        await seen.says("The agent was stopped while writing this.")
        await expect(seen.page.locator(".said").last).to_contain_text("00001 00002 00003")
        # What is resumed is named.
        (session, *_) = await client.sessions(project.id)
        await client.resume(project.id, session.session_id, fork=True)
        await seen.says("Copy of “demo:slow=60s”")
        await expect(seen.page.locator(".session-name")).to_contain_text("demo:slow=60s")


async def test_a_stop_names_its_execution(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:slow=60s first")
        await expect(seen.page.locator(".said.live")).to_contain_text("00002", timeout=WAIT_MS)
        sent = await seen.page.evaluate_handle("""() => {
            const sent = [];
            const send = WebSocket.prototype.send;
            WebSocket.prototype.send = function (text) { sent.push(text); return send.call(this, text); };
            return sent;
        }""")
        await seen.button("Stop").click()
        await seen.is_idle()
        frames = str(await sent.evaluate("(sent) => sent.join()"))
        (execution,) = (await client.executions(project.id)).executions
        assert execution.execution_id in frames.partition("agent_interrupt")[2]


async def test_the_network_of_the_device_goes_and_comes(stage: Stage, browser: Browser, folder: Path) -> None:
    size = ViewportSize(width=320, height=640)
    async with stage.server.client() as client, screen(browser, stage.server, size=size) as seen:
        await seen.open((await client.create_project(str(folder))).id)
        await seen.page.context.set_offline(True)
        await expect(seen.page.locator(".stream.offline")).to_be_visible()
        await expect(seen.button("Try now")).to_be_visible()
        await seen.cuts_no_text()
        await seen.page.context.set_offline(False)
        await seen.is_live()


async def test_a_code_survives_a_reload_until_it_is_used(stage: Stage, browser: Browser) -> None:
    code = pairing_code(stage.server, "reloaded")
    base = f"http://127.0.0.1:{stage.server.port}"
    async with page_of(browser, f"{base}/pair#{code}", PHONE) as page:
        await expect(page.get_by_label("Code")).to_have_value(code)
        await page.reload()
        await expect(page.get_by_label("Code")).to_have_value(code)
        assert code not in page.url
        await page.get_by_role("button", name="Pair", exact=True).click()
        await expect(page.get_by_role("heading", name="Projects", exact=True)).to_be_visible(timeout=WAIT_MS)
        assert await page.evaluate("sessionStorage.length") == 0
        await page.goto(f"{base}/settings")
        await page.get_by_label("Text size").select_option("150")
        assert await page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") == 22.5
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("dialog")).to_contain_text("needs a new pairing code")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("heading", name="Settings")).to_be_visible()


async def test_no_page_flashes_in_another_theme(stage: Stage, browser: Browser) -> None:
    base = f"http://127.0.0.1:{stage.server.port}"
    size = ViewportSize(width=390, height=844)
    for system, chosen, colour in (("dark", None, "rgb(19, 20, 23)"), ("light", "dark", "rgb(19, 20, 23)")):
        context = await browser.new_context(viewport=size, color_scheme=system)  # type: ignore[arg-type]
        page = await context.new_page()
        if chosen:
            await page.add_init_script(f"localStorage.setItem('theme', JSON.stringify('{chosen}'))")
        await page.route("**/assets/*.js", lambda route: route.abort())
        await page.goto(base)
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == colour
        await context.close()


async def test_another_version_of_the_page_is_offered(stage: Stage, browser: Browser) -> None:
    page = BUILD.read_text("utf-8")
    async with screen(browser, stage.server) as seen:
        offer = seen.page.get_by_text("The server has another version of this page.")
        for kind in ("js", "css"):
            changed = re.sub(rf"(/assets/index-)[\w-]+(\.{kind})", r"\1other\2", page)
            assert changed != page
            await expect(offer).to_have_count(0)
            await seen.page.evaluate(
                """(page) => {
                    const real = fetch;
                    fetch = async (path, ...more) => path === '/' ? new Response(page) : real(path, ...more);
                    dispatchEvent(new Event('offline'));
                }""",
                changed,
            )
            await expect(offer).to_be_visible(timeout=WAIT_MS)
            await seen.button("Load it").click()
            await expect(offer).to_have_count(0, timeout=WAIT_MS)


async def test_a_late_stop_and_what_becomes_of_the_queue(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:slow=60s first")
        await expect(seen.page.locator(".said.live")).to_contain_text("00002", timeout=WAIT_MS)
        await seen.page.context.set_offline(True)
        await expect(seen.page.locator(".stream.offline")).to_be_visible(timeout=WAIT_MS)
        await seen.button("Stop").click()
        await client.kill(project.id)
        second = await client.execute(project.id, "demo:slow=60s second")
        await seen.page.context.set_offline(False)
        await seen.is_live()
        # The server refuses the stop of an execution that has ended, and the later one goes on.
        await expect(seen.page.locator(".toast.danger")).to_be_visible(timeout=WAIT_MS)
        await expect(seen.page.locator(".said.live")).to_contain_text("00002", timeout=WAIT_MS)
        running = [one for one in (await client.executions(project.id)).executions if one.status == "running"]
        assert [one.execution_id for one in running] == [second.execution_id]
        # Drop empties the queue; nothing of it runs.
        for prompt in ("third", "fourth"):
            await seen.send(prompt)
        await expect(seen.queue).to_have_count(2, timeout=WAIT_MS)
        await seen.button("Stop").click()
        hold = seen.page.get_by_label("The queue is on hold")
        await hold.get_by_role("button", name="Drop").click()
        await expect(seen.queue).to_have_count(0)
        await expect(hold).to_have_count(0)
        await seen.is_idle()
        prompts = [one.words for one in told(await stored(client, project.id)) if one.kind == "prompt"]
        assert prompts == ["demo:slow=60s first", "demo:slow=60s second"]


async def test_a_prompt_that_is_sent_while_older_entries_are_read_is_shown(
    stage: Stage, browser: Browser, folder: Path
) -> None:
    async with stage.server.client() as client, screen(browser, stage.server, size=PHONE) as seen:
        await seen.open((await client.create_project(str(folder))).id)
        for number in (1, 2):
            await seen.send("demo:markdown")
            await expect(seen.page.locator(".row-result")).to_have_count(number, timeout=WAIT_MS)
        await seen.page.locator(".list").evaluate("(list) => { list.scrollTop = 0; }")
        await expect(seen.button("Newest")).to_be_visible()
        await seen.send("demo:text from above")
        await expect(seen.page.get_by_text("demo:text from above")).to_be_in_viewport()
        await expect(seen.button("Newest")).to_have_count(0)


async def test_the_first_steps_with_the_demo_model_and_without_the_cli(
    browser: Browser, tmp_path: Path, folder: Path
) -> None:
    binary = tmp_path / "missing" / "claude"
    async with (
        running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(binary)}, flags=["--demo"]) as server,
        server.client() as client,
        screen(browser, server, size=PHONE) as seen,
    ):
        await seen.open((await client.create_project(str(folder))).id)
        await expect(seen.page.get_by_text("The demo model is in use: a script, not an AI.")).to_be_visible()
        examples = seen.page.get_by_label("Examples").get_by_role("button")
        assert all(words.startswith("demo:") for words in await examples.all_inner_texts())
        await examples.filter(has_text="demo:markdown").click()
        await expect(seen.prompt_field).to_have_value("demo:markdown")
        await seen.send("one word")
        refused = seen.queue.filter(has_text="one word")
        await expect(refused).to_contain_text("npm install")
        await expect(refused).to_contain_text("PA_CLAUDE_BINARY")
        await seen.cuts_no_text()
        await seen.has_controls_for_fingers()
        reason = await refused.locator("small").bounding_box()
        button = await refused.get_by_role("button").first.bounding_box()
        assert reason is not None
        assert button is not None
        assert reason["y"] + reason["height"] <= button["y"], "the reason has the whole width, above the buttons"
        await refused.get_by_role("button", name="Take back").click()
        await expect(seen.prompt_field).to_have_value("one word")
        await expect(seen.queue).to_have_count(0)
        await seen.send("another")
        await expect(seen.queue).to_contain_text("npm install")
        binary.parent.mkdir()
        write_standin(binary.parent)
        await seen.button("Try again").click()
        await seen.says("another")
        await expect(seen.queue).to_have_count(0)
