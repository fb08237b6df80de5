"""The whole examination: everything at once, each part within a bound, told in a fixed order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from pocket_agent.monitoring.doctor.agent import examine_agent
from pocket_agent.monitoring.doctor.alertmanager import examine_alertmanager, examine_secrets
from pocket_agent.monitoring.doctor.certificate import examine_certificate
from pocket_agent.monitoring.doctor.collector import examine_collector
from pocket_agent.monitoring.doctor.delivery import DELIVERY_SECONDS, examine_delivery
from pocket_agent.monitoring.doctor.directory import examine_directory
from pocket_agent.monitoring.doctor.exposition import examine_metrics
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok
from pocket_agent.monitoring.doctor.machine import examine_clock, examine_log, kernel_time_state
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.monitoring.doctor.probe import examine_probe
from pocket_agent.monitoring.doctor.scrape import examine_prometheus
from pocket_agent.monitoring.doctor.server import examine_server
from pocket_agent.monitoring.doctor.stack import absence, is_set_up
from pocket_agent.observability.health import in_thread

_SECONDS: Final = 20.0
"""Longest part; the CLI alone may take eleven seconds to say nothing."""
_DISK_SECONDS: Final = 5.0

Findings = Finding | Iterable[Finding]


class Part(NamedTuple):
    """A part of the examination.

    Attributes:
        name: of its finding when it comes to nothing.
        look: what is found.
        seconds: how long it may take.
    """

    name: str
    look: Callable[[], Awaitable[Findings]]
    seconds: float = _SECONDS


async def examine(
    patient: Patient,
    *,
    alerts: bool = False,
    time_state: Callable[[], int | None] = kernel_time_state,
) -> list[Finding]:
    """Look at everything.

    Args:
        patient: the server.
        alerts: send a test alert to whoever gets alerts, too.
        time_state: tells the state of the clock.
    """
    found = await asyncio.gather(*(carry_out(part) for part in _parts(patient, alerts, time_state)))
    return [finding for findings in found for finding in findings]


def _parts(patient: Patient, alerts: bool, time_state: Callable[[], int | None]) -> list[Part]:
    browser, settings = Browser(), patient.settings
    on_disk = partial(_on_disk, "doctor-disk")
    parts = [
        Part("settings", partial(_settings, patient)),
        Part("data directory", on_disk(partial(examine_directory, settings)), _DISK_SECONDS),
        Part("log", on_disk(partial(examine_log, settings.logging)), _DISK_SECONDS),
        Part("clock", on_disk(lambda: examine_clock(time_state()))),
        Part("claude", partial(examine_agent, patient)),
        Part("certificate", partial(examine_certificate, settings, patient.target)),
        Part("server", partial(examine_server, patient, browser)),
        Part("metrics", partial(examine_metrics, patient, browser)),
        Part("traces", partial(examine_collector, patient, browser)),
        Part("receiver file", on_disk(lambda: list(examine_secrets(settings.monitoring))), _DISK_SECONDS),
        Part("monitoring", partial(_stack, patient, browser, wanted=alerts)),
    ]
    if alerts:
        parts.append(Part("alert delivery", partial(examine_delivery, patient, browser), DELIVERY_SECONDS + _SECONDS))
    return parts


async def carry_out(part: Part) -> Sequence[Finding]:
    """What a part finds; nothing that happens in it ends the others."""
    try:
        async with asyncio.timeout(part.seconds):
            found = await part.look()
    except TimeoutError:
        fix = "Something that it asks hangs: a disk, or a program. The other lines may tell which."
        return [failed(part.name, f"could not be examined within {part.seconds:g} s", fix)]
    except Exception as error:  # noqa: BLE001 - the border of a part
        what = f"could not be examined: {type(error).__name__}: {error}"
        return [failed(part.name, what, "This is a fault of pocket-agent doctor: please report it.")]
    return [found] if isinstance(found, Finding) else list(found)


def _on_disk(name: str, work: Callable[[], Findings]) -> Callable[[], Awaitable[Findings]]:
    """In a thread that nobody waits for when its disk hangs."""
    return lambda: in_thread(work, name)


async def _settings(patient: Patient) -> Finding:
    loaded = patient.loaded
    chosen = len(patient.chosen(""))
    return ok("settings", f"{loaded.file or 'no file'}; {chosen} of {len(loaded.sources)} are not the default")


async def _stack(patient: Patient, browser: Browser, *, wanted: bool) -> list[Finding]:
    """The monitoring stack, if there is one."""
    if not wanted and not await is_set_up(patient):
        return [absence()]
    parts = (
        Part("prometheus", partial(examine_prometheus, patient, browser)),
        Part("alertmanager", partial(examine_alertmanager, patient, browser)),
        Part("websocket probe", partial(examine_probe, patient, browser)),
    )
    found = await asyncio.gather(*(carry_out(part) for part in parts))
    return [finding for findings in found for finding in findings]
