"""pocket_agent.monitoring.doctor.comparison: which differences count, and what is shown of them."""

from typing import Any

import pytest

from pocket_agent.monitoring.doctor.comparison import differences, matches, parse_matcher, route_matchers
from pocket_agent.monitoring.doctor.in_force import GRAMMARS


def found(expected: Any, actual: Any, program: str = "prometheus") -> list[str]:
    return list(map(str, differences(expected, actual, GRAMMARS[program])))


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"global": {"scrape_interval": "60s"}}, {"global": {"scrape_interval": "1m"}}),
        ({"a": {}}, {"a": {"scheme": "http", "honor_timestamps": True, "sample_limit": 0, "basic_auth": None}}),
        ({"targets": ["b", "a"]}, {"targets": ["a", "b"]}),
        ({"x_configs": [{"k": 1}, {"k": 2}]}, {"x_configs": [{"k": 2, "scheme": "http"}, {"k": 1}]}),
        ({}, {"scrape_protocols": ["PrometheusText0.0.4", "OpenMetricsText1.0.0", "OpenMetricsText0.0.1"]}),
        ({"text": "a\nb\n"}, {"text": "a\nb"}),
    ],
)
def test_spelling_order_and_defaults_do_not_count(expected: Any, actual: Any) -> None:
    assert found(expected, actual) == []


def test_a_value_is_named_by_its_path() -> None:
    jobs = {"scrape_configs": [{"job_name": "node", "scheme": "http"}, {"job_name": "x"}]}
    changed = {
        "scrape_configs": [{"job_name": "x"}, {"job_name": "node", "scheme": "https", "honor_timestamps": False}]
    }
    assert found(jobs, changed) == [
        "scrape_configs[node].scheme is https: the settings give http",
        "scrape_configs[node].honor_timestamps is false: the settings do not give it",
    ]
    assert found(jobs, {"scrape_configs": [{"job_name": "x"}]}) == [
        'scrape_configs[node] is missing: the settings give {"job_name": "node", "scheme": "http"}'
    ]


def test_the_order_of_relabelling_counts() -> None:
    first, second = {"regex": "a", "action": "drop"}, {"regex": "b", "action": "keep"}
    assert found({"relabel_configs": [first, second]}, {"relabel_configs": [second, first]}) != []
    assert found({"relabel_configs": [first]}, {"relabel_configs": [second, first]}) == [
        'relabel_configs[0] is {"regex": "b", "action": "keep"}: the settings do not give it'
    ]


def test_long_texts_are_shown_where_they_differ() -> None:
    head, tail = "a and " * 40, " or b" * 40
    (text,) = found({"expr": f"{head}c > 2.5{tail}"}, {"expr": f"{head}c > 250{tail}"}, "rules")
    assert text.startswith("expr is ...")
    assert "c > 250 or b" in text
    assert ": the settings give ..." in text
    assert "c > 2.5 or b" in text
    assert len(text) < 400


def test_an_address_is_never_shown() -> None:
    expected, actual = ({"receivers": [{"name": "n", "webhook_configs": [{"url": f"http://{host}/secret"}]}]}
                        for host in ("one", "two"))  # fmt: skip
    (text,) = found(expected, actual, "alertmanager")
    assert text.startswith("receivers[n].webhook_configs[0].url is sha256:")
    assert "secret" not in text
    (text,) = found({}, {"remote_write": [{"url": "https://user:hush@example/"}]})
    assert "hush" not in text
    assert (
        found(expected, {"receivers": [{"name": "n", "webhook_configs": [{"url": "<secret>"}]}]}, "alertmanager") == []
    )


def test_an_old_matcher_means_the_same_as_a_new_one() -> None:
    new = {"routes": [{"matchers": ['severity="critical"', 'team=~"a|b"'], "receiver": "r"}]}
    old = {"routes": [{"match": {"severity": "critical"}, "match_re": {"team": "a|b"}, "receiver": "r"}]}
    assert found(new, old, "alertmanager") == []
    listed = {"routes": [{"matchers": ['{ team=~"a|b", "severity"="critical" }'], "receiver": "r"}]}
    assert found(new, listed, "alertmanager") == []
    assert route_matchers({"matchers": ['a="b,c",d!=e']}) == [("a", "=", "b,c"), ("d", "!=", "e")]
    inhibition = {"source_match": {"a": "b"}, "target_match_re": {"c": "d.*"}}
    assert route_matchers(inhibition, "source_matchers") == [("a", "=", "b")]
    assert route_matchers(inhibition, "target_matchers") == [("c", "=~", "d.*")]


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ('severity="critical"', True), ("severity = critical", True), ('severity!="critical"', False),
        ('severity=~"crit.*|x"', True), ('severity=~"crit"', False), ('severity!~"warn.*"', True),
        ('severity=~"[[:alpha:]]+"', True), ('severity=~"[[:digit:]]+"', False),
        ('team=""', True), ('team=~".+"', False), ('team!="x"', True), ('severity=~"("', False),
    ],
)  # fmt: skip
def test_matchers(text: str, does: bool) -> None:
    assert matches([parse_matcher(text)], {"severity": "critical"}) is does
