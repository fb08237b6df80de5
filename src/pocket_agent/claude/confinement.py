"""The confinement of agents: a mount namespace, limits of the kernel, a scope of systemd."""

import asyncio
import contextlib
import glob
import json
import os
import re
import resource
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from pocket_agent.errors import ExecutionFailedError
from pocket_agent.settings import AgentLimitSettings

# ----------------------------------------------------------------------
# Limits of memory, processes and processor time: by the kernel, or by a scope of systemd.
#
# The server raises its own limit of open files; agents get the limit that the server was started with, since programs
# that use select(2), or close every descriptor up to the limit, fail or slow down with a higher limit.

SYSTEMD_RUN: Final = "systemd-run"
_MOST_FILES: Final = 65_536
"""The highest soft limit of open files that the server sets for itself."""
_STARTED_WITH: Final = resource.getrlimit(resource.RLIMIT_NOFILE)
"""The limit of open files before `raise_open_files`."""


def raise_open_files() -> int:
    """Raise the server's own soft limit of open files as far as the hard one allows; returns the limit."""
    soft, hard = _STARTED_WITH
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS refuses more than kern.maxfilesperproc
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else sys.maxsize


def scoped(argv: Sequence[str], limits: AgentLimitSettings, *, user: bool) -> list[str]:
    """The command line that runs a program in a scope of its own, if the settings ask for it.

    `systemd-run --scope` creates the scope and then executes the program in the same process, with the same
    descriptors and process group (systemd-run(1)).

    Args:
        argv: the program and its arguments.
        limits: the settings.
        user: whether to use the user's own systemd, as all users but root have to.
    """
    if limits.by != "systemd" or not any((limits.memory, limits.processes, limits.cpus)):
        return list(argv)
    properties = []
    if limits.memory:
        properties += [f"--property=MemoryMax={limits.memory}", "--property=MemorySwapMax=0"]
    if limits.processes:
        properties.append(f"--property=TasksMax={limits.processes}")
    if limits.cpus:
        properties.append(f"--property=CPUQuota={limits.cpus * 100:.0f}%")
    own = ["--user"] if user else []
    return [SYSTEMD_RUN, *own, "--scope", "--quiet", "--collect", *properties, "--", *argv]


def restrain(pid: int, limits: AgentLimitSettings | None) -> None:
    """Limit a process that has just started, and its future children. Raises OSError when the system refuses."""
    if sys.platform != "linux":
        return
    if resource.getrlimit(resource.RLIMIT_NOFILE) != _STARTED_WITH:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _STARTED_WITH)
    if limits is None or limits.by != "rlimit":
        return
    for number, amount in _limits(limits):
        resource.prlimit(pid, number, (amount, amount))


def _limits(limits: AgentLimitSettings) -> Iterator[tuple[int, int]]:
    if limits.memory:
        # Not RLIMIT_AS: the CLI's runtime reserves far more addresses than it uses memory.
        yield resource.RLIMIT_DATA, limits.memory
    if limits.processes:
        yield resource.RLIMIT_NPROC, limits.processes
    if limits.cpu_time:
        yield resource.RLIMIT_CPU, max(1, round(limits.cpu_time))


# ----------------------------------------------------------------------
# The mount namespace of an agent, made by bubblewrap (bwrap(1)).
#
# An agent is started as `bwrap ... -- sh -c CHECK sh claude ...`. bwrap stays as the parent of the CLI, reports
# the CLI's pid on a descriptor and passes on its exit status. The pid namespace is the server's, so that
# pids, process groups and environments are the same inside and outside. The agent does not end with its parent
# (no --die-with-parent): the next server adopts the CLI by its pid.
#
# The user namespace keeps the agent from the server's memory and from mounts that were hidden:
# /proc/PID/{root,cwd,fd,environ,mem} of a process outside it needs CAP_SYS_PTRACE there (ptrace(2)), and in a
# user namespace of its own an agent cannot undo mounts of the server's namespace (mount_namespaces(7)).

Mode = Literal["off", "data", "project"]

BWRAP: Final = "bwrap"
ADVICE: Final = "Install bubblewrap (Debian: apt install bubblewrap), and allow user namespaces to the server's user."
_CHECK_SECONDS: Final = 10.0
_INFO_SECONDS: Final = 10.0
_INFO_BYTES: Final = 4096
_TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - hidden, not used
_SERVICES: Final = (
    *("/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock"),
    *("/run/crio/crio.sock", "/run/libvirt/libvirt-sock"),
)
"""Sockets of services that run programs outside of the namespace for any process that may write to them."""

