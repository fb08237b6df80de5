"""A whole session with the real CLI, as a real Prometheus sees it: each figure to the unit."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.claude import require_claude
from tests.harness.prometheus import Prometheus, running_prometheus
from tests.harness.server import ServerProcess, free_port, running_server
from tests.harness.story import UNHURRIED, Counted, story

from pocket_agent.observability import catalogue


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server with the real CLI and metrics."""
    env = {
        "PA_CLAUDE_BINARY": str(require_claude()),
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(free_port()),
        "PA_LIMITS_COST_USD_PER_DAY": "10",
        "PA_LIMITS_MAX_CONNECTIONS": "40",
    }
    async with running_server(tmp_path, env=env, flags=["--demo"], settings=UNHURRIED) as made:
        yield made


async def test_a_session_as_prometheus_sees_it(server: ServerProcess, folder: Path, tmp_path: Path) -> None:
    port = int(server.env["PA_METRICS_PORT"])
    async with running_prometheus(tmp_path / "prometheus", {"pocket-agent": port}) as prometheus:
        await prometheus.scraped()
        assert set(await prometheus.values("pocket_agent_executions_total", "status")) >= {("success",), ("rejected",)}
        client = await story(server, folder)
        await prometheus.scraped()
        await the_guides_figures_are_right(prometheus, client)
        await the_other_figures_are_right(prometheus, client)


async def the_guides_figures_are_right(prometheus: Prometheus, client: Counted) -> None:
    """The nine families."""
    ended = {"success": 3, "error": 1, "timeout": 1, "killed": 1}
    assert await counted(prometheus, "pocket_agent_executions_total", "status") == {**ended, "rejected": 1}
    assert await counted(prometheus, "pocket_agent_execution_duration_seconds_count", "status") == ended
    durations = await counted(prometheus, "pocket_agent_execution_duration_seconds_sum", "status")
    assert durations["timeout"] >= 1
    assert await prometheus.value("pocket_agent_connections_total") == 1
    assert await prometheus.value("pocket_agent_connections_active") == 0
    assert await prometheus.value("pocket_agent_projects_total") == 1
    assert await counted(prometheus, "pocket_agent_projects_active", "state") == {"IDLE": 1}
    # The one without a prompt cannot be decoded, so it has no type.
    received = client.sent - Counter(execute=1) + Counter(invalid=1)
    for metric, frames in ((catalogue.MESSAGES_RECEIVED, received), (catalogue.MESSAGES_SENT, client.got)):
        known = Counter[str]()
        for kind, count in frames.items():
            known[kind if kind in metric.labels["type"] else "other"] += count
        assert await counted(prometheus, metric.name, "type") == known
    errors = await prometheus.values("pocket_agent_errors_total > 0", "code", "operation")
    assert errors == {
        ("EXECUTION_FAILED", "execution"): 1,
        ("EXECUTION_TIMEOUT", "execution"): 1,
        ("PROJECT_NOT_FOUND", "execute"): 1,
        ("VALIDATION_FAILED", "protocol"): 1,
    }
    assert await prometheus.value("process_resident_memory_bytes") > 10e6


async def the_other_figures_are_right(prometheus: Prometheus, client: Counted) -> None:
    """What the session must give in the added families."""
    assert await counted(prometheus, "pocket_agent_approvals_total", "behavior") == {"allow": 1, "deny": 1}
    assert await prometheus.value("pocket_agent_approval_wait_seconds_count") == 2
    assert await prometheus.value("pocket_agent_time_to_first_message_seconds_count") >= 4
    calls = await prometheus.values("pocket_agent_claude_tool_calls_total > 0", "tool", "outcome")
    assert calls == {("Bash", "success"): 1, ("Bash", "denied"): 1}
    used = [usage for result in client.results for usage in result["model_usage_since_last_result"].values()]
    assert used, "the CLI tells what it used"
    names = {
        "input": "inputTokens",
        "output": "outputTokens",
        "cacheRead": "cacheReadInputTokens",
        "cacheCreation": "cacheCreationInputTokens",
    }
    tokens = await counted(prometheus, "sum by (type) (pocket_agent_claude_tokens_total)", "type")
    # An execution that was cut off has no result, but its prompt was read all the same.
    for kind, name in names.items():
        assert tokens.get(kind, 0) >= sum(usage[name] for usage in used)
    cost = sum(usage["costUSD"] for usage in used)
    assert await prometheus.value("sum(pocket_agent_claude_cost_usd_total)") == pytest.approx(cost)
    limits = await counted(prometheus, "pocket_agent_limit", "limit")
    assert (limits["connections"], limits["cost_usd_per_day"]) == (40, 10)
    usage = await counted(prometheus, "pocket_agent_limit_usage", "limit")
    assert usage["projects"] == 1
    assert usage["cost_usd_per_day"] == pytest.approx(cost)
    outcomes = await prometheus.values("sum by (outcome) (pocket_agent_requests_total) > 0", "outcome")
    assert outcomes == {("ok",): client.sent.total() - 2, ("client_error",): 2}
    sent = await counted(prometheus, "pocket_agent_message_bytes_total", "direction")
    assert sent["received"] == client.sent_bytes
    assert await counted(prometheus, "pocket_agent_disconnects_total", "code") == {"1000": 1}
    assert await prometheus.value("sum(pocket_agent_metric_label_overflow_total)") == 0
    assert await prometheus.value("sum(pocket_agent_telemetry_dropped_total)") == 0
    assert set(await prometheus.values("pocket_agent_health_check_up == 1", "check")) >= {("claude",), ("storage",)}


async def counted(prometheus: Prometheus, query: str, label: str) -> dict[str, float]:
    """The values of a query that are not zero, by one label."""
    return {key: value for (key,), value in (await prometheus.values(query, label)).items() if value}


async def test_prometheus_knows_each_family_and_no_other(server: ServerProcess, tmp_path: Path) -> None:
    port = int(server.env["PA_METRICS_PORT"])
    async with running_prometheus(tmp_path / "prometheus", {"pocket-agent": port}) as prometheus:
        await prometheus.scraped()
        described = await prometheus.get("metadata")
        ours = {name: (kinds[0]["type"], kinds[0]["help"]) for name, kinds in described.items()}
        # In OpenMetrics, which Prometheus asks for, a counter's family has no suffix.
        known = {
            metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name: (metric.kind, metric.help)
            for metric in catalogue.CATALOGUE
        }
        assert {name: what for name, what in ours.items() if name.startswith("pocket_agent_")} == known
        assert {name for name in ours if not name.startswith(("pocket_agent_", "process_"))} == set()
