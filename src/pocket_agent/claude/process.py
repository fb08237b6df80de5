"""CLI processes: started, adopted by a later server, interrupted, ended together with their children."""

import asyncio
import contextlib
import errno
import functools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from pocket_agent.claude.command_line import PROCESS_MARKER
from pocket_agent.claude.confinement import BWRAP, SYSTEMD_RUN, Confinement, read_pid, restrain, scoped, ssh_files
from pocket_agent.claude.family import Family, open_pidfd, read_marker, read_row, send_signal
from pocket_agent.claude.installation import ADVICE
from pocket_agent.claude.spool import Spool
from pocket_agent.errors import (
    ClaudeNotFoundError,
    DirectoryUnavailableError,
    ExecutionFailedError,
    PocketAgentError,
    ResourceLimitError,
)
from pocket_agent.settings import AgentLimitSettings

# ----------------------------------------------------------------------
# The directory that a process starts in: the one that was allowed, even when its path leads elsewhere by then.

_DESCRIPTORS: Final = Path("/proc/self/fd")


@contextmanager
def held(path: Path) -> Iterator[str]:
    """A path to start a process in, good inside the block, which stands for the directory itself.

    An agent may move a directory and put a link in its place between the check of a path and its use;
    so each part is opened by itself, and none may be a link, since those were resolved when the path was
    allowed. Elsewhere than on Linux it is the path as it is.

    Args:
        path: absolute, symlinks resolved.

    Raises:
        OSError: a part is missing, no directory, or a link (ENOTDIR).
    """
    if not hasattr(os, "O_PATH") or not _DESCRIPTORS.is_dir():
        yield str(path)
        return
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.parts[1:]:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        # A process that is being started still has our descriptors when it changes its directory.
        yield str(_DESCRIPTORS / str(descriptor))
    finally:
        os.close(descriptor)


def is_replaced(path: Path) -> bool:
    """Whether a path that had no links in it has one now."""
    with suppress(OSError):
        return path.resolve(strict=True) != path
    return False


# ----------------------------------------------------------------------
# Starting, adopting and ending a process.

_POLL_SECONDS: Final = 0.05
_SCAN_SECONDS: Final = (0.005, 0.05)
"""How long to wait between looks at a family that is ending: at first, and at most."""

_SIGNALLED: Final = 128
"""bwrap reports a signal that ended its child as this plus the number of the signal."""
_LOOK_SECONDS: Final = 0.01
_MAX_LOOKS: Final = 300
"""How often bwrap is looked at after the end of its child, until its exit code is given up."""

_NO_PID: Final = -1
_ORPHAN_SECONDS: Final = 5.0

_RESOURCE_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}
)


