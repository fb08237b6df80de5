"""Alertmanager: whether it runs, whom it tells, and whether an alert gets there."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from pocket_agent.config.settings import MonitoringSettings
from pocket_agent.monitoring.doctor.exposition import read_samples
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, runbook, skipped, warning
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.monitoring.doctor.scrape import RENDER, START
from pocket_agent.monitoring.targets import port_holder

WATCHDOG: Final = "watchdog"
"""The receiver of the alert that always fires; it tells no person."""
SET_UP: Final = (
    "Set monitoring.slack_url_file, pagerduty_key_file, email_to or webhook_url(_file); render again, and reload "
    "Alertmanager."
)


class _Config(msgspec.Struct):
    original: str


class _Status(msgspec.Struct):
    config: _Config


Receivers = Mapping[str, Counter[str]]
"""How many ways each receiver has, by kind: slack, pagerduty, email, webhook, ..."""


def read_receivers(text: str) -> Receivers:
    """The receivers of a configuration; none when it is none."""
    try:
        config: Any = yaml.safe_load(text)
        return {
            receiver["name"]: Counter(
                {key.removesuffix("_configs"): len(ways) for key, ways in receiver.items() if key.endswith("_configs")}
            )
            for receiver in config["receivers"]
        }
    except (yaml.YAMLError, TypeError, KeyError, AttributeError):
        return {}


async def receivers_of(url: str, browser: Browser) -> Receivers | None:
    """The receivers of a running Alertmanager; None when it does not answer."""
    status = (await browser.get(f"{url}/api/v2/status")).read(_Status)
    return read_receivers(status.config.original) if status is not None else None


async def examine_alertmanager(patient: Patient, browser: Browser) -> list[Finding]:
    """Alertmanager and its receivers."""
    name, url = "alertmanager", patient.alertmanager
    found = await receivers_of(url, browser)
    if found is None:
        said = (await browser.get(f"{url}/-/ready")).said
        who = port_holder(patient.settings.monitoring.alertmanager_port)
        if who is not None and "alertmanager" not in who.name:
            fix = "End it, or choose another monitoring.alertmanager_port, and render again."
            return [failed(name, f"its port is taken by another program, {who.name}: {said}", fix)]
        fix = START.format("alertmanager (Debian: prometheus-alertmanager)")
        return [failed(name, f"does not answer at {url}: {said}", fix), skipped("receivers", "it does not answer")]
    return [ok(name, f"answers at {url}"), await _receivers(patient, found, browser)]


async def _receivers(patient: Patient, found: Receivers, browser: Browser) -> Finding:
    """Whom alerts reach, and whether they got there so far."""
    name = "receivers"
    ways = sum((ways for receiver, ways in found.items() if receiver != WATCHDOG), Counter[str]())
    wanted = _wanted(patient.settings.monitoring)
    if not ways and not wanted:
        return warning(name, "Alertmanager tells nobody: no receiver is set up", SET_UP)
    told = ", ".join(sorted(ways)) or "nobody"
    missing = sorted(wanted - ways.keys())
    if missing:
        what = f"the settings have {', '.join(missing)}, which Alertmanager does not know; it tells {told}"
        return warning(name, what, RENDER.format("Alertmanager"))
    samples = read_samples((await browser.get(f"{patient.alertmanager}/metrics")).text)
    refused = {
        sample.labels.get("integration", "?"): sample.value
        for sample in samples
        if sample.name == "alertmanager_notifications_failed_total" and sample.value > 0
    }
    if refused:
        listed = ", ".join(f"{count:.0f} by {way}" for way, count in sorted(refused.items()))
        fix = f"Run pocket-agent doctor --alerts, and see {runbook('AlertDeliveryFailing')}"
        return warning(name, f"{told}; deliveries that failed since Alertmanager's start: {listed}", fix)
    return ok(name, f"alerts reach {told}")


def _wanted(stack: MonitoringSettings) -> set[str]:
    """The ways to people that the settings name."""
    named = {
        "slack": stack.slack_url_file,
        "pagerduty": stack.pagerduty_key_file,
        "email": stack.email_to,
        "webhook": stack.webhook_url or stack.webhook_url_file,
    }
    return {way for way, value in named.items() if value is not None}


def examine_secrets(stack: MonitoringSettings) -> Iterator[Finding]:
    """The files of secrets that the settings name; blocking."""
    for key, path in (
        ("slack_url_file", stack.slack_url_file),
        ("pagerduty_key_file", stack.pagerduty_key_file),
        ("email_password_file", stack.email_password_file),
        ("webhook_url_file", stack.webhook_url_file),
        ("watchdog_url_file", stack.watchdog_url_file),
    ):
        if path is not None:
            yield _secret(f"monitoring.{key}", path)


def _secret(setting: str, path: Path) -> Finding:
    name, fix = "receiver file", f"Write the secret into {path}, readable by the user of Alertmanager alone."
    try:
        empty = not path.read_text("utf-8").strip()
    except PermissionError:
        return skipped(name, f"{path} ({setting}) may not be read by this user")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        return failed(name, f"{path} ({setting}) cannot be read: {reason}", fix)
    return failed(name, f"{path} ({setting}) is empty", fix) if empty else ok(name, f"{path} ({setting}) is there")
