"""A collector on loopback: takes spans, metrics and log records by OTLP over HTTP, and keeps what it understood."""

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from tests.harness.follow import eventually
from tests.harness.server import free_port


class Collected(NamedTuple):
    """A span as it arrived; ids in hexadecimal, `parent_id` empty for a root, times in nanoseconds.

    Attributes:
        kind, status: the numbers of the protocol (2: server, 2: error).
        scope: the name of the instrumentation.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    kind: int
    status: int
    message: str
    scope: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Point(NamedTuple):
    """A point of a metric, a sum.

    Attributes:
        cumulative: whether it counts from the start of the process, else since the previous point.
    """

    name: str
    unit: str
    value: float
    cumulative: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Record(NamedTuple):
    """A log record: an event of the CLI, by the name that its attributes give."""

    name: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came: its path, its headers (names in lower case) and its unpacked body."""

    path: str
    headers: dict[str, str]
    body: bytes


class Collector:
    """Takes spans, or behaves badly.

    Attributes:
        spans, points, records: what has arrived, in order.
        requests: every request, also those that it did not answer well.
        status: what it answers with.
        headers: headers of its answers.
        rejects: how many spans of each request it says it refused.
        hangs: whether it answers nobody, until it is released.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.spans: list[Collected] = []
        self.points: list[Point] = []
        self.records: list[Record] = []
        self.requests: list[Request] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.rejects = 0
        self.hangs = False
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens; the path of traces is not in it."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        application = web.Application(client_max_size=2**28)
        application.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    @property
    def scrape(self) -> str:
        """The newest points for Prometheus, named as the collector's exporter does it."""
        newest = {
            (point.name, point.unit, tuple(sorted(point.attributes.items()))): point.value for point in self.points
        }
        return "".join(
            f"{_prometheus_name(name, unit)}{{{','.join(_prometheus_label(*pair) for pair in labels)}}} {value}\n"
            for (name, unit, labels), value in newest.items()
        )

    async def stop(self) -> None:
        """Refuse connections from here on."""
        self.release()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def release(self) -> None:
        """Answer from here on, also what it was asked before."""
        self.hangs = False
        self._released.set()

    async def _take(self, http: web.Request) -> web.Response:
        if http.method == "GET":
            return web.Response(text=self.scrape)
        body = _unpacked(await http.read(), http.headers.get("Content-Encoding", ""))
        headers = {name.lower(): value for name, value in http.headers.items()}
        self.requests.append(Request(http.path_qs, headers, body))
        if self.hangs:
            await self._released.wait()
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers)
        if http.path.endswith("/v1/metrics"):
            self.points += _points(ExportMetricsServiceRequest.FromString(body))
            return web.Response(content_type="application/x-protobuf")
        if http.path.endswith("/v1/logs"):
            self.records += _records(ExportLogsServiceRequest.FromString(body))
            return web.Response(content_type="application/x-protobuf")
        self.spans += _spans(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=self.rejects))
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    def named(self, name: str) -> list[Collected]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Collected:
        """The only span of this name."""
        (found,) = self.named(name)
        return found

    async def until(self, name: str, count: int = 1) -> list[Collected]:
        """Wait for so many spans of this name."""
        await eventually(lambda: len(self.named(name)) >= count, f"{count} spans {name} are there")
        return self.named(name)


def _unpacked(body: bytes, encoding: str) -> bytes:
    # aiohttp has unpacked it already where it knows the encoding.
    if encoding == "gzip" and body[:2] == b"\x1f\x8b":
        return gzip.decompress(body)
    if encoding == "deflate" and body[:1] == b"\x78":
        return zlib.decompress(body)
    return body


def _spans(request: ExportTraceServiceRequest) -> Iterable[Collected]:
    for from_one in request.resource_spans:
        resource = _attributes(from_one.resource.attributes)
        for by_one in from_one.scope_spans:
            for span in by_one.spans:
                yield Collected(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    kind=span.kind,
                    status=span.status.code,
                    message=span.status.message,
                    scope=by_one.scope.name,
                    attributes=_attributes(span.attributes),
                    resource=resource,
                )


def _prometheus_name(name: str, unit: str) -> str:
    words = [word for word in name.replace(".", "_").split("_") if word != "total"]
    unit = {"s": "seconds"}.get(unit, unit)
    return "_".join([*words, *([unit] if unit and unit not in words else []), "total"])


def _prometheus_label(name: str, value: object) -> str:
    return f"{name.replace('.', '_')}={json.dumps(str(value))}"


def _points(request: ExportMetricsServiceRequest) -> Iterable[Point]:
    for from_one in request.resource_metrics:
        resource = _attributes(from_one.resource.attributes)
        for metric in (metric for by_one in from_one.scope_metrics for metric in by_one.metrics):
            for point in metric.sum.data_points:
                value = float(getattr(point, point.WhichOneof("value") or "as_double"))
                cumulative = metric.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
                yield Point(metric.name, metric.unit, value, cumulative, _attributes(point.attributes), resource)


def _records(request: ExportLogsServiceRequest) -> Iterable[Record]:
    for from_one in request.resource_logs:
        resource = _attributes(from_one.resource.attributes)
        for record in (record for by_one in from_one.scope_logs for record in by_one.log_records):
            attributes = _attributes(record.attributes)
            yield Record(str(attributes.get("event.name")), attributes, resource)


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind is not None else None
    return found


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    await collector.start()
    try:
        yield collector
    finally:
        await collector.stop()
