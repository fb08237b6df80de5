"""The catalogue: the guide's names, names as Prometheus wants them, and no more series than promised."""

import math

from pocket_agent.errors import PocketAgentError
from pocket_agent.observability.catalogue import (
    CATALOGUE,
    ERRORS,
    OPERATION_OF,
    OPERATIONS,
    OTHER,
    PREFIX,
    SERVER_CODES,
    children,
    series,
)
from pocket_agent.protocol.requests import REQUESTS
from pocket_agent.settings import MetricsSettings

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
LABELS = {
    "clients_active": ("client",),
    "projects_active": ("state",),
    "conversations_active": ("state",),
    "executions_total": ("status",),
    "execution_duration_seconds": ("status",),
    "messages_received_total": ("type",),
    "messages_sent_total": ("type",),
    "errors_total": ("code", "operation"),
    "build_info": ("version", "revision", "python_version"),
    "limit": ("limit",),
    "limit_usage": ("limit",),
    "requests_total": ("type", "outcome"),
    "request_duration_seconds": ("type",),
    "approvals_total": ("behavior",),
    "connections_rejected_total": ("reason",),
    "disconnects_total": ("code", "initiator"),
    "slow_consumer_total": ("action",),
    "message_bytes_total": ("direction",),
    "claude_tokens_total": ("type", "model"),
    "claude_cost_usd_total": ("model",),
    "claude_tool_calls_total": ("tool", "outcome"),
    "claude_tool_seconds_total": ("tool",),
    "claude_edits_total": ("decision",),
    "agent_memory_bytes": ("state", "statistic"),
    "agent_cpu_cores": ("state", "statistic"),
    "agent_top_memory_ratio": ("project",),
    "agent_top_cpu_ratio": ("project",),
    "agent_repeated_calls": ("project",),
    "agent_silence_seconds": ("project",),
    "project_tokens_total": ("type", "project"),
    "project_cost_usd_total": ("project",),
    "health_check_up": ("check",),
    "metric_label_overflow_total": ("metric",),
    "settings_reloads_total": ("outcome",),
    "usage_limit_utilization_ratio": ("window",),
    "usage_limit_reset_timestamp_seconds": ("window",),
    "telemetry_dropped_total": ("signal",),
}
"""The labels that are promised; every other metric has none."""


def test_the_guides_families_are_there() -> None:
    kinds = {metric.name: metric.kind for metric in CATALOGUE}
    assert {name: kinds[name] for name in GUIDE} == GUIDE


def test_the_guides_buckets_are_there() -> None:
    (duration,) = [metric for metric in CATALOGUE if metric.name == PREFIX + "execution_duration_seconds"]
    assert duration.buckets == (1, 5, 10, 30, 60, 120, 300, 600)


def test_the_labels_are_those_that_are_promised() -> None:
    labels = {metric.name.removeprefix(PREFIX): tuple(metric.labels) for metric in CATALOGUE if metric.labels}
    assert labels == LABELS


def test_a_name_says_what_it_counts() -> None:
    wrong = []
    for metric in CATALOGUE:
        exempted = metric.name == PREFIX + "projects_total"  # the guide's name for a gauge
        fits = (
            metric.name.startswith(PREFIX),
            metric.help.endswith("."),
            metric.name.endswith("_total") == (metric.kind == "counter" or exempted),
            not metric.unit or metric.name.removesuffix("_total").endswith("_" + metric.unit),
            bool(metric.buckets) == (metric.kind == "histogram"),
            list(metric.buckets) == sorted(set(metric.buckets)),
            all(0 < bound < math.inf for bound in metric.buckets),
        )
        if not all(fits):
            wrong.append((metric.name, fits))
    assert wrong == []


def test_no_name_is_given_twice() -> None:
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
    assert PREFIX + "projects" not in {
        metric.name.removesuffix("_total") for metric in CATALOGUE if metric.kind == "counter"
    }


def test_children_have_exactly_the_values_of_the_labels() -> None:
    wrong = []
    for metric in CATALOGUE:
        found = children(metric, MetricsSettings())
        used = [{key[place] for key in found} for place in range(len(metric.labels))]
        known = [set(values) for values in metric.labels.values()]
        chosen = {"model": set(MetricsSettings().models)}
        allowed = [values | chosen.get(name, set()) for name, values in zip(metric.labels, known, strict=True)]
        if len(set(found)) != len(found) or (found and used != allowed):
            wrong.append(metric.name)
    assert wrong == []


def test_settings_add_their_models_and_projects_once() -> None:
    settings = MetricsSettings(models=("opus", OTHER, "opus"), projects=("mine",))
    (cost,) = [metric for metric in CATALOGUE if metric.name == PREFIX + "claude_cost_usd_total"]
    assert children(cost, settings) == [("opus",), (OTHER,)]
    (tokens,) = [metric for metric in CATALOGUE if metric.name == PREFIX + "project_tokens_total"]
    assert {project for _, project in children(tokens, settings)} == {"mine", OTHER}


def test_there_are_fewer_series_than_promised() -> None:
    assert series(MetricsSettings()) < 450
    most = MetricsSettings(models=tuple("12345678"), projects=tuple("abcdefgh"))
    assert series(most) < 500, "whatever the settings allow"


def test_every_request_has_an_operation() -> None:
    assert set(OPERATION_OF) == {*REQUESTS, "invalid"}
    assert set(OPERATION_OF.values()) < set(OPERATIONS)


def test_every_code_that_is_raised_can_be_counted() -> None:
    kinds, codes = [PocketAgentError], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        codes.add(kind.code)
    counted = {code for code, _ in ERRORS} - {OTHER}
    assert counted == codes
    assert counted > SERVER_CODES
