"""The server as its users run it: a process with a data directory, killed and started again at will."""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from pocket_agent.claude.process import boot_id, kill_leftovers
from pocket_agent.cli.device import make_device
from pocket_agent.client import Client
from pocket_agent.monitoring.targets import FIXED_PORTS
from pocket_agent.settings import load_settings
from pocket_agent.storage import connection_beside
from pocket_agent.storage.database import database_path
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.forkserver import ForkedProcess, fork_server

STANDIN = Path(__file__).with_name("standin.py")


_PORTS: Final = sorted(set(range(10_000, 32_768)).difference(port for _, port in FIXED_PORTS.values()))
"""Below the ports that Linux gives to outgoing connections and to port 0 (ip_local_port_range, ip(7)), and none that a
monitoring stack has for itself."""
_IMPORTS: Final = {"PA_TRACES_ENABLED": "pocket_agent.observability.span_export"}
"""What a server imports slowly when a setting is on."""
_RESERVED: Final[list[int]] = []
"""Descriptors of the locks that reserve ports for this process."""


def free_port() -> int:
    """A port for a program that has to be given a number, or that is started again on the same one.

    The port is reserved until this process ends: each test process that calls this function, also of another run of
    the suite, locks a file of the port's number.
    """
    folder = Path(tempfile.gettempdir()) / f"pocket-agent-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(lock)
            continue
        _RESERVED.append(lock)
        return port


def write_standin(folder: Path, name: str = "claude") -> Path:
    """A program that is the stand-in, for `claude.binary`."""
    program = folder / name
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{STANDIN}" "$@"\n')
    program.chmod(0o700)
    return program


class ServerProcess:
    """One server and its data directory.

    Attributes:
        url: its WebSocket address (plain, on loopback).
        token: a device's token.
        env: settings for its next start, by environment variable.
        flags: for its next start; further settings (YAML) are given by `--config` and can be changed by `reload`.
        tls_port: when set, the main listener is there and speaks TLS, and `url` is the plain listener beside it.
        wrapper: a command that becomes the server (`exec`), put before the server's own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        settings: str | None = None,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.flags = list(flags)
        self._settings_file = folder / "settings.yaml"
        if settings is not None:
            self._settings_file.write_text(settings, "utf-8")
            self.flags.append(f"--config={self._settings_file}")
        self.env = {"PA_LOG_LEVEL": "debug", **(env or {})}
        self.process: asyncio.subprocess.Process | ForkedProcess | None = None
        self.tls_port: int | None = None
        self.wrapper: Sequence[str] = ()
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        loaded = load_settings(config=None, environ={}, flags={"data.dir": self.data_dir})
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.token = make_device(loaded, "test")

    @property
    def log(self) -> str:
        """What the server has logged in all its runs."""
        path = self.folder / "server.log"
        return path.read_text("utf-8") if path.exists() else ""

    async def start(self) -> None:
        """Start it and wait until it takes work."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PA_SERVER_PLAIN_PORT": "off" if self.tls_port is None else str(self.port),
            "PA_METRICS_ENABLED": "false",
            **self.env,
        }
        listening = [f"--port={self.port}", "--no-tls"] if self.tls_port is None else [f"--port={self.tls_port}"]
        arguments = ["serve", *listening, f"--data-dir={self.data_dir}", *self.flags]
        with (self.folder / "server.log").open("ab") as log:
            if self.wrapper:
                self.process = await asyncio.create_subprocess_exec(
                    *self.wrapper,
                    sys.executable,
                    "-m",
                    "pocket_agent.cli",
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            else:
                imports = [module for name, module in _IMPORTS.items() if environment.get(name) == "true"]
                self.process = fork_server().start(arguments, environment, log.fileno(), imports=imports)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._ready()

    async def _ready(self) -> None:
        assert self.process is not None
        async with aiohttp.ClientSession() as http:
            while True:
                if self.process.returncode is not None:
                    raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log[-4000:]}")
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.02)

    async def reload(self, settings: str) -> None:
        """Let it read other settings (YAML), of a server that was made with some, and wait until they hold."""
        assert self.process is not None
        audit = self.data_dir / "audit.log"
        before = audit.read_text("utf-8").count('"settings_reload"')
        self._settings_file.write_text(settings, "utf-8")
        self.process.send_signal(signal.SIGHUP)
        await eventually(lambda: audit.read_text("utf-8").count('"settings_reload"') > before, "the settings are read")

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        await self._signal(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return await self._signal(signal.SIGTERM)

    async def _signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.process.wait()

    def client(self, **options: Any) -> Client:
        """A client with the test's token."""
        return Client(self.url, token=self.token, **options)

    def agents(self) -> list[psutil.Process]:
        """The CLI processes that the store knows of and that are alive."""
        with connection_beside(database_path(self.data_dir)) as connection:
            rows = connection.execute("SELECT pid FROM process").fetchall()
        found = []
        for (pid,) in rows:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def agent(self, project_id: str) -> psutil.Process:
        """The CLI process of one project.

        Raises:
            psutil.NoSuchProcess: it has none that is alive.
        """
        with connection_beside(database_path(self.data_dir)) as connection:
            row = connection.execute("SELECT pid FROM process WHERE conversation_id = ?", (project_id,)).fetchone()
        if row is None:
            raise psutil.NoSuchProcess(0)
        return psutil.Process(row[0])

    def add_device(self, name: str) -> str:
        """Let another device in; returns its token."""
        return make_device(load_settings(config=None, environ={}, flags={"data.dir": self.data_dir}), name)

    async def clean_up(self) -> None:
        """Leave nothing running: the server, its agents, the scripted model."""
        if self.process is not None and self.process.returncode is None:
            await self.kill()
        with connection_beside(database_path(self.data_dir)) as connection:
            rows = connection.execute("SELECT pid, start_time, id FROM process").fetchall()
        for pid, start_time, marker in rows:
            await kill_leftovers(pid, start_time, boot_id(), marker)
        model = self.data_dir / "demo" / "model.json"
        if model.exists():
            await _end_model(model)


async def _end_model(record: Path) -> None:
    pid = json.loads(record.read_text("utf-8"))["pid"]
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.kill()
        await asyncio.to_thread(_wait_for_end, process)


def _wait_for_end(process: psutil.Process) -> None:
    """Wait for a process whose parent is gone; that nobody has reaped it yet is no reason to wait longer."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)


@contextlib.asynccontextmanager
async def running_server(
    folder: Path, *, env: Mapping[str, str] | None = None, flags: Sequence[str] = (), settings: str | None = None
) -> AsyncIterator[ServerProcess]:
    """A server that is started, and ended with everything that belongs to it."""
    async with started(ServerProcess(folder, env=env, flags=flags, settings=settings)) as server:
        yield server


@contextlib.asynccontextmanager
async def started(server: ServerProcess) -> AsyncIterator[ServerProcess]:
    """A server that was prepared, started and ended with everything that belongs to it."""
    try:
        await server.start()
        yield server
    finally:
        await server.clean_up()
