"""The live dashboard in a real browser, against a real server and the real CLI with the scripted model."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, ViewportSize, expect
from tests.harness.browser import DESKTOP, PHONE, WAIT_MS, page_of, violations
from tests.harness.follow import eventually, until
from tests.harness.font import LARGE, SMALL
from tests.harness.recorder import scripted
from tests.harness.server import ServerProcess, running_server

from pocket_agent.client import Client
from pocket_agent.errors import InvalidPathError

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that lets everybody on this machine in, with the real CLI."""
    async with scripted(tmp_path) as env, running_server(tmp_path, env=env, flags=["--no-auth"]) as started:
        yield started


@contextlib.asynccontextmanager
async def dashboard(
    browser: Browser, server: ServerProcess, size: ViewportSize = DESKTOP, font: bytes | None = None
) -> AsyncIterator[Page]:
    """The page, once it is live and has drawn its charts."""
    url = f"http://127.0.0.1:{server.port}/dashboard"
    async with page_of(browser, url, size, font=font) as page:
        await live(page)
        await page.wait_for_selector("[data-panel=cost] canvas", timeout=WAIT_MS)
        yield page


async def live(page: Page) -> None:
    """Wait until the page says that it is live."""
    await page.wait_for_selector(".badge.live", timeout=WAIT_MS)


async def session(client: Client, folder: Path) -> str:
    """A known session: two prompts that succeed, and a mistake of a client."""
    folder.mkdir()
    project = await client.create_project(str(folder))
    async with client.subscribe(project.id) as stream:
        for prompt in ("hello", "hello again"):
            await client.execute(project.id, prompt)
            await until(stream, "project_state", state="IDLE")
    with pytest.raises(InvalidPathError):
        await client.create_project("/no/such/place")
    return project.id


async def tile(page: Page, name: str, value: str) -> None:
    """A tile shows this."""
    await expect(page.locator(f"[data-tile={name}] strong")).to_have_text(value, timeout=WAIT_MS)


async def figure(page: Page, name: str) -> str:
    """The newest value of a line, as its legend shows it."""
    return str(await page.locator(f'[data-figure="{name}"] strong').text_content(timeout=WAIT_MS))


async def asked(client: Client, kind: str, **data: object) -> dict[str, Any]:
    """What the server itself says."""
    reply: dict[str, Any] = (await client.request(kind, data)).data
    return reply


async def test_what_it_shows_is_what_the_server_says(server: ServerProcess, browser: Browser, tmp_path: Path) -> None:
    async with server.client() as client:
        project_id = await session(client, tmp_path / "shop")
        async with dashboard(browser, server) as page:
            stats = await asked(client, "server_stats")
            await tile(page, "executions", "2")
            await tile(page, "success", "100 %")
            await tile(page, "projects", "1")
            await tile(page, "connections", "2")
            cost = stats["cost"]["today_usd"]
            await tile(page, "cost", f"${cost:.2f}" if cost >= 0.1 else f"${cost:.3g}")

            async def has_come() -> bool:
                history = await asked(client, "server_history", range=900)
                return bool(history["series"]["executions_hourly"][-1] == 2)

            await eventually(has_come, "the history has both executions")
            for name, value in (
                ("executions_hourly", "2"),
                ("success_ratio", "100 %"),
                ("projects", "1"),
                ("connections", "2"),
                ("queue", "0"),
            ):
                await expect(page.locator(f'[data-figure="{name}"] strong')).to_have_text(value, timeout=WAIT_MS)
            assert "/min" in await figure(page, "errors.INVALID_PATH")
            await expect(page.locator("[data-panel=executions] [data-figure]"), "none failed").to_have_count(1)
            overview = await asked(client, "server_overview")
            slowest = [execution["execution_id"] for execution in overview["slowest"]]
            shown = page.locator("[data-execution]")
            for place, execution_id in enumerate(slowest):
                await expect(shown.nth(place)).to_have_attribute("data-execution", execution_id)
            await expect(shown.first.locator("a")).to_have_attribute("href", f"/p/{project_id}")
            for check in overview["checks"]:
                await expect(page.locator(f"[data-check={check['name']}] .check-status")).to_have_text(check["status"])
            for limit in overview["limits"]:
                meter = page.locator(f"[data-limit={limit['name']}] [role=meter]")
                share = limit["usage"] / limit["limit"] if limit["limit"] else 0
                await expect(meter).to_have_attribute("aria-valuenow", str(round(100 * share)))
            error = page.locator("[data-error=INVALID_PATH]")
            await expect(error).to_contain_text("There is no such directory.")
            await expect(page.locator(".about")).to_contain_text(overview["version"])


