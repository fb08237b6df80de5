"""Runs the programs of a rendered stack that are installed on this machine, together and in the foreground.

`local.json`, written with the stack, has the port and the flags of each. A program that ends is started again, after
a delay that doubles each time. Without Prometheus or Alertmanager no alert is sent, so they are given up after a few
attempts, and the whole stack ends where a user sees it.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from pocket_agent.errors import ConfigurationError, FileOperationError
from pocket_agent.monitoring import reaper
from pocket_agent.monitoring.targets import port_holder

FILE: Final = "local.json"
DATA: Final = ".data"
"""Directory for the data of the programs, below that of the stack."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the stack."""

    name: str
    binaries: tuple[str, ...]  # the names under which it may be installed; Debian's last
    package: str  # Debian's package, or another origin
    setting: str  # the setting of its port
    essential: bool = False  # whether no alert is sent without it


def _debian(name: str, package: str, setting: str, *, essential: bool = False) -> Program:
    names = tuple(dict.fromkeys((name, package)))
    return Program(name, names, f"Debian: {package}", f"monitoring.{setting}", essential)


PROGRAMS: Final = {
    program.name: program
    for program in (
        _debian("prometheus", "prometheus", "prometheus_port", essential=True),
        _debian("alertmanager", "prometheus-alertmanager", "alertmanager_port", essential=True),
        _debian("node_exporter", "prometheus-node-exporter", "node_port"),
        _debian("blackbox_exporter", "prometheus-blackbox-exporter", "blackbox_port"),
        Program("grafana", ("grafana",), "Grafana's own packages", "monitoring.grafana_port"),
    )
}
"""What `pocket-agent monitoring up` runs, in this order."""


_Argument = Annotated[str, msgspec.Meta(pattern=r"^[^\0]*\Z")]  # what execve(2) can take


class _Entry(msgspec.Struct, frozen=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    flags: list[_Argument]
    features: list[_Argument] = []


@dataclass(frozen=True, slots=True)
class Launch:
    """A program with its port on loopback and its flags, whose paths are relative to the directory of the stack."""

    program: Program
    port: int
    flags: tuple[str, ...]
    features: tuple[str, ...] = ()  # features to enable in versions that have them

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def read_launches(directory: Path) -> list[Launch]:
    """The launches of a rendered stack.

    Raises:
        FileOperationError: the directory has no stack, or its file is damaged.
    """
    path = directory / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, _Entry])
    except FileNotFoundError as error:
        advice = f"pocket-agent monitoring render {directory}"
        raise FileOperationError(f"{directory} holds no monitoring stack; write one: {advice}") from error
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise FileOperationError(f"{path} cannot be used: {error}") from error
    unknown = sorted(found.keys() - PROGRAMS.keys())
    if unknown:
        raise FileOperationError(f"{path} cannot be used: it names {', '.join(unknown)}")
    return [
        Launch(PROGRAMS[name], entry.port, tuple(entry.flags), tuple(entry.features)) for name, entry in found.items()
    ]


