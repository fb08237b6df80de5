"""The blackbox exporter: whether a client gets in, as it is seen from outside."""

import re
from typing import Final

from pocket_agent.monitoring.doctor.exposition import read_samples, total
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, runbook, warning
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.monitoring.doctor.scrape import START

_MODULE: Final = "websocket_check"
_SECONDS: Final = 8.0
"""Longer than the module's own time limit."""
_FAULT: Final = re.compile(r'level=error.*?msg="?([^"\n]*?)"?(?: err="?([^"\n]*)"?)?$', re.MULTILINE)


async def examine_probe(patient: Patient, browser: Browser) -> Finding:
    """Let the exporter probe the server."""
    name, address = "websocket probe", patient.target.address
    url = f"{patient.blackbox}/probe"
    # With its log, which is how it tells why.
    page = await browser.get(url, {"target": address, "module": _MODULE, "debug": "true"}, seconds=_SECONDS)
    if page.status is None:
        fix = START.format("blackbox_exporter (Debian: prometheus-blackbox-exporter)")
        return warning(name, f"the blackbox exporter does not answer at {patient.blackbox}: {page.fault}", fix)
    if page.status != 200:
        what = f"the blackbox exporter cannot probe: {page.said}"
        return failed(name, what, "Let it use the rendered blackbox.yml (--config.file), and reload it.")
    if total(read_samples(page.text), "probe_success") == 1:
        return ok(name, f"{address} upgrades to a WebSocket")
    reasons = [": ".join(filter(None, found)) for found in _FAULT.findall(page.text)]
    why = f": {reasons[0]}" if reasons else ""
    fix = f"See {runbook('WebSocketProbeFailed')}"
    return failed(name, f"{address} does not upgrade to a WebSocket{why}", fix)
