"""Prometheus, Alertmanager and the exporters: whether figures get in and alerts get out."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, skipped, warning
from pocket_agent.monitoring.doctor.page import Browser
from pocket_agent.monitoring.target import Target

_UP: Final = "pocket-agent monitoring up DIR, or start its service"
_DELIVERY_SECONDS: Final = 30.0
"""How long a test alert may be under way: Alertmanager waits ten seconds for others of its group."""


async def examine_alerting(settings: Settings, target: Target, browser: Browser) -> AsyncIterator[Finding]:
    """What Prometheus, Alertmanager and the exporters tell."""
    stack = settings.monitoring
    prometheus = f"http://127.0.0.1:{stack.prometheus_port}"
    yield await _prometheus(prometheus, browser)
    async for finding in _targets(prometheus, target, browser):
        yield finding
    yield await _rules(prometheus, browser)
    yield await _route_of_alerts(prometheus, stack.alertmanager_port, browser)
    yield await _alertmanager(stack.alertmanager_port, browser)
    yield await _probe(stack.blackbox_port, target, browser)


async def _prometheus(url: str, browser: Browser) -> Finding:
    name = "prometheus"
    page = await browser.get(f"{url}/-/ready")
    if page.status == 200:
        return ok(name, f"is ready at {url}")
    return failed(name, f"does not answer at {url}: {page.fault or f'status {page.status}'}", f"Start it: {_UP}.")


async def _data(url: str, browser: Browser, **parameters: str) -> Any:
    """The `data` of an answer of Prometheus's API; None when there is none."""
    value = (await browser.get(url, **parameters)).value
    return value.get("data") if isinstance(value, dict) and value.get("status") == "success" else None


async def _targets(prometheus: str, target: Target, browser: Browser) -> AsyncIterator[Finding]:
    data = await _data(f"{prometheus}/api/v1/targets", browser, state="active")
    if data is None:
        yield skipped("targets", "Prometheus does not answer")
        return
    active = data["activeTargets"]
    ours = [found for found in active if found["labels"].get("job") == "pocket-agent"]
    expected = f"http://{target.metrics}/metrics"
    fix = "Render the configuration again (pocket-agent monitoring render DIR) and reload Prometheus."
    if not ours:
        yield failed("scrape target", "Prometheus has no job pocket-agent", fix)
    elif expected not in {_local(found["scrapeUrl"]) for found in ours}:
        found = ", ".join(found["scrapeUrl"] for found in ours)
        yield failed("scrape target", f"Prometheus scrapes {found}, the server is at {expected}", fix)
    else:
        yield ok("scrape target", f"Prometheus scrapes {expected}")
        yield await _identity(prometheus, target, browser)
    down = [found for found in active if found["health"] == "down"]
    for found in down:
        job = found["labels"].get("job", "?")
        message = f"{job} at {found['scrapeUrl']} is down: {found.get('lastError') or 'no answer'}"
        yield failed("targets", message, "Start what should answer there, or correct the target and reload Prometheus.")
    if not down:
        yield ok("targets", f"all {len(active)} answer")


def _local(url: str) -> str:
    return url.replace("//localhost:", "//127.0.0.1:")


async def _identity(prometheus: str, target: Target, browser: Browser) -> Finding:
    """Whether what is scraped under the server's name is the server."""
    query = f'count(pocket_agent_build_info{{instance="{target.metrics}"}}) or count(pocket_agent_build_info)'
    data = await _data(f"{prometheus}/api/v1/query", browser, query=query)
    if data and data["result"]:
        return ok("scrape identity", "the figures are the server's own")
    return failed(
        "scrape identity",
        "Prometheus has no pocket_agent_build_info: what it scrapes is not the server, or is not scraped yet",
        "See which program listens on metrics.port; Prometheus itself must be on another port.",
    )


async def _rules(prometheus: str, browser: Browser) -> Finding:
    name = "rules"
    data = await _data(f"{prometheus}/api/v1/rules", browser)
    if data is None:
        return skipped(name, "Prometheus does not answer")
    rules = [rule for group in data["groups"] for rule in group["rules"]]
    alerts = [rule for rule in rules if rule["type"] == "alerting"]
    fix = "Put the rendered rules/ beside prometheus.yml (rule_files: rules/*.yml) and reload Prometheus."
    if not alerts:
        return failed(name, "Prometheus has loaded no alert: rule_files matches nothing", fix)
    if "ServiceDown" not in {rule["name"] for rule in alerts}:
        return failed(name, f"{len(alerts)} alerts are loaded, ServiceDown is not among them", fix)
    broken = [rule for rule in rules if rule.get("health") == "err"]
    if broken:
        what = f"{broken[0]['name']} cannot be evaluated: {broken[0].get('lastError', '')}"
        return failed(name, what, "Render the rules again with the version of the server that runs.")
    return ok(name, f"{len(rules)} are loaded, {len(alerts)} of them alerts")


