"""Checks of the server that runs: its health, its metrics, the collector of its traces."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import msgspec
from prometheus_client.samples import Sample

from pocket_agent import __version__
from pocket_agent.monitoring.doctor.probes import Reply, get, post, read_samples, total
from pocket_agent.monitoring.doctor.result import Context, Result, failed, ok, runbook, skipped, warning
from pocket_agent.monitoring.targets import is_stopped, listening_ports, port_holder, process_name
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import Metric
from pocket_agent.observability.revision import UNKNOWN, find_revision
from pocket_agent.observability.tracing import read_telemetry
from pocket_agent.settings import connections_for
from pocket_agent.storage.database import database_path, lock_owner

# --- the server


_HEALTH_SECONDS: Final = 8.0
"""Longer than the server itself waits for a check that takes its time."""
_OTHER_SECONDS: Final = 2.0
"""How long a server that is asked in another form may take."""


class HealthCheckReply(msgspec.Struct):
    """The result of a health check in the body of /health."""

    status: str
    message: str = ""


class HealthReply(msgspec.Struct):
    """The body of /health, whatever its status."""

    status: str
    version: str
    checks: dict[str, HealthCheckReply]


async def check_server(context: Context) -> list[Result]:
    """What the server answers, and what its health checks report."""
    url = context.target.url
    if not context.settings.server.port:
        return [skipped("server", "listens on any free port (server.port is 0), which doctor does not know")]
    reply = await get(f"{url}/health", trusting=True, seconds=_HEALTH_SECONDS)
    health = reply.read(HealthReply)
    if health is None:
        fault = await _other_form(context)
        if fault is None:
            fault = await asyncio.to_thread(_unanswered, context, reply.said)
        return [fault, skipped("health", "the server does not answer")]
    return [
        ok("server", f"answers at {url}"),
        _version(health.version),
        *_health(health),
        *await _ready(context),
        *await _plain(context),
    ]


async def _other_form(context: Context) -> Result | None:
    """Whether it uses TLS where the settings do not, or the other way round."""
    target = context.target
    other = f"{'http' if target.tls else 'https'}://{target.address}"
    reply = await get(f"{other}/health", trusting=True, seconds=_OTHER_SECONDS)
    if reply.read(HealthReply) is None:
        return None
    fix = "Give doctor the settings that the server was started with (server.tls.enabled, --no-tls), or start it again."
    return failed("server", f"answers at {other}, not at {target.url}", fix)


def _unanswered(context: Context, said: str) -> Result:
    """What is at the server's address instead."""
    name, url, port = "server", context.target.url, context.settings.server.port
    found, owner = port_holder(port), lock_owner(database_path(context.settings.data.dir))
    if found is not None and (found.pid is None or found.pid != owner):
        fix = f"End it, or choose another server.port than {port} and start the server."
        return failed(name, f"port {port} is taken by another program, {found.name}: {said}", fix)
    if owner is None:
        fix = "Start it: pocket-agent serve, or systemctl start pocket-agent."
        return failed(name, f"nothing answers at {url}: {said}", fix)
    who = process_name(owner) or f"process {owner}"
    if found is None:
        ports = ", ".join(map(str, listening_ports(owner))) or "no port"
        fix = "Give doctor the settings that it was started with (--config, PA_* variables), or start it again."
        return failed(name, f"{who} has the data directory and listens on {ports}, not on {port}", fix)
    if is_stopped(owner):
        return failed(name, f"{who} is stopped (SIGSTOP): {said}", f"Resume it: kill -CONT {owner}")
    fix = (
        f"It hangs: see the end of its log. kill {owner} ends it; its agents continue, and the next server adopts them."
    )
    return failed(name, f"{who} listens at {url}, and does not answer: {said}", fix)


def _version(running: str) -> Result:
    name = "server version"
    if running == __version__:
        return ok(name, running)
    fix = "Restart the server: agents continue while it is down."
    return warning(name, f"{running} is running, {__version__} is installed", fix)


