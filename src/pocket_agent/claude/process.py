"""CLI processes: started, adopted by a later server, interrupted, ended together with their children."""

import asyncio
import errno
import functools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from pocket_agent import errors
from pocket_agent.claude.command_line import PROCESS_MARKER
from pocket_agent.claude.confinement import BWRAP, SYSTEMD_RUN, Confinement, read_pid, restrain, scoped, ssh_files
from pocket_agent.claude.installation import ADVICE
from pocket_agent.claude.process_tree import ProcessTree, open_pidfd, read_marker, read_row, send_signal
from pocket_agent.claude.spool import Spool
from pocket_agent.settings import AgentLimitSettings

# ----------------------------------------------------------------------
# The directory that a process starts in: the allowed one, even when its path leads elsewhere by then.

_DESCRIPTORS: Final = Path("/proc/self/fd")


@contextmanager
def held(path: Path) -> Iterator[str]:
    """A path to start a process in that names the directory by its descriptor, valid inside the block.

    An agent may move a directory and put a link in its place between the check of a path and its use.
    Therefore each part is opened by itself, and no part may be a link, since links were resolved when the path
    was allowed. On systems other than Linux this is the unchanged path.

    Args:
        path: absolute, symlinks resolved.

    Raises:
        OSError: a part is missing, not a directory, or a link (ENOTDIR).
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
        # A process that is being started still has the server's descriptors when it changes its directory.
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
"""The first and the longest pause between scans of a process tree that is ending."""

_SIGNALLED: Final = 128
"""bwrap reports a signal that ended its child as this plus the number of the signal."""
_LOOK_SECONDS: Final = 0.01
_MAX_LOOKS: Final = 300
"""How often bwrap is polled after the end of its child before its exit code counts as unknown."""

_NO_PID: Final = -1
_ORPHAN_SECONDS: Final = 5.0
_CANCEL_SECONDS: Final = 5.0
"""How long a cancelled start waits for its thread, which a mount may block."""


@functools.cache
def boot_id() -> str:
    """Identifies the current boot of the machine; pids and start times are only valid within it."""
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

    A thread uses the file system, since a mount may hang. After an error or a cancellation no process and no
    descriptor is left. Only when a mount blocks the thread for more than 5 s after a cancellation, or the caller is
    cancelled again, does the thread end later what it has started.

    Args:
        argv: see `command_line.build_argv`.
        cwd: the project's directory, symlinks resolved.
        environment: see `command_line.build_environment`; the mark of the process tree is added.
        spool: created, and used by no other process.
        limits: limits of the machine's resources.
        umask: of the process; -1 for the one of this process.
        confinement: the part of the machine that it can see.
        directories: those besides `cwd` that it works in.
        files: texts by the flags that take the path of a file. Unlike an argument list, other users of the machine
            cannot read them.

    Raises:
        ClaudeNotFoundError: the program is missing or cannot be run.
        ExecutionFailedError: the directory is gone, or the arguments are too long.
        ResourceLimitError: the system cannot have another process or file.
    """
    launch = functools.partial(
        _launch, argv, cwd, environment, spool, limits, umask, confinement, directories, files or {}
    )
    child = await _launched(launch, lambda unused: _discard(unused, spool.id))
    try:
        pid = child.pid if child.info is None else await read_pid(child.info)
        with suppress(ProcessLookupError):  # it has ended, and bwrap has reaped it
            restrain(pid, limits)
        row = read_row(pid)
        start_time = row.start_time if row is not None else ""
        process = ClaudeProcess(pid, start_time, spool.id, open_pidfd(pid), child=child.pid)
    except BaseException as error:
        # Shielded: the thread goes on when this task is cancelled once more.
        await asyncio.shield(asyncio.to_thread(_discard, child, spool.id))
        if isinstance(error, errors.ExecutionFailedError):
            raise errors.ExecutionFailedError(error.message, details={"stderr": spool.error_tail()}) from error
        if isinstance(error, OSError):
            text = f"The new process cannot be looked up, or limited: {error.strerror}."
            raise errors.ResourceLimitError(text) from error
        raise
    child.close()
    return process


