"""The web client as it is served: its pages, its files, and what is said where it is missing."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pocket_agent import __version__
from pocket_agent.server.pages import PAGES, POLICY, Site
from tests.server.room import Room

SCRIPT = b"console.log('a client');" * 50


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A client as its build leaves it."""
    folder = tmp_path / "web"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>built</title>")
    (folder / "manifest.webmanifest").write_text("{}")
    (folder / "icon-192.png").write_bytes(b"\x89PNG")
    (folder / ".built").touch()
    script = folder / "assets" / "index-abc.js"
    script.write_bytes(SCRIPT)
    script.with_name("index-abc.js.gz").write_bytes(gzip.compress(SCRIPT))
    script.with_name("index-abc.js.br").write_bytes(b"brotli")
    return folder


@pytest.fixture
async def url(built: Path) -> AsyncIterator[str]:
    """Where a client is served."""
    (built.parent / "secret.txt").write_text("secret")
    application = web.Application()
    Site(built).add_to(application.router)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_every_page_is_the_same_file(url: str) -> None:
    async with aiohttp.ClientSession(url) as http:
        for page in PAGES:
            async with http.get(page.replace("{project}", "f02d71fa-c3bd")) as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
                assert "<title>built</title>" in await answer.text()
                assert answer.headers["Content-Security-Policy"] == POLICY
                assert answer.headers["Cache-Control"] == "no-cache"


def test_the_policy_lets_nothing_in_line_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert POLICY.startswith("default-src 'none'; ")
    assert "require-trusted-types-for 'script'" in POLICY


async def test_files_whose_names_change_are_kept_for_ever(url: str) -> None:
    async with aiohttp.ClientSession(url) as http, http.get("/assets/index-abc.js") as answer:
        assert answer.content_type == "text/javascript"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert await answer.read() == SCRIPT


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("gzip; q=0.0", None),
        ("identity", None),
        ("", None),
        (";;,,q", None),
    ],
)
async def test_what_was_compressed_is_sent_to_who_takes_it(url: str, accepted: str, encoding: str | None) -> None:
    async with (
        aiohttp.ClientSession(url, auto_decompress=False) as http,
        http.get("/assets/index-abc.js", headers={"Accept-Encoding": accepted}) as answer,
    ):
        assert answer.headers.get("Content-Encoding") == encoding
        assert answer.headers["Vary"] == "Accept-Encoding"
        expected = {"br": b"brotli", "gzip": gzip.compress(SCRIPT), None: SCRIPT}[encoding]
        assert len(await answer.read()) == len(expected)


async def test_what_a_browser_has_is_not_sent_again(url: str) -> None:
    async with aiohttp.ClientSession(url) as http:
        async with http.get("/") as answer:
            etag = answer.headers["ETag"]
        for tags in (etag, f"W/{etag}", f'"other", {etag}'):
            async with http.get("/", headers={"If-None-Match": tags}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
        async with http.get("/", headers={"If-None-Match": '"other"'}) as answer:
            assert answer.status == 200


async def test_head_tells_what_get_would(url: str) -> None:
    async with aiohttp.ClientSession(url) as http, http.head("/assets/index-abc.js") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt", "/.built", "/assets", "/assets/", "/none"],
)
async def test_nothing_else_is_served(url: str, path: str) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{url}{path}") as answer:
        assert answer.status == 404
        assert "secret" not in await answer.text()


async def test_who_reads_pages_is_told_by_the_client_that_there_is_none(url: str) -> None:
    async with aiohttp.ClientSession(url) as http:
        async with http.get("/") as answer:
            page = await answer.read()
        async with http.get("/none", headers={"Accept": "text/html,*/*;q=0.8"}) as answer:
            assert (answer.status, await answer.read()) == (404, page)
            assert answer.headers["Content-Security-Policy"] == POLICY


async def test_without_a_build_the_page_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path / "none")
    assert not site.complete
    application = web.Application()
    site.add_to(application.router)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{runner.addresses[0][1]}/") as answer:
        assert answer.status == 200
        text = await answer.text()
        assert "The web client is missing" in text
        assert __version__ in text
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
    await runner.cleanup()


async def test_a_build_that_is_half_there_is_none(built: Path) -> None:
    (built / "index.html").unlink()
    assert not Site(built).complete


async def test_the_server_serves_it_and_works_on(room: Room) -> None:
    async with aiohttp.ClientSession(room.url) as http, http.get("/") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        text = await answer.text()
    assert room.token not in text
    assert str(room.folder) not in text
    async with room.wire() as wire:
        await wire.works()
