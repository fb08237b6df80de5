"""A real browser, headless, for what people see."""

import contextlib
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Final, Literal

from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from tests.harness import DEADLINE_SECONDS
from tests.harness.tool import ROOT, require_tool

_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Theme = Literal["light", "dark"]
PHONE: Final = ViewportSize(width=360, height=780)
DESKTOP: Final = ViewportSize(width=1280, height=900)
_TABLET: Final = 600
WAIT_MS: Final = DEADLINE_SECONDS * 1000
"""The limit of every wait in a browser; Playwright's own is 5 s for an expectation and 30 s for an action."""
_AXE: Final = ROOT / "webui" / "node_modules" / "axe-core" / "axe.min.js"


# A font of a page's own bytes is not asked of any address, so no policy forbids it.
_WITH_FONT: Final = """
    document.fonts.add(new FontFace('Boxes', Uint8Array.from(atob('FONT'), (one) => one.charCodeAt(0)).buffer));
    document.addEventListener('DOMContentLoaded', () => {
        for (const family of ['--sans', '--mono']) document.documentElement.style.setProperty(family, 'Boxes');
    });
"""

expect.set_options(timeout=WAIT_MS)


@contextlib.asynccontextmanager
async def browsing(*flags: str, desktop: bool = False) -> AsyncIterator[Browser]:
    """A browser that is closed at the end.

    It is Chromium's headless shell if there is one, which has the same engine without windows, tabs and
    notifications of the desktop: a context there takes a third of the processor time.

    Args:
        flags: further command-line flags.
        desktop: start the whole browser.
    """
    shell = None if desktop else shutil.which("chromium-headless-shell")
    chromium = shell or require_tool("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*_FLAGS, *flags], timeout=WAIT_MS)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def page_of(
    browser: Browser,
    url: str,
    size: ViewportSize = DESKTOP,
    *,
    theme: Theme = "light",
    font: bytes | None = None,
    motion: bool = False,
    worker: bool = False,
) -> AsyncIterator[Page]:
    """A page on which nothing may go wrong: an exception, or something that its policy forbids, fails the test.

    Args:
        browser: where.
        url: what it shows first.
        size: of the screen; one that is narrow is that of a phone, which is touched.
        theme: what the system prefers.
        font: replaces the fonts of this machine.
        motion: show animations, which take a fifth of the processor time of a test.
        worker: let the client register its service worker, whose start takes a fifth of that of a new context.
    """
    is_phone = size["width"] < _TABLET
    context = await browser.new_context(
        viewport=size,
        color_scheme=theme,
        has_touch=is_phone,
        is_mobile=is_phone,
        reduced_motion="no-preference" if motion else "reduce",
        service_workers="allow" if worker else "block",
    )
    context.set_default_timeout(WAIT_MS)
    if font is not None:
        await context.add_init_script(_WITH_FONT.replace("FONT", b64encode(font).decode()))
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        await page.goto(url)
        yield page
        assert faults == []
    finally:
        await context.close()


async def violations(page: Page) -> list[str]:
    """What axe finds that keeps people out: serious and critical faults of accessibility."""
    if await page.evaluate("window.axe === undefined"):
        await page.evaluate(_AXE.read_text("utf-8"))
    found = await page.evaluate("axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations)")
    return [
        f"{fault['id']}: {node['html']}"
        for fault in found
        if fault["impact"] in {"serious", "critical"}
        for node in fault["nodes"]
    ]
