"""The machine around the server: its clock, and the file that the log goes to."""

import ctypes
import os
import stat
import sys
from pathlib import Path
from typing import Final

from pocket_agent.config.settings import LoggingSettings
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, skipped, warning

_TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised."""


def examine_log(settings: LoggingSettings) -> Finding:
    """Whether the log can be written to; blocking."""
    name = "log"
    output = settings.output
    if not isinstance(output, Path):
        return ok(name, f"goes to {output}")
    fix = f"Make {output.parent} for the server's user and let it write there, or choose another logging.output."
    try:
        _try_to_write(output)
    except OSError as error:
        return failed(name, f"{output} cannot be written: {error.strerror or error}", fix)
    return ok(name, f"goes to {output}")


def _try_to_write(output: Path) -> None:
    """Open a log without changing it; one that is not there yet only needs a directory that takes it.

    Raises:
        OSError: it cannot be written.
    """
    if output.exists():
        mode = output.stat().st_mode
        if stat.S_ISFIFO(mode):  # opened, it would take the place of its reader's own writer
            return
        os.close(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
        return
    parent = next(path for path in output.parents if path.exists())
    if not parent.is_dir():
        raise NotADirectoryError(None, f"{parent} is no directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(None, f"{parent} cannot be written by this user")


class _Timex(ctypes.Structure):
    """The head of `struct timex` (adjtimex(2)); the rest is room that the kernel may write to."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_char * 512))


def kernel_time_state() -> int | None:
    """What adjtimex(2) returns when it is only asked; None where there is no such call."""
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    state = int(call(ctypes.byref(_Timex(0)))) if call is not None else -1
    return state if state >= 0 else None


def examine_clock(state: int | None) -> Finding:
    """Whether the clock is kept right.

    Args:
        state: of `kernel_time_state`.
    """
    name = "clock"
    if state is None:
        return skipped(name, "the system does not tell whether it is synchronised")
    if state == _TIME_ERROR:
        return warning(
            name,
            "is not synchronised: figures, logs and certificates may be judged by the wrong time",
            "Switch time synchronisation on: timedatectl set-ntp true (in a container: on its host).",
        )
    return ok(name, "is synchronised")