_SSH: Final = Path("/etc/ssh")
_SSH_INCLUDE: Final = re.compile(r"\s*include[\s=]+(.+)", re.IGNORECASE)
_SSH_DEPTH: Final = 16
"""The depth to which OpenSSH follows includes (readconf.c, READCONF_MAX_DEPTH)."""

_SAME_DIRECTORY: Final = (
    '[ "$(stat -c %d:%i .)" = "$1" ] || { echo "The directory of the project was replaced." >&2; exit 1; }; '
    'shift; exec "$@"'
)
"""bwrap enters the directory by its path; this compares device and inode with those of the opened directory."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """How agents are confined.

    Attributes:
        mode: the mode in force.
        reason: why the wanted mode is not in force; empty when it is.
        program: bwrap.
        hidden: directories and files that no agent can see. The paths have no links in them.
        shown: directories inside the hidden ones that agents use.
    """

    mode: Mode = "off"
    reason: str = ""
    program: str = ""
    hidden: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()

    def command(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        identity: tuple[int, int],
        directories: Sequence[str] = (),
        environment: Mapping[str, str],
        info: int,
        copies: Mapping[Path, int] = MappingProxyType({}),
    ) -> list[str]:
        """The command line that runs a program confined. Reads the disk.

        Args:
            argv: the program and its arguments.
            cwd: the project's directory, symlinks resolved.
            identity: its device and inode.
            directories: further ones that the agent works in, symlinks resolved.
            environment: the program's.
            info: the descriptor on which bwrap reports the program's pid, see `read_pid`.
            copies: open files, whose contents replace files as files of the user, see `ssh_files`.
        """
        mounts = ["--dev-bind", "/", "/"]
        if self.mode == "project":
            mounts = list(_project_mounts(argv[0], [str(cwd), *directories], environment))
        for path, file in copies.items():
            mounts += ["--perms", "0444", "--ro-bind-data", str(file), str(path)]
        return [
            *self._start,
            *mounts,
            *_hiding(self.hidden, self.shown),
            *("--info-fd", str(info), "--"),
            *("/bin/sh", "-c", _SAME_DIRECTORY, "sh", "{}:{}".format(*identity)),
            *argv,
        ]

    @property
    def _start(self) -> tuple[str, ...]:
        return (self.program, "--unshare-user", "--cap-drop", "ALL", "--new-session")

    def wrap(self, argv: Sequence[str], *, writable: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """The command line that runs another program as confined as an agent; it ends with the process group.

        Args:
            argv: the program and its arguments.
            writable: directories that it may write in mode `project`, symlinks resolved.
            environment: the program's.
        """
        if self.mode == "off":
            return list(argv)
        mounts = ["--dev-bind", "/", "/"]
        if self.mode == "project":
            program = shutil.which(argv[0], path=environment.get("PATH")) or self.program
            mounts = list(_project_mounts(program, writable, environment))
        start = (self.program, "--unshare-user", "--cap-drop", "ALL", "--die-with-parent")
        return [*start, *mounts, *_hiding(self.hidden, self.shown), "--", *argv]

    def fault(self) -> str:
        """Why this confinement does not work here; empty when it does. Runs bwrap, and waits for it."""
        if not self.program:
            return f"bubblewrap is not installed. {ADVICE}"
        empty = 'for path do [ -d "$path" ] && [ -n "$(ls -A "$path")" ] && exit 9; done; exit 0'
        directories = [str(path) for path in self.hidden if path.is_dir()]
        mounts = ["--dev-bind", "/", "/", *_hiding(self.hidden, ())]
        try:
            done = subprocess.run(  # noqa: S603  # argv is a list, no shell reads it
                [*self._start, *mounts, "--", "/bin/sh", "-c", empty, "sh", *directories],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_CHECK_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bubblewrap cannot be run: {error}."
        if done.returncode == 0:
            return ""
        said = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        return f"bubblewrap does not work here: {said}. {ADVICE}"


def find_confinement(
    wanted: Mode | None, search: str | None, hidden: Sequence[Path], shown: Sequence[Path] = ()
) -> Confinement:
    """The wanted confinement if it works, otherwise mode `off` with the reason. Runs bwrap, and waits for it.

    Args:
        wanted: by the settings; None for `data` where it works.
        search: the PATH to find bwrap in.
        hidden, shown: see `Confinement`.
    """
    if wanted == "off":
        return Confinement()
    real = tuple(path for path in dict.fromkeys(Path(os.path.realpath(path)) for path in hidden) if path.exists())
    found = Confinement(wanted or "data", "", shutil.which(BWRAP, path=search) or "", real, tuple(shown))
    fault = found.fault()
    return Confinement(reason=fault) if fault else found


def ssh_files(directory: Path = _SSH) -> list[Path]:
    """The files that OpenSSH's system configuration in `directory` includes and that agents need copies of.

    ssh refuses an included file that is neither root's nor the user's (readconf.c, SSHCONF_CHECKPERM), and in the
    agent's user namespace root's files have no owner. root itself is mapped and needs no copies.

    Returns:
        The paths of files that ssh accepts outside, with no links in them.
    """
    if os.geteuid() == 0:
        return []
    found: dict[Path, None] = {}
    unread = [(directory / "ssh_config", 0)]
    while unread:
        path, depth = unread.pop()
        real = Path(os.path.realpath(path))
        try:
            text, status = real.read_text("utf-8", "replace"), real.stat()
        except OSError:
            continue
        if real in found or depth > _SSH_DEPTH:
            continue
        if depth and status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            found[real] = None
        patterns = [str(directory / pattern) for pattern in _included(text)]
        unread += [(Path(name), depth + 1) for pattern in patterns for name in glob.glob(pattern)]  # noqa: PTH207 - absolute
    return list(found)


def _included(text: str) -> Iterator[str]:
    """The patterns of the Include lines of an ssh_config(5)."""
    for line in text.splitlines():
        match = _SSH_INCLUDE.match(line)
        if match is not None:
            with contextlib.suppress(ValueError):  # an open quote, which ssh refuses
                yield from shlex.split(match[1], comments=True)


async def read_pid(descriptor: int) -> int:
    """The pid of the program that bwrap has started, once bwrap reports it.

    Raises:
        ExecutionFailedError: bwrap ended, or reported nothing in time.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    report = b""
    try:
        async with asyncio.timeout(_INFO_SECONDS):
            while not report.rstrip().endswith(b"}") and len(report) < _INFO_BYTES:
                await readable.wait()
                readable.clear()
                more = os.read(descriptor, _INFO_BYTES)
                if not more:
                    break
                report += more
        return int(json.loads(report)["child-pid"])
    except (ValueError, KeyError, TypeError, TimeoutError) as error:
        raise ExecutionFailedError("bubblewrap could not confine the agent (claude.confinement).") from error
    finally:
        loop.remove_reader(descriptor)


