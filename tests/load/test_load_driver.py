"""pocket_agent.load.driver against a real server: what is due is sent, whatever the server does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pocket_agent.client import Backoff, Client, UnreachableError
from pocket_agent.errors import ConfigurationError, ProjectNotFoundError
from pocket_agent.load import driver as module
from pocket_agent.load.driver import Driver
from pocket_agent.load.plan import Kind, Plan
from pocket_agent.load.report import Report
from pocket_agent.load.schedule import offsets
from pocket_agent.load.tally import Tally
from tests.harness.follow import eventually
from tests.harness.proxy import running_proxy
from tests.harness.server import ServerProcess, free_port, running_server, write_standin


@pytest.fixture
async def project_id(standin_server: ServerProcess, folder: Path) -> str:
    """A project of the server."""
    async with standin_server.client() as client:
        return (await client.create_project(str(folder))).id


def drive(server: ServerProcess, plan: Plan, *, url: str | None = None) -> Driver:
    """A driver for this server."""
    url = url or server.url
    connect = partial(Client, url, token=server.token, backoff=Backoff(0.01, 0.05))
    return Driver(plan, url, connect, None)


@pytest.fixture
async def frozen(standin_server: ServerProcess) -> AsyncIterator[psutil.Process]:
    """The process of the server, to be suspended; goes on at the end."""
    assert standin_server.process is not None
    process = psutil.Process(standin_server.process.pid)
    yield process
    process.resume()


async def test_each_kind_is_sent_and_answered(standin_server: ServerProcess, project_id: str) -> None:
    mix = {Kind.LIST: 2, Kind.JOIN: 1, Kind.HISTORY: 1, Kind.EXECUTE: 1}
    plan = Plan(
        connections=4, rate=50, duration_seconds=2, ramp_seconds=1, mix=mix, prompt="lines 3", allow_executions=True
    )
    report = await drive(standin_server, plan).run()
    due = len(list(offsets(50, 1, 2)))
    assert report.requests.scheduled == report.requests.answered == due
    numbers = {kind: figures.requests for kind, figures in report.requests.kinds.items()}
    assert numbers == {kind: pytest.approx(due * weight / 5, abs=1) for kind, weight in mix.items()}
    assert (report.connections.opened, report.connections.failed, report.connections.reconnects) == (4, 0, 0)
    assert report.messages.pushes > 0
    after = report.server.stats_after
    assert after is not None
    received = after.messages.received - report.server.stats_before.messages.received
    # The figures themselves are asked for once more, and prompts that still waited are taken back.
    assert received >= due + 1
    # Not before their time: one that is under way ends, none that waits runs on.
    async with standin_server.client() as client:

        async def over() -> bool:
            stats = await client.stats()
            return stats.executions.active == 0

        await eventually(over, "the last execution is over")
        (project,) = await client.projects()
        assert project.queue_depth == 0
        total = (await client.stats()).executions.total
    assert total == numbers[Kind.EXECUTE] - report.withdrawn


async def drive_frozen(
    server: ServerProcess, frozen: psutil.Process, plan: Plan, until: Callable[[Tally], bool]
) -> Report:
    """Stop the server just before the first request is due, and let it go on when `until` holds."""
    clients = 0

    def connect(**options: Any) -> Client:
        nonlocal clients
        clients += 1
        if clients == 2:
            frozen.suspend()
        return Client(server.url, token=server.token, **options)

    driver = Driver(plan, server.url, connect, None)
    running = asyncio.create_task(driver.run())
    await eventually(lambda: until(driver.tally), "what the server is stopped for")
    assert not driver.tally.answered
    frozen.resume()
    return await running


async def test_a_server_that_stands_still_changes_nothing_about_what_is_sent(
    standin_server: ServerProcess, frozen: psutil.Process
) -> None:
    plan = Plan(connections=2, rate=40, duration_seconds=2, ramp_seconds=0, mix={Kind.LIST: 1}, timeout_seconds=60)
    report = await drive_frozen(standin_server, frozen, plan, lambda tally: tally.scheduled == 80)
    assert report.requests.answered == 80
    latency = report.requests.latency
    assert latency is not None
    assert latency.count == 80
    # Half of them were due in the first second, and none was answered before the last was due.
    assert latency.p50_ms > 900


async def test_no_more_than_so_many_wait_for_their_answers(
    standin_server: ServerProcess, frozen: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 5)
    plan = Plan(connections=2, rate=50, duration_seconds=1, ramp_seconds=0, mix={Kind.LIST: 1}, timeout_seconds=60)
    report = await drive_frozen(standin_server, frozen, plan, lambda tally: tally.scheduled == 50)
    assert report.requests.answered == 5
    assert report.requests.errors == {"NOT_SENT": 45}
    assert not report.passed


async def test_requests_that_are_not_answered(standin_server: ServerProcess, frozen: psutil.Process) -> None:
    plan = Plan(connections=2, rate=20, duration_seconds=1, ramp_seconds=0, mix={Kind.LIST: 1}, timeout_seconds=0.05)
    report = await drive_frozen(standin_server, frozen, plan, lambda tally: tally.failed.total() == 20)
    assert report.requests.errors == {"TIMEOUT": 20}
    assert report.requests.latency is not None
    assert report.requests.latency.count == 20


async def test_an_interrupted_test_tells_what_there_is(standin_server: ServerProcess, frozen: psutil.Process) -> None:
    plan = Plan(connections=3, rate=50, duration_seconds=600, ramp_seconds=0, mix={Kind.LIST: 1}, timeout_seconds=600)
    driver = drive(standin_server, plan)
    running = asyncio.create_task(driver.run())
    await eventually(lambda: driver.tally.answered[Kind.LIST] > 5, "requests are answered")
    frozen.suspend()
    sent = driver.tally.scheduled
    await eventually(lambda: driver.tally.scheduled > sent + 5, "requests wait")
    driver.stop()
    frozen.resume()
    report = await running
    assert report.interrupted
    assert report.requests.unfinished > 0
    assert report.requests.failed == 0
    assert report.requests.answered + report.requests.unfinished == report.requests.scheduled
    assert report.passed


async def test_connections_that_break_come_back(standin_server: ServerProcess) -> None:
    plan = Plan(connections=3, rate=50, duration_seconds=600, ramp_seconds=0, mix={Kind.LIST: 1})
    async with running_proxy(standin_server.port) as proxy:
        driver = drive(standin_server, plan, url=f"ws://127.0.0.1:{proxy.port}/ws")
        running = asyncio.create_task(driver.run())
        await eventually(lambda: driver.tally.opened == 3, "all are connected")
        proxy.break_off()
        await eventually(lambda: driver.tally.reconnects == 3, "all are connected again")
        answered = driver.tally.answered.total()
        await eventually(lambda: driver.tally.answered.total() > answered + 10, "requests are answered")
        driver.stop()
        report = await running
    assert report.connections.reconnects == 3
    assert report.connections.opened == 3
    assert report.requests.failed == 0


async def test_connections_that_are_refused_are_counted(tmp_path: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_MAX_CONNECTIONS": "3"}
    async with running_server(tmp_path, env=env) as server:
        plan = Plan(connections=5, rate=20, duration_seconds=1, ramp_seconds=0.5, mix={Kind.LIST: 1})
        report = await drive(server, plan).run()
    assert (report.connections.opened, report.connections.failed) == (3, 2)
    assert report.requests.failed == 0
    assert [verdict.name for verdict in report.verdicts if not verdict.passed] == ["connection_failure_ratio"]


async def test_a_server_that_goes_away(standin_server: ServerProcess) -> None:
    plan = Plan(connections=2, rate=20, duration_seconds=600, ramp_seconds=0, timeout_seconds=0.2)
    driver = drive(standin_server, plan)
    running = asyncio.create_task(driver.run())
    await eventually(lambda: driver.tally.answered[Kind.LIST] > 5, "requests are answered")
    await standin_server.kill()
    await eventually(lambda: driver.tally.errors["TIMEOUT"] > 5, "requests are given up")
    driver.stop()
    report = await running
    assert report.server.stats_after is None
    assert any("figures" in note for note in report.server.notes)
    assert not report.passed


async def test_without_projects_the_usual_mix_asks_for_the_list_only(standin_server: ServerProcess) -> None:
    plan = Plan(connections=1, rate=20, duration_seconds=0.5, ramp_seconds=0)
    report = await drive(standin_server, plan).run()
    assert report.mix == {Kind.LIST: 1}
    assert report.requests.kinds.keys() == {Kind.LIST}


async def test_what_needs_a_project_and_has_none(standin_server: ServerProcess) -> None:
    with pytest.raises(ConfigurationError, match="no project for join"):
        await drive(standin_server, Plan(mix={Kind.LIST: 1, Kind.JOIN: 1})).run()
    with pytest.raises(ProjectNotFoundError, match="nobodys"):
        await drive(standin_server, Plan(projects=("nobodys",))).run()


async def test_only_the_named_project_is_asked_about(
    standin_server: ServerProcess, project_id: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    mix = {Kind.EXECUTE: 1}
    plan = Plan(
        connections=1,
        rate=5,
        duration_seconds=0.5,
        ramp_seconds=0,
        mix=mix,
        projects=(project_id,),
        allow_executions=True,
    )
    async with standin_server.client() as client:
        left_alone = (await client.create_project(str(other))).id
        await drive(standin_server, plan).run()
        assert (await client.messages(project_id)).messages
        assert not (await client.messages(left_alone)).messages


async def test_nobody_there(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    with pytest.raises(UnreachableError):
        await drive(server, Plan(), url=f"ws://127.0.0.1:{free_port()}/ws").run()
