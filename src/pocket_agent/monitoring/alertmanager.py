"""Alertmanager: which alert reaches whom, and what it says there."""

from pathlib import Path
from typing import Any, Final

from pocket_agent.config.conflict import is_loopback
from pocket_agent.config.settings import MonitoringSettings, Settings
from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file

_HEAD: Final = Head(
    what="Alertmanager: groups the alerts and sends them to people. Secrets are in files of their own.",
    place="/etc/prometheus/alertmanager.yml",
    reload="amtool check-config FILE, then SIGHUP or POST /-/reload",
    notes=("Start it with --cluster.listen-address= (empty): one of it needs no port for its peers.",),
)
_TITLE: Final = "Pocket Agent {{ .Status | toUpper }}: {{ .CommonLabels.alertname }} ({{ .Alerts | len }})"
_SLACK_TEXT: Final = """\
{{ range .Alerts -}}
*{{ .Annotations.summary }}* (`{{ .Labels.severity }}`{{ with .Labels.instance }}, {{ . }}{{ end }})
{{ .Annotations.description }}
{{ with .Annotations.runbook_url }}What to do: {{ . }}{{ end }}
{{ end }}"""
_DESCRIPTION: Final = """\
{{ range .Alerts }}{{ .Annotations.description }}
{{ end }}"""
_SUMMARY: Final = """\
{{ range .Alerts }}{{ .Annotations.summary }}
{{ end }}"""


def alertmanager_file(settings: Settings) -> RenderedFile:
    """`alertmanager/alertmanager.yml`.

    Critical alerts go to PagerDuty and to everybody else; without PagerDuty to everybody else. A receiver
    that nobody has set up stays empty, so that the alerts can be looked at in Alertmanager itself.
    """
    stack = settings.monitoring
    value = {
        "global": {"resolve_timeout": "5m"},
        "route": {
            "receiver": "default",
            "group_by": ["alertname", "service", "instance"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "12h",
            "routes": [
                {
                    "matchers": ['alertname="Watchdog"'],
                    "receiver": "watchdog",
                    "group_interval": "1m",
                    "repeat_interval": "5m",
                },
                {"matchers": ['severity="critical"'], "receiver": "pagerduty", "continue": True},
                {"matchers": ['severity=~"critical|warning"'], "receiver": "slack"},
            ],
        },
        "inhibit_rules": _inhibitions(),
        "receivers": [
            {"name": "default", **_slack(stack), **_email(stack), **_webhook(stack)},
            {"name": "slack", **_slack(stack), **_email(stack), **_webhook(stack)},
            {"name": "pagerduty", **_pagerduty(stack)},
            {"name": "watchdog", **_watchdog(stack)},
        ],
    }
    return yaml_file("alertmanager/alertmanager.yml", _HEAD, value)


def _inhibitions() -> list[dict[str, Any]]:
    """What need not be told while something worse is."""
    return [
        {
            "source_matchers": ['alertname="ServiceDown"'],
            "target_matchers": ['severity=~"warning|info"', 'service="pocket-agent"'],
            "equal": ["instance"],
        },
        {
            "source_matchers": ['severity="critical"'],
            "target_matchers": ['severity="warning"'],
            "equal": ["alertname", "instance", "slo"],
        },
    ]


def _slack(stack: MonitoringSettings) -> dict[str, Any]:
    if stack.slack_url_file is None:
        return {}
    return {
        "slack_configs": [
            {
                "api_url_file": str(stack.slack_url_file),
                "channel": stack.slack_channel,
                "send_resolved": True,
                "title": _TITLE,
                "text": _SLACK_TEXT,
            }
        ]
    }


def _pagerduty(stack: MonitoringSettings) -> dict[str, Any]:
    if stack.pagerduty_key_file is None:
        return {}
    return {
        "pagerduty_configs": [
            {
                "routing_key_file": str(stack.pagerduty_key_file),
                "url": stack.pagerduty_url,
                "send_resolved": True,
                "description": _TITLE,
                "severity": "{{ if .CommonLabels.severity }}{{ .CommonLabels.severity }}{{ else }}error{{ end }}",
                "details": {"summary": _SUMMARY, "description": _DESCRIPTION},
                # All alerts of a group have the same name, and so the same page.
                "links": [{"href": "{{ (index .Alerts 0).Annotations.runbook_url }}", "text": "What to do"}],
            }
        ]
    }


def _email(stack: MonitoringSettings) -> dict[str, Any]:
    if stack.email_to is None:
        return {}
    login = {}
    if stack.email_user is not None:
        login["auth_username"] = stack.email_user
        if stack.email_password_file is not None:
            login["auth_password_file"] = str(stack.email_password_file)
    return {
        "email_configs": [
            {
                "to": stack.email_to,
                "from": stack.email_from,
                "smarthost": stack.email_smarthost,
                # A mail server of this machine seldom has a certificate.
                "require_tls": not is_loopback(stack.email_smarthost.rpartition(":")[0]),
                **login,
                "send_resolved": True,
            }
        ]
    }


def _webhook(stack: MonitoringSettings) -> dict[str, Any]:
    return _posted(stack.webhook_url, stack.webhook_url_file, resolved=True)


def _watchdog(stack: MonitoringSettings) -> dict[str, Any]:
    return _posted(stack.watchdog_url, stack.watchdog_url_file, resolved=False)


def _posted(url: str | None, url_file: Path | None, *, resolved: bool) -> dict[str, Any]:
    """A webhook by its address, or by the file that has it (Alertmanager 0.26)."""
    if url is None and url_file is None:
        return {}
    where = {"url": url} if url is not None else {"url_file": str(url_file)}
    return {"webhook_configs": [{**where, "send_resolved": resolved}]}
