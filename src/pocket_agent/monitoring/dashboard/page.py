"""A dashboard, and the file that it becomes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.dashboard.annotation import annotations
from pocket_agent.monitoring.dashboard.panel import Panel, Section, lay_out
from pocket_agent.monitoring.output import RenderedFile
from pocket_agent.monitoring.rulefile import runbook_address
from pocket_agent.monitoring.target import target_of

OVERVIEW: Final = "pocket-agent-server"
USAGE: Final = "pocket-agent-usage"
RELIABILITY: Final = "pocket-agent-reliability"
INTERNALS: Final = "pocket-agent-internals"
LOG: Final = "pocket-agent-log"

TAG: Final = "pocket-agent"
_REFRESH: Final = "30s"
_SCHEMA: Final = 41
"""The version of the model that Grafana 11.6 writes; newer ones read it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A dashboard.

    Attributes:
        uid: its address in Grafana, and the name of its file; it never changes.
        title: unique among the dashboards.
        description: what it is for.
        since: how far back it looks, such as `6h`.
        choices: its variables.
        sections: what is on it.
        events: mark restarts and firing alerts on its graphs.
    """

    uid: str
    title: str
    description: str
    since: str
    choices: Sequence[dashboard.VariableModel]
    sections: tuple[Section, ...]
    events: bool = True

    @property
    def path(self) -> str:
        """Where its file is, below the directory of the stack."""
        return f"grafana/dashboards/{self.uid}.json"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, in the order of reading."""
        return tuple(panel for section in self.sections for panel in section.panels)

    def render(self, settings: Settings) -> RenderedFile:
        """The file for Grafana."""
        text = json.dumps(self._model(settings), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        return RenderedFile(self.path, text + "\n")

    def _model(self, settings: Settings) -> dashboard.Dashboard:
        place = f"Place: /var/lib/grafana/dashboards/{self.uid}.json. Reload: Grafana sees a change by itself."
        origin = "Written by `pocket-agent monitoring render`; change the server's settings and render again."
        return dashboard.Dashboard(
            uid=self.uid,
            title=self.title,
            # JSON has no comments.
            description=f"{self.description} {place} {origin}",
            tags=[TAG],
            timezone="browser",
            editable=True,
            graph_tooltip=dashboard.DashboardCursorSync.CROSSHAIR,
            time=dashboard.DashboardDashboardTime(from_val=f"now-{self.since}", to="now"),
            refresh=_REFRESH,
            schema_version=_SCHEMA,
            templating=dashboard.DashboardDashboardTemplating(list_val=list(self.choices)),
            annotations=dashboard.AnnotationContainer(list_val=annotations() if self.events else []),
            links=_links(settings),
            panels=lay_out(self.sections, runbook_address(settings)),
        )


def _links(settings: Settings) -> list[dashboard.DashboardLink]:
    """To the other dashboards, and to the server's own pages."""
    return [
        dashboard.DashboardLink(
            title="Dashboards",
            type_val=dashboard.DashboardLinkType.DASHBOARDS,
            tags=[TAG],
            include_vars=True,
            keep_time=True,
        ),
        dashboard.DashboardLink(
            title="Live",
            tooltip="The server's own dashboard, which needs no Grafana",
            url=f"{target_of(settings).url}/dashboard",
            icon="external link",
            target_blank=True,
        ),
        dashboard.DashboardLink(
            title="Runbooks",
            tooltip="What to do about each alert",
            url=runbook_address(settings),
            icon="doc",
            target_blank=True,
        ),
    ]
