"""pocket_agent.load.report: the figures add up, limits are judged, and the generator accuses itself."""

import json

import pytest

from pocket_agent.load.plan import Kind, Limits
from pocket_agent.load.report import Report, render_json
from tests.load.sample import report_of, tally_of


def verdicts(report: Report) -> dict[str, bool]:
    return {verdict.name: verdict.passed for verdict in report.verdicts}


def test_the_figures_add_up() -> None:
    tally = tally_of([0.01] * 100, failed=25)
    tally.scheduled += 3
    tally.pushes += 5
    requests, messages = report_of(tally).requests, report_of(tally).messages
    assert (requests.scheduled, requests.answered, requests.failed, requests.unfinished) == (103, 75, 25, 3)
    assert requests.error_ratio == 0.25
    assert requests.per_second == 37.5
    assert requests.errors == {"RATE_LIMITED": 25}
    assert requests.kinds[Kind.LIST].requests == 100
    assert (messages.received, messages.replies, messages.pushes) == (80, 75, 5)


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        (Limits(), {"error_ratio": True, "connection_failure_ratio": True}),
        (Limits(error_ratio=0.0), {"error_ratio": False, "connection_failure_ratio": True}),
        (Limits(error_ratio=None, p95_ms=5.0), {"p95_ms": False}),
        (Limits(error_ratio=None, p95_ms=11.0, p99_ms=11.0), {"p95_ms": True, "p99_ms": True}),
    ],
)
def test_limits(limits: Limits, passed: dict[str, bool]) -> None:
    report = report_of(tally_of([0.01] * 100, failed=1), limits)
    assert verdicts(report) == passed
    assert report.passed is all(passed.values())


def test_connections_that_failed_are_judged_by_their_share() -> None:
    assert verdicts(report_of(tally_of([0.01], unopened=1)))["connection_failure_ratio"] is False
    report = report_of(tally_of([0.01], unopened=1), Limits(error_ratio=0.5))
    assert report.passed
    assert report.connections.failures == {"UNREACHABLE": 1}


def test_without_requests_there_is_no_latency_to_judge() -> None:
    report = report_of(tally_of([]), Limits(p95_ms=1.0))
    assert report.requests.latency is None
    assert "p95_ms" not in verdicts(report)


@pytest.mark.parametrize(
    ("late", "lag", "cpu_ratio", "bottleneck"),
    [
        (0.001, 0.001, 0.1, False),
        (0.05, 0.001, 0.1, True),  # half of what was measured is our own
        (0.001, 0.05, 0.1, True),
        (0.015, 0.015, 0.1, False),  # late, but the server was far slower
        (0.001, 0.001, 0.95, True),
    ],
)
def test_the_generator_says_when_it_was_the_bottleneck(
    late: float, lag: float, cpu_ratio: float, *, bottleneck: bool
) -> None:
    report = report_of(tally_of([0.1] * 20, late=late), lag=lag, cpu_ratio=cpu_ratio)
    assert report.generator.bottleneck is bottleneck


def test_json() -> None:
    data = json.loads(render_json(report_of(tally_of([0.01] * 10))))
    assert data["requests"]["kinds"]["list"]["latency"]["count"] == 10
    assert data["server"]["stats_before"]["uptime"] == 10
    assert data["server"]["metrics"] == {"up": [0.0, 1.0]}
    assert data["passed"] is True
