"""The doctor and the real stack: faults that are planted in it, named, and gone when they are removed."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pocket_agent.monitoring import render, write
from pocket_agent.monitoring.doctor import delivery, probes, stack_checks
from pocket_agent.monitoring.targets import PortHolder
from tests.harness.clinic import ALERTMANAGER, Clinic, Findings, open_clinic
from tests.harness.disk import fill, small_disk
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
    "series", "open files", "traces", "prometheus", "prometheus configuration", "prometheus database", "scrape target",
    "scrape identity", "targets", "rules", "alerts firing", "alerts armed", "alerts go to", "alertmanager",
    "alertmanager configuration", "receivers", "silences", "blackbox exporter configuration", "websocket probe",
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
    assert "WebSocketProbeFailed" in finding.fix or "just now" in finding.fix


async def test_collectors_that_the_node_exporter_does_not_run_are_named(clinic: Clinic) -> None:
    flags = ", ".join(f'"--no-collector.{name}"' for name in ("meminfo", "vmstat", "loadavg", "filesystem"))
    async with clinic.without("node_exporter"):
        clinic.stack.edit("local.json", '"--no-collector.systemd"', f'"--no-collector.systemd", {flags}')
    try:
        reasons = (
            "FilesystemSpaceLow (the node exporter's collector filesystem is off)",
            "MachineMemoryLow (the node exporter's collector meminfo is off)",
            "MachineOverloaded (the node exporter's collector loadavg or cpu is off)",
            "OutOfMemoryKill (the node exporter's collector vmstat is off)",
        )
        finding = await clinic.shows("alerts armed", "warning", *reasons)
    finally:
        async with clinic.without("node_exporter"):
            clinic.render()
    assert "prometheus-node-exporter.service" in finding.fix or "just now" in finding.fix


def deliveries(findings: Findings) -> list[tuple[str, str]]:
    """The status and the message of each result of the test alerts."""
    return [(finding.status, finding.message) for finding in findings if finding.name == "alert delivery"]


async def test_an_alert_of_each_severity_gets_from_prometheus_to_its_receivers(clinic: Clinic) -> None:
    findings = await clinic.look(alerts=True)
    assert findings.of("alert path").status == "ok"
    accepted = "accepted by webhook (receiver {}): check that it arrived"
    assert deliveries(findings) == [
        ("ok", f"{severity}: {accepted.format(receiver)}")
        for severity, receiver in (("critical", "slack"), ("warning", "slack"), ("info", "default"))
    ]
    names = {alert["labels"]["alertname"] for body in clinic.hook.bodies for alert in body["alerts"]}
    assert {f"PocketAgentDoctor{severity}" for severity in ("Critical", "Warning", "Info")} <= names
    # The label comes from Prometheus's global section: the alerts went through it.
    tested = [
        alert for body in clinic.hook.bodies for alert in body["alerts"] if "Doctor" in alert["labels"]["alertname"]
    ]
    assert {alert["labels"].get("monitor") for alert in tested} == {"pocket-agent-monitor"}
    assert not list((clinic.stack.folder / "prometheus" / "rules").glob("*doctor*")), "the rules are removed"


async def test_alerts_that_prometheus_drops_are_missed_by_severity(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_ARRIVAL_SECONDS", 15.0)
    drop = "alerting:\n  alert_relabel_configs:\n  - {action: drop, source_labels: [severity], regex: critical}\n"
    async with clinic.changed("prometheus", CONFIG, ("alerting:\n", drop)):
        findings = await clinic.look(alerts=True)
    path = findings.of("alert path")
    assert path.message == "test alerts of severity critical do not get from Prometheus to Alertmanager"
    assert {message.partition(":")[0] for _, message in deliveries(findings)} == {"warning", "info"}


async def test_alerts_that_prometheus_gives_another_severity_are_missed(clinic: Clinic) -> None:
    change = "alerting:\n  alert_relabel_configs:\n  - source_labels: [severity]\n    regex: critical\n"
    change += "    target_label: severity\n    replacement: info\n"
    async with clinic.changed("prometheus", CONFIG, ("alerting:\n", change)):
        path = (await clinic.look(alerts=True)).of("alert path")
    lost = "test alerts of severity critical do not get from Prometheus to Alertmanager with that severity: info"
    assert (path.status, path.message) == ("failed", lost)


async def test_a_prometheus_whose_rules_cannot_be_written_is_left_out(clinic: Clinic) -> None:
    """A file that was changed and not loaded is not loaded by the test either."""
    clinic.stack.edit(CONFIG, "monitor: pocket-agent-monitor", "monitor: changed")
    later = time.time() + 60
    os.utime(clinic.stack.folder / CONFIG, (later, later))
    try:
        findings = await clinic.look(alerts=True)
    finally:
        await clinic.put_back("prometheus")
    path = findings.of("alert path")
    assert (path.status, "has changed since it was loaded" in path.message) == ("skipped", True)
    assert [status for status, _ in deliveries(findings)] == ["ok"] * 3


async def test_a_webhook_that_refuses(clinic: Clinic) -> None:
    clinic.hook.status = 500
    try:
        findings = await clinic.look(alerts=True)
    finally:
        clinic.hook.status = 200
    assert deliveries(findings)[0] == (
        "failed", "critical: webhook (receiver slack) refuses the alert, or does not answer"
    )  # fmt: skip
    assert all("monitoring.webhook_url" in finding.fix for finding in findings if finding.name == "alert delivery")


async def test_a_webhook_that_takes_the_alert_and_never_answers(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "DELIVERY_SECONDS", 2.0)
    clinic.hook.released.clear()
    try:
        findings = await clinic.look(alerts=True)
    finally:
        clinic.hook.released.set()
    assert deliveries(findings)[0] == (
        "failed", "critical: webhook (receiver slack) has not accepted all test alerts within 2 s"
    )  # fmt: skip


async def test_a_silence_over_everything(clinic: Clinic) -> None:
    url = clinic.stack.url("alertmanager")
    command = ["amtool", f"--alertmanager.url={url}", "silence"]
    silence = await said(*command, "add", "--author=ann", "--comment=a test", "--duration=8760h", "alertname=~.+")
    try:
        findings = await clinic.look(alerts=True)
    finally:
        await said(*command, "expire", silence)
    delivery = next(finding for finding in findings if finding.name == "alert delivery")
    assert (delivery.status, silence in delivery.message) == ("failed", True)
    assert delivery.fix.endswith(f"{url} silence expire {silence}")
    found = findings.of("silences")
    assert (found.status, "critical alerts are silenced" in found.message) == ("failed", True)
    assert "by ann: 'a test'" in found.message
    assert found.fix.endswith(f"silence expire {silence}")


@pytest.mark.parametrize(
    ("matcher", "status"),
    [
        ("severity=critical", "warning"), ("alertname=ServiceDown", "warning"), ("alertname=SomethingElse", "ok"),
        ("job=node", "warning"), ("monitor=pocket-agent-monitor", "warning"), ("mountpoint=/", "warning"),
        ("team=another", "ok"), ("environment=another", "ok"), ("team!=another", "warning"),
    ],
)  # fmt: skip
async def test_silences_of_an_hour(clinic: Clinic, matcher: str, status: str) -> None:
    command = ["amtool", f"--alertmanager.url={clinic.stack.url('alertmanager')}", "silence"]
    silence = await said(*command, "add", "--comment=a test", "--duration=1h", matcher)
    try:
        assert (await clinic.look()).of("silences").status == status
    finally:
        await said(*command, "expire", silence)


@pytest.mark.parametrize(
    ("program", "name"),
    [("prometheus", "prometheus"), ("alertmanager", "alertmanager"), ("blackbox_exporter", "websocket probe")],
)
async def test_a_stopped_program_is_said_to_be_stopped(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, program: str, name: str
) -> None:
    """Its port accepts connections, so it is neither absent nor another program."""
    for module, limit in ((probes, "SECONDS"), (stack_checks, "_PROBE_SECONDS")):
        monkeypatch.setattr(module, limit, 1.0)
    pid = clinic.stack.pid(program)
    os.kill(pid, signal.SIGSTOP)
    try:
        finding = (await clinic.look()).of(name)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert finding.status in {"failed", "warning"}
    assert "is stopped (SIGSTOP)" in finding.message
    assert finding.fix == f"Resume it: kill -CONT {pid}"


@pytest.mark.parametrize(
    ("program", "name"),
    [("prometheus", "prometheus"), ("alertmanager", "alertmanager"), ("blackbox_exporter", "websocket probe")],
)
async def test_a_program_that_answers_below_another_path_does_not_hang(clinic: Clinic, program: str, name: str) -> None:
    async with clinic.without(program):
        clinic.stack.edit("local.json", '"--web.listen-address=', '"--web.route-prefix=/x", "--web.listen-address=')
    try:
        findings = await clinic.look(alerts=True)
    finally:
        async with clinic.without(program):
            clinic.render()
    found = [findings.of(name)] + [
        item for item in findings if item.name == "alert delivery" and name == "alertmanager"
    ]
    for finding in found:
        assert finding.status == "failed"
        assert "status 404" in finding.message
        assert "no --web.route-prefix" in finding.fix
        assert "hangs" not in finding.fix


@pytest.mark.parametrize(
    "holder", [PortHolder(1, "prometheus (process 1)"), PortHolder(None, "a process of another user")]
)
async def test_a_prometheus_that_reads_its_data_is_waited_for(holder: PortHolder) -> None:
    """A restart would let it begin again."""
    said = "status 503, Service Unavailable"
    what, fix = stack_checks._state("prometheus", 9091, holder, said, "monitoring.prometheus_port")
    assert what == f"{holder.name} at port 9091 is not ready: {said}"
    assert fix == "Wait for it; its log has its progress."


async def test_a_configuration_that_was_refused(clinic: Clinic) -> None:
    for program, path, name in (
        ("prometheus", CONFIG, "prometheus configuration"),
        ("alertmanager", ALERTMANAGER, "alertmanager configuration"),
        ("blackbox_exporter", "blackbox/blackbox.yml", "blackbox exporter configuration"),
    ):
        (clinic.stack.folder / path).write_text("nonsense: true\n", "utf-8")
        try:
            with pytest.raises(AssertionError):
                await clinic.stack.reload(program)
            finding = (await clinic.look()).of(name)
        finally:
            await clinic.put_back(program)
        assert finding.status == "failed"
        assert "at the last reload, and still runs with the configuration before it" in finding.message
        assert path in finding.fix


async def test_a_file_that_is_right_and_not_loaded(clinic: Clinic) -> None:
    async with clinic.changed("alertmanager", ALERTMANAGER, ("repeat_interval: 12h", "repeat_interval: 9d")):
        clinic.render()
        finding = (await clinic.look()).of("alertmanager configuration")
    assert finding.message == "route.repeat_interval is 9d: the settings give 12h"
    assert "not loaded. Reload: curl -X POST" in finding.fix


async def test_a_prometheus_whose_disk_is_full(clinic: Clinic, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk):
        async with clinic.without("prometheus"):
            clinic.stack.edit("local.json", "--storage.tsdb.path=.data/prometheus", f"--storage.tsdb.path={disk}")
        try:
            # The file of running queries is in memory, and Prometheus would die if its first page had no place.
            await clinic.stack.prometheus.scraped()
            fill(disk)
            full = await clinic.shows("prometheus database", "failed", f"the disk of {disk} is full: 0B and ")
            failing = await clinic.shows(
                "prometheus database", "failed", f"writing {disk} has failed", "wal_writes_failed"
            )
        finally:
            async with clinic.without("prometheus"):
                clinic.render()
    assert "Free space there" in full.fix
    assert "Free space on the disk" in failing.fix


async def test_a_prometheus_with_other_flags(clinic: Clinic) -> None:
    async with clinic.without("prometheus"):
        clinic.stack.edit("local.json", "retention.time=30d", "retention.time=1h")
        clinic.stack.edit(
            "local.json", '"--web.enable-lifecycle"', '"--web.enable-lifecycle", "--query.lookback-delta=1s"'
        )
    try:
        findings = await clinic.look()
    finally:
        async with clinic.without("prometheus"):
            clinic.render()
    assert [finding.message for finding in findings if finding.name == "prometheus flags"] == [
        "--query.lookback-delta=1s, which should be 5m", "--storage.tsdb.retention.time=1h, which should be 30d"
    ]  # fmt: skip


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
    assert skipped == {
        "traces", "prometheus configuration", "prometheus database", "scrape target", "targets", "rules", "alerts go to"
    }  # fmt: skip


async def test_a_prometheus_that_was_just_started_has_time(clinic: Clinic) -> None:
    async with clinic.without("prometheus"):
        pass
    findings = await clinic.look()
    assert findings.failures == set()
    assert findings.of("scrape target").fix == probes.LATER


async def test_a_prometheus_that_was_just_reloaded_knows_its_alertmanager_soon(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_YOUNG_SECONDS", 0.0)
    await clinic.shows("alerts go to", "ok")
    clinic.stack.edit(CONFIG, "alerting:\n  alertmanagers:\n  - ", "alerting:\n  alertmanagers:\n  - timeout: 9s\n    ")
    try:
        await clinic.stack.reload("prometheus")
        assert (await clinic.look()).of("alerts go to").status == "ok"
    finally:
        await clinic.put_back("prometheus")


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
    assert f"port {port} is taken by another program, prometheus-node-exporter (process " in finding.message


async def test_another_program_has_the_port_of_the_blackbox_exporter(clinic: Clinic) -> None:
    port = clinic.environment["PA_MONITORING_NODE_PORT"]
    finding = (await clinic.look(PA_MONITORING_BLACKBOX_PORT=port)).of("websocket probe")
    assert finding.status == "failed"
    assert f"port {port} is taken by another program, prometheus-node-exporter (process " in finding.message
    assert "monitoring.blackbox_port" in finding.fix


async def test_the_second_server_of_a_stack_is_not_compared_with_the_first(clinic: Clinic, tmp_path: Path) -> None:
    changed = {f"PA_{name}_PORT": str(free_port()) for name in ("METRICS", "SERVER_PLAIN")}
    first = load({**clinic.environment, **changed}, tmp_path, free_port()).settings
    programs = ("prometheus", "alertmanager", "blackbox_exporter")
    write(clinic.stack.folder, render(first, [clinic.stack.settings]), force=True)
    try:
        for program in programs:
            await clinic.stack.reload(program)
        await clinic.shows("scrape identity", "ok")
        findings = await clinic.look()
    finally:
        for program in programs:
            await clinic.put_back(program)
    assert findings.failures <= {"targets"}, "the first server does not run"
    assert findings.of("websocket probe").status == "ok"
    for name in ("prometheus configuration", "rules", "alertmanager configuration", "blackbox exporter configuration"):
        finding = findings.of(name)
        assert (finding.status, "not the first of the stack" in finding.message) == ("skipped", True)


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
        await clinic.shows("alerts go to", "warning", "has not received the alert that always fires (Watchdog)")


async def test_rules_that_lack_an_alert(clinic: Clinic) -> None:
    async with clinic.changed("prometheus", f"{RULES}availability.yml", ("alert: ServiceDown", "alert: ServiceGone")):
        finding = await clinic.shows("rules", "failed", "rendered ones are not loaded: ServiceDown")
    assert "monitoring render" in finding.fix


async def test_rules_of_other_settings(clinic: Clinic) -> None:
    await clinic.shows("rules", "ok")
    findings = await clinic.look(PA_ALERTS_DISK_FREE="5GiB", PA_ALERTS_MEMORY_RATIO="0.5")
    changed = {finding.message.partition(" ")[0] for finding in findings if finding.name == "rules"}
    assert {"DiskSpaceLow", "HighMemoryUsage"} <= changed
    assert {finding.status for finding in findings if finding.name == "rules"} <= {"failed", "warning"}


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


async def test_a_scrape_that_has_too_little_time_is_not_the_targets_fault(clinic: Clinic) -> None:
    async with clinic.changed("prometheus", CONFIG, ("job_name: node\n", "job_name: node\n  scrape_timeout: 1ms\n")):
        finding = await clinic.shows("targets", "failed", "node at ", "deadline exceeded")
    assert finding.fix.startswith("scrape_timeout is 1ms, the settings give 1s: Render the configuration again")


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


async def test_an_alertmanager_without_receivers(clinic: Clinic) -> None:
    settings = load({name: value for name, value in clinic.environment.items() if name != HOOK}, Path("/"), 8443)
    clinic.render(settings.settings)
    try:
        await clinic.stack.reload("alertmanager")
        stale = [finding for finding in await clinic.look() if finding.name == "receivers"]
        findings = await clinic.look(alerts=True, PA_MONITORING_WEBHOOK_URL="")
    finally:
        await clinic.put_back("alertmanager")
    messages = [finding.message for finding in stale]
    assert "the settings have webhook, which Alertmanager does not know; it notifies no user" in messages
    assert any("severity critical do not reach the webhook" in message for message in messages)
    assert all("monitoring render" in finding.fix for finding in stale)
    unset = findings.of("receivers")
    assert unset.message == "Alertmanager notifies no user: no receiver has an integration"
    assert "monitoring.slack_url_file" in unset.fix
    assert ("failed", "info: its receiver default has no integration, so no user is notified") in deliveries(findings)


async def test_a_receiver_that_alertmanager_does_not_know(clinic: Clinic, tmp_path: Path) -> None:
    file = tmp_path / "slack"
    findings = await clinic.look(PA_MONITORING_SLACK_URL_FILE=str(file))
    messages = [finding.message for finding in findings if finding.name == "receivers"]
    assert any("the settings have slack, which Alertmanager does not know" in message for message in messages)
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


async def test_a_blackbox_exporter_that_gives_probes_no_time(clinic: Clinic) -> None:
    flag = '"--config.file=blackbox/blackbox.yml"'
    async with clinic.without("blackbox_exporter"):
        clinic.stack.edit("local.json", flag, f'{flag}, "--timeout-offset=4.9"')
    try:
        finding = (await clinic.look()).of("blackbox exporter configuration")
    finally:
        async with clinic.without("blackbox_exporter"):
            clinic.render()
    assert (finding.status, "--timeout-offset=4.9" in finding.message) == ("warning", True)


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
