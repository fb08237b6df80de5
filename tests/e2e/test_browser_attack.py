"""What pages of other sites can do to a paired browser: nothing. In a real one, with their own names."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page
from tests.harness.browser import browsing
from tests.harness.server import ServerProcess, free_port, running_server, write_standin

from pocket_agent.storage import connection_beside, devices
from pocket_agent.storage.database import database_path

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Names that only this browser knows: an attacker's site, and one that he lets point at the server.
RESOLVER = "--host-resolver-rules=MAP attacker.test 127.0.0.1, MAP rebound.test 127.0.0.1"
# Newer browsers keep pages of the internet from this machine by themselves; that is not what is under test.
UNPROTECTED = "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"
BLANK = "<!doctype html><title>a page</title>"

WEBSOCKET = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    let opened = false;
    socket.onopen = () => { opened = true; socket.send('{"type":"project_list","request_id":"r"}'); };
    socket.onmessage = event => { resolve(`answered ${JSON.parse(event.data).type}`); socket.close(); };
    socket.onclose = event => resolve(opened ? `closed ${event.code}` : "refused");
})"""
FETCH = """([url, options]) => fetch(url, options).then(
    answer => answer.text().then(text => `${answer.status} ${text}`), error => `refused ${error.name}`)"""
FORM = """([url, kind, name, value]) => {
    const form = document.createElement("form");
    form.method = "POST"; form.action = url; form.enctype = kind; form.target = "sink";
    const field = document.createElement("input");
    field.name = name; field.value = value; form.append(field);
    const frame = document.createElement("iframe");
    frame.name = "sink"; document.body.append(frame, form);
    return new Promise(resolve => {
        frame.onload = () => { frame.remove(); form.remove(); resolve(); };
        form.submit();
    });
}"""


@contextlib.asynccontextmanager
async def attacking() -> AsyncIterator[int]:
    """The port of a site of somebody else."""

    async def blank(_: web.Request) -> web.Response:
        return web.Response(text=BLANK, content_type="text/html")

    application = web.Application()
    application.router.add_get("/", blank)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


