"""The server goes away and comes back, and the network with it: nothing is lost, and the page says how it is."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect
from tests.harness.browser import WAIT_MS
from tests.harness.follow import eventually, stored
from tests.harness.recorder import scripted
from tests.harness.screen import Screen, pocket_agent, screen, told
from tests.harness.server import ServerProcess, running_server

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server of the test's own, which it may kill."""
    async with scripted(tmp_path) as env, running_server(tmp_path, env=env) as started:
        yield started


async def test_a_server_that_is_killed_in_the_middle_of_a_stream(
    server: ServerProcess, browser: Browser, folder: Path
) -> None:
    async with screen(browser, server, worker=True) as seen:
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
    async with screen(browser, server, worker=True) as seen:
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
    async with screen(browser, server, worker=True) as seen:
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
        await seen.reload()
        await expect(seen.page.get_by_text("Offline.")).to_be_visible(timeout=WAIT_MS)
        await expect(seen.page.get_by_role("heading", name="The server is unreachable")).to_be_visible(timeout=WAIT_MS)
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
    async with screen(browser, server, worker=True) as seen:
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
    async with screen(browser, server, worker=True) as seen, server.client() as client:
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
    async with screen(browser, server, "tablet", worker=True) as seen:
        async with server.client() as client:
            project_id = (await client.create_project(str(folder))).id
            await seen.open(project_id)
            await pocket_agent(server, "devices", "revoke", "tablet")
        await expect(seen.page.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)
        await seen.reload()
        await expect(seen.page.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)


_STORED = """() => new Promise((done, fail) => {
    const opening = indexedDB.open('pocket-agent', 1);
    opening.onerror = fail;
    opening.onsuccess = () => {
        const store = opening.result.transaction('key').objectStore('key');
        const [keys, values] = [store.getAllKeys(), store.getAll()];
        values.onsuccess = () => {
            opening.result.close();
            done(keys.result.map((key, at) => [key, JSON.stringify(values.result[at])])
                .filter(([key]) => key !== 'device'));
        };
    };
})"""
"""What IndexedDB holds besides the device's key: pairs of a key and its value as JSON."""
_PUT = """([key, value]) => new Promise((done, fail) => {
    const opening = indexedDB.open('pocket-agent', 1);
    opening.onsuccess = () => {
        const change = opening.result.transaction('key', 'readwrite');
        change.objectStore('key').put(value, key);
        change.oncomplete = () => { opening.result.close(); done(); };
        change.onerror = fail;
    };
})"""
"""Puts a value into IndexedDB under a key."""
_OPTION = "Show conversations offline"


async def has_stored(seen: Screen, *words: str) -> None:
    """Wait until IndexedDB holds these words; without any, until it holds nothing of the server's."""

    async def look() -> bool:
        found = await seen.page.evaluate(_STORED)
        return all(word in str(found) for word in words) if words else found == []

    await eventually(look, f"IndexedDB holds {words}")


async def has_stored_all(seen: Screen, server: ServerProcess, project_id: str) -> None:
    """Wait until both prompts of a log are over, and its last entry is in IndexedDB: nothing is stored again."""
    async with server.client() as client:

        async def look() -> bool:
            log = await stored(client, project_id)
            page = json.loads(dict(await seen.page.evaluate(_STORED))[f"offline {project_id}"])
            # The CLI reports it behind the result (2.1.330).
            completed = [line for line in log if b'"command_lifecycle"' in line.data and b'"completed"' in line.data]
            return len(completed) == 2 and page["entries"][-1]["offset"] == log[-1].offset

        await eventually(look, "IndexedDB holds the last entry")


