"""The functions of the query language: what suits them, and that Prometheus reads what they print."""

import re
from pathlib import Path

import pytest
from mypy import api

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.foreign import NOTIFICATIONS_FAILED
from pocket_agent.monitoring.period import days, hours, minutes
from pocket_agent.monitoring.promql import (
    absent,
    before,
    ceiling,
    changes,
    complement,
    elapsed,
    foreseen,
    increase,
    minimum,
    quantile,
    rate,
    remaining,
    total,
    total_by,
)
from pocket_agent.monitoring.rulefile import rules
from pocket_agent.monitoring.selector import bucket, buckets, count, select
from pocket_agent.monitoring.vector import QueryError
from pocket_agent.observability import catalogue
from tests.harness.expression import expressions
from tests.harness.prometheus import running_prometheus
from tests.harness.tool import ROOT
from tests.monitoring.dashboard_sample import dashboards

WINDOW = minutes(5)
ERRORS = select(catalogue.ERRORS_TOTAL)
ACTIVE = select(catalogue.CONNECTIONS_ACTIVE)
FREE = select(catalogue.STORAGE_FREE)
CHECKS = select(catalogue.HEALTH_CHECK_UP)
DURATIONS = buckets(catalogue.REQUEST_DURATION)


def test_growth_is_asked_of_counters() -> None:
    assert rate(ERRORS, WINDOW).text == "rate(pocket_agent_errors_total[5m])"
    assert increase(count(catalogue.PING_RTT), hours(1)).text == "increase(pocket_agent_ping_rtt_seconds_count[1h])"
    for function in (rate, increase):
        with pytest.raises(QueryError, match="is for counters"):
            function(ACTIVE, WINDOW)
        with pytest.raises(QueryError, match="is for counters"):
            function(rate(ERRORS, WINDOW), WINDOW)


def test_a_gauge_is_looked_at_over_time() -> None:
    assert changes(ACTIVE, WINDOW).text == "changes(pocket_agent_connections_active[5m])"
    assert minimum(ACTIVE, WINDOW).text == "min_over_time(pocket_agent_connections_active[5m])"
    for function in (changes, minimum):
        with pytest.raises(QueryError, match="only the growth"):
            function(ERRORS, WINDOW)
        with pytest.raises(QueryError, match="not a plain series"):
            function(ACTIVE.above(0), WINDOW)
        with pytest.raises(QueryError, match="not a plain series"):
            function(before(ACTIVE, WINDOW), WINDOW)


def test_counters_are_summed_after_their_rate() -> None:
    assert total(rate(ERRORS, WINDOW), "code").text == ("sum without (code) (rate(pocket_agent_errors_total[5m]))")
    assert total(rate(ERRORS, WINDOW), "code").labels == {"operation"}
    assert total(CHECKS).text == "pocket_agent_health_check_up", "over no label"
    with pytest.raises(QueryError, match="a sum of counters loses their resets"):
        total(ERRORS, "code")
    with pytest.raises(QueryError, match="a sum of counters loses their resets"):
        total(DURATIONS, "type")
    with pytest.raises(QueryError, match="no labels status"):
        total(rate(ERRORS, WINDOW), "status")


def test_a_sum_by_labels_keeps_the_target() -> None:
    failed = increase(select(NOTIFICATIONS_FAILED, job="alertmanager"), WINDOW)
    assert total_by(failed, "integration").text.startswith("sum by (job, instance, integration) (increase(")
    with pytest.raises(QueryError, match="no labels receiver"):
        total_by(failed, "receiver")
    with pytest.raises(QueryError, match="only the growth"):
        total_by(select(NOTIFICATIONS_FAILED))