async def code_of(server: ServerProcess) -> str:
    """A code that lets one device in."""
    headers = {"Authorization": f"Bearer {server.token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(server.url, headers=headers) as socket:
        await socket.send_json({"type": "pairing_start", "request_id": "r"})
        return str((await socket.receive_json())["data"]["code"])


async def paired(browser: Browser, server: ServerProcess, base: str) -> BrowserContext:
    """A browser that is let in by a cookie."""
    context = await browser.new_context(ignore_https_errors=True, bypass_csp=True)
    body = json.dumps({"code": await code_of(server), "name": "browser"})
    headers = {"Origin": base, "Content-Type": "application/json"}
    answer = await context.request.post(f"{base}/api/pair", data=body, headers=headers)
    assert answer.status == 200, await answer.text()
    return context


async def page_at(context: BrowserContext, base: str) -> Page:
    """A page of the given origin whose policy forbids nothing, as the worst of them would be."""
    page = await context.new_page()
    await page.goto(f"{base}/livez")
    return page


def names_of(server: ServerProcess) -> list[str]:
    """The devices that may connect."""
    with connection_beside(database_path(server.data_dir)) as connection:
        return [device.name for device in devices(connection)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def launched() -> AsyncIterator[Browser]:
    """One browser for all tests; cookies and pages belong to contexts."""
    async with browsing(RESOLVER, UNPROTECTED) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def browser(launched: Browser) -> AsyncIterator[Browser]:
    """The browser; the contexts of the test are closed at its end."""
    yield launched
    for context in launched.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server on loopback, in plain."""
    async with running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}) as started:
        yield started


@pytest.mark.parametrize("site", ["attacker.test", "127.0.0.1", "localhost"])
async def test_pages_of_another_origin_reach_nothing(server: ServerProcess, browser: Browser, site: str) -> None:
    """Another site; another port of the same host, whose cookies the browser sends along; another name of it."""
    base, socket = f"http://127.0.0.1:{server.port}", server.url
    async with attacking() as port:
        context = await paired(browser, server, base)
        own = await page_at(context, base)
        assert await own.evaluate(WEBSOCKET, socket) == "answered project_list_response"
        assert (await own.evaluate(FETCH, ["/api/session", {}])).startswith("200 ")

        evil = await context.new_page()
        await evil.goto(f"http://{site}:{port}/")
        assert await evil.evaluate(WEBSOCKET, socket) == "refused"
        code = await code_of(server)
        body = json.dumps({"code": code, "name": "evil"})
        json_type = {"Content-Type": "application/json"}
        post: dict[str, Any] = {"method": "POST", "body": body, "credentials": "include"}
        attempts: list[list[Any]] = [
            [f"{base}/api/session", {"credentials": "include"}],
            [f"{base}/api/pair", {**post, "headers": json_type}],
            [f"{base}/api/pair", {**post, "headers": {"Content-Type": "text/plain"}}],
            [f"{base}/api/logout", {**post, "headers": json_type}],
            [f"{base}/health", {"credentials": "include"}],
        ]
        for attempt in attempts:
            assert await evil.evaluate(FETCH, attempt) == "refused TypeError", attempt
        for path in ("/api/pair", "/api/logout"):
            await evil.evaluate(FETCH, [base + path, {**post, "mode": "no-cors"}])
            name, _, value = body.partition('"evil')
            await evil.evaluate(FORM, [base + path, "text/plain", f'{name}"evil', value])
            await evil.evaluate(FORM, [base + path, "application/x-www-form-urlencoded", "code", code])
            await evil.evaluate(FORM, [base + path, "multipart/form-data", "code", code])

        assert names_of(server) == ["test", "browser"], "nobody was let in, nobody was put out"
        assert await own.evaluate(WEBSOCKET, socket) == "answered project_list_response"


@pytest.mark.parametrize("flags", [[], ["--no-auth"]])
async def test_a_name_that_is_made_to_point_here_reaches_nothing(
    tmp_path: Path, browser: Browser, flags: list[str]
) -> None:
    """DNS rebinding: the page is of the server's own origin then, as far as the browser knows."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path, env=env, flags=flags) as server:
        rebound = f"http://rebound.test:{server.port}"
        context = await browser.new_context(bypass_csp=True)
        page = await context.new_page()
        answer = await page.goto(f"{rebound}/")
        assert answer is not None
        assert answer.status == 421
        page = await page_at(context, rebound)
        assert await page.evaluate(WEBSOCKET, f"ws://rebound.test:{server.port}/ws") == "refused"
        for path in ("/", "/api/session", "/health", "/livez"):
            assert (await page.evaluate(FETCH, [path, {}])).startswith("421 ")
        code = "AAAA-AAAA-AAAA" if flags else await code_of(server)
        body = json.dumps({"code": code, "name": "evil"})
        post = {"method": "POST", "body": body, "headers": {"Content-Type": "application/json"}}
        assert (await page.evaluate(FETCH, ["/api/pair", post])).startswith("421 ")
        assert names_of(server) == ["test"]


async def test_without_tokens_pages_of_other_origins_reach_nothing(tmp_path: Path, browser: Browser) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with (
        running_server(tmp_path, env=env, flags=["--no-auth"]) as server,
        attacking() as port,
    ):
        context = await browser.new_context(bypass_csp=True)
        own = await page_at(context, f"http://127.0.0.1:{server.port}")
        assert await own.evaluate(WEBSOCKET, server.url) == "answered project_list_response"
        for site in ("attacker.test", "127.0.0.1", "localhost"):
            evil = await context.new_page()
            await evil.goto(f"http://{site}:{port}/")
            assert await evil.evaluate(WEBSOCKET, server.url) == "refused"


async def test_no_page_holds_ours_in_a_frame(server: ServerProcess, browser: Browser) -> None:
    async with attacking() as port:
        context = await browser.new_context()
        page = await context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        await page.goto(f"http://attacker.test:{port}/")
        for path in ("/", "/livez", "/dashboard"):
            await page.evaluate(
                """url => new Promise(resolve => {
                    const frame = document.createElement("iframe");
                    frame.onload = resolve; frame.src = url; document.body.append(frame);
                })""",
                f"http://127.0.0.1:{server.port}{path}",
            )
        assert sum("frame-ancestors" in text for text in said) == 3, said


async def test_the_cookie_of_tls_is_out_of_reach(tmp_path: Path, browser: Browser) -> None:
    """No script reads it, no plain connection carries it, and the two listeners do not take it from each other."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    server = ServerProcess(tmp_path, env=env)
    server.tls_port = free_port()
    try:
        await server.start()
        secure, plain = f"https://127.0.0.1:{server.tls_port}", f"http://127.0.0.1:{server.port}"
        context = await paired(browser, server, secure)
        (cookie,) = await context.cookies()
        assert cookie.get("name", "").startswith("__Host-pocket_agent_")
        assert (cookie.get("secure"), cookie.get("httpOnly"), cookie.get("sameSite")) == (True, True, "Strict")
        page = await page_at(context, secure)
        assert await page.evaluate("document.cookie") == ""
        assert (await page.evaluate(FETCH, ["/api/session", {}])).startswith("200 ")
        assert await page.evaluate(WEBSOCKET, f"wss://127.0.0.1:{server.tls_port}/ws") == (
            "answered project_list_response"
        )
        other = await page_at(context, plain)
        assert (await other.evaluate(FETCH, ["/api/session", {}])).startswith("401 ")
        body = json.dumps({"code": await code_of(server), "name": "plain"})
        headers = {"Origin": plain, "Content-Type": "application/json"}
        assert (await context.request.post(f"{plain}/api/pair", data=body, headers=headers)).status == 200
        assert (await other.evaluate(FETCH, ["/api/session", {}])).startswith("200 ")
        assert (await page.evaluate(FETCH, ["/api/session", {}])).startswith("200 ")
        assert len(await context.cookies()) == 2
    finally:
        await server.clean_up()
