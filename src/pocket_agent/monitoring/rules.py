"""The rules that Prometheus loads: recordings, alerts, and service level objectives over 30 days.

They are data: `templates/prometheus/rules/*.yml` has every rule, with `${name}` for a threshold of the settings, and
`templates/prometheus/tests/*.yml` has the tests for promtool. An objective is declared once; its recordings and the
alerts of its error budget are derived for each window here. A burn rate of 1 uses up the budget in exactly 30 days.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Final, Literal

import msgspec

from pocket_agent.monitoring.dashboards import OVERVIEW, panel_of_alert
from pocket_agent.monitoring.files import RenderedFile, decimal, fill, load, template, text_file, yaml_file
from pocket_agent.monitoring.thresholds import OBJECTIVES, runbook_address, thresholds
from pocket_agent.settings import (
    AlertSettings,
    Settings,
    format_duration,
    parse_duration,
)

Severity = Literal["critical", "warning", "info", "none"]
ALERT_SERVICE: Final = "pocket-agent"
"""The label `service` of every alert, which distinguishes it from the alerts of other products."""
SUBJECTS: Final = ("availability", "fault", "execution", "agents", "saturation", "machine", "pipeline")
"""The subjects of alerts, each with a file of rules."""
BURN_RATES: Final[Mapping[Severity, float]] = {"critical": 14.4, "warning": 3}
"""Burn rates that are too high; `pocket-agent-slo-alerts.yml` has their windows and the least number of failures."""
OUTAGE_RATIO: Final = 0.5
"""The share of bad events of an outage, where few failures are enough to page; more if the burn rate is higher."""
UNARMED: Final = "job_instance_alert:pocket_agent_alert_unarmed:count"
"""The recording of alerts that cannot fire, with the labels `alert` and `reason`."""
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h")
LONG_WINDOWS: Final = ("1d", "3d", "30d")
"""Recorded in a group of their own: expensive to evaluate, and slow to change."""
_EVENT_WINDOWS: Final = {"1h", "6h", "1d", "3d", "30d"}
"""Windows whose number of events is recorded."""
_FAILURE_WINDOWS: Final = {"5m", "1h", "1d"}
"""Windows whose number of bad events is recorded, for the alerts."""
_OUTAGES: Final = "pocket-agent-availability"
"""The file whose alerts are evaluated once for each scrape, others once for two, since a page waits for it."""
_LONG_INTERVAL: Final = "2m"  # less than the 5 minutes after which a series is stale in Prometheus (lookback)


class RecordingRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query whose results Prometheus stores, named `job_instance[_label]:metric:operation`."""

    record: str
    expr: str
    labels: dict[str, str] = {}

    def render(self) -> dict[str, Any]:
        """The rule for Prometheus."""
        return {"record": self.record, "expr": self.expr, **({"labels": self.labels} if self.labels else {})}


class AlertRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"name": "alert", "hold": "for"}):
    """An alert; summary and description are templates of Prometheus, with `$labels` and `$value`."""

    name: str  # also that of its runbook
    expr: str  # has a result for each problem
    hold: str  # how long the condition must hold
    severity: Severity
    summary: str
    description: str
    meaning: str  # a sentence for the list of runbooks
    labels: dict[str, str] = {}  # in addition to `severity` and `service`
    unarmed: dict[str, str] = {}  # queries that have a result while the alert cannot fire, by the reason

    def render(self, runbooks: str, dashboard: str) -> dict[str, Any]:
        """The rule for Prometheus, with the address below which the runbooks are, and that of its panel in Grafana."""
        labels = {"severity": self.severity, "service": ALERT_SERVICE, **self.labels}
        annotations = {"summary": self.summary, "description": self.description}
        annotations |= {"runbook_url": f"{runbooks}/{self.name}", "dashboard_url": dashboard}
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expr, "for": self.hold}
        return rule | {"labels": labels, "annotations": annotations}


