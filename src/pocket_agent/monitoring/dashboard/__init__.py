"""Dashboards for Grafana, out of the same queries as the rules."""

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.dashboard.internals import internals
from pocket_agent.monitoring.dashboard.log import log
from pocket_agent.monitoring.dashboard.overview import overview
from pocket_agent.monitoring.dashboard.page import Page
from pocket_agent.monitoring.dashboard.reliability import reliability
from pocket_agent.monitoring.dashboard.usage import usage
from pocket_agent.monitoring.output import RenderedFile


def pages(settings: Settings) -> tuple[Page, ...]:
    """Every dashboard, the first one first."""
    return (overview(settings), usage(settings), reliability(settings), internals(settings), log())


def dashboard_files(settings: Settings) -> list[RenderedFile]:
    """`grafana/dashboards/*.json`."""
    return [page.render(settings) for page in pages(settings)]
