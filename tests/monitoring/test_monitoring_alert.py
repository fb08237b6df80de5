"""The alerts as they are promised: names, severities, how long, what they say and where they lead."""

import re

import pytest

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.alert import find_alerts, group_alerts
from pocket_agent.monitoring.alert.saturation import ALERTED_LIMITS, UNALERTED_LIMITS
from pocket_agent.monitoring.objective import burn_alerts
from pocket_agent.monitoring.period import Period, hours, minutes
from pocket_agent.monitoring.rule import Alert, Severity
from pocket_agent.observability.catalogue import LIMITS, SERVER_CODES
from tests.monitoring.rule_sample import LEAST, MOST, UNEVEN

GUIDE: dict[str, tuple[Severity, Period, str]] = {
    "ServiceDown": ("critical", minutes(2), "Pocket Agent Server is down"),
    "HighErrorRate": ("warning", minutes(5), "High error rate detected"),
    "TooManyConnections": ("warning", minutes(5), "Connection limit approaching"),
    "SlowExecutions": ("warning", minutes(10), "Claude executions are slow"),
    "HighMemoryUsage": ("warning", minutes(5), "High memory usage"),
    "DiskSpaceLow": ("critical", minutes(5), "Low disk space"),
    "NoExecutionsRecently": ("info", minutes(5), "No Claude executions in the past hour"),
}
"""Those of the monitoring guide: contracts."""
ADDED: dict[str, Severity] = {
    "PocketAgentFlapping": "warning",
    "WebSocketProbeFailed": "critical",
    "TLSCertificateExpiring": "warning",
    "LimitNearlyReached": "warning",
    "ConnectionsRejected": "warning",
    "ExecutionsFailing": "warning",
    "HealthCheckFailing": "warning",
    "EventLoopLagHigh": "warning",
    "SlowConsumersDropped": "warning",
    "FileDescriptorsHigh": "warning",
    "DiskWillFillIn24h": "warning",
    "StorageErrors": "warning",
    "ClaudeCostBudget": "warning",
    "MetricLabelOverflow": "info",
    "TelemetryDropped": "warning",
    "MonitoringTargetDown": "warning",
    "AlertDeliveryFailing": "critical",
    "Watchdog": "none",
}
ALERTS = find_alerts(Settings())
BY_NAME = {alert.name: alert for alert in ALERTS}
EVERY = pytest.mark.parametrize("alert", [*ALERTS, *burn_alerts(Settings())], ids=lambda alert: alert.name)


def test_the_guides_alerts_are_as_in_the_guide() -> None:
    found = {alert.name: (alert.severity, alert.hold, alert.summary) for alert in ALERTS if alert.name in GUIDE}
    assert found == GUIDE


def test_the_added_alerts_are_as_promised() -> None:
    assert {alert.name: alert.severity for alert in ALERTS if alert.name not in GUIDE} == ADDED


def test_each_name_is_there_once() -> None:
    names = [alert.name for alerts in group_alerts(Settings()).values() for alert in alerts]
    assert len(names) == len(set(names)) == len(GUIDE) + len(ADDED)


@EVERY
def test_an_alert_says_what_a_person_needs(alert: Alert) -> None:
    rendered = alert.render("https://one.example/docs/runbooks", 1)
    assert rendered["labels"]["severity"] == alert.severity
    assert rendered["labels"]["service"] == "pocket-agent"
    notes = rendered["annotations"]
    assert notes["runbook_url"] == f"https://one.example/docs/runbooks/{alert.name}"
    assert re.fullmatch(r"[A-Z].*[^.]", notes["summary"]), "a line without a full stop"
    assert notes["description"].endswith((".", "{{ end }}"))
    assert "{hold}" not in notes["description"]
    assert alert.meaning.endswith(".")


@EVERY
def test_each_figure_is_written_for_a_person(alert: Alert) -> None:
    values = re.findall(r"\{\{ \$value([^}]*)\}\}", alert.description)
    assert all(re.fullmatch(r" \| humanize(1024|Duration|Percentage)? ", after) for after in values)
    assert alert.hold <= hours(1)


@EVERY
def test_labels_that_a_text_names_are_those_of_the_result(alert: Alert) -> None:
    known = alert.query.labels | {"job", "instance"}
    assert set(re.findall(r"\$labels\.(\w+)", alert.description)) <= known


def test_alerts_tell_servers_apart_and_never_add_them_up() -> None:
    for alert in (*ALERTS, *burn_alerts(Settings())):
        for kept in re.findall(r"\bby \(([^)]*)\)", alert.query.text):
            assert {"job", "instance"} <= set(kept.split(", "))
        for dropped in re.findall(r"\bwithout \(([^)]*)\)", alert.query.text):
            assert {"job", "instance"}.isdisjoint(dropped.split(", "))


def test_windows_are_as_long_as_promised() -> None:
    windows = {alert.name: set(re.findall(r"\[([^\]]*)\]", alert.query.text)) for alert in ALERTS}
    assert {name: found for name, found in windows.items() if found} == {
        "PocketAgentFlapping": {"30m"},
        "HighErrorRate": {"5m"},
        "StorageErrors": {"10m"},
        "ConnectionsRejected": {"15m"},
        "SlowConsumersDropped": {"15m"},
        "ExecutionsFailing": {"30m"},
        "SlowExecutions": {"30m"},
        "NoExecutionsRecently": {"1h"},
        "DiskWillFillIn24h": {"6h:5m"},
        "EventLoopLagHigh": {"5m"},
        "MetricLabelOverflow": {"1h"},
        "TelemetryDropped": {"15m"},
        "AlertDeliveryFailing": {"10m"},
    }


def test_each_limit_is_watched_or_left_alone_for_a_reason() -> None:
    assert ALERTED_LIMITS.keys() | UNALERTED_LIMITS.keys() == set(LIMITS)
    assert ALERTED_LIMITS.keys().isdisjoint(UNALERTED_LIMITS)
    for limit, name in ALERTED_LIMITS.items():
        assert f'pocket_agent_limit{{limit="{limit}"}} > 0' in BY_NAME[name].query.text, "0 is unlimited"


def test_only_the_servers_own_faults_make_a_high_error_rate() -> None:
    (codes,) = set(re.findall(r'code=~"([^"]*)"', BY_NAME["HighErrorRate"].query.text))
    assert set(codes.split("|")) == SERVER_CODES


def test_a_service_is_down_unless_it_says_that_it_is_the_server() -> None:
    text = BY_NAME["ServiceDown"].query.text
    assert "unless on (job, instance) pocket_agent_build_info" in text
    assert 'absent(up{job="pocket-agent"})' in text


def test_thresholds_are_those_of_the_settings() -> None:
    for settings in (LEAST, MOST, UNEVEN):
        texts = {alert.name: alert.query.text for alert in find_alerts(settings)}
        plain = {alert.name: alert.query.text for alert in ALERTS}
        changed = {name for name, text in texts.items() if text != plain[name]}
        assert changed == {
            "ClaudeCostBudget",
            "ConnectionsRejected",
            "DiskSpaceLow",
            "EventLoopLagHigh",
            "ExecutionsFailing",
            "FileDescriptorsHigh",
            "HighErrorRate",
            "HighMemoryUsage",
            "LimitNearlyReached",
            "PocketAgentFlapping",
            "SlowConsumersDropped",
            "SlowExecutions",
            "TLSCertificateExpiring",
            "TooManyConnections",
        }