def test_a_quantile_needs_buckets_with_their_bounds() -> None:
    growth = total(rate(DURATIONS, WINDOW), "type")
    assert quantile(0.95, growth).text == (
        "histogram_quantile(0.95, sum without (type) (rate(pocket_agent_request_duration_seconds_bucket[5m])))"
    )
    assert quantile(0.95, growth).labels == frozenset()
    with pytest.raises(QueryError, match="buckets without `le` count every value several times"):
        total(rate(DURATIONS, WINDOW), "le")
    for unfit in (
        DURATIONS,
        rate(count(catalogue.REQUEST_DURATION), WINDOW),
        rate(bucket(catalogue.REQUEST_DURATION, 0.1), WINDOW),
        ACTIVE,
    ):
        with pytest.raises(QueryError, match="a quantile needs the rates of buckets"):
            quantile(0.95, unfit)


def test_time_is_reckoned_with() -> None:
    assert elapsed(ACTIVE).text == "time() - pocket_agent_connections_active"
    assert remaining(ACTIVE.above(0)).text == "(pocket_agent_connections_active > 0) - time()"
    assert elapsed(remaining(ACTIVE)).text == "time() - (pocket_agent_connections_active - time())"
    assert before(FREE, hours(3)).text == "pocket_agent_storage_free_bytes offset 3h"
    line = foreseen(FREE.at_least(0), hours(6), days(1), WINDOW)
    assert line.text == "predict_linear((pocket_agent_storage_free_bytes >= 0)[6h:5m], 86400)"
    assert foreseen(FREE, hours(6), days(1), WINDOW).text.startswith(
        "predict_linear(pocket_agent_storage_free_bytes[6h"
    )
    with pytest.raises(QueryError, match="only the growth"):
        foreseen(ERRORS, hours(6), days(1), WINDOW)


def test_what_is_missing_is_told_of_plain_series() -> None:
    assert absent(select(catalogue.LIMIT, limit="projects")).text == 'absent(pocket_agent_limit{limit="projects"})'
    with pytest.raises(QueryError, match="not a plain series"):
        absent(ACTIVE.above(0))


def test_figures_are_made_of_figures() -> None:
    assert complement(CHECKS).labels == {"check"}
    assert ceiling(ACTIVE / 2).text == "ceil(pocket_agent_connections_active / 2)"
    for function in (complement, elapsed, remaining, ceiling):
        with pytest.raises(QueryError, match="only the growth"):
            function(ERRORS)


def words(expression: str) -> list[str | float]:
    """What an expression consists of, whatever its layout and however its numbers are written."""
    found: list[str | float] = []
    for word in re.findall(r'"[^"]*"|\[[^\]]*\]|\d[\d.]*(?:e[+-]\d+)?|[\w:]+|[^\s\w]', expression):
        try:
            found.append(float(word))
        except ValueError:
            found.append(word)
    return found


async def test_prometheus_prints_every_query_as_it_was_built(tmp_path: Path) -> None:
    """With its brackets, and none beyond them, which are left as they are."""
    built = list(expressions([*rules(Settings()).values(), *dashboards()]))
    queries = sorted({re.sub(r"\$__rate_interval", "5m", query) for query in built})
    assert len(queries) > 150
    async with running_prometheus(tmp_path, {}) as prometheus:
        for query in queries:
            assert words(await prometheus.get("format_query", query=query)) == words(query)


MISSPELT = """
from pocket_agent.monitoring.selector import select
from pocket_agent.observability import catalogue

GOOD = select(catalogue.CONNECTIONS_ACTIVE)
BAD = select(catalogue.CONECTIONS_ACTIVE)
"""


def test_a_metric_that_is_not_in_the_catalogue_fails_the_check_of_types(tmp_path: Path) -> None:
    file = tmp_path / "misspelt.py"
    file.write_text(MISSPELT, "utf-8")
    config = f"--config-file={ROOT / 'pyproject.toml'}"
    said, faults, status = api.run([config, "--no-color-output", f"--cache-dir={tmp_path / 'cache'}", str(file)])
    assert (status, faults) == (1, "")
    (error, summary) = said.splitlines()
    assert error.startswith(f'{file}:6: error: Module has no attribute "CONECTIONS_ACTIVE"'), said
    assert summary.startswith("Found 1 error in 1 file")
