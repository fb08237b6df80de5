import json
import os
import re
import subprocess
import sys
from itertools import chain, product
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.monitoring import all_alerts, dashboard_files, recorded_names, render, target_of
from pocket_agent.monitoring.dashboards import place_panels
from pocket_agent.monitoring.rules import LONG_WINDOWS, WINDOWS, objective_rules, recording_rules, unarmed_rules
from pocket_agent.observability import catalogue
from pocket_agent.settings import Settings
from tests.harness.expression import FOREIGN
from tests.monitoring.dashboard_sample import CHANGED, dashboards, panel_named, panels_of, series_in, targets_of
from tests.monitoring.rule_sample import promtool

DASHBOARDS = dashboards()
SERVER, USAGE, RELIABILITY, INTERNALS, LOG, CLAUDE = DASHBOARDS
EACH = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=[found["uid"] for found in DASHBOARDS])
RECORDED = {
    rule.record: rule.expr for rule in (*recording_rules(), *unarmed_rules(), *objective_rules(WINDOWS + LONG_WINDOWS))
}


def test_the_first_dashboard_begins_with_the_panels_of_the_guide() -> None:
    first = [(panel["title"], panel["gridPos"]) for panel in SERVER["panels"][:4]]
    assert SERVER["title"] == "Pocket Agent Server"
    assert first == [
        ("Active Connections", {"h": 8, "w": 12, "x": 0, "y": 0}),
        ("Execution Rate", {"h": 8, "w": 12, "x": 12, "y": 0}),
        ("Execution Duration (95th percentile)", {"h": 8, "w": 12, "x": 0, "y": 8}),
        ("Error Rate", {"h": 8, "w": 12, "x": 12, "y": 8}),
    ]


def test_the_system_dashboard_has_the_groups_of_the_guide() -> None:
    groups: dict[str, list[str]] = {}
    for panel in SERVER["panels"][4:]:
        if panel["type"] == "row":
            groups[panel["title"]] = []
        else:
            groups[list(groups)[-1]].append(panel["title"])
    assert {name: groups[name] for name in ("Resource usage", "Application", "Business")} == {
        "Resource usage": ["CPU usage", "Memory usage", "Disk I/O", "Network traffic"],
        "Application": ["Request rate", "Error rate", "Response time", "Active connections"],
        "Business": ["Projects created", "Executions per hour", "Average execution time", "Success rate"],
    }


def test_each_dashboard_has_an_address_and_a_title_of_its_own() -> None:
    uids = [dashboard["uid"] for dashboard in DASHBOARDS]
    names = ("server", "usage", "reliability", "internals", "log", "claude")
    assert uids == [f"pocket-agent-{name}" for name in names]
    assert len({dashboard["title"] for dashboard in DASHBOARDS}) == len(DASHBOARDS)
    assert [file.path for file in dashboard_files(Settings())] == [f"grafana/dashboards/{uid}.json" for uid in uids]


@EACH
def test_panels_have_numbers_titles_and_letters_of_their_own(dashboard: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    titles = [panel["title"] for panel in panels_of(dashboard)]
    assert len(set(titles)) == len(titles)
    for panel in panels_of(dashboard):
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])


@EACH
def test_panels_fill_the_grid_without_gaps_or_overlaps(dashboard: dict[str, Any]) -> None:
    cells: list[tuple[int, int]] = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        cells += product(columns, rows)
    height = max(row for _, row in cells) + 1
    assert sorted(cells) == sorted(product(range(24), range(height)))


