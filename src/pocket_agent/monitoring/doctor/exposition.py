"""The server's metrics: whether they are its own, how many there are, and what they tell of losses."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from pocket_agent.config.conflict import connections_for
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, runbook, warning
from pocket_agent.monitoring.doctor.page import Browser, Page
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.monitoring.targets import port_holder
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import Metric
from pocket_agent.observability.revision import UNKNOWN, find_revision

SERIES: Final = 500
"""How many series a server may have; with any settings it has fewer."""
_FILES: Final = 1024
"""Open files that a server with its agents and clients should be allowed."""
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \S+)?")
"""A line of the text format 0.0.4 (prometheus.io, "Exposition formats")."""
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Sample(NamedTuple):
    """A line of a scrape."""

    name: str
    labels: dict[str, str]
    value: float


def read_samples(text: str) -> list[Sample]:
    """The samples of a scrape; what is none is left out."""
    samples = []
    for line in text.splitlines():
        found = _SAMPLE.fullmatch(line)
        if found is None:
            continue
        try:
            samples.append(Sample(found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])))
        except ValueError:
            continue
    return samples


def total(samples: Sequence[Sample], name: str) -> float:
    """The sum of a family over its labels."""
    return sum(sample.value for sample in samples if sample.name == name)


async def examine_metrics(patient: Patient, browser: Browser) -> list[Finding]:
    """What a scrape gives."""
    name, target = "metrics", patient.target
    if not patient.settings.metrics.enabled:
        return [warning(name, "are switched off", "Set metrics.enabled: true, and start the server again.")]
    if not patient.settings.metrics.port:
        fix = "Give metrics.port a number: Prometheus has to know it."
        return [warning(name, "are at any free port (metrics.port is 0), which is not known here", fix)]
    token = None
    if target.token_file is not None:
        try:
            token = (await asyncio.to_thread(target.token_file.read_text, "utf-8")).strip()
        except (OSError, UnicodeDecodeError) as error:
            fix = "Start the server, which makes it, or set metrics.token_file to a file that this user can read."
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            return [failed(name, f"the token {target.token_file} cannot be read: {reason}", fix)]
    page = await browser.get(f"http://{target.metrics}/metrics", token=token)
    samples = read_samples(page.text) if page.status == HTTPStatus.OK else []
    info = next((sample for sample in samples if sample.name == catalogue.BUILD_INFO.name), None)
    if info is None:
        return [await _stranger(page, samples, patient)]
    return [
        ok(name, f"answer at http://{target.metrics}/metrics"),
        *_revision(info),
        _series(samples),
        *_losses(samples),
        *_files(samples, patient),
    ]


async def _stranger(page: Page, samples: Sequence[Sample], patient: Patient) -> Finding:
    """What is at the address of the metrics instead."""
    name, target, port = "metrics", patient.target, patient.settings.metrics.port
    if page.status is None:
        fix = "Start the server. One that runs without its metrics was started with other settings."
        return failed(name, f"nothing answers at {target.metrics}: {page.fault}", fix)
    if page.status == HTTPStatus.UNAUTHORIZED:
        file = target.token_file
        fix = (
            f"{file} holds another token than the server read at its start: put that back, or start the server again."
            if file is not None
            else "The server was started with a token: set metrics.token_file to its file."
        )
        return failed(name, f"{target.metrics} refuses the token", fix)
    itself = any(sample.name == "prometheus_build_info" for sample in samples)
    found = await asyncio.to_thread(port_holder, port)
    who = f", {found.name}" if found is not None else ""
    what = "Prometheus itself" if itself else "another program"
    own = patient.settings.monitoring.prometheus_port
    fix = (
        f"Let Prometheus listen elsewhere (--web.listen-address=127.0.0.1:{own}; Debian: ARGS in "
        "/etc/default/prometheus), then start the server again. Or change metrics.port."
        if itself
        else f"End it, or choose another metrics.port than {port}; then start the server again."
    )
    return failed(name, f"port {port} is taken by {what}{who}", fix)


def _revision(info: Sample) -> Iterator[Finding]:
    running, installed = info.labels.get("revision", UNKNOWN), find_revision()
    if UNKNOWN not in {running, installed} and running != installed:
        fix = "Start the server again: agents that work go on meanwhile."
        yield warning("server revision", f"{running} is running, {installed} is installed", fix)


def _series(samples: Sequence[Sample]) -> Finding:
    name = "series"
    if len(samples) < SERIES:
        return ok(name, f"{len(samples)} in a scrape, fewer than the {SERIES} that there may be")
    largest = ", ".join(
        f"{family} ({count})" for family, count in Counter(item.name for item in samples).most_common(3)
    )
    fix = "Name fewer in metrics.models and metrics.projects. The server itself never has so many: report it."
    return warning(name, f"{len(samples)} in a scrape, more than {SERIES}; most are of {largest}", fix)


def _losses(samples: Sequence[Sample]) -> Iterator[Finding]:
    """What the server let go of since its start."""
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


def _files(samples: Sequence[Sample], patient: Patient) -> Iterator[Finding]:
    """How many files the server may have open; not every system tells."""
    name = "open files"
    used, most = (total(samples, f"process_{what}_fds") for what in ("open", "max"))
    if most <= 0:
        return
    text = f"{used:.0f} of {most:.0f}"
    fix = "Raise it (ulimit -n, LimitNOFILE= in the unit) to 4096 or more, and start the server again."
    wanted, room = patient.settings.limits.max_connections, connections_for(patient.settings, int(most))
    if used > most * patient.settings.alerts.limit_ratio:
        yield failed(name, f"{text}: connections and agents will be refused", fix)
    elif room < wanted:
        yield warning(name, f"{text}: room for {room} of {wanted} connections (limits.max_connections)", fix)
    elif most < _FILES:
        yield warning(name, f"{text}: that is few", fix)
    else:
        yield ok(name, text)
