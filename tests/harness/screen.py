"""The web client as a person uses it: one window, with what can be seen and done in it."""

import asyncio
import contextlib
import json
import os
import re
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from playwright.async_api import Browser, Locator, Page, ViewportSize, expect

from pocket_agent.model import ProjectId
from pocket_agent.server.pairing import new_pairing
from pocket_agent.settings import load_settings
from pocket_agent.storage import add_pairing, connection_beside
from pocket_agent.storage.database import database_path
from tests.harness import DEADLINE_SECONDS
from tests.harness.browser import DESKTOP, WAIT_MS, Theme, page_of
from tests.harness.follow import Line, eventually
from tests.harness.server import ServerProcess
from tests.harness.tool import ROOT

BUILD: Final = ROOT / "src" / "pocket_agent" / "web" / "index.html"


_READ_ALL: Final = """async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const list = document.querySelector('.list');
    if (list === null) return [];
    const found = new Map();
    const collect = () => {
        for (const row of list.querySelectorAll('.list-row')) {
            const told = row.querySelector('[data-offset]');
            const kind = told.className.split(' ')[0].replace('row-', '');
            const words = { prompt: '.prompt-text', text: '.markdown' }[kind];
            if (words === undefined && kind !== 'tool') continue;
            const text = words === undefined ? '' : told.querySelector(words).innerText;
            found.set(row.dataset.key, [Number(told.dataset.offset), kind, text]);
        }
    };
    list.scrollTop = 0;
    await frame();
    for (;;) {
        collect();
        const before = list.scrollTop;
        list.scrollTop += list.clientHeight;
        await frame();
        if (list.scrollTop <= before) break;
    }
    collect();
    return [...found.entries()]
        .map(([key, value]) => [key.split('.').map(Number), value])
        .sort(([[a, b]], [[c, d]]) => a - c || b - d)
        .map(([, value]) => value);
}"""
"""Scrolls to the beginning and from there to the end, and gathers what comes into the document."""


_FOLLOW: Final = """(path) => {
    const link = document.createElement('a');
    link.href = path;
    link.dataset.route = '';
    document.body.append(link);
    link.click();
    link.remove();
}"""
"""Clicks on a link of the client to a path."""


