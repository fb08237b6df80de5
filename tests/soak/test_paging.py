"""Alerts at the default intervals, with the programs of both generations: a killed server pages within two minutes, and
mixed use of a server on a busy machine raises no alert. SOAK_SECONDS is the duration of that use (`make soak`).
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pocket_agent.client import Client, UnreachableError
from pocket_agent.errors import PocketAgentError
from pocket_agent.monitoring import render, write
from tests.harness.claude import require_claude
from tests.harness.clinic import Webhook, open_webhook
from tests.harness.follow import end_of, eventually
from tests.harness.server import ServerProcess, free_port
from tests.harness.stack import Stack, load, stack_environment
from tests.harness.tool import GENERATIONS

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]
generations = pytest.mark.parametrize("suite", GENERATIONS.values(), ids=list(GENERATIONS))

SECONDS = float(os.environ.get("SOAK_SECONDS", "300"))
KILLED = 3
PAGE_SECONDS = 120.0
LOAD = 8.0
RESTART_SECONDS = 16 * 60.0
"""From one restart to the next: PocketAgentFlapping fires after three within half an hour."""
PROMPTS = (
    "demo:text",
    "demo:lines=300",
    "demo:bash=date > date.txt",
    "demo:edit",
    "demo:tools",
    "demo:parallel=2",
    "demo:background=sleep 3",
)


@dataclass
class Watched:
    """Servers, the stack that watches them with the default intervals, and the webhook that gets the alerts."""

    servers: list[ServerProcess]
    stack: Stack
    hook: Webhook

    def instance(self, server: ServerProcess) -> str:
        return f"127.0.0.1:{server.env['PA_METRICS_PORT']}"

    def notified(self, alert: str, instance: str) -> bool:
        """Whether the webhook has received an alert of a server."""
        alerts = [found for body in self.hook.bodies for found in body["alerts"] if found["status"] == "firing"]
        labels = [found["labels"] for found in alerts]
        return any((found["alertname"], found.get("instance")) == (alert, instance) for found in labels)

    async def all_are_up(self) -> bool:
        """Whether each target was scraped, and each probe succeeds."""
        up = await self.stack.prometheus.values("up == 1", "job", "instance")
        probed = await self.stack.prometheus.values("probe_success == 1", "job", "instance")
        return len(up) == 4 + 3 * len(self.servers) and len(probed) == 2 * len(self.servers)


@contextlib.asynccontextmanager
async def watched(folder: Path, suite: str, count: int) -> AsyncIterator[Watched]:
    """Servers with the real CLI and the scripted model, all up."""
    async with open_webhook() as hook, contextlib.AsyncExitStack() as running:
        servers = [ServerProcess(folder / str(number), flags=["--demo"], settings="{}\n") for number in range(count)]
        settings = []
        for number, server in enumerate(servers):
            server.tls_port = free_port()
            own = {
                **(stack_environment(server.home) if number == 0 else {}),
                "PA_METRICS_ENABLED": "true",
                "PA_METRICS_PORT": str(free_port()),
                "PA_MONITORING_SCRAPE_INTERVAL": "15s",
                "PA_MONITORING_WEBHOOK_URL": hook.url,
                "PA_CLAUDE_BINARY": str(require_claude()),
                "PA_LOG_LEVEL": "info",
            }
            server.env = own
            loaded = {"HOME": str(server.home), **own, "PA_SERVER_PLAIN_PORT": str(server.port)}
            settings.append(load(loaded, server.data_dir, server.tls_port).settings)
            running.push_async_callback(server.clean_up)
            await server.start()
        stack = Stack(folder / "stack", settings[0], suite)
        write(stack.folder, render(settings[0], settings[1:]))
        running.push_async_callback(stack.stop)
        await stack.start()
        made = Watched(servers, stack, hook)
        await eventually(made.all_are_up, "every target is scraped")
        yield made


@generations
async def test_a_killed_server_pages_within_two_minutes(tmp_path: Path, suite: str) -> None:
    async with watched(tmp_path, suite, KILLED) as here:

        async def seconds_to_page(server: ServerProcess) -> float:
            await asyncio.sleep(random.uniform(0, 30))  # noqa: S311 - the phase of scrapes and evaluations
            await server.kill()
            killed = time.monotonic()
            await eventually(lambda: here.notified("ServiceDown", here.instance(server)), "the webhook has the alert")
            return time.monotonic() - killed

        took = await asyncio.gather(*map(seconds_to_page, here.servers))
        print(f"\n{suite or 'Debian 12'}: kill -9 to page in {', '.join(f'{seconds:.0f}' for seconds in took)} s")
        assert max(took) < PAGE_SECONDS


@dataclass
class Mixed:
    """What a developer, a phone and an operator do with a server until time is up."""

    here: Watched
    folder: Path
    chance: random.Random
    end: float
    done: dict[str, int] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.end

    def did(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    async def pause(self, most: float) -> None:
        await asyncio.sleep(min(self.chance.uniform(0, most), max(0.0, self.end - time.monotonic())))

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """A client with a connection of its own, once the server is there."""
        (server,) = self.here.servers
        async with contextlib.AsyncExitStack() as opened:
            while True:
                with contextlib.suppress(UnreachableError):
                    client = await opened.enter_async_context(server.client())
                    break
                await asyncio.sleep(1)
            yield client

    async def developer(self, project_id: str) -> None:
        """Prompts one after the other, in sittings with pauses of up to a minute, each on a connection of its own."""
        while not self.over:
            async with self.connected() as client, client.subscribe(project_id) as stream:
                self.did("connections")
                for _ in range(self.chance.randint(1, 5)):
                    prompt = self.chance.choice(PROMPTS)
                    try:
                        receipt = await client.execute(project_id, prompt, timeout=300)
                        await end_of(stream, receipt.execution_id)
                    except PocketAgentError as error:
                        self.did(type(error).__name__)
                    else:
                        self.did("prompts")
                    await self.pause(10)
            await self.pause(60)

    async def phone(self, project_id: str) -> None:
        """Answers approvals, and loses its connection every now and then."""
        while not self.over:
            async with self.connected() as client, client.subscribe(project_id) as stream:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.chance.uniform(20, 120)):
                        for waiting in stream.joined.approvals if stream.joined else ():
                            await self.answer(client, project_id, waiting.approval_id)
                        async for frame in stream:
                            if frame.type == "approval_requested":
                                await self.pause(8)
                                await self.answer(client, project_id, str(frame.data["approval_id"]))
            self.did("reconnects")
            await self.pause(5)

    async def answer(self, client: Client, project_id: str, approval_id: str) -> None:
        with contextlib.suppress(PocketAgentError):  # the prompt may be over
            if self.chance.random() < 0.1:
                await client.deny(project_id, approval_id, "not now")
            else:
                await client.approve(project_id, approval_id)
            self.did("approvals")

    async def operator(self) -> None:
        """Reloads the server and its stack, and restarts the server: half of the time with kill -9."""
        (server,) = self.here.servers
        restart = time.monotonic() + self.chance.uniform(60, 180)
        while not self.over:
            await self.pause(120)
            if time.monotonic() >= restart:
                await (server.kill() if self.chance.random() < 0.5 else server.stop())
                await self.pause(15)
                await server.start()
                restart = time.monotonic() + RESTART_SECONDS
                self.did("restarts")
            else:
                await server.reload(f"limits: {{max_queued_prompts: {self.chance.randint(10, 50)}}}\n")
                self.did("reloads")
            await self.here.stack.reload(self.chance.choice(("prometheus", "alertmanager", "blackbox_exporter")))

    async def load(self) -> None:
        """Keep the load of the machine, which others may use too, at about `LOAD`."""
        busy: list[asyncio.subprocess.Process] = []
        try:
            while not self.over:
                now = os.getloadavg()[0]
                if now < LOAD and len(busy) < LOAD:
                    busy.append(await asyncio.create_subprocess_exec("sh", "-c", "while :; do :; done"))
                elif now > LOAD + 1 and busy:
                    busy.pop().kill()
                await self.pause(20)
        finally:
            for process in busy:
                process.kill()
                await process.wait()


@generations
async def test_mixed_use_of_a_busy_machine_fires_no_alert(tmp_path: Path, suite: str) -> None:
    """Alerts of the machine's own metrics may fire: other programs run on it, too."""
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(2**32)))
    project = tmp_path / "project"
    project.mkdir()
    async with watched(tmp_path, suite, 1) as here:
        async with here.servers[0].client() as client:
            made = await client.create_project(str(project))
        began, loads = time.monotonic(), []
        mixed = Mixed(here, project, random.Random(seed), began + SECONDS)  # noqa: S311 - repeatable
        async with asyncio.TaskGroup() as tasks:
            for role in (mixed.developer(made.id), mixed.phone(made.id), mixed.operator(), mixed.load()):
                tasks.create_task(role)
            while not mixed.over:
                loads.append(os.getloadavg()[0])
                await asyncio.sleep(min(15, max(0.1, mixed.end - time.monotonic())))
        ask = here.stack.prometheus.values
        seconds = round(time.monotonic() - began) + 60
        fired = await ask(f'count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])', "alertname", "job", "instance")
        pending = await ask(f'count_over_time(ALERTS{{alertstate="pending"}}[{seconds}s])', "alertname", "job")
        print(
            f"\n{suite or 'Debian 12'}: SOAK_SEED {seed}, {seconds - 60} s, load {min(loads):.1f} to {max(loads):.1f}, "
            f"mean {sum(loads) / len(loads):.1f}; {mixed.done}\nfired: {fired}\npending: {pending}\n"
            f"notified: {[body['groupLabels'] for body in here.hook.bodies]}"
        )
        assert {found for found in fired if found[0] != "Watchdog" and found[1] != "node"} == set()
        assert mixed.done.get("prompts", 0) > 0