def recording_rules() -> list[RecordingRule]:
    """All recordings but those of the objectives."""
    codes = {"server_codes": thresholds(Settings())["server_codes"]}
    return msgspec.convert(fill(_load("recording"), codes), list[RecordingRule])


def objective_rules(windows: tuple[str, ...]) -> Iterator[RecordingRule]:
    """The recordings of all objectives for some windows."""
    for objective in OBJECTIVES:
        for window in windows:
            failures, events = (fill(query, {"window": window}) for query in (objective.failures, objective.events))
            recorded = {f"failures:ratio_rate{window}": f"{failures}\n/ ({events} > 0)"}
            if window in _FAILURE_WINDOWS:
                recorded[f"failures:increase{window}"] = f"{failures} * {parse_duration(window):g}"
            if window in _EVENT_WINDOWS:
                recorded[f"events:increase{window}"] = f"{events} * {parse_duration(window):g}"
            for metric, expr in recorded.items():
                yield RecordingRule(f"job_instance_slo:pocket_agent_slo_{metric}", expr, {"slo": objective.slo})


def unarmed_rules() -> Iterator[RecordingRule]:
    """The recording of the alerts that cannot fire, with the reason."""
    for alert in all_alerts(Settings()):
        for reason, query in alert.unarmed.items():
            expr = f"count by (job, instance) ({query})"
            yield RecordingRule(UNARMED, expr, {"alert": alert.name, "reason": reason})


def alert_rules(settings: Settings) -> dict[str, list[AlertRule]]:
    """The alerts by the subject of their file, with the thresholds of the settings."""
    values = thresholds(settings)
    found = {subject: list(_alerts(_load(subject), settings, values)) for subject in SUBJECTS}
    return {**found, "slo-alerts": list(_burn_alerts(settings))}


def all_alerts(settings: Settings) -> list[AlertRule]:
    """All alerts; those of the objectives are last, and share one name."""
    return list(chain.from_iterable(alert_rules(settings).values()))


def recorded_names() -> set[str]:
    """The names of all recordings."""
    rules = (*recording_rules(), *unarmed_rules(), *objective_rules(WINDOWS + LONG_WINDOWS))
    return {rule.record for rule in rules}


def _burn_alerts(settings: Settings) -> Iterator[AlertRule]:
    source, shared = _load("slo-alerts"), thresholds(settings)
    for objective in OBJECTIVES:
        budget = objective.budget(settings)
        rates: dict[str, float] = {severity: rate * budget for severity, rate in BURN_RATES.items()}
        values: dict[str, Any] = {"slo": objective.slo, "bad": objective.bad, "budget_percent": f"{budget * 100:g}"}
        values |= {name: decimal(rate) for name, rate in rates.items()}
        values |= {"outage": decimal(max(OUTAGE_RATIO, rates["critical"]))}
        for window in ("5m", "2h"):
            query = fill(objective.condition, {**shared, "window": window})
            values[f"condition_{window}"] = [f"and on (job, instance) {query}"] if query else []
        yield from _alerts(source, settings, values)


def _alerts(source: Any, settings: Settings, values: Mapping[str, Any]) -> Iterator[AlertRule]:
    for rule in source:
        hold = _spelled(parse_duration(fill(rule["for"], values)) * settings.alerts.for_scale)
        yield msgspec.convert(fill({**rule, "for": hold}, {**values, "hold": hold}), AlertRule)


