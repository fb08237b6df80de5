"""The server: whether it answers, as whom, and how it finds itself."""

import asyncio
from typing import Final

import msgspec
import psutil

from pocket_agent import __version__
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, runbook, skipped, warning
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.monitoring.targets import listening_ports, port_holder, process_name
from pocket_agent.storage.location import database_path
from pocket_agent.storage.lock import lock_owner

_HEALTH_SECONDS: Final = 8.0
"""Longer than the server itself waits for a check that takes its time."""
_OTHER_SECONDS: Final = 2.0
"""How long a server that is asked in another form may take."""


class Check(msgspec.Struct):
    """A health check's result, as /health tells it."""

    status: str
    message: str = ""


class Health(msgspec.Struct):
    """What /health tells, whatever its status."""

    status: str
    version: str
    checks: dict[str, Check]


async def examine_server(patient: Patient, browser: Browser) -> list[Finding]:
    """What the server shows of itself."""
    url = patient.target.url
    if not patient.settings.server.port:
        return [skipped("server", "is at any free port (server.port is 0), which is not known here")]
    page = await browser.get(f"{url}/health", trusting=True, seconds=_HEALTH_SECONDS)
    health = page.read(Health)
    if health is None:
        fault = await _other_form(patient, browser)
        if fault is None:
            fault = await asyncio.to_thread(_why_silent, patient, page.said)
        return [fault, skipped("health", "the server does not answer")]
    return [
        ok("server", f"answers at {url}"),
        _version(health.version),
        *_health(health),
        *await _ready(patient, browser),
        *await _plain(patient, browser),
    ]


async def _other_form(patient: Patient, browser: Browser) -> Finding | None:
    """Whether it speaks TLS where it should not, or the other way round."""
    target = patient.target
    other = f"{'http' if target.tls else 'https'}://{target.address}"
    page = await browser.get(f"{other}/health", trusting=True, seconds=_OTHER_SECONDS)
    if page.read(Health) is None:
        return None
    fix = "Give doctor the settings that the server was started with (server.tls.enabled, --no-tls), or start it again."
    return failed("server", f"answers at {other}, not at {target.url}", fix)


def _why_silent(patient: Patient, said: str) -> Finding:
    """What is at the server's address instead."""
    name, url, port = "server", patient.target.url, patient.settings.server.port
    found, owner = port_holder(port), lock_owner(database_path(patient.settings.data.dir))
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
    if _is_stopped(owner):
        return failed(name, f"{who} is stopped: {said}", f"Let it go on: kill -CONT {owner}")
    fix = f"See the end of its log. kill {owner} ends it; its agents go on working, and the next server adopts them."
    return failed(name, f"{who} listens at {url}, and does not answer: {said}", fix)


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _version(running: str) -> Finding:
    name = "server version"
    if running == __version__:
        return ok(name, running)
    fix = "Start the server again: agents that work go on meanwhile."
    return warning(name, f"{running} is running, {__version__} is installed", fix)


def _health(health: Health) -> list[Finding]:
    """The server's own checks, each as a finding."""
    findings = []
    for check, result in health.checks.items():
        name, message = f"health: {check}", result.message or result.status
        fix = f"See {runbook('HealthCheckFailing')}"
        match result.status:
            case "healthy":
                findings.append(ok(name, message))
            case "unhealthy":
                findings.append(failed(name, message, fix))
            case _:
                findings.append(warning(name, message, fix))
    return findings


async def _ready(patient: Patient, browser: Browser) -> list[Finding]:
    """Whether it takes work; a check that keeps it from that is a finding already."""
    page = await browser.get(f"{patient.target.url}/readyz", trusting=True)
    reason = page.text.strip()
    if page.status == 200 or reason.startswith(("storage:", "disk:")):
        return []
    fix = "Wait until it is up; one that is stopping needs to be started again."
    return [failed("readiness", f"the server takes no work now: {reason or page.said}", fix)]


async def _plain(patient: Patient, browser: Browser) -> list[Finding]:
    """The plain listener, which a server does without when its port is taken."""
    name, port = "plain listener", patient.settings.server.plain_port
    if not patient.settings.server.tls.enabled or not port:
        return []
    page = await browser.get(f"http://127.0.0.1:{port}/health", seconds=_HEALTH_SECONDS)
    if page.read(Health) is not None:
        return [ok(name, f"answers at http://127.0.0.1:{port}")]
    found = await asyncio.to_thread(port_holder, port)
    who = f"port {port} is taken by another program, {found.name}" if found is not None else f"port {port}: {page.said}"
    fix = "End it and start the server again, or choose another server.plain_port (off: no such listener)."
    return [warning(name, f"{who}; the server goes without it", fix)]
