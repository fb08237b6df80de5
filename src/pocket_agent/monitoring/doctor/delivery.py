"""`doctor --alerts`: a test alert of each severity, from a rule in Prometheus to every receiver of Alertmanager.

A rule file that expires by itself is put next to the rendered ones for the time of the test. Where that is not possible
(Prometheus is in a container, or another user's), the alerts are handed to Alertmanager, and a result says so.
"""

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from pocket_agent.monitoring.doctor.probes import (
    ConfigText,
    Prometheus,
    RuleGroups,
    RuntimeInfo,
    get,
    post,
    read_samples,
)
from pocket_agent.monitoring.doctor.result import Context, Result, failed, ok, skipped
from pocket_agent.monitoring.doctor.stack_checks import SET_UP, SETTLE_SECONDS, Receivers, receivers_of, unanswered
from pocket_agent.monitoring.files import read_mapping
from pocket_agent.monitoring.rules import ALERT_SERVICE

_ARRIVAL_SECONDS: Final = 20.0
"""Limit for its way from the rule to Alertmanager."""
DELIVERY_SECONDS: Final = 30.0
"""Limit for its way from Alertmanager to the receivers: Alertmanager waits ten seconds for others of its group."""
ALERTS_SECONDS: Final = _ARRIVAL_SECONDS + DELIVERY_SECONDS
_POLL_SECONDS: Final = 0.5
_EXPIRY: Final = timedelta(minutes=2)
"""After that a test alert ends, also when the doctor was killed and its rules are still there."""
_NAME: Final = "alert delivery"
_FILE: Final = "pocket-agent-doctor.yml"
_ALERTS: Final[Mapping[str, str]] = {
    "critical": "PocketAgentDoctorCritical",
    "warning": "PocketAgentDoctorWarning",
    "info": "PocketAgentDoctorInfo",
    "none": "Watchdog",
}
"""The test alert of each severity. Each has a name of its own, since a critical one inhibits a warning of its name."""
_SETTINGS: Final = {
    "slack": "the URL in the file of monitoring.slack_url_file",
    "pagerduty": "the key in the file of monitoring.pagerduty_key_file and monitoring.pagerduty_url",
    "email": "the settings monitoring.email_*",
    "webhook": "monitoring.webhook_url, or the URL in the file of monitoring.webhook_url_file",
}


class _Receiver(msgspec.Struct):
    name: str


class _State(msgspec.Struct, rename="camel"):
    silenced_by: list[str] = []
    inhibited_by: list[str] = []


class _Routed(msgspec.Struct):
    """An alert in Alertmanager, with the receivers that its routes lead to."""

    labels: dict[str, str]
    receivers: list[_Receiver]
    status: _State


async def check_delivery(context: Context) -> list[Result]:
    """Send a test alert of each severity, and check that each of its receivers accepts it."""
    url = context.alertmanager
    receivers = await receivers_of(url)
    if receivers is None:
        said, port = (await get(f"{url}/-/ready")).said, context.settings.monitoring.alertmanager_port
        return [failed(_NAME, *await unanswered("alertmanager", port, said, "monitoring.alertmanager_port"))]
    # Nothing but a program of its user, the dead man's switch, is notified of a Watchdog.
    severities = [severity for severity in _ALERTS if severity != "none" or receivers.get("watchdog")]
    before = await _attempts(url)
    instance = f"doctor-{secrets.token_hex(4)}"
    place = await _rule_place(context)
    results: list[Result] = []
    if isinstance(place, str):
        reply = await post(f"{url}/api/v2/alerts", json.dumps([_alert(kind, instance) for kind in severities]).encode())
        if reply.status != 200:
            return [failed(_NAME, f"Alertmanager refuses an alert: {reply.said}", "See its log.")]
        fix = "Run pocket-agent doctor --alerts as a user who can write Prometheus's rules."
        results.append(skipped("alert path", f"not tested through Prometheus: {place}", fix))
        arrived = await _arrived(url, instance, severities, 0.0)
    else:
        async with _rules(Prometheus(context.prometheus), place, severities, instance) as fault:
            if fault:
                return [failed("alert path", *fault)]
            arrived = await _arrived(url, instance, severities, _ARRIVAL_SECONDS)
            results += _lost(arrived, severities)
            return [*results, *await _deliveries(url, arrived, receivers, before)]
    return [*results, *await _deliveries(url, arrived, receivers, before)]


# --- through Prometheus


async def _rule_place(context: Context) -> Path | str:
    """The directory of rules that Prometheus reads, if it can be used; otherwise why not."""
    prometheus = Prometheus(context.prometheus)
    runtime, config, flags, rules = await asyncio.gather(
        prometheus.data("status/runtimeinfo", RuntimeInfo),
        prometheus.data("status/config", ConfigText),
        prometheus.data("status/flags", dict[str, str]),
        prometheus.data("rules", RuleGroups),
    )
    if runtime is None or config is None or flags is None or rules is None:
        return f"it does not answer at {context.prometheus}"
    if flags.get("web.enable-lifecycle") != "true":
        return "it was started without --web.enable-lifecycle"
    if not runtime.reloaded:
        return "it has refused its configuration"
    return await asyncio.to_thread(_usable, runtime, config.yaml, flags.get("config.file", ""), rules)


