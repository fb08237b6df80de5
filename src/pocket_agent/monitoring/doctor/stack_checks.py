"""Checks of the monitoring stack: whether its programs answer, what is scraped, and where alerts go."""

import asyncio
import contextlib
import os
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import psutil

from pocket_agent.monitoring.doctor.in_force import (
    RENDER,
    AlertmanagerStatus,
    check_alertmanager_configuration,
    check_blackbox_configuration,
    check_prometheus_configuration,
    check_rules,
    check_silences,
    listed,
)
from pocket_agent.monitoring.doctor.probes import (
    LATER,
    AlertmanagerTargets,
    BuildInfo,
    LoadedRule,
    Prometheus,
    Reply,
    RuleGroups,
    RuntimeInfo,
    ScrapeTarget,
    ScrapeTargets,
    get,
    read_samples,
    total,
)
from pocket_agent.monitoring.doctor.result import VOLATILE, Context, Result, failed, ok, runbook, skipped, warning
from pocket_agent.monitoring.files import read_mapping
from pocket_agent.monitoring.launcher import PROGRAMS
from pocket_agent.monitoring.render import scrape_timeout
from pocket_agent.monitoring.rules import UNARMED, all_alerts
from pocket_agent.monitoring.targets import SERVER_JOB, PortHolder, is_stopped, port_holder
from pocket_agent.observability.catalogue import BUILD_INFO, PREFIX
from pocket_agent.settings import MonitoringSettings, Settings, format_duration, format_size, parse_duration

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
        "Prometheus does not run here, so no user is notified of a fault",
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


# --- programs that do not answer


START: Final = "Start it: pocket-agent monitoring up DIR, or systemctl start {}."


_WEB_FLAGS: Final = (
    "Start it with the rendered flags: no --web.config.file (TLS, passwords), no --web.route-prefix, no path in "
    "--web.external-url."
)


async def unanswered(name: str, port: int, said: str, setting: str) -> tuple[str, str]:
    """What is wrong with a program that does not answer at its port as it should, and what to do."""
    return await asyncio.to_thread(_state, name, port, port_holder(port), said, setting)


def _state(name: str, port: int, holder: PortHolder | None, said: str, setting: str) -> tuple[str, str]:
    known = PROGRAMS[name]
    unit = known.binaries[-1]
    if holder is None:
        return f"nothing answers at http://127.0.0.1:{port}: {said}", START.format(unit)
    if holder.pid is not None and is_stopped(holder.pid):
        return f"{holder.name} is stopped (SIGSTOP) and does not answer: {said}", f"Resume it: kill -CONT {holder.pid}"
    own = holder.pid is None or holder.name.partition(" (")[0] in known.binaries
    other = f"End it, or choose another {setting} than {port}, and render again."
    if own and said.startswith("status 503"):
        return f"{holder.name} at port {port} is not ready: {said}", "Wait for it; its log has its progress."
    if own and said.startswith("status "):
        fix = _WEB_FLAGS + (f" If it is another program: {other}" if holder.pid is None else "")
        return f"{holder.name} answers at port {port}, but not as {name} should: {said}", fix
    if own and (holder.pid is not None or "no answer" in said):
        fix = (
            f"It hangs: see its log. Restart it: systemctl restart {unit}, or end and start pocket-agent monitoring up."
        )
        return f"{holder.name} listens on port {port} and does not answer: {said}", fix
    return f"port {port} is taken by another program, {holder.name}: {said}", other


# --- Prometheus


_SERIES: Final = 1000
"""Series of one server beyond which something outside of it adds labels."""


