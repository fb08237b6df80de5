"""The doctor and the real stack: faults that are planted in it, named, and gone when they are removed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pocket_agent.monitoring.doctor import probes, stack_checks
from tests.harness.clinic import Clinic, Findings, open_clinic
from tests.harness.follow import eventually
from tests.harness.server import free_port
from tests.harness.stack import load
from tests.harness.tool import require_tool

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = "prometheus/prometheus.yml"
RULES = "prometheus/rules/pocket-agent-"
HOOK = "PA_MONITORING_WEBHOOK_URL"
NAMES = [
    "settings", "data directory", "data directory mode", "disk", "database", "log", "clock", "claude", "confinement",
    "certificate", "certificate in use", "server", "server version", "health: claude", "health: disk",
    "health: storage", "health: event_loop", "health: certificate", "health: queue", "plain listener", "metrics",
    "series", "open files", "traces", "prometheus", "scrape target", "scrape identity", "targets", "rules",
    "alerts firing", "alerts armed", "alerts go to", "alertmanager", "receivers", "websocket probe",
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clinic(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clinic]:
    """One for all tests: each puts back what it changed, and who needs all well waits for it."""
    for name in ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "prometheus-blackbox-exporter"):
        require_tool(name)
    async with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


async def test_in_a_healthy_stack_nothing_is_wrong(clinic: Clinic) -> None:
    findings = await clinic.recovers()
    assert [finding.name for finding in findings] == NAMES
    assert {finding.name: finding.status for finding in findings if finding.status != "ok"} == {"traces": "skipped"}
    assert not [finding for finding in findings if finding.fix]
    assert "ClaudeCostBudget (limits.cost_usd_per_day is 0)" in findings.of("alerts armed").message


async def test_an_alert_that_pages_and_cannot_fire_is_named(clinic: Clinic) -> None:
    # Prometheus marks the series of a changed target as stale; those of a removed job would remain for 5 minutes.
    async with clinic.changed("prometheus", CONFIG, ("replacement: blackbox\n", "replacement: other\n")):
        reason = "WebSocketProbeFailed (Prometheus has no target of the job blackbox)"
        finding = await clinic.shows("alerts armed", "warning", reason)
    assert "WebSocketProbeFailed" in finding.fix


async def test_a_test_alert_is_delivered(clinic: Clinic) -> None:
    finding = (await clinic.look(alerts=True)).of("alert delivery")
    assert (finding.status, finding.message) == ("ok", "a test alert was taken by webhook: see that it arrived")
    alerts = [alert for body in clinic.hook.bodies for alert in body["alerts"]]
    assert "PocketAgentDoctor" in {alert["labels"]["alertname"] for alert in alerts}


async def test_a_webhook_that_refuses(clinic: Clinic) -> None:
    clinic.hook.status = 500
    try:
        finding = (await clinic.look(alerts=True)).of("alert delivery")
    finally:
        clinic.hook.status = 200
    assert (finding.status, finding.message) == ("failed", "webhook refuses the alert, or does not answer")
    assert "monitoring.webhook_url" in finding.fix


async def test_a_webhook_that_takes_the_alert_and_never_answers(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_checks, "DELIVERY_SECONDS", 2.0)
    clinic.hook.released.clear()
    try:
        finding = (await clinic.look(alerts=True)).of("alert delivery")
    finally:
        clinic.hook.released.set()
    assert (finding.status, finding.message) == ("failed", "webhook has not taken a test alert within 2 s")


async def test_a_silence_over_everything(clinic: Clinic) -> None:
    url = clinic.stack.url("alertmanager")
    command = ["amtool", f"--alertmanager.url={url}", "silence"]
    silence = await said(*command, "add", "--comment=a test", "--duration=1h", "alertname=~.+")
    try:
        finding = (await clinic.look(alerts=True)).of("alert delivery")
    finally:
        await said(*command, "expire", silence)
    assert (finding.status, silence in finding.message) == ("failed", True)
    assert finding.fix.endswith(f"{url} silence expire {silence}")


async def said(program: str, *arguments: str) -> str:
    """What a program prints."""
    process = await asyncio.create_subprocess_exec(
        str(require_tool(program)), *arguments, stdout=asyncio.subprocess.PIPE, env={}
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().strip()


async def test_prometheus_is_down(clinic: Clinic) -> None:
    await clinic.recovers()
    async with clinic.without("prometheus"):
        findings = await clinic.look()
    finding = findings.of("prometheus")
    assert (finding.status, findings.failures) == ("failed", {"prometheus"})
    assert f"nothing answers at {clinic.stack.url('prometheus')}: connection refused" in finding.message
    assert "monitoring up" in finding.fix
    skipped = {finding.name for finding in findings if finding.status == "skipped"}
    assert skipped == {"traces", "scrape target", "targets", "rules", "alerts go to"}


async def test_a_prometheus_that_was_just_started_has_time(clinic: Clinic) -> None:
    async with clinic.without("prometheus"):
        pass
    findings = await clinic.look()
    assert findings.failures == set()
    assert findings.of("scrape target").fix == probes.LATER


async def test_another_program_has_the_port_of_prometheus(clinic: Clinic) -> None:
    port = clinic.environment["PA_MONITORING_NODE_PORT"]
    finding = (await clinic.look(PA_MONITORING_PROMETHEUS_PORT=port)).of("prometheus")
    assert finding.status == "failed"
    assert f"port {port} is taken by another program, prometheus-node-exporter (process " in finding.message
    assert "monitoring.prometheus_port" in finding.fix


async def test_another_program_has_the_port_of_alertmanager(clinic: Clinic) -> None:
    port = clinic.environment["PA_MONITORING_NODE_PORT"]
    finding = (await clinic.look(PA_MONITORING_ALERTMANAGER_PORT=port)).of("alertmanager")
    assert finding.status == "failed"
    assert "its port is taken by another program, prometheus-node-exporter (process " in finding.message


async def test_a_configuration_like_that_of_the_guide(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rules are found, another port is scraped, and the alerts go nowhere."""
    monkeypatch.setattr(probes, "_YOUNG_SECONDS", 0.0)
    own, other = (f"127.0.0.1:{clinic.environment[f'PA_{name}_PORT']}" for name in ("METRICS", "MONITORING_NODE"))
    manager, nowhere = f"127.0.0.1:{clinic.environment['PA_MONITORING_ALERTMANAGER_PORT']}", free_port()
    alertmanagers = "alertmanagers:\n  - static_configs:\n    - targets:\n      - "
    edits = (
        ("rules/*.yml", "alerts/*.yml"),
        (own, other),
        (alertmanagers + manager, f"{alertmanagers}127.0.0.1:{nowhere}"),
    )
    async with clinic.changed("prometheus", CONFIG, *edits):
        rules = await clinic.shows("rules", "failed", "Prometheus has loaded none: rule_files matches no file")
        scrape = await clinic.shows("scrape target", "failed", f"Prometheus scrapes http://{other}/metrics; ")
        route = await clinic.shows("alerts go to", "failed", f":{nowhere}/")
    assert "rule_files: rules/*.yml" in rules.fix
    assert f"the server is at http://{own}/metrics" in scrape.message
    assert f"Alertmanager should be on port {manager.rpartition(':')[2]}" in route.message
    await clinic.shows("scrape target", "ok")
    await clinic.shows("rules", "ok")


