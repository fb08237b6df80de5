"""Ends a process group when the process that started it is gone: python reaper.py SECONDS.

It leads the group and waits for the end of its standard input, a pipe whose other end only the starter has. The
system closes that when the starter ends, however it ends. No option of the system alone does this: PR_SET_PDEATHSIG
(prctl(2)) is Linux's, does not reach what the programs start themselves, and counts the end of a thread.
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
    """Wait, then end the group: the others are asked, and killed when they take longer than the grace."""
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
    """Whether anybody else of this process's group is still there."""
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
