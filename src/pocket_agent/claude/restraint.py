"""What an agent may use of the machine: limits of the kernel, or a scope of systemd around it."""

import resource
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from pocket_agent.config.settings import AgentLimitSettings

SYSTEMD_RUN: Final = "systemd-run"


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


def restrain(pid: int, limits: AgentLimitSettings) -> None:
    """Limit a process that has just started, and all that it will start.

    Raises:
        OSError: the system refuses.
    """
    if sys.platform != "linux" or limits.by != "rlimit":
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