def _usable(runtime: RuntimeInfo, config: str, config_file: str, rules: RuleGroups) -> Path | str:
    """Blocking."""
    base = Path(runtime.directory)
    patterns = [base / pattern for pattern in read_mapping(config).get("rule_files") or ()]
    loaded = [base / group.file for group in rules.groups if group.file and not group.file.endswith(_FILE)]
    directory: Path | None = next((pattern.parent for pattern in patterns if pattern.name in {"*.yml", "*"}), None)
    if directory is None or not loaded:
        return "its rule_files have no directory of rules (rules/*.yml)"
    try:
        changed = [path for path in (base / config_file, *loaded) if _is_newer(path, runtime.loaded_at)]
    except OSError:
        return "its files are not on this machine, or not readable by this user"
    if changed:
        return f"{changed[0]} has changed since it was loaded, and the test would load it"
    if not os.access(directory, os.W_OK):
        return f"this user cannot write to {directory}"
    return directory


def _is_newer(path: Path, loaded_at: datetime | None) -> bool:
    # lastConfigTime is in whole seconds.
    return loaded_at is not None and path.stat().st_mtime >= loaded_at.timestamp() + 1


@contextlib.asynccontextmanager
async def _rules(
    prometheus: Prometheus, directory: Path, severities: Sequence[str], instance: str
) -> AsyncIterator[tuple[str, str] | None]:
    """Rules that fire, until the block is left; yields what is wrong if Prometheus does not take them."""
    path = directory / _FILE
    start = int(time.time()) + SETTLE_SECONDS
    expr = f"vector(time()) >= {start} < {start + int(_EXPIRY.total_seconds())}"
    rules = [{**_alert(severity, instance), "alert": _ALERTS[severity], "expr": expr} for severity in severities]
    for rule in rules:
        del rule["startsAt"], rule["endsAt"]
    text = json.dumps({"groups": [{"name": "pocket-agent-doctor", "interval": "1s", "rules": rules}]})
    try:
        await asyncio.to_thread(_write, path, text)
        reply = await post(f"{prometheus.url}/-/reload", b"")
        fault = None
        if reply.status != 200:
            fault = (f"Prometheus does not load a rule: {reply.said}", "Its log has the reason: promtool check config.")
        yield fault
    finally:
        path.unlink(missing_ok=True)
        await asyncio.shield(post(f"{prometheus.url}/-/reload", b""))


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o644)


def _lost(arrived: Sequence[_Routed], severities: Sequence[str]) -> list[Result]:
    """The severities whose alert did not get from Prometheus to Alertmanager."""
    there = {alert.labels.get("alertname"): alert.labels.get("severity") for alert in arrived}
    lost = [severity for severity in severities if there.get(_ALERTS[severity]) != severity]
    if not lost:
        return [ok("alert path", "test alerts of a rule get from Prometheus to Alertmanager")]
    what = f"test alerts of severity {', '.join(lost)} do not get from Prometheus to Alertmanager"
    changed = [there[_ALERTS[severity]] or "no severity" for severity in lost if _ALERTS[severity] in there]
    if changed:
        what += f" with that severity: {', '.join(changed)}"
    fix = (
        "See alerting (alert_relabel_configs, alertmanagers) in prometheus.yml and Prometheus's log; render again, and "
        "reload Prometheus."
    )
    return [failed("alert path", what, fix)]


# --- to the receivers


def _alert(severity: str, instance: str) -> dict[str, Any]:
    """A test alert, as Alertmanager takes it."""
    now = datetime.now(UTC)
    labels = {"severity": severity, "service": ALERT_SERVICE, "instance": instance}
    return {
        "labels": {"alertname": _ALERTS[severity], **labels},
        "annotations": {
            "summary": f"A test of {severity} alerts by pocket-agent doctor",
            "description": "Nothing is wrong. This alert proves that alerts arrive; it resolves by itself.",
        },
        "startsAt": now.isoformat(),
        "endsAt": (now + _EXPIRY).isoformat(),
    }


