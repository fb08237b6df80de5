"""What an agent may use of the machine: limits of the kernel, or a scope of systemd around it.

The server raises its own limit of open files; agents get the one that the server was started with, since programs
that use select(2), or close every descriptor up to the limit, fail or slow down with a higher one.
"""

import contextlib
import resource
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from pocket_agent.settings import AgentLimitSettings

SYSTEMD_RUN: Final = "systemd-run"
_MOST_FILES: Final = 65_536
"""The soft limit of open files that the server gives itself at most."""
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
    """The command line that runs a program in a scope of its own, if the settings say so.

    `systemd-run --scope` makes the scope and then becomes the program: the process, its descriptors and
    its process group stay what they are (systemd-run(1)).

    Args:
        argv: the program and its arguments.
        limits: the settings.
        user: whether to ask the user's own systemd, as everybody but root has to.
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
    """Limit a process that has just started, and all that it will start.

    Raises:
        OSError: the system refuses.
    """
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
