"""An alert all the way: through Alertmanager, to everybody who gets alerts."""

import asyncio
import json
import secrets
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from pocket_agent.monitoring.doctor.alertmanager import SET_UP, receivers_of
from pocket_agent.monitoring.doctor.exposition import read_samples
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.monitoring.doctor.scrape import START

DELIVERY_SECONDS: Final = 30.0
"""How long a test alert may be under way: Alertmanager waits ten seconds for others of its group."""
_LOOK_SECONDS: Final = 0.5
_NAME: Final = "alert delivery"


class _Receiver(msgspec.Struct):
    name: str


class _State(msgspec.Struct, rename="camel"):
    silenced_by: list[str]


class _Routed(msgspec.Struct):
    receivers: list[_Receiver]
    status: _State


async def examine_delivery(patient: Patient, browser: Browser) -> Finding:
    """Send a test alert to whoever gets critical alerts, and see that each of them takes it."""
    url = patient.alertmanager
    receivers = await receivers_of(url, browser)
    if receivers is None:
        return failed(_NAME, f"Alertmanager does not answer at {url}", START.format("prometheus-alertmanager"))
    before = await _attempts(url, browser)
    instance = f"doctor-{secrets.token_hex(4)}"
    page = await browser.post(f"{url}/api/v2/alerts", json.dumps([_alert(instance)]).encode())
    if page.status != 200:
        return failed(_NAME, f"Alertmanager refuses an alert: {page.said}", "See its log.")
    found = await browser.get(f"{url}/api/v2/alerts", {"filter": f'instance="{instance}"'})
    routed = found.read(list[_Routed]) or []
    silences = [silence for alert in routed for silence in alert.status.silenced_by]
    if silences:
        fix = f"See what it is for, and end it: amtool --alertmanager.url={url} silence expire {silences[0]}"
        return failed(_NAME, f"a silence covers every alert like the test: {silences[0]}", fix)
    names = {receiver.name for alert in routed for receiver in alert.receivers}
    wanted = sum((ways for name, ways in receivers.items() if name in names), Counter[str]())
    if not wanted:
        listed = ", ".join(sorted(names)) or "no receiver"
        return failed(_NAME, f"a critical alert goes to {listed}, which tells nobody", SET_UP)
    return await _arrival(url, wanted, before, browser)


def _alert(instance: str) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "labels": {
            "alertname": "PocketAgentDoctor",
            "severity": "critical",
            "service": "pocket-agent",
            "instance": instance,
        },
        "annotations": {
            "summary": "A test by pocket-agent doctor",
            "description": "Nothing is wrong. This alert proves that alerts arrive; it resolves by itself.",
        },
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(minutes=2)).isoformat(),
    }


async def _arrival(url: str, wanted: Counter[str], before: "_Attempts", browser: Browser) -> Finding:
    """Wait until every way has taken the alert, or one has refused it."""
    deadline = asyncio.get_running_loop().time() + DELIVERY_SECONDS
    while True:
        after = await _attempts(url, browser)
        refused = [way for way in sorted(wanted) if after.refused[way] > before.refused[way]]
        if refused:
            what = f"{', '.join(refused)} refuses the alert, or does not answer"
            fix = f"Alertmanager's log tells why. Check {' and '.join(_SETTINGS.get(way, way) for way in refused)}."
            return failed(_NAME, what, fix)
        silent = [way for way, ways in sorted(wanted.items()) if after.taken[way] < before.taken[way] + ways]
        if not silent:
            told = ", ".join(f"{way} ({ways} times)" if ways > 1 else way for way, ways in sorted(wanted.items()))
            return ok(_NAME, f"a test alert was taken by {told}: see that it arrived")
        if asyncio.get_running_loop().time() > deadline:
            what = f"{', '.join(silent)} has not taken a test alert within {DELIVERY_SECONDS:.0f} s"
            return failed(_NAME, what, "Alertmanager's log tells why.")
        await asyncio.sleep(_LOOK_SECONDS)


_SETTINGS: Final = {
    "slack": "the URL in the file of monitoring.slack_url_file",
    "pagerduty": "the key in the file of monitoring.pagerduty_key_file and monitoring.pagerduty_url",
    "email": "the settings monitoring.email_*",
    "webhook": "monitoring.webhook_url, or the URL in the file of monitoring.webhook_url_file",
}


class _Attempts(msgspec.Struct):
    """Requests to receivers that are over, by way. What Alertmanager calls a notification is counted when it begins."""

    taken: Counter[str]
    refused: Counter[str]


async def _attempts(url: str, browser: Browser) -> _Attempts:
    every: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for sample in read_samples((await browser.get(f"{url}/metrics")).text):
        way = sample.labels.get("integration", "")
        if sample.name == "alertmanager_notification_requests_total":
            every[way] += int(sample.value)
        elif sample.name == "alertmanager_notification_requests_failed_total":
            refused[way] += int(sample.value)
    return _Attempts(every - refused, refused)
