"""The files of rules: what promtool says of them, and that nothing is asked for that does not exist."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pocket_agent.config.settings import MonitoringSettings, ServerSettings, Settings
from pocket_agent.monitoring.alert import find_alerts
from pocket_agent.monitoring.objective import burn_alerts
from pocket_agent.monitoring.period import minutes, seconds
from pocket_agent.monitoring.rulefile import rule_files, rule_interval, rules, runbook_address
from tests.harness.expression import expressions, faults
from tests.monitoring.rule_sample import SETTINGS, promtool, scaled, write_files

EACH = pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))


def rules_of(settings: Settings) -> list[dict[str, Any]]:
    """All rules, as Prometheus reads them."""
    files = [yaml.safe_load(file.text) for file in rule_files(settings)]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


@EACH
def test_promtool_finds_nothing_wrong(settings: Settings, tmp_path: Path) -> None:
    status, said = promtool("check", "rules", "--lint=all", *write_files(tmp_path, rule_files(settings)))
    assert status == 0, said
    assert said.count("SUCCESS") == len(rule_files(settings))
    assert "duplicate" not in said


def test_every_alert_is_in_a_file() -> None:
    known = [alert.name for alert in (*find_alerts(Settings()), *burn_alerts(Settings()))]
    assert sorted(rule["alert"] for rule in rules_of(Settings()) if "alert" in rule) == sorted(known)


def test_every_expression_asks_for_what_exists() -> None:
    """A metric that is renamed in the catalogue takes the rules with it; one that is renamed beside it shows here."""
    asked = list(expressions(list(rules(Settings()).values())))
    assert len(asked) == len(rules_of(Settings()))
    assert [fault for expression in asked for fault in faults(expression)] == []


def test_groups_have_names_of_their_own() -> None:
    names = [group["name"] for file in rules(Settings()).values() for group in file["groups"]]
    assert len(set(names)) == len(names)


def test_rules_are_evaluated_about_as_often_as_is_scraped() -> None:
    def interval(scrape: float) -> object:
        return rule_interval(Settings(monitoring=MonitoringSettings(scrape_interval=scrape)))

    assert [interval(15), interval(1), interval(60)] == [seconds(30), seconds(2), minutes(1)]


def test_runbooks_are_the_servers_own_pages_or_where_the_setting_says() -> None:
    assert runbook_address(Settings()) == "https://127.0.0.1:8443/docs/runbooks"
    plain = Settings(server=ServerSettings(tls={"enabled": False}, port=9000))  # type: ignore[arg-type]
    assert runbook_address(plain) == "http://127.0.0.1:9000/docs/runbooks"
    wiki = Settings(monitoring=MonitoringSettings(runbook_url="https://wiki.example.org/runbooks/"))
    assert runbook_address(wiki) == "https://wiki.example.org/runbooks"


def test_how_long_conditions_must_hold_is_scaled() -> None:
    def holds(factor: float) -> list[str]:
        return [rule["for"] for rule in rules_of(scaled(factor)) if rule.get("alert") == "ServiceDown"]

    assert [holds(factor) for factor in (1, 0.01, 0, 100)] == [["2m"], ["1s200ms"], ["0s"], ["3h20m"]]
