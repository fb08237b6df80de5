"""The dashboard of the server's log, out of Loki."""

from typing import Final

from grafana_foundation_sdk.models import units

from pocket_agent.monitoring.dashboard.choice import log_choices
from pocket_agent.monitoring.dashboard.graph import graph
from pocket_agent.monitoring.dashboard.look import LEVELS
from pocket_agent.monitoring.dashboard.page import LOG, Page
from pocket_agent.monitoring.dashboard.panel import Line, Section
from pocket_agent.monitoring.dashboard.query import LogQuery
from pocket_agent.monitoring.dashboard.shape import lines

STREAM: Final = '{service="$service", environment="$environment", level=~"$level"} |~ `(?i)$search`'
"""The chosen lines; the labels are those that Alloy and Promtail give them."""
# A line of the text format has no fields: it stays as it is.
_SHORT: Final = "{{if .msg}}{{.msg}}{{if .duration_ms}} ({{.duration_ms}} ms){{end}}{{else}}{{__line__}}{{end}}"


def log() -> Page:
    """The dashboard."""
    counts = graph(
        "Lines by level",
        "How many lines the log has, by level.",
        LogQuery(f"sum by (level) (count_over_time({STREAM} [$__auto]))", "{{level}}"),
        unit=units.Short,
        stacked=True,
        colours=LEVELS,
        nothing="No lines",
    )
    newest = lines(
        "Log",
        "The newest lines. An opened line shows all its fields; its trace_id leads to the trace. Search takes any part "
        "of a line, such as the id of a request or a project; upper and lower case are the same.",
        LogQuery(f"{STREAM} | json | line_format `{_SHORT}`"),
    )
    return Page(
        LOG,
        "Pocket Agent Log",
        "The log of one server, with ways to the traces.",
        "1h",
        log_choices(),
        (Section(None, (Line(6, (counts,)), Line(24, (newest,)))),),
        events=False,
    )