async def test_it_follows_what_happens(server: ServerProcess, browser: Browser, folder: Path) -> None:
    async with server.client() as client, dashboard(browser, server) as page:
        await tile(page, "executions", "0")
        await expect(page.locator("[data-panel=errors]")).to_contain_text("No data in this period.")
        project = await client.create_project(str(folder))
        await tile(page, "projects", "1")
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, "demo:bash=touch late.txt && sleep 600")
            asking = (await until(stream, "approval_requested"))[-1]
            await tile(page, "running", "1")
            await expect(page.locator("[data-execution] .badge")).to_have_text("waits for approval", timeout=WAIT_MS)
            await client.approve(project.id, str(asking.data["approval_id"]))
            await expect(page.locator("[data-execution] .badge")).to_have_text("running", timeout=WAIT_MS)
            await client.kill(project.id)
        await tile(page, "running", "0")
        await tile(page, "executions", "1")
        await expect(page.locator("[data-execution] .badge")).to_have_text("killed", timeout=WAIT_MS)
        await expect(page.locator('[data-figure="executions.killed"]')).to_contain_text("/min", timeout=WAIT_MS)


async def test_a_check_that_fails_says_so_with_its_runbook(server: ServerProcess, browser: Browser) -> None:
    server.env["PA_HEALTH_LOW_DISK"] = "1000TiB"
    await server.stop()
    await server.start()
    async with dashboard(browser, server) as page:
        await expect(page.locator(".problem")).to_contain_text("The server is degraded: Low disk space")
        link = page.locator("[data-check=disk] a")
        assert await link.get_attribute("href") == "/docs/runbooks/DiskSpaceLow"
        async with page.expect_popup() as opened:
            await link.click()
        await expect((await opened.value).get_by_role("heading", level=1)).to_contain_text("DiskSpaceLow")


async def test_a_server_that_dies_is_shown_as_stale_and_one_that_is_back_is_live(
    server: ServerProcess, browser: Browser, tmp_path: Path
) -> None:
    async with server.client() as client:
        await session(client, tmp_path / "shop")
    async with dashboard(browser, server) as page:
        await tile(page, "executions", "2")
        await server.kill()
        stale = page.locator(".stale-since")
        await expect(stale).to_contain_text("Stale: as of", timeout=WAIT_MS)
        await tile(page, "executions", "2")
        assert "stale" in str(await page.locator(".dashboard").get_attribute("class"))
        await server.start()
        await live(page)
        await tile(page, "executions", "0")
        await tile(page, "projects", "1")
        await expect(page.locator('[data-figure="executions_hourly"] strong')).to_have_text("0", timeout=WAIT_MS)


async def test_the_range_is_chosen_by_keyboard(server: ServerProcess, browser: Browser) -> None:
    async with dashboard(browser, server) as page:
        await page.locator("input[name=range]").first.focus()
        for label in ("1 h", "6 h", "24 h"):
            await page.keyboard.press("ArrowRight")
            await expect(page.get_by_label(label, exact=True)).to_be_checked()
        await page.wait_for_selector("[data-panel=cost] canvas", timeout=WAIT_MS)
        await expect(page.locator('[data-figure="projects"] strong')).to_have_text("0", timeout=WAIT_MS)


@pytest.mark.parametrize(
    ("size", "theme", "letters"), [(PHONE, "dark", LARGE), (DESKTOP, "light", SMALL)], ids=["phone", "desktop"]
)
async def test_everybody_can_use_it(
    server: ServerProcess, browser: Browser, tmp_path: Path, size: ViewportSize, theme: str, letters: bytes
) -> None:
    async with server.client() as client:
        await session(client, tmp_path / "a-project-with-a-rather-long-name-that-has-to-wrap-somewhere")
    async with dashboard(browser, server, size, letters) as page:
        await page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        await tile(page, "executions", "2")
        assert await violations(page) == []
        wide = await page.evaluate("[...document.querySelectorAll('.page, body')].map((e) => e.scrollWidth)")
        assert max(wide) <= size["width"], "nothing is wider than the screen"
        summary = page.locator("[data-panel=connections] figcaption ~ p.visually-hidden")
        await expect(summary).to_contain_text("Active: 1 now", timeout=WAIT_MS)
        await page.locator("[data-panel=connections] summary").focus()
        await page.keyboard.press("Enter")
        rows = page.locator("[data-panel=connections] tbody tr")
        await expect(rows.first.locator("td")).to_have_text("1", timeout=WAIT_MS)
        assert await violations(page) == []


async def test_it_leaves_the_server_alone_when_it_is_left(server: ServerProcess, browser: Browser) -> None:
    async with dashboard(browser, server) as page:
        await page.locator("a[href='/settings']:visible").first.click()
        await expect(page.get_by_role("heading", name="Settings")).to_be_visible()
        frames: list[str] = []
        page.on("websocket", lambda _: frames.append("another connection"))
        await page.evaluate("history.back()")
        await live(page)
        assert frames == []
