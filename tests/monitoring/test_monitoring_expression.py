"""No rule and no dashboard asks for what does not exist; a metric renamed beside the catalogue shows at once."""

import pytest

from pocket_agent.monitoring import rule_groups
from pocket_agent.observability.catalogue import CATALOGUE
from pocket_agent.settings import Settings
from tests.harness.expression import expressions, faults, names, selectors
from tests.monitoring.dashboard_sample import CHANGED, dashboards

RULES = list(expressions(list(rule_groups(Settings()).values())))
PANELS = list(expressions([*dashboards(), *dashboards(CHANGED)]))


def test_rules_ask_for_what_exists() -> None:
    assert len(RULES) > 100
    assert [fault for expression in RULES for fault in faults(expression)] == []


def test_dashboards_ask_for_what_exists() -> None:
    assert len(PANELS) > 100
    assert [fault for expression in PANELS for fault in faults(expression)] == []


def test_a_metric_with_another_name_is_noticed_wherever_it_is_asked_for() -> None:
    renamed = 0
    for metric in CATALOGUE:
        for expression in (*RULES, *PANELS):
            if any(name.startswith(metric.name) for name in names(expression)):
                assert faults(expression.replace(metric.name, f"{metric.name}_renamed")), expression
                renamed += 1
    assert renamed > len(CATALOGUE)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("pocket_agent_connections", "no series pocket_agent_connections"),
        ("pocket_agent_ping_rtt_seconds", "no series pocket_agent_ping_rtt_seconds"),
        ('{__name__="pocket_agent_nothing"}', "no series pocket_agent_nothing"),
        ('sum(rate(up{jop="node"}[$__rate_interval]))', "up has no label jop"),
        ('up{job="pocket"}', "job of up is never pocket"),
        ('up{job=~"node|pocket"} == 0', "job of up is never pocket"),
        ('pocket_agent_limit{limit!="people"} > 0', "limit of pocket_agent_limit is never people"),
        ('pocket_agent_ping_rtt_seconds_count{le="1.0"}', "pocket_agent_ping_rtt_seconds_count has no label le"),
        ("job_instance:pocket_agent_errors:rate1h", "no series job_instance:pocket_agent_errors:rate1h"),
        ("min_over_time((up offset 3h >= 0)[6h:5m]) or nothing", "no series nothing"),
    ],
)
def test_what_does_not_exist_is_told(expression: str, fault: str) -> None:
    assert faults(expression) == [f"{fault}: {expression}"]


@pytest.mark.parametrize(
    "expression",
    [
        'up{job="pocket-agent", instance="$server"}',
        'up{job=~"pocket-agent.*|node"}',
        'pocket_agent_claude_cost_usd_total{model="opus"}',
        'pocket_agent_ping_rtt_seconds_bucket{le="1.0"}',
        'job_instance_slo:pocket_agent_slo_events:increase1h{slo="requests-latency"}',
        "process_open_fds / process_max_fds",
        "time() - vector(1)",
    ],
)
def test_what_exists_is_no_fault(expression: str) -> None:
    assert faults(expression) == []


def test_all_series_of_an_expression_are_found() -> None:
    text = 'sum by (job) (rate(a{b="c", d!~"e|f"}[5m])) / on (job) (min_over_time(g[6h:5m]) unless h offset 1h)'
    assert [selector.name for selector in selectors(text)] == ["a", "g", "h"]
    assert selectors(text)[0].values == {"b": ("c",), "d": ("e", "f")}


def test_expressions_are_found_in_dashboards_and_rules() -> None:
    dashboard = {
        "panels": [
            {"targets": [{"expr": "a", "datasource": {"type": "prometheus"}}]},
            {"targets": [{"expr": '{job="b"}', "datasource": {"type": "loki"}}]},
        ],
        "annotations": {"list": [{"expr": "c"}]},
        "templating": {"list": [{"query": {"query": 'label_values(d{e="f"}, instance)'}}, {"query": "g"}]},
    }
    assert list(expressions(dashboard)) == ["a", "c", 'd{e="f"}']
    assert list(expressions({"groups": [{"rules": [{"expr": "h"}]}]})) == ["h"]
