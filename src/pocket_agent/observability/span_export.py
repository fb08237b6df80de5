"""Spans to a collector: OpenTelemetry's SDK with OTLP over HTTP, in a thread of its own.

Loaded only where tracing is on. Nothing here may slow or stop the server: the queue has a bound, whoever
hands a span over never waits, and what is lost is counted.
"""

import logging
import threading
import time
from collections import deque
from typing import Any, Final

import requests
from google.protobuf.message import DecodeError
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from pocket_agent import __version__
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.tracing import Span, TraceOptions, Value

_LOGGER: Final = logging.getLogger(__name__)
_REPORT_SECONDS: Final = 60.0
"""How often the log is told that spans are being lost."""
_LONGEST_VALUE: Final = 1024
"""Characters of an attribute beyond which it is cut."""
_COUNT: Final = 128
"""Attributes of a span, the SDK's own default."""
_SDK_LOGGERS: Final = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.util.re")
"""They would tell of each failed batch, with the collector's address and headers in the text."""


class SpanExport:
    """Takes finished spans."""

    def __init__(self, options: TraceOptions, losses: Losses) -> None:
        for name in _SDK_LOGGERS:
            logging.getLogger(name).disabled = True
        self._ids = _AssignedIds()
        self._queue = SpanQueue(OtlpCollector(options), options, losses)
        resource = {
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": sdk_version,
            **options.resource,
        }
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not sampled does not get here
            resource=Resource(resource),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=SpanLimits(
                *(_COUNT,) * 6, max_attribute_length=_LONGEST_VALUE, max_span_attribute_length=_LONGEST_VALUE
            ),
        )
        provider.add_span_processor(self._queue)
        self._tracer = provider.get_tracer("pocket_agent", __version__)

    def add(self, span: Span, trace_id: str, span_id: str, parent_id: str | None, *, remote: bool = False) -> None:
        """Export a span; ids in hexadecimal. Called by one thread only.

        Args:
            span: what to export.
            trace_id: its trace.
            span_id: its own id.
            parent_id: its parent; None for the first of a trace.
            remote: whether it answers another program, which the parent, if there is one, belongs to.
        """
        self._ids.trace_id, self._ids.span_id = int(trace_id, 16), int(span_id, 16)
        context = Context()
        if parent_id is not None:
            parent = SpanContext(
                self._ids.trace_id, int(parent_id, 16), is_remote=remote, trace_flags=TraceFlags(TraceFlags.SAMPLED)
            )
            context = set_span_in_context(NonRecordingSpan(parent), context)
        made = self._tracer.start_span(
            span.name,
            context=context,
            kind=SpanKind.SERVER if remote else SpanKind.INTERNAL,
            attributes={name: _encodable(value) for name, value in span.attributes.items()},
            start_time=span.start,
        )
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(max(span.start, span.end))

    def close(self, seconds: float) -> None:
        """Export what is left, for at most so many seconds; the rest is lost, and counted."""
        self._queue.close(seconds)


def _encodable(value: Value) -> Value:
    """Without lone surrogates, for which the SDK would give up the whole batch."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


class _AssignedIds(IdGenerator):
    """Gives out the ids that it was told, since they follow from the execution."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        """The next trace's."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """The next span's."""
        return self.span_id


class SpanQueue(SpanProcessor):
    """Hands spans to an exporter in batches, from a thread of its own.

    The SDK's own one neither says what it drops nor can be stopped within a time (opentelemetry-sdk 1.45:
    `shutdown` takes up to 30 s).
    """

    def __init__(self, collector: "OtlpCollector", options: TraceOptions, losses: Losses) -> None:
        self._collector = collector
        self._options = options
        self._losses = losses
        self._waiting: deque[ReadableSpan] = deque()
        self._under_way = 0
        self._closed = self._given_up = False
        self._told = -_REPORT_SECONDS
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="pocket-agent-spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span; one that finds no room is lost."""
        with self._changed:
            if not self._closed and len(self._waiting) < self._options.queue_size:
                self._waiting.append(span)
                if len(self._waiting) in {1, self._options.batch_size}:
                    self._changed.notify()
                return
        self._lost(1, "the queue is full")

    def close(self, seconds: float) -> None:
        """Export what waits, and end; what is not exported by then is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._given_up = True
            left = self._under_way + len(self._waiting)
            self._waiting.clear()
        self._collector.shutdown()
        if left:
            self._lost(left, "the server stopped")

    def _run(self) -> None:
        while batch := self._next():
            lost = self._collector.send(batch)
            with self._changed:
                self._under_way = 0
                if self._given_up:
                    return
            if lost:
                self._lost(lost, self._collector.outcome)

    def _next(self) -> list[ReadableSpan]:
        """The next batch, once there is one; empty when nothing more can come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(
                lambda: self._closed or len(self._waiting) >= self._options.batch_size, self._options.delay
            )
            self._under_way = min(len(self._waiting), self._options.batch_size)
            return [self._waiting.popleft() for _ in range(self._under_way)]

    def _lost(self, count: int, reason: str) -> None:
        self._losses.add("traces", count)
        now = time.monotonic()
        if now - self._told >= _REPORT_SECONDS:
            self._told = now
            fields = {"reason": reason, "lost": self._losses.of("traces")}
            _LOGGER.warning("spans lost", extra={"fields": fields})


class OtlpCollector:
    """Sends batches to the collector, with the SDK's exporter and its rules for trying again.

    Attributes:
        outcome: how the last attempt ended, without anything that could be secret.
    """

    def __init__(self, options: TraceOptions) -> None:
        self._session = _OtlpSession()
        self._exporter: SpanExporter = OTLPSpanExporter(
            endpoint=options.endpoint,
            headers=dict(options.headers),
            timeout=options.timeout,
            compression=Compression(options.compression),
            session=self._session,
        )

    @property
    def outcome(self) -> str:
        """How the last attempt ended."""
        return self._session.outcome

    def send(self, batch: list[ReadableSpan]) -> int:
        """Export a batch; returns how many of its spans were lost."""
        self._session.rejected = 0
        if self._exporter.export(batch) is not SpanExportResult.SUCCESS:
            return len(batch)
        return min(max(self._session.rejected, 0), len(batch))

    def shutdown(self) -> None:
        """Give up what is being tried again."""
        self._exporter.shutdown()


class _OtlpSession(requests.Session):
    """Goes to the collector and nowhere else: by no proxy, with no password of a .netrc, after no redirect.

    Attributes:
        outcome: a status, or the kind of fault.
        rejected: how many spans the collector took in the request but refused (OTLP, "Partial Success").
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.outcome = "not sent"
        self.rejected = 0

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send one request.

        Raises:
            requests.RequestException: there is no answer, or one that points elsewhere.
        """
        try:
            response = super().send(request, **options)
        except requests.RequestException as error:
            self.outcome = type(error).__name__
            raise
        self.outcome = f"HTTP {response.status_code}"
        if 300 <= response.status_code < 400:
            # The SDK would take it for success, and it may lead to anybody.
            raise requests.TooManyRedirects(self.outcome)
        if response.ok:
            self.rejected = _rejected(response.content)
            if self.rejected:
                self.outcome = "refused by the collector"
        return response


def _rejected(content: bytes) -> int:
    try:
        return int(ExportTraceServiceResponse.FromString(content).partial_success.rejected_spans)
    except DecodeError:
        return 0