async def check_prometheus(context: Context) -> list[Result]:
    """Prometheus: its configuration, its database, what it scrapes, its rules and where its alerts go."""
    prometheus = Prometheus(context.prometheus)
    version, ready, young = await asyncio.gather(
        prometheus.data("status/buildinfo", BuildInfo), prometheus.reply("/-/ready"), prometheus.is_young()
    )
    if version is None or ready.status != 200:
        absent = await _absent(context, prometheus, ready.said, known=version is not None)
        names = ("prometheus configuration", "prometheus database", "scrape target", "targets", "rules", "alerts go to")
        return [absent, *(skipped(name, "Prometheus does not answer") for name in names)]
    found = await asyncio.gather(
        check_prometheus_configuration(context, prometheus),
        _database(context, prometheus, young=young),
        _scraping(context, prometheus, young=young),
        check_rules(context, prometheus),
        _firing(prometheus),
        check_armed(context, prometheus, young=young),
        check_route(context, prometheus, young=young),
    )
    here = ok("prometheus", f"version {version.version} is ready at {prometheus.url}")
    return [here, *(result for results in found for result in results)]


async def _absent(context: Context, prometheus: Prometheus, said: str, *, known: bool) -> Result:
    """What is at Prometheus's address instead."""
    name, port = "prometheus", context.settings.monitoring.prometheus_port
    if known:
        return failed(name, f"is at {prometheus.url}, and not ready: {said}", "Wait for it; its log has its progress.")
    return failed(name, *await unanswered(name, port, said, "monitoring.prometheus_port"))


# --- its database


_LEAST_BYTES: Final = 256 * 2**20
"""Free space that Prometheus needs: it writes a block of samples next to those that it replaces."""
_STALE_SECONDS: Final = 60.0
_FAULT_COUNTERS: Final = re.compile(r"prometheus_tsdb_\w+_(?:failed|corruptions)_total")


async def _database(context: Context, prometheus: Prometheus, *, young: bool) -> list[Result]:
    """Whether Prometheus can store samples."""
    name = "prometheus database"
    flags, runtime, metrics, age = await asyncio.gather(
        prometheus.data("status/flags", dict[str, str]),
        prometheus.data("status/runtimeinfo", RuntimeInfo),
        prometheus.reply("/metrics"),
        prometheus.query("time() - max(timestamp(up))"),
    )
    place = Path(runtime.directory if runtime is not None else "/", (flags or {}).get("storage.tsdb.path", "data"))
    results = list(await asyncio.to_thread(_place, context, place))
    faults = [
        sample for sample in read_samples(metrics.text) if sample.value > 0 and _FAULT_COUNTERS.match(sample.name)
    ]
    if faults:
        counted = listed(f"{sample.name} {sample.value:.0f}" for sample in faults)
        fix = f"Free space on the disk of {place}, restart Prometheus, and see its log; a damaged block can be deleted."
        results.append(failed(name, f"writing {place} has failed since Prometheus's start: {counted}", fix))
    limit = 3 * context.settings.monitoring.scrape_interval + _STALE_SECONDS
    seconds = age[0].number if age else limit + 1
    if seconds > limit and not young:
        what = f"Prometheus has stored no sample for {f'{seconds:.0f} s' if age else '5 minutes'}"
        results.append(failed(name, what, f"Check the disk of {place} and the clock; Prometheus's log has the reason."))
    return results or [ok(name, "stores what is scraped")]


def _place(context: Context, place: Path) -> Iterator[Result]:
    """The disk of the database, as far as this user can see it; blocking."""
    name = "prometheus database"
    try:
        disk = os.statvfs(place)
    except OSError:  # it is another user's, or in a container
        return
    free = disk.f_bavail * disk.f_frsize
    if free < _LEAST_BYTES or (disk.f_files > 0 and disk.f_favail == 0):
        what = f"the disk of {place} is full: {format_size(free)} and {disk.f_favail} inodes are free"
        fix = "Free space there, or lower monitoring.retention and render again; then restart Prometheus."
        yield failed(name, what, fix)
    kind = context.file_system(place)
    if kind in VOLATILE:
        what = f"{place} is on {kind}, so metrics and the state of alerts are lost when the machine restarts"
        yield warning(name, what, "Give Prometheus a directory on a disk (--storage.tsdb.path).")


# --- what it scrapes


