"""`pocket-agent monitoring render` and `up` with the real programs, around a real server."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import psutil
import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import alive, eventually
from tests.harness.prometheus import Prometheus
from tests.harness.server import ServerProcess, free_port, write_standin
from tests.harness.up import Up

JOBS = {
    "pocket-agent",
    "blackbox",
    "blackbox-http",
    "node",
    "prometheus",
    "alertmanager",
    "blackbox-exporter",
}


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Up]:
    """A rendered stack of which only the exporters are installed: they are quick, and need nobody."""
    made = Up(tmp_path, {}, ("prometheus-node-exporter", "prometheus-blackbox-exporter"))
    await made.render(f"--data-dir={tmp_path / 'data'}")
    yield made
    await made.clean_up()


async def up(stack: Up) -> list[psutil.Process]:
    """Start the exporters; all processes of the command, the guard among them."""
    await stack.start()
    await stack.answers("NODE")
    await stack.answers("BLACKBOX")
    found = stack.family()
    assert len(found) == 3
    return found


async def gone(processes: Sequence[psutil.Process]) -> None:
    await eventually(lambda: not any(map(alive, processes)), "no process remains")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server with a certificate that it made itself, and a token for its metrics."""
    token = tmp_path / "metrics-token"
    token.write_text("let-prometheus-in\n", "utf-8")
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(free_port()),
        "PA_METRICS_TOKEN_FILE": str(token),
    }
    made = ServerProcess(tmp_path, env=env)
    made.tls_port = free_port()
    try:
        await made.start()
        yield made
    finally:
        await made.clean_up()


async def test_a_whole_stack_sees_the_server_and_itself_and_leaves_nothing(
    server: ServerProcess, tmp_path: Path
) -> None:
    env = {name: value for name, value in server.env.items() if name.startswith("PA_METRICS")}
    folder = tmp_path / "monitoring"
    folder.mkdir()
    stack = Up(folder, {**env, "PA_SERVER_PORT": str(server.tls_port), "PA_SERVER_PLAIN_PORT": str(server.port)})
    await stack.render(f"--data-dir={server.data_dir}")
    try:
        await stack.start()
        for name in ("PROMETHEUS", "ALERTMANAGER", "NODE", "BLACKBOX"):
            await stack.answers(name)
        prometheus = Prometheus(f"http://127.0.0.1:{stack.port('PROMETHEUS')}")
        await eventually(lambda: sees_everything(prometheus), "every target is up")
        await the_server_is_seen(prometheus)
        await the_rules_are_loaded(prometheus)
        await alerts_would_reach_alertmanager(prometheus, stack)
        processes = stack.family()
        assert len(processes) == 5
        assert stack.process is not None
        stack.process.send_signal(signal.SIGINT)
        assert await stack.ended() == 0
        await gone(processes)
    finally:
        await stack.clean_up()
    said = stack.log.read_text("utf-8")
    assert "grafana: not installed" in said
    assert f"prometheus: http://127.0.0.1:{stack.port('PROMETHEUS')} (" in said
    assert "prometheus        | " in said, "each line tells whose it is"


async def sees_everything(prometheus: Prometheus) -> bool:
    """Whether each target was reached, and each probe succeeded."""
    with contextlib.suppress(aiohttp.ClientError):
        targets = (await prometheus.get("targets"))["activeTargets"]
        up = {target["labels"]["job"] for target in targets if target["health"] == "up"}
        probes = await prometheus.values("probe_success", "job")
        return up == JOBS and probes == {("blackbox",): 1.0, ("blackbox-http",): 1.0}
    return False


async def the_server_is_seen(prometheus: Prometheus) -> None:
    """It is the server itself, under one instance for its metrics and its probes."""
    (instance,) = await prometheus.values("pocket_agent_build_info", "instance")
    assert set(await prometheus.values('up{job=~"pocket-agent|blackbox.*",instance!~".*:0"}', "instance")) >= {instance}
    assert set(await prometheus.values("probe_success", "instance")) == {instance}
    assert await prometheus.values("probe_ssl_earliest_cert_expiry > time()", "job") != {}
    assert await prometheus.values('{__name__=~"python_gc_.*|.*_created",job="pocket-agent"}') == {}