@EACH
def test_each_panel_says_what_it_shows_and_in_what(dashboard: dict[str, Any]) -> None:
    for panel in panels_of(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["type"] == "logs" or panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@EACH
def test_every_query_goes_to_the_source_that_was_chosen(dashboard: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    asking = [*panels_of(dashboard), *chain(*(panel["targets"] for panel in panels_of(dashboard)))]
    asking += dashboard["annotations"]["list"]
    asking += [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    for asked in asking:
        name = {"prometheus": "datasource", "loki": "logs"}[asked["datasource"]["type"]]
        assert asked["datasource"]["uid"] == f"${{{name}}}"
        assert name in variables


@EACH
def test_every_query_is_of_the_chosen_server(dashboard: dict[str, Any]) -> None:
    # These have no server.
    free = {"Alerts", "Alerts now", "Alerts over time", "Alerts that cannot fire", "Notifications per hour"}
    for panel, target in targets_of(dashboard, "prometheus"):
        if panel["title"] in free:
            continue
        for conditions in re.findall(r"{(.*?)}", target["expr"]):
            others = {'instance="$machine", job="node"', 'job="claude-code"'}
            assert 'instance="$instance"' in conditions or conditions in others
        assert "{" in target["expr"]


@EACH
def test_variables_that_are_used_are_there(dashboard: dict[str, Any]) -> None:
    there = {variable["name"] for variable in dashboard["templating"]["list"]}
    texts = [target["expr"] for panel in panels_of(dashboard) for target in panel["targets"]]
    texts += [str(variable.get("query")) for variable in dashboard["templating"]["list"]]
    texts += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    used = set(re.findall(r"\$(\w+)", " ".join(texts)))
    assert used - {"__rate_interval", "__auto"} <= there
    assert there - used <= {"datasource", "logs"}


def known_series() -> set[str]:
    """Everything that can be asked of Prometheus."""
    suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",)}
    ours = {metric.name + suffix for metric in catalogue.CATALOGUE for suffix in suffixes[metric.kind]}
    return ours | FOREIGN.keys() | RECORDED.keys()


def asked_series() -> set[str]:
    """Everything that a dashboard asks for."""
    texts = [target["expr"] for found in DASHBOARDS for _, target in targets_of(found, "prometheus")]
    texts += [annotation["expr"] for found in DASHBOARDS for annotation in found["annotations"]["list"]]
    return set().union(*map(series_in, texts)) - {"vector", "time"}


def test_dashboards_ask_for_nothing_that_is_not_there() -> None:
    assert asked_series() - known_series() == set()


def test_every_metric_of_the_catalogue_is_on_a_dashboard() -> None:
    asked = asked_series()
    behind = set().union(*(series_in(RECORDED[name]) for name in asked & RECORDED.keys()))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked | behind}
    assert {metric.name for metric in catalogue.CATALOGUE} - shown == set()


def test_every_recording_is_on_a_dashboard_or_behind_an_alert() -> None:
    shown, behind = asked_series(), {alert.expr for alert in all_alerts(Settings())}
    # An alert has the query of a recording, so that it does not wait for its evaluation.
    unused = {name for name in RECORDED.keys() - shown if not any(RECORDED[name] in expr for expr in behind)}
    # The alerts of the objectives, which are not among the others, need these.
    unused = {name for name in unused if ":pocket_agent_slo_" not in name}
    assert unused == {"job_instance:pocket_agent_executions:rate5m"}, "but for who asks by hand"


@EACH
def test_links_lead_to_runbooks_and_dashboards_that_are_there(dashboard: dict[str, Any]) -> None:
    alerts = {alert.name for alert in all_alerts(Settings())}
    runbooks = f"{target_of(Settings()).url}/docs/runbooks/"
    for link in chain(*(panel.get("links", []) for panel in panels_of(dashboard))):
        if link["title"] == "Details":
            assert link["url"].partition("?")[0].removeprefix("/d/") in {found["uid"] for found in DASHBOARDS}
        else:
            assert link["title"].removeprefix("Runbook: ") in alerts
            assert link["url"] == runbooks + link["title"].removeprefix("Runbook: ")


@EACH
def test_each_dashboard_leads_to_the_others_and_to_the_live_page(dashboard: dict[str, Any]) -> None:
    others, live, runbooks = dashboard["links"]
    assert (others["type"], others["tags"], others["keepTime"]) == ("dashboards", dashboard["tags"], True)
    assert live["url"] == "https://127.0.0.1:8443/dashboard"
    assert runbooks["url"] == "https://127.0.0.1:8443/docs/runbooks"


def test_starts_and_alerts_mark_every_dashboard_of_figures() -> None:
    for dashboard in DASHBOARDS[:-2]:
        starts, versions, alerts = dashboard["annotations"]["list"]
        assert versions["titleFormat"] == "Version {{version}}"
        assert (starts["expr"], starts["useValueForTime"]) == (
            'process_start_time_seconds{instance="$instance", job="$job"} * 1000',
            True,
        )
        assert alerts["expr"].startswith("ALERTS{")
    assert LOG["annotations"]["list"] == []


def test_a_change_of_the_version_is_marked_and_no_start(tmp_path: Path) -> None:
    _, versions, _ = SERVER["annotations"]["list"]
    expr = versions["expr"].replace("$instance", "one").replace("$job", "pocket-agent")

    def build(version: str, values: str) -> dict[str, str]:
        series = f'pocket_agent_build_info{{version="{version}", revision="r", instance="one", job="pocket-agent"}}'
        return {"series": series, "values": values}

    def at(minute: str, *found: str) -> dict[str, Any]:
        return {
            "expr": f"count by (version) ({expr})",
            "eval_time": minute,
            "exp_samples": [{"labels": f'{{version="{version}"}}', "value": 1} for version in found],
        }

    series = [build("1.0", "1x30 stale"), build("1.1", "_x31 1x90")]
    tests = [
        {
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [at("0m"), at("20m"), at("32m", "1.1"), at("60m")],
        }
    ]
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": tests}), "utf-8")
    status, said = promtool("test", "rules", file)
    assert status == 0, said


def test_exemplars_are_shown_where_there_are_some() -> None:
    shown = {
        panel["title"]
        for dashboard in DASHBOARDS
        for panel, target in targets_of(dashboard, "prometheus")
        if target.get("exemplar")
    }
    first = {"Execution Duration (95th percentile)", "Execution times", "Time to first message"}
    assert shown == {*first, "API requests"}
    for dashboard in DASHBOARDS:
        for _, target in targets_of(dashboard, "prometheus"):
            assert not target.get("exemplar") or "_bucket{" in target["expr"], "what is recorded has none"


def test_marks_and_colours_follow_the_settings() -> None:
    server, usage, reliability, internals, *_ = dashboards(CHANGED)

    def steps(dashboard: dict[str, Any], title: str) -> list[float | None]:
        found = panel_named(dashboard, title)["fieldConfig"]["defaults"]["thresholds"]["steps"]
        return [step["value"] for step in found]

    assert steps(server, "Active Connections") == [None, 3.5]
    assert steps(server, "Execution Duration (95th percentile)") == [None, 33]
    assert steps(server, "Error rate") == [None, 0.11]
    assert steps(server, "Success rate") == [None, 0.96]
    assert steps(server, "Spent today") == [None, 6.25, 12.5]
    assert steps(usage, "Longest executions") == [None, 33]
    assert steps(usage, "Daily budget used") == [None, 0.5, 1]
    assert steps(reliability, "requests-latency: achieved") == [None, 0.97]
    assert steps(internals, "Event loop") == [None, 0.7]
    burning = panel_named(reliability, "Burn rate over 1h")["targets"]
    assert [target["expr"].rpartition(" / ")[2] for target in burning] == ["0.02", "0.03", "0.04"]


def test_without_a_budget_no_cost_is_too_much() -> None:
    steps = panel_named(SERVER, "Spent today")["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["color"] for step in steps] == ["green"]


def test_the_same_settings_give_the_same_bytes() -> None:
    program = (
        "from pocket_agent.settings import Settings\n"
        "from pocket_agent.monitoring import dashboard_files\n"
        "print(*(file.path + file.text for file in dashboard_files(Settings())))"
    )

    def rendered(seed: str) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True).stdout

    assert rendered("1") == rendered("2")


def test_the_log_is_asked_for_by_the_labels_that_it_is_sent_with() -> None:
    files = {file.path: file.text for file in render(Settings())}
    asked = re.findall(r"(\w+)=~?\"", panel_named(LOG, "Log")["targets"][0]["expr"].partition("}")[0])
    assert sorted(asked) == ["environment", "level", "service"]
    for label in asked:
        assert re.search(rf"stage.labels {{\n +values = {{(\n.*=.*)*\n +{label} +=", files["alloy/config.alloy"])


def test_a_legend_names_every_label_that_a_recording_or_a_metric_has() -> None:
    """Two lines of a graph with one name cannot be told apart."""
    ours = {metric.name: set(metric.labels) for metric in catalogue.CATALOGUE}
    recorded = {name: set(name.split(":")[0].split("_")) for name in recorded_names()}
    plain = re.compile(r"([\w:]+){[^}]*}( [*/>=]+ [\d.]+)?")
    for dashboard in DASHBOARDS:
        for panel, target in targets_of(dashboard, "prometheus"):
            found = plain.fullmatch(target["expr"])
            if found and target.get("format") != "table":
                labels = (ours | recorded | {name: set(labels) for name, labels in FOREIGN.items()})[found[1]]
                told = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - {"job", "instance"}
                given = set(re.findall(r'(\w+)="', target["expr"]))
                assert told == labels - {"job", "instance"} - given, panel["title"]


def test_panels_that_leave_a_gap_are_refused() -> None:
    panel = {"title": "a", "description": "b.", "unit": "s", "queries": {"c": "up"}}

    def place(count: int, widths: list[int] | None = None) -> list[Any]:
        row = {"height": 8, "panels": [panel] * count, "widths": widths}
        return list(place_panels({"sections": [{"rows": [row]}]}, ""))

    assert len(place(3)) == 3
    for count, widths in ((2, [12, 11]), (5, None)):
        with pytest.raises(ValueError, match="do not fill"):
            place(count, widths)