async def _scraping(context: Context, prometheus: Prometheus, *, young: bool) -> list[Result]:
    data = await prometheus.data("targets", ScrapeTargets, state="active")
    if data is None:
        return [skipped("scrape target", "Prometheus does not return what it scrapes")]
    active = data.active_targets
    if young and not active:
        return [warning("scrape target", "Prometheus scrapes nothing yet", LATER)]
    ours = [found for found in active if found.job == SERVER_JOB]
    target, *identity = await _target(context, prometheus, ours)
    down = await asyncio.to_thread(lambda: [*_down(context, active), *_duplicates(context, active)])
    return [target, *identity, *down]


async def _target(context: Context, prometheus: Prometheus, ours: Sequence[ScrapeTarget]) -> list[Result]:
    """Whether the server's own listener is scraped, and what came of it."""
    name, expected = "scrape target", f"http://{context.target.metrics}/metrics"
    fix = RENDER.format("Prometheus")
    if not ours:
        return [failed(name, f"Prometheus has no job {SERVER_JOB}", fix)]
    found = next((target for target in ours if _local(target.scrape_url) == _local(expected)), None)
    if found is None:
        urls = ", ".join(target.scrape_url for target in ours)
        return [failed(name, f"Prometheus scrapes {urls}; the server is at {expected}", fix)]
    return [ok(name, f"Prometheus scrapes {expected}"), *await _identity(found, prometheus)]


