"""Span export: no collector slows or stops the server, and lost spans are counted."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.span_export import SpanExport
from pocket_agent.observability.tracing import Span, read_telemetry
from pocket_agent.settings import Settings, load_settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.collector import Collector, collecting
from tests.harness.follow import eventually
from tests.harness.server import free_port

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "hidden-word"
FOREVER = "3600000"
"""An hour, in milliseconds: longer than any test waits."""


class Exporting:
    """An export under test.

    Attributes:
        losses: what it has lost.
        given: how many spans it was handed.
    """

    def __init__(self, endpoint: str, **environ: str) -> None:
        self.losses = Losses()
        self.given = 0
        settings = _settings(endpoint)
        quick = {"OTEL_BSP_SCHEDULE_DELAY": "5", **{f"OTEL_{name}": value for name, value in environ.items()}}
        options = read_telemetry(settings, quick).traces
        assert options is not None
        self.export = SpanExport(options, self.losses)

    def add(self, count: int) -> None:
        """Hand over so many spans."""
        for _ in range(count):
            self.given += 1
            span = Span("x", "x", 1, 2, {"number": self.given})
            self.export.add(span, TRACE, f"{self.given:016x}", "b7ad6b7169203331")

    @property
    def lost(self) -> int:
        """How many were lost."""
        return self.losses.of("traces")

    async def until_lost(self, count: int) -> None:
        """Wait until so many are lost, and not one more."""
        await eventually(lambda: self.lost >= count, f"{count} spans are lost")
        assert self.lost == count


def _settings(endpoint: str) -> Settings:
    given = {
        "PA_TRACES_ENABLED": "true",
        "PA_TRACES_ENDPOINT": endpoint,
        "PA_TRACES_HEADERS": f"authorization=Bearer {SECRET}",
    }
    return load_settings(config=None, environ=given, flags={"data.dir": Path("/data")}).settings


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A collector that works."""
    async with collecting() as collector:
        yield collector


async def arrived(collector: Collector, count: int) -> None:
    """Wait until so many spans have arrived."""
    await eventually(lambda: len(collector.spans) >= count, f"{count} spans have arrived")
    assert len({span.span_id for span in collector.spans}) == count == len(collector.spans)


async def test_all_arrive_in_batches(collector: Collector) -> None:
    it = Exporting(collector.url, BSP_MAX_EXPORT_BATCH_SIZE="100", BSP_MAX_QUEUE_SIZE="2000")
    it.add(1050)
    await asyncio.to_thread(it.export.close, 10.0)
    await arrived(collector, 1050)
    assert len(collector.requests) >= 11
    assert it.lost == 0
    assert {request.headers["authorization"] for request in collector.requests} == {f"Bearer {SECRET}"}
    assert {request.path for request in collector.requests} == {"/v1/traces"}


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
async def test_compressed(collector: Collector, compression: str) -> None:
    it = Exporting(collector.url, EXPORTER_OTLP_COMPRESSION=compression)
    it.add(3)
    await asyncio.to_thread(it.export.close, 10.0)
    await arrived(collector, 3)
    assert collector.requests[0].headers.get("content-encoding", "none") == compression


async def test_a_dead_collector_loses_all_and_nothing_waits() -> None:
    it = Exporting(f"http://127.0.0.1:{free_port()}", EXPORTER_OTLP_TIMEOUT="1")
    it.add(7)
    await it.until_lost(7)
    await asyncio.to_thread(it.export.close, 10.0)
    assert it.lost == 7


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
async def test_a_refusal_is_final(collector: Collector, status: int) -> None:
    collector.status = status
    it = Exporting(collector.url)
    it.add(5)
    await it.until_lost(5)
    assert len(collector.requests) == 1
    collector.status = 200
    it.add(4)
    await asyncio.to_thread(it.export.close, 10.0)
    await arrived(collector, 4)
    assert it.lost == 5


async def test_a_collector_that_is_busy_is_asked_again(collector: Collector) -> None:
    collector.status, collector.headers = 503, {"Retry-After": "1"}
    it = Exporting(collector.url)
    it.add(5)
    await eventually(lambda: len(collector.requests) >= 1, "it was asked")
    collector.status = 200
    await asyncio.to_thread(it.export.close, 10.0)
    await arrived(collector, 5)
    assert it.lost == 0


async def test_what_the_collector_refuses_of_a_request_is_counted(collector: Collector) -> None:
    collector.rejects = 2
    it = Exporting(collector.url)
    it.add(5)
    await asyncio.to_thread(it.export.close, 10.0)
    assert it.lost == 2


