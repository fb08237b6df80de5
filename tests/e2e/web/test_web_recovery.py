"""The server goes away and comes back, and the network with it: nothing is lost, and the page says how it is."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect
from tests.harness.browser import WAIT_MS
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, stored
from tests.harness.screen import pocket_agent, screen, told
from tests.harness.server import ServerProcess, running_server

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server of the test's own, which it may kill."""
    env = {"PA_CLAUDE_BINARY": str(require_claude())}
    async with running_server(tmp_path, env=env, flags=["--demo"]) as started:
        yield started


async def test_a_server_that_is_killed_in_the_middle_of_a_stream(
    server: ServerProcess, browser: Browser, folder: Path
) -> None:
    async with screen(browser, server) as seen:
        async with server.client() as client:
            project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        await seen.send("demo:loop=60 and then demo:text")
        await seen.says("echo step 3 of 60")
        await server.kill()
        await expect(seen.page.locator(".stream.offline")).to_be_visible(timeout=WAIT_MS)
        await expect(seen.page.get_by_text("Offline.")).to_be_visible(timeout=WAIT_MS)
        await server.start()
        await seen.is_live()
        await expect(seen.page.get_by_text("Offline.")).to_be_hidden(timeout=WAIT_MS)
        await seen.is_idle()
        await seen.says("I ran 60 commands in a row.")
        async with server.client() as client:
            expected = told(await stored(client, project_id))
        assert len([one for one in expected if one.kind == "tool"]) == 60
        assert await seen.told() == expected


async def test_a_text_that_is_cut_off_in_the_middle_comes_whole(
    server: ServerProcess, browser: Browser, folder: Path
) -> None:
    async with screen(browser, server) as seen:
        async with server.client() as client:
            project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        await seen.send("demo:slow=8s")
        await expect(seen.page.locator(".said.live")).to_contain_text("00005", timeout=WAIT_MS)
        await server.kill()
        await expect(seen.page.locator(".stream.offline")).to_be_visible(timeout=WAIT_MS)
        await server.start()
        await seen.is_live()
        await seen.is_idle()
        async with server.client() as client:
            assert await seen.told() == told(await stored(client, project_id))
        await seen.says("00080")


async def test_prompts_of_who_is_offline_wait_survive_a_reload_and_run_once(
    server: ServerProcess, browser: Browser, folder: Path
) -> None:
    async with screen(browser, server) as seen:
        async with server.client() as client:
            project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        # The service worker has the page, so that it opens without the server.
        await seen.page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
        await server.kill()
        await expect(seen.page.locator(".stream.offline")).to_be_visible(timeout=WAIT_MS)
        await seen.send("demo:bash=echo one >> runs.txt")
        await seen.send("demo:bash=echo two >> runs.txt")
        await expect(seen.queue).to_have_count(2)
        await expect(seen.queue.first).to_contain_text("Waits for the server, and is sent once")
        await seen.prompt_field.fill("a draft that is not done")
        await seen.page.reload()
        await expect(seen.page.get_by_text("Offline.")).to_be_visible(timeout=WAIT_MS)
        await expect(seen.page.get_by_role("heading", name="The server is out of reach")).to_be_visible(timeout=WAIT_MS)
        await expect(seen.queue).to_have_count(2)
        broken = "[...document.images].filter(({ complete, naturalWidth }) => complete && naturalWidth === 0).length"
        assert await seen.page.evaluate(broken) == 0
        await server.start()
        await seen.is_live()
        await expect(seen.prompt_field).to_have_value("a draft that is not done")
        for _ in range(2):
            await seen.answer("Allow")
        await seen.is_idle()
        await expect(seen.queue).to_have_count(0)
        async with server.client() as client:
            prompts = [one.words for one in told(await stored(client, project_id)) if one.kind == "prompt"]
    assert prompts == ["demo:bash=echo one >> runs.txt", "demo:bash=echo two >> runs.txt"]
    assert (folder / "runs.txt").read_text() == "one\ntwo\n"


async def test_a_prompt_whose_reply_is_lost_runs_once(server: ServerProcess, browser: Browser, folder: Path) -> None:
    async with screen(browser, server) as seen:
        async with server.client() as client:
            project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        # The connection breaks right behind the prompt, again and again, before any reply can come.
        await seen.page.evaluate("""() => {
            const send = WebSocket.prototype.send;
            let breaks = 3;
            WebSocket.prototype.send = function (text) {
                send.call(this, text);
                if (breaks > 0 && JSON.parse(text).type === 'execute') { breaks -= 1; this.close(); }
            };
        }""")
        await seen.send("demo:text once")
        await seen.says("This is a plain answer of the demo model.")
        await seen.is_idle()
        await expect(seen.queue).to_have_count(0)
        async with server.client() as client:
            lines = told(await stored(client, project_id))
        assert [one.kind for one in lines] == ["prompt", "text"]
        assert await seen.told() == lines


async def test_a_phone_that_slept_catches_up(server: ServerProcess, browser: Browser, folder: Path) -> None:
    async with screen(browser, server) as seen, server.client() as client:
        project_id = (await client.create_project(str(folder))).id
        await seen.open(project_id)
        await seen.page.context.set_offline(True)
        await seen.page.evaluate("dispatchEvent(new Event('online'))")  # it asks, and nobody answers
        await expect(seen.page.locator(".stream.offline")).to_be_visible(timeout=WAIT_MS)
        await client.execute(project_id, "demo:loop=40")

        async def is_over() -> bool:
            return any("I ran 40" in one.words for one in told(await stored(client, project_id)))

        await eventually(is_over, "the agent has finished")
        await seen.page.context.set_offline(False)
        await seen.is_live()
        await seen.says("I ran 40 commands in a row.")
        assert await seen.told() == told(await stored(client, project_id))


async def test_a_revoked_device_is_told_to_pair_again(server: ServerProcess, browser: Browser, folder: Path) -> None:
    async with screen(browser, server, "tablet") as seen:
        async with server.client() as client:
            project_id = (await client.create_project(str(folder))).id
            await seen.open(project_id)
            await pocket_agent(server, "devices", "revoke", "tablet")
        await expect(seen.page.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)
        await seen.page.reload()
        await expect(seen.page.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)
