"""Long conversations: only what is seen is in the document, and all of it can be reached."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ViewportSize, expect
from tests.harness.browser import DESKTOP, PHONE, WAIT_MS
from tests.harness.follow import run
from tests.harness.screen import screen
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.client import Client

pytestmark = pytest.mark.asyncio(loop_scope="session")

ENTRIES: Final = 4_000
"""Entries of a long log: more than the client keeps, which is 2,500 (`webui/src/conversation/timeline.ts`)."""
MOST_ROWS: Final = 120
"""Rows in the document at any time; they are some 50 pixels high here."""


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server whose agents say a word for each word of the prompt, each as an entry of its own."""
    async with running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}) as started:
        yield started


async def long_log(client: Client, folder: Path, entries: int = ENTRIES) -> str:
    """A project with a long log: entry 1 is the prompt, the rest are numbered words."""
    project = await client.create_project(str(folder))
    async with client.subscribe(project.id) as stream:
        await run(client, stream, " ".join(f"word-{number:05}" for number in range(1, entries + 1)))
    return project.id


SCROLL = """async (direction) => {
    const list = document.querySelector('.list');
    const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const found = new Set();
    let most = 0;
    let still = 0;
    const collect = () => {
        for (const row of list.querySelectorAll('.row-text')) found.add(row.innerText.trim());
        most = Math.max(most, list.querySelectorAll('.list-row').length);
    };
    while (still < 100) {
        if (still === 0) collect();
        const before = list.scrollTop;
        list.scrollTop += direction * list.clientHeight * 1.5;
        await frame();
        still = Math.abs(list.scrollTop - before) < 1 ? still + 1 : 0;
        if (still > 0) await new Promise((done) => setTimeout(done, 20));
    }
    collect();
    return [[...found], most];
}"""
"""Scrolls until there is nothing more for a while; what was seen, and the most rows that there were."""


@pytest.mark.parametrize("entries", [3_000, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_thousands_of_entries_are_scrolled_through_in_both_directions(
    server: ServerProcess, browser: Browser, folder: Path, entries: int
) -> None:
    words = {f"word-{number:05}" for number in range(1, entries + 1)}
    async with server.client() as client, screen(browser, server, size=PHONE) as seen:
        await seen.open(await long_log(client, folder, entries))
        await seen.says(f"word-{entries:05}")
        up, most_up = await seen.page.evaluate(SCROLL, -1)
        assert set(up) == words
        await expect(seen.page.locator(".row-prompt")).to_be_visible()
        down, most_down = await seen.page.evaluate(SCROLL, 1)
        assert set(down) == words, "what was let go is read again"
        assert max(most_up, most_down) <= MOST_ROWS
        await expect(seen.page.locator(".row-result")).to_be_visible()


def written(number: int, lines: int) -> str:
    """A prompt for the stand-in: it writes a file of so many lines."""
    content = "".join(f"line_{line}_of_{lines}\n" for line in range(1, lines + 1))
    call = {"type": "tool_use", "id": f"t{number}", "name": "Write", "input": {"file_path": "/a", "content": content}}
    line = {"type": "assistant", "message": {"role": "assistant", "content": [call]}}
    return f"print {json.dumps(line, separators=(',', ':'))}"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_after_a_long_write_the_end_is_in_view(
    server: ServerProcess, browser: Browser, folder: Path, size: ViewportSize
) -> None:
    async with server.client() as client, screen(browser, server, size=size) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        for number, lines in enumerate((40, 100, 400, 5000), 1):
            async with client.subscribe(project.id) as stream:
                await run(client, stream, written(number, lines))
            end = seen.page.locator(f".list-row:has-text('line_1_of_{lines}') ~ .list-row .row-result")
            await expect(end).to_be_visible(timeout=WAIT_MS)
            await seen.ends_with_its_last_row()
            await seen.reload()
            await seen.is_live()
            await expect(end).to_be_visible(timeout=WAIT_MS)
            await seen.ends_with_its_last_row()
        await seen.button("Show all").last.click()
        await seen.page.locator(".list").evaluate("(list) => { list.scrollTop = list.scrollHeight; }")
        await seen.ends_with_its_last_row()
        await seen.is_not_longer_than_the_screen()


async def test_what_is_read_stays_in_its_place_while_more_comes(
    server: ServerProcess, browser: Browser, folder: Path
) -> None:
    async with server.client() as client, screen(browser, server) as seen:
        project_id = await long_log(client, folder)
        await seen.open(project_id)
        await seen.says(f"word-{ENTRIES:05}")
        place = """async () => {
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            const list = document.querySelector('.list');
            const top = list.getBoundingClientRect().top;
            const row = [...list.querySelectorAll('.list-row')]
                .find((one) => one.getBoundingClientRect().bottom > top + 1);
            return [row.dataset.key, Math.round(row.getBoundingClientRect().top - top)];
        }"""
        await seen.page.evaluate("document.querySelector('.list').scrollTop -= 3000")
        await expect(seen.button("Newest")).to_be_visible()
        before = await seen.page.evaluate(place)
        async with client.subscribe(project_id) as stream:
            await run(client, stream, "more and more and more")
        await expect(seen.page.locator(".conversation-title p")).to_contain_text("Idle")
        assert await seen.page.evaluate(place) == before
        await seen.button("Newest").click()
        await expect(seen.page.locator(".row-prompt")).to_contain_text("more and more and more", timeout=WAIT_MS)
        await expect(seen.button("Newest")).to_be_hidden()


async def test_from_far_back_the_newest_is_one_step_away(server: ServerProcess, browser: Browser, folder: Path) -> None:
    async with server.client() as client, screen(browser, server) as seen:
        project_id = await long_log(client, folder)
        await seen.open(project_id)
        await seen.says(f"word-{ENTRIES:05}")
        await seen.page.evaluate(SCROLL, -4)
        async with client.subscribe(project_id) as stream:
            await run(client, stream, "the newest words")
        await expect(seen.page.get_by_label("Conversation", exact=True)).not_to_contain_text("the newest words")
        await seen.page.keyboard.press("e")
        await expect(seen.page.locator(".row-prompt")).to_contain_text("the newest words", timeout=WAIT_MS)
        await seen.send("and these come live")
        await expect(seen.page.locator(".row-result")).to_have_count(3, timeout=WAIT_MS)
        await expect(seen.page.locator(".row-prompt").last).to_contain_text("and these come live")


async def test_a_huge_text_is_shown_by_its_beginning(server: ServerProcess, browser: Browser, folder: Path) -> None:
    async with server.client() as client, screen(browser, server) as seen:
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        async with client.subscribe(project.id) as stream:
            await run(client, stream, "x" * 900_000)
        await seen.page.locator(".said").get_by_role("button", name="Show all (900 KB)").click()
        length = await seen.page.locator("pre.plain").evaluate("(element) => element.textContent.length")
        assert length == 900_000
