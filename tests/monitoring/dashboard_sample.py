"""Dashboards as they are read from their files."""

import json
import re
from collections.abc import Iterator
from typing import Any

from pocket_agent.monitoring import dashboard_files
from pocket_agent.settings import AlertSettings, LimitSettings, ObjectiveSettings, Settings

CHANGED = Settings(
    limits=LimitSettings(max_connections=7, cost_usd_per_day=12.5),
    alerts=AlertSettings(
        limit_ratio=0.5,
        slow_execution=33.0,
        error_ratio=0.11,
        loop_lag=0.7,
        objectives=ObjectiveSettings(availability=0.98, latency=0.97, success=0.96),
    ),
)


def dashboards(settings: Settings | None = None) -> list[dict[str, Any]]:
    """Every dashboard, as Grafana reads it."""
    return [json.loads(file.text) for file in dashboard_files(settings or Settings())]


def panels_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Its panels, without the headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets_of(dashboard: dict[str, Any], source: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each query for a kind of data source, behind its panel."""
    for panel in panels_of(dashboard):
        for target in panel["targets"]:
            if target["datasource"]["type"] == source:
                yield panel, target


def panel_named(dashboard: dict[str, Any], title: str) -> dict[str, Any]:
    """The panel with a title."""
    (found,) = [panel for panel in panels_of(dashboard) if panel["title"] == title]
    return found


def series_in(query: str) -> set[str]:
    """The names of the series that a query of Prometheus asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"|\boffset \w+", "{}", query)
    bare = re.sub(r"\b(by|without|on)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare)
    return {word for word in words if word not in {"and", "or", "unless"}}
