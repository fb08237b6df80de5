"""What an agent writes, or anybody who can reach one, is never a program in the browser of who watches."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from tests.harness.browser import WAIT_MS
from tests.harness.follow import eventually
from tests.harness.scene import Stage
from tests.harness.screen import Screen, screen
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.client import Client
from pocket_agent.demo.scenario import HOSTILE_MARKUP, HOSTILE_TEXT
from pocket_agent.errors import UnauthorizedError
from pocket_agent.model import Credential, Device
from pocket_agent.storage import connection_beside, device_named
from pocket_agent.storage.database import database_path

pytestmark = pytest.mark.asyncio(loop_scope="session")

RUN = "window.hacked=1"
IMAGE = f"<img src=x onerror={RUN}>"

FOUND = """() => {
    const inside = [...document.querySelectorAll('.conversation *')];
    const written = [...document.querySelectorAll('.markdown, .markdown *')];
    const own = /^(?:markdown|code|code-bar|copy|icon|table|visually-hidden|language-\\S+|hljs-\\S+|)(?: |$)/;
    const links = [...document.querySelectorAll('.markdown a[href], .transcript a[href]')];
    return {
        hacked: window.hacked ?? null,
        elements: inside.map((one) => one.localName).filter((name) => [
            'script', 'iframe', 'object', 'embed', 'form', 'style', 'link', 'base', 'meta', 'math', 'video', 'audio',
            'template', 'noscript', 'source', 'foreignobject',
        ].includes(name)),
        handlers: inside.flatMap((one) => one.getAttributeNames()).filter((name) => name.startsWith('on')),
        named: written.flatMap((one) => ['id', 'name', 'style', 'data-route', 'data-offset', 'aria-live']
            .filter((name) => one.hasAttribute(name))),
        classes: written.map((one) => one.getAttribute('class') ?? '').filter((name) => !own.test(name)),
        pictures: [...document.querySelectorAll('.markdown img, .markdown svg:not(.icon)')].length,
        buttons: [...document.querySelectorAll('.markdown button:not(.copy)')].length,
        links: links.filter((one) => !['https:', 'http:', 'mailto:'].includes(one.protocol)
            || one.target !== '_blank' || !one.rel.includes('noopener')).map((one) => one.outerHTML),
    };
}"""
"""What is in the document that must not be."""

NOTHING: dict[str, Any] = {
    "hacked": None,
    "elements": [],
    "handlers": [],
    "named": [],
    "classes": [],
    "pictures": 0,
    "buttons": 0,
    "links": [],
}


def watch(page: Page) -> list[str]:
    """The addresses that the page asks for from here on, but for those of its own server."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "127.0.0.1" not in request.url else None)
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    return asked


