"""Devices in the browser: one lets another in, sees it, names it, and sends it away."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import segno
from playwright.async_api import Browser, Locator, Page, ViewportSize, expect
from tests.harness.browser import PHONE, WAIT_MS, browsing, page_of, violations
from tests.harness.follow import eventually
from tests.harness.font import LARGE, SMALL
from tests.harness.scene import Stage
from tests.harness.screen import Look, Screen, pairing_code, pocket_agent, screen
from tests.harness.server import ServerProcess, free_port, running_server, started, write_standin

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
            history = await (await phone.context.new_cdp_session(phone)).send("Page.getNavigationHistory")
            assert [entry["url"] for entry in history["entries"]] == ["about:blank", phone.url]
            assert phone.url == f"{desk.base}/pair", "the code stays neither in the address nor in the history"
            await phone.get_by_label("What to call this device").fill("new phone")
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
        await expect(row(desk, "guest")).to_contain_text("Projects that are gone", timeout=WAIT_MS)


async def test_a_device_of_some_projects_is_offered_what_it_may_do_and_no_more(
    stage: Stage, browser: Browser, tmp_path: Path
) -> None:
    """It sends prompts, allows, denies and answers questions; to change and to remember answers are not offered."""
    folder = tmp_path / "shop\u202epohs"
    folder.mkdir()
    async with stage.server.client() as client, devices_of(browser, stage.server, "host") as desk:
        project = await client.create_project(str(folder))
        await desk.button("Pair a device").click()
        await desk.page.get_by_label("Some projects").check()
        listed = desk.page.locator(".invite-projects label", has_text="shop<U+202E>pohs")
        marked = r"shop<U\+202E>pohs"
        await expect(listed.locator("span").first).to_have_text(re.compile(f"^{marked}/.*/{marked}$"))
        await listed.click()
        await desk.button("Show the code").click()
        async with page_of(browser, await link_of(desk), PHONE) as page:
            await page.get_by_label("What to call this device").fill("helper")
            await come_in(page)
            await expect(desk.page.get_by_role("dialog")).to_contain_text("helper is paired", timeout=WAIT_MS)
            await desk.button("Done").click()
            await expect(row(desk, "helper")).to_contain_text("Only shop<U+202E>pohs")
            guest = Screen(page, desk.base)
            await expect(page.locator(".project")).to_have_count(1)
            await expect(page.get_by_role("button", name="New project")).to_have_count(0)
            await page.get_by_role("link", name="Devices").locator("visible=true").click()
            await expect(page.get_by_text("This device only sees some projects")).to_be_visible(timeout=WAIT_MS)
            await expect(page.get_by_text("The server knows it as helper.")).to_be_visible()
            await expect(page.get_by_role("button", name="Pair a device")).to_have_count(0)
            assert await violations(page) == []
            await guest.open(project.id)
            await guest.send("demo:bash=touch made.txt")
            await expect(guest.dock).to_contain_text("touch made.txt", timeout=WAIT_MS)
            await expect(guest.dock.locator(".dock-actions button")).to_have_text(["Deny", "Allow"])
            await guest.answer("Allow")
            await guest.is_idle()
            assert (folder / "made.txt").exists()
            await guest.send("demo:ask")
            await guest.dock.get_by_label("PostgreSQL").check(timeout=WAIT_MS)
            await guest.dock.get_by_label("Daily").check()
            await guest.answer("Answer")
            await guest.is_idle()
            await guest.says("So be it.")
            await choose(desk, "helper", "Revoke")
            await desk.button("Revoke").click()
            await expect(page.get_by_text("it was revoked")).to_be_visible(timeout=WAIT_MS)
        await client.delete_project(project.id)


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


async def test_what_ends_with_a_device_is_named_and_offered(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, devices_of(browser, stage.server, "revoking") as desk:
        project = await client.create_project(str(folder))
        dialog = desk.page.get_by_role("dialog")
        for name, ended in (
            ("alone", "alone may no longer connect. 1 queued prompt withdrawn. 1 of its prompts still run."),
            ("maker", "maker and 1 more may no longer connect. 1 queued prompt withdrawn."),
        ):
            token = (await pocket_agent(stage.server, "devices", "add", name, "--print-token")).strip()
            async with Client(stage.server.url, token=token) as phone, aiohttp.ClientSession() as http:
                running = await phone.execute(project.id, "demo:slow=60s")
                await phone.execute(project.id, "demo:text later")
                made = await phone.request("pairing_start", {"name": f"by {name}"})
                await expect(desk.page.get_by_text(f"Made by {name}, good until")).to_be_visible(timeout=WAIT_MS)
                body = {"code": made.data["code"], "name": "x", "token": True}
                async with http.post(f"{desk.base}/api/pair", json=body) as answer:
                    assert answer.status == 200
                await expect(row(desk, f"by {name}")).to_be_visible(timeout=WAIT_MS)
                await expect(row(desk, name)).to_contain_text("Runs 1")
                await expect(row(desk, name)).to_contain_text("1 queued")
                await choose(desk, name, "Revoke")
                await expect(dialog).to_contain_text(f"Revoke the devices that it let inby {name}")
                await expect(dialog).to_contain_text(
                    f"Kill what it runs nowIn {folder.name}. Otherwise that goes on to its end."
                )
                if name == "maker":
                    for box in await dialog.get_by_role("checkbox").all():
                        await box.check()
                await desk.button("Revoke").click()
                await expect(desk.page.get_by_text(ended)).to_be_visible(timeout=WAIT_MS)
            assert (f"by {name}" in await pocket_agent(stage.server, "devices", "list")) is (name == "alone")
            found = {one.execution_id: one.status for one in (await client.executions(project.id)).executions}
            assert (found[running.execution_id] == "running") is (name == "alone")
            if name == "alone":
                await client.kill(project.id)
        await pocket_agent(stage.server, "devices", "revoke", "by alone")
        await client.delete_project(project.id)


async def test_an_open_code_is_shown_and_ended(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "ending") as desk:
        link = (await pocket_agent(stage.server, "pair", "--name=tablet", "--view-only")).strip()
        code = desk.page.locator(".open-codes li", has_text="tablet")
        await expect(code).to_contain_text("Made on the server's machine, good until", timeout=WAIT_MS)
        await expect(code).to_contain_text("View only")
        assert await violations(desk.page) == []
        await code.get_by_role("button", name="End this code").click()
        await expect(code).to_have_count(0)
        async with page_of(browser, desk.base) as page:
            await page.get_by_label("Code").fill(link.partition("#")[2])
            await page.get_by_role("button", name="Pair", exact=True).click()
            await expect(page.get_by_role("alert")).to_be_visible(timeout=WAIT_MS)
            await page.get_by_label("Code").fill((await invite(desk)).partition("#")[2].lower())
            await come_in(page)


async def test_a_page_that_can_hold_no_key_says_so(tmp_path: Path) -> None:
    """By plain http under a name that is not localhost, as in a network without TLS."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_SERVER_ALLOWED_HOSTS": "pocket.test"}
    server = ServerProcess(tmp_path, env=env)
    server.tls_port = free_port()
    async with started(server), browsing("--host-resolver-rules=MAP pocket.test 127.0.0.1") as opened:
        plain = f"http://pocket.test:{server.port}"
        for base in (f"https://pocket.test:{server.tls_port}", f"http://pocket-agent.localhost:{server.port}"):
            context = await opened.new_context(ignore_https_errors=True)
            page = await context.new_page()
            await page.goto(f"{base}/pair#{pairing_code(server, base)}")
            await expect(page.get_by_role("heading", name="Pair this browser")).to_be_visible()
            await expect(page.get_by_role("note")).to_have_count(0)
            await come_in(page)
            await context.close()
        async with page_of(opened, f"{plain}/pair#{pairing_code(server, 'keyless')}", PHONE) as page:
            note = page.get_by_role("note")
            await expect(note).to_contain_text("Browsers store keys only for pages with TLS")
            await expect(note).to_contain_text(
                "for example on another port of the same host, can connect as this device"
            )
            await come_in(page)
            seen = Screen(page, plain)
            await show(seen)
            await expect(page.get_by_text("No key")).to_have_count(1)
            badge = row(seen, "keyless").get_by_text("No key")
            await expect(badge).to_have_attribute("title", re.compile("a program that gets its cookie can connect"))
            assert await violations(page) == []


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
        await desk.reload()
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
        await expect(desk.page.get_by_role("note")).to_contain_text("No phone reaches this address")
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
        await expect(page.get_by_text("every client has full access")).to_be_visible(timeout=WAIT_MS)
        await expect(page.get_by_role("button", name="Pair a device")).to_have_count(0)
        assert await violations(page) == []


