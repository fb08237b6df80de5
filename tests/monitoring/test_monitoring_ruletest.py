"""The tests of the rules: promtool passes them, each alert fires and stays silent, and a wrong rule fails them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pocket_agent.monitoring import rule_files, rule_groups, rule_test_files
from pocket_agent.monitoring.thresholds import OBJECTIVES
from pocket_agent.settings import AlertSettings, MonitoringSettings, Settings
from tests.harness.expression import names, selectors, series_faults
from tests.harness.tool import GENERATIONS
from tests.monitoring.rule_sample import promtool, write_files

Rule = dict[str, Any]

NEVER_SILENT = {"Watchdog"}
FOREIGN_SERIES = ("a target of another stack is down",)
FILES = {Path(file.path).stem: yaml.load(file.text, yaml.CSafeLoader) for file in rule_test_files(Settings())}
RULES = [rule for file in rule_groups(Settings()).values() for group in file["groups"] for rule in group["rules"]]


def key(labels: dict[str, str], name: str) -> tuple[str, str, str | None]:
    """Identifies an alerting rule: its name, its severity and its objective."""
    return name, labels["severity"], labels.get("slo")


@pytest.mark.parametrize("suite", GENERATIONS.values(), ids=list(GENERATIONS))
def test_promtool_passes_them(tmp_path: Path, suite: str) -> None:
    write_files(tmp_path, rule_files(Settings()))
    tests = write_files(tmp_path, rule_test_files(Settings()))
    status, output = promtool("test", "rules", *tests, suite=suite)
    assert status == 0, output
    assert output.count("SUCCESS") == len(tests)


def test_each_alert_fires_and_stays_silent() -> None:
    fired, silent = set(), set()
    for file in FILES.values():
        for test in file["tests"]:
            for evaluation in test.get("alert_rule_test", ()):
                name = evaluation["alertname"]
                fired |= {key(alert["exp_labels"], name) for alert in evaluation["exp_alerts"]}
                if not evaluation["exp_alerts"]:
                    silent.add(name)
    assert fired == {key(rule["labels"], rule["alert"]) for rule in RULES if "alert" in rule}
    assert silent == {rule["alert"] for rule in RULES if "alert" in rule} - NEVER_SILENT


def test_each_recording_rule_has_an_expected_value() -> None:
    tests = [test for case in FILES["recording"]["tests"] for test in case["promql_expr_test"]]
    expected = set().union(*(names(test["expr"]) for test in tests))
    assert {rule["record"] for rule in RULES if "record" in rule} <= expected


def test_input_series_exist() -> None:
    for name, file in FILES.items():
        for test in file["tests"]:
            for given in test["input_series"]:
                (selector,) = selectors(given["series"])
                if test["name"] not in FOREIGN_SERIES:
                    assert series_faults(selector) == [], (name, test["name"])


def test_names_are_unique_and_the_rule_files_exist() -> None:
    known = {Path(file.path).name for file in rule_files(Settings())}
    for file in FILES.values():
        titles = [test["name"] for test in file["tests"]]
        assert len(set(titles)) == len(titles)
        assert {Path(path).name for path in file["rule_files"]} <= known


def test_they_are_rendered_for_the_default_thresholds_only() -> None:
    assert rule_test_files(Settings(alerts=AlertSettings(restarts=5))) == []
    other = Settings(monitoring=MonitoringSettings(runbook_url="https://wiki.example.org/runbooks/"))
    assert "https://wiki.example.org/runbooks/ServiceDown" in "".join(file.text for file in rule_test_files(other))


def test_failed_webhooks_are_distinguished_by_their_receiver(tmp_path: Path) -> None:
    """The dead man's switch and the notifications for users, of which both are webhooks."""
    settings = Settings(monitoring=MonitoringSettings(webhook_url="http://127.0.0.1:8008/alerts"))
    write_files(tmp_path, rule_files(settings))

    def case(receiver: str, firing: str, silent: str, *sent: str) -> dict[str, Any]:
        name = "alertmanager_notifications_failed_total"
        series = f'{name}{{integration="webhook", {receiver}job="alertmanager", instance="one"}}'
        query = f'count by (alertname, alertstate) (ALERTS{{alertname=~"{firing}|{silent}"}})'
        expected = {"labels": f'{{alertname="{firing}", alertstate="firing"}}', "value": 1}
        return {
            "interval": "1m",
            "input_series": [{"series": series, "values": "0+1x40"}, *({"series": s, "values": "1x40"} for s in sent)],
            "promql_expr_test": [{"expr": query, "eval_time": "30m", "exp_samples": [expected]}],
        }

    alerts = ("DeadMansSwitchUnreachable", "AlertDeliveryFailing")
    sent = 'ALERTS{alertname="ServiceDown", alertstate="firing", severity="critical", service="pocket-agent"}'
    tests = [
        case('receiver_name="watchdog", ', *alerts),
        case('receiver_name="slack", ', *reversed(alerts)),
        case("", *alerts),  # an Alertmanager that does not name its receivers
        case("", *reversed(alerts), sent),
    ]
    file = tmp_path / "prometheus" / "receivers.json"
    rules = ["rules/pocket-agent-pipeline.yml"]
    file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "1m", "tests": tests}), "utf-8")
    status, output = promtool("test", "rules", file)
    assert status == 0, output


