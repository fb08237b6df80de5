"""The dashboards, as Grafana's own types and its grammar of LogQL see them."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pocket_agent.settings import Settings
from tests.harness.absence import absent
from tests.harness.tool import ROOT
from tests.monitoring.dashboard_sample import CHANGED, dashboards, panel_named

FOLDER = ROOT / "tests" / "grafana"
SERVER, USAGE, RELIABILITY, INTERNALS, LOG = range(5)


def faults(folder: Path, found: list[dict[str, Any]]) -> list[str]:
    """What is wrong with some dashboards, a line each."""
    if shutil.which("node") is None or not (FOLDER / "node_modules").is_dir():
        absent("Grafana's types (scripts/grafana)")
    files = []
    for dashboard in found:
        files.append(folder / f"{dashboard['uid']}.json")
        files[-1].write_text(json.dumps(dashboard), "utf-8")
    done = subprocess.run(
        ["node", FOLDER / "check.mjs", *files], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    said = done.stdout.splitlines()
    assert done.returncode == (1 if said else 0)
    return said


def test_dashboards_are_of_grafanas_types(tmp_path: Path) -> None:
    assert faults(tmp_path, dashboards()) == []


def test_dashboards_of_other_settings_are_of_grafanas_types(tmp_path: Path) -> None:
    assert faults(tmp_path, dashboards(CHANGED)) == []


def rename(panel: dict[str, Any], name: str, other: str) -> None:
    panel[other] = panel.pop(name)


BROKEN: dict[str, tuple[int, Callable[[dict[str, Any]], object], str]] = {
    "an option that no panel of its kind has": (
        SERVER,
        lambda found: panel_named(found, "Uptime")["options"].update(grahpMode="area"),
        "grahpMode",
    ),
    "an option that is missing": (
        RELIABILITY,
        lambda found: panel_named(found, "Health checks")["options"].pop("showValue"),
        "showValue",
    ),
    "a value that an option never has": (
        SERVER,
        lambda found: panel_named(found, "Uptime")["options"].update(graphMode="areas"),
        "areas",
    ),
    "a drawing of graphs that does not exist": (
        USAGE,
        lambda found: panel_named(found, "Approvals per hour")["fieldConfig"]["defaults"]["custom"].update(lineWith=1),
        "lineWith",
    ),
    "a kind of panel that is not one of ours": (
        INTERNALS,
        lambda found: panel_named(found, "Ping").update(type="graph"),
        "graph",
    ),
    "a panel without a description": (
        INTERNALS,
        lambda found: panel_named(found, "Ping").pop("description"),
        "description",
    ),
    "a query with a word that Grafana does not know": (
        USAGE,
        lambda found: rename(panel_named(found, "Spent today")["targets"][0], "legendFormat", "legend"),
        "legend",
    ),
    "a variable of a kind that does not exist": (
        SERVER,
        lambda found: found["templating"]["list"][0].update(type="source"),
        "source",
    ),
    "a dashboard without a title": (LOG, lambda found: found.pop("title"), "title"),
    "a query that is not LogQL": (
        LOG,
        lambda found: panel_named(found, "Log")["targets"][0].update(expr='{service="$service" | json'),
        "not LogQL",
    ),
    "a query of Prometheus for the log": (
        LOG,
        lambda found: panel_named(found, "Log")["targets"][0].update(expr="histogram_quantile(0.9, up[5m])"),
        "not LogQL",
    ),
}


def test_each_fault_is_found(tmp_path: Path) -> None:
    broken = []
    for name, (number, break_it, _) in BROKEN.items():
        found = dashboards(Settings())[number]
        break_it(found)
        broken.append({**found, "uid": name.replace(" ", "-")})
    said = faults(tmp_path, broken)
    missed = [
        name
        for name, (_, _, word) in BROKEN.items()
        if not any(line.startswith(f"{name.replace(' ', '-')}") and word in line for line in said)
    ]
    assert missed == [], said
