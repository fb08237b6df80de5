"""How the doctor asks for pages: whole, within bounds, and never elsewhere."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from pocket_agent.monitoring.doctor import probes
from pocket_agent.monitoring.doctor.probes import get

PIECE = b"x" * 1000
PIECES = 50


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server that sends a page in pieces, and one that leads elsewhere."""

    async def pieces(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(PIECES):
            await answer.write(PIECE)
            await asyncio.sleep(0.001)
        return answer

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://192.0.2.1/")

    application = web.Application()
    application.router.add_get("/pieces", pieces)
    application.router.add_get("/elsewhere", elsewhere)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_page_that_comes_in_pieces_is_read_whole(url: str) -> None:
    found = await get(f"{url}/pieces")
    assert (found.status, len(found.body)) == (200, PIECES * len(PIECE))


async def test_of_a_page_that_never_ends_only_so_much_is_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_BYTES", 2500)
    assert len((await get(f"{url}/pieces")).body) == 2500


async def test_it_is_not_led_elsewhere(url: str) -> None:
    assert (await get(f"{url}/elsewhere")).status == 302
