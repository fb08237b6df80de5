"""Panels of what is: figures, states, shares, tables, lines of a log."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import bargauge, common, logs, stat, statetimeline, table
from grafana_foundation_sdk.builders.dashboard import FieldColor
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard, units
from grafana_foundation_sdk.models import table as table_model

from pocket_agent.monitoring.dashboard.drawing import PLAIN, State, Step, legend, mapping, silent, thresholds, tooltip
from pocket_agent.monitoring.dashboard.panel import Panel
from pocket_agent.monitoring.dashboard.query import LogQuery, Present, Query

UP_OR_DOWN: Final[Mapping[int, State]] = {1: ("up", "green"), 0: ("down", "red")}
PASSED_OR_FAILED: Final[Mapping[int, State]] = {1: ("healthy", "green"), 0: ("failing", "red")}


def figure(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    steps: Sequence[Step] = PLAIN,
    states: Mapping[int, State] | None = None,
    by_name: bool = False,
    decimals: int | None = None,
    nothing: str | None = None,
    alerts: tuple[str, ...] = (),
    details: str | None = None,
) -> Panel:
    """One number, or a word for it, with its course behind it.

    Args:
        title: of the panel.
        description: what it shows, and what to make of it.
        query: for one result.
        unit: Grafana's name of the unit.
        steps: the colours of values.
        states: words for values.
        by_name: show the name of the result instead of its value.
        decimals: places behind the point.
        nothing: what to say while there is no value.
        alerts: whose runbooks to link to.
        details: the uid of the dashboard to link to.
    """
    is_word = by_name or states is not None
    drawn = (
        stat.Panel()
        .unit(unit)
        .thresholds(thresholds(steps))
        .color_scheme(FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .graph_mode(looks.BigValueGraphMode.NONE if is_word else looks.BigValueGraphMode.AREA)
        .color_mode(looks.BigValueColorMode.VALUE)
        .text_mode(looks.BigValueTextMode.NAME if by_name else looks.BigValueTextMode.VALUE)
        .justify_mode(looks.BigValueJustifyMode.CENTER)
    )
    if states is not None:
        drawn.mappings([mapping(states)])
    if decimals is not None:
        drawn.decimals(decimals)
    return Panel(title, description, (query,), silent(drawn.build(), nothing), alerts, details)


def timeline(
    title: str,
    description: str,
    *queries: Query,
    states: Mapping[int, State],
    nothing: str | None = None,
    alerts: tuple[str, ...] = (),
) -> Panel:
    """The states that something went through, a row for each result."""
    drawn = (
        statetimeline.Panel()
        .unit(units.NoUnit)
        .mappings([mapping(states)])
        .thresholds(thresholds(PLAIN))
        .color_scheme(FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .show_value(looks.VisibilityMode.NEVER)
        .merge_values(True)
        .legend(legend(False))
        .tooltip(tooltip())
    )
    return Panel(title, description, queries, silent(drawn.build(), nothing), alerts)


def gauges(title: str, description: str, query: Query, *, steps: Sequence[Step], alerts: tuple[str, ...] = ()) -> Panel:
    """Shares of a whole, a bar for each result."""
    drawn = (
        bargauge.Panel()
        .unit(units.PercentUnit)
        .min(0)
        .max(1)
        .thresholds(thresholds(steps))
        .color_scheme(FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.GRADIENT)
        .show_unfilled(True)
    )
    return Panel(title, description, (query,), drawn.build(), alerts)


def listing(
    title: str,
    description: str,
    query: Present,
    *,
    columns: Mapping[str, str],
    hidden: Iterable[str],
    colours: Mapping[str, Mapping[str, State]],
    links: Mapping[str, tuple[str, str]],
    nothing: str,
) -> Panel:
    """What is now, a row for each result.

    Args:
        title: of the panel.
        description: what it shows, and what to make of it.
        query: whose labels are the columns.
        columns: headings of the first columns by label; other labels come after them under their own names.
        hidden: labels that are no columns.
        colours: by heading, words for the values of a column.
        links: by heading, the title and the address of what its values link to.
        nothing: what to say while there is no row.
    """
    order = dashboard.DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": dict.fromkeys((*hidden, "Time", "Value", "__name__"), True),
            "indexByName": {name: place for place, name in enumerate(columns)},
            "renameByName": dict(columns),
        },
    )
    drawn = (
        table.Panel()
        .unit(units.NoUnit)
        .thresholds(thresholds(PLAIN))
        .with_transformation(order)
        .cell_options(looks.TableAutoCellOptions())
        .filterable(True)
        .show_header(True)
    )
    for name, states in colours.items():
        cell = dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
        drawn.override_by_name(name, [cell, dashboard.DynamicConfigValue("mappings", [mapping(states)])])
    for name, (label, url) in links.items():
        link = {"title": label, "url": url, "targetBlank": True}
        drawn.override_by_name(name, [dashboard.DynamicConfigValue("links", [link])])
    panel = silent(drawn.build(), nothing)
    assert isinstance(panel.options, table_model.Options)
    panel.options.footer = None  # newer Grafanas have it elsewhere
    return Panel(title, description, (query,), panel)


def lines(title: str, description: str, query: LogQuery) -> Panel:
    """Lines of a log, the newest first."""
    drawn = (
        logs.Panel()
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(looks.LogsSortOrder.DESCENDING)
        .dedup_strategy(looks.LogsDedupStrategy.NONE)
    )
    panel = drawn.build()
    panel.field_config = dashboard.FieldConfigSource()
    return Panel(title, description, (query,), panel)
