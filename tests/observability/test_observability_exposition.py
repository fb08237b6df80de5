"""`/metrics`: its forms, its token, its bounds, and that a scrape is exactly what the catalogue says."""

import asyncio
import contextlib
import gzip
import json
import stat
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pocket_agent import events
from pocket_agent.distribution import Distribution
from pocket_agent.errors import ConfigurationError
from pocket_agent.model import ExecutionStatus
from pocket_agent.observability.catalogue import CATALOGUE, EVENT_LOOP_LAG, PREFIX, PROCESS, children, series
from pocket_agent.observability.exposition import Exposition, ScrapeFormat, application, scrape_token
from pocket_agent.observability.metrics import CoreCollector, CoreValues, MetricObserver
from pocket_agent.observability.tracing import TraceIdentity
from pocket_agent.settings import MetricsSettings, Settings, load_settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.server import ServerProcess, free_port, running_server, write_standin
from tests.harness.tool import require_tool
from tests.observability.sample import KINDS, example
from tests.server.room import Room, open_room

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PLAIN_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def parse_openmetrics(text: str) -> list[Family]:
    """The families of a scrape in OpenMetrics."""
    return list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def series_of(text: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Name and labels of each series in a scrape in the text format; an agent's project changes, so it is left out."""
    found = set()
    for sample in (sample for family in parse_text(text) for sample in family.samples):
        of_agent = sample.name.startswith(PREFIX + "agent_") and "project" in sample.labels
        labels = {"project": ""} if of_agent else sample.labels
        found.add((sample.name, frozenset(labels.items())))
    return found


def expected_series(settings: MetricsSettings, build: dict[str, str]) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """The same by the catalogue."""
    found = {(name, frozenset[tuple[str, str]]()) for name in PROCESS}
    for metric in CATALOGUE:
        keys = children(metric, settings) or [tuple(build.get(label, "") for label in metric.labels)]
        for key in keys:
            labels = frozenset(zip(metric.labels, key, strict=True))
            if metric.kind == "histogram":
                bounds = [*(repr(float(bound)) for bound in metric.buckets), "+Inf"]
                found |= {(metric.name + "_bucket", labels | {("le", bound)}) for bound in bounds}
                found |= {(metric.name + "_count", labels), (metric.name + "_sum", labels)}
            else:
                found.add((metric.name, labels))
    return found


class Served:
    """A metrics listener over a room.

    Attributes:
        url: the address of the metrics.
        metrics: what counts events.
        core: what reads the core.
    """

    def __init__(self, room: Room, port: int, metrics: MetricObserver, core: CoreCollector) -> None:
        self.room = room
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.metrics = metrics
        self.core = core

    async def get(self, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """A scrape as it came, without the library's undoing of a compression."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding", "Accept"]) as http,
            http.get(self.url, headers={"Accept-Encoding": "identity", **named}) as answer,
        ):
            return answer.status, dict(answer.headers), await answer.read()


@contextlib.asynccontextmanager
async def serve(room: Room, token: str | None = None) -> AsyncIterator[Served]:
    """Open a metrics listener."""
    metrics = MetricObserver(identify=lambda _: TraceIdentity("ab" * 16, "cd" * 8, sampled=True))
    lags = Distribution(EVENT_LOOP_LAG.buckets)
    core = CoreCollector(
        room.hub, room.projects, room.store, room.losses, metrics, room.settings, lags, room.observed.agents
    )
    runner = web.AppRunner(application(Exposition(metrics.registry, core), token), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Served(room, runner.addresses[0][1], metrics, core)
    finally:
        await runner.cleanup()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A metrics listener that asks for nothing."""
    async with open_room(tmp_path) as room, serve(room) as opened:
        yield opened


async def test_the_text_format_is_the_default(served: Served) -> None:
    for accept in ("", "*/*", "text/html", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "application/json"):
        status, headers, body = await served.get(Accept=accept)
        assert (status, headers["Content-Type"]) == (200, PLAIN_TYPE), accept
        assert body.endswith(b"\n")
        assert b"# EOF" not in body
        assert len(list(parse_text(body.decode()))) > len(CATALOGUE)


@pytest.mark.parametrize(
    "accept",
    [
        OPENMETRICS,
        "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3",
        "application/openmetrics-text;version=9.9.9",
    ],
)
async def test_openmetrics_for_who_asks_for_it(served: Served, accept: str) -> None:
    status, headers, body = await served.get(Accept=accept)
    assert (status, headers["Content-Type"]) == (200, OPENMETRICS_TYPE)
    assert body.endswith(b"# EOF\n")
    assert len(parse_openmetrics(body.decode())) > len(CATALOGUE)


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=x", "application/openmetrics-text;version=", ";;;,,,"]
)
async def test_an_accept_header_that_is_nonsense_harms_nobody(served: Served, accept: str) -> None:
    status, _, body = await served.get(Accept=accept)
    assert status == 200
    assert body


async def test_exemplars_are_in_openmetrics_alone(served: Served) -> None:
    served.metrics.emit(example(events.ExecutionFinished, status=ExecutionStatus.SUCCESS, usage=(), code=None))
    _, _, plain = await served.get()
    assert b"trace_id" not in plain
    _, _, body = await served.get(Accept=OPENMETRICS)
    found = {
        sample.name: sample.exemplar.labels
        for family in parse_openmetrics(body.decode())
        for sample in family.samples
        if sample.exemplar
    }
    assert found == {
        PREFIX + "executions_total": {"trace_id": "ab" * 16},
        PREFIX + "execution_duration_seconds_bucket": {"trace_id": "ab" * 16},
    }


async def test_gzip_for_who_asks_for_it(served: Served) -> None:
    _, headers, body = await served.get(Accept_Encoding="deflate, gzip;q=1.0")
    assert headers["Content-Encoding"] == "gzip"
    assert series_of(gzip.decompress(body).decode()) == series_of((await served.get())[2].decode())
    assert len(body) < 10_000
    assert "Content-Encoding" not in (await served.get())[1]


async def test_only_metrics_are_there(served: Served) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.head(served.url) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        async with http.post(served.url) as answer:
            assert answer.status == 405
        for path in ("/", "/metrics/", "/health", "/metricsx", "/../metrics-token"):
            async with http.get(served.url.removesuffix("/metrics") + path) as answer:
                assert answer.status == 404, path


async def test_a_scrape_wants_its_token(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, serve(room, "sesame") as served:
        for shown in (
            "",
            "Bearer",
            "Bearer ",
            "Bearer sesam",
            "Bearer sesamee",
            "Basic sesame",
            "sesame",
            "Bearer ä\udcff",
        ):
            status, headers, body = await served.get(Authorization=shown)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer"), shown
            assert b"sesame" not in body
            assert PREFIX.encode() not in body
        for shown in ("Bearer sesame", "bearer  sesame "):
            assert (await served.get(Authorization=shown))[0] == 200


async def test_many_scrapes_at_once_take_two_renderings(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    arrived = rendered = 0
    real, render = served.core.collect, Exposition.render

    async def arrives(exposition: Exposition, form: ScrapeFormat) -> bytes:
        nonlocal arrived
        arrived += 1
        return await render(exposition, form)

    async def slow() -> CoreValues:
        nonlocal rendered
        rendered += 1
        begun.set()
        await go_on.wait()
        return await real()

    monkeypatch.setattr(Exposition, "render", arrives)
    monkeypatch.setattr(served.core, "collect", slow)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(served.get())
        await begun.wait()
        rest = [group.create_task(served.get()) for _ in range(50)]
        await eventually(lambda: arrived == 51, "all have arrived")
        served.room.hub.parked = 17
        go_on.set()
    assert rendered == 2
    for task in (first, *rest):
        assert task.result()[0] == 200
    assert all(b'slow_consumer_total{action="parked"} 17.0' in task.result()[2] for task in rest)
    assert [thread.name for thread in threading.enumerate()].count("metrics") <= 2, "threads are used again"


async def test_a_scrape_sees_what_was_there_when_it_was_asked_for(served: Served) -> None:
    for number in range(1, 20):
        served.metrics.emit(example(events.ConnectionOpened))
        others = [asyncio.ensure_future(served.get()) for _ in range(3)]
        text = (await served.get())[2].decode()
        assert f"{PREFIX}connections_total {number}.0\n" in text
        await asyncio.gather(*others)


async def test_a_scrape_that_is_given_up_keeps_no_other(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()
    real = served.core.collect

    async def slow() -> CoreValues:
        await go_on.wait()
        return await real()

    monkeypatch.setattr(served.core, "collect", slow)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await served.get()
    go_on.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await served.get())[0] == 200


async def test_scrapes_while_everything_changes_in_every_thread(served: Served) -> None:
    """Events come on the loop, commits and losses in threads of their own."""
    over = threading.Event()
    told = [example(kind) for kind in KINDS if kind is not events.HealthChanged]

    def churn() -> None:
        number = 0
        while not over.is_set():
            number += 1
            served.room.store.durations.observe(number % 7 / 10)
            served.room.losses.add("logs")
            served.metrics.emit(told[number % len(told)])
            if number % 100 == 0:
                time.sleep(0.001)  # or the others hardly ever get the interpreter

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        shape = None
        for number in range(10):
            await served.room.project(f"p{number}")
            served.room.hub.sent_by_type[f"kind{number}"] += 1
            for accept, parse in (("", parse_text), (OPENMETRICS, parse_openmetrics)):
                status, _, body = await served.get(Accept=accept)
                assert status == 200
                found = {
                    (sample.name, *sample.labels.items())
                    for family in parse(body.decode())
                    for sample in family.samples
                }
                shape = found if shape is None else shape
                assert found == shape
    finally:
        over.set()
        for thread in threads:
            thread.join()


def settings_of(folder: Path, **changed: object) -> Settings:
    """Settings of a data directory."""
    flags = {"data.dir": folder, **{name.replace("__", "."): value for name, value in changed.items()}}
    return load_settings(config=None, environ={}, flags=flags).settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_nothing_is_asked(tmp_path: Path, host: str) -> None:
    assert scrape_token(settings_of(tmp_path, metrics__host=host)) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_loopback_a_token_is_made_once(tmp_path: Path, host: str) -> None:
    made = scrape_token(settings_of(tmp_path, metrics__host=host))
    assert made is not None
    assert made.file == tmp_path / "metrics-token"
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    assert made.file.read_text("utf-8").strip() == made.text
    assert len(made.text) >= 43, "256 bits"
    assert scrape_token(settings_of(tmp_path, metrics__host=host)) == made
    assert [file.name for file in tmp_path.iterdir()] == ["metrics-token"]


def test_a_token_of_ones_own_counts_on_loopback_too(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  sesame\n", "utf-8")
    made = scrape_token(settings_of(tmp_path / "data", metrics__token_file=file))
    assert made is not None
    assert made.text == "sesame"


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"two\nlines", b"\xff", "ä".encode(), None])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"metrics\.token_file") as caught:
        scrape_token(settings_of(tmp_path / "data", metrics__token_file=file))
    assert str(file) in caught.value.message


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A whole server that is scraped."""
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(free_port()),
        "PA_METRICS_PROJECTS": '["mine", "yours"]',
    }
    async with running_server(tmp_path, env=env) as started:
        yield started


async def scrape(server: ServerProcess) -> str:
    """The metrics of a whole server."""
    url = f"http://127.0.0.1:{server.env['PA_METRICS_PORT']}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 200
        return await answer.text()


def build_of(text: str) -> dict[str, str]:
    """The labels of the build."""
    (build,) = [
        sample for family in parse_text(text) for sample in family.samples if sample.name == PREFIX + "build_info"
    ]
    return build.labels


async def test_a_scrape_is_what_the_catalogue_says_before_and_after_work(server: ServerProcess, folder: Path) -> None:
    settings = MetricsSettings(projects=("mine", "yours"))
    first = await scrape(server)
    expected = expected_series(settings, build_of(first))
    assert series_of(first) == expected
    assert len(expected) == series(settings)
    async with server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, "lines 5 ask Bash")
            async for frame in stream:
                if frame.type == "approval_requested":
                    await client.approve(project.id, frame.data["approval_id"])
                if frame.type == "project_state" and frame.data["state"] == "IDLE" and frame.data["offset"] > 5:
                    break
        last = await scrape(server)
    assert series_of(last) == expected
    for line in (
        'executions_total{status="success"} 1.0',
        'approvals_total{behavior="allow"} 1.0',
        'messages_received_total{type="execute"} 1.0',
        "connections_active 1.0",
        "connections_total 1.0",
        "projects_total 1.0",
    ):
        assert f"\n{PREFIX}{line}\n" in last


async def test_promtool_finds_nothing_but_the_guides_name(server: ServerProcess) -> None:
    promtool = require_tool("promtool")
    text = await scrape(server)
    done = await asyncio.to_thread(
        subprocess.run, [str(promtool), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    found = (done.stdout + done.stderr).strip().splitlines()
    assert found == ['pocket_agent_projects_total non-counter metrics should not have "_total" suffix']


async def test_a_hundred_projects_and_connections_add_no_series(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room, serve(room) as served, contextlib.AsyncExitStack() as stack:
        before = series_of((await served.get())[2].decode())
        projects = [await room.project(f"p{number}") for number in range(100)]
        clients = [await stack.enter_async_context(room.client()) for _ in range(100)]
        for client, session in zip(clients, projects, strict=True):
            await stack.enter_async_context(client.subscribe(session.state.record.id))
        text = (await served.get())[2].decode()
        for line in ("connections_active 100.0", "projects_total 100.0", "subscriptions_active 100.0"):
            assert f"\n{PREFIX}{line}\n" in text
        assert series_of(text) == before
        assert len(before) < 500


async def test_a_server_with_a_token_tells_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\n", "utf-8")
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(free_port()),
        "PA_METRICS_TOKEN_FILE": str(tmp_path / "token"),
    }
    async with running_server(tmp_path, env=env) as server, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{env['PA_METRICS_PORT']}/metrics"
        async with http.get(url) as answer:
            assert answer.status == 401
        async with http.get(url, headers={"Authorization": "Bearer sesame"}) as answer:
            assert answer.status == 200
        (told,) = list(lines_of(server, "metrics served"))
        assert told["fields"] == {"address": url, "token_file": env["PA_METRICS_TOKEN_FILE"]}
        assert "sesame" not in server.log


def lines_of(server: ServerProcess, message: str) -> Iterator[dict[str, dict[str, str]]]:
    """The lines of the log with this message; a person is greeted in between."""
    for text in server.log.splitlines():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            if line["msg"] == message:
                yield line