async def test_everything_by_keyboard(stage: Stage, browser: Browser) -> None:
    async with devices_of(browser, stage.server, "keyboard") as desk:
        keyboard = desk.page.keyboard
        await desk.button("Pair a device").press("Enter")
        await expect(desk.page.get_by_role("dialog")).to_be_visible()
        await desk.page.get_by_role("radio", name=re.compile("^Prompts and approvals")).focus()
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


async def is_sound(seen: Screen, looks: list[Look]) -> None:
    """Nothing keeps anybody out, nothing has to be scrolled sideways, and a finger hits everything, in each look.

    The last look is the first of the next call, so that pages and dialogs are opened in each.
    """
    for look in looks:
        await seen.wear(look)
        await seen.page.evaluate("""() => Promise.all(document.getAnimations()
            .filter((one) => one.effect.getComputedTiming().iterations !== Infinity)
            .map((one) => one.finished.catch(() => 0)))""")
        assert await violations(seen.page) == []
        assert await seen.page.evaluate(_SMALL, LEAST_TOUCH) == []
        await seen.is_not_wider_than_the_screen()
        await seen.cuts_no_text()
    looks.reverse()


@pytest.mark.parametrize(
    "looks",
    [
        [Look(ViewportSize(width=390, height=844), "light", SMALL), Look(PHONE, "dark", LARGE)],
        [Look(ViewportSize(width=1280, height=800), "dark", SMALL)],
    ],
    ids=["phone", "desktop"],
)
async def test_everybody_can_use_it(stage: Stage, browser: Browser, tmp_path: Path, looks: list[Look]) -> None:
    looks = [*looks]
    size, theme, letters = looks[0]
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
        await is_sound(seen, looks)
        for action in ("Replace its token", "Revoke"):
            await seen.button(f"Menu of {other}").click()
            await is_sound(seen, looks)
            await seen.page.get_by_role("dialog").get_by_role("button", name=action).click()
            await is_sound(seen, looks)
            await seen.button("Cancel").click()
        await choose(seen, other, "Rename")
        await seen.page.get_by_label("Name", exact=True).fill("here")
        await seen.button("Save").click()
        await expect(seen.page.get_by_role("alert")).to_be_visible(timeout=WAIT_MS)
        await is_sound(seen, looks)
        await seen.button("Cancel").click()
        await seen.button("Pair a device").click()
        await seen.page.get_by_label("Some projects").check()
        await is_sound(seen, looks)
        await seen.page.get_by_label("All projects").check()
        await seen.button("Show the code").click()
        async with page_of(browser, await link_of(seen)) as guest:
            await is_sound(seen, looks)
            await come_in(guest)
            await expect(seen.page.get_by_text("is paired")).to_be_visible(timeout=WAIT_MS)
            await is_sound(seen, looks)
        await seen.button("Done").click()
        await pocket_agent(stage.server, "devices", "revoke", other)
        await client.delete_project(project.id)