def _hiding(hidden: Sequence[Path], shown: Sequence[Path]) -> Iterator[str]:
    """Mount empty read-only directories over hidden directories, and /dev/null over hidden files."""
    folders = [path for path in hidden if path.is_dir()]
    for path in hidden:
        if path in folders:
            yield from ("--perms", "0500", "--tmpfs", str(path))
        elif not any(path.is_relative_to(folder) for folder in folders):
            yield from ("--ro-bind-try", "/dev/null", str(path))
    for path in shown:
        yield from ("--bind-try", str(path), str(path))
    for path in folders:
        yield from ("--remount-ro", str(path))


def _project_mounts(program: str, writable: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Mount everything read-only except the directories of the work and of the CLI itself."""
    yield from ("--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc")
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    empty = [*_TEMPORARY, runtime, environment.get("TMPDIR", "")]
    temporary = {os.path.realpath(path) for path in empty if path and os.path.isdir(path)}  # noqa: PTH112 - no error
    for path in sorted(temporary):
        yield from ("--perms", "1777", "--tmpfs", path)
    for path in _SERVICES:
        if os.path.exists(path):  # noqa: PTH110 - no error where a directory above is closed
            yield from ("--ro-bind", "/dev/null", os.path.realpath(path))
    binary = os.path.realpath(program)
    for path in dict.fromkeys((binary, program)):  # a link is looked up by its own path
        if any(Path(path).is_relative_to(folder) for folder in temporary):
            yield from ("--ro-bind", binary, path)
    home = environment.get("HOME", "")
    own = environment.get("CLAUDE_CONFIG_DIR") or (home and f"{home}/.claude")
    if own:
        Path(own).mkdir(mode=0o700, parents=True, exist_ok=True)
        yield from ("--bind", os.path.realpath(own), os.path.realpath(own))
    if home:
        yield from ("--bind-try", f"{home}/.claude.json", f"{home}/.claude.json")
    for path in writable:
        yield from ("--bind", path, path)
