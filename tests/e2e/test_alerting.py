"""From a fault to a person: real servers, the whole stack as it is rendered, and who alerts are sent to.

Six servers are watched by one stack. Five of them meet a fault each, all at the same time, because the waiting is
Alertmanager's: it gathers what belongs together for 10 seconds, and tells of what is over a minute later. How long
conditions must hold is shortened by the setting for it; the rules' expressions are as shipped.

`make test` runs one case: a server is killed, and PagerDuty and Slack are told. The others are marked `soak`; without
them only the servers of that case are started.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from tests.harness.claude import require_claude
from tests.harness.disk import fill, small_disk
from tests.harness.follow import eventually, run
from tests.harness.receiver import ROUTING_KEY, Note, Page, Receivers, receiving
from tests.harness.scene import scene
from tests.harness.server import ServerProcess, free_port, running_server, write_standin
from tests.harness.stack import Stack, load, stack_environment

from pocket_agent.errors import ClaudeNotFoundError
from pocket_agent.monitoring import render, write
from pocket_agent.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEBIBYTE = 2**20
FAILURES = 40
CONNECTIONS = 2
QUICK = ("well", "killed")
"""The servers of the tests that are not marked `soak`."""
OFTEN = {"PA_HEALTH_INTERVAL": "500ms", "PA_HEALTH_LOW_DISK": "0", "PA_HEALTH_LOOP_LAG": "1h"}
"""Settings that make faults show soon, and only those that a test makes."""
ALERTING = {
    # ServiceDown must hold for longer than the 5 seconds that Prometheus takes at its start to find its targets.
    "PA_ALERTS_FOR_SCALE": "0.12",
    "PA_ALERTS_DISK_FREE": "8MiB",
    # The machine may be busy with other tests.
    "PA_ALERTS_LOOP_LAG": "1s",
    "PA_ALERTS_RESTARTS": "10",
}


@dataclass
class Watched:
    """What runs.

    Attributes:
        stack: Prometheus, Alertmanager and the exporters.
        receivers: who is told.
        servers: by the fault that they meet; those whose fault cannot be had here are missing.
    """

    stack: Stack
    receivers: Receivers
    servers: dict[str, ServerProcess] = field(default_factory=dict)

    def instance(self, name: str) -> str:
        """How a server is called by its metrics."""
        return f"127.0.0.1:{self.servers[name].env['PA_METRICS_PORT']}"

    async def noted(self, alert: str, name: str) -> Note:
        """What Slack is told of an alert of a server; it leads to the runbook."""
        note = await self.receivers.note(alert, self.instance(name))
        assert f"/docs/runbooks/{alert}" in note.text
        assert "/d/pocket-agent-" in note.text
        return note

    async def paged(self, alert: str, name: str) -> Page:
        """What PagerDuty is told of it; it leads to the runbook."""
        page = await self.receivers.page(alert, self.instance(name))
        runbook, dashboard = page.links
        assert runbook.endswith(f"/docs/runbooks/{alert}")
        assert "/d/pocket-agent-" in dashboard
        return page

    async def firing(self) -> set[tuple[str, str]]:
        """The alerts that have fired up to now, each with the name of the server that it is about, or its instance.

        The clock of the machine that the test runs on may really not be synchronised.
        """
        names = {self.instance(name): name for name in self.servers}
        ask = self.stack.prometheus.values
        fired = await ask('count_over_time(ALERTS{alertstate="firing"}[1h])', "alertname", "instance")
        unsynchronised = await ask("node_timex_sync_status == 0", "instance")
        true = {("ClockNotSynchronised", instance) for (instance,) in unsynchronised}
        return {(alert, names.get(instance, instance)) for alert, instance in fired if (alert, instance) not in true}


def environments(folder: Path, receivers: Receivers) -> dict[str, dict[str, str]]:
    """The settings of each server; those of the first are also the stack's."""
    (folder / "slack-url").write_text(receivers.slack_url, "utf-8")
    (folder / "pagerduty-key").write_text(ROUTING_KEY, "utf-8")
    standin = str(write_standin(folder))
    shared = {"PA_METRICS_ENABLED": "true", "PA_SERVER_PLAIN_PORT": "off", **OFTEN}
    stack = {
        **stack_environment(folder / "well" / "home"),
        **ALERTING,
        "PA_MONITORING_SLACK_URL_FILE": str(folder / "slack-url"),
        "PA_MONITORING_PAGERDUTY_KEY_FILE": str(folder / "pagerduty-key"),
        "PA_MONITORING_PAGERDUTY_URL": receivers.pagerduty_url,
        "PA_MONITORING_WATCHDOG_URL": receivers.watchdog_url,
    }
    own: Mapping[str, dict[str, str]] = {
        "well": {**stack, "PA_CLAUDE_BINARY": str(require_claude())},
        "killed": {},
        "full": {"PA_LIMITS_MIN_FREE_DISK": "4MiB"},
        "failing": {},
        "crowded": {"PA_LIMITS_MAX_CONNECTIONS": str(CONNECTIONS)},
        "bare": {"PA_CLAUDE_BINARY": str(folder / "nothing" / "claude")},
    }
    ports = {name: {"PA_METRICS_PORT": str(free_port())} for name in own}
    return {name: {"PA_CLAUDE_BINARY": standin, **shared, **own[name], **ports[name]} for name in own}