_WEAR: Final = """async (font) => {
    const face = new FontFace('Boxes', Uint8Array.from(atob(font), (one) => one.charCodeAt(0)).buffer);
    await face.load();
    document.fonts.clear();
    document.fonts.add(face);
    for (const family of ['--sans', '--mono']) document.documentElement.style.setProperty(family, 'Boxes');
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
"""Shows the page in a font, as `browser.page_of` opens it in one, and waits until all is laid out again."""


class Look(NamedTuple):
    """The size of a screen, the theme that the system prefers, and a font that replaces those of this machine."""

    size: ViewportSize
    theme: Theme
    font: bytes


class Told(NamedTuple):
    """A prompt, a text of the agent or a tool call, by what of it has to be seen."""

    offset: int
    kind: str
    words: str


def told(lines: Sequence[Line]) -> list[Told]:
    """What a log tells in prompts, texts and tool calls."""
    found = []
    for line in lines:
        data = json.loads(line.data)
        if line.type == "prompt":
            found.append(Told(line.offset, "prompt", _words(data["prompt"])))
        elif line.type == "agent_message" and data["type"] == "assistant":
            found += [
                Told(line.offset, block["type"].removesuffix("_use"), _words(block.get("text", "")))
                for block in data["message"]["content"]
                if block["type"] in {"text", "tool_use"}
            ]
    return found


def _words(text: str) -> str:
    """A text without what setting it changes."""
    return " ".join(text.split())


class Screen:
    """One window of the web client."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base

    @property
    def prompt_field(self) -> Locator:
        """Where a prompt is written."""
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def dock(self) -> Locator:
        """What an agent asks for."""
        return self.page.get_by_label("Approval wanted")

    @property
    def queue(self) -> Locator:
        """The prompts that wait, one each."""
        return self.page.get_by_label("Queued prompts").get_by_role("listitem")

    @property
    def rows(self) -> Locator:
        """What of the conversation is in the document."""
        return self.page.locator("[data-offset]")

    def button(self, name: str) -> Locator:
        """A button by its whole name."""
        return self.page.get_by_role("button", name=name, exact=True)

    async def open(self, project_id: str) -> None:
        """Show a project, and wait until it is live.

        From the list of projects this follows a link within the client, which takes a third of the processor time of
        loading the client again.
        """
        path = f"/p/{project_id}"
        if self.page.url == f"{self.base}/":
            await self.page.evaluate(_FOLLOW, path)
        else:
            await self.go(path)
        await self.is_live()

    async def go(self, path: str) -> None:
        """Load a page of the client."""
        await self.has_left_sheets()
        await self.page.goto(self.base + path)

    async def reload(self) -> None:
        """Load the page again."""
        await self.has_left_sheets()
        await self.page.reload()

    async def has_left_sheets(self) -> None:
        """Wait until a sheet that was closed has taken back its entry of the history, which is done a moment later.

        Going back or to another page before that would be undone by it, or undo it.
        """
        is_left = "document.querySelector('dialog[open]') !== null || history.state?.sheet !== true"
        await eventually(lambda: self.page.evaluate(is_left), "no sheet is in the history")

    async def wear(self, look: Look) -> None:
        """Change how the page is shown; a phone stays one, and so does a desktop."""
        await self.page.set_viewport_size(look.size)
        await self.page.emulate_media(color_scheme=look.theme)
        await self.page.evaluate(_WEAR, b64encode(look.font).decode())

    async def send(self, prompt: str) -> None:
        """Write a prompt and send it; whether it runs or waits is not waited for."""
        await self.prompt_field.fill(prompt)
        await (
            self.page.locator(".composer")
            .get_by_role("button", name="Send", exact=True)
            .or_(self.page.locator(".composer").get_by_role("button", name="Add to the queue"))
            .click()
        )
        await expect(self.prompt_field).to_have_value("")

    async def answer(self, name: str, *, exact: bool = True) -> None:
        """Press a button of what the agent asks for, by its whole name or (not `exact`) by a part of it."""
        await self.dock.get_by_role("button", name=name, exact=exact).first.click(timeout=WAIT_MS)

    async def advance_clock(self, milliseconds: int) -> None:
        """Move the page's time forward and stop it there; its timers run on."""
        now = await self.page.evaluate("Date.now()")
        await self.page.clock.set_fixed_time((now + milliseconds) / 1000)

    async def press_twice(self, key: str) -> None:
        """Press a key that needs a second press, outside of any field and after a pause in typing."""
        await self.advance_clock(5000)
        await self.page.keyboard.press(key)
        await expect(self.page.get_by_text(f"Press {key} again to")).to_be_visible()
        await self.advance_clock(500)
        await self.page.keyboard.press(key)
        await self.page.clock.set_system_time(await self.page.evaluate("Date.now() / 1000"))

    async def is_live(self) -> None:
        """Wait until the conversation says that it is live."""
        await expect(self.page.locator(".stream.live")).to_be_visible(timeout=WAIT_MS)

    async def is_idle(self) -> None:
        """Wait until the project has nothing to do."""
        await self.says_state("Idle")

    async def says_state(self, name: str) -> None:
        """Wait until the project's state is this."""
        await expect(self.page.locator(".conversation-title p")).to_contain_text(name, timeout=WAIT_MS)

    async def says(self, text: str) -> None:
        """Wait until the conversation contains this."""
        await expect(self.page.get_by_label("Conversation", exact=True)).to_contain_text(text, timeout=WAIT_MS)

    async def choose(self, name: str) -> None:
        """Choose from the project's menu."""
        await self.button("Project menu").click()
        await self.page.get_by_role("dialog").get_by_role("button", name=name).click()

    async def look(self, *, away: bool) -> None:
        """Bring another window in front of this one, or this one to the front again, as far as its page can tell.

        A headless browser has no window that hides another.
        """
        await self.page.evaluate(
            """(away) => {
                Object.defineProperty(document, 'hidden', { get: () => away, configurable: true });
                document.dispatchEvent(new Event('visibilitychange'));
            }""",
            away,
        )

    async def told(self) -> list[Told]:
        """All prompts, texts and tool calls of the conversation, read by scrolling through it from its beginning."""
        found = await self.page.evaluate(_READ_ALL)
        return [Told(offset, kind, _words(text)) for offset, kind, text in found]

    async def is_not_wider_than_the_screen(self) -> None:
        """Nothing has to be scrolled sideways."""
        beyond = await self.page.evaluate("""() => {
            const isCut = (element) => getComputedStyle(element).overflowX !== 'visible'
                && element.getBoundingClientRect().right <= innerWidth + 1;
            const found = [...document.querySelectorAll('body *')].filter((element) => {
                if (element.getBoundingClientRect().right <= innerWidth + 1) return false;
                for (let around = element; around !== document.body; around = around.parentElement) {
                    if (isCut(around)) return false;
                }
                return true;
            });
            return found.map((element) => `${element.localName}.${element.getAttribute('class')}`);
        }""")
        assert beyond == [], f"these reach beyond the edge: {beyond}"
        assert await self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    async def is_not_longer_than_the_screen(self) -> None:
        """What scrolls are parts of the page, never the page itself, which would take its head out of sight."""
        assert await self.page.evaluate("document.documentElement.scrollHeight <= innerHeight")

    async def ends_with_its_last_row(self) -> None:
        """The conversation is as high as its rows, nothing that cannot be seen makes it higher, and its end is seen."""
        found = await self.page.evaluate("""async () => {
            const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            await frame();
            const list = document.querySelector('.list');
            const parts = [...list.querySelector('.list-content').children, list.lastElementChild];
            const style = getComputedStyle(list.querySelector('.list-content'));
            const padding = parseFloat(style.paddingTop) + parseFloat(style.paddingBottom);
            const height = (element) => element.getBoundingClientRect().height;
            const last = [...list.querySelectorAll('.list-row')].at(-1).getBoundingClientRect();
            const seen = list.getBoundingClientRect();
            return {
                scrolls: list.scrollHeight,
                rows: Math.max(list.clientHeight, padding + parts.reduce((sum, part) => sum + height(part), 0)),
                isLastSeen: last.bottom <= seen.bottom + 1 && last.bottom > seen.top,
            };
        }""")
        assert abs(found["scrolls"] - found["rows"]) <= 2, found
        assert found["isLastSeen"], found

    async def has_all_its_styles(self) -> None:
        """Nothing is shown whose style belongs to a page that has not been opened yet."""
        come = await self.page.evaluate("""() => ({
            used: [...new Set([...document.querySelectorAll('[class]')].flatMap((one) => [...one.classList]))],
            sheets: [...document.styleSheets].map(({ href }) => href?.split('/').pop() ?? ''),
        })""")
        styled: dict[bool, set[str]] = {True: set(), False: set()}
        for sheet in (BUILD.parent / "assets").glob("*.css"):
            styled[sheet.name in come["sheets"]] |= set(re.findall(r"\.([A-Za-z_][\w-]*)", sheet.read_text()))
        assert styled[True], "no sheet of the build is loaded"
        missing = set(come["used"]) & (styled[False] - styled[True])
        assert not missing, f"the style of these has not come: {missing}"

    async def has_controls_for_fingers(self) -> None:
        """Where there is no mouse, no control is smaller than 44 pixels (WCAG 2.2, success criterion 2.5.5).

        What a label names is as large as the label. A link in a sentence is as large as its words.
        """
        small = await self.page.evaluate("""() => {
            if (!matchMedia('(pointer: coarse)').matches) return [];
            const controls = 'button, summary, select, textarea, input:not(:disabled), a.button, nav a, [role=option]';
            return [...document.querySelectorAll(controls)]
                .filter((element) => element.checkVisibility({ visibilityProperty: true }))
                .map((element) => [element, element.closest('label') ?? element])
                .map(([element, area]) => [element, area.getBoundingClientRect()])
                .filter(([, { width, height }]) => width > 1 && height > 1 && (width < 43.5 || height < 43.5))
                .map(([element, { width, height }]) =>
                    `${element.localName}.${element.className} ${element.textContent}: ${width}x${height}`);
        }""")
        assert small == [], f"these are hard to hit: {small}"

    async def cuts_no_text(self) -> None:
        """All text is inside its box, or ends with an ellipsis, whatever the font."""
        cut = await self.page.evaluate("""() => [...document.querySelectorAll('body *')].filter((element) => {
            if (element.clientWidth <= 1) return false;
            // A `.clip` fades out above a button that shows all of it.
            if (element.matches('input, textarea, .visually-hidden, svg *, .clip.cut')) return false;
            if (!element.checkVisibility({ visibilityProperty: true })) return false;
            const { overflowY, textOverflow, webkitLineClamp } = getComputedStyle(element);
            const isCut = overflowY === 'hidden' || overflowY === 'clip';
            if (!isCut && !element.matches('button, .button, .badge, .chip, nav a')) return false;
            const isTooWide = element.scrollWidth > element.clientWidth + 1 && textOverflow !== 'ellipsis';
            const isTooLong = element.scrollHeight > element.clientHeight + 1 && webkitLineClamp === 'none';
            return isTooWide || isTooLong;
        }).map((element) => `${element.localName}.${element.className} ${element.textContent}: ` +
            `${element.scrollWidth}x${element.scrollHeight} in ${element.clientWidth}x${element.clientHeight}`)""")
        assert cut == [], f"these are cut: {cut}"


