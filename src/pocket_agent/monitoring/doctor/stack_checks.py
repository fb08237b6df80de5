"""Checks of the monitoring stack: Prometheus, its rules, Alertmanager, the blackbox exporter."""

import asyncio
import contextlib
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from pocket_agent.monitoring.doctor.probes import (
    LATER,
    AlertmanagerTargets,
    BuildInfo,
    LoadedRule,
    Prometheus,
    RuleGroups,
    ScrapeTarget,
    ScrapeTargets,
    get,
    post,
    read_samples,
    total,
)
from pocket_agent.monitoring.doctor.result import Context, Result, failed, ok, runbook, skipped, warning
from pocket_agent.monitoring.rules import UNARMED, all_alerts, rule_groups
from pocket_agent.monitoring.targets import SERVER_JOB, port_holder
from pocket_agent.observability.catalogue import BUILD_INFO, PREFIX
from pocket_agent.settings import MonitoringSettings, Settings

# --- whether there is a stack


_CONNECT_SECONDS: Final = 2.0


async def is_set_up(context: Context) -> bool:
    """Whether a stack runs, or the settings or an installed Prometheus ask for one.

    A node exporter alone does not count: many machines have one for another Prometheus.
    """
    stack = context.settings.monitoring
    if context.chosen("monitoring."):
        return True
    if await asyncio.to_thread(_is_installed, context):
        return True
    ports = (stack.prometheus_port, stack.alertmanager_port, stack.blackbox_port)
    return any(await asyncio.gather(*(_listens(port) for port in ports)))


def absence() -> Result:
    """The result for a machine without a stack."""
    return skipped(
        "monitoring",
        "no Prometheus runs here: nobody is told when something is wrong",
        "pocket-agent monitoring render DIR, then pocket-agent monitoring up DIR; docs/monitoring.md has the rest.",
    )


def _is_installed(context: Context) -> bool:
    """Whether a Prometheus that is a service of this machine is meant to scrape the server."""
    with contextlib.suppress(OSError):
        return b"pocket-agent" in context.installed.read_bytes()
    return False


