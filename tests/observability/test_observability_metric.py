"""Metrics: the guide's families are there from the start, and say what happened, to the unit."""

from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pocket_agent import events
from pocket_agent.observability.catalogue import CATALOGUE
from pocket_agent.observability.metric import CoreCollector, MetricObserver
from tests.harness.server import free_port, running_server, write_standin
from tests.server.room import open_room

if TYPE_CHECKING:
    from collections.abc import Mapping

GUIDE = {
    "pocket_agent_connections_active": "gauge",
    "pocket_agent_connections_total": "counter",
    "pocket_agent_projects_total": "gauge",
    "pocket_agent_projects_active": "gauge",
    "pocket_agent_executions_total": "counter",
    "pocket_agent_execution_duration_seconds": "histogram",
    "pocket_agent_messages_received_total": "counter",
    "pocket_agent_messages_sent_total": "counter",
    "pocket_agent_errors_total": "counter",
}


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """One sample."""
    found = registry.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


def finished(status: str, seconds: float) -> events.ExecutionFinished:
    """An execution that is over."""
    return events.ExecutionFinished("p", "e", None, status, seconds, 0.0, None, 1, 2, 0.0)


def test_the_catalogue_has_the_guides_families() -> None:
    kinds: Mapping[str, str] = {metric.name: metric.kind for metric in CATALOGUE}
    assert {name: kinds[name] for name in GUIDE} == GUIDE


def test_executions_are_counted_by_their_end() -> None:
    observer = MetricObserver()
    for status, seconds in (("success", 0.5), ("success", 7.0), ("error", 1.0), ("timeout", 700.0), ("killed", 2.0)):
        observer.emit(finished(status, seconds))
    observer.emit(events.RequestHandled("execute", "CLAUDE_NOT_FOUND", 0.1, None, "c"))
    counts = {
        status: value(observer.registry, "pocket_agent_executions_total", status=status)
        for status in ("success", "error", "timeout", "killed", "rejected", "other")
    }
    assert counts == {"success": 2, "error": 1, "timeout": 1, "killed": 1, "rejected": 1, "other": 0}
    bucket = "pocket_agent_execution_duration_seconds_bucket"
    assert value(observer.registry, bucket, status="success", le="1.0") == 1
    assert value(observer.registry, bucket, status="success", le="10.0") == 2
    assert value(observer.registry, bucket, status="timeout", le="600.0") == 0
    errors = "pocket_agent_errors_total"
    assert value(observer.registry, errors, code="EXECUTION_FAILED", operation="execution") == 1
    assert value(observer.registry, errors, code="EXECUTION_TIMEOUT", operation="execution") == 1
    assert value(observer.registry, errors, code="CLAUDE_NOT_FOUND", operation="request") == 1


def test_no_client_can_add_a_series() -> None:
    observer = MetricObserver()
    before = sum(len(family.samples) for family in observer.registry.collect())
    observer.emit(events.RequestHandled('evil"} 1\n', "NO_SUCH_CODE", 0.1, None, "c"))
    observer.emit(finished("success", 1.0))
    assert sum(len(family.samples) for family in observer.registry.collect()) == before
    assert value(observer.registry, "pocket_agent_messages_received_total", type="other") == 1
    assert value(observer.registry, "pocket_agent_errors_total", code="other", operation="request") == 1


async def test_what_the_core_keeps_is_read_at_the_scrape(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        registry = CollectorRegistry()
        registry.register(CoreCollector(room.hub, room.projects))
        session = await room.project("one")
        async with room.client() as client, client.subscribe(session.state.project.id) as stream:
            await client.execute(session.state.project.id, "lines 5")
            async for frame in stream:
                if frame.type == "project_state" and frame.data["state"] == "IDLE" and frame.data["offset"] > 5:
                    break
            assert value(registry, "pocket_agent_connections_active") == 1
            # init, five lines and the result, to one subscriber
            assert value(registry, "pocket_agent_messages_sent_total", type="agent_message") == 7
            assert value(registry, "pocket_agent_messages_sent_total", type="prompt") == 1
        assert value(registry, "pocket_agent_projects_total") == 1
        assert value(registry, "pocket_agent_projects_active", state="IDLE") == 1
        assert value(registry, "pocket_agent_projects_active", state="EXECUTING") == 0


async def test_a_scrape_of_a_server(tmp_path: Path) -> None:
    port = free_port()
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(port),
    }
    async with running_server(tmp_path, env=env) as server, aiohttp.ClientSession() as http:
        async with server.client() as client:
            await client.projects()
        async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = await answer.text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for metric in CATALOGUE:
        # The format names a counter without its ending.
        name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        assert families[name].type == metric.kind
    assert "process_resident_memory_bytes" in families
    received = families["pocket_agent_messages_received"]
    assert [sample.value for sample in received.samples if sample.labels["type"] == "project_list"] == [1]
    assert sum(len(family.samples) for family in families.values()) < 500


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_metric_says_what_it_is(metric: object) -> None:
    assert getattr(metric, "help", "").endswith(".")
