"""The kinds of panels, each drawn the same way on every dashboard."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import bargauge, common, heatmap, logs, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard, units
from grafana_foundation_sdk.models import table as table_model

from pocket_agent.monitoring.dashboard.panel import Panel
from pocket_agent.monitoring.dashboard.query import Asked, LogQuery, Present, Query, Spread

Step = tuple[float | None, str]
"""From this value on (None: from the lowest), this colour."""
State = tuple[str, str]
"""A word and its colour."""

UP_OR_DOWN: Final[Mapping[int, State]] = {1: ("up", "green"), 0: ("down", "red")}
PASSED_OR_FAILED: Final[Mapping[int, State]] = {1: ("healthy", "green"), 0: ("failing", "red")}

_LINE_WIDTH: Final = 2
_DIM: Final = 12
_PLAIN: Final[Sequence[Step]] = ((None, "green"),)


def graph(
    title: str,
    description: str,
    *queries: Asked,
    unit: str,
    lowest: float | None = 0,
    highest: float | None = None,
    mark: float | None = None,
    stacked: bool = False,
    colours: Mapping[str, str] | None = None,
    dashed: Iterable[str] = (),
    nothing: str | None = None,
    alerts: tuple[str, ...] = (),
    details: str | None = None,
) -> Panel:
    """Lines over time.

    Args:
        title: of the panel.
        description: what it shows, and what to make of it.
        queries: one or more.
        unit: Grafana's name of the unit.
        lowest: the bottom of the axis; None for what may fall without end.
        highest: the top of the axis, where the values have one.
        mark: a dashed line where an alert begins.
        stacked: add the lines up.
        colours: of lines by their names; the others get what is left.
        dashed: names of lines that are limits.
        nothing: what to say while there is no value.
        alerts: whose runbooks to link to.
        details: the uid of the dashboard to link to.
    """
    steps = (*_PLAIN, *(((mark, "red"),) if mark is not None else ()))
    style = looks.GraphThresholdsStyleMode.OFF if mark is None else looks.GraphThresholdsStyleMode.DASHED
    drawn = (
        timeseries.Panel()
        .unit(unit)
        .color_scheme(FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .thresholds(_thresholds(steps))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
        .line_width(1 if stacked else _LINE_WIDTH)
        .fill_opacity(3 * _DIM if stacked else _DIM)
        .show_points(looks.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL if stacked else looks.StackingMode.NONE))
        .legend(_legend(len(queries) > 1 or "{{" in _name(queries[0])))
        .tooltip(_tooltip())
    )
    if lowest is not None:
        drawn.min(lowest)
    if highest is not None:
        drawn.max(highest)
    for name, colour in (colours or {}).items():
        drawn.override_by_name(name, [_fixed(colour)])
    for name in dashed:
        line = dashboard.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]})
        drawn.override_by_name(name, [line, dashboard.DynamicConfigValue("custom.fillOpacity", 0)])
    return Panel(title, description, queries, _silent(drawn.build(), nothing), alerts, details)


def figure(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    steps: Sequence[Step] = _PLAIN,
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
        .thresholds(_thresholds(steps))
        .color_scheme(FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .graph_mode(looks.BigValueGraphMode.NONE if is_word else looks.BigValueGraphMode.AREA)
        .color_mode(looks.BigValueColorMode.VALUE)
        .text_mode(looks.BigValueTextMode.NAME if by_name else looks.BigValueTextMode.VALUE)
        .justify_mode(looks.BigValueJustifyMode.CENTER)
    )
    if states is not None:
        drawn.mappings([_mapping(states)])
    if decimals is not None:
        drawn.decimals(decimals)
    return Panel(title, description, (query,), _silent(drawn.build(), nothing), alerts, details)


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
        .mappings([_mapping(states)])
        .thresholds(_thresholds(_PLAIN))
        .color_scheme(FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .show_value(looks.VisibilityMode.NEVER)
        .merge_values(True)
        .legend(_legend(False))
        .tooltip(_tooltip())
    )
    return Panel(title, description, queries, _silent(drawn.build(), nothing), alerts)


def gauges(title: str, description: str, query: Query, *, steps: Sequence[Step], alerts: tuple[str, ...] = ()) -> Panel:
    """Shares of a whole, a bar for each result."""
    drawn = (
        bargauge.Panel()
        .unit(units.PercentUnit)
        .min(0)
        .max(1)
        .thresholds(_thresholds(steps))
        .color_scheme(FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.GRADIENT)
        .show_unfilled(True)
    )
    return Panel(title, description, (query,), drawn.build(), alerts)


def heat(title: str, description: str, query: Spread, *, unit: str, nothing: str) -> Panel:
    """How many values there were of which size, with the traces of some."""
    drawn = (
        heatmap.Panel()
        .unit(units.Short)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(looks.AxisPlacement.LEFT))
        .mode(looks.TooltipDisplayMode.SINGLE)
        .show_color_scale(True)
        .exemplars_color("rgba(255,0,255,0.7)")
    )
    return Panel(title, description, (query,), _silent(drawn.build(), nothing))


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
        .thresholds(_thresholds(_PLAIN))
        .with_transformation(order)
        .cell_options(looks.TableAutoCellOptions())
        .filterable(True)
        .show_header(True)
    )
    for name, states in colours.items():
        cell = dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
        drawn.override_by_name(name, [cell, dashboard.DynamicConfigValue("mappings", [_mapping(states)])])
    for name, (label, url) in links.items():
        link = {"title": label, "url": url, "targetBlank": True}
        drawn.override_by_name(name, [dashboard.DynamicConfigValue("links", [link])])
    panel = _silent(drawn.build(), nothing)
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


def _thresholds(steps: Sequence[Step]) -> ThresholdsConfig:
    made = [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(made)


def _mapping(states: Mapping[int, State] | Mapping[str, State]) -> dashboard.ValueMap:
    return dashboard.ValueMap(
        options={
            str(value): dashboard.ValueMappingResult(text=word, color=colour, index=place)
            for place, (value, (word, colour)) in enumerate(states.items())
        }
    )


def _fixed(colour: str) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def _legend(shown: bool) -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .show_legend(shown)
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
        .calcs([])
    )


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING)


def _name(query: Asked) -> str:
    return query.legend if isinstance(query, Query | LogQuery) else ""


def _silent(panel: dashboard.Panel, words: str | None) -> dashboard.Panel:
    """Say `words` instead of "No data"."""
    if words is not None:
        assert panel.field_config is not None
        panel.field_config.defaults.no_value = words
    return panel
