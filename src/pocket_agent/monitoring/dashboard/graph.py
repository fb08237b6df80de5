"""Panels of what went on: lines, counts, heat maps."""

from collections.abc import Iterable, Mapping
from typing import Final

from grafana_foundation_sdk.builders import common, heatmap, timeseries
from grafana_foundation_sdk.builders.dashboard import FieldColor
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard, units

from pocket_agent.monitoring.dashboard.drawing import PLAIN, fixed, legend, silent, thresholds, tooltip
from pocket_agent.monitoring.dashboard.panel import Panel
from pocket_agent.monitoring.dashboard.query import Asked, LogQuery, Query, Spread

_LINE_WIDTH: Final = 2
_DIM: Final = 12


def graph(
    title: str,
    description: str,
    *queries: Asked,
    unit: str,
    lowest: float | None = 0,
    highest: float | None = None,
    decimals: int | None = None,
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
        decimals: places behind the point.
        mark: a dashed line where an alert begins.
        stacked: add the lines up.
        colours: of lines by their names; the others get what is left.
        dashed: names of lines that are limits.
        nothing: what to say while there is no value.
        alerts: whose runbooks to link to.
        details: the uid of the dashboard to link to.
    """
    steps = (*PLAIN, *(((mark, "red"),) if mark is not None else ()))
    style = looks.GraphThresholdsStyleMode.OFF if mark is None else looks.GraphThresholdsStyleMode.DASHED
    drawn = (
        timeseries.Panel()
        .unit(unit)
        .color_scheme(FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .thresholds(thresholds(steps))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
        .line_width(1 if stacked else _LINE_WIDTH)
        .fill_opacity(3 * _DIM if stacked else _DIM)
        .show_points(looks.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL if stacked else looks.StackingMode.NONE))
        .legend(legend(len(queries) > 1 or "{{" in _name(queries[0])))
        .tooltip(tooltip())
    )
    if lowest is not None:
        drawn.min(lowest)
    if highest is not None:
        drawn.max(highest)
    if decimals is not None:
        drawn.decimals(decimals)
    for name, colour in (colours or {}).items():
        drawn.override_by_name(name, [fixed(colour)])
    for name in dashed:
        line = dashboard.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]})
        drawn.override_by_name(name, [line, dashboard.DynamicConfigValue("custom.fillOpacity", 0)])
    return Panel(title, description, queries, silent(drawn.build(), nothing), alerts, details)


def counts(
    title: str,
    description: str,
    *queries: Query,
    stacked: bool = False,
    colours: Mapping[str, str] | None = None,
    dashed: Iterable[str] = (),
    nothing: str | None = None,
    alerts: tuple[str, ...] = (),
) -> Panel:
    """How often something happened: `graph` in whole numbers, since Prometheus extrapolates an increase.

    Args:
        title: of the panel.
        description: what it shows, and what to make of it.
        queries: one or more.
        stacked: add the lines up.
        colours: of lines by their names; the others get what is left.
        dashed: names of lines that are limits or sums.
        nothing: what to say while there is no value.
        alerts: whose runbooks to link to.
    """
    return graph(
        title,
        description,
        *queries,
        unit=units.Short,
        decimals=0,
        stacked=stacked,
        colours=colours,
        dashed=dashed,
        nothing=nothing,
        alerts=alerts,
    )


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
    return Panel(title, description, (query,), silent(drawn.build(), nothing))


def _name(query: Asked) -> str:
    return query.legend if isinstance(query, Query | LogQuery) else ""
