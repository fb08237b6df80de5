"""Objectives, and the values of placeholders that rules and dashboards share: thresholds, addresses, matchers."""

from typing import Any, Final

import msgspec

from pocket_agent.monitoring.files import load
from pocket_agent.monitoring.targets import target_of
from pocket_agent.observability.catalogue import ERRORS_TOTAL, SERVER_CODES
from pocket_agent.settings import MonitoringSettings, Settings, format_duration, format_size


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service level objective: the share of events that must be good."""

    slo: str  # its name, the value of the label `slo`
    setting: str  # the key of its target below `alerts.objectives`
    bad: str  # the bad events, to complete "5 % of the requests ..."
    failures: str  # query for the bad events per second within `${window}`
    events: str  # query for all events per second within `${window}`
    condition: str = ""  # query that must have a result for `${window}`, or the alerts stay silent

    def budget(self, settings: Settings) -> float:
        """The allowed share of bad events."""
        return round(1 - float(getattr(settings.alerts.objectives, self.setting)), 6)


OBJECTIVES: Final = tuple(msgspec.convert(load("prometheus/rules/pocket-agent-slo.yml"), list[Objective]))


def thresholds(settings: Settings) -> dict[str, Any]:
    """The values of the placeholders that rules and dashboards share."""
    alerts = settings.alerts
    values = {key: value for key, value in alerts.model_dump().items() if key != "objectives"}
    for objective in OBJECTIVES:
        target, budget = getattr(alerts.objectives, objective.setting), objective.budget(settings)
        key = objective.setting
        values |= {key: target, f"{key}_percent": f"{target * 100:g}"}
        values |= {f"{key}_budget": budget, f"{key}_budget_percent": f"{budget * 100:g}"}
    return values | {
        **_deliveries(settings.monitoring),
        "certificate": round(alerts.certificate, 3),
        "disk_free_text": format_size(alerts.disk_free),
        "error_percent": f"{alerts.error_ratio * 100:g}",
        "loop_lag_text": format_duration(alerts.loop_lag),
        "server_codes": "|".join(code for code in ERRORS_TOTAL.labels["code"] if code in SERVER_CODES),
    }


_NOTHING_SENT: Final = (
    'absent_over_time(ALERTS{alertstate="firing", service="pocket-agent", severity=~"critical|warning", '
    'alertname!~"AlertDeliveryFailing|DeadMansSwitchUnreachable"}[15m])'
)
"""Has a result if no alert was sent to users within 15 minutes, except those on deliveries."""


def _deliveries(stack: MonitoringSettings) -> dict[str, Any]:
    """Matchers and operands of the alerts on Alertmanager: notifications for users, and heartbeats.

    The dead man's switch is a webhook. If users have one, too, the receiver distinguishes them; an Alertmanager before
    0.27 does not name it, and then failed webhooks are heartbeats unless alerts were sent to users at that time.
    """
    if stack.webhook_url is None and stack.webhook_url_file is None:
        matchers = {"deliveries": 'integration!="webhook"', "heartbeats": 'integration="webhook"'}
        return {**matchers, "unnamed_heartbeats": [], "without_unnamed_heartbeats": []}
    failed = 'alertmanager_notifications_failed_total{job="alertmanager", integration="webhook", receiver_name=""}'
    nothing_sent = f'label_replace({_NOTHING_SENT}, "integration", "webhook", "", "")'
    return {
        "deliveries": 'receiver_name!="watchdog"',
        "heartbeats": 'receiver_name="watchdog"',
        "unnamed_heartbeats": [
            f"round(sum by (job, instance) (increase({failed}[15m]))) > 0",
            f"and on () {_NOTHING_SENT}",
            "or",
        ],
        "without_unnamed_heartbeats": [f"unless on (integration, receiver_name) {nothing_sent}"],
    }


def runbook_address(settings: Settings) -> str:
    """The address below which the runbooks are: the setting, or the pages of the server itself."""
    own = settings.server.public_url or target_of(settings).url
    return (settings.monitoring.runbook_url or f"{own}/docs/runbooks").rstrip("/")
