"""The collector of traces: whether it takes them."""

from http import HTTPStatus
from urllib.parse import urlsplit

from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, skipped
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.observability.tracing import read_telemetry


async def examine_collector(patient: Patient, browser: Browser) -> Finding:
    """Hand the collector an export without spans, which it must take (OTLP, "OTLP/HTTP Request")."""
    name = "traces"
    traces = read_telemetry(patient.settings, patient.environment).traces
    if traces is None:
        return skipped(name, "are off")
    shown = _without_secret(traces.endpoint)
    # An ExportTraceServiceRequest without resource_spans is no bytes at all.
    page = await browser.post(traces.endpoint, b"", "application/x-protobuf", dict(traces.headers))
    if page.status == HTTPStatus.OK:
        return ok(name, f"{shown} takes them")
    if page.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        fix = "Give the collector's credentials in traces.headers (or OTEL_EXPORTER_OTLP_HEADERS)."
        return failed(name, f"{shown} refuses the credentials: {page.said}", fix)
    if page.status is not None:
        fix = "Set traces.endpoint to a collector's OTLP receiver over HTTP (usually port 4318, not gRPC's 4317)."
        return failed(name, f"{shown} does not take them: {page.said}", fix)
    fix = "Start the collector, or correct traces.endpoint; until then spans are lost, and nothing else is."
    return failed(name, f"nobody takes them at {shown}: {page.fault}", fix)


def _without_secret(url: str) -> str:
    """An address without a name and password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
