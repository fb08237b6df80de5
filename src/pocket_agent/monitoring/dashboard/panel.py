"""A panel, and where it stands."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Final

from grafana_foundation_sdk.models import dashboard

from pocket_agent.monitoring.dashboard.choice import FIGURES, LOGS
from pocket_agent.monitoring.dashboard.query import Asked, LogQuery

WIDTH: Final = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A panel without its place.

    Attributes:
        title: unique on its dashboard.
        description: what it shows, and what to make of it.
        queries: at least one.
        drawing: how it looks, as Grafana's model has it.
        alerts: the alerts whose runbooks it links to.
        details: the uid of the dashboard that tells more.
    """

    title: str
    description: str
    queries: tuple[Asked, ...]
    drawing: dashboard.Panel
    alerts: tuple[str, ...] = ()
    details: str | None = None

    def placed(self, number: int, place: dashboard.GridPos, runbooks: str) -> dashboard.Panel:
        """The panel for Grafana.

        Args:
            number: unique on its dashboard.
            place: where it stands.
            runbooks: the address below which the runbooks are.
        """
        panel = copy.deepcopy(self.drawing)
        panel.id_val = number
        panel.title = self.title
        panel.description = self.description
        panel.datasource = LOGS if isinstance(self.queries[0], LogQuery) else FIGURES
        panel.grid_pos = place
        panel.targets = [query.target(ref) for query, ref in zip(self.queries, ascii_uppercase, strict=False)]
        panel.links = list(self._links(runbooks)) or None
        # Only for panels that are repeated.
        panel.repeat_direction = panel.transparent = None
        return panel

    def _links(self, runbooks: str) -> Iterator[dashboard.DashboardLink]:
        if self.details is not None:
            yield dashboard.DashboardLink(
                title="Details", url=f"/d/{self.details}?${{__url_time_range}}&${{__all_variables}}"
            )
        for alert in self.alerts:
            yield dashboard.DashboardLink(title=f"Runbook: {alert}", url=f"{runbooks}/{alert}", target_blank=True)


@dataclass(frozen=True, slots=True)
class Line:
    """Panels side by side that fill the width.

    Attributes:
        height: in rows of Grafana's grid.
        panels: from the left.
        widths: in columns; the same for all when not given.
    """

    height: int
    panels: tuple[Panel, ...]
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if sum(self.columns) != WIDTH or len(self.columns) != len(self.panels):
            raise ValueError(f"{[panel.title for panel in self.panels]} do not fill {WIDTH} columns: {self.columns}")

    @property
    def columns(self) -> tuple[int, ...]:
        """The width of each panel."""
        return self.widths or (WIDTH // len(self.panels),) * len(self.panels)


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under a heading.

    Attributes:
        title: None for lines without a heading.
    """

    title: str | None
    lines: tuple[Line, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, in the order of reading."""
        return tuple(panel for line in self.lines for panel in line.panels)


def lay_out(sections: Sequence[Section], runbooks: str) -> list[dashboard.Panel | dashboard.RowPanel]:
    """Panels and headings with their places, one below the other, without gaps."""
    found: list[dashboard.Panel | dashboard.RowPanel] = []
    y = 0
    for section in sections:
        if section.title is not None:
            place = dashboard.GridPos(h=1, w=WIDTH, x=0, y=y)
            found.append(dashboard.RowPanel(title=section.title, grid_pos=place, id_val=len(found) + 1))
            y += 1
        for line in section.lines:
            x = 0
            for panel, width in zip(line.panels, line.columns, strict=True):
                place = dashboard.GridPos(h=line.height, w=width, x=x, y=y)
                found.append(panel.placed(len(found) + 1, place, runbooks))
                x += width
            y += line.height
    return found
