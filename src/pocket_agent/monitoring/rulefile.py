"""The files of rules that Prometheus loads."""

from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.alert import find_alerts
from pocket_agent.monitoring.objective import FAST, SLOW, burn_alerts, recordings
from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file
from pocket_agent.monitoring.period import Period, minutes, seconds
from pocket_agent.monitoring.recording import RECORDINGS
from pocket_agent.monitoring.rule import render_group
from pocket_agent.monitoring.target import target_of

RECORDING_FILE: Final = "pocket-agent-recording.yml"
ALERT_FILE: Final = "pocket-agent-alerts.yml"
OBJECTIVE_FILE: Final = "pocket-agent-slo.yml"
OBJECTIVE_GROUPS: Final = ("pocket-agent-slo", "pocket-agent-slo-days", "pocket-agent-slo-alerts")
"""The groups of the last of them: each needs what those before it have recorded."""

_SLOW_INTERVAL: Final = minutes(2)
"""For windows of days: dear to evaluate, and slow to change; series may be 5 minutes apart (lookback)."""


def rules(settings: Settings) -> dict[str, dict[str, Any]]:
    """The content of each file of rules, by its name."""
    interval = rule_interval(settings)
    runbooks = runbook_address(settings)
    scale = settings.alerts.for_scale
    alerts = [alert.render(runbooks, scale) for alert in find_alerts(settings)]
    burns = [alert.render(runbooks, scale) for alert in burn_alerts(settings)]
    hours, days, burning = OBJECTIVE_GROUPS
    return {
        RECORDING_FILE: _groups(("pocket-agent-recording", interval, [rule.render() for rule in RECORDINGS])),
        ALERT_FILE: _groups(("pocket-agent-alerts", interval, alerts)),
        OBJECTIVE_FILE: _groups(
            (hours, interval, [rule.render() for rule in recordings(FAST)]),
            (days, _SLOW_INTERVAL, [rule.render() for rule in recordings(SLOW)]),
            (burning, interval, burns),
        ),
    }


def rule_files(settings: Settings) -> list[RenderedFile]:
    """`prometheus/rules/*.yml`."""
    return [yaml_file(f"prometheus/rules/{name}", _head(name), value) for name, value in rules(settings).items()]


def rule_interval(settings: Settings) -> Period:
    """Time between two evaluations: 30 seconds, or less when scrapes come faster; at most a minute."""
    return seconds(min(60.0, 2 * settings.monitoring.scrape_interval))


def runbook_address(settings: Settings) -> str:
    """The address below which the runbooks are: the setting, or the server's own pages."""
    return (settings.monitoring.runbook_url or f"{target_of(settings).url}/docs/runbooks").rstrip("/")


_WHAT: Final = {
    RECORDING_FILE: "Rules: what Prometheus records for the dashboards.",
    ALERT_FILE: "Rules: the alerts. They need no other file of rules.",
    OBJECTIVE_FILE: "Rules: service level objectives over 30 days, and alerts of how fast their error budgets burn.",
}


def _head(name: str) -> Head:
    return Head(
        what=_WHAT[name],
        place=f"/etc/prometheus/rules/{name}",
        reload="promtool check rules FILE, then SIGHUP or POST /-/reload",
        notes=("One set of rules does for any number of servers: each is told apart by its instance.",),
    )


def _groups(*groups: tuple[str, Period, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"groups": [render_group(*group) for group in groups]}
