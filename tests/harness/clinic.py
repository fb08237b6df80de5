"""A server, its stack and a webhook that gets its alerts, and a doctor who looks at them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from aiohttp import web

from pocket_agent.monitoring import render
from pocket_agent.monitoring.doctor import in_force
from pocket_agent.monitoring.doctor.checks import examine
from pocket_agent.monitoring.doctor.result import Context, Result
from pocket_agent.settings import LoadedSettings, Settings
from tests.harness.follow import eventually
from tests.harness.server import ServerProcess, free_port, write_standin
from tests.harness.stack import Stack, load, running_stack, stack_environment

ALERTMANAGER = "alertmanager/alertmanager.yml"
GROUP_WAIT = ("group_wait: 10s", "group_wait: 100ms")
_PAUSE = 1.0
"""Seconds between two examinations, each of which takes a good part of one of processor time."""
NOWHERE = Path("/nonexistent/prometheus.yml")
"""No Prometheus that happens to be installed on the machine counts."""


def in_time() -> int:
    """The state of a clock that is synchronised (adjtimex(2): TIME_OK)."""
    return 0


class Findings(list[Result]):
    """What a doctor found."""

    def of(self, name: str) -> Result:
        """The one finding about a thing."""
        (found,) = [finding for finding in self if finding.name == name]
        return found

    @property
    def failures(self) -> set[str]:
        """What is broken."""
        return {finding.name for finding in self if finding.status == "failed"}


async def look(
    loaded: LoadedSettings, environment: Mapping[str, str] | None = None, *, alerts: bool = False
) -> Findings:
    """Let the doctor look at a server."""
    context = Context(loaded, environment or {}, installed=NOWHERE, file_system=lambda _: "ext4")
    with mock.patch.object(in_force, "render_expected", _render_expected):
        return Findings(await examine(context, alerts=alerts, time_state=in_time))


def _render_expected(settings: Settings) -> dict[str, str]:
    """The rendered files, with the group's wait of the clinic's Alertmanager."""
    files = {file.path: file.text for file in render(settings)}
    files[ALERTMANAGER] = files[ALERTMANAGER].replace(*GROUP_WAIT)
    return files


def one(findings: Iterable[Result]) -> Result:
    """The only finding."""
    (found,) = findings
    return found


@dataclass
class Webhook:
    """Stands in for whoever gets the alerts.

    Attributes:
        url: where it is.
        status: what it answers with.
        bodies: what it got.
        released: set while it answers.
    """

    url: str
    status: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def open_webhook() -> AsyncIterator[Webhook]:
    """A webhook on loopback."""
    port = free_port()
    hook = Webhook(f"http://127.0.0.1:{port}/hook")
    hook.released.set()

    async def take(request: web.Request) -> web.Response:
        hook.bodies.append(await request.json())
        await hook.released.wait()
        return web.Response(status=hook.status)

    application = web.Application()
    application.router.add_post("/hook", take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield hook
    finally:
        await runner.cleanup()


@dataclass
class Clinic:
    """A server with TLS, its whole stack, and a webhook.

    Attributes:
        environment: what the server was started with.
        loaded: its settings.
    """

    server: ServerProcess
    stack: Stack
    hook: Webhook
    environment: dict[str, str]
    loaded: LoadedSettings

    async def look(self, *, alerts: bool = False, **changed: str) -> Findings:
        """Let the doctor look, with some settings other than the server's."""
        assert self.server.tls_port is not None
        environment = {**self.environment, **changed}
        return await look(load(environment, self.server.data_dir, self.server.tls_port), environment, alerts=alerts)

    def render(self, settings: Settings | None = None) -> None:
        """Write the stack's files; alerts wait for no others of their group, so that nobody waits for them."""
        self.stack.render(settings)
        self.stack.edit(ALERTMANAGER, *GROUP_WAIT)

    async def put_back(self, name: str) -> None:
        """Let a program have the rendered files again."""
        self.render()
        await self.stack.reload(name)

    @contextlib.asynccontextmanager
    async def changed(self, name: str, path: str, *edits: tuple[str, str]) -> AsyncIterator[None]:
        """Let a program have a file with other words in it, until the block is left."""
        try:
            for before, after in edits:
                self.stack.edit(path, before, after)
            await self.stack.reload(name)
            yield
        finally:
            await self.put_back(name)

    @contextlib.asynccontextmanager
    async def without(self, name: str) -> AsyncIterator[None]:
        """End a program, and start it again when the block is left."""
        await self.stack.stop(name)
        try:
            yield
        finally:
            await self.stack.start(name)

    async def shows(self, name: str, status: str, *texts: str) -> Result:
        """Wait until the doctor finds this, in all of these words; Prometheus takes a while to see what has changed."""
        found: list[Result] = []
        findings = Findings()

        async def seen() -> bool:
            findings[:] = await self.look()
            named = [item for item in findings if (item.name, item.status) == (name, status)]
            found[:] = [item for item in named if all(text in item.message for text in texts)]
            return bool(found)

        try:
            await eventually(seen, f"{name} is {status}: {', '.join(texts)}", pause=_PAUSE)
        except AssertionError as error:
            raise AssertionError((texts, [item for item in findings if item.name == name])) from error
        return found[0]

    async def recovers(self) -> Findings:
        """Wait until nothing is wrong any more: Prometheus takes five seconds to follow some changes."""
        found = Findings()

        async def well() -> bool:
            found[:] = await self.look()
            # What could not be looked at is not well either; traces are off.
            return {finding.name for finding in found if finding.status != "ok"} <= {"traces"}

        try:
            await eventually(well, "all is well again", pause=_PAUSE)
        except AssertionError as error:
            raise AssertionError([finding for finding in found if finding.status != "ok"]) from error
        return found


@contextlib.asynccontextmanager
async def open_clinic(folder: Path, suite: str = "") -> AsyncIterator[Clinic]:
    """A healthy server with a healthy stack, whose programs are of a Debian suite; see `require_tool`."""
    environment = {**stack_environment(folder / "home"), "PA_CLAUDE_BINARY": str(write_standin(folder))}
    async with open_webhook() as hook:
        environment["PA_MONITORING_WEBHOOK_URL"] = hook.url
        server = ServerProcess(folder, env=environment)
        server.tls_port = free_port()
        environment["PA_SERVER_PLAIN_PORT"] = str(server.port)
        loaded = load(environment, server.data_dir, server.tls_port)
        try:
            await server.start()
            async with running_stack(folder / "stack", loaded.settings, suite) as stack:
                clinic = Clinic(server, stack, hook, environment, loaded)
                await clinic.put_back("alertmanager")
                yield clinic
        finally:
            await server.clean_up()
