"""The process tree of a CLI process: finds and signals all its descendants without PID-reuse races.

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


class Row(NamedTuple):
    """One process of the system at one moment. `start_time` is in the system's own unit."""

    pid: int
    parent: int
    group: int
    session: int
    start_time: str
    zombie: bool


def read_row(pid: int) -> Row | None:
    """The system's data about a process; None when it does not exist, or belongs to another user.

    Raises:
        OSError: the system cannot be queried now (too many open files).
    """
    try:
        return _read_linux(pid) if _LINUX else _read_portable(pid)
    except (FileNotFoundError, ProcessLookupError, PermissionError, psutil.Error):
        return None


def _read_linux(pid: int) -> Row:
    # The name, in parentheses, may contain any character; the fields are counted from behind it, so that
    # field 3 (state) of proc(5) is number 0.
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

    None when it is not set or cannot be read, or during an execve(2) (see `ProcessTree.scan`).
    """
    return (_read_environment(pid) or {}).get(PROCESS_MARKER)


def _read_environment(pid: int) -> dict[str, str] | None:
    """The environment that a process was started with; None when it cannot be read."""
    try:
        if not _LINUX:
            return psutil.Process(pid).environ()
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (OSError, psutil.Error):
        return None
    pairs = (os.fsdecode(variable).partition("=") for variable in variables if variable)
    return {name: value for name, _, value in pairs}


class ProcessTree:
    """The living members of one CLI process's tree.

    Args:
        pid: of the CLI process, which leads its own process group and session.
        start_time: of the CLI process, as `Row.start_time`.
        marker: the value of the mark in the members' environments; None when it is not known.
    """

    def __init__(self, pid: int, start_time: str, marker: str | None) -> None:
        self._pid = pid
        self._start_time = start_time
        self._marker = marker
        self._group_is_ours = True
        self._members: dict[int, Row] = {}

    @property
    def members(self) -> list[Row]:
        """The members that were alive at the last `scan`."""
        return list(self._members.values())

    def scan(self) -> bool:
        """Find members in the process table, which takes milliseconds: call it in a thread.

        Returns:
            Whether any is alive; True when the process table cannot be read.
        """
        try:
            rows = {row.pid: row for pid in psutil.pids() if (row := read_row(pid)) is not None}
        except OSError:  # too many open files: the members of the last scan stay
            return True
        leader = rows.get(self._pid)
        # A pid is not used again while a group of that id has members. So when the pid belongs to
        # another process, this tree's group is empty, and the group of that id is not this tree's.
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
            # For a moment within execve(2) a process has no environment at all.
            time.sleep(0.001)
            found |= {pid for pid in blank if read_marker(pid) == self._marker}
        return found

    def _known(self, row: Row) -> bool:
        known = self._members.get(row.pid)
        return known is not None and known.start_time == row.start_time

    def signal(self, number: signal.Signals) -> None:
        """Signal the process group and every found member that left it."""
        if self._group_is_ours and any(row.group == self._pid for row in self._members.values()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)
        for row in self._members.values():
            if row.group != self._pid:
                send_signal(row.pid, row.start_time, number)


class TreeUsage(NamedTuple):
    """Resources of a process tree.

    Attributes:
        memory_bytes: the resident memory of its processes; pages that they share count once for each.
        cpu_seconds: the CPU time of its processes and of those that have ended and were waited for.
    """

    memory_bytes: int
    cpu_seconds: float


class TreeMeter:
    """Measures several process trees in one pass over the process table.

    A process belongs to the tree whose mark its environment has, or to its parent's. The environment of a process is
    read once, so a pass takes a few microseconds for each process of the system, and more for each of a tree.
    """

    def __init__(self) -> None:
        self._marks: dict[tuple[int, str], str | None] = {}

    def read(self, marks: Iterable[str]) -> dict[str, TreeUsage]:
        """The usage of each tree by its mark, without trees that have no process; call it in a thread.

        Raises:
            OSError, psutil.Error: the system cannot be queried now.
        """
        rows = [row for pid in psutil.pids() if (row := read_row(pid)) is not None and not row.zombie]
        seen = {(row.pid, row.start_time) for row in rows}
        self._marks = {key: mark for key, mark in self._marks.items() if key in seen}
        marked: dict[str, set[int]] = {mark: set() for mark in marks}
        for row in rows:
            mark = self._mark_of(row)
            if mark in marked:
                marked[mark].add(row.pid)
        for found in marked.values():
            _add_descendants(found, rows)
            found.discard(os.getpid())
        return {mark: _usage(found) for mark, found in marked.items() if found}

    def _mark_of(self, row: Row) -> str | None:
        key = (row.pid, row.start_time)
        if key in self._marks:
            return self._marks[key]
        environment = _read_environment(row.pid)
        mark = (environment or {}).get(PROCESS_MARKER)
        if environment or row.parent in _KERNEL or environment is None:  # else an execve(2) may be under way
            self._marks[key] = mark
        return mark


def _usage(pids: Iterable[int]) -> TreeUsage:
    memory, cpu = 0, 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
            process = psutil.Process(pid)
            with process.oneshot():
                memory += process.memory_info().rss
                # A child's time moves to its parent when that waits for it, so no time is lost or counted twice.
                cpu += sum(process.cpu_times()[:4])
    return TreeUsage(memory, cpu)


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
    """Signal a process if it still is the one that started at `start_time`; returns whether it was.

    On Linux the pidfd guarantees that the checked process gets the signal.
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
    except OSError:  # it is gone, or belongs to another user
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends (pidfd_open(2)); None when it cannot be opened."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # ESRCH: no such process; EMFILE: too many open files; ENOSYS: an old kernel
        return None