def _health(health: HealthReply) -> list[Result]:
    """The server's own checks, each as a result."""
    results = []
    for check, result in health.checks.items():
        name, message = f"health: {check}", result.message or result.status
        fix = f"See {runbook('HealthCheckFailing')}"
        match result.status:
            case "healthy":
                results.append(ok(name, message))
            case "unhealthy":
                results.append(failed(name, message, fix))
            case _:
                results.append(warning(name, message, fix))
    return results


async def _ready(context: Context) -> list[Result]:
    """Whether it accepts executions; a failed health check is a result already."""
    reply = await get(f"{context.target.url}/readyz", trusting=True)
    reason = reply.text.strip()
    if reply.status == 200 or reason.startswith(("storage:", "disk:")):
        return []
    fix = "Wait until it has started; if it is stopping, start it again."
    return [failed("readiness", f"the server accepts no executions now: {reason or reply.said}", fix)]


async def _plain(context: Context) -> list[Result]:
    """The plain listener; a server whose port for it is taken runs without it."""
    name, port = "plain listener", context.settings.server.plain_port
    if not context.settings.server.tls.enabled or not port:
        return []
    reply = await get(f"http://127.0.0.1:{port}/health", seconds=_HEALTH_SECONDS)
    if reply.read(HealthReply) is not None:
        return [ok(name, f"answers at http://127.0.0.1:{port}")]
    found = await asyncio.to_thread(port_holder, port)
    who = (
        f"port {port} is taken by another program, {found.name}" if found is not None else f"port {port}: {reply.said}"
    )
    fix = "End it and start the server again, or choose another server.plain_port (off: no such listener)."
    return [warning(name, f"{who}; the server runs without it", fix)]


# --- its metrics


SERIES: Final = 500
"""How many series a server may have; with any settings it has fewer."""
_FILES: Final = 1024
"""Open files that a server with its agents and clients should be allowed."""


async def check_metrics(context: Context) -> list[Result]:
    """The result of a scrape."""
    name, target = "metrics", context.target
    if not context.settings.metrics.enabled:
        return [warning(name, "are off", "Set metrics.enabled: true, and restart the server.")]
    if not context.settings.metrics.port:
        fix = "Set metrics.port to a number: Prometheus has to know it."
        return [warning(name, "are on any free port (metrics.port is 0), which doctor does not know", fix)]
    token = None
    if target.token_file is not None:
        try:
            token = (await asyncio.to_thread(target.token_file.read_text, "utf-8")).strip()
        except (OSError, UnicodeDecodeError) as error:
            fix = "Start the server, which creates it, or set metrics.token_file to a file that this user can read."
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            return [failed(name, f"the token {target.token_file} cannot be read: {reason}", fix)]
    reply = await get(f"http://{target.metrics}/metrics", token=token)
    samples = read_samples(reply.text) if reply.status == HTTPStatus.OK else []
    info = next((sample for sample in samples if sample.name == catalogue.BUILD_INFO.name), None)
    if info is None:
        return [await _stranger(reply, samples, context)]
    return [
        ok(name, f"answer at http://{target.metrics}/metrics"),
        *_revision(info),
        _series(samples),
        *_losses(samples),
        *_files(samples, context),
    ]


async def _stranger(reply: Reply, samples: Sequence[Sample], context: Context) -> Result:
    """What is at the address of the metrics instead."""
    name, target, port = "metrics", context.target, context.settings.metrics.port
    if reply.status is None:
        fix = "Start the server; if it runs, it was started with other settings."
        return failed(name, f"nothing answers at {target.metrics}: {reply.fault}", fix)
    if reply.status == HTTPStatus.UNAUTHORIZED:
        file = target.token_file
        fix = (
            f"{file} has another token than the server read at its start: restore it, or restart the server."
            if file is not None
            else "The server was started with a token: set metrics.token_file to its file."
        )
        return failed(name, f"{target.metrics} refuses the token", fix)
    itself = any(sample.name == "prometheus_build_info" for sample in samples)
    found = await asyncio.to_thread(port_holder, port)
    who = f", {found.name}" if found is not None else ""
    what = "Prometheus itself" if itself else "another program"
    own = context.settings.monitoring.prometheus_port
    fix = (
        f"Let Prometheus listen elsewhere (--web.listen-address=127.0.0.1:{own}; Debian: ARGS in "
        "/etc/default/prometheus), then start the server again. Or change metrics.port."
        if itself
        else f"End it, or choose another metrics.port than {port}; then start the server again."
    )
    return failed(name, f"port {port} is taken by {what}{who}", fix)