@pytest_asyncio.fixture(loop_scope="session")
async def puppets(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server whose agents say what the test wants."""
    async with running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}) as server:
        yield server


def puppet(*lines: dict[str, Any]) -> str:
    """The prompt that makes the stand-in print lines."""
    compact = (json.dumps(line, separators=(",", ":")) for line in lines)
    return " ".join(f"print {line.replace(' ', chr(92) + 'u0020')}" for line in compact)


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A line with a message of the agent."""
    return {"type": "assistant", "message": {"role": "assistant", "content": list(blocks)}}


def call(number: int, name: str, **given: Any) -> dict[str, Any]:
    """A tool call."""
    return {"type": "tool_use", "id": f"t{number}", "name": name, "input": given}


def result(number: int, content: object, *, is_error: bool = False) -> dict[str, Any]:
    """A line with the answer to a tool call."""
    block = {"type": "tool_result", "tool_use_id": f"t{number}", "content": content, "is_error": is_error}
    return {"type": "user", "message": {"role": "user", "content": [block]}}


async def test_hostile_markdown_of_the_agent_does_nothing(stage: Stage, browser: Browser, folder: Path) -> None:
    async with stage.server.client() as client, screen(browser, stage.server) as seen:
        asked = watch(seen.page)
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        await seen.send("demo:hostile")
        await seen.says("This is the end of it.")
        await seen.is_idle()
        await seen.says(f"<script>{RUN}</script>")  # letters, of which none is lost
        assert await seen.page.evaluate(FOUND) == NOTHING
        assert await seen.page.title() == "project · Pocket Agent"
        assert seen.page.url.endswith(f"/p/{project.id}")
        assert asked == []
        assert await seen.prompt_field.is_visible()


async def test_each_piece_of_hostile_markup_alone(puppets: ServerProcess, browser: Browser, folder: Path) -> None:
    async with puppets.client() as client, screen(browser, puppets) as seen:
        asked = watch(seen.page)
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        blocks = [{"type": "text", "text": markup} for markup in HOSTILE_MARKUP]
        thoughts = [{"type": "thinking", "thinking": markup} for markup in HOSTILE_MARKUP]
        await client.execute(project.id, puppet(assistant(*blocks), assistant(*thoughts)))
        await expect(seen.page.locator(".row-result")).to_be_visible(timeout=WAIT_MS)
        await seen.is_idle()
        await expect(seen.page.locator(".row-thinking").first).to_be_visible(timeout=WAIT_MS)
        await open_all(seen)
        assert await seen.page.evaluate(FOUND) == NOTHING
        assert asked == []


async def test_hostile_tools_do_nothing(puppets: ServerProcess, browser: Browser, folder: Path) -> None:
    async with puppets.client() as client, screen(browser, puppets) as seen:
        asked = watch(seen.page)
        project = await client.create_project(str(folder))
        await seen.open(project.id)
        ansi = f"\x1b]0;{IMAGE}\x07\x1b[31m{IMAGE}\x1b]8;;javascript:{RUN}\x1b\\link\x1b]8;;\x1b\\ \u202egpj.exe"
        todo = {"content": IMAGE, "activeForm": IMAGE, "status": IMAGE}
        question = {"question": IMAGE, "header": IMAGE, "options": [{"label": IMAGE, "description": IMAGE}]}
        calls = [
            call(1, "Bash", command=f"echo '{IMAGE}'", description=IMAGE),
            call(2, "Edit", file_path=IMAGE, old_string=IMAGE, new_string=HOSTILE_TEXT),
            call(3, "Write", file_path=f"/{IMAGE}", content=HOSTILE_TEXT),
            call(4, "Read", file_path=f"x.{IMAGE}"),
            call(5, "Grep", pattern=IMAGE, path={"not": "text"}),
            call(6, "TodoWrite", todos=[todo, None, 7, "x"]),
            call(7, "AskUserQuestion", questions=[question, {}]),
            call(8, "ExitPlanMode", plan=HOSTILE_TEXT),
            call(9, "Task", description=IMAGE, prompt=HOSTILE_TEXT),
            call(10, f"mcp__{IMAGE}__{IMAGE}", anything={"deep": [IMAGE]}),
            call(11, "__proto__", polluted=IMAGE),
            call(12, "constructor"),
            call(13, "WebFetch", url=f"javascript:{RUN}", prompt=IMAGE),
            {"type": "tool_use", "id": 7, "name": None, "input": [IMAGE]},
        ]
        answers = [
            result(number, ansi if number % 2 else [{"type": "text", "text": HOSTILE_TEXT}]) for number in range(1, 14)
        ]
        picture = {"type": "image", "source": {"media_type": 'image/png" onerror="x', "data": IMAGE}}
        svg = {"type": "image", "source": {"media_type": "image/svg+xml", "data": "PHN2Zy8+"}}
        answers.append(result(13, [picture, svg, None, 5, {"type": IMAGE}], is_error=True))
        await client.execute(project.id, puppet(*(assistant(one) for one in calls), *answers))
        await expect(seen.page.locator(".row-result")).to_be_visible(timeout=WAIT_MS)
        await seen.is_idle()
        await open_all(seen)
        assert await seen.page.evaluate(FOUND) == NOTHING
        assert await seen.page.evaluate("document.querySelectorAll('.tool img').length") == 0
        assert await seen.page.evaluate("({}).polluted ?? null") is None
        assert "\u202e" not in str(await seen.page.locator(".transcript").text_content())
        assert asked == []


async def open_all(seen: Screen) -> None:
    """Unfold every card of the conversation, from its beginning to its end."""
    await seen.page.evaluate("""async () => {
        const list = document.querySelector('.list');
        const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        list.scrollTop = 0;
        for (let turn = 0; turn < 200; turn += 1) {
            await frame();
            for (const head of list.querySelectorAll('[aria-expanded=false]')) head.click();
            await frame();
            const before = list.scrollTop;
            list.scrollTop += list.clientHeight / 2;
            if (list.scrollTop <= before) break;
        }
        await frame();
    }""")


async def test_hostile_requests_do_nothing(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=window.hacked=1>"
    folder.mkdir()
    async with stage.server.client() as client, screen(browser, stage.server, f"{IMAGE}") as seen:
        asked = watch(seen.page)
        project = await client.create_project(str(folder))
        await expect(seen.page.locator(".project", has_text="onerror").first).to_be_visible(timeout=WAIT_MS)
        await seen.open(project.id)
        await seen.send(f"{IMAGE} demo:bash=echo '{IMAGE}' > x.txt")
        await expect(seen.dock).to_contain_text(f"echo '{IMAGE}'", timeout=WAIT_MS)
        await seen.answer("Deny")
        await seen.page.get_by_label("Reason, for the agent").fill(IMAGE)
        await seen.answer("Deny")
        await seen.is_idle()
        await seen.says(f"Denied by {IMAGE}: {IMAGE}")
        await seen.choose("Older sessions")
        await expect(seen.page.get_by_role("dialog")).to_contain_text(IMAGE, timeout=WAIT_MS)
        assert await seen.page.evaluate(FOUND) == NOTHING
        assert asked == []


async def test_the_policy_stops_what_would_get_through(stage: Stage, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{stage.server.port}/")
    refused = await page.evaluate("""async () => {
        const tried = {};
        const attempt = async (name, work) => {
            try { await work(); tried[name] = 'done'; } catch (error) { tried[name] = error.name; }
        };
        await attempt('markup', () => { document.createElement('div').innerHTML = '<b>x</b>'; });
        // Later, so that it is the page that evaluates, and not who tests it.
        const later = (work) => new Promise((done, fail) => setTimeout(() => {
            try { done(work()); } catch (error) { fail(error); }
        }));
        await attempt('evaluation', () => later(() => eval('1')));
        await attempt('function', () => later(() => new Function('return 1')()));
        await attempt('policy', () => trustedTypes.createPolicy('own', {}));
        await attempt('elsewhere', () => fetch('https://example.invalid/'));
        await attempt('script', () => { document.createElement('script').text = 'window.hacked = 1'; });
        return tried;
    }""")
    assert "done" not in refused.values(), refused
    assert await page.evaluate("window.hacked ?? null") is None
    await page.close()


async def test_the_cookie_is_out_of_reach_of_scripts(stage: Stage, browser: Browser) -> None:
    async with screen(browser, stage.server) as seen:
        assert await seen.page.evaluate("document.cookie") == ""
        (cookie,) = await seen.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        kept = await seen.page.evaluate("JSON.stringify(localStorage)")
        assert cookie["value"] not in kept


async def test_the_cookie_belongs_to_a_key_of_the_page_and_an_old_one_gets_it_once(
    stage: Stage, browser: Browser
) -> None:
    """The key is made, kept over a reload, and cannot be exported; a cookie of an older version is traded."""

    def stored() -> Device:
        with connection_beside(database_path(stage.server.data_dir)) as connection:
            found = device_named(connection, "keyed")
        assert found is not None
        return found

    async with screen(browser, stage.server, "keyed") as seen:
        first = stored()
        assert first.credential is Credential.COOKIE
        assert first.public_key is not None
        exported = await seen.page.evaluate(
            """async () => {
                const opening = indexedDB.open("pocket-agent");
                const database = await new Promise((done) => { opening.onsuccess = () => done(opening.result); });
                const getting = database.transaction("key").objectStore("key").get("device");
                const { privateKey } = await new Promise((done) => { getting.onsuccess = () => done(getting.result); });
                database.close();
                return crypto.subtle.exportKey("pkcs8", privateKey).then(() => "exported", (error) => error.name);
            }"""
        )
        assert exported == "InvalidAccessError"
        await seen.reload()
        await expect(seen.page.get_by_role("link", name="Devices").locator("visible=true")).to_be_visible()
        assert stored() == msgspec.structs.replace(
            first, last_seen=stored().last_seen, last_address=stored().last_address
        )

        (cookie,) = await seen.page.context.cookies()
        with connection_beside(database_path(stage.server.data_dir)) as connection:
            connection.execute("UPDATE device SET credential = 'either', public_key = NULL WHERE name = 'keyed'")
        assert await comes_in(stage, cookie["value"]), "as the version before had it"
        await seen.reload()
        await expect(seen.page.get_by_role("link", name="Devices").locator("visible=true")).to_be_visible()

        def traded() -> bool:
            return stored().credential is Credential.COOKIE and stored().public_key is not None

        await eventually(traded, "the cookie is traded")
        assert not await comes_in(stage, cookie["value"])


async def comes_in(stage: Stage, token: str) -> bool:
    """Whether a value is good as a bearer token."""
    try:
        async with Client(stage.server.url, token=token) as client:
            await client.projects()
    except UnauthorizedError:
        return False
    return True