async def _listens(port: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


# --- Prometheus


START: Final = "Start it: pocket-agent monitoring up DIR, or systemctl start {}."
RENDER: Final = "Render the configuration again (pocket-agent monitoring render DIR), put it in place and reload {}."
_SERIES: Final = 1000
"""Series of one server beyond which something outside of it adds labels."""


async def check_prometheus(context: Context) -> list[Result]:
    """Prometheus, what it scrapes, its rules and where its alerts go."""
    prometheus = Prometheus(context.prometheus)
    version, ready, young = await asyncio.gather(
        prometheus.data("status/buildinfo", BuildInfo), prometheus.reply("/-/ready"), prometheus.is_young()
    )
    if version is None or ready.status != 200:
        absent = await _absent(context, prometheus, ready.said, known=version is not None)
        names = ("scrape target", "targets", "rules", "alerts go to")
        return [absent, *(skipped(name, "Prometheus does not answer") for name in names)]
    found = await asyncio.gather(
        _scraping(context, prometheus, young=young),
        check_rules(context, prometheus),
        check_route(context, prometheus, young=young),
    )
    here = ok("prometheus", f"version {version.version} is ready at {prometheus.url}")
    return [here, *(result for results in found for result in results)]


async def _absent(context: Context, prometheus: Prometheus, said: str, *, known: bool) -> Result:
    """What is at Prometheus's address instead."""
    name, port = "prometheus", context.settings.monitoring.prometheus_port
    if known:
        return failed(
            name, f"is at {prometheus.url}, and not ready: {said}", "Wait for it; its log tells what it does."
        )
    found = await asyncio.to_thread(port_holder, port)
    if found is not None:
        fix = f"End it, or choose another monitoring.prometheus_port than {port}, and render again."
        return failed(name, f"port {port} is taken by another program, {found.name}: {said}", fix)
    return failed(name, f"nothing answers at {prometheus.url}: {said}", START.format("prometheus"))


async def _scraping(context: Context, prometheus: Prometheus, *, young: bool) -> list[Result]:
    data = await prometheus.data("targets", ScrapeTargets, state="active")
    if data is None:
        return [skipped("scrape target", "Prometheus does not tell what it scrapes")]
    active = data.active_targets
    if young and not active:
        return [warning("scrape target", "Prometheus scrapes nothing yet", LATER)]
    ours = [found for found in active if found.job == SERVER_JOB]
    target, *identity = await _target(context, prometheus, ours)
    return [target, *identity, *_down(active)]


async def _target(context: Context, prometheus: Prometheus, ours: Sequence[ScrapeTarget]) -> list[Result]:
    """Whether the server's own listener is scraped, and what came of it."""
    name, expected = "scrape target", f"http://{context.target.metrics}/metrics"
    fix = RENDER.format("Prometheus")
    if not ours:
        return [failed(name, f"Prometheus has no job {SERVER_JOB}", fix)]
    found = next((target for target in ours if _local(target.scrape_url) == _local(expected)), None)
    if found is None:
        listed = ", ".join(target.scrape_url for target in ours)
        return [failed(name, f"Prometheus scrapes {listed}; the server is at {expected}", fix)]
    return [ok(name, f"Prometheus scrapes {expected}"), *await _identity(found, prometheus)]


def _local(url: str) -> str:
    return url.replace("//localhost:", "//127.0.0.1:")


async def _identity(target: ScrapeTarget, prometheus: Prometheus) -> list[Result]:
    """Whether what is scraped under the server's name is the server, and how much of it there is."""
    name = "scrape identity"
    if target.health != "up":  # a result of its own: the target is down
        return [skipped(name, "the server was not scraped" + (" yet" if target.health == "unknown" else ""))]
    instance = f'instance="{target.labels.get("instance", "")}"'
    if not await prometheus.query(f"{BUILD_INFO.name}{{{instance}}}"):
        fix = "See which program listens on metrics.port; Prometheus itself must be on another port."
        return [failed(name, f"what answers is not the server: it has no {BUILD_INFO.name}", fix)]
    counted = await prometheus.query(f'count({{__name__=~"{PREFIX}.+", {instance}}})')
    series = float(counted[0].value[1]) if counted else 0.0
    if series > _SERIES:
        families = await prometheus.query(f'topk(3, count by (__name__) ({{__name__=~"{PREFIX}.+", {instance}}}))')
        most = ", ".join(f"{family.metric.get('__name__')} ({family.value[1]})" for family in families)
        fix = "Something between the server and Prometheus adds labels: see metric_relabel_configs and the targets."
        return [warning(name, f"the figures are the server's own, but in {series:.0f} series; most are {most}", fix)]
    return [ok(name, f"the figures are the server's own, {series:.0f} series")]


def _down(active: Sequence[ScrapeTarget]) -> list[Result]:
    name = "targets"
    fix = "Start what should answer there, or correct the target and reload Prometheus."
    down = [
        failed(name, f"{target.job} at {target.scrape_url} is down: {target.last_error or 'no answer'}", fix)
        for target in active
        if target.health == "down"
    ]
    if down:
        return down
    waiting = sum(target.health == "unknown" for target in active)
    if waiting:
        fix = "Wait for the first scrape (monitoring.scrape_interval), then look again."
        return [warning(name, f"{waiting} of {len(active)} were not scraped yet", fix)]
    return [ok(name, f"all {len(active)} answer")]


# --- rules and alerts


_FIX: Final = (
    "Render again (pocket-agent monitoring render DIR), put rules/ beside prometheus.yml (rule_files: rules/*.yml) "
    "and reload Prometheus."
)
_SHOWN: Final = 5
_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")
_WATCHDOG: Final = "Watchdog"
_NOT_SENT: Final = {_WATCHDOG, "InfoInhibitor"}
"""Alerts that fire while nothing is wrong."""


class ActiveAlert(msgspec.Struct):
    """An alert that Alertmanager has."""

    labels: dict[str, str]


async def check_rules(context: Context, prometheus: Prometheus) -> list[Result]:
    """The rules that are loaded, and the alerts that fire."""
    name = "rules"
    data = await prometheus.data("rules", RuleGroups)
    if data is None:
        return [skipped(name, "Prometheus does not tell its rules")]
    loaded = [rule for group in data.groups for rule in group.rules]
    return [_loaded(context, loaded), *_firing(loaded), await check_armed(prometheus)]


def _loaded(context: Context, loaded: Sequence[LoadedRule]) -> Result:
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
    wanted = _expected_queries(context)
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


def _expected_queries(context: Context) -> dict[str, set[str]]:
    """The queries that should be loaded, by the name of the rule."""
    wanted: dict[str, set[str]] = {}
    for file in rule_groups(context.settings).values():
        for group in file["groups"]:
            for rule in group["rules"]:
                wanted.setdefault(rule.get("alert") or rule["record"], set()).add(_plain(rule["expr"]))
    return wanted


def _plain(query: str) -> str:
    """A query in a form to compare: Prometheus returns it in one line, with numbers in its own format."""
    return _NUMBER.sub(lambda found: repr(float(found[0])), "".join(query.split()))


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _firing(loaded: Sequence[LoadedRule]) -> list[Result]:
    """What is wrong by the alerts themselves; they are not the doctor's own result, so they fail nothing."""
    name = "alerts firing"
    firing = [rule.name for rule in loaded if rule.state == "firing" and rule.name not in _NOT_SENT]
    if not firing:
        return [ok(name, "none")]
    return [warning(name, _listed(firing), f"See {runbook(firing[0])}")]


async def check_armed(prometheus: Prometheus) -> Result:
    """Whether alerts cannot fire, because their metrics are missing or their limit is not set."""
    name = "alerts armed"
    reasons = {sample.metric["alert"]: sample.metric["reason"] for sample in await prometheus.query(UNARMED)}
    if not reasons:
        return ok(name, "every alert can fire")
    what = "cannot fire: " + "; ".join(f"{alert} ({reason})" for alert, reason in sorted(reasons.items()))
    paging = sorted(
        alert.name for alert in all_alerts(Settings()) if alert.severity == "critical" and alert.name in reasons
    )
    return warning(name, what, f"See {runbook(paging[0])}") if paging else ok(name, what)


async def check_route(context: Context, prometheus: Prometheus, *, young: bool) -> list[Result]:
    """Whether alerts get from Prometheus to Alertmanager: the one that always fires has to be there.

    Args:
        context: the server.
        prometheus: what has the alerts.
        young: whether Prometheus was started just now.
    """
    name = "alerts go to"
    data = await prometheus.data("alertmanagers", AlertmanagerTargets)
    if data is None:
        return [skipped(name, "Prometheus does not tell where its alerts go")]
    active = [found.url for found in data.active_alertmanagers]
    port = context.settings.monitoring.alertmanager_port
    if not any(f":{port}/" in url for url in active):
        what = f"Prometheus sends its alerts to {', '.join(active) or 'nobody'}; Alertmanager should be on port {port}"
        if young:
            return [warning(name, what, LATER)]
        return [failed(name, what, "Render the configuration again and reload Prometheus.")]
    firing = await prometheus.query(f'ALERTS{{alertname="{_WATCHDOG}", alertstate="firing"}}')
    reply = await get(f"{context.alertmanager}/api/v2/alerts", {"filter": f'alertname="{_WATCHDOG}"'})
    alerts = reply.read(list[ActiveAlert])
    if firing and alerts is not None and not alerts and not young:
        what = f"{context.alertmanager} has not got the alert that always fires (Watchdog)"
        return [warning(name, what, "It is sent once a minute: look again then; Prometheus's log tells what fails.")]
    return [ok(name, context.alertmanager)]


# --- Alertmanager


_WATCHDOG_RECEIVER: Final = "watchdog"
"""The receiver of the alert that always fires; it reaches no person."""
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
    """The receivers of a configuration; none when it cannot be parsed."""
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


async def receivers_of(url: str) -> Receivers | None:
    """The receivers of a running Alertmanager; None when it does not answer."""
    status = (await get(f"{url}/api/v2/status")).read(_Status)
    return read_receivers(status.config.original) if status is not None else None


async def check_alertmanager(context: Context) -> list[Result]:
    """Alertmanager and its receivers."""
    name, url = "alertmanager", context.alertmanager
    found = await receivers_of(url)
    if found is None:
        said = (await get(f"{url}/-/ready")).said
        who = port_holder(context.settings.monitoring.alertmanager_port)
        if who is not None and "alertmanager" not in who.name:
            fix = "End it, or choose another monitoring.alertmanager_port, and render again."
            return [failed(name, f"its port is taken by another program, {who.name}: {said}", fix)]
        fix = START.format("alertmanager (Debian: prometheus-alertmanager)")
        return [failed(name, f"does not answer at {url}: {said}", fix), skipped("receivers", "it does not answer")]
    return [ok(name, f"answers at {url}"), await _receivers(context, found)]


async def _receivers(context: Context, found: Receivers) -> Result:
    """The receivers of alerts, and whether deliveries have failed."""
    name = "receivers"
    ways = sum((ways for receiver, ways in found.items() if receiver != _WATCHDOG_RECEIVER), Counter[str]())
    wanted = _configured_ways(context.settings.monitoring)
    if not ways and not wanted:
        return warning(name, "Alertmanager tells nobody: no receiver is set up", SET_UP)
    told = ", ".join(sorted(ways)) or "nobody"
    missing = sorted(wanted - ways.keys())
    if missing:
        what = f"the settings have {', '.join(missing)}, which Alertmanager does not know; it tells {told}"
        return warning(name, what, RENDER.format("Alertmanager"))
    samples = read_samples((await get(f"{context.alertmanager}/metrics")).text)
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


def _configured_ways(stack: MonitoringSettings) -> set[str]:
    """The ways to people that the settings name."""
    named = {
        "slack": stack.slack_url_file,
        "pagerduty": stack.pagerduty_key_file,
        "email": stack.email_to,
        "webhook": stack.webhook_url or stack.webhook_url_file,
    }
    return {way for way, value in named.items() if value is not None}


def check_secrets(stack: MonitoringSettings) -> Iterator[Result]:
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


def _secret(setting: str, path: Path) -> Result:
    name, fix = "receiver file", f"Write the secret into {path}, readable by the user of Alertmanager alone."
    try:
        empty = not path.read_text("utf-8").strip()
    except PermissionError:
        return skipped(name, f"{path} ({setting}) may not be read by this user")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        return failed(name, f"{path} ({setting}) cannot be read: {reason}", fix)
    return failed(name, f"{path} ({setting}) is empty", fix) if empty else ok(name, f"{path} ({setting}) is there")


# --- delivery of alerts


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


async def check_delivery(context: Context) -> Result:
    """Send a test alert to the receivers of critical alerts, and check that each accepts it."""
    url = context.alertmanager
    receivers = await receivers_of(url)
    if receivers is None:
        return failed(_NAME, f"Alertmanager does not answer at {url}", START.format("prometheus-alertmanager"))
    before = await _attempts(url)
    instance = f"doctor-{secrets.token_hex(4)}"
    reply = await post(f"{url}/api/v2/alerts", json.dumps([_alert(instance)]).encode())
    if reply.status != 200:
        return failed(_NAME, f"Alertmanager refuses an alert: {reply.said}", "See its log.")
    found = await get(f"{url}/api/v2/alerts", {"filter": f'instance="{instance}"'})
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
    return await _arrival(url, wanted, before)


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


async def _arrival(url: str, wanted: Counter[str], before: "_Attempts") -> Result:
    """Wait until every way has taken the alert, or one has refused it."""
    deadline = asyncio.get_running_loop().time() + DELIVERY_SECONDS
    while True:
        after = await _attempts(url)
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


async def _attempts(url: str) -> _Attempts:
    every: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for sample in read_samples((await get(f"{url}/metrics")).text):
        way = sample.labels.get("integration", "")
        if sample.name == "alertmanager_notification_requests_total":
            every[way] += int(sample.value)
        elif sample.name == "alertmanager_notification_requests_failed_total":
            refused[way] += int(sample.value)
    return _Attempts(every - refused, refused)


# --- the blackbox exporter


_MODULE: Final = "websocket_check"
_PROBE_SECONDS: Final = 8.0
"""Longer than the module's own time limit."""
_FAULT: Final = re.compile(r'level=error.*?msg="?([^"\n]*?)"?(?: err="?([^"\n]*)"?)?$', re.MULTILINE)


async def check_probe(context: Context) -> Result:
    """Let the exporter probe the server."""
    name, address = "websocket probe", context.target.address
    url = f"{context.blackbox}/probe"
    # debug: the reply has the log of the probe, with the reason of a failure.
    reply = await get(url, {"target": address, "module": _MODULE, "debug": "true"}, seconds=_PROBE_SECONDS)
    if reply.status is None:
        fix = START.format("blackbox_exporter (Debian: prometheus-blackbox-exporter)")
        return warning(name, f"the blackbox exporter does not answer at {context.blackbox}: {reply.fault}", fix)
    if reply.status != 200:
        what = f"the blackbox exporter cannot probe: {reply.said}"
        return failed(name, what, "Let it use the rendered blackbox.yml (--config.file), and reload it.")
    # Between the log of the probe and the configuration of the module.
    metrics = reply.text.partition("Metrics that would have been returned:\n")[2].partition("\n\n\n")[0]
    if total(read_samples(metrics), "probe_success") == 1:
        return ok(name, f"{address} upgrades to a WebSocket")
    reasons = [": ".join(filter(None, found)) for found in _FAULT.findall(reply.text)]
    why = f": {reasons[0]}" if reasons else ""
    fix = f"See {runbook('WebSocketProbeFailed')}"
    return failed(name, f"{address} does not upgrade to a WebSocket{why}", fix)