async def _arrived(url: str, instance: str, severities: Sequence[str], seconds: float) -> list[_Routed]:
    """The test alerts in Alertmanager, after all have arrived or the time is over."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        reply = await get(f"{url}/api/v2/alerts", {"filter": f'instance="{instance}"'})
        found = reply.read(list[_Routed]) or []
        if len(found) >= len(severities) or asyncio.get_running_loop().time() >= deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)


async def _deliveries(url: str, arrived: Sequence[_Routed], receivers: Receivers, before: "_Attempts") -> list[Result]:
    """A result for each alert: whether its receivers have accepted it."""
    results: list[Result] = []
    tests: list[_Test] = []
    for alert in sorted(arrived, key=lambda alert: list(_ALERTS).index(alert.labels.get("severity", "none"))):
        severity = alert.labels.get("severity", "none")
        names = [receiver.name for receiver in alert.receivers]
        ways = sum((receivers.get(name, Counter()) for name in names), Counter[str]())
        if alert.status.silenced_by:
            silence = alert.status.silenced_by[0]
            fix = f"Check what it is for, and end it: amtool --alertmanager.url={url} silence expire {silence}"
            results.append(failed(_NAME, f"{severity}: a silence covers alerts like the test: {silence}", fix))
        elif alert.status.inhibited_by:
            what = f"{severity}: an inhibition mutes alerts like the test"
            results.append(failed(_NAME, what, "See inhibit_rules in alertmanager.yml, and render it again."))
        elif not ways:
            what = f"{severity}: its receiver {', '.join(names) or '(none)'} has no integration, so no user is notified"
            results.append(failed(_NAME, what, SET_UP))
        else:
            tests.append(_Test(severity, names, ways))
    return [*results, *await _outcomes(url, tests, receivers, before)]


@dataclass
class _Test:
    """An alert that is under way; `ways` has the number of integrations of its receivers, by kind."""

    severity: str
    names: list[str]
    ways: Counter[str]


async def _outcomes(url: str, tests: Sequence[_Test], receivers: Receivers, before: "_Attempts") -> list[Result]:
    """Wait until every integration has accepted its alerts, or one has refused them."""
    wanted: Counter[tuple[str, str]] = Counter()
    for test in tests:
        for name in test.names:
            for kind, count in receivers.get(name, Counter()).items():
                wanted[before.key(name, kind)] += count
    deadline = asyncio.get_running_loop().time() + DELIVERY_SECONDS
    while True:
        after = await _attempts(url)
        refused = {key for key in wanted if after.refused[key] > before.refused[key]}
        silent = {key for key, count in wanted.items() if after.taken[key] < before.taken[key] + count}
        late = asyncio.get_running_loop().time() > deadline
        # Those that have not answered yet are waited for, so that each severity gets a result of its own.
        if not silent - refused or late:
            break
        await asyncio.sleep(_POLL_SECONDS)
    return [_outcome(test, receivers, before, refused, silent if late else set()) for test in tests]


def _outcome(
    test: _Test, receivers: Receivers, before: "_Attempts", refused: set[tuple[str, str]], silent: set[tuple[str, str]]
) -> Result:
    """The result of an alert. Without receivers in Alertmanager's metrics, a kind of integration has one state."""
    pairs = [(name, kind) for name in test.names for kind in receivers.get(name, {})]
    bad = [(name, kind) for name, kind in pairs if before.key(name, kind) in refused]
    if bad:
        listed = ", ".join(f"{kind} (receiver {name})" for name, kind in bad)
        kinds = sorted({kind for _, kind in bad})
        fix = f"Alertmanager's log has the reason. Check {' and '.join(_SETTINGS.get(kind, kind) for kind in kinds)}."
        return failed(_NAME, f"{test.severity}: {listed} refuses the alert, or does not answer", fix)
    missing = [(name, kind) for name, kind in pairs if before.key(name, kind) in silent]
    if missing:
        listed = ", ".join(f"{kind} (receiver {name})" for name, kind in missing)
        what = f"{test.severity}: {listed} has not accepted all test alerts within {DELIVERY_SECONDS:.0f} s"
        fix = "See group_wait and the time intervals of the route in alertmanager.yml, and Alertmanager's log."
        return failed(_NAME, what, fix)
    listed = ", ".join(f"{kind} (receiver {name})" for name, kind in pairs)
    return ok(_NAME, f"{test.severity}: accepted by {listed}: check that it arrived")


@dataclass
class _Attempts:
    """Requests to receivers that are over, by receiver and kind. Alertmanager counts a notification when it begins.

    The receiver is empty unless Alertmanager's metrics have it (--enable-feature=receiver-name-in-metrics).
    """

    taken: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_receiver: bool = False

    def key(self, receiver: str, kind: str) -> tuple[str, str]:
        """Where the requests of an integration are counted."""
        return (receiver if self.by_receiver else "", kind)


async def _attempts(url: str) -> _Attempts:
    found = _Attempts()
    for sample in read_samples((await get(f"{url}/metrics")).text):
        receiver = sample.labels.get("receiver_name", "")
        key = (receiver, sample.labels.get("integration", ""))
        if sample.name == "alertmanager_notification_requests_total":
            found.by_receiver = found.by_receiver or bool(receiver)
            found.taken[key] += int(sample.value)
        elif sample.name == "alertmanager_notification_requests_failed_total":
            found.refused[key] += int(sample.value)
    found.taken.subtract(found.refused)
    return found
