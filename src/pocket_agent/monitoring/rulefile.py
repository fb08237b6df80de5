"""The files of rules that Prometheus loads, and their tests for promtool."""

from importlib.resources import files
from typing import Any, Final

from pocket_agent.config.settings import AlertSettings, Settings
from pocket_agent.monitoring.alert import group_alerts
from pocket_agent.monitoring.objective import FAST, SLOW, burn_alerts, recordings
from pocket_agent.monitoring.output import Head, RenderedFile, text_file, yaml_file
from pocket_agent.monitoring.period import Period, minutes, seconds
from pocket_agent.monitoring.recording import RECORDINGS
from pocket_agent.monitoring.rule import render_group
from pocket_agent.monitoring.target import target_of

RECORDING: Final = "pocket-agent-recording"
OBJECTIVE: Final = "pocket-agent-slo"
OBJECTIVE_DAYS: Final = "pocket-agent-slo-days"
OBJECTIVE_ALERT: Final = "pocket-agent-slo-alerts"
"""Names of groups; each has the file of its name, but for that of days, which is with the others."""

_SLOW_INTERVAL: Final = minutes(2)
"""For windows of days: dear to evaluate, and slow to change; series may be 5 minutes apart (lookback)."""


def alert_group(subject: str) -> str:
    """The name of the group, and of the file, of the alerts about something."""
    return f"pocket-agent-{subject}"


def rules(settings: Settings) -> dict[str, dict[str, Any]]:
    """The content of each file of rules, by its name without the suffix."""
    interval = rule_interval(settings)
    runbooks = runbook_address(settings)
    scale = settings.alerts.for_scale
    files = {RECORDING: _groups((RECORDING, interval, [rule.render() for rule in RECORDINGS]))}
    for subject, alerts in group_alerts(settings).items():
        name = alert_group(subject)
        files[name] = _groups((name, interval, [alert.render(runbooks, scale) for alert in alerts]))
    files[OBJECTIVE] = _groups(
        (OBJECTIVE, interval, [rule.render() for rule in recordings(FAST)]),
        (OBJECTIVE_DAYS, _SLOW_INTERVAL, [rule.render() for rule in recordings(SLOW)]),
    )
    burns = [alert.render(runbooks, scale) for alert in burn_alerts(settings)]
    files[OBJECTIVE_ALERT] = _groups((OBJECTIVE_ALERT, interval, burns))
    return files


def rule_files(settings: Settings) -> list[RenderedFile]:
    """`prometheus/rules/*.yml`."""
    return [yaml_file(f"prometheus/rules/{name}.yml", _head(name), value) for name, value in rules(settings).items()]


def rule_test_files(settings: Settings) -> list[RenderedFile]:
    """`prometheus/tests/*.yml`, for `promtool test rules`; empty unless every setting of `alerts` has its default.

    The tests are files of this package, written for the default thresholds. `$runbooks` in them is the address below
    which the runbooks are.
    """
    if settings.alerts != AlertSettings():
        return []
    runbooks = runbook_address(settings)
    sources = sorted(files(__package__).joinpath("templates", "rule_tests").iterdir(), key=lambda file: file.name)
    return [
        text_file(
            f"prometheus/tests/{source.name}",
            Head(
                what=f"Tests of the rules: {source.name.removesuffix('.yml')}.",
                place="next to rules/, wherever that is; Prometheus does not read it",
                reload="nothing to reload: promtool test rules FILE",
            ),
            source.read_text("utf-8").replace("$runbooks", runbooks),
        )
        for source in sources
    ]


def rule_interval(settings: Settings) -> Period:
    """Time between two evaluations: 30 seconds, or less when scrapes come faster; at most a minute."""
    return seconds(min(60.0, 2 * settings.monitoring.scrape_interval))


def runbook_address(settings: Settings) -> str:
    """The address below which the runbooks are: the setting, or the server's own pages as others reach them."""
    own = settings.server.public_url or target_of(settings).url
    return (settings.monitoring.runbook_url or f"{own}/docs/runbooks").rstrip("/")


_WHAT: Final = {
    RECORDING: "Rules: what Prometheus records for the dashboards.",
    alert_group("availability"): "Alerts of a server that clients cannot reach, or soon cannot.",
    alert_group("fault"): "Alerts of faults: errors of the server, refused connections, clients that were dropped.",
    alert_group("execution"): "Alerts of the agents' work: it fails, is slow, costs much, or does not happen.",
    alert_group("saturation"): "Alerts of what runs out: connections, projects, slots, memory, disk, time.",
    alert_group("pipeline"): "Alerts of the monitoring itself.",
    OBJECTIVE: "Rules: service level objectives over 30 days, as they are kept.",
    OBJECTIVE_ALERT: "Alerts of how fast the error budgets burn; they need the rules of pocket-agent-slo.yml.",
}


def _head(name: str) -> Head:
    return Head(
        what=_WHAT[name],
        place=f"/etc/prometheus/rules/{name}.yml",
        reload="promtool check rules FILE, then SIGHUP or POST /-/reload",
        notes=("One set of rules does for any number of servers: each is told apart by its instance.",),
    )


def _groups(*groups: tuple[str, Period, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"groups": [render_group(*group) for group in groups]}