def _revision(info: Sample) -> Iterator[Result]:
    running, installed = info.labels.get("revision", UNKNOWN), find_revision()
    if UNKNOWN not in {running, installed} and running != installed:
        fix = "Restart the server: agents continue while it is down."
        yield warning("server revision", f"{running} is running, {installed} is installed", fix)


def _series(samples: Sequence[Sample]) -> Result:
    name = "series"
    if len(samples) < SERIES:
        return ok(name, f"{len(samples)} in a scrape, fewer than the limit of {SERIES}")
    largest = ", ".join(
        f"{family} ({count})" for family, count in Counter(item.name for item in samples).most_common(3)
    )
    fix = "List fewer in metrics.models and metrics.projects. The server should never have that many: please report it."
    return warning(name, f"{len(samples)} in a scrape, more than {SERIES}; most are of {largest}", fix)


def _losses(samples: Sequence[Sample]) -> Iterator[Result]:
    """Telemetry that the server dropped since its start."""
    for metric, name, what in (
        (catalogue.TELEMETRY_DROPPED, "telemetry", "lost since its start"),
        (catalogue.METRIC_LABEL_OVERFLOW, "label values", "counted as other since its start"),
    ):
        lost = [sample for sample in samples if sample.name == metric.name and sample.value > 0]
        if lost:
            listed = ", ".join(f"{sample.value:.0f} of {_only_label(sample, metric)}" for sample in lost)
            alert = "TelemetryDropped" if metric is catalogue.TELEMETRY_DROPPED else "MetricLabelOverflow"
            yield warning(name, f"{what}: {listed}", f"See {runbook(alert)}")


def _only_label(sample: Sample, metric: Metric) -> str:
    (label,) = metric.labels
    return sample.labels.get(label, "?")


def _files(samples: Sequence[Sample], context: Context) -> Iterator[Result]:
    """The limit of open files; not every system exports it."""
    name = "open files"
    used, most = (total(samples, f"process_{what}_fds") for what in ("open", "max"))
    if most <= 0:
        return
    text = f"{used:.0f} of {most:.0f}"
    fix = "Raise it (ulimit -n, LimitNOFILE= in the unit) to 4096 or more, and start the server again."
    wanted, possible = context.settings.limits.max_connections, connections_for(context.settings, int(most))
    if used > most * context.settings.alerts.limit_ratio:
        yield failed(name, f"{text}: connections and agents will be refused", fix)
    elif possible < wanted:
        yield warning(name, f"{text}: enough for {possible} of {wanted} connections (limits.max_connections)", fix)
    elif most < _FILES:
        yield warning(name, f"{text}: the limit is low", fix)
    else:
        yield ok(name, text)


# --- traces


async def check_collector(context: Context) -> Result:
    """Send the collector an export without spans, which it must accept (OTLP, "OTLP/HTTP Request")."""
    name = "traces"
    traces = read_telemetry(context.settings, context.environment).traces
    if traces is None:
        return skipped(name, "are off")
    shown = _without_secret(traces.endpoint)
    # An ExportTraceServiceRequest without resource_spans is zero bytes.
    reply = await post(traces.endpoint, b"", "application/x-protobuf", dict(traces.headers))
    if reply.status == HTTPStatus.OK:
        return ok(name, f"{shown} accepts them")
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        fix = "Give the collector's credentials in traces.headers (or OTEL_EXPORTER_OTLP_HEADERS)."
        return failed(name, f"{shown} refuses the credentials: {reply.said}", fix)
    if reply.status is not None:
        fix = "Set traces.endpoint to a collector's OTLP receiver over HTTP (usually port 4318, not gRPC's 4317)."
        return failed(name, f"{shown} does not accept them: {reply.said}", fix)
    fix = "Start the collector, or correct traces.endpoint; until then only spans are lost."
    return failed(name, f"nothing answers at {shown}: {reply.fault}", fix)


def _without_secret(url: str) -> str:
    """An address without a name and password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