@functools.cache
def boot_id() -> str:
    """Names the current boot of the machine; pids and start times mean nothing beyond it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # not Linux
        return str(int(psutil.boot_time()))


async def spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    spool: Spool,
    limits: AgentLimitSettings | None = None,
    umask: int = -1,
    confinement: Confinement = Confinement(),  # noqa: B008 - immutable
    directories: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> "ClaudeProcess":
    """Start a CLI process in a session of its own, on the files of `spool`.

    The file system is used in a thread, since a mount may hang. After an error or a cancellation no process and no
    descriptor is left; a thread that a mount holds up then ends what it has started by itself.

    Args:
        argv: as of `command.build_argv`.
        cwd: the project's directory, symlinks resolved.
        environment: as of `command.build_environment`; the mark of the family is added.
        spool: created, and used by no other process.
        limits: what it may use of the machine.
        umask: of the process; -1 for the one of this process.
        confinement: what it can see of the machine.
        directories: those besides `cwd` that it works in.
        files: texts by the options that take the path of a file. No other user of the machine can read them, as
            they could an argument list.

    Raises:
        ClaudeNotFoundError: the program is missing or cannot be run.
        ExecutionFailedError: the directory is gone, or the arguments are too long.
        ResourceLimitError: the system has no room for another process or file.
    """

    def launch() -> _Child:
        return _launch(argv, cwd, environment, spool, limits, umask, confinement, directories, files or {})

    child = await _launched(launch, lambda unused: _discard(unused, spool.id))
    try:
        pid = child.pid if child.info is None else await read_pid(child.info)
        with contextlib.suppress(ProcessLookupError):  # it has ended, and bwrap has reaped it
            restrain(pid, limits)
        row = read_row(pid)
        start_time = row.start_time if row is not None else ""
        process = ClaudeProcess(pid, start_time, spool.id, open_pidfd(pid), child=child.pid)
    except BaseException as error:
        # Shielded: the thread goes on when this task is cancelled once more.
        await asyncio.shield(asyncio.to_thread(_discard, child, spool.id))
        if isinstance(error, ExecutionFailedError):
            raise ExecutionFailedError(error.message, details={"stderr": spool.error_tail()}) from error
        if isinstance(error, OSError):
            text = f"The new process cannot be looked up, or limited: {error.strerror}."
            raise ResourceLimitError(text) from error
        raise
    child.close()
    return process


@dataclass(frozen=True, slots=True)
class _Child:
    """A process of this server that was just started: the CLI, or the bwrap around it.

    Attributes:
        pid: not reaped yet, so that no other process can have it.
        info: the descriptor on which bwrap reports the pid of the CLI; None without bwrap.
    """

    pid: int
    info: int | None

    def close(self) -> None:
        """Close the descriptor."""
        if self.info is not None:
            os.close(self.info)


async def _launched(launch: Callable[[], _Child], discard: Callable[[_Child], None]) -> _Child:
    """What `launch` returns, called in a thread; when the caller was cancelled before that, the thread discards it."""
    result: Future[_Child] = Future()

    def run() -> None:
        if result.cancelled():
            return
        try:
            child = launch()
        except BaseException as error:  # noqa: BLE001 - raised in the coroutine that waits
            with contextlib.suppress(InvalidStateError):  # cancelled
                result.set_exception(error)
            return
        try:
            result.set_result(child)
        except InvalidStateError:  # cancelled
            discard(child)

    asyncio.get_running_loop().run_in_executor(None, run)
    try:
        return await asyncio.wrap_future(result)
    except asyncio.CancelledError:
        # Either the thread sees the cancellation, or its result is here, whichever comes first.
        if not result.cancel() and result.exception() is None:
            await asyncio.shield(asyncio.to_thread(discard, result.result()))
        raise


def _launch(
    argv: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    spool: Spool,
    limits: AgentLimitSettings | None,
    umask: int,
    confinement: Confinement,
    directories: Sequence[str],
    files: Mapping[str, str],
) -> _Child:
    """The part of `spawn` that may block."""
    command = list(argv)
    info: int | None = None
    inherited: list[int] = []
    try:
        with contextlib.ExitStack() as stack:
            # Read and write: the process holds its own input open and never sees its end.
            stdin = _opened(stack, spool.input, os.O_RDWR)
            stdout = _opened(stack, spool.output, os.O_WRONLY | os.O_APPEND)
            stderr = _opened(stack, spool.errors, os.O_WRONLY | os.O_APPEND)
            directory = stack.enter_context(held(cwd))
            for option, text in files.items():
                descriptor = stack.enter_context(_unnamed(text, spool.directory))
                inherited.append(descriptor)
                command.append(f"{option}=/dev/fd/{descriptor}")
            if confinement.mode != "off":
                _refuse_missing(argv[0])
                status = Path(directory).stat()
                info, reported = os.pipe()
                stack.callback(os.close, reported)
                copies = {path: _opened(stack, path, os.O_RDONLY) for path in ssh_files()}
                inherited += [reported, *copies.values()]
                command = confinement.command(
                    command,
                    cwd=cwd,
                    identity=(status.st_dev, status.st_ino),
                    directories=directories,
                    environment=environment,
                    info=reported,
                    copies=copies,
                )
            if limits is not None:
                command = scoped(command, limits, user=os.geteuid() != 0)
            child = subprocess.Popen(  # noqa: S603  # argv is a list, no shell reads it
                command,
                pass_fds=inherited,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=directory,
                env={**environment, PROCESS_MARKER: spool.id},
                start_new_session=True,
                umask=umask,
            )
    except (OSError, ValueError) as error:
        if info is not None:
            os.close(info)
        raise _explained(error, command[0], cwd) from error
    # Reaping is done by pid, so that it is the same whoever started the process. Popen must
    # neither do it too nor complain that nobody did.
    child.returncode = 0
    return _Child(child.pid, info)


def _discard(child: _Child, marker: str) -> None:
    """Kill and reap a process that failed to start, and its descendants. Blocks for up to 5 s: call it in a thread."""
    child.close()
    # By the mark alone: a process inside bwrap is not known yet.
    family = Family(_NO_PID, "", marker)
    deadline = time.monotonic() + _ORPHAN_SECONDS
    reaped = False
    while time.monotonic() < deadline:
        if not reaped:
            os.kill(child.pid, signal.SIGKILL)
            reaped, _ = _reap(child.pid)
        if not family.scan() and reaped:
            return
        family.signal(signal.SIGKILL)
        time.sleep(_SCAN_SECONDS[0])


def _refuse_missing(binary: str) -> None:
    """As execve(2) would, for a program that bwrap is to start."""
    if not os.access(binary, os.X_OK):
        missing = not Path(binary).exists()
        number = errno.ENOENT if missing else errno.EACCES
        raise OSError(number, os.strerror(number))


def check_directory(cwd: Path) -> None:
    """Refuse a project's directory in which no process can work now. May block on a disk that hangs.

    Raises:
        DirectoryUnavailableError: it is gone, was replaced by a link, or may not be entered.
    """
    if is_replaced(cwd) or not (cwd.is_dir() and os.access(cwd, os.X_OK)):
        raise _explained(NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), "", cwd)


@contextlib.contextmanager
def _unnamed(text: str, directory: Path) -> Iterator[int]:
    """The descriptor of a file with this text that has no name (mode 0600), so that nothing is left of it.

    A process that inherits it opens it again as `/dev/fd/N` (proc_pid_fd(5)), whatever its mount namespace.

    Raises:
        ResourceLimitError: the disk is full.
    """
    try:
        file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed below, apart from the caller's errors
    except OSError as error:
        raise _unwritten(error) from error
    with file:
        try:
            file.write(text.encode("utf-8", "surrogatepass"))
            file.flush()
        except OSError as error:
            raise _unwritten(error) from error
        file.seek(0)
        yield file.fileno()


def _unwritten(error: OSError) -> ResourceLimitError:
    return ResourceLimitError(f"The options for the agent could not be written: {error.strerror}.")


def _opened(stack: contextlib.ExitStack, path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    stack.callback(os.close, descriptor)
    return descriptor


def _explained(error: OSError | ValueError, binary: str, cwd: Path) -> PocketAgentError:
    """What a failed start means."""
    if isinstance(error, ValueError):
        return ExecutionFailedError("An argument or a variable for the agent contains a NUL character.")
    if error.errno in _RESOURCE_ERRORS:
        return ResourceLimitError(f"The system cannot start another process: {error.strerror}.")
    if error.errno == errno.E2BIG:
        return ExecutionFailedError("The options are too long to be passed to the agent.")
    replaced = is_replaced(cwd)
    if replaced or not (cwd.is_dir() and os.access(cwd, os.X_OK)):
        fault = "was replaced by a link" if replaced else "is gone, or may not be entered"
        return DirectoryUnavailableError(f"The project's directory {fault}.")
    around = {SYSTEMD_RUN: "claude.limits.by", BWRAP: "claude.confinement"}.get(Path(binary).name)
    if around is not None:
        return ExecutionFailedError(f"{binary} is missing, or cannot be run; it is needed for {around}.")
    fault = f"cannot be run: {error.strerror}" if Path(binary).exists() else "is missing"
    return ClaudeNotFoundError(f"The Claude Code CLI {fault}. {ADVICE}")


def adopt(pid: int, start_time: str, boot: str, marker: str | None = None) -> "ClaudeProcess | None":
    """Take over a process that an earlier server started; None when it is gone. Needs a running loop.

    Args:
        pid: as recorded.
        start_time: as recorded, from `ClaudeProcess.start_time`.
        boot: as recorded, from `ClaudeProcess.boot_id`.
        marker: the id of its spool; None to read it from the process.

    Raises:
        OSError: the system cannot be asked now (too many open files).
    """
    if boot != boot_id():
        return None
    # Opened first: it then stands for the very process whose start time is read next.
    descriptor = open_pidfd(pid)
    try:
        row = read_row(pid)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        raise
    if row is None or row.start_time != start_time or row.zombie:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return ClaudeProcess(pid, start_time, marker or read_marker(pid), descriptor, child=None)


async def kill_leftovers(pid: int, start_time: str, boot: str, marker: str, *, grace: float = 5.0) -> bool:
    """Kill what a process that ended while no server ran has left behind.

    Args:
        pid: as recorded; likewise `start_time` and `boot`.
        marker: the id of its spool.
        grace: seconds until it is given up.

    Returns:
        Whether nothing is left.
    """
    if boot != boot_id():
        return True
    return await _kill(Family(pid, start_time, marker), grace)


async def kill_orphans(directory: Path, known: Collection[str]) -> int:
    """End the processes of spools that nobody knows, and remove their files.

    A server that was killed between starting a process and storing its record leaves one behind.

    Args:
        directory: the folder of all spools.
        known: the ids of the spools that have a record.

    Returns:
        How many spools there were.
    """
    orphans = [spool for spool in Spool.list(directory) if spool.id not in known]
    for spool in orphans:
        # No pid is known, so the mark in the environment is all that finds them.
        await _kill(Family(_NO_PID, "", spool.id), _ORPHAN_SECONDS)
        spool.remove()
    return len(orphans)


class ClaudeProcess:
    """A running CLI process, or one that has ended. Made by `spawn` and `adopt`.

    Attributes:
        pid: its id, and that of its process group and session.
        start_time: tells it from other processes that get the same pid (Linux: clock ticks since
            the boot, proc(5) stat field 22; elsewhere seconds since the epoch). Empty when it had
            ended before it could be looked up.
        exited: done when the process is gone, and reaped if it was a child of this server; the
            result is its exit code (negative for a signal), None when that cannot be known. Do
            not await it unshielded: `wait` does it right.
    """

    def __init__(
        self, pid: int, start_time: str, marker: str | None, descriptor: int | None, *, child: int | None
    ) -> None:
        self.pid = pid
        self.start_time = start_time
        self.boot_id = boot_id()
        self._marker = marker
        self._descriptor = descriptor
        # What this server reaps: the process itself, or the bwrap around it; None for an adopted one.
        self._child = child
        self._looks = 0
        self._loop = asyncio.get_running_loop()
        self._poll: asyncio.TimerHandle | None = None
        self.exited: asyncio.Future[int | None] = self._loop.create_future()
        if descriptor is not None:
            self._loop.add_reader(descriptor, self._check)
        else:
            self._poll = self._loop.call_later(_POLL_SECONDS, self._check)

    @property
    def has_exited(self) -> bool:
        """Whether the process is gone."""
        return self.exited.done()

    @property
    def exit_code(self) -> int | None:
        """How it ended: an exit status, or the negative number of a signal; None if not known (yet)."""
        return self.exited.result() if self.exited.done() else None

    async def wait(self) -> int | None:
        """Wait until the process is gone; gives its exit code, where that can be known."""
        return await asyncio.shield(self.exited)

    def interrupt_signal(self) -> None:
        """Send SIGINT to the process alone: an idle one ends, a busy one gives up its turn and ends."""
        if not self.has_exited:
            send_signal(self.pid, self.start_time, signal.SIGINT)

    async def terminate(
        self,
        *,
        interrupt_grace: float = 10.0,
        terminate_grace: float = 5.0,
        kill_grace: float = 5.0,
        idle: bool,
    ) -> bool:
        """End the process and all that it has started; may be called again.

        Args:
            interrupt_grace: seconds that an idle process gets to end after SIGINT.
            terminate_grace: seconds that all get to end after SIGTERM.
            kill_grace: seconds after which what survives SIGKILL (in the kernel) is given up.
            idle: whether no turn runs; then the process is asked politely first.

        Returns:
            Whether all are gone.
        """
        family = Family(self.pid, self.start_time, self._marker)
        # Before anything is signalled: what leaves the group later has a parent now.
        await asyncio.to_thread(family.scan)
        if idle and not self.has_exited:
            self.interrupt_signal()
            await asyncio.wait({self.exited}, timeout=interrupt_grace)
        if await asyncio.to_thread(family.scan):
            if family.members:
                family.signal(signal.SIGTERM)
                family.signal(signal.SIGCONT)  # what is stopped cannot see the SIGTERM
            else:
                self._signal_group(signal.SIGTERM)
            await _gone(family, terminate_grace)
        self._signal_group(signal.SIGKILL)
        gone = await _kill(family, kill_grace)
        if not self.has_exited:
            self._check()  # nobody else does after `release`
        await asyncio.wait({self.exited}, timeout=kill_grace)
        ended = self.has_exited
        if not ended:
            # It survives SIGKILL (in the kernel): it counts as gone, since no caller could do more.
            self.release()
            self.exited.set_result(None)
        return gone and ended

    async def kill_group(self, *, grace: float = 5.0) -> bool:
        """Kill what the process, which has ended by itself, has left behind; True when nothing is left."""
        return await _kill(Family(self.pid, self.start_time, self._marker), grace)

    def release(self) -> None:
        """Stop watching the process and leave it running; `exited` will not be told any more."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the group while the process itself lives; that needs no look at the process table."""
        if not self.has_exited and not self._is_gone():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _check(self) -> None:
        if self._child is None:
            ended, code = self._is_gone(), None
        elif self._child == self.pid:
            ended, code = _reap(self.pid)
        else:
            ended, code = self._reap_around()
        if ended:
            self.release()
            if not self.exited.done():
                self.exited.set_result(code)
        elif self._descriptor is None:
            self._poll = self._loop.call_later(_LOOK_SECONDS if self._looks else _POLL_SECONDS, self._check)

    def _reap_around(self) -> tuple[bool, int | None]:
        """As `_reap`, for a process inside bwrap, whose own end comes right after and has the exit code."""
        assert self._child is not None
        if not self._is_gone():
            return False, None
        ended, code = _reap(self._child)
        if ended:
            return True, -(code - _SIGNALLED) if code is not None and code > _SIGNALLED else code
        # Its pidfd stays readable, and there is none for what follows.
        self.release()
        self._looks += 1
        if self._looks > _MAX_LOOKS:  # stopped, perhaps; it is reaped with this server
            return True, None
        return False, None

    def _is_gone(self) -> bool:
        try:
            row = read_row(self.pid)
        except OSError:  # it cannot be told now
            return False
        return row is None or row.zombie or row.start_time != self.start_time


def _reap(pid: int) -> tuple[bool, int | None]:
    """Whether a child has ended, and its exit code where that can be known; never waits."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # another caller has reaped it
        return True, None
    return (True, os.waitstatus_to_exitcode(status)) if reaped else (False, None)


async def _gone(family: Family, grace: float) -> bool:
    """Wait until no member is alive, at most `grace` seconds."""
    deadline = time.monotonic() + grace
    pause, longest = _SCAN_SECONDS
    while await asyncio.to_thread(family.scan):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest)
    return True


async def _kill(family: Family, grace: float) -> bool:
    """SIGKILL, again and again, since members may fork while they are being found."""
    deadline = time.monotonic() + grace
    pause, longest = _SCAN_SECONDS
    while await asyncio.to_thread(family.scan):
        if time.monotonic() >= deadline:
            return False
        family.signal(signal.SIGKILL)
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest)
    return True
