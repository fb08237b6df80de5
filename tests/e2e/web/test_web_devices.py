"""Devices in the browser: one lets another in, sees it, names it, and sends it away."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal

import pytest
import segno
from playwright.async_api import Browser, Locator, Page, ViewportSize, expect
from tests.harness.browser import PHONE, WAIT_MS, page_of, violations
from tests.harness.follow import eventually
from tests.harness.font import LARGE, SMALL
from tests.harness.scene import Stage
from tests.harness.screen import Screen, pocket_agent, screen
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.client import Client

pytestmark = pytest.mark.asyncio(loop_scope="session")

LEAST_TOUCH: Final = 44
"""CSS pixels of what a finger has to hit."""

_SMALL: Final = """(least) => {
    const label = (element) => element.matches('[type=radio], [type=checkbox]') ? element.closest('label') : element;
    return [...document.querySelectorAll('.devices :is(button, a, input), dialog :is(button, a, input, select)')]
        .map(label)
        .filter((element) => element.checkVisibility())
        .map((element) => [element.outerHTML.slice(0, 120), element.getBoundingClientRect()])
        .filter(([, { width, height }]) => width < least || height < least)
        .map(([html]) => html);
}"""


@contextlib.asynccontextmanager
async def devices_of(browser: Browser, server: ServerProcess, name: str, **how: object) -> AsyncIterator[Screen]:
    """A window that shows the page of devices; `name` is that of no device of another test."""
    async with screen(browser, server, name, **how) as seen:  # type: ignore[arg-type]
        await show(seen)
        yield seen


async def show(seen: Screen) -> None:
    """Go to the page of devices as a person does."""
    await seen.page.get_by_role("link", name="Devices").locator("visible=true").click()
    await expect(seen.page.get_by_role("heading", name="Devices")).to_be_visible(timeout=WAIT_MS)


def row(seen: Screen, name: str) -> Locator:
    """A device in the list."""
    named = seen.page.locator(".device-name", has_text=re.compile(f"^{re.escape(name)}$"))
    return seen.page.locator(".device").filter(has=named)


async def choose(seen: Screen, name: str, action: str) -> None:
    """Choose from the menu of a device."""
    await seen.button(f"Menu of {name}").click()
    await seen.page.get_by_role("dialog").get_by_role("button", name=action).click()


async def link_of(seen: Screen) -> str:
    """The link that is shown, which is the one of the QR code."""
    base = await seen.page.locator(".pair-code .path").inner_text()
    link = f"{base}/pair#{await code_of(seen)}"
    matrix = segno.make(link, micro=False).matrix
    dark = {(x, y) for y, line in enumerate(matrix) for x, module in enumerate(line) if module}
    path = await seen.page.locator(".qr path").get_attribute("d")
    drawn = re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path or "")
    assert {(int(x) + at, int(y)) for x, y, run in drawn for at in range(int(run))} == dark
    return link


async def code_of(seen: Screen) -> str:
    """The code that is shown."""
    shown = await seen.page.locator(".code-letters").inner_text()
    (code,) = re.findall(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", shown)
    return str(code)


async def invite(seen: Screen) -> str:
    """Let one in who may do everything; the link."""
    await seen.button("Pair a device").click()
    await seen.button("Show the code").click()
    return await link_of(seen)


async def come_in(page: Page) -> None:
    """Pair, as somebody who has opened a link."""
    await page.get_by_role("button", name="Pair", exact=True).click()
    await expect(page.get_by_role("heading", name="Projects", exact=True)).to_be_visible(timeout=WAIT_MS)


async def test_a_phone_is_let_in_named_and_sent_away(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "first") as desk:
        await expect(row(desk, "first")).to_contain_text("This device")
        async with page_of(browser, await invite(desk), PHONE) as phone:
            assert "#" not in phone.url, "the code does not stay in the history"
            await phone.get_by_label("Name of this device").fill("new phone")
            await come_in(phone)
            await expect(desk.page.get_by_role("dialog")).to_contain_text("new phone is paired", timeout=WAIT_MS)
            await expect(desk.page.get_by_role("dialog")).to_contain_text("127.0.0.1")
            await desk.button("Done").click()
            await expect(row(desk, "new phone")).to_contain_text("Connected from 127.0.0.1", timeout=WAIT_MS)
            await expect(row(desk, "new phone")).to_contain_text("Full access")

            await choose(desk, "new phone", "Rename")
            await expect(desk.page.get_by_label("Name", exact=True)).to_be_focused()
            await desk.page.get_by_label("Name", exact=True).fill("first")
            await desk.button("Save").click()
            await expect(desk.page.get_by_role("alert")).to_contain_text("There is a device named 'first' already.")
            await desk.page.get_by_label("Name", exact=True).fill("pocket")
            await desk.page.keyboard.press("Enter")
            await expect(desk.button("Menu of pocket")).to_be_focused()
            await phone.reload()
            await phone.get_by_role("link", name="Settings").locator("visible=true").click()
            await expect(phone.get_by_text("The server knows this browser as pocket")).to_be_visible(timeout=WAIT_MS)

            await choose(desk, "pocket", "Revoke")
            await desk.button("Revoke").click()
            await expect(row(desk, "pocket")).to_be_hidden(timeout=WAIT_MS)
            await expect(phone.get_by_text("it was revoked")).to_be_visible(timeout=WAIT_MS)
            await phone.reload()
            await expect(phone.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)


async def test_what_another_device_or_a_command_changes_appears(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "desk") as desk:
        await pocket_agent(stage.server, "devices", "add", "script", "--view-only")
        await expect(row(desk, "script")).to_contain_text("Never connected", timeout=WAIT_MS)
        await expect(row(desk, "script")).to_contain_text("View only")
        await pocket_agent(stage.server, "devices", "rename", "script", "program")
        await expect(row(desk, "program")).to_be_visible(timeout=WAIT_MS)
        await pocket_agent(stage.server, "devices", "revoke", "program")
        await expect(row(desk, "program")).to_be_hidden(timeout=WAIT_MS)


async def test_a_guest_sees_one_project_and_changes_nothing(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    for name in ("shared", "private"):
        (tmp_path / name).mkdir()
    async with (
        stage.server.client() as client,
        devices_of(browser, stage.server, "desk") as desk,
    ):
        shared = await client.create_project(str(tmp_path / "shared"))
        private = await client.create_project(str(tmp_path / "private"))
        await desk.button("Pair a device").click()
        await desk.page.get_by_label("View only").check()
        await desk.page.get_by_label("Some projects").check()
        await expect(desk.button("Show the code")).to_be_disabled()
        await desk.page.locator(".invite-projects label", has_text=shared.path).click()
        await desk.page.get_by_label("Name", exact=True).fill("guest")
        await desk.button("Show the code").click()
        async with page_of(browser, await link_of(desk), PHONE) as guest:
            await come_in(guest)
            await desk.button("Done").click()
            await expect(row(desk, "guest")).to_contain_text("View only")
            await expect(row(desk, "guest")).to_contain_text("Only shared")
            await expect(guest.locator(".project", has_text=shared.path)).to_be_visible(timeout=WAIT_MS)
            await expect(guest.locator(".project")).to_have_count(1)
            await expect(guest.get_by_role("button", name="New project")).to_have_count(0)
            await guest.get_by_role("link", name="Devices").locator("visible=true").click()
            await expect(guest.get_by_text("This device may only watch")).to_be_visible(timeout=WAIT_MS)
            await expect(guest.get_by_role("button", name="Pair a device")).to_have_count(0)
            await expect(guest.locator(".device")).to_have_count(0)
            assert await violations(guest) == []
        for project in (shared, private):
            await client.delete_project(project.id)
        await expect(row(desk, "guest")).to_contain_text("Deleted projects", timeout=WAIT_MS)


async def test_a_browser_renews_its_key_and_goes_on(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "renewing") as desk:
        beside = await desk.page.context.new_page()
        await beside.goto(f"{desk.base}/devices")
        await expect(beside.locator(".device").first).to_be_visible(timeout=WAIT_MS)
        (before,) = await desk.page.context.cookies()
        await choose(desk, "renewing", "Renew")
        await desk.button("Renew").click()
        await expect(desk.page.get_by_text("This browser has a new key")).to_be_visible(timeout=WAIT_MS)
        (after,) = await desk.page.context.cookies()
        assert (after["name"], after["httpOnly"]) == (before["name"], True)
        assert after["value"] != before["value"]
        await pocket_agent(stage.server, "devices", "add", "seen by both")
        for page in (desk.page, beside):
            await expect(page.get_by_text("seen by both")).to_be_visible(timeout=WAIT_MS)
        await pocket_agent(stage.server, "devices", "revoke", "seen by both")
        await desk.page.context.clear_cookies()
        await desk.page.context.add_cookies([{"url": desk.base, "name": before["name"], "value": before["value"]}])
        await beside.reload()
        await expect(beside.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)


async def test_who_revokes_this_device_is_warned_and_signed_out(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "leaving") as seen:
        await choose(seen, "leaving", "Sign out")
        await expect(seen.page.get_by_role("dialog")).to_contain_text("You will be signed out here")
        await seen.button("Cancel").click()
        await expect(row(seen, "leaving")).to_be_visible()
        await choose(seen, "leaving", "Sign out")
        await seen.button("Sign out").click()
        await expect(seen.page.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)
        assert await seen.page.context.cookies() == []
    assert "leaving" not in await pocket_agent(stage.server, "devices", "list")


async def test_a_program_gets_another_token(stage: Stage, browser: Browser) -> None:
    old = (await pocket_agent(stage.server, "devices", "add", "script", "--print-token")).strip()
    async with devices_of(browser, stage.server, "desk") as desk, Client(stage.server.url, token=old) as program:
        await program.projects()
        await expect(row(desk, "script")).to_contain_text("Connected", timeout=WAIT_MS)
        await choose(desk, "script", "Replace its token")
        await desk.button("Replace").click()
        new = await desk.page.locator(".device-token").inner_text(timeout=WAIT_MS)
        await eventually(lambda: not program.online, "what the old token has opened is closed")
        await desk.button("Done").click()
        async with Client(stage.server.url, token=new) as again:
            await again.projects()
            await choose(desk, "script", "Revoke")
            await desk.button("Revoke").click()
            await eventually(lambda: not again.online, "its connections are closed")


async def test_a_code_runs_out_and_another_takes_its_place(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "desk") as desk:
        await desk.page.clock.install()
        await desk.page.reload()
        await invite(desk)
        code = await code_of(desk)
        await expect(desk.page.locator(".code-clock")).to_have_text(re.compile(r"^[45]:\d\d$"))
        await desk.page.clock.fast_forward("05:01")
        await expect(desk.page.get_by_text("The code has expired")).to_be_visible(timeout=WAIT_MS)
        await desk.button("New code").click()
        await link_of(desk)
        assert await code_of(desk) != code


async def test_where_no_phone_gets_to_is_said(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "desk") as desk:
        await invite(desk)
        await expect(desk.page.get_by_role("note")).to_contain_text("Other devices cannot reach this address")
        await expect(desk.page.get_by_role("note")).to_contain_text("server.public_url")


async def test_the_address_that_a_phone_reaches_comes_first(browser: Browser, tmp_path: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_SERVER_PUBLIC_URL": "https://agent.example"}
    async with running_server(tmp_path, env=env) as server, devices_of(browser, server, "desk") as desk:
        assert (await invite(desk)).startswith("https://agent.example/pair#")
        await expect(desk.page.get_by_role("note")).to_have_count(0)
        await desk.page.get_by_label("as the other device reaches it").select_option(desk.base)
        assert (await link_of(desk)).startswith(f"{desk.base}/pair#")
        await expect(desk.page.get_by_role("note")).to_be_visible()


async def test_a_server_without_authentication_has_no_devices(browser: Browser, tmp_path: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_SERVER_AUTH": "false"}
    async with (
        running_server(tmp_path, env=env) as server,
        page_of(browser, f"http://127.0.0.1:{server.port}/devices") as page,
    ):
        await expect(page.get_by_text("authentication is off")).to_be_visible(timeout=WAIT_MS)
        await expect(page.get_by_role("button", name="Pair a device")).to_have_count(0)
        assert await violations(page) == []


async def test_everything_by_keyboard(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "keyboard") as desk:
        keyboard = desk.page.keyboard
        await desk.button("Pair a device").press("Enter")
        await expect(desk.page.get_by_role("dialog")).to_be_visible()
        await desk.page.get_by_role("radio", name=re.compile("^Everything")).focus()
        await keyboard.press("ArrowDown")
        await expect(desk.page.get_by_label("View only")).to_be_checked()
        await desk.page.get_by_label("Name", exact=True).press("Enter")
        await expect(desk.page.locator(".qr")).to_be_visible(timeout=WAIT_MS)
        await keyboard.press("Escape")
        await expect(desk.button("Pair a device")).to_be_focused()
        await desk.button("Menu of keyboard").press("Enter")
        await desk.page.get_by_role("dialog").get_by_role("button", name="Rename").press("Enter")
        await expect(desk.page.get_by_label("Name", exact=True)).to_be_focused()
        await keyboard.press("Escape")
        await expect(desk.button("Menu of keyboard")).to_be_focused()


async def is_sound(seen: Screen) -> None:
    """Nothing keeps anybody out, nothing has to be scrolled sideways, and a finger hits everything."""
    await seen.page.evaluate("""() => Promise.all(document.getAnimations()
        .filter((one) => one.effect.getComputedTiming().iterations !== Infinity)
        .map((one) => one.finished.catch(() => 0)))""")
    assert await violations(seen.page) == []
    assert await seen.page.evaluate(_SMALL, LEAST_TOUCH) == []
    await seen.is_not_wider_than_the_screen()
    await seen.cuts_no_text()


@pytest.mark.parametrize(
    ("size", "theme", "letters"),
    [
        (ViewportSize(width=390, height=844), "light", SMALL),
        (PHONE, "dark", LARGE),
        (ViewportSize(width=1280, height=800), "dark", None),
    ],
    ids=["390", "360", "1280"],
)
async def test_everybody_can_use_it(
    stage: Stage,
    browser: Browser,
    tmp_path: Path,
    size: ViewportSize,
    theme: Literal["light", "dark"],
    letters: bytes | None,
) -> None:
    folder = tmp_path / "a-project-with-a-rather-long-name-that-has-to-break-somewhere-or-other"
    folder.mkdir()
    other = f"A-device-with-a-rather-long-name-that-has-to-break-on-a-phone-{theme}-{size['width']}"
    async with (
        stage.server.client() as client,
        devices_of(browser, stage.server, "here", size=size, theme=theme, font=letters) as seen,
    ):
        project = await client.create_project(str(folder))
        await pocket_agent(stage.server, "devices", "add", other, "--view-only", f"--project={folder}")
        await expect(row(seen, other)).to_be_visible(timeout=WAIT_MS)
        await is_sound(seen)
        for action in ("Replace its token", "Revoke"):
            await seen.button(f"Menu of {other}").click()
            await is_sound(seen)
            await seen.page.get_by_role("dialog").get_by_role("button", name=action).click()
            await is_sound(seen)
            await seen.button("Cancel").click()
        await choose(seen, other, "Rename")
        await seen.page.get_by_label("Name", exact=True).fill("here")
        await seen.button("Save").click()
        await expect(seen.page.get_by_role("alert")).to_be_visible(timeout=WAIT_MS)
        await is_sound(seen)
        await seen.button("Cancel").click()
        await seen.button("Pair a device").click()
        await seen.page.get_by_label("Some projects").check()
        await is_sound(seen)
        await seen.page.get_by_label("All projects").check()
        await seen.button("Show the code").click()
        async with page_of(browser, await link_of(seen)) as guest:
            await is_sound(seen)
            await come_in(guest)
            await expect(seen.page.get_by_text("is paired")).to_be_visible(timeout=WAIT_MS)
            await is_sound(seen)
        await seen.button("Done").click()
        await pocket_agent(stage.server, "devices", "revoke", other)
        await client.delete_project(project.id)
