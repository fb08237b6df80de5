"""The rendered tests of the rules: promtool passes them for all settings, and each alert fires and keeps silent."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.alert import find_alerts
from pocket_agent.monitoring.objective import BURNS, OBJECTIVES, burn_alerts
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.rulefile import rule_files
from pocket_agent.monitoring.ruletest import STORIES, rule_test_files, rule_tests
from pocket_agent.monitoring.ruletest.case import Case
from tests.harness.expression import selectors, series_faults
from tests.monitoring.rule_sample import SETTINGS, promtool, write_files

NEVER_SILENT = {"Watchdog": "it fires to show that alerting works"}
STRANGE = (
    "AlertDeliveryFailing: Alertmanager tells why",
    "MonitoringTargetDown: somebody else's program is down",
    "AlertDeliveryFailing: somebody else's Alertmanager",
)
"""Cases with series that are not ours."""
Key = tuple[str, str, str | None]


def key(alert: Alert) -> Key:
    """What tells an alert apart."""
    return alert.name, alert.severity, alert.constants.get("slo")


def cases(settings: Settings) -> dict[Key, list[Case]]:
    """The cases of each alert; those of one file that are about several count for each that fires in them."""
    found: dict[Key, list[Case]] = {}
    for tests in rule_tests(settings):
        for case, alert, _ in tests.cases:
            about = {key(fired.of or alert) for look in case.looks for fired in look.fired} or {key(alert)}
            for each in about:
                found.setdefault(each, []).append(case)
    return found


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_promtool_passes_them(settings: Settings, tmp_path: Path) -> None:
    write_files(tmp_path, rule_files(settings))
    tests = write_files(tmp_path, rule_test_files(settings))
    status, said = promtool("test", "rules", *tests)
    assert status == 0, said
    assert said.count("SUCCESS") == len(tests)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_each_alert_fires_and_keeps_silent(settings: Settings) -> None:
    known = cases(settings)
    assert known.keys() == {key(alert) for alert in (*find_alerts(settings), *burn_alerts(settings))}
    for (name, *_), told in known.items():
        assert any(look.fired for case in told for look in case.looks), f"{name} fires"
        if name not in NEVER_SILENT:
            assert any(not look.fired for case in told for look in case.looks), f"{name} keeps silent"


def test_each_alert_is_looked_at_before_it_is_due_and_when_it_is() -> None:
    for name, told in cases(Settings()).items():
        if name[0] not in NEVER_SILENT:
            looks = [[bool(look.fired) for look in case.looks] for case in told]
            assert any(seen[:2] == [False, True] for seen in looks), name


def test_each_alert_meets_what_goes_wrong_in_practice() -> None:
    """Servers beside each other, series that are not there, restarts, limits of 0."""
    titles = {name: " | ".join(case.title for case in told) for (name, *_), told in cases(Settings()).items()}
    without_server = {"Watchdog", "AlertDeliveryFailing", "MonitoringTargetDown"}
    for name in titles.keys() - without_server:
        assert "of two" in titles[name] or "other server" in titles[name], f"{name}: two servers"
    missing = ("no such figure", "no figure", "neither", "nobody", "nothing", "there are no checks", "no TLS")
    for name in titles.keys() - without_server:
        assert any(words in titles[name] for words in missing), f"{name}: missing series"
    texts = {alert.name: alert.query.text for alert in find_alerts(Settings())}
    counted = {name for name, text in texts.items() if "rate(" in text or "increase(" in text}
    for name in counted | {"ErrorBudgetBurn"}:
        assert "restart" in titles[name], f"{name}: a reset of its counters"
    for name in ("TooManyConnections", "LimitNearlyReached", "HighMemoryUsage", "ClaudeCostBudget"):
        assert "there is no limit" in titles[name]


def test_each_burn_rate_of_each_objective_has_cases_of_its_own() -> None:
    titles = [case.title for told in cases(Settings()).values() for case in told]
    for objective in OBJECTIVES:
        for severity, burns in BURNS.items():
            for burn in burns:
                beginning = f"{objective.name}, {severity}, {burn.rate:g} times over {burn.long}: "
                assert sum(title.startswith(beginning) for title in titles) > 8
        assert any(title.startswith(f"{objective.name}, counted: ") for title in titles)


def test_no_case_is_there_twice() -> None:
    for tests in rule_tests(Settings()):
        titles = [case.title for case, _, _ in tests.cases]
        assert len(set(titles)) == len(titles), tests.name


def test_every_story_is_told() -> None:
    assert STORIES.keys() == {alert.name for alert in find_alerts(Settings())}


def test_scraped_series_are_those_that_exist() -> None:
    for file in rule_test_files(Settings()):
        content: dict[str, Any] = yaml.safe_load(file.text)
        for test in content["tests"]:
            for given in test["input_series"]:
                (selector,) = selectors(given["series"])
                if test["name"] not in STRANGE:
                    assert series_faults(selector) == [], test["name"]


def test_files_say_which_rules_they_are_for() -> None:
    there = {Path(file.path).name for file in rule_files(Settings())}
    for file in rule_test_files(Settings()):
        assert file.path.startswith("prometheus/tests/")
        assert {Path(path).name for path in yaml.safe_load(file.text)["rule_files"]} <= there
