"""Prometheus: whether it runs, and whether the server's figures get into it."""

import asyncio
from collections.abc import Sequence
from typing import Final

from pocket_agent.monitoring.doctor.alert import examine_route, examine_rules
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, skipped, warning
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.monitoring.doctor.prometheus import LATER, Prometheus, ScrapeTarget, ScrapeTargets, Version
from pocket_agent.monitoring.targets import SERVER_JOB, port_holder
from pocket_agent.observability.catalogue import BUILD_INFO, PREFIX

START: Final = "Start it: pocket-agent monitoring up DIR, or systemctl start {}."
RENDER: Final = "Render the configuration again (pocket-agent monitoring render DIR), put it in place and reload {}."
_SERIES: Final = 1000
"""Series of one server beyond which something outside of it adds labels."""


async def examine_prometheus(patient: Patient, browser: Browser) -> list[Finding]:
    """Prometheus, what it scrapes, its rules and where its alerts go."""
    prometheus = Prometheus(patient.prometheus, browser)
    version, ready, young = await asyncio.gather(
        prometheus.data("status/buildinfo", Version), prometheus.page("/-/ready"), prometheus.is_young()
    )
    if version is None or ready.status != 200:
        absent = await _absent(patient, prometheus, ready.said, known=version is not None)
        names = ("scrape target", "targets", "rules", "alerts go to")
        return [absent, *(skipped(name, "Prometheus does not answer") for name in names)]
    found = await asyncio.gather(
        _scraping(patient, prometheus, young=young),
        examine_rules(patient, prometheus),
        examine_route(patient, prometheus, browser, young=young),
    )
    here = ok("prometheus", f"version {version.version} is ready at {prometheus.url}")
    return [here, *(finding for findings in found for finding in findings)]


async def _absent(patient: Patient, prometheus: Prometheus, said: str, *, known: bool) -> Finding:
    """What is at Prometheus's address instead."""
    name, port = "prometheus", patient.settings.monitoring.prometheus_port
    if known:
        return failed(
            name, f"is at {prometheus.url}, and not ready: {said}", "Wait for it; its log tells what it does."
        )
    found = await asyncio.to_thread(port_holder, port)
    if found is not None:
        fix = f"End it, or choose another monitoring.prometheus_port than {port}, and render again."
        return failed(name, f"port {port} is taken by another program, {found.name}: {said}", fix)
    return failed(name, f"nothing answers at {prometheus.url}: {said}", START.format("prometheus"))


async def _scraping(patient: Patient, prometheus: Prometheus, *, young: bool) -> list[Finding]:
    data = await prometheus.data("targets", ScrapeTargets, state="active")
    if data is None:
        return [skipped("scrape target", "Prometheus does not tell what it scrapes")]
    active = data.active_targets
    if young and not active:
        return [warning("scrape target", "Prometheus scrapes nothing yet", LATER)]
    ours = [found for found in active if found.job == SERVER_JOB]
    target, *identity = await _target(patient, prometheus, ours)
    return [target, *identity, *_down(active)]


async def _target(patient: Patient, prometheus: Prometheus, ours: Sequence[ScrapeTarget]) -> list[Finding]:
    """Whether the server's own listener is scraped, and what came of it."""
    name, expected = "scrape target", f"http://{patient.target.metrics}/metrics"
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


async def _identity(target: ScrapeTarget, prometheus: Prometheus) -> list[Finding]:
    """Whether what is scraped under the server's name is the server, and how much of it there is."""
    name = "scrape identity"
    if target.health != "up":  # told as a target that is down
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


def _down(active: Sequence[ScrapeTarget]) -> list[Finding]:
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
