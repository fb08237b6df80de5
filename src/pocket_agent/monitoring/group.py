"""Runs the programs of a rendered stack that are installed on this machine, together and in the foreground."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.config.unit import format_duration

_END_SECONDS: Final = 10.0
"""How long a program may take to end by itself."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the stack.

    Attributes:
        name: as in the rendered files.
        command: what runs; the first word is looked up.
        names: other names under which distributions have the program.
        url: where it answers.
    """

    name: str
    command: tuple[str, ...]
    names: tuple[str, ...]
    url: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended by itself."""

    name: str
    code: int


def programs(settings: Settings, directory: Path) -> Sequence[Program]:
    """The programs, with their data below the directory; all on loopback."""
    stack = settings.monitoring
    data = directory / ".data"
    return (
        Program(
            "prometheus",
            (
                "prometheus",
                f"--config.file={directory / 'prometheus' / 'prometheus.yml'}",
                f"--storage.tsdb.path={data / 'prometheus'}",
                f"--storage.tsdb.retention.time={format_duration(stack.retention)}",
                f"--web.listen-address=127.0.0.1:{stack.prometheus_port}",
                "--web.enable-lifecycle",
                "--enable-feature=exemplar-storage",
            ),
            (),
            f"http://127.0.0.1:{stack.prometheus_port}",
        ),
        Program(
            "alertmanager",
            (
                "alertmanager",
                f"--config.file={directory / 'alertmanager' / 'alertmanager.yml'}",
                f"--storage.path={data / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{stack.alertmanager_port}",
                "--cluster.listen-address=",
            ),
            ("prometheus-alertmanager",),
            f"http://127.0.0.1:{stack.alertmanager_port}",
        ),
        Program(
            "node_exporter",
            ("node_exporter", f"--web.listen-address=127.0.0.1:{stack.node_port}"),
            ("prometheus-node-exporter",),
            f"http://127.0.0.1:{stack.node_port}",
        ),
        Program(
            "blackbox_exporter",
            (
                "blackbox_exporter",
                f"--config.file={directory / 'blackbox' / 'blackbox.yml'}",
                f"--web.listen-address=127.0.0.1:{stack.blackbox_port}",
            ),
            ("prometheus-blackbox-exporter",),
            f"http://127.0.0.1:{stack.blackbox_port}",
        ),
        Program(
            "grafana",
            ("grafana", "server", f"--homepath={_grafana_home()}", f"cfg:paths.data={data / 'grafana'}",
             f"cfg:paths.provisioning={directory / 'grafana' / 'provisioning'}",
             "cfg:server.http_addr=127.0.0.1", f"cfg:server.http_port={stack.grafana_port}",
             "cfg:analytics.reporting_enabled=false", "cfg:analytics.check_for_updates=false"),
            (),
            f"http://127.0.0.1:{stack.grafana_port}",
        ),
    )  # fmt: skip


def _grafana_home() -> str:
    """Where Grafana's packages put its own files."""
    return "/usr/share/grafana"


def installed(
    wanted: Sequence[Program], find: Callable[[str], str | None] = shutil.which
) -> tuple[list[tuple[Program, str]], list[Program]]:
    """The programs that are there, each with its path, and those that are not."""
    there, absent = [], []
    for program in wanted:
        path = next((found for name in (program.command[0], *program.names) if (found := find(name))), None)
        if path is None:
            absent.append(program)
        else:
            there.append((program, path))
    return there, absent


@contextlib.asynccontextmanager
async def running(
    present: Sequence[tuple[Program, str]], directory: Path, say: Callable[[str, str], None]
) -> AsyncIterator["asyncio.Queue[Ended]"]:
    """Run programs until the block is left; who ends by itself is put into the queue.

    Args:
        present: programs with their paths.
        directory: of the stack.
        say: is given the name of a program and a line that it printed.
    """
    ended: asyncio.Queue[Ended] = asyncio.Queue()
    started: list[asyncio.subprocess.Process] = []
    async with asyncio.TaskGroup() as tasks:
        watchers = []
        try:
            for program, path in present:
                (directory / ".data" / program.name).mkdir(parents=True, exist_ok=True)
                process = await asyncio.create_subprocess_exec(
                    path,
                    *program.command[1:],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                )
                started.append(process)
                watchers.append(tasks.create_task(_watch(program, process, say, ended)))
            yield ended
        finally:
            await asyncio.gather(*(_end(process) for process in started))
            for watcher in watchers:
                watcher.cancel()


async def _watch(
    program: Program,
    process: asyncio.subprocess.Process,
    say: Callable[[str, str], None],
    ended: "asyncio.Queue[Ended]",
) -> None:
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than the reader's limit; what follows is read on
            continue
        if not line:
            break
        say(program.name, line.decode("utf-8", "replace").rstrip())
    ended.put_nowait(Ended(program.name, await process.wait()))


async def _end(process: asyncio.subprocess.Process) -> None:
    """End one program: it is asked first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