async def test_the_newest_page_is_shown_offline_where_the_user_has_chosen_that(
    server: ServerProcess, browser: Browser, tmp_path: Path
) -> None:
    async with screen(browser, server, "laptop", worker=True) as seen:
        ids = []
        async with server.client() as client:
            for name in ("one", "two"):
                (tmp_path / name).mkdir()
                ids.append((await client.create_project(str(tmp_path / name))).id)
        project_id, second = ids
        await seen.open(project_id)
        await seen.send("demo:text while it is switched off")
        await seen.is_idle()
        await seen.says("This is a plain answer of the demo model.")
        await seen.open(second)
        assert await seen.page.evaluate(_STORED) == []
        await seen.go("/settings")
        await seen.page.get_by_role("switch", name=_OPTION).check()
        await has_stored(seen, "one", "two")
        await seen.open(second)
        await seen.open(project_id)
        await seen.send("demo:bash=touch live.txt")
        await seen.answer("Allow")
        await seen.is_idle()
        await has_stored_all(seen, server, project_id)
        await seen.page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
        await server.kill()
        await expect(seen.page.locator(".stream.offline")).to_be_visible(timeout=WAIT_MS)
        # An entry that the server does not have, as of a log that was put back, is shown until the server is there.
        page = json.loads(dict(await seen.page.evaluate(_STORED))[f"offline {project_id}"])
        foreign = {**page["entries"][0], "data": {**page["entries"][0]["data"], "prompt": "of another epoch"}}
        await seen.page.evaluate(_PUT, [f"offline {project_id}", {**page, "entries": [foreign, *page["entries"][1:]]}])
        await seen.reload()
        as_of = seen.page.get_by_text("Offline, as of")
        await expect(as_of).to_be_visible(timeout=WAIT_MS)
        await seen.says("of another epoch")
        await seen.says("touch live.txt")
        await expect(seen.page.locator(".stream.live")).to_have_count(0)
        await expect(seen.page.locator(".conversation-title p")).not_to_contain_text("Idle")
        await seen.send("demo:text written offline")
        await expect(seen.queue).to_contain_text("Waits for the server, and is sent once")
        await seen.page.get_by_role("link", name="two").click()
        await expect(seen.page.get_by_role("heading", name="The server is unreachable")).to_be_visible(timeout=WAIT_MS)
        await expect(seen.page.get_by_role("heading", name="two")).to_be_visible()
        await seen.go("/")
        await expect(as_of).to_be_visible(timeout=WAIT_MS)
        await expect(seen.page.locator(".project")).to_have_count(2)
        await expect(seen.page.locator(".project").first).not_to_contain_text("Idle")
        await seen.go(f"/p/{project_id}")
        await expect(as_of).to_be_visible(timeout=WAIT_MS)
        await server.start()
        await seen.is_live()
        await expect(as_of).to_have_count(0)
        await expect(seen.page.locator(".row-result")).to_have_count(3, timeout=WAIT_MS)
        await seen.is_idle()
        async with server.client() as client:
            assert await seen.told() == told(await stored(client, project_id))
            await has_stored(seen, "written offline", f"offline {project_id}")
            await client.delete_project(project_id)
        await expect(seen.page.get_by_text("Project not found")).to_be_visible(timeout=WAIT_MS)

        async def is_forgotten() -> bool:
            return "written offline" not in str(await seen.page.evaluate(_STORED))

        await eventually(is_forgotten, "the page of the deleted project is deleted")
        await seen.go("/settings")
        await seen.page.get_by_role("switch", name=_OPTION).uncheck()
        await has_stored(seen)
        await seen.page.get_by_role("switch", name=_OPTION).check()
        await has_stored(seen, "two")
        await seen.button("Sign out").click()
        await seen.page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
        await expect(seen.page.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)
        await has_stored(seen)
        assert await seen.page.evaluate("localStorage.length") == 0


async def test_offline_pages_survive_what_breaks_them_and_end_with_the_device(
    server: ServerProcess, browser: Browser, folder: Path
) -> None:
    async with screen(browser, server, "tablet", worker=True) as seen:
        async with server.client() as client:
            project_id = (await client.create_project(str(folder))).id
        await seen.go("/settings")
        await seen.page.get_by_role("switch", name=_OPTION).check()
        # A browser that has no space left.
        await seen.page.add_init_script("""if (sessionStorage.full) IDBObjectStore.prototype.put = function () {
            throw new DOMException('There is no space left.', 'QuotaExceededError');
        }""")
        await seen.page.evaluate("sessionStorage.full = 'yes'")
        await seen.open(project_id)
        await seen.send("demo:text without space")
        await seen.is_idle()
        await seen.says("This is a plain answer of the demo model.")
        assert "without space" not in str(await seen.page.evaluate(_STORED))
        await seen.page.evaluate("sessionStorage.clear()")
        await seen.open(project_id)
        await has_stored(seen, "without space", folder.name)
        # Values that are not the client's.
        await seen.page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
        await server.kill()
        key = f"offline {project_id}"
        at = "2026-11-29T20:00:00.000Z"
        entry = {"offset": 1, "timestamp": at, "type": "prompt", "data": {"prompt": "the only valid one"}}
        for value in (
            None,
            "text",
            {"at": 5, "entries": [entry]},
            {"at": at, "entries": {}},
            {"at": at, "entries": [None, 7, {"offset": "1"}]},
            {"at": at, "entries": [{**entry, "cut": "x"}]},
        ):
            await seen.page.evaluate(_PUT, [key, value])
            await seen.reload()
            lost = seen.page.get_by_role("heading", name="The server is unreachable")
            await expect(lost, str(value)).to_be_visible(timeout=WAIT_MS)
        odd = [{"offset": 2, "timestamp": "never", "type": "agent_message", "data": [1]}, {**entry, "data": 3}]
        await seen.page.evaluate(_PUT, [key, {"at": "never", "entries": [{**entry}, *odd]}])
        await seen.reload()
        await seen.says("the only valid one")
        lists: tuple[object, ...] = (None, [], {"at": at, "projects": 7}, {"at": at, "projects": [{"id": "x"}, None]})
        for stored_list in lists:
            await seen.page.evaluate(_PUT, ["offline", stored_list])
            await seen.go("/")
            await expect(seen.page.get_by_role("heading", name="Projects", exact=True)).to_be_visible(timeout=WAIT_MS)
            await expect(seen.page.locator(".project")).to_have_count(0)
        await server.start()
        await seen.open(project_id)
        await seen.says("without space")
        await has_stored(seen, "without space", folder.name)
        async with server.client() as client:
            assert await seen.told() == told(await stored(client, project_id))
        await pocket_agent(server, "devices", "revoke", "tablet")
        await expect(seen.page.get_by_role("heading", name="Pair this browser")).to_be_visible(timeout=WAIT_MS)
        await has_stored(seen)