async def pocket_agent(server: ServerProcess, *arguments: str) -> str:
    """What a command prints that is run beside the server, on its data."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pocket_agent.cli",
        *arguments,
        f"--data-dir={server.data_dir}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(server.home)},
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


def pairing_code(
    server: ServerProcess, name: str, *, view_only: bool = False, projects: tuple[ProjectId, ...] | None = None
) -> str:
    """A code that lets one device in, limited to `projects` if they are not None."""
    loaded = load_settings(config=None, environ={}, flags={"data.dir": server.data_dir})
    pairing, code = new_pairing(name, view_only=view_only, projects=projects)
    with connection_beside(database_path(loaded.settings.data.dir)) as connection:
        add_pairing(connection, pairing)
    return code


@contextlib.asynccontextmanager
async def screen(
    browser: Browser,
    server: ServerProcess,
    name: str = "browser",
    *,
    size: ViewportSize = DESKTOP,
    theme: Theme = "light",
    view_only: bool = False,
    projects: tuple[ProjectId, ...] | None = None,
    font: bytes | None = None,
    motion: bool = False,
    worker: bool = False,
    port: int | None = None,
) -> AsyncIterator[Screen]:
    """A window of its own browser profile, paired as the device `name`, on the list of projects.

    `port` is that of a proxy before the server; for the others see `page_of`.
    """
    base = f"http://127.0.0.1:{server.port if port is None else port}"
    code = pairing_code(server, name, view_only=view_only, projects=projects)
    url = f"{base}/pair#{code}"
    async with page_of(browser, url, size, theme=theme, font=font, motion=motion, worker=worker) as page:
        shown = Screen(page, base)
        await shown.button("Pair").click()
        await expect(page.get_by_role("heading", name="Projects", exact=True)).to_be_visible(timeout=WAIT_MS)
        yield shown
