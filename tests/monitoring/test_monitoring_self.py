"""The alerts on the monitoring itself, with a real Prometheus and Alertmanager that have no server to watch."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.harness.clinic import open_webhook
from tests.harness.follow import eventually
from tests.harness.server import free_port
from tests.harness.stack import Stack, load, stack_environment
from tests.harness.tool import GENERATIONS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Prometheus and Alertmanager alone; conditions of alerts need not hold for any time."""
    folder = tmp_path_factory.mktemp("self")
    environment = {**stack_environment(folder), "PA_ALERTS_FOR_SCALE": "0"}
    made = Stack(folder / "stack", load(environment, folder / "data", free_port()).settings)
    made.render()
    try:
        await made.start("prometheus", "alertmanager")
        yield made
    finally:
        await made.stop()


async def firing(stack: Stack, alert: str, **labels: str) -> None:
    """Wait until Prometheus has an alert."""
    matchers = "".join(f', {name}="{value}"' for name, value in labels.items())
    query = f'ALERTS{{alertname="{alert}", alertstate="firing"{matchers}}}'

    async def found() -> bool:
        return bool(await stack.prometheus.values(query))

    await eventually(found, f"{alert} fires")


async def ask(stack: Stack, path: str, body: Any = None) -> Any:
    """Ask Alertmanager, or send it something."""
    async with (
        aiohttp.ClientSession() as http,
        http.request("POST" if body else "GET", f"{stack.url('alertmanager')}/api/v2/{path}", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return await answer.json() if "json" in answer.content_type else None


async def test_a_silence_that_covers_a_critical_alert_is_reported(stack: Stack) -> None:
    await firing(stack, "ServiceDown")
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "alertname", "value": "ServiceDown", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "test",
        "comment": "test",
    }
    await ask(stack, "silences", silence)
    await firing(stack, "SilenceActive")
    await firing(stack, "CriticalAlertSilenced")


@pytest.mark.parametrize(("program", "file"), [("prometheus", "prometheus.yml"), ("alertmanager", "alertmanager.yml")])
async def test_a_refused_configuration_is_reported(stack: Stack, program: str, file: str) -> None:
    (stack.folder / program / file).write_text("global: [", "utf-8")
    async with aiohttp.ClientSession() as http, http.post(f"{stack.url(program)}/-/reload") as answer:
        assert answer.status == 500
    await firing(stack, "ConfigurationReloadFailed", job=program)
    stack.render()
    await stack.reload(program)


async def test_an_alert_of_severity_info_is_inhibited_unless_another_fires(stack: Stack) -> None:
    def alert(name: str, severity: str, instance: str) -> dict[str, Any]:
        labels = {"alertname": name, "severity": severity, "service": "pocket-agent", "instance": instance}
        return {"labels": labels, "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}

    inhibited, sent = "alone.example:9090", "other.example:9090"
    alerts = [alert("NoExecutionsRecently", "info", instance) for instance in (inhibited, sent)]
    await ask(stack, "alerts", [*alerts, alert("InfoInhibitor", "none", inhibited)])

    async def states() -> dict[str, str]:
        found = await ask(stack, "alerts")
        known = [one for one in found if one["labels"]["alertname"] == "NoExecutionsRecently"]
        return {one["labels"]["instance"]: one["status"]["state"] for one in known}

    async def expected() -> bool:
        return await states() == {inhibited: "suppressed", sent: "active"}

    await eventually(expected, "only the alert of one instance is inhibited")


@pytest.mark.parametrize("suite", GENERATIONS.values(), ids=list(GENERATIONS))
async def test_an_unreachable_dead_mans_switch_is_a_warning_of_its_own(tmp_path: Path, suite: str) -> None:
    """Notifications for users are webhooks, too, where Alertmanager can name its receivers."""
    environment = {
        **stack_environment(tmp_path),
        "PA_ALERTS_FOR_SCALE": "0",
        "PA_MONITORING_WATCHDOG_URL": f"http://127.0.0.1:{free_port()}/unreachable",
    }
    async with open_webhook() as hook:
        if suite:
            environment["PA_MONITORING_WEBHOOK_URL"] = hook.url
        stack = Stack(tmp_path / "stack", load(environment, tmp_path / "data", free_port()).settings, suite)
        stack.render()
        # A notification fails for good after a group interval.
        stack.edit("alertmanager/alertmanager.yml", "group_wait: 10s", "group_wait: 100ms")
        stack.edit("alertmanager/alertmanager.yml", "group_interval: 1m", "group_interval: 1s")
        try:
            await stack.start("prometheus", "alertmanager")
            await firing(stack, "DeadMansSwitchUnreachable")
            failing = await stack.prometheus.values('ALERTS{alertname="AlertDeliveryFailing"}')
            assert failing == {}
        finally:
            await stack.stop()
