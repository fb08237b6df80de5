"""Starts servers without importing everything each time: a process that has imported it forks on demand.

A server's imports take most of the processor time of its start. Each test process has one such parent, started when
it is first needed. What runs in the fork is `pocket_agent.cli.main.main`, as in a process of its own.
"""

import array
import asyncio
import contextlib
import dataclasses
import fcntl
import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 2**20


class ForkedProcess:
    """A process as `asyncio.subprocess.Process` shows one.

    Attributes:
        pid: its id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: Future[int] = Future()

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the number of the signal that ended it; None while it runs."""
        return self.status.result() if self.status.done() else None

    async def wait(self) -> int:
        """Wait until it has ended; returns `returncode`."""
        return await asyncio.shield(asyncio.wrap_future(self.status))

    def send_signal(self, number: int) -> None:
        """Send it a signal.

        Raises:
            ProcessLookupError: it has ended.
        """
        if self.status.done():
            raise ProcessLookupError
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


@dataclass
class _Request:
    """See `ForkServer.start`."""

    arguments: list[str]
    environment: dict[str, str]
    umask: int
    terminal: bool
    cwd: str
    imports: list[str]


class ForkServer:
    """The parent of forked processes, with a thread that hears from it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.harness.forkserver", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={"PATH": os.environ["PATH"]},
                cwd=Path(__file__).parents[2],
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours
        self._lock = threading.Lock()
        self._started: Future[ForkedProcess] = Future()
        self._running: dict[int, ForkedProcess] = {}
        threading.Thread(target=self._hear, name="forkserver", daemon=True).start()

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: int,
        *,
        terminal: bool = False,
        cwd: Path | None = None,
        imports: Sequence[str] = (),
    ) -> ForkedProcess:
        """Start `pocket-agent` in a session of its own.

        Args:
            arguments: of the command.
            environment: all of its variables.
            output: a descriptor: its standard output and standard error.
            terminal: `output` is a terminal, which it reads from and which controls its session.
            cwd: its working directory, if not that of the tests.
            imports: modules that it needs and a server does not, imported once for all processes.
        """
        umask = os.umask(0o077)
        os.umask(umask)
        request = _Request([*arguments], dict(environment), umask, terminal, str(cwd or Path.cwd()), [*imports])
        with self._lock:
            self._started = Future()
            socket.send_fds(self._socket, [json.dumps(dataclasses.asdict(request)).encode()], [output])
            return self._started.result()

    def _hear(self) -> None:
        while message := self._socket.recv(_MAX_BYTES):
            pid, status = json.loads(message)
            if status is None:
                self._running[pid] = process = ForkedProcess(pid)
                self._started.set_result(process)
            else:
                self._running.pop(pid).status.set_result(status)
        if not self._started.done():
            self._started.set_exception(RuntimeError("The process that forks servers has ended."))


_servers: Final[dict[int, ForkServer]] = {}


def fork_server() -> ForkServer:
    """The one that belongs to this process."""
    pid = os.getpid()
    if pid not in _servers:
        _servers[pid] = ForkServer()
    return _servers[pid]


def _wait_for_fork(requests: socket.socket) -> None:
    """Fork for each request and report what has ended; returns in each child, and when the tests have ended."""
    wakeup, woken = os.pipe()
    for descriptor in (wakeup, woken):
        os.set_blocking(descriptor, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    while True:
        ready, _, _ = select.select([requests.fileno(), wakeup], [], [])
        if wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 4096)
            with contextlib.suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    requests.send(json.dumps([ended[0], os.waitstatus_to_exitcode(ended[1])]).encode())
        if requests.fileno() in ready:
            message, ancillary, _, _ = requests.recvmsg(_MAX_BYTES, socket.CMSG_SPACE(array.array("i").itemsize))
            if not message:
                os._exit(0)
            descriptors = array.array("i")
            for _, _, data in ancillary:
                descriptors.frombytes(data)
            (output,) = descriptors
            request = _Request(**json.loads(message))
            for module in request.imports:
                importlib.import_module(module)
            if pid := os.fork():
                os.close(output)
                requests.send(json.dumps([pid, None]).encode())
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (wakeup, woken):
                os.close(descriptor)
            requests.close()
            os.setsid()
            if request.terminal:
                os.dup2(output, 0)
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            os.chdir(request.cwd)
            os.umask(request.umask)
            os.environ.clear()
            os.environ.update(request.environment)
            sys.argv = ["pocket-agent", *request.arguments]
            return


if __name__ == "__main__":
    import gc

    import pocket_agent.cli.serve  # noqa: F401 - what a server needs
    from pocket_agent.cli.main import app, main

    # Reading options imports more, and so does the version.
    with contextlib.redirect_stdout(io.StringIO()):
        app(["config", "--json", "--config=/dev/null"], standalone_mode=False)
    gc.freeze()
    _wait_for_fork(socket.socket(fileno=int(sys.argv[1])))
    main()
