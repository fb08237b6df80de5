"""Grafana dashboards: one YAML file for each in `templates/grafana/dashboards/`, as a list of panels.

A panel has a title, a description, a kind, and queries by the legend of their results, which names every label that
distinguishes results. `kinds.yml` has the rest of Grafana's model of each kind. The default kind is a graph.

- `unit`, `decimals`, `lowest` (0), `highest`: of the axis; `lowest: null` for an axis without a lower limit.
- `mark`: a dashed line at the threshold of an alert. `stacked`: stack the lines.
- `colours`: of lines by legend. `dashed`: legends of limits and sums.
- `steps`: colours, each from a value on. `states`: words and colours for values.
- `nothing`: shown without a value. `source: logs`: the queries are for Loki.
- `alerts`: runbooks to link to. `details`: the dashboard to link to.
"""

import copy
import json
from collections.abc import Iterator
from string import ascii_uppercase
from typing import Any, Final

from pocket_agent.monitoring.files import RenderedFile, fill, fill_text, load, template
from pocket_agent.monitoring.targets import target_of
from pocket_agent.monitoring.thresholds import runbook_address, thresholds
from pocket_agent.settings import Settings

DASHBOARDS: Final = ("server", "usage", "reliability", "internals", "log", "claude")
_FOLDER: Final = "grafana/dashboards"
_COLUMNS: Final = 24  # columns of Grafana's grid
_LINK: Final = {
    **dict.fromkeys(("icon", "tooltip"), ""),
    **dict.fromkeys(("asDropdown", "includeVars", "keepTime"), False),
    "type": "link",
    "tags": [],
    "targetBlank": True,
}

Json = dict[str, Any]


def dashboard_files(settings: Settings) -> list[RenderedFile]:
    """`grafana/dashboards/*.json`."""
    values = _values(settings)
    return [_file(page, values) for page in _pages(values)]


def _pages(values: Json) -> list[Json]:
    return [fill(load(f"{_FOLDER}/{name}.yml"), values) for name in DASHBOARDS]


OVERVIEW: Final = "pocket-agent-server?orgId=1"
"""The path and query of the dashboard with the state of a server, below `/d/`."""


def panel_of_alert(settings: Settings) -> dict[str, str]:
    """The path and query of the first panel that links to the runbook of each alert, below `/d/`."""
    found: dict[str, str] = {}
    for page in _pages(_values(settings)):
        for panel in place_panels(page, ""):
            for link in panel.get("links", ()):
                alert = link["title"].partition("Runbook: ")[2]
                if alert:
                    found.setdefault(alert, f"{page['uid']}?viewPanel={panel['id']}")
    return found


def _values(settings: Settings) -> Json:
    share, budget = settings.alerts.limit_ratio, settings.limits.cost_usd_per_day
    spending = [[share * budget, "orange"], [budget, "red"]] if budget else []
    return thresholds(settings) | {
        "connections_mark": share * settings.limits.max_connections,
        "spent_steps": [[None, "green"], *spending],
        "runbooks": runbook_address(settings),
        "server": target_of(settings).url,
    }


def _file(page: Json, values: Json) -> RenderedFile:
    uid = page["uid"]
    kinds = load(f"{_FOLDER}/kinds.yml")
    place = f"Place: /var/lib/grafana/dashboards/{uid}.json. Reload: Grafana sees a change by itself."
    origin = "Written by `pocket-agent monitoring render`; change the server's settings and render again."
    dashboard = {
        **kinds["dashboard"],
        "uid": uid,
        "title": page["title"],
        "description": f"{page['description']} {place} {origin}",  # JSON has no comments
        "time": {"from": f"now-{page['since']}", "to": "now"},
        "templating": {"list": [kinds["variables"][name] for name in page["variables"]]},
        "annotations": {"list": kinds["annotations"] if "instance" in page["variables"] else []},
        "links": [_LINK | fill(link, values) for link in kinds["links"]],
        "panels": list(place_panels(page, values["runbooks"])),
    }
    text = json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False)
    return RenderedFile(f"{_FOLDER}/{uid}.json", text + "\n")