@pytest.mark.parametrize("rejects", [-3, 10**9])
async def test_a_collector_that_counts_nonsense(collector: Collector, rejects: int) -> None:
    collector.rejects = rejects
    it = Exporting(collector.url)
    it.add(5)
    await asyncio.to_thread(it.export.close, 10.0)
    assert it.lost == (5 if rejects > 0 else 0)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(collector: Collector, status: int) -> None:
    async with collecting() as other:
        collector.status, collector.headers = status, {"Location": f"{other.url}/v1/traces"}
        it = Exporting(collector.url)
        it.add(5)
        await it.until_lost(5)
        await asyncio.to_thread(it.export.close, 10.0)
        assert other.requests == []


async def test_no_proxy_is_used(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    async with collecting() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        it = Exporting(collector.url)
        it.add(1)
        await asyncio.to_thread(it.export.close, 10.0)
        await arrived(collector, 1)
        assert proxy.requests == []


async def test_a_full_queue_loses_what_is_new(collector: Collector) -> None:
    collector.hangs = True
    it = Exporting(collector.url, BSP_MAX_QUEUE_SIZE="20", BSP_MAX_EXPORT_BATCH_SIZE="10")
    it.add(10)
    await eventually(lambda: len(collector.requests) == 1, "the first batch is under way")
    it.add(50)
    assert it.lost == 30
    collector.release()
    await asyncio.to_thread(it.export.close, 10.0)
    await arrived(collector, 30)
    assert it.lost == 30


async def test_a_hanging_collector_does_not_hold_the_end_up(collector: Collector) -> None:
    collector.hangs = True
    it = Exporting(
        collector.url, BSP_MAX_QUEUE_SIZE="20", BSP_MAX_EXPORT_BATCH_SIZE="10", EXPORTER_OTLP_TIMEOUT=FOREVER
    )
    it.add(10)
    await eventually(lambda: len(collector.requests) == 1, "the first batch is under way")
    it.add(15)
    async with asyncio.timeout(DEADLINE_SECONDS):  # the exporter itself waits for an hour for each batch
        await asyncio.to_thread(it.export.close, 0.1)
    assert it.lost == 25
    it.add(1)
    assert it.lost == 26


async def test_waiting_to_try_again_ends_with_the_server(collector: Collector) -> None:
    others = set(threading.enumerate())

    def exporting() -> bool:
        return any(thread.name.startswith("OtelBatch") for thread in set(threading.enumerate()) - others)

    collector.status, collector.headers = 503, {"Retry-After": "3000"}
    it = Exporting(collector.url, EXPORTER_OTLP_TIMEOUT=FOREVER)
    it.add(3)
    await eventually(lambda: len(collector.requests) >= 1, "it was asked")
    assert exporting()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.to_thread(it.export.close, 0.1)
    assert it.lost == 3
    await eventually(lambda: not exporting(), "its thread has ended")


async def test_the_log_is_told_seldom_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    it = Exporting(f"http://user:{SECRET}@127.0.0.1:{free_port()}/{SECRET}?key={SECRET}", EXPORTER_OTLP_TIMEOUT="1")
    for number in range(1, 6):
        it.add(1)
        await it.until_lost(number)
    await asyncio.to_thread(it.export.close, 10.0)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in told] == ["spans lost"]
    assert told[0].fields == {"reason": "ConnectionError", "lost": 1}  # type: ignore[attr-defined]
    assert told[0].name.startswith("pocket_agent")
    assert SECRET not in "".join(record.getMessage() + str(record.__dict__) for record in told)


async def test_an_answer_that_is_no_answer(collector: Collector) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\xff\xff nothing"[:-1])
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        it = Exporting(f"http://127.0.0.1:{port}")
        it.add(2)
        await asyncio.to_thread(it.export.close, 10.0)
    assert it.lost == 0


async def test_a_tls_certificate_that_nobody_vouches_for(collector: Collector) -> None:
    it = Exporting(collector.url.replace("http:", "https:"), EXPORTER_OTLP_TIMEOUT="1")
    it.add(2)
    await it.until_lost(2)
    await asyncio.to_thread(it.export.close, 10.0)


async def test_handing_over_from_the_loop_never_waits(collector: Collector) -> None:
    """While a batch is under way for ever, thousands of spans are handed over by the loop's own thread."""
    collector.hangs = True
    it = Exporting(collector.url, BSP_MAX_QUEUE_SIZE="100", BSP_MAX_EXPORT_BATCH_SIZE="10")
    it.add(20_000)
    assert it.lost >= 20_000 - 100 - 10
    await asyncio.to_thread(it.export.close, 0.1)
    assert it.lost == 20_000
