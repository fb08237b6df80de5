"""The Claude Code CLI: whether it is there, answers, and somebody is logged in."""

import asyncio

from pocket_agent.claude.command import build_environment
from pocket_agent.claude.confinement import ADVICE as ADVICE_CONFINEMENT
from pocket_agent.claude.installation import ADVICE, Installer
from pocket_agent.claude.login import is_logged_in
from pocket_agent.errors import ClaudeNotFoundError
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, warning
from pocket_agent.monitoring.doctor.patient import Patient
from pocket_agent.policy import examine_confinement


async def examine_agent(patient: Patient) -> list[Finding]:
    """The CLI as a server that is started from here would find it."""
    name, claude = "claude", patient.settings.claude
    environment = build_environment(patient.environment, claude.environment)
    try:
        found = await Installer(claude.binary, patient.candidates, environment).check(0)
    except ClaudeNotFoundError as error:
        message = error.message.removesuffix(ADVICE).strip().rstrip(".")
        fix = ADVICE if error.message.endswith(ADVICE) else "Run it by hand: what it prints tells why. " + ADVICE
        return [failed(name, message, fix)]
    told = f"{found.path}, version {found.version or 'not told'}"
    holes = "; ".join(f"{advisory.id} ({advisory.cve}): {advisory.what}" for advisory in found.advisories)
    findings = [warning(name, f"{told}: {holes}", found.vulnerability) if holes else ok(name, told)]
    if not patient.settings.demo and await is_logged_in(found.path, environment) is False:
        fix = "Run `claude` as the server's user and log in, or set ANTHROPIC_API_KEY; `serve --demo` needs neither."
        findings.append(warning("claude login", "nobody is logged in: executions will fail", fix))
    return [*findings, await _confinement(patient)]


async def _confinement(patient: Patient) -> Finding:
    """What agents could see of the machine, were the server started from here."""
    name = "confinement"
    found = await asyncio.to_thread(examine_confinement, patient.loaded, patient.environment)
    if not found.reason:
        return ok(name, f"{found.mode} (claude.confinement)")
    message = f"off: {found.reason.removesuffix(ADVICE_CONFINEMENT).strip().rstrip('.')}"
    finding = warning if patient.settings.claude.confinement is None else failed
    return finding(name, message, f"{ADVICE_CONFINEMENT} Without it agents can read the server's own data.")
