"""Rules and alerts: whether Prometheus evaluates this server's, and where the alerts go."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, runbook, skipped, warning
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.monitoring.doctor.prometheus import LATER, Alertmanagers, LoadedRule, Prometheus, RuleGroups
from pocket_agent.monitoring.rules import rule_groups

_FIX: Final = (
    "Render again (pocket-agent monitoring render DIR), put rules/ beside prometheus.yml (rule_files: rules/*.yml) "
    "and reload Prometheus."
)
_SHOWN: Final = 5
_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")
_WATCHDOG: Final = "Watchdog"


class ActiveAlert(msgspec.Struct):
    """An alert that Alertmanager has."""

    labels: dict[str, str]


async def examine_rules(patient: Patient, prometheus: Prometheus) -> list[Finding]:
    """The rules that are loaded, and the alerts that fire."""
    name = "rules"
    data = await prometheus.data("rules", RuleGroups)
    if data is None:
        return [skipped(name, "Prometheus does not tell its rules")]
    loaded = [rule for group in data.groups for rule in group.rules]
    return [_loaded(patient, loaded), *_firing(loaded)]


def _loaded(patient: Patient, loaded: Sequence[LoadedRule]) -> Finding:
    name = "rules"
    if not loaded:
        return failed(name, "Prometheus has loaded none: rule_files matches no file", _FIX)
    broken = [rule for rule in loaded if rule.health == "err"]
    if broken:
        what = f"{_listed([rule.name for rule in broken])} cannot be evaluated: {broken[0].last_error}"
        return failed(name, what, _FIX)
    found: dict[str, set[str]] = {}
    for rule in loaded:
        found.setdefault(rule.name, set()).add(_plain(rule.query))
    wanted = _wanted(patient)
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        what = f"{len(missing)} of this version's {len(wanted)} are not loaded: {_listed(missing)}"
        return failed(name, what, _FIX)
    changed = sorted(rule for rule, queries in wanted.items() if not queries <= found[rule])
    if changed:
        what = f"{_listed(changed)} ask another question than this version with these settings"
        return warning(name, what, _FIX)
    alerts = sum(rule.type == "alerting" for rule in loaded)
    return ok(name, f"{len(loaded)} are loaded and can be evaluated, {alerts} of them alerts")


def _wanted(patient: Patient) -> dict[str, set[str]]:
    """The queries that should be loaded, by the name of the rule."""
    wanted: dict[str, set[str]] = {}
    for file in rule_groups(patient.settings).values():
        for group in file["groups"]:
            for rule in group["rules"]:
                wanted.setdefault(rule.get("alert") or rule["record"], set()).add(_plain(rule["expr"]))
    return wanted


def _plain(query: str) -> str:
    """A query as it can be compared: Prometheus tells it in one line, and numbers in its own way."""
    return _NUMBER.sub(lambda found: repr(float(found[0])), "".join(query.split()))


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _firing(loaded: Sequence[LoadedRule]) -> list[Finding]:
    """What is wrong by the alerts themselves; they are not the doctor's own finding, so they fail nothing."""
    name = "alerts firing"
    firing = [rule.name for rule in loaded if rule.state == "firing" and rule.name != _WATCHDOG]
    if not firing:
        return [ok(name, "none")]
    return [warning(name, _listed(firing), f"See {runbook(firing[0])}")]


async def examine_route(patient: Patient, prometheus: Prometheus, browser: Browser, *, young: bool) -> list[Finding]:
    """Whether alerts get from Prometheus to Alertmanager: the one that always fires has to be there.

    Args:
        patient: the server.
        prometheus: what has the alerts.
        browser: asks Alertmanager.
        young: whether Prometheus was started just now.
    """
    name = "alerts go to"
    data = await prometheus.data("alertmanagers", Alertmanagers)
    if data is None:
        return [skipped(name, "Prometheus does not tell where its alerts go")]
    active = [found.url for found in data.active_alertmanagers]
    port = patient.settings.monitoring.alertmanager_port
    if not any(f":{port}/" in url for url in active):
        what = f"Prometheus sends its alerts to {', '.join(active) or 'nobody'}; Alertmanager should be on port {port}"
        if young:
            return [warning(name, what, LATER)]
        return [failed(name, what, "Render the configuration again and reload Prometheus.")]
    firing = await prometheus.query(f'ALERTS{{alertname="{_WATCHDOG}", alertstate="firing"}}')
    page = await browser.get(f"{patient.alertmanager}/api/v2/alerts", {"filter": f'alertname="{_WATCHDOG}"'})
    alerts = page.read(list[ActiveAlert])
    if firing and alerts is not None and not alerts and not young:
        what = f"{patient.alertmanager} has not got the alert that always fires (Watchdog)"
        return [warning(name, what, "It is sent once a minute: look again then; Prometheus's log tells what fails.")]
    return [ok(name, patient.alertmanager)]
