"""A Debian 12 as debootstrap installs it (scripts/debian), booted with systemd as process 1 by systemd-nspawn."""

import asyncio
import contextlib
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import psutil

from tests.harness.absence import absent
from tests.harness.follow import eventually
from tests.harness.tool import ROOT, require_tool

_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_TRUST: Final = ("PIP_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
"""Variables that name the authorities to trust, where a mirror of packages has a certificate of its own."""
USER: Final = "ada"
"""A user who may use sudo without a password."""


class Machine:
    """A machine in namespaces of its own.

    Before it has booted, commands have the network of this machine, to fetch packages. Afterwards it has only loopback,
    so that its ports are its own.

    Attributes:
        root: its file system.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._boot: asyncio.subprocess.Process | None = None
        self._leader = 0
        self._started: list[asyncio.subprocess.Process] = []

    async def prepare(self, command: str, user: str = "root", directory: str = "/") -> str:
        """Run a command before the machine boots; returns its output."""
        options = ["--console=pipe", f"--user={user}", f"--chdir={directory}"]
        return await output_of(*_nspawn(self.root), *options, "sh", "-ec", command)

    async def boot(self) -> None:
        """Start systemd, and wait until its units are started."""
        self._boot = await asyncio.create_subprocess_exec(
            *_nspawn(self.root),
            "--boot",
            "--private-network",
            "--console=read-only",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        started = psutil.Process(self._boot.pid)

        async def running() -> bool:
            assert self._boot is not None
            assert self._boot.returncode is None, "systemd-nspawn has ended"
            # Its only child is process 1 of the machine; before, short-lived helpers come and go.
            inside = [child.pid for child in started.children() if _name(child) == "systemd"]
            if not inside:
                return False
            (self._leader,) = inside
            state = await self.output("systemctl is-system-running || true", "root")
            return state.strip() in {"running", "degraded"}

        await eventually(running, "the machine boots")

    def command(self, command: str, user: str = USER) -> list[str]:
        """The command line, on this machine, of a command in the machine that has booted, in the user's home."""
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        return ["nsenter", f"--target={self._leader}", *namespaces, "runuser", "--login", user, "-c", command]

    async def output(self, command: str, user: str = USER) -> str:
        """Run a command in the machine that has booted; returns its output."""
        return await output_of(*self.command(command, user))

    async def start(self, command: str, log: Path, user: str = USER) -> None:
        """Start a command in a terminal of its own."""
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *self.command(command, user), stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file
            )
        self._started.append(process)

    def processes(self) -> list[psutil.Process]:
        """The processes of the commands that were started in a terminal of their own."""
        terminals = [psutil.Process(process.pid) for process in self._started]
        return [process for terminal in terminals for process in terminal.children(recursive=True)]

    async def stop(self) -> None:
        """End everything in it."""
        if self._boot is None:
            return
        for child in psutil.Process(self._boot.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        for process in (*self._started, self._boot):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await eventually(_remove_groups, "the control groups of systemd-nspawn are empty")


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _remove_groups() -> bool:
    """Remove the control groups of systemd-nspawn; returns False while a process is in one."""
    for name in ("payload", "supervisor"):
        for place in Path("/sys/fs/cgroup").glob(f"*/{name}"):
            for group in (*sorted((found for found in place.rglob("*") if found.is_dir()), reverse=True), place):
                try:
                    group.rmdir()
                except OSError:
                    return False
    return True


def _nspawn(root: Path) -> list[str]:
    program = require_tool("systemd-nspawn")
    libraries = ":".join(str(path) for path in (ROOT / ".tools").glob("usr/lib/*/systemd"))
    options = ["--quiet", "--register=no", "--hostname=debian", f"--directory={root}"]
    if not Path("/run/systemd/system").exists():
        options.append("--keep-unit")  # there is no systemd that could give it a unit
    if _CERTIFICATES.exists():
        options.append(f"--bind-ro={_CERTIFICATES}")
    options += [f"--setenv={name}" for name in _TRUST if name in os.environ]
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(program), *options]


async def output_of(*arguments: str) -> str:
    """The output of a command of this machine, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    text = said.decode("utf-8", "replace")
    assert process.returncode == 0, f"{shlex.join(arguments)} ended with {process.returncode}:\n{text[-4000:]}"
    return text


@contextlib.asynccontextmanager
async def bare_machine(folder: Path) -> AsyncIterator[Machine]:
    """A machine that is not booted yet, without anything that debootstrap does not install; its changes are dropped."""
    if os.getuid() != 0 or shutil.which("nsenter") is None:
        absent("root, for a Debian 12 in namespaces")
    try:
        await output_of(str(ROOT / "scripts" / "debian"))
    except AssertionError as error:
        absent(f"a Debian 12: {error}")
    root, upper, work = (folder / name for name in ("root", "upper", "work"))
    for made in (root, upper, work):
        made.mkdir(parents=True)
    layers = f"lowerdir={ROOT / '.tools' / 'debian-12'},upperdir={upper},workdir={work}"
    await output_of("mount", "-t", "overlay", "-o", layers, "overlay", str(root))
    for home in ("root", "etc/skel"):  # sudo drops the variables that name the authorities
        (root / home / ".npmrc").write_text(f"cafile={_CERTIFICATES}\n")
    machine = Machine(root)
    try:
        yield machine
    finally:
        try:
            await machine.stop()
        finally:
            await output_of("umount", "--lazy", str(root))


def in_turn(commands: Sequence[str]) -> str:
    """A command that runs others until one fails."""
    return "\n".join(("set -e", *commands))
