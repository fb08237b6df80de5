"""pocket_agent.server.pages: the pages that alerts link to."""

import asyncio
import base64
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from pocket_agent.server.pages import Runbooks, read_runbooks, render_page, runbook_directory
from tests.harness import DEADLINE_SECONDS
from tests.harness.absence import absent
from tests.harness.tool import ROOT
from tests.server.room import Room

NAMES = sorted(path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md") if path.stem != "README")


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]


async def get(room: Room, path: str) -> tuple[int, str, dict[str, str]]:
    """A page, without a token."""
    async with aiohttp.ClientSession(room.url) as http, http.get(path, allow_redirects=False) as answer:
        return answer.status, await answer.text(), dict(answer.headers)


async def test_each_runbook_is_a_page(room: Room) -> None:
    for name in NAMES:
        status, text, headers = await get(room, f"/docs/runbooks/{name}")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert f"<h1>{name}</h1>" in text
        assert f"<title>{name} - Pocket Agent Server</title>" in text
        assert re.findall(r"<h2>(.+?)</h2>", text) == ["Meaning", "Impact", "Diagnosis", "Fix"]
        page = Page(text)
        assert "/docs/runbooks" in page.links, "a way back"
        assert "](" not in text, "each link is one"


@pytest.mark.parametrize("path", ["/docs/runbooks", "/docs/runbooks/", "/docs/runbooks/README"])
async def test_the_index_leads_to_all(room: Room, path: str) -> None:
    status, text, _ = await get(room, path)
    assert (status, "<h1>Runbooks</h1>" in text) == (200, True)
    assert {f"/docs/runbooks/{name}" for name in NAMES} <= set(Page(text).links)
    assert "Generated from" not in text


async def test_every_link_leads_somewhere(room: Room) -> None:
    links: set[str] = set()
    for name in NAMES:
        links |= set(Page((await get(room, f"/docs/runbooks/{name}"))[1]).links)
    for link in links:
        assert link.startswith("/"), link
        assert (await get(room, link))[0] == 200, link


async def test_nothing_but_the_style_of_the_page_is_allowed_in_it(room: Room) -> None:
    for path in ("/docs/runbooks", "/docs/runbooks/ServiceDown", "/docs/runbooks/none"):
        _, text, headers = await get(room, path)
        policy = headers["Content-Security-Policy"]
        (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        allowed = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        assert policy == f"{allowed}form-action 'none'; frame-ancestors 'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        page = Page(text)
        assert page.tags.isdisjoint({"script", "img", "iframe", "form", "link", "object"})
        assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
        assert 'name="viewport" content="width=device-width' in text


@pytest.mark.parametrize(
    "path",
    [
        "/docs/runbooks/None",
        "/docs/runbooks/servicedown",
        "/docs/runbooks/ServiceDown.md",
        "/docs/runbooks/..%2fmetrics",
        "/docs/runbooks/%2e%2e%2f%2e%2e%2fREADME",
        "/docs/runbooks/%00",
        "/docs/runbooks/..%5c..%5cREADME",
        "/docs/runbooks/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ],
)
async def test_an_unknown_name_is_not_found(room: Room, path: str) -> None:
    status, text, _ = await get(room, path)
    assert (status, "No such runbook" in text) == (404, True)
    assert "script" not in text


@pytest.mark.parametrize("path", ["/docs/runbooks/../../etc/passwd", "/docs/runbooks//etc/passwd", "/docs", "/docs/"])
async def test_no_path_leads_out(room: Room, path: str) -> None:
    address = URL(room.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE_SECONDS):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


async def test_head_and_other_methods(room: Room) -> None:
    async with aiohttp.ClientSession(room.url) as http:
        async with http.head("/docs/runbooks/ServiceDown") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        async with http.post("/docs/runbooks/ServiceDown") as answer:
            assert answer.status == 405


def test_html_in_a_text_is_shown_and_not_followed() -> None:
    text = render_page("# <b>Bold</b> & more\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1))\n\n`<i>`\n")
    page = Page(text)
    assert page.tags.isdisjoint({"script", "b", "i"})
    assert "<title>&lt;b&gt;Bold&lt;/b&gt; &amp; more - Pocket Agent Server</title>" in text
    assert not [link for link in page.links if link.startswith("javascript:")]


def test_links_to_what_is_not_served_are_left_as_text() -> None:
    ours = "[a](ServiceDown.md#fix) [b](../metrics.md) [c](README.md) [d](#fix)"
    text = render_page(f"{ours} [**e**](https://example.org/)")
    assert Page(text).links[2:] == ["/docs/runbooks/ServiceDown", "/docs/runbooks", "https://example.org/"]
    assert " b " in text
    assert " d " in text


async def test_a_directory_without_texts_serves_none(tmp_path: Path) -> None:
    application = web.Application()
    Runbooks(read_runbooks(tmp_path)).add_to(application)
    async with TestClient(TestServer(application)) as client:
        for path in ("/docs/runbooks", "/docs/runbooks/ServiceDown"):
            assert (await client.get(path)).status == 404


def test_a_checkout_has_them_in_its_docs_and_a_package_with_it(tmp_path: Path) -> None:
    assert runbook_directory() == ROOT / "docs" / "runbooks"
    installed = tmp_path / "site-packages" / "pocket_agent"
    assert runbook_directory(installed) == installed / "runbooks"


def test_a_wheel_holds_them(tmp_path: Path) -> None:
    if find_spec("hatchling") is None:
        absent("hatchling")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("src", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "web"))
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "built")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "built").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if name.startswith("pocket_agent/runbooks/")}
    assert held == {f"pocket_agent/runbooks/{name}.md" for name in (*NAMES, "README")}