async def _route_of_alerts(prometheus: str, port: int, browser: Browser) -> Finding:
    name = "alerts go to"
    data = await _data(f"{prometheus}/api/v1/alertmanagers", browser)
    if data is None:
        return skipped(name, "Prometheus does not answer")
    active = [found["url"] for found in data["activeAlertmanagers"]]
    if not any(f":{port}/" in url for url in active):
        what = ", ".join(active) or "nobody"
        return failed(
            name,
            f"Prometheus sends its alerts to {what}, Alertmanager should be on port {port}",
            "Render the configuration again and reload Prometheus.",
        )
    return ok(name, active[0])


async def _alertmanager(port: int, browser: Browser) -> Finding:
    name = "alertmanager"
    url = f"http://127.0.0.1:{port}"
    status = (await browser.get(f"{url}/api/v2/status")).value
    if not isinstance(status, dict):
        return failed(name, f"does not answer at {url}", f"Start it: {_UP}.")
    config = str(status.get("config", {}).get("original", ""))
    if "_configs:" not in config:
        return warning(
            name,
            f"answers at {url}, but tells nobody: no receiver is set up",
            "Set monitoring.slack_url_file, pagerduty_key_file, email_to or webhook_url; render again and reload it.",
        )
    failures = _sum((await browser.get(f"{url}/metrics")).text, "alertmanager_notifications_failed_total")
    if failures:
        return warning(
            name,
            f"answers at {url}; {failures:.0f} deliveries have failed since it was started",
            "Its log tells why; check the receivers' files and addresses, then run pocket-agent doctor --alerts.",
        )
    return ok(name, f"answers at {url} and has receivers")


def _sum(exposition: str, name: str) -> float:
    """The sum of a family over its labels."""
    found = [line for line in exposition.splitlines() if line.startswith((name + "{", name + " "))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


async def _probe(port: int, target: Target, browser: Browser) -> Finding:
    """Whether a client gets in, as the blackbox exporter sees it."""
    name = "websocket probe"
    parameters = {"target": target.address, "module": "websocket_check"}
    page = await browser.get(f"http://127.0.0.1:{port}/probe", **parameters)
    if page.status is None:
        return warning(name, "the blackbox exporter does not answer", f"Start it: {_UP}.")
    if page.status != 200:
        return failed(name, page.text.strip()[:200], "Let the exporter use the rendered blackbox.yml, and reload it.")
    if _sum(page.text, "probe_success") == 1:
        return ok(name, f"{target.address} upgrades to a WebSocket")
    return failed(
        name,
        f"{target.address} does not upgrade to a WebSocket",
        "See whether the server answers, and whether its certificate is the ca_file of blackbox.yml (render again).",
    )


async def examine_delivery(settings: Settings, browser: Browser) -> Finding:
    """Send an alert through Alertmanager to whoever gets alerts, and see that none of the deliveries fails."""
    name = "alert delivery"
    url = f"http://127.0.0.1:{settings.monitoring.alertmanager_port}"
    before = await _deliveries(url, browser)
    if before is None:
        return failed(name, f"Alertmanager does not answer at {url}", f"Start it: {_UP}.")
    now = datetime.now(UTC)
    alert = {
        "labels": {
            "alertname": "PocketAgentDoctor",
            "severity": "critical",
            "service": "pocket-agent",
            "instance": f"doctor-{secrets.token_hex(4)}",
        },
        "annotations": {
            "summary": "A test of pocket-agent doctor",
            "description": "Nothing is wrong. This alert proves that alerts arrive; it resolves by itself.",
        },
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(minutes=2)).isoformat(),
    }
    page = await browser.post(f"{url}/api/v2/alerts", [alert])
    if page.status != 200:
        return failed(name, f"Alertmanager refuses an alert: {page.text[:200] or page.fault}", "See its log.")
    return await _delivered(name, url, before, browser)


async def _delivered(name: str, url: str, before: Mapping[str, float], browser: Browser) -> Finding:
    deadline = asyncio.get_running_loop().time() + _DELIVERY_SECONDS
    while True:
        after = await _deliveries(url, browser) or before
        if after["failed"] > before["failed"]:
            return failed(
                name,
                "a receiver refuses the alert, or does not answer",
                "Alertmanager's log names it; check the webhook's URL or the key in its file.",
            )
        if after["sent"] > before["sent"]:
            return ok(name, "a test alert was taken by a receiver; see that it arrived")
        if asyncio.get_running_loop().time() > deadline:
            return failed(
                name,
                f"no receiver got the alert within {_DELIVERY_SECONDS:.0f} s",
                "Set up a receiver (monitoring.slack_url_file, pagerduty_key_file, email_to or webhook_url), then "
                "render again.",
            )
        await asyncio.sleep(0.5)


async def _deliveries(url: str, browser: Browser) -> dict[str, float] | None:
    """Notifications that went well, and attempts that did not."""
    page = await browser.get(f"{url}/metrics")
    if page.status != 200:
        return None
    total = _sum(page.text, "alertmanager_notifications_total")
    refused = _sum(page.text, "alertmanager_notifications_failed_total")
    attempts = _sum(page.text, "alertmanager_notification_requests_failed_total")
    return {"sent": total - refused, "failed": refused + attempts}
