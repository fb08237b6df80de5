"""pocket_agent.monitoring.doctor.collector: whether anybody takes the traces."""

import asyncio
from collections.abc import Mapping

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pocket_agent.monitoring.doctor.result import Context, Result
from pocket_agent.monitoring.doctor.server_checks import check_collector
from pocket_agent.settings import load_settings
from tests.harness.collector import collecting
from tests.harness.server import free_port


async def look(environment: Mapping[str, str], **flags: object) -> Result:
    """What is found of the traces."""
    given = {"data.dir": "/data", **{name.replace("__", "."): value for name, value in flags.items()}}
    loaded = load_settings(config=None, environ={"HOME": "/"}, flags=given)
    return await check_collector(Context(loaded, environment))


async def test_they_are_off() -> None:
    assert (await look({})).status == "skipped"


async def test_a_collector_that_takes_them() -> None:
    async with collecting() as collector:
        finding = await look({}, traces__enabled=True, traces__endpoint=collector.url, traces__headers={"x-key": "a"})
        (request,) = collector.requests
    assert (finding.status, finding.message) == ("ok", f"{collector.url}/v1/traces accepts them")
    assert request.headers["x-key"] == "a"
    assert not ExportTraceServiceRequest.FromString(request.body).resource_spans, "and it leaves no span there"


async def test_the_standard_variables_count() -> None:
    async with collecting() as collector:
        variables = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        assert (await look(variables)).status == "ok"


async def test_a_password_in_the_address_is_not_shown() -> None:
    async with collecting() as collector:
        endpoint = collector.url.replace("http://", "http://ada:hunter2@")
        finding = await look({}, traces__enabled=True, traces__endpoint=endpoint)
    assert finding.status == "ok"
    assert "hunter2" not in finding.message


@pytest.mark.parametrize(("status", "fix"), [(401, "traces.headers"), (403, "traces.headers"), (404, "4318")])
async def test_a_collector_that_refuses_them(status: int, fix: str) -> None:
    async with collecting() as collector:
        collector.status = status
        finding = await look({}, traces__enabled=True, traces__endpoint=collector.url)
    assert (finding.status, f"status {status}" in finding.message, fix in finding.fix) == ("failed", True, True)


async def test_nobody_takes_them() -> None:
    finding = await look({}, traces__enabled=True, traces__endpoint=f"http://127.0.0.1:{free_port()}")
    assert (finding.status, "connection refused" in finding.message) == ("failed", True)


async def test_who_takes_them_does_not_speak_http() -> None:
    """As at gRPC's port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        finding = await look({}, traces__enabled=True, traces__endpoint=f"http://127.0.0.1:{port}")
    assert finding.status == "failed"