async def test_alerts_that_are_dropped_on_their_way(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_YOUNG_SECONDS", 0.0)
    drop = "alerting:\n  alert_relabel_configs:\n  - action: drop\n    source_labels: [alertname]\n"
    async with clinic.changed("prometheus", CONFIG, ("alerting:\n", drop)):
        async with clinic.without("alertmanager"):  # what it had got before is gone with it
            pass
        await clinic.shows("alerts go to", "warning", "has not got the alert that always fires (Watchdog)")


async def test_rules_that_lack_an_alert(clinic: Clinic) -> None:
    async with clinic.changed("prometheus", f"{RULES}availability.yml", ("alert: ServiceDown", "alert: ServiceGone")):
        finding = await clinic.shows("rules", "failed", "are not loaded: ServiceDown")
    assert "monitoring render" in finding.fix


async def test_rules_of_other_settings(clinic: Clinic) -> None:
    await clinic.shows("rules", "ok")
    findings = await clinic.look(PA_ALERTS_DISK_FREE="5GiB", PA_ALERTS_MEMORY_RATIO="0.5")
    finding = findings.of("rules")
    assert finding.status == "warning"
    assert finding.message.startswith("DiskSpaceLow, HighMemoryUsage ask another question")


async def test_rules_that_fail(clinic: Clinic) -> None:
    """Those of a version whose errors had no label for the operation: now many series stand on each side."""
    many = "expr: pocket_agent_errors_total * on (job) pocket_agent_requests_total"
    async with clinic.changed("prometheus", f"{RULES}pipeline.yml", ("expr: vector(1)", many)):
        finding = await clinic.shows("rules", "failed", "Watchdog cannot be evaluated: ")
    assert "many" in finding.message


async def test_what_is_scraped_is_not_the_server(clinic: Clinic) -> None:
    """The guide's fault: Prometheus scrapes itself and finds that it is up."""
    own, port = clinic.environment["PA_METRICS_PORT"], clinic.environment["PA_MONITORING_PROMETHEUS_PORT"]
    found = Findings()

    async def is_told() -> bool:
        found[:] = await clinic.look(PA_METRICS_PORT=port)
        return "scrape identity" in found.failures

    async with clinic.changed("prometheus", CONFIG, (f"127.0.0.1:{own}", f"127.0.0.1:{port}")):
        await eventually(is_told, "Prometheus scrapes itself")
    assert found.of("scrape target").status == "ok"
    assert "what answers is not the server" in found.of("scrape identity").message
    metrics = found.of("metrics")
    assert f"port {port} is taken by Prometheus itself, prometheus (process " in metrics.message
    assert f"--web.listen-address=127.0.0.1:{port}" in metrics.fix


async def test_a_target_is_down(clinic: Clinic) -> None:
    port = clinic.environment["PA_MONITORING_NODE_PORT"]
    async with clinic.without("node_exporter"):
        # The scrape that was under way when it ended fails otherwise.
        down = f"node at http://127.0.0.1:{port}/metrics is down: "
        await clinic.shows("targets", "failed", down, "connection refused")
    await clinic.shows("targets", "ok")


async def test_more_series_than_a_scrape_may_have(clinic: Clinic) -> None:
    async with clinic.changed("prometheus", CONFIG, ("sample_limit: 2000", "sample_limit: 100")):
        finding = await clinic.shows("targets", "failed", "pocket-agent at ")
    assert "sample limit exceeded" in finding.message


async def test_labels_that_multiply_the_series(clinic: Clinic) -> None:
    """Three targets under the name of one: whoever adds labels outside of the server has more than it gives."""
    own = f"127.0.0.1:{clinic.environment['PA_METRICS_PORT']}"
    there = own.replace("127.0.0.1", "localhost")
    copies = "".join(f"  - targets:\n    - {there}\n    labels:\n      copy: {name}\n" for name in ("one", "two"))
    relabel = "  relabel_configs:\n  - target_label: job\n    replacement: pocket-agent\n"
    same = f"  - target_label: instance\n    replacement: {own}\n"
    async with clinic.changed("prometheus", CONFIG, (relabel, copies + relabel + same)):
        finding = await clinic.shows("scrape identity", "warning", "series; most are pocket_agent_")
    assert "metric_relabel_configs" in finding.fix


async def test_alertmanager_is_down(clinic: Clinic) -> None:
    async with clinic.without("alertmanager"):
        findings = await clinic.look(alerts=True)
    assert {"alertmanager", "alert delivery"} <= findings.failures
    assert "connection refused" in findings.of("alertmanager").message
    assert "prometheus-alertmanager" in findings.of("alertmanager").fix
    assert findings.of("receivers").status == "skipped"


async def test_alertmanager_tells_nobody(clinic: Clinic) -> None:
    settings = load({name: value for name, value in clinic.environment.items() if name != HOOK}, Path("/"), 8443)
    clinic.render(settings.settings)
    try:
        await clinic.stack.reload("alertmanager")
        stale = (await clinic.look()).of("receivers")
        findings = await clinic.look(alerts=True, PA_MONITORING_WEBHOOK_URL="")
    finally:
        await clinic.put_back("alertmanager")
    assert stale.message == "the settings have webhook, which Alertmanager does not know; it tells nobody"
    assert "monitoring render" in stale.fix
    assert findings.of("receivers").message == "Alertmanager tells nobody: no receiver is set up"
    assert "monitoring.slack_url_file" in findings.of("receivers").fix
    delivery = findings.of("alert delivery")
    assert delivery.status == "failed"
    assert delivery.message == "a critical alert goes to pagerduty, slack, which tells nobody"


async def test_a_receiver_that_alertmanager_does_not_know(clinic: Clinic, tmp_path: Path) -> None:
    file = tmp_path / "slack"
    findings = await clinic.look(PA_MONITORING_SLACK_URL_FILE=str(file))
    assert "the settings have slack, which Alertmanager does not know" in findings.of("receivers").message
    assert findings.of("receiver file").status == "failed"
    file.write_text("\n", "utf-8")
    assert "is empty" in (await clinic.look(PA_MONITORING_SLACK_URL_FILE=str(file))).of("receiver file").message
    file.write_text("https://hooks.example/secret\n", "utf-8")
    finding = (await clinic.look(PA_MONITORING_SLACK_URL_FILE=str(file))).of("receiver file")
    assert finding.status == "ok"
    assert "secret" not in finding.message


async def test_a_blackbox_exporter_with_the_modules_of_somebody_else(clinic: Clinic) -> None:
    path = "blackbox/blackbox.yml"
    async with clinic.changed("blackbox_exporter", path, ("websocket_check:", "http_2xx:")):
        finding = (await clinic.look()).of("websocket probe")
    assert finding.status == "failed"
    assert 'Unknown module "websocket_check"' in finding.message
    assert "blackbox.yml" in finding.fix


async def test_a_probe_that_trusts_another_certificate(clinic: Clinic) -> None:
    certificate = str(clinic.server.data_dir / "tls" / "cert.pem")
    async with clinic.changed("blackbox_exporter", "blackbox/blackbox.yml", (certificate, "/dev/null")):
        finding = (await clinic.look()).of("websocket probe")
    assert finding.status == "failed"
    assert "does not upgrade to a WebSocket: " in finding.message


async def test_the_blackbox_exporter_is_down(clinic: Clinic) -> None:
    async with clinic.without("blackbox_exporter"):
        finding = (await clinic.look()).of("websocket probe")
    assert (finding.status, "connection refused" in finding.message) == ("warning", True)


async def test_the_server_is_killed(clinic: Clinic) -> None:
    await clinic.server.kill()
    try:
        findings = await clinic.look()
    finally:
        await clinic.server.start()
    assert {"server", "metrics", "websocket probe"} <= findings.failures
    assert f"nothing answers at https://127.0.0.1:{clinic.server.tls_port}" in findings.of("server").message
    assert "pocket-agent serve" in findings.of("server").fix
    assert findings.of("health").status == "skipped"