async def arguments(launch: Launch, path: str) -> list[str]:
    """The flags for the installed version of a program, whose `--help` lists the features that it has."""
    if not launch.features:
        return list(launch.flags)
    process = await asyncio.create_subprocess_exec(
        path,
        "--help",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = b""
    try:
        async with asyncio.timeout(_HELP_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    known = [feature for feature in launch.features if feature.encode() in said]
    return [*launch.flags, *([f"--enable-feature={','.join(known)}"] if known else [])]


_HELP_SECONDS: Final = 5.0  # how long `--help` of a program may take
_END_SECONDS: Final = 8.0  # how long a program may take to end after SIGTERM
_KILL_SECONDS: Final = 5.0
_LINE: Final = 64 * 1024  # bytes of a line that are shown; longer ones are split
_LAST_OUTPUT_SECONDS: Final = 1.0
"""How long to wait for the last output of an ended program; its children may hold the pipe open for ever."""

_ATTEMPTS: Final = 4
"""How many times in a row an essential program is started again before it is given up."""
_FIRST_DELAY: Final = 1.0  # seconds before a program is started again; doubled each time
_LONGEST_DELAY: Final = 60.0
_STEADY_SECONDS: Final = 60.0
"""How long a program must run until its earlier ends do not count."""

Find = Callable[[str], str | None]
Say = Callable[[str, str], None]
"""Shows the name of a program and a line of its output."""
Report = Callable[[str], None]
"""Shows what became of a program."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended by itself."""

    name: str
    code: int

    def __str__(self) -> str:
        how = f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with status {self.code}"
        return f"{self.name} {how}"


@dataclass(frozen=True, slots=True)
class _LaunchedProgram:
    """A running program with its output."""

    name: str
    process: asyncio.subprocess.Process
    stream: asyncio.StreamReader
    transport: asyncio.ReadTransport

    async def watch(self, say: Say) -> Ended:
        """Show the output until the program ends."""

        async def show() -> None:
            async for line in _lines(self.stream):
                say(self.name, line)

        async with asyncio.TaskGroup() as tasks:
            showing = tasks.create_task(show())
            code = await self.process.wait()
            await asyncio.wait((showing,), timeout=_LAST_OUTPUT_SECONDS)
            showing.cancel()  # a child of the program may still hold the pipe
        self.transport.close()
        return Ended(self.name, code)

    async def end(self) -> None:
        """End the program with SIGTERM, then SIGKILL."""
        for number, seconds in ((signal.SIGTERM, _END_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            if self.process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.process.wait()


def installed(launches: Sequence[Launch], find: Find = shutil.which) -> tuple[list[tuple[Launch, str]], list[Launch]]:
    """The launches whose program is installed, with its path, and the others."""
    paths = [next(filter(None, map(find, launch.program.binaries)), None) for launch in launches]
    found = list(zip(launches, paths, strict=True))
    present = [(launch, str(Path(path).absolute())) for launch, path in found if path is not None]
    return present, [launch for launch, path in found if path is None]


def refuse_taken_ports(launches: Sequence[Launch]) -> None:
    """Check that the ports are free.

    Raises:
        ConfigurationError: with every taken port, its setting, and the process that has it if that is known.
    """
    taken = []
    for launch in launches:
        if not _is_free(launch.port):
            holder = port_holder(launch.port)
            by = f" by {holder.name}" if holder is not None and holder.pid is not None else ""
            taken.append(f"\n  {launch.program.setting}: port {launch.port} is taken{by}")
    if taken:
        advice = "\nEnd those programs, or change the settings and render the stack again."
        raise ConfigurationError(f"The stack cannot be started:{''.join(taken)}{advice}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the programs do it: a connection in TIME_WAIT does not occupy the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.asynccontextmanager
async def running(
    present: Sequence[tuple[Launch, str]], directory: Path, say: Say, report: Report
) -> AsyncIterator["asyncio.Queue[Ended]"]:
    """Run programs until the block is left; an essential one that does not keep running is put into the queue.

    They are one process group, which ends also when this process is killed. `present` has the launches with the paths
    of their programs.

    Raises:
        FileOperationError: an essential program cannot be started; the others were ended.
    """
    ended: asyncio.Queue[Ended] = asyncio.Queue()
    async with _guarded() as group:
        kept = [_KeptProgram(launch, path, directory, group) for launch, path in present]
        try:
            for one, (launch, _) in zip(kept, present, strict=True):
                try:
                    await one.start()
                except FileOperationError as error:
                    if launch.program.essential:
                        raise
                    report(f"{error.message} The others run without it.")
            async with asyncio.TaskGroup() as tasks:
                keepers = [tasks.create_task(one.keep(say, report, ended)) for one in kept]
                try:
                    yield ended
                finally:
                    # While they are watched, so that their last output is shown.
                    await asyncio.gather(*(one.end() for one in kept))
                    await asyncio.wait(keepers, timeout=_LAST_OUTPUT_SECONDS) if keepers else None
                    for keeper in keepers:
                        keeper.cancel()
        finally:
            await asyncio.gather(*(one.end() for one in kept))


class _KeptProgram:
    """A program that is started again when it ends."""

    def __init__(self, launch: Launch, path: str, directory: Path, group: int) -> None:
        self._launch = launch
        self._path = path
        self._directory = directory
        self._group = group
        self._running: _LaunchedProgram | None = None
        self._ending = asyncio.Event()

    async def start(self) -> None:
        """Start it.

        Raises:
            FileOperationError: it cannot be started.
        """
        self._running = await _start(self._launch, self._path, self._directory, self._group)

    async def keep(self, say: Say, report: Report, ended: "asyncio.Queue[Ended]") -> None:
        """Start it again whenever it ends, until `end`; an essential one is given up after some attempts."""
        attempts, clock = 0, asyncio.get_running_loop().time
        while self._running is not None:
            started_at = clock()
            end = await self._running.watch(say)
            if self._ending.is_set():
                return
            if clock() - started_at >= _STEADY_SECONDS:
                attempts = 0
            while True:
                attempts += 1
                if self._launch.program.essential and attempts > _ATTEMPTS:
                    ended.put_nowait(end)
                    return
                delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (attempts - 1))
                report(f"{end}, and is started again in {delay:g} s")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._ending.wait()
                if self._ending.is_set():
                    return
                try:
                    await self.start()
                except FileOperationError as error:
                    report(error.message)
                else:
                    break

    async def end(self) -> None:
        """End it, and do not start it again."""
        self._ending.set()
        if self._running is not None:
            await self._running.end()
            self._running.transport.close()


@contextlib.asynccontextmanager
async def _guarded() -> AsyncIterator[int]:
    """A process group that does not outlive this process; yields its id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # so that modules of its directory do not hide those of the standard library
        reaper.__file__,
        str(_END_SECONDS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        process_group=0,
    )
    assert process.stdin is not None
    try:
        yield process.pid
    finally:
        # It ends the processes that the programs have left.
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS + _KILL_SECONDS):
                await process.wait()


async def _start(launch: Launch, path: str, directory: Path, group: int) -> _LaunchedProgram:
    name = launch.program.name
    try:
        (directory / DATA / name).mkdir(parents=True, exist_ok=True)
        if name == "grafana":
            _provision(directory)
        flags = await arguments(launch, path)
        # Not asyncio's own pipe: with that, a process has only ended when none of its children holds the pipe.
        reading, writing = os.pipe()
        stream = asyncio.StreamReader(limit=_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
        )
        try:
            process = await asyncio.create_subprocess_exec(
                path,
                *flags,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd=directory,
                process_group=group,
            )
        except BaseException:
            transport.close()
            raise
        finally:
            os.close(writing)
        return _LaunchedProgram(name, process, stream, transport)
    except OSError as error:
        raise FileOperationError(f"{name} cannot be started ({path}): {error.strerror or error}.") from error


def _provision(directory: Path) -> None:
    """Copy Grafana's provisioning with the present directory of the dashboards."""
    grafana, copy = directory / "grafana", directory / DATA / "grafana"
    for file in filter(Path.is_file, (grafana / "provisioning").rglob("*")):
        place = copy / file.relative_to(grafana)
        place.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text("utf-8").replace("/var/lib/grafana/dashboards", str(grafana / "dashboards"))
        place.write_text(text, "utf-8")


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines, long ones split."""
    while True:
        try:
            raw = await stream.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raw = await stream.readexactly(error.consumed)
        except asyncio.IncompleteReadError as error:
            raw = error.partial
            if not raw:
                return
        yield raw.decode("utf-8", "replace").rstrip("\r\n")
