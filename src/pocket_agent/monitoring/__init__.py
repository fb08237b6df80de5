"""The monitoring stack of a server: written, checked, run, and examined by `pocket-agent doctor`."""

from pocket_agent.monitoring.bundle import Outcome, write
from pocket_agent.monitoring.dashboards import dashboard_files, render_dashboards_document
from pocket_agent.monitoring.files import RenderedFile
from pocket_agent.monitoring.render import WatchedServer, render, render_stack
from pocket_agent.monitoring.rules import (
    all_alerts,
    recorded_names,
    render_runbook_index,
    rule_files,
    rule_groups,
    rule_test_files,
)
from pocket_agent.monitoring.targets import SERVICE_FILE, target_of
from pocket_agent.monitoring.validate import Validation, validate

__all__ = [
    "SERVICE_FILE",
    "Outcome",
    "RenderedFile",
    "Validation",
    "WatchedServer",
    "all_alerts",
    "dashboard_files",
    "recorded_names",
    "render",
    "render_dashboards_document",
    "render_runbook_index",
    "render_stack",
    "rule_files",
    "rule_groups",
    "rule_test_files",
    "target_of",
    "validate",
    "write",
]