@dataclass(frozen=True, slots=True)
class _Child:
    """A new child process of this server: the CLI, or the bwrap around it.

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
    """Call `launch` in a thread and return its child.

    When the caller is cancelled first, the thread discards the child, for which the caller waits a limited time.
    """
    result: Future[_Child] = Future()

    def run() -> None:
        if result.cancelled():
            return
        try:
            child = launch()
        except BaseException as error:  # noqa: BLE001 - raised in the coroutine that waits
            with suppress(InvalidStateError):  # cancelled
                result.set_exception(error)
            return
        try:
            result.set_result(child)
        except InvalidStateError:  # cancelled
            discard(child)

    thread = asyncio.get_running_loop().run_in_executor(None, run)
    try:
        return await asyncio.wrap_future(result)
    except asyncio.CancelledError:
        # Either the thread sees the cancellation, or its result is here.
        if result.cancel():
            await asyncio.wait({thread}, timeout=_CANCEL_SECONDS)
        elif result.exception() is None:
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
        with ExitStack() as stack:
            # Read and write: the process holds its own input open, so that it never reads an end of file.
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
    # The server reaps children by pid, as it does adopted processes. With a return code, Popen neither
    # reaps the child too nor warns about it.
    child.returncode = 0
    return _Child(child.pid, info)


def _discard(child: _Child, marker: str) -> None:
    """Kill and reap a process that failed to start, and its descendants. Blocks for up to 5 s: call it in a thread."""
    child.close()
    # By the mark alone: the pid of a process inside bwrap is not known yet.
    tree = ProcessTree(_NO_PID, "", marker)
    deadline = time.monotonic() + _ORPHAN_SECONDS
    reaped = False
    while time.monotonic() < deadline:
        if not reaped:
            os.kill(child.pid, signal.SIGKILL)
            reaped, _ = _reap(child.pid)
        if not tree.scan() and reaped:
            return
        tree.signal(signal.SIGKILL)
        time.sleep(_SCAN_SECONDS[0])


def _refuse_missing(binary: str) -> None:
    """Raise the error of execve(2) for a program that bwrap will start."""
    if not os.access(binary, os.X_OK):
        number = errno.EACCES if Path(binary).exists() else errno.ENOENT
        raise OSError(number, os.strerror(number))


def check_directory(cwd: Path) -> None:
    """Raise DirectoryUnavailableError when no process can work in the directory. May block on a hanging disk."""
    replaced = is_replaced(cwd)
    if replaced or not (cwd.is_dir() and os.access(cwd, os.X_OK)):
        fault = "was replaced by a link" if replaced else "is gone, or may not be entered"
        raise errors.DirectoryUnavailableError(f"The project's directory {fault}.")


@contextmanager
def _unnamed(text: str, directory: Path) -> Iterator[int]:
    """The descriptor of an unnamed file with this text (mode 0600), which leaves no file behind.

    A process that inherits it opens it again as `/dev/fd/N` (proc_pid_fd(5)), whatever its mount namespace.

    Raises:
        ResourceLimitError: the disk is full.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(dir=directory))
            file.write(text.encode("utf-8", "surrogatepass"))
            file.flush()
        except OSError as error:
            raise errors.ResourceLimitError(
                f"The options for the agent could not be written: {error.strerror}."
            ) from error
        file.seek(0)
        yield file.fileno()


