"""A CLI process and everything that it has started: found, and signalled without hitting strangers.

Killing the process group is not enough: the CLI (2.1.330) runs each Bash command in a session of its
own, and commands may fork, call setsid and outlive their parents. Members are therefore found by
parentage, by process group, by session, and by an environment variable that all of them inherit. A
process is identified by its pid and start time together, since pids are used again.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from pocket_agent.claude.command_line import PROCESS_MARKER

_LINUX: Final = sys.platform.startswith("linux")
_PROC: Final = Path("/proc")
_KERNEL: Final = frozenset({0, 2})
"""Parents of Linux's kernel threads, which have no environment."""

_EXECUTING_SECONDS: Final = 0.001


class Row(NamedTuple):
    """One process of the system at one moment. `start_time` is in the system's own unit."""

    pid: int
    parent: int
    group: int
    session: int
    start_time: str
    zombie: bool


def read_row(pid: int) -> Row | None:
    """What the system says of a process; None when there is none with this pid, or it is not ours to ask.

    Raises:
        OSError: the system cannot be asked now (too many open files).
    """
    try:
        return _read_linux(pid) if _LINUX else _read_portable(pid)
    except (FileNotFoundError, ProcessLookupError, PermissionError, psutil.Error):
        return None


def _read_linux(pid: int) -> Row:
    # The name, in parentheses, may contain anything; the fields are counted from behind it, and
    # field 3 (state) of proc(5) is then number 0.
    fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    return Row(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_time=fields[19].decode(),
        zombie=fields[0] in {b"Z", b"X"},
    )


def _read_portable(pid: int) -> Row:
    process = psutil.Process(pid)
    with process.oneshot():
        return Row(
            pid=pid,
            parent=process.ppid(),
            group=os.getpgid(pid),
            session=os.getsid(pid),
            start_time=repr(process.create_time()),
            zombie=process.status() == psutil.STATUS_ZOMBIE,
        )


def read_marker(pid: int) -> str | None:
    """The value of the environment variable that marks a CLI process and its descendants.

    None when it has none, or cannot be asked, or is just being executed (see `Family.scan`).
    """
    return (_read_environment(pid) or {}).get(PROCESS_MARKER)


def _read_environment(pid: int) -> dict[str, str] | None:
    """The environment that a process was started with; None when it cannot be asked."""
    try:
        if not _LINUX:
            return psutil.Process(pid).environ()
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (OSError, psutil.Error):
        return None
    pairs = (os.fsdecode(variable).partition("=") for variable in variables if variable)
    return {name: value for name, _, value in pairs}


class Family:
    """The members of one CLI process's family that were found so far, dead ones left out at each look.

    Args:
        pid: of the CLI process, which leads its own process group and session.
        start_time: of the CLI process, as `Row.start_time`.
        marker: what the family's environments say; None when that is not known.
    """

    def __init__(self, pid: int, start_time: str, marker: str | None) -> None:
        self._pid = pid
        self._start_time = start_time
        self._marker = marker
        self._group_is_ours = True
        self._members: dict[int, Row] = {}

    @property
    def members(self) -> list[Row]:
        """Who was alive at the last `scan`."""
        return list(self._members.values())

    def scan(self) -> bool:
        """Look for members, in milliseconds; reads the process table, so better in a thread.

        Returns:
            Whether any is alive, as far as can be seen.
        """
        try:
            rows = {row.pid: row for pid in psutil.pids() if (row := read_row(pid)) is not None}
        except OSError:  # too many open files: what was known stays known
            return True
        leader = rows.get(self._pid)
        # A pid is not given out again while a group of that id has members. So when the pid belongs
        # to somebody else, our group is empty and the group of that id is a stranger's.
        self._group_is_ours = leader is None or leader.start_time == self._start_time
        sessions = {row.session for row in self._members.values()}
        if self._group_is_ours:
            sessions.add(self._pid)
        sessions.discard(os.getsid(0))
        found = {
            row.pid
            for row in rows.values()
            if (self._known(row) or row.session in sessions or (self._group_is_ours and row.group == self._pid))
        }
        found |= self._find_marked([row for row in rows.values() if row.pid not in found])
        _add_descendants(found, rows.values())
        found.discard(os.getpid())
        self._members = {pid: rows[pid] for pid in found if not rows[pid].zombie}
        return bool(self._members)

    def _find_marked(self, rows: Iterable[Row]) -> set[int]:
        if self._marker is None:
            return set()
        found: set[int] = set()
        blank: list[int] = []
        for row in rows:
            environment = _read_environment(row.pid)
            if environment and environment.get(PROCESS_MARKER) == self._marker:
                found.add(row.pid)
            elif environment == {} and row.parent not in _KERNEL and not row.zombie:
                blank.append(row.pid)
        if blank:
            # For a moment within execve(2) a process shows no environment at all.
            time.sleep(_EXECUTING_SECONDS)
            found |= {pid for pid in blank if read_marker(pid) == self._marker}
        return found

    def _known(self, row: Row) -> bool:
        known = self._members.get(row.pid)
        return known is not None and known.start_time == row.start_time

    def signal(self, number: signal.Signals) -> None:
        """Signal the process group and every member found that left it."""
        if self._group_is_ours and any(row.group == self._pid for row in self._members.values()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)
        for row in self._members.values():
            if row.group != self._pid:
                send_signal(row.pid, row.start_time, number)


def _add_descendants(found: set[int], rows: Iterable[Row]) -> None:
    children: dict[int, list[int]] = {}
    for row in rows:
        children.setdefault(row.parent, []).append(row.pid)
    unseen = list(found)
    while unseen:
        for child in children.get(unseen.pop(), ()):
            if child not in found:
                found.add(child)
                unseen.append(child)


def send_signal(pid: int, start_time: str, number: signal.Signals) -> bool:
    """Signal a process if it still is the one that started at `start_time`.

    On Linux a pidfd closes the gap between looking and signalling.

    Returns:
        Whether there was such a process.
    """
    descriptor = open_pidfd(pid)
    try:
        row = read_row(pid)
        if row is None or row.start_time != start_time:
            return False
        if descriptor is not None and sys.platform.startswith("linux"):
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(pid, number)
    except OSError:  # it is gone, or not ours
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends (pidfd_open(2)); None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # ESRCH: no such process; EMFILE: too many open files; ENOSYS: an old kernel
        return None