def _spelled(seconds: float) -> str:
    """A duration in the notation of Prometheus: `1h30m`."""
    rest, text = round(seconds * 1000), ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def rule_groups(settings: Settings) -> dict[str, dict[str, Any]]:
    """The content of each file of rules, by its name without the suffix."""
    scrape = settings.monitoring.scrape_interval
    interval, quick = format_duration(min(60.0, 2 * scrape)), format_duration(min(60.0, scrape))
    runbooks, panel_url = runbook_address(settings), _panel_url(settings)
    groups = {"pocket-agent-recording": [rule.render() for rule in (*recording_rules(), *unarmed_rules())]}
    for subject, alerts in alert_rules(settings).items():
        groups[f"pocket-agent-{subject}"] = [alert.render(runbooks, panel_url(alert.name)) for alert in alerts]
    groups["pocket-agent-slo"] = [rule.render() for rule in objective_rules(WINDOWS)]
    files = {
        name: {"groups": [_group(name, quick if name == _OUTAGES else interval, rules)]}
        for name, rules in groups.items()
    }
    days = [rule.render() for rule in objective_rules(LONG_WINDOWS)]
    files["pocket-agent-slo"]["groups"].append(_group("pocket-agent-slo-days", _LONG_INTERVAL, days))
    return files


def _group(name: str, interval: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "interval": interval, "rules": rules}


def rule_files(settings: Settings) -> list[RenderedFile]:
    """`prometheus/rules/*.yml`."""
    return [yaml_file(f"prometheus/rules/{name}.yml", value) for name, value in rule_groups(settings).items()]


def rule_test_files(settings: Settings) -> list[RenderedFile]:
    """`prometheus/tests/*.yml` for `promtool test rules`; empty unless all settings of `alerts` have their defaults."""
    if settings.alerts != AlertSettings():
        return []
    names = sorted(file.name for file in template("prometheus/tests").iterdir())
    values, panel_url = {"runbooks": runbook_address(settings)}, _panel_url(settings)

    def with_panel(expected: re.Match[str]) -> str:
        return f"{expected[0]}\n{expected[1]}dashboard_url: {panel_url(expected[2])}"

    files = [text_file(f"prometheus/tests/{name}", values) for name in names]
    return [replace(file, text=_EXPECTED_RUNBOOK.sub(with_panel, file.text)) for file in files]


_EXPECTED_RUNBOOK: Final = re.compile(r"^( +)runbook_url: \S+/(\w+)$", re.MULTILINE)
"""The annotation with the runbook in a test of an alert; that with the panel is derived from it."""


def _panel_url(settings: Settings) -> Callable[[str], str]:
    """The address of the panel that links to an alert's runbook; of the overview for an alert without a panel."""
    stack = settings.monitoring
    grafana = (stack.grafana_url or f"http://127.0.0.1:{stack.grafana_port}").rstrip("/")
    panels = panel_of_alert(settings)
    return lambda alert: f"{grafana}/d/{panels.get(alert, OVERVIEW)}"


def _load(subject: str) -> Any:
    return load(f"prometheus/rules/pocket-agent-{subject}.yml")


_SEVERITIES: Final[Mapping[Severity, str]] = {
    "critical": "Pages",
    "warning": "Needs attention today",
    "info": "For information",
    "none": "Always fires",
}


_UNARMED_HEAD: Final = f"""\
## Alerts that cannot fire

An alert whose metrics are missing, or whose limit is not set, cannot fire. `pocket-agent doctor` reports these alerts,
and `{UNARMED}` has them with the labels `alert` and `reason`.
"""


def render_runbook_index() -> str:
    """`docs/runbooks/README.md`: a row for each alert, with the default settings."""
    parts = [template("docs/runbooks.md").read_text("utf-8")]
    for severity, title in _SEVERITIES.items():
        rows = dict.fromkeys(
            f"| [{alert.name}]({alert.name}.md) | {alert.hold} | {alert.meaning} |\n"
            for alert in all_alerts(Settings())
            if alert.severity == severity
        )
        parts.append(f"## {title} (`{severity}`)\n\n| alert | after | when |\n|---|---|---|\n{''.join(rows)}")
    unarmed = [
        f"| [{alert.name}]({alert.name}.md) | {reason} |\n"
        for alert in all_alerts(Settings())
        for reason in alert.unarmed
    ]
    parts.append(f"{_UNARMED_HEAD}\n| alert | reason |\n|---|---|\n{''.join(unarmed)}")
    return "\n".join(parts)