_COMPARISON = re.compile(r"([<>]=?|==) (\d[\d.]*)")
_MATCHER = re.compile(r'\b(\w+)(!?=~?)"([^"]*)"')


def wrong_expressions(text: str) -> Iterator[str]:
    """The expression with one comparison moved, one operand left out or one matcher negated, one change at a time."""
    for found in _COMPARISON.finditer(text):
        value = float(found[2])
        step = 1.5 if value in {0, 1.5, 2.5, 3} else value / 20  # a small number is a count
        for changed in (value - step, value + step):
            yield f"{text[: found.start(2)]}{changed!r}{text[found.end(2) :]}"
    lines = text.split("\n")
    for number in range(1, len(lines)):
        yield "\n".join(lines[:number] + lines[number + 1 :])
    for found in _MATCHER.finditer(text):
        other = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}[found[2]]
        yield f"{text[: found.start(2)]}{other}{text[found.end(2) :]}"


def wrong_rules(rule: Rule) -> Iterator[list[Rule]]:
    """The rule made wrong in each place, one change at a time; an empty list is the rule left out."""
    yield []
    for expression in wrong_expressions(rule["expr"]):
        yield [{**rule, "expr": expression}]
    yield [{**rule, "for": "40m"}]
    for label in rule["labels"]:
        yield [{**rule, "labels": {**rule["labels"], label: "other"}}]
    for annotation in rule["annotations"]:
        yield [{**rule, "annotations": {**rule["annotations"], annotation: "other"}}]


EQUIVALENT = {
    "DiskWillFillIn24h": 4,  # one or two bytes more or less, and only NaN is left out by `>= 0`
}
"""Changed expressions of an alert that mean the same."""


def mutants(name: str) -> Iterator[tuple[list[Rule], list[dict[str, Any]]]]:
    """Each wrong set of the rules of an alert, with the tests that have to fail.

    The rules of the objectives have one form but for the condition of some, so the first objective is enough, and one
    with a condition.
    """
    alerts = [rule for rule in RULES if rule.get("alert") == name]
    first = OBJECTIVES[0].slo
    conditioned = next(objective.slo for objective in OBJECTIVES if objective.condition)
    for alert in alerts:
        slo = alert["labels"].get("slo")
        prefix = f"{slo}, {alert['labels']['severity']}, " if slo else ""
        tests = [test for test in FILES[name]["tests"] if test["name"].startswith(prefix)]
        if slo in {None, first, conditioned}:
            for changed in wrong_rules(alert):
                yield changed, tests


ALERTING = [name for name in FILES if name not in {"recording", "ErrorBudgetBurn-counted"}]
QUICK = {"DiskSpaceLow", "WebSocketProbeFailed"}
"""Alerts whose wrong rules are always tried: those of all of them take minutes of processor time."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.soak) for name in ALERTING]
)
def test_a_wrong_rule_fails_them(name: str, tmp_path: Path) -> None:
    wrong = {}
    for number, (changed, tests) in enumerate(mutants(name)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "wrong", "rules": changed}]}), "utf-8")
        test = folder / "test.yml"
        test.write_text(json.dumps({**FILES[name], "rule_files": ["rules.yml"], "tests": tests}), "utf-8")
        wrong[test] = changed
    _, output = promtool("test", "rules", *wrong)
    assert output.count("Unit Testing:") == len(wrong)
    passed = [Path(path) for path, word in re.findall(r"Unit Testing:  (.+)\n  (\w+)", output) if word == "SUCCESS"]
    assert len(passed) == EQUIVALENT.get(name, 0), [wrong[path] for path in passed]
