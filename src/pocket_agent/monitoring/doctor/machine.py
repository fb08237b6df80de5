"""The machine: the data directory, the disk, the clock, the limits of the process, who has which port."""

import ctypes
import errno
import os
import resource
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, skipped, warning

_FILES: Final = 1024
"""Open files that a server with its agents and clients should be allowed."""
_TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised."""


def examine_machine(settings: Settings) -> Iterator[Finding]:
    """Everything that can be seen without asking another program."""
    yield _data_directory(settings.data.dir)
    yield _disk(settings)
    yield _log(settings)
    yield _clock()
    yield _open_files()


def _data_directory(path: Path) -> Finding:
    name = "data directory"
    try:
        mode = path.stat().st_mode
        with tempfile.NamedTemporaryFile(dir=path, prefix=".doctor-"):
            pass
    except FileNotFoundError:
        return failed(name, f"{path} does not exist", "Start the server once; it makes the directory.")
    except OSError as error:
        reason = "it is read-only" if error.errno == errno.EROFS else (error.strerror or str(error))
        return failed(
            name,
            f"{path} cannot be written: {reason}",
            f"Give it back to the server's user (chown, chmod 700 {path}) or mount its file system read-write.",
        )
    if stat.S_IMODE(mode) & 0o077:
        return warning(name, f"{path} is open to other users of this machine", f"chmod 700 {path}")
    return ok(name, f"{path} can be written and is private")


def _disk(settings: Settings) -> Finding:
    name = "disk"
    try:
        free = shutil.disk_usage(settings.data.dir).free
    except OSError as error:
        return skipped(name, f"cannot be asked: {error.strerror}")
    text = f"{free / 2**30:.1f} GiB free for the data directory"
    fix = "Free some space, or lower storage.max_size or storage.max_age."
    if free < settings.limits.min_free_disk:
        return failed(name, f"{text}: new executions are refused (limits.min_free_disk)", fix)
    if free < settings.health.low_disk:
        return warning(name, text, fix)
    return ok(name, text)


def _log(settings: Settings) -> Finding:
    name = "log"
    output = settings.logging.output
    if not isinstance(output, Path):
        return ok(name, f"goes to {output}")
    if output.exists() and not os.access(output, os.W_OK):
        return failed(name, f"{output} cannot be written by this user", f"chown it to the server's user: {output}")
    if not output.exists() and not os.access(output.parent, os.W_OK):
        return failed(name, f"{output} cannot be made", f"Make {output.parent} for the server's user.")
    return ok(name, f"goes to {output}")


class _Timex(ctypes.Structure):
    """The head of `struct timex` (adjtimex(2)); the rest is room that the kernel may write to."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_char * 512))


def _clock() -> Finding:
    name = "clock"
    if sys.platform != "linux":
        return skipped(name, "only Linux tells whether it is synchronised")
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    state = call(ctypes.byref(_Timex(0))) if call is not None else -1
    if state < 0:
        return skipped(name, "the kernel does not tell whether it is synchronised")
    if state == _TIME_ERROR:
        return warning(
            name,
            "is not synchronised",
            "Switch on time synchronisation (timedatectl set-ntp true), or figures and logs do not fit together.",
        )
    return ok(name, "is synchronised")


def _open_files() -> Finding:
    name = "open files"
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < _FILES:
        return warning(
            name,
            f"a process may have {limit}",
            "Raise the limit (ulimit -n, LimitNOFILE= in the unit) to 4096 or more.",
        )
    return ok(name, f"a process may have {'any number' if limit == resource.RLIM_INFINITY else limit}")


def holder(port: int) -> str:
    """Who listens on a port of this machine, for a person; empty when nobody does or it cannot be known."""
    try:
        found = [
            connection
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        ]
    except (psutil.AccessDenied, OSError):
        return ""
    for connection in found:
        if connection.pid is None:
            return "a process of another user"
        try:
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
        except psutil.NoSuchProcess:
            continue
    return ""