def settings_of(server: ServerProcess) -> Settings:
    """What a server runs with."""
    environment = {"HOME": str(server.home), **server.env, "PA_SERVER_TLS_ENABLED": "false"}
    return load(environment, server.data_dir, server.port).settings


@contextlib.contextmanager
def disk_of(folder: Path) -> Iterator[bool]:
    """A small disk for a server's data; whether there is one."""
    with contextlib.ExitStack() as mounted:
        try:
            folder.mkdir(parents=True)
            mounted.enter_context(small_disk(folder / "data"))
        except pytest.skip.Exception:
            yield False
        else:
            yield True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """The servers and the stack, all well."""
    folder = tmp_path_factory.mktemp("alerting")
    async with contextlib.AsyncExitStack() as running:
        receivers = await running.enter_async_context(receiving())
        chosen = environments(folder, receivers)
        if not any(item.path == request.path and item.get_closest_marker("soak") for item in request.session.items):
            chosen = {name: chosen[name] for name in QUICK}
        elif not running.enter_context(disk_of(folder / "full")):
            del chosen["full"]
        servers = {}
        for name, env in chosen.items():
            flags = ["--demo"] if name == "well" else []
            made = running_server(folder / name, env=env, flags=flags)
            servers[name] = await running.enter_async_context(made)
        first, *others = map(settings_of, servers.values())
        stack = Stack(folder / "stack", first)
        write(stack.folder, render(first, others))
        running.push_async_callback(stack.stop)
        await stack.start()
        made_all = Watched(stack, receivers, servers)
        await eventually(lambda: all_are_up(made_all), "every server is scraped")
        await servers["killed"].kill()
        async with contextlib.AsyncExitStack() as faulty:
            if len(servers) > len(QUICK):
                await faulty.enter_async_context(faults(made_all, folder))
            yield made_all


async def all_are_up(watched: Watched) -> bool:
    """Whether each server was scraped, and each probe succeeds."""
    up = await watched.stack.prometheus.values('up{job="pocket-agent"} == 1', "instance")
    probed = await watched.stack.prometheus.values('probe_success{job="blackbox"} == 1', "instance")
    return len(up) == len(probed) == len(watched.servers)


@contextlib.asynccontextmanager
async def faults(watched: Watched, folder: Path) -> AsyncIterator[None]:
    """Everything else that goes wrong, and some work where all is well."""
    servers = watched.servers
    if "full" in servers:
        fill(servers["full"].data_dir, leave=2 * MEBIBYTE)
    (folder / "project").mkdir()
    async with servers["failing"].client() as client:
        project = await client.create_project(str(folder / "project"))
        async with client.subscribe(project.id) as stream:
            for _ in range(FAILURES):
                await run(client, stream, "fail")
    async with servers["bare"].client() as client:
        project = await client.create_project(str(folder / "project"))
        with pytest.raises(ClaudeNotFoundError):
            await client.execute(project.id, "lines 1")
    async with scene(servers["well"], folder / "project") as here:
        for number in range(3):
            await here.run(f"demo:text {number}")
    async with aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as guests:
        crowded = servers["crowded"]
        headers = {"Authorization": f"Bearer {crowded.token}"}
        for _ in range(CONNECTIONS):
            await guests.enter_async_context(http.ws_connect(crowded.url, headers=headers))
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(crowded.url, headers=headers)
        yield


