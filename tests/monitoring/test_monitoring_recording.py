"""What is recorded: names that tell what they are, and a test of each."""

import re

from pocket_agent.monitoring.recording import RECORDINGS
from pocket_agent.observability.catalogue import CATALOGUE

PROMISED = {
    "messages": "job_instance:pocket_agent_messages_received:rate5m",
    "errors": "job_instance:pocket_agent_errors:rate5m",
    "executions": "job_instance:pocket_agent_executions:rate5m",
    "p95": "job_instance:pocket_agent_execution_duration_seconds:p95_rate30m",
    "p99": "job_instance:pocket_agent_request_duration_seconds:p99_rate5m",
    "limits": "job_instance_limit:pocket_agent_limit_usage_per_limit:ratio",
    "tokens": "job_instance_type:pocket_agent_claude_tokens:increase1h",
    "cost": "job_instance:pocket_agent_claude_cost_usd:increase1h",
}


def test_what_is_promised_is_recorded() -> None:
    assert set(PROMISED.values()) <= {recording.name for recording in RECORDINGS}


def test_each_name_is_there_once_and_has_three_parts() -> None:
    names = [recording.name for recording in RECORDINGS]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"job_instance(_[a-z]+)*:[a-z][a-z0-9_]*:[a-z0-9_]+", name), name


def test_labels_of_a_name_are_those_of_its_series() -> None:
    for recording in RECORDINGS:
        level = recording.name.split(":")[0]
        assert level == "_".join(["job", "instance", *sorted(recording.query.labels)])


def test_no_two_metrics_share_a_name() -> None:
    known = {metric.name for metric in CATALOGUE}
    assert known.isdisjoint(recording.name for recording in RECORDINGS)