async def the_rules_are_loaded(prometheus: Prometheus) -> None:
    """All of them, and those that are evaluated often can be; for the others the first time may be minutes away."""

    async def evaluated() -> bool:
        groups = (await prometheus.get("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        faults = [(rule["name"], rule["lastError"]) for rule in rules if rule.get("lastError")]
        assert faults == []
        often = [rule for group in groups if group["interval"] < 60 for rule in group["rules"]]
        return len(rules) > 50 and all(rule["health"] == "ok" for rule in often)

    await eventually(evaluated, "all rules are evaluated")


async def alerts_would_reach_alertmanager(prometheus: Prometheus, stack: Up) -> None:
    """It is known to Prometheus, and there is nothing to tell of a server that is well."""

    async def known() -> bool:
        found = (await prometheus.get("alertmanagers"))["activeAlertmanagers"]
        return [one["url"] for one in found] == [f"http://127.0.0.1:{stack.port('ALERTMANAGER')}/api/v2/alerts"]

    await eventually(known, "Prometheus knows Alertmanager")
    alerts = (await prometheus.get("alerts"))["alerts"]
    assert {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"} == {"Watchdog"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_all(small: Up, number: signal.Signals) -> None:
    processes = await up(small)
    assert small.process is not None
    small.process.send_signal(number)
    assert await small.ended() == 0
    await gone(processes)


async def test_kill_ends_all(small: Up) -> None:
    processes = await up(small)
    assert small.process is not None
    small.process.kill()
    await small.ended()
    await gone(processes)


async def test_an_exporter_that_dies_is_started_again(small: Up) -> None:
    processes = await up(small)
    killed = next(process for process in processes if "node" in process.name())
    killed.kill()

    def is_back() -> bool:
        return any("node" in process.name() and process.pid != killed.pid for process in small.family())

    await eventually(is_back, "it is started again")
    await small.answers("NODE")
    assert small.process is not None
    assert small.process.returncode is None
    assert "node_exporter was killed by SIGKILL, and is started again in 1 s\n" in small.log.read_text()


async def test_an_alertmanager_that_does_not_start_ends_all_with_a_failure(tmp_path: Path) -> None:
    stack = Up(tmp_path, {}, ("prometheus-node-exporter", "prometheus-alertmanager"))
    await stack.render(f"--data-dir={tmp_path / 'data'}")
    (stack.folder / "alertmanager" / "alertmanager.yml").write_text("nonsense: true\n", "utf-8")
    try:
        await stack.start()
        assert await stack.ended() == 1
    finally:
        await stack.clean_up()
    said = stack.log.read_text("utf-8")
    assert said.count("alertmanager ended with status 1, and is started again in ") == 4
    assert "alertmanager ended with status 1 and does not keep running. Without it no alert is sent" in said
    assert f"pocket-agent monitoring check {stack.folder}" in said


async def test_a_reader_that_has_had_enough_ends_all(small: Up) -> None:
    """As in `pocket-agent monitoring up DIR | head -1`."""
    reading, writing = os.pipe()
    small.process = await small.command("up", str(small.folder), output=writing)
    os.close(writing)
    await small.answers("NODE")
    processes = small.family()
    os.close(reading)
    await noise(small.port("NODE"), small)
    await gone(processes)
    assert small.process.returncode == 0


async def noise(port: int, stack: Up) -> None:
    """Ask the node exporter until it has complained about something."""
    async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as http:
        assert stack.process is not None
        while stack.process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                await (await http.get(f"http://127.0.0.1:{port}/metrics?collect[]=nonsense")).read()
            await asyncio.sleep(0.05)


async def test_a_taken_port_is_told_before_anything_is_started(small: Up) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", small.port("BLACKBOX")))
        holder.listen()
        await small.start()
        assert await small.ended() == 1
    said = small.log.read_text()
    assert f"monitoring.blackbox_port: port {small.port('BLACKBOX')} is taken" in said
    assert "http://" not in said, "nothing was started"
    assert not (small.folder / ".data").exists()
