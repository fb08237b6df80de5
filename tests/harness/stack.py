"""The monitoring stack with the real programs: rendered from the settings of a server, started and ended one by one."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp

from pocket_agent.monitoring import render, write
from pocket_agent.monitoring.launcher import DATA, Launch, arguments, read_launches
from pocket_agent.settings import LoadedSettings, Settings, load_settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.prometheus import Prometheus
from tests.harness.server import free_port
from tests.harness.tool import require_tool

_FURTHER = {"prometheus": ("--rules.alert.resend-delay=1s",)}
"""So that an Alertmanager that was started again need not be waited for."""
NAMES = ("prometheus", "alertmanager", "node_exporter", "blackbox_exporter")


def stack_environment(home: Path) -> dict[str, str]:
    """Settings, by environment variable, of a server and a stack that keep out of everybody's way."""
    ports = ("PROMETHEUS", "ALERTMANAGER", "NODE", "BLACKBOX", "GRAFANA", "LOKI", "TEMPO", "OTLP", "COLLECTOR_METRICS")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PA_CLAUDE_CONFINEMENT": "off",  # so that the doctor warns of nothing where bubblewrap is not on PATH
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(free_port()),
        "PA_MONITORING_SCRAPE_INTERVAL": "1s",
        **{f"PA_MONITORING_{name}_PORT": str(free_port()) for name in ports},
    }


def load(environment: Mapping[str, str], data_dir: Path, port: int) -> LoadedSettings:
    """The settings of a server that is started with this environment and these flags."""
    return load_settings(config=None, environ=environment, flags={"data.dir": data_dir, "server.port": port})


class Stack:
    """A rendered stack and its running programs.

    Attributes:
        folder: of the rendered files.
        settings: what they are rendered from.
        prefixes: of the command lines of programs, by name.
        suite: the Debian suite of the programs; see `require_tool`.
    """

    def __init__(self, folder: Path, settings: Settings, suite: str = "") -> None:
        self.folder = folder
        self.settings = settings
        self.suite = suite
        self.prefixes: dict[str, tuple[str, ...]] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}

    @property
    def prometheus(self) -> Prometheus:
        """Prometheus, to be asked."""
        return Prometheus(self.url("prometheus"))

    def url(self, name: str) -> str:
        """Where a program is."""
        return self._launch(name).url

    def pid(self, name: str) -> int:
        """The process of a program."""
        return self._running[name].pid

    def log(self, name: str) -> str:
        """What a program has said."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def render(self, settings: Settings | None = None) -> None:
        """Write the files; for other settings, if given."""
        write(self.folder, render(settings or self.settings), force=True)

    def edit(self, path: str, before: str, after: str) -> None:
        """Change a rendered file, as a person might."""
        file = self.folder / path
        text = file.read_text("utf-8")
        assert before in text, f"{before!r} is not in {path}"
        file.write_text(text.replace(before, after), "utf-8")

    async def start(self, *names: str) -> None:
        """Start programs and wait until they answer; without names, all."""
        await asyncio.gather(*(self._start(self._launch(name)) for name in names or NAMES))

    async def stop(self, *names: str) -> None:
        """End programs; without names, all."""
        await asyncio.gather(*(self._stop(name) for name in names or tuple(self._running)))

    async def reload(self, name: str) -> None:
        """Let a program read its files again, by the address that Prometheus's family has for it."""
        async with aiohttp.ClientSession() as http, http.post(f"{self.url(name)}/-/reload") as answer:
            assert answer.status == 200, await answer.text()

    def _launch(self, name: str) -> Launch:
        return next(launch for launch in read_launches(self.folder) if launch.program.name == name)

    async def _start(self, launch: Launch) -> None:
        name = launch.program.name
        binary = require_tool(launch.program.binaries[-1], self.suite)
        (self.folder / DATA / name).mkdir(parents=True, exist_ok=True)
        flags = await arguments(launch, str(binary))
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.prefixes.get(name, ()),
                str(binary),
                *flags,
                *_FURTHER.get(name, ()),
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},
            )
        self._running[name] = process
        async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as http:
            while True:
                if process.returncode is not None:
                    raise AssertionError(f"{name} ended:\n{self.log(name)[-2000:]}")
                path = "/-/ready" if name in {"prometheus", "alertmanager"} else "/metrics"
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(launch.url + path) as answer:
                        if answer.status != 503:  # Prometheus reads its data; a program with other flags may refuse
                            return
                await asyncio.sleep(0.05)

    async def _stop(self, name: str) -> None:
        process = self._running.pop(name)
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await process.wait()


@contextlib.asynccontextmanager
async def running_stack(folder: Path, settings: Settings, suite: str = "") -> AsyncIterator[Stack]:
    """A stack that is rendered and started, and ended with everything that belongs to it."""
    stack = Stack(folder, settings, suite)
    stack.render()
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()
