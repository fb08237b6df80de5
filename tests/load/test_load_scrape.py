"""pocket_agent.load.scrape: a page of metrics as Prometheus' own library writes it, and what changed between two."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pocket_agent.load.scrape import Exporter, ScrapeError, changes, parse
from tests.harness.server import free_port

Serve = Callable[[str, int], Awaitable[str]]


def page(requests: int, *, lag: float = 0.5) -> str:
    registry = CollectorRegistry()
    counter = Counter("requests_total", "How many.", ["type", "outcome"], registry=registry)
    counter.labels("a} 7", 'with "quotes"\n').inc(requests)
    counter.labels("b", "ok").inc(0)
    Gauge("lag_seconds", "Now.", registry=registry).set(lag)
    Histogram("wait_seconds", "Waits.", registry=registry, buckets=(1, 2)).observe(1.5)
    return generate_latest(registry).decode()


def test_samples() -> None:
    samples = {series: value for series, value in parse(page(3)).items() if "_created" not in series}
    assert samples == {
        r'requests_total{outcome="with \"quotes\"\n",type="a} 7"}': 3,
        'requests_total{outcome="ok",type="b"}': 0,
        "lag_seconds": 0.5,
        "wait_seconds_count": 1,
        "wait_seconds_sum": 1.5,
    }


def test_what_is_no_sample_is_left_out() -> None:
    assert parse("<html>\n{} 1\nname\nname word\n# HELP x y\nup 1 1700000000000\n") == {"up": 1}


def test_what_changed() -> None:
    changed = changes(parse(page(3)), {**parse(page(5)), "new_total": 1.0})
    assert changed[r'requests_total{outcome="with \"quotes\"\n",type="a} 7"}'] == (3.0, 5.0)
    assert changed["new_total"] == (0.0, 1.0)
    assert "lag_seconds" not in changed


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve a page at /metrics for who shows the token; returns its address."""
    runners: list[web.AppRunner] = []

    async def start(text: str, status: int) -> str:
        async def metrics(request: web.Request) -> web.Response:
            allowed = request.headers.get("Authorization") == "Bearer let-me-in"
            return web.Response(text=text, status=status if allowed else 401)

        application = web.Application()
        application.router.add_get("/metrics", metrics)
        runner = web.AppRunner(application)
        runners.append(runner)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{port}/metrics"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_scrape(serve: Serve) -> None:
    url = await serve(page(4), 200)
    assert (await Exporter(url, "let-me-in").scrape())["lag_seconds"] == 0.5
    with pytest.raises(ScrapeError, match="HTTP 401"):
        await Exporter(url).scrape()


@pytest.mark.parametrize(("text", "status", "says"), [("", 500, "HTTP 500"), ("<html>", 200, "no metrics")])
async def test_a_page_that_has_none(serve: Serve, text: str, status: int, says: str) -> None:
    with pytest.raises(ScrapeError, match=says):
        await Exporter(await serve(text, status), "let-me-in").scrape()


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/metrics", "http://", "metrics"])
async def test_nobody_there(url: str) -> None:
    with pytest.raises(ScrapeError, match="cannot be read"):
        await Exporter(url.format(port=free_port())).scrape()
