"""The server: whether it answers, as whom, how it is, and whether its metrics are its own."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from cryptography import x509

from pocket_agent.claude.installation import ADVICE, Installer
from pocket_agent.config.settings import Settings
from pocket_agent.errors import ClaudeNotFoundError
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, skipped, warning
from pocket_agent.monitoring.doctor.machine import holder
from pocket_agent.monitoring.doctor.page import Browser, Page
from pocket_agent.monitoring.target import Target

_IDENTITY: Final = "pocket_agent_build_info"
_SERIES: Final = 500


async def examine_server(settings: Settings, target: Target, browser: Browser) -> AsyncIterator[Finding]:
    """What the server shows of itself."""
    yield await _claude(settings)
    yield _certificate(settings)
    yield await _answers(settings, target, browser)
    async for finding in _health(target, browser):
        yield finding
    yield await _metrics(settings, target, browser)


async def _claude(settings: Settings) -> Finding:
    name = "claude"
    try:
        found = await Installer(settings.claude.binary).find()
    except ClaudeNotFoundError as error:
        return failed(name, error.message.removesuffix(ADVICE).strip(), ADVICE)
    return ok(name, f"{found.path}, version {found.version or 'not told'}")


def _certificate(settings: Settings) -> Finding:
    name = "certificate"
    tls = settings.server.tls
    if not tls.enabled:
        return skipped(name, "TLS is off")
    path = tls.cert or settings.data.dir / "tls" / "cert.pem"
    try:
        until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        fix = "Give a readable PEM file as server.tls.cert, or leave it out and start the server: it makes one."
        return failed(name, f"{path} cannot be read: {error}", fix)
    left = (until - datetime.now(UTC)).total_seconds()
    fix = "Renew it, then send the server SIGHUP; one that the server made itself is renewed by a restart."
    if left <= 0:
        return failed(name, f"{path} expired on {until:%Y-%m-%d}", fix)
    if left < settings.health.certificate_notice:
        return warning(name, f"{path} expires on {until:%Y-%m-%d}", fix)
    return ok(name, f"{path} is good until {until:%Y-%m-%d}")


async def _answers(settings: Settings, target: Target, browser: Browser) -> Finding:
    name = "server"
    page = await browser.get(f"{target.url}/livez")
    if page.status == 200:
        return ok(name, f"answers at {target.url}")
    who = holder(settings.server.port)
    if page.status is not None or (who and "certificate" not in page.fault):
        return failed(
            name,
            f"another program answers at {target.url}: {who or f'status {page.status}'}",
            f"End it, or choose another server.port than {settings.server.port}.",
        )
    if "certificate" in page.fault:
        return failed(name, f"{target.url}: {page.fault}", "Renew the certificate, or name its CA to the clients.")
    return failed(
        name,
        f"nothing answers at {target.url}: {page.fault}",
        "Start it: pocket-agent serve (systemctl start pocket-agent).",
    )


async def _health(target: Target, browser: Browser) -> AsyncIterator[Finding]:
    page = await browser.get(f"{target.url}/health")
    health = page.value
    if not isinstance(health, dict) or not isinstance(health.get("checks"), dict):
        yield skipped("health", "the server does not answer")
        return
    for check, result in health["checks"].items():
        name = f"health: {check}"
        if result.get("status") == "healthy":
            yield ok(name, result.get("message") or "healthy")
        else:
            make = failed if result.get("status") == "unhealthy" else warning
            message = result.get("message") or str(result.get("status"))
            yield make(name, message, f"See the runbook: {target.url}/docs/runbooks/HealthCheckFailing")


async def _metrics(settings: Settings, target: Target, browser: Browser) -> Finding:
    name = "metrics"
    if not settings.metrics.enabled:
        return warning(name, "are switched off", "Set metrics.enabled: true.")
    token = None
    if target.token_file is not None:
        try:
            token = target.token_file.read_text("utf-8").strip()
        except OSError as error:
            fix = "Start the server, which makes it, or set metrics.token_file to a file that this user can read."
            return failed(name, f"the token {target.token_file} cannot be read: {error.strerror}", fix)
    return _exposition(name, await browser.get(f"http://{target.metrics}/metrics", token=token), settings, target)


def _exposition(name: str, page: Page, settings: Settings, target: Target) -> Finding:
    """What a scrape gave."""
    port = settings.metrics.port
    if page.status is None:
        return failed(name, f"nothing answers at {target.metrics}: {page.fault}", "Start the server.")
    if page.status == HTTPStatus.UNAUTHORIZED:
        return failed(name, "the token is refused", f"Use the one of the running server ({target.token_file}).")
    if _IDENTITY not in page.text:
        what = "Prometheus itself" if "prometheus_build_info" in page.text else "another program"
        who = holder(port)
        return failed(
            name,
            f"port {port} is taken by {what}{f', {who}' if who else ''}",
            f"Let Prometheus listen on {settings.monitoring.prometheus_port} "
            f"(--web.listen-address=127.0.0.1:{settings.monitoring.prometheus_port}), or change metrics.port.",
        )
    series = sum(1 for line in page.text.splitlines() if line and not line.startswith("#"))
    if series >= _SERIES:
        fix = "Shorten metrics.models and metrics.projects."
        return warning(name, f"{series} series, more than the {_SERIES} that are meant", fix)
    return ok(name, f"{series} series at {target.metrics}")
