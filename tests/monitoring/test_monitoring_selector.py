"""Series of the catalogue; labels and values that they do not have are refused."""

import pytest

from pocket_agent.monitoring.foreign import UP
from pocket_agent.monitoring.selector import Not, amount, bound_text, bucket, buckets, count, select
from pocket_agent.monitoring.vector import Kind, QueryError
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import CATALOGUE


def test_series_are_asked_for_by_their_labels() -> None:
    assert select(catalogue.CONNECTIONS_ACTIVE).text == "pocket_agent_connections_active"
    assert select(catalogue.LIMIT, limit="projects").text == 'pocket_agent_limit{limit="projects"}'
    ended = select(catalogue.EXECUTIONS_TOTAL, status=("timeout", "error"))
    assert ended.text == 'pocket_agent_executions_total{status=~"error|timeout"}', "in the catalogue's order"
    assert select(catalogue.EXECUTIONS_TOTAL, status=Not("rejected")).text.endswith('{status!="rejected"}')
    assert select(catalogue.EXECUTIONS_TOTAL, status=Not("rejected", "killed")).text.endswith('!~"killed|rejected"}')
    assert ended.labels == {"status"}


def test_each_metric_of_the_catalogue_can_be_asked_for() -> None:
    for metric in CATALOGUE:
        if metric.kind == "histogram":
            assert buckets(metric).text == f"{metric.name}_bucket"
            assert buckets(metric).labels == {*metric.labels, "le"}
            assert count(metric).text == f"{metric.name}_count"
            assert amount(metric).text == f"{metric.name}_sum"
            assert count(metric).kind is amount(metric).kind is Kind.COUNTER
        else:
            assert select(metric).kind is (Kind.COUNTER if metric.kind == "counter" else Kind.GAUGE)
            assert select(metric).labels == metric.labels.keys()


def test_a_label_that_a_metric_does_not_have_is_refused() -> None:
    with pytest.raises(QueryError, match="pocket_agent_limit has no label kind"):
        select(catalogue.LIMIT, kind="projects")


def test_a_value_that_a_label_never_has_is_refused() -> None:
    with pytest.raises(QueryError, match="status is never sucess"):
        select(catalogue.EXECUTIONS_TOTAL, status="sucess")
    with pytest.raises(QueryError, match="status is never ended"):
        select(catalogue.EXECUTIONS_TOTAL, status=("success", "ended"))
    with pytest.raises(QueryError, match="status is never none"):
        select(catalogue.EXECUTIONS_TOTAL, status=Not("none"))
    with pytest.raises(QueryError, match="job is never pocket"):
        select(UP, job="pocket")


def test_no_value_at_all_is_refused() -> None:
    for nothing in ((), Not()):
        with pytest.raises(QueryError, match="no value for status"):
            select(catalogue.EXECUTIONS_TOTAL, status=nothing)


def test_values_that_never_occur_together_are_refused() -> None:
    assert select(catalogue.ERRORS_TOTAL, code="FILE_OPERATION", operation="storage").labels == {"code", "operation"}
    with pytest.raises(QueryError, match="never together"):
        select(catalogue.ERRORS_TOTAL, code="EXECUTION_FAILED", operation="storage")
    with pytest.raises(QueryError, match="never together"):
        select(catalogue.REQUESTS_TOTAL, type="invalid", outcome="ok")


def test_models_and_projects_are_named_by_the_settings() -> None:
    assert select(catalogue.CLAUDE_COST, model="opus").text == 'pocket_agent_claude_cost_usd_total{model="opus"}'
    assert select(catalogue.PROJECT_COST, project="a-shop").text.endswith('{project="a-shop"}')


def test_a_value_that_would_end_the_condition_is_refused() -> None:
    for value in ('a"b', "a|b", "a b", ".*"):
        with pytest.raises(QueryError, match="would need quoting"):
            select(catalogue.PROJECT_COST, project=value)


def test_a_histogram_is_asked_for_by_its_parts() -> None:
    with pytest.raises(QueryError, match="is a histogram"):
        select(catalogue.PING_RTT)
    for part in (buckets, count, amount):
        with pytest.raises(QueryError, match="is no histogram"):
            part(catalogue.LIMIT)
    with pytest.raises(QueryError, match="is no histogram"):
        bucket(catalogue.LIMIT, 1)


def test_one_bucket_is_asked_for_by_its_bound() -> None:
    found = bucket(catalogue.REQUEST_DURATION, 0.1)
    assert found.text == 'pocket_agent_request_duration_seconds_bucket{le="0.1"}'
    assert found.kind is Kind.COUNTER
    assert bucket(catalogue.EXECUTION_DURATION, 600).text.endswith('{le="600.0"}')
    with pytest.raises(QueryError, match=r"has no bucket 0\.2"):
        bucket(catalogue.REQUEST_DURATION, 0.2)
    assert [bound_text(bound) for bound in (1, 0.0005, 3600)] == ["1.0", "0.0005", "3600.0"]
