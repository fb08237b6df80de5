"""Rules as values: their names, and how they are rendered."""

import pytest

from pocket_agent.monitoring.period import minutes
from pocket_agent.monitoring.promql import rate, total
from pocket_agent.monitoring.rule import Alert, Recording, render_group
from pocket_agent.monitoring.selector import select
from pocket_agent.monitoring.vector import Kind, QueryError
from pocket_agent.observability import catalogue

ERRORS = rate(select(catalogue.ERRORS_TOTAL), minutes(5))


def test_a_recording_is_named_by_its_labels_its_metric_and_what_was_done() -> None:
    """Prometheus, Recording rules: level, metric, operations; rates without `_total`."""
    assert Recording("pocket_agent_errors", "rate5m", ERRORS).name == (
        "job_instance_code_operation:pocket_agent_errors:rate5m"
    )
    summed = Recording("pocket_agent_errors", "rate5m", total(ERRORS, "code", "operation"), {"slo": "one"})
    assert summed.name == "job_instance_slo:pocket_agent_errors:rate5m"
    assert summed.render() == {"record": summed.name, "expr": summed.query.text, "labels": {"slo": "one"}}


def test_what_was_recorded_can_be_asked_for() -> None:
    series = Recording("pocket_agent_errors", "rate5m", ERRORS, {"slo": "one"}).series
    assert series.text == 'job_instance_code_operation_slo:pocket_agent_errors:rate5m{slo="one"}'
    assert series.kind is Kind.GAUGE
    assert series.labels == {"code", "operation", "slo"}
    assert series.selector


def test_a_counter_is_not_recorded() -> None:
    with pytest.raises(QueryError, match="only the growth"):
        Recording("pocket_agent_errors", "sum", select(catalogue.ERRORS_TOTAL))
    with pytest.raises(QueryError, match="what is recorded is not a counter"):
        Recording("pocket_agent_errors_total", "rate5m", ERRORS)


def test_an_alert_says_how_long_and_where_to_read_on() -> None:
    alert = Alert("Errors", "warning", minutes(2), ERRORS.above(0), "Errors", "Errors for {hold}.", "m", {"slo": "one"})
    assert alert.render("https://runbooks.example", 0.5) == {
        "alert": "Errors",
        "expr": "rate(pocket_agent_errors_total[5m]) > 0",
        "for": "1m",
        "labels": {"severity": "warning", "service": "pocket-agent", "slo": "one"},
        "annotations": {
            "summary": "Errors",
            "description": "Errors for 1m.",
            "runbook_url": "https://runbooks.example/Errors",
        },
    }
    assert alert.render("", 0)["for"] == "0s"


def test_a_group_is_evaluated_at_an_interval() -> None:
    assert render_group("g", minutes(1), [{"record": "r"}]) == {
        "name": "g",
        "interval": "1m",
        "rules": [{"record": "r"}],
    }