def place_panels(page: Json, runbooks: str) -> Iterator[Json]:
    """Panels and headings with their places in the grid; raises ValueError when a row does not fill its width."""
    number, y = 1, 0
    for section in page["sections"]:
        if "title" in section:
            place = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
            yield {"type": "row", "id": number, "title": section["title"], "gridPos": place, "collapsed": False,
                   "panels": []}  # fmt: skip
            number, y = number + 1, y + 1
        for row in section["rows"]:
            panels = row["panels"]
            widths = row.get("widths") or [_COLUMNS // len(panels)] * len(panels)
            if sum(widths) != _COLUMNS:
                raise ValueError(f"{[panel['title'] for panel in panels]} do not fill {_COLUMNS} columns: {widths}")
            x = 0
            for panel, width in zip(panels, widths, strict=True):
                place = {"h": row["height"], "w": width, "x": x, "y": y}
                yield {**_panel(panel, runbooks), "id": number, "gridPos": place}
                number, x = number + 1, x + width
            y += row["height"]


def _panel(panel: Json, runbooks: str) -> Json:
    """A panel in Grafana's model, without its place."""
    kind, kinds = panel.get("kind", "graph"), load(f"{_FOLDER}/kinds.yml")["panels"]
    model: Json = copy.deepcopy(kinds[kind])
    source = model["datasource"] = kinds["log" if panel.get("source") == "logs" else kind]["datasource"]
    queries = zip(panel["queries"].items(), ascii_uppercase, strict=False)
    model |= {
        "title": panel["title"],
        "description": panel["description"],
        "targets": [_target(kind, source, legend, expr, ref) for (legend, expr), ref in queries],
    }
    links = list(_panel_links(panel, runbooks))
    if links:
        model["links"] = links
    defaults, overrides = model["fieldConfig"]["defaults"], model["fieldConfig"]["overrides"]
    for key, grafana in (("nothing", "noValue"), ("decimals", "decimals")):
        if key in panel:
            defaults[grafana] = panel[key]
    if "steps" in panel:
        defaults["thresholds"]["steps"] = [{"value": value, "color": colour} for value, colour in panel["steps"]]
    if "states" in panel:
        states = enumerate(panel["states"].items())
        options = {str(value): {"text": word, "color": colour, "index": n} for n, (value, (word, colour)) in states}
        defaults["mappings"] = [{"type": "value", "options": options}]
    match kind:
        case "graph":
            _draw_graph(panel, model, defaults, overrides)
        case "stat":
            defaults["unit"] = panel["unit"]
            if panel.get("by_name") or "states" in panel:
                model["options"]["graphMode"] = "none"
            if panel.get("by_name"):
                model["options"]["textMode"] = "name"
        case "heatmap":
            model["options"]["yAxis"]["unit"] = panel["unit"]
        case "table":
            overrides += panel["overrides"]
            model["transformations"] = panel["transformations"]
    return model


def _draw_graph(panel: Json, model: Json, defaults: Json, overrides: list[Json]) -> None:
    defaults["unit"], custom = panel["unit"], defaults["custom"]
    for key, grafana, usual in (("lowest", "min", 0), ("highest", "max", None)):
        if panel.get(key, usual) is not None:
            defaults[grafana] = panel.get(key, usual)
    if "mark" in panel:
        defaults["thresholds"]["steps"].append({"value": panel["mark"], "color": "red"})
        custom["thresholdsStyle"]["mode"] = "dashed"
    if panel.get("stacked"):
        custom |= {"fillOpacity": 36, "lineWidth": 1, "stacking": {"mode": "normal"}}
    for legend, colour in panel.get("colours", {}).items():
        overrides.append(_override(legend, color={"mode": "fixed", "fixedColor": colour}))
    for legend in panel.get("dashed", ()):
        line = {"custom.lineStyle": {"fill": "dash", "dash": [10, 10]}, "custom.fillOpacity": 0}
        overrides.append(_override(legend, **line))
    legends = list(panel["queries"])
    model["options"]["legend"]["showLegend"] = len(legends) > 1 or "{{" in legends[0]


def _override(legend: str, **properties: object) -> Json:
    found = [{"id": name, "value": value} for name, value in properties.items()]
    return {"matcher": {"id": "byName", "options": legend}, "properties": found}


def _target(kind: str, source: Json, legend: str, expr: str, ref: str) -> Json:
    """A query in Grafana's model. Only the server's own buckets have exemplars, recordings have none."""
    target: Json = {"refId": ref, "datasource": source, "editorMode": "code", "expr": expr}
    if source["type"] == "loki":
        return {**target, "queryType": "range", **({"legendFormat": legend} if kind == "graph" else {})}
    if kind == "table":
        return {**target, "format": "table", "instant": True, "range": False}
    form = {"format": "heatmap"} if kind == "heatmap" else {}
    exemplar = "_bucket{" in expr
    return {**target, **form, "exemplar": exemplar, "instant": False, "range": True, "legendFormat": legend}


def _panel_links(panel: Json, runbooks: str) -> Iterator[Json]:
    if "details" in panel:
        url = f"/d/{panel['details']}?${{__url_time_range}}&${{__all_variables}}"
        yield {**_LINK, "title": "Details", "url": url, "targetBlank": False}
    for alert in panel.get("alerts", ()):
        yield {**_LINK, "title": f"Runbook: {alert}", "url": f"{runbooks}/{alert}"}


def render_dashboards_document() -> str:
    """`docs/dashboards.md`, with the default settings."""
    pages = _pages(_values(Settings()))
    text = template("docs/dashboards.md").read_text("utf-8")
    return fill_text(text, {"overview": "\n".join(_overview(pages)), "panels": "\n".join(_panel_tables(pages))})


def _overview(pages: list[Json]) -> Iterator[str]:
    yield "| dashboard | address | what for |"
    yield "|---|---|---|"
    for page in pages:
        anchor = page["title"].lower().replace(" ", "-")
        yield f"| [{page['title']}](#{anchor}) | `/d/{page['uid']}` | {page['description']} |"


def _panel_tables(pages: list[Json]) -> Iterator[str]:
    for page in pages:
        yield f"## {page['title']}\n"
        for section in page["sections"]:
            if "title" in section:
                yield f"### {section['title']}\n"
            yield "| panel | what it shows | runbooks |"
            yield "|---|---|---|"
            for row in section["rows"]:
                for panel in row["panels"]:
                    links = ", ".join(f"[{alert}](runbooks/{alert}.md)" for alert in panel.get("alerts", ()))
                    yield f"| {panel['title']} | {panel['description']} | {links} |"
            yield ""
