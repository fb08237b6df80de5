"""Ends a process group when the process that started it has ended: python reaper.py SECONDS.

It leads the group and waits for the end of its standard input, a pipe whose other end only the starter has, and which
the system closes when the starter ends in any way. PR_SET_PDEATHSIG (prctl(2)) is not enough: it exists on Linux only,
does not reach the children of the programs, and also fires when a thread ends.
"""

import contextlib
import os
import signal
import sys
import time
from typing import Final

import psutil

_POLL_SECONDS: Final = 0.05


def main(grace_seconds: float) -> None:
    """Wait, then end the group with SIGTERM, and with SIGKILL after the grace period."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(4096):
        pass
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while others() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if others():
        os.killpg(0, signal.SIGKILL)


def others() -> bool:
    """Whether other processes of this process's group are running."""
    own, group = os.getpid(), os.getpgrp()
    for process in psutil.process_iter(["status"]):
        if process.pid == own or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group:
                return True
    return False


if __name__ == "__main__":
    main(float(sys.argv[1]))
