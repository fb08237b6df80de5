"""Whether there is a monitoring stack at all: who has none needs no list of what is missing in it."""

import asyncio
import contextlib
from typing import Final

from pocket_agent.monitoring.doctor.finding import Finding, skipped
from pocket_agent.monitoring.doctor.patient import Patient

_SECONDS: Final = 2.0


async def is_set_up(patient: Patient) -> bool:
    """Whether a stack runs, or somebody has chosen to have one.

    A node exporter alone does not count: many machines have one for another Prometheus.
    """
    stack = patient.settings.monitoring
    if patient.chosen("monitoring."):
        return True
    if await asyncio.to_thread(_is_installed, patient):
        return True
    ports = (stack.prometheus_port, stack.alertmanager_port, stack.blackbox_port)
    return any(await asyncio.gather(*(_listens(port) for port in ports)))


def absence() -> Finding:
    """That there is none, and how to get one."""
    return skipped(
        "monitoring",
        "no Prometheus runs here: nobody is told when something is wrong",
        "pocket-agent monitoring render DIR, then pocket-agent monitoring up DIR; docs/monitoring.md has the rest.",
    )


def _is_installed(patient: Patient) -> bool:
    """Whether a Prometheus that is a service of this machine is meant to scrape the server."""
    with contextlib.suppress(OSError):
        return b"pocket-agent" in patient.installed.read_bytes()
    return False


async def _listens(port: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