async def test_a_killed_server_pages_somebody(watched: Watched) -> None:
    page = await watched.paged("ServiceDown", "killed")
    assert (page.severity, page.summary) == ("critical", "Pocket Agent FIRING: ServiceDown (1)")
    assert "has not answered with the server's own metrics" in page.details["description"]
    note = await watched.noted("ServiceDown", "killed")
    assert "Pocket Agent Server is down" in note.text


@pytest.mark.soak
async def test_the_return_of_a_killed_server_is_told(watched: Watched) -> None:
    page = await watched.paged("ServiceDown", "killed")
    await watched.noted("ServiceDown", "killed")
    await watched.servers["killed"].start()
    instance = watched.instance("killed")
    over = await watched.receivers.page("ServiceDown", instance, action="resolve")
    assert over.key == page.key
    await watched.receivers.note("ServiceDown", instance, resolved=True)


@pytest.mark.soak
async def test_a_full_disk_pages_somebody(watched: Watched) -> None:
    if "full" not in watched.servers:
        pytest.skip("a small file system, which only root can mount")
    page = await watched.paged("DiskSpaceLow", "full")
    assert page.severity == "critical"
    note = await watched.noted("DiskSpaceLow", "full")
    assert re.search(r"has \d\.?\d*MiB left, less than 8MiB\.", note.text), note.text
    assert "The check disk of" in (await watched.noted("HealthCheckFailing", "full")).text


@pytest.mark.soak
async def test_a_flood_of_errors_is_told(watched: Watched) -> None:
    note = await watched.noted("HighErrorRate", "failing")
    assert "server errors per second, more than" in note.text
    assert "100% of the executions" in (await watched.noted("ExecutionsFailing", "failing")).text


@pytest.mark.soak
async def test_a_connection_beyond_the_limit_is_told(watched: Watched) -> None:
    note = await watched.noted("ConnectionsRejected", "crowded")
    assert "at its connection limit" in note.text
    note = await watched.noted("TooManyConnections", "crowded")
    assert "uses 100% of its connection limit" in note.text
    # A probe is no client: that the server is full has alerts of its own, and nobody is woken.
    crowded = watched.instance("crowded")
    assert [
        name for name, server in await watched.firing() if name == "WebSocketProbeFailed" and server == "crowded"
    ] == []
    assert await watched.stack.prometheus.value(f'probe_success{{job="blackbox", instance="{crowded}"}}') == 1


@pytest.mark.soak
async def test_a_missing_cli_is_told(watched: Watched) -> None:
    note = await watched.noted("HealthCheckFailing", "bare")
    assert f"The check claude of {watched.instance('bare')} has not been healthy" in note.text


@pytest.mark.soak
async def test_where_all_is_well_nothing_fires_but_the_watchdog(watched: Watched) -> None:
    await eventually(lambda: bool(watched.receivers.beats), "the dead man's switch is told")
    assert {beat["commonLabels"]["alertname"] for beat in watched.receivers.beats} == {"Watchdog"}
    # By now whatever could fire would have: the longest condition of a fault here must hold for less than two minutes.
    held = 'min_over_time(up{job="pocket-agent"}[2m]) == 1 and count_over_time(up{job="pocket-agent"}[2m]) > 110'

    async def for_two_minutes() -> bool:
        return (watched.instance("well"),) in await watched.stack.prometheus.values(held, "instance")

    await eventually(for_two_minutes, "the server is watched for two minutes")
    faulty = watched.servers.keys() - {"well"}
    assert {found for found in await watched.firing() if found[1] not in faulty} == {("Watchdog", "")}
    well = watched.instance("well")
    assert [note for note in watched.receivers.notes if well in note.text] == []
    assert [page for page in watched.receivers.pages if well in str(page.details)] == []
    assert await watched.stack.prometheus.value("sum(prometheus_rule_evaluation_failures_total)") == 0
    assert "level=error" not in watched.stack.log("alertmanager")