def _opened(stack: ExitStack, path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    stack.callback(os.close, descriptor)
    return descriptor


def _explained(error: OSError | ValueError, binary: str, cwd: Path) -> errors.PocketAgentError:
    """The exception for a failed start."""
    if isinstance(error, ValueError):
        return errors.ExecutionFailedError("An argument or a variable for the agent contains a NUL character.")
    if error.errno in {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}:
        return errors.ResourceLimitError(f"The system cannot start another process: {error.strerror}.")
    if error.errno == errno.E2BIG:
        return errors.ExecutionFailedError("The options are too long to be passed to the agent.")
    try:
        check_directory(cwd)
    except errors.DirectoryUnavailableError as unavailable:
        return unavailable
    around = {SYSTEMD_RUN: "claude.limits.by", BWRAP: "claude.confinement"}.get(Path(binary).name)
    if around is not None:
        return errors.ExecutionFailedError(f"{binary} is missing, or cannot be run; it is needed for {around}.")
    fault = f"cannot be run: {error.strerror}" if Path(binary).exists() else "is missing"
    return errors.ClaudeNotFoundError(f"The Claude Code CLI {fault}. {ADVICE}")


def adopt(pid: int, start_time: str, boot: str, marker: str | None = None) -> "ClaudeProcess | None":
    """Take over a process that an earlier server started; None when it is gone. Needs a running loop.

    Args:
        pid, start_time, boot: the stored attributes of the `ClaudeProcess`.
        marker: the id of its spool; None to read it from the process.

    Raises:
        OSError: the system cannot be queried now (too many open files).
    """
    if boot != boot_id():
        return None
    with ExitStack() as undo:
        # Opened first, so that it refers to the very process whose start time is read next.
        descriptor = open_pidfd(pid)
        if descriptor is not None:
            undo.callback(os.close, descriptor)
        row = read_row(pid)
        if row is None or row.start_time != start_time or row.zombie:
            return None
        process = ClaudeProcess(pid, start_time, marker or read_marker(pid), descriptor, child=None)
        undo.pop_all()
    return process


async def kill_leftovers(pid: int, start_time: str, boot: str, marker: str, *, grace: float = 5.0) -> bool:
    """Kill the descendants of a process that ended while no server ran; returns whether none is left.

    Args:
        pid, start_time, boot: the stored attributes of the `ClaudeProcess`.
        marker: the id of its spool.
        grace: seconds to try it at most.
    """
    return boot != boot_id() or await _gone(ProcessTree(pid, start_time, marker), grace, kill=True)


async def kill_orphans(directory: Path, known: Collection[str]) -> int:
    """End the processes of spools without a record, remove their files, and return their number.

    A server that was killed between starting a process and storing its record leaves such a spool.

    Args:
        directory: the folder of all spools.
        known: the ids of the spools that have a record.
    """
    orphans = [spool for spool in Spool.list(directory) if spool.id not in known]
    for spool in orphans:
        await kill_marked(spool.id)
        spool.remove()
    return len(orphans)


async def kill_marked(marker: str) -> None:
    """End the processes whose environment has this mark; their pids are not known."""
    await _gone(ProcessTree(_NO_PID, "", marker), _ORPHAN_SECONDS, kill=True)


class ClaudeProcess:
    """A running CLI process, or one that has ended. Made by `spawn` and `adopt`.

    Attributes:
        pid: its id, and that of its process group and session.
        start_time: distinguishes it from other processes that get the same pid (Linux: clock ticks since
            the boot, proc(5) stat field 22; elsewhere seconds since the epoch). Empty when it had
            ended before it could be looked up.
        exited: done when the process is gone, and reaped if it was a child of this server; the
            result is its exit code (negative for a signal), None when that cannot be known. Use `wait`
            to await it, which shields it from cancellation.
    """

    def __init__(
        self, pid: int, start_time: str, marker: str | None, descriptor: int | None, *, child: int | None
    ) -> None:
        self.pid = pid
        self.start_time = start_time
        self.boot_id = boot_id()
        self._marker = marker
        self._descriptor = descriptor
        # The child that this server reaps: the process itself, or the bwrap around it; None for an adopted one.
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
        """The exit status, or the negative number of a signal; None when it is not known (yet)."""
        return self.exited.result() if self.exited.done() else None

    async def wait(self) -> int | None:
        """Wait until the process is gone; returns its exit code, where that can be known."""
        return await asyncio.shield(self.exited)

    def interrupt_signal(self) -> None:
        """Send SIGINT to the process alone: an idle process ends, a busy one aborts its turn and ends."""
        if not self.has_exited:
            send_signal(self.pid, self.start_time, signal.SIGINT)

    async def terminate(
        self, *, interrupt_grace: float = 10.0, terminate_grace: float = 5.0, kill_grace: float = 5.0, idle: bool
    ) -> bool:
        """End the process and its descendants; may be called again.

        Args:
            interrupt_grace: seconds between SIGINT and SIGTERM, for an idle process.
            terminate_grace: seconds between SIGTERM and SIGKILL.
            kill_grace: seconds to wait for processes that survive SIGKILL (in the kernel).
            idle: whether no turn runs; then SIGINT comes first.

        Returns:
            Whether all are gone.
        """
        tree = ProcessTree(self.pid, self.start_time, self._marker)
        # Before the first signal: processes that leave the group later have a parent now.
        await asyncio.to_thread(tree.scan)
        if idle and not self.has_exited:
            self.interrupt_signal()
            await asyncio.wait({self.exited}, timeout=interrupt_grace)
        if await asyncio.to_thread(tree.scan):
            if tree.members:
                tree.signal(signal.SIGTERM)
                tree.signal(signal.SIGCONT)  # a stopped process does not handle the SIGTERM
            else:
                self._signal_group(signal.SIGTERM)
            await _gone(tree, terminate_grace)
        self._signal_group(signal.SIGKILL)
        gone = await _gone(tree, kill_grace, kill=True)
        if not self.has_exited:
            self._check()  # after `release` no reader and no timer does
        await asyncio.wait({self.exited}, timeout=kill_grace)
        ended = self.has_exited
        if not ended:
            # It survives SIGKILL (in the kernel): it counts as gone, since no caller could do more.
            self.release()
            self.exited.set_result(None)
        return gone and ended

    async def kill_group(self, *, grace: float = 5.0) -> bool:
        """Kill the descendants of the process, which has ended by itself; True when none is left."""
        return await _gone(ProcessTree(self.pid, self.start_time, self._marker), grace, kill=True)

    def release(self) -> None:
        """Stop watching the process and leave it running; `exited` will not be set any more."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the group while the process itself lives, which needs no scan of the process table."""
        if not self.has_exited and not self._is_gone():
            with suppress(ProcessLookupError, PermissionError):
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
        """As `_reap`, for a process inside bwrap: bwrap ends right after it, with its exit code."""
        assert self._child is not None
        if not self._is_gone():
            return False, None
        ended, code = _reap(self._child)
        if ended:
            return True, -(code - _SIGNALLED) if code is not None and code > _SIGNALLED else code
        # The pidfd of the ended process stays readable; a timer polls bwrap instead.
        self.release()
        self._looks += 1
        return self._looks > _MAX_LOOKS, None  # a bwrap that stays (stopped, perhaps) is reaped with this server

    def _is_gone(self) -> bool:
        try:
            row = read_row(self.pid)
        except OSError:  # the system cannot be queried now
            return False
        return row is None or row.zombie or row.start_time != self.start_time


def _reap(pid: int) -> tuple[bool, int | None]:
    """Whether a child has ended, and its exit code where that can be known; never waits."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # another caller has reaped it
        return True, None
    return (True, os.waitstatus_to_exitcode(status)) if reaped else (False, None)


async def _gone(tree: ProcessTree, grace: float, *, kill: bool = False) -> bool:
    """Wait at most `grace` seconds until no member is alive; with `kill`, send SIGKILL after each scan.

    Once is not enough, since members may fork during the scan.
    """
    deadline = time.monotonic() + grace
    pause, longest = _SCAN_SECONDS
    while await asyncio.to_thread(tree.scan):
        if time.monotonic() >= deadline:
            return False
        if kill:
            tree.signal(signal.SIGKILL)
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest)
    return True
