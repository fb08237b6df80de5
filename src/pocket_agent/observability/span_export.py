"""Exports spans to a collector: OpenTelemetry's SDK with OTLP over HTTP, in the SDK's thread.

Loaded only when tracing is on. The queue is bounded, `add` does not block, and lost spans are counted.
"""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import requests
from google.protobuf.message import DecodeError
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from pocket_agent import __version__
from pocket_agent.observability.catalogue import Losses
from pocket_agent.observability.tracing import Span, TraceOptions

_LOGGER: Final = logging.getLogger(__name__)
_REPORT_SECONDS: Final = 60.0  # shortest time between two log lines about lost spans
_LONGEST_VALUE: Final = 1024  # characters of an attribute; longer ones are truncated


class SpanExport:
    """The `SpanSink` of the SDK."""

    def __init__(self, options: TraceOptions, losses: Losses) -> None:
        # They log each failed batch, with the address and headers of the collector.
        for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.util.re"):
            logging.getLogger(name).disabled = True
        self._ids = _AssignedIds()
        self._processor = CountingSpanProcessor(OtlpCollector(options), options, losses)
        self.close = self._processor.close
        resource = {
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": sdk_version,
            **options.resource,
        }
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # only sampled spans are added
            resource=Resource(resource),
            shutdown_on_exit=False,
            id_generator=self._ids,
            # 128 is the SDK's default number of attributes of a span.
            span_limits=SpanLimits(
                *(128,) * 6, max_attribute_length=_LONGEST_VALUE, max_span_attribute_length=_LONGEST_VALUE
            ),
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("pocket_agent", __version__)

    def add(self, span: Span, trace_id: str, span_id: str, parent_id: str | None, *, remote: bool = False) -> None:
        """See `SpanSink`; called by one thread only."""
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
            # The SDK would give up the whole batch for a lone surrogate.
            attributes={
                name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
                for name, value in span.attributes.items()
            },
            start_time=span.start,
        )
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(max(span.start, span.end))


class _AssignedIds(IdGenerator):
    """Returns assigned ids, since they are derived from the execution."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class CountingSpanProcessor(BatchSpanProcessor):
    """The SDK's batch processor, which counts lost spans and ends within a time limit.

    The SDK's own drops the oldest span of a full queue without a report, and its `shutdown` takes up to 30 s
    (opentelemetry-sdk 1.45).
    """

    def __init__(self, collector: "OtlpCollector", options: TraceOptions, losses: Losses) -> None:
        self._collector = collector
        self._queue_size = options.queue_size
        self._losses = losses
        self._waiting = self._under_way = 0
        self._closed = False
        self._ended = threading.Event()
        self._reported = -_REPORT_SECONDS
        self._lock = threading.Lock()
        super().__init__(
            _CountingExporter(self),
            max_queue_size=options.queue_size,
            max_export_batch_size=options.batch_size,
            schedule_delay_millis=options.delay * 1000,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; when the queue is full the span is lost."""
        with self._lock:
            taken = not self._closed and self._waiting < self._queue_size
            self._waiting += taken
        if taken:
            super().on_end(span)
        else:
            self._lost(1, "the queue is full")

    def send(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch that left the queue, and count its lost spans."""
        with self._lock:
            if self._ended.is_set():
                return SpanExportResult.FAILURE
            self._waiting -= len(batch)
            self._under_way = len(batch)
        lost = self._collector.send(batch)
        with self._lock:
            self._under_way = 0
            if self._ended.is_set():
                return SpanExportResult.FAILURE
        if lost:
            self._lost(lost, self._collector.outcome)
        return SpanExportResult.FAILURE if lost else SpanExportResult.SUCCESS

    def close(self, seconds: float) -> None:
        """Export what is queued for at most `seconds`; the rest is lost, and counted."""
        with self._lock:
            self._closed = True
        ending = threading.Thread(target=self.shutdown, name="pocket-agent-spans-end", daemon=True)
        ending.start()
        ending.join(seconds)
        with self._lock:
            self._ended.set()
            left = self._under_way + self._waiting
        self._collector.shutdown()
        if left:
            self._lost(left, "the server stopped")

    def _lost(self, count: int, reason: str) -> None:
        self._losses.add("traces", count)
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            fields = {"reason": reason, "lost": self._losses.of("traces")}
            _LOGGER.warning("spans lost", extra={"fields": fields})


class _CountingExporter(SpanExporter):
    """The exporter that the SDK's thread calls; `CountingSpanProcessor.close` ends the collector's session."""

    def __init__(self, processor: CountingSpanProcessor) -> None:
        self._processor = processor

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._processor.send(spans)

    def shutdown(self) -> None:
        pass


class OtlpCollector:
    """Sends batches to the collector, with the SDK's exporter and its retries."""

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
        """How the last attempt ended, without anything that could be secret."""
        return self._session.outcome

    def send(self, batch: Sequence[ReadableSpan]) -> int:
        """Export a batch and return the number of its spans that were lost."""
        self._session.rejected = 0
        if self._exporter.export(batch) is not SpanExportResult.SUCCESS:
            return len(batch)
        return min(max(self._session.rejected, 0), len(batch))

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _OtlpSession(requests.Session):
    """Connects to the collector only: without a proxy, without a password of a .netrc, without following redirects."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.outcome = "not sent"
        self.rejected = 0  # number of spans that a successful request did not store (OTLP, "Partial Success")

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        try:
            response = super().send(request, **options)
        except requests.RequestException as error:
            self.outcome = type(error).__name__
            raise
        self.outcome = f"HTTP {response.status_code}"
        if 300 <= response.status_code < 400:
            # The SDK would take a redirect for success, and it may lead to another host.
            raise requests.TooManyRedirects(self.outcome)
        if response.ok:
            with suppress(DecodeError):
                reply = ExportTraceServiceResponse.FromString(response.content)
                self.rejected = int(reply.partial_success.rejected_spans)
            if self.rejected:
                self.outcome = "refused by the collector"
        return response
