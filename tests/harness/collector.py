"""A collector of traces on loopback: takes OTLP over HTTP, and keeps what it understood."""

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

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


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came: its path, its headers (names in lower case) and its unpacked body."""

    path: str
    headers: dict[str, str]
    body: bytes


class Collector:
    """Takes spans, or behaves badly.

    Attributes:
        spans: what has arrived, in order.
        requests: every request, also those that it did not answer well.
        status: what it answers with.
        headers: headers of its answers.
        rejects: how many spans of each request it says it refused.
        hangs: whether it answers nobody, until it is released.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.spans: list[Collected] = []
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
        body = _unpacked(await http.read(), http.headers.get("Content-Encoding", ""))
        headers = {name.lower(): value for name, value in http.headers.items()}
        self.requests.append(Request(http.path_qs, headers, body))
        if self.hangs:
            await self._released.wait()
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers)
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