def _local(url: str) -> str:
    """An address with one name for this machine."""
    parts = urlsplit(url)
    own = {"localhost", "::1", socket.gethostname()}
    with contextlib.suppress(OSError):
        own |= {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    if (parts.hostname or "") in own:
        parts = parts._replace(netloc=f"127.0.0.1:{parts.port or 80}")
    return parts.geturl()


def _duplicates(context: Context, active: Sequence[ScrapeTarget]) -> Iterator[Result]:
    """Addresses that are scraped more than once: every sum over their series is too high."""
    places: dict[str, list[ScrapeTarget]] = {}
    for target in active:
        places.setdefault(_local(target.scrape_url), []).append(target)
    for url, targets in places.items():
        if len(targets) > 1:
            jobs = ", ".join(sorted({target.pool or target.job for target in targets}))
            result = failed if url == _local(f"http://{context.target.metrics}/metrics") else warning
            fix = "Remove all scrape_configs or targets but one for this address, and reload Prometheus."
            yield result("targets", f"{url} is scraped {len(targets)} times, by {jobs}: sums count it that often", fix)


async def _identity(target: ScrapeTarget, prometheus: Prometheus) -> list[Result]:
    """Whether what is scraped under the server's name is the server, and how much of it there is."""
    name = "scrape identity"
    if target.health != "up":  # a result of its own: the target is down
        return [skipped(name, "the server was not scraped" + (" yet" if target.health == "unknown" else ""))]
    instance = f'instance="{target.labels.get("instance", "")}"'
    if not await prometheus.query(f"{BUILD_INFO.name}{{{instance}}}"):
        fix = "Check which program listens on metrics.port; Prometheus itself must be on another port."
        return [failed(name, f"what answers is not the server: it has no {BUILD_INFO.name}", fix)]
    counted = await prometheus.query(f'count({{__name__=~"{PREFIX}.+", {instance}}})')
    series = counted[0].number if counted else 0.0
    if series > _SERIES:
        families = await prometheus.query(f'topk(3, count by (__name__) ({{__name__=~"{PREFIX}.+", {instance}}}))')
        most = ", ".join(f"{family.metric.get('__name__')} ({family.value[1]})" for family in families)
        fix = "Something between the server and Prometheus adds labels: see metric_relabel_configs and the targets."
        return [warning(name, f"the metrics are the server's own, but in {series:.0f} series; most are {most}", fix)]
    return [ok(name, f"the metrics are the server's own, {series:.0f} series")]


def _down(context: Context, active: Sequence[ScrapeTarget]) -> list[Result]:
    """Targets that do not answer, or are not scraped; blocking."""
    name = "targets"
    down = [
        failed(
            name,
            f"{target.job} at {target.scrape_url} is down: {target.last_error or 'no answer'}",
            _down_fix(context, target),
        )
        for target in active
        if target.health == "down"
    ]
    now = datetime.now(UTC)
    for target in active:
        with contextlib.suppress(ValueError):
            age, interval = (now - target.last_scrape).total_seconds(), parse_duration(target.scrape_interval)
            if target.last_scrape.year > 1 and age > 3 * interval + _STALE_SECONDS:
                what = f"{target.job} at {target.scrape_url} was last scraped {age:.0f} s ago"
                down.append(failed(name, what, "Prometheus hangs or is overloaded: see its log, and restart it."))
    if down:
        return down
    waiting = sum(target.health == "unknown" for target in active)
    if waiting:
        fix = "Wait for the first scrape (monitoring.scrape_interval), then check again."
        return [warning(name, f"{waiting} of {len(active)} were not scraped yet", fix)]
    return [ok(name, f"all {len(active)} answer")]


def _down_fix(context: Context, target: ScrapeTarget) -> str:
    with contextlib.suppress(ValueError):
        port = urlsplit(target.scrape_url).port
        holder = port_holder(port) if port is not None else None
        if holder is not None and holder.pid is not None and is_stopped(holder.pid):
            return f"{holder.name} is stopped (SIGSTOP). Resume it: kill -CONT {holder.pid}"
        least = scrape_timeout(context.settings.monitoring)
        if "deadline exceeded" in target.last_error and parse_duration(target.scrape_timeout) < least:
            what = f"scrape_timeout is {target.scrape_timeout}, the settings give {format_duration(least)}"
            return f"{what}: {RENDER.format('Prometheus')}"
        if holder is not None and "deadline exceeded" in target.last_error:
            return f"{holder.name} listens there and does not answer in time: see its log, and restart it."
    if "limit exceeded" in target.last_error:
        return f"See {runbook('MonitoringTargetDown')}; {RENDER.format('Prometheus')}"
    if "HTTP status" in target.last_error:
        return (
            "It answers, but not to this request: see its log, and its --web.* flags; or correct the target (path, "
            "parameters, authorization) and reload Prometheus."
        )
    started = START.format(PROGRAMS["blackbox_exporter"].binaries[-1])
    other = "Start what should answer there, or correct the target and reload Prometheus."
    return started if target.scrape_url.startswith(f"{context.blackbox}/probe") else other


# --- its alerts


_WATCHDOG: Final = "Watchdog"
_ARMED_SECONDS: Final = 10.0
SETTLE_SECONDS: Final = 7
"""After a reload Prometheus knows no Alertmanager for up to 5 s, and drops what fires (discovery.Manager, updatert)."""
_NOT_SENT: Final = {_WATCHDOG, "InfoInhibitor"}
"""Alerts that fire while nothing is wrong."""


class ActiveAlert(msgspec.Struct):
    """An alert that Alertmanager has."""

    labels: dict[str, str]


async def _firing(prometheus: Prometheus) -> list[Result]:
    """The alerts that fire; they are not the doctor's own result, so they fail nothing."""
    name = "alerts firing"
    data = await prometheus.data("rules", RuleGroups)
    rules: list[LoadedRule] = [rule for group in data.groups for rule in group.rules] if data is not None else []
    firing = [rule.name for rule in rules if rule.state == "firing" and rule.name not in _NOT_SENT]
    if not firing:
        return [ok(name, "none")]
    return [warning(name, listed(firing), f"See {runbook(firing[0])}")]


async def check_armed(context: Context, prometheus: Prometheus, *, young: bool) -> list[Result]:
    """Whether alerts cannot fire, because their metrics are missing or their limit is not set."""
    name = "alerts armed"
    # What Prometheus recorded before it was stopped, or before it had scraped, is in the results for another 5 minutes.
    limit = 6 * context.settings.monitoring.scrape_interval + _ARMED_SECONDS
    found = await prometheus.query(f"{UNARMED} and time() - timestamp({UNARMED}) < {limit:g}")
    reasons = {sample.metric.get("alert", "?"): sample.metric.get("reason", "?") for sample in found}
    if not reasons:
        return [ok(name, "every alert can fire")]
    what = "cannot fire: " + "; ".join(f"{alert} ({reason})" for alert, reason in sorted(reasons.items()))
    paging = sorted(
        alert.name for alert in all_alerts(Settings()) if alert.severity == "critical" and alert.name in reasons
    )
    if paging:
        return [warning(name, what, LATER if young else f"See {runbook(paging[0])}")]
    if any("collector" in reason for reason in reasons.values()):
        fix = "Start the node exporter with the rendered flags (systemd/prometheus-node-exporter.service)."
        return [warning(name, what, LATER if young else fix)]
    return [ok(name, what)]


async def check_route(context: Context, prometheus: Prometheus, *, young: bool) -> list[Result]:
    """Whether alerts get from Prometheus to Alertmanager: the one that always fires has to be there.

    Args:
        context: the server.
        prometheus: what has the alerts.
        young: whether Prometheus was started just now.
    """
    name = "alerts go to"
    data, runtime = await asyncio.gather(
        prometheus.data("alertmanagers", AlertmanagerTargets), prometheus.data("status/runtimeinfo", RuntimeInfo)
    )
    if data is not None and not data.active_alertmanagers and runtime is not None and runtime.loaded_at is not None:
        age = (datetime.now(UTC) - runtime.loaded_at).total_seconds()
        if 0 <= age < SETTLE_SECONDS and not young:
            await asyncio.sleep(SETTLE_SECONDS - age)
            data = await prometheus.data("alertmanagers", AlertmanagerTargets)
    if data is None:
        return [skipped(name, "Prometheus does not return where its alerts go")]
    active = [found.url for found in data.active_alertmanagers]
    port = context.settings.monitoring.alertmanager_port
    if not any(f":{port}/" in url for url in active):
        where = ", ".join(active) or "no Alertmanager"
        what = f"Prometheus sends its alerts to {where}; Alertmanager should be on port {port}"
        if young:
            return [warning(name, what, LATER)]
        return [failed(name, what, "Render the configuration again and reload Prometheus.")]
    firing = await prometheus.query(f'ALERTS{{alertname="{_WATCHDOG}", alertstate="firing"}}')
    reply = await get(f"{context.alertmanager}/api/v2/alerts", {"filter": f'alertname="{_WATCHDOG}"'})
    alerts = reply.read(list[ActiveAlert])
    if firing and alerts is not None and not alerts and not young:
        what = f"{context.alertmanager} has not received the alert that always fires (Watchdog)"
        return [warning(name, what, "It is sent once a minute: check again then; Prometheus's log has the reason.")]
    return [ok(name, context.alertmanager)]


# --- Alertmanager


_WATCHDOG_RECEIVER: Final = "watchdog"
"""The receiver of the alert that always fires; it notifies a program, not a user."""
SET_UP: Final = (
    "Set monitoring.slack_url_file, pagerduty_key_file, email_to or webhook_url(_file); render again, and reload "
    "Alertmanager."
)
Receivers = Mapping[str, Counter[str]]
"""The number of integrations of each receiver by kind: slack, pagerduty, email, webhook, ..."""


def read_receivers(text: str) -> Receivers:
    """The receivers of a configuration; none when it cannot be parsed."""
    try:
        return {
            receiver["name"]: Counter(
                {key.removesuffix("_configs"): len(ways) for key, ways in receiver.items() if key.endswith("_configs")}
            )
            for receiver in read_mapping(text)["receivers"]
        }
    except (TypeError, KeyError, AttributeError):
        return {}


async def receivers_of(url: str) -> Receivers | None:
    """The receivers of a running Alertmanager; None when it does not answer."""
    status = (await get(f"{url}/api/v2/status")).read(AlertmanagerStatus)
    return read_receivers(status.config.original) if status is not None else None


async def check_alertmanager(context: Context) -> list[Result]:
    """Alertmanager, its configuration, its receivers and its silences."""
    name, url = "alertmanager", context.alertmanager
    found = await receivers_of(url)
    if found is None:
        said = (await get(f"{url}/-/ready")).said
        port = context.settings.monitoring.alertmanager_port
        absent = failed(name, *await unanswered(name, port, said, "monitoring.alertmanager_port"))
        rest = ("alertmanager configuration", "receivers", "silences")
        return [absent, *(skipped(part, "Alertmanager does not answer") for part in rest)]
    configuration, receivers, silences = await asyncio.gather(
        check_alertmanager_configuration(context), _receivers(context, found), check_silences(context)
    )
    return [ok(name, f"answers at {url}"), *configuration, receivers, *silences]


async def _receivers(context: Context, found: Receivers) -> Result:
    """The receivers of alerts, and whether deliveries have failed."""
    name = "receivers"
    ways = sum((ways for receiver, ways in found.items() if receiver != _WATCHDOG_RECEIVER), Counter[str]())
    wanted = _configured_ways(context.settings.monitoring)
    if not ways and not wanted:
        return warning(name, "Alertmanager notifies no user: no receiver has an integration", SET_UP)
    kinds = ", ".join(sorted(ways)) or "no user"
    missing = sorted(wanted - ways.keys())
    if missing:
        what = f"the settings have {', '.join(missing)}, which Alertmanager does not know; it notifies {kinds}"
        return failed(name, what, RENDER.format("Alertmanager"))
    samples = read_samples((await get(f"{context.alertmanager}/metrics")).text)
    refused: Counter[str] = Counter()
    for sample in samples:
        if sample.name == "alertmanager_notifications_failed_total" and sample.value > 0:
            refused[sample.labels.get("integration", "?")] += int(sample.value)
    if refused:
        failures = ", ".join(f"{count} by {way}" for way, count in sorted(refused.items()))
        fix = f"Run pocket-agent doctor --alerts, and see {runbook('AlertDeliveryFailing')}"
        return warning(name, f"{kinds}; deliveries that failed since Alertmanager's start: {failures}", fix)
    return ok(name, f"alerts reach {kinds}")


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
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        return failed(name, f"{path} ({setting}) cannot be read: {reason}", fix)
    return failed(name, f"{path} ({setting}) is empty", fix) if empty else ok(name, f"{path} ({setting}) is there")


# --- the blackbox exporter


_MODULE: Final = "websocket_check"
_PROBE_SECONDS: Final = 8.0
"""Longer than the module's own time limit."""
_FAULT: Final = re.compile(r'level=(?:error|ERROR).*?msg="?([^"\n]*?)"?(?: err="?([^"\n]*)"?)?$', re.MULTILINE)


async def check_probe(context: Context) -> list[Result]:
    """The exporter's configuration, and a probe of the server by it."""
    name, address = "websocket probe", context.target.address
    url = f"{context.blackbox}/probe"
    # debug: the reply has the log of the probe, with the reason of a failure.
    module = _MODULE + context.suffix.replace("-", "_")
    reply = await get(url, {"target": address, "module": module, "debug": "true"}, seconds=_PROBE_SECONDS)
    if "probe_success" not in reply.text and "Unknown module" not in reply.text:
        port = context.settings.monitoring.blackbox_port
        what, fix = await unanswered("blackbox_exporter", port, reply.said, "monitoring.blackbox_port")
        result = warning if reply.status is None else failed
        return [
            skipped("blackbox exporter configuration", "the blackbox exporter does not answer"),
            result(name, f"the blackbox exporter cannot probe: {what}", fix),
        ]
    configuration = await check_blackbox_configuration(context)
    return [*configuration, _probed(reply, address)]


def _probed(reply: Reply, address: str) -> Result:
    name = "websocket probe"
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
