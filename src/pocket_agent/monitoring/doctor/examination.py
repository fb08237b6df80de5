"""The whole examination, one finding after the other."""

from collections.abc import AsyncIterator

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.doctor.alerting import examine_alerting, examine_delivery
from pocket_agent.monitoring.doctor.finding import Finding
from pocket_agent.monitoring.doctor.machine import examine_machine
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.server import examine_server
from pocket_agent.monitoring.target import target_of


async def examine(settings: Settings, *, alerts: bool = False) -> AsyncIterator[Finding]:
    """Look at everything.

    Args:
        settings: the server's.
        alerts: send a test alert to whoever gets alerts, too.
    """
    target = target_of(settings)
    trusted = target.ca_file if target.ca_file is not None and target.ca_file.exists() else None
    browser = Browser(trusted)
    for finding in examine_machine(settings):
        yield finding
    async for finding in examine_server(settings, target, browser):
        yield finding
    async for finding in examine_alerting(settings, target, browser):
        yield finding
    if alerts:
        yield await examine_delivery(settings, browser)
