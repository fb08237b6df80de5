"""Starts the scripted model as a process that outlives the server, once per data directory."""

import asyncio
import fcntl
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent.errors import InternalError, PocketAgentError

DEFAULT_IDLE_SECONDS: Final = 1800.0
"""The time without a request after which the process exits."""

HOST: Final = "127.0.0.1"

_LOCK_SECONDS: Final = 30.0
_START_SECONDS: Final = 30.0
_IDENTITY_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.05
_LOG_TAIL_BYTES: Final = 2000
_KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True)
class DemoModel:
    """A running scripted model; `base_url` is for `ANTHROPIC_BASE_URL`."""

    base_url: str
    pid: int


class ModelRecord(msgspec.Struct, frozen=True):
    """The content of `model.json`; the instance id distinguishes the model from another server on its port."""

    pid: int
    port: int
    instance: str


async def ensure_running(state_dir: Path, *, idle_seconds: float = DEFAULT_IDLE_SECONDS, port: int = 0) -> DemoModel:
    """The running model of `state_dir`, else a new one, on the earlier port if that is free.

    Several processes may call it at once. Each call counts as a request, which keeps the model from exiting.

    Args:
        state_dir: is created when it is missing, readable by the owner only.
        idle_seconds: of a new process: the time without a request after which it exits.
        port: of a new process without an earlier port; 0 for any free port.

    Raises:
        PocketAgentError: it cannot be started, or the directory cannot be used.
    """
    try:
        directory = _prepared(state_dir)
        async with _locked(directory / "model.lock"):
            return await _running(directory) or await _start(directory, idle_seconds, port)
    except OSError as problem:
        raise InternalError(f"The demo model cannot keep its state: {problem.strerror}.") from problem


def child_environment(base_url: str, home: Path) -> dict[str, str]:
    """The variables with which the CLI connects to the model at `base_url` only.

    They replace those of an environment without `ANTHROPIC_*` and `CLAUDE*`. With the key in the environment the CLI
    (2.1.330, `-p`) asks nothing at its first start. `home` must exist; the CLI keeps its settings and sessions in it.
    """
    loopback = "127.0.0.1,localhost,::1"
    return {
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_API_KEY": "demo",
        "HOME": str(home),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        # The todo list is off by default in 2.1.330, and another tool by default when it is on.
        "CLAUDE_CODE_ENABLE_TODO_TOOLS": "1",
        "CLAUDE_CODE_ENABLE_TASKS": "0",
        # A proxy of the user must not be used for a loopback port.
        "NO_PROXY": loopback,
        "no_proxy": loopback,
    }


def read_record(state_dir: Path) -> ModelRecord | None:
    """The record of the latest model of `state_dir`; None without a readable one."""
    try:
        return msgspec.json.decode((state_dir / "model.json").read_bytes(), type=ModelRecord)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(state_dir: Path, record: ModelRecord) -> None:
    """Replace the record of `state_dir` atomically."""
    temporary = state_dir / f"model.json.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(record))
        temporary.replace(state_dir / "model.json")
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _prepared(state_dir: Path) -> Path:
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return state_dir.absolute()


async def _running(state_dir: Path) -> DemoModel | None:
    record = read_record(state_dir)
    if record is None or await _instance(record.port) != record.instance:
        return None
    return DemoModel(f"http://{HOST}:{record.port}", record.pid)


async def _instance(port: int) -> str | None:
    """The instance id of the model on a port; None when another program or none answers."""
    import aiohttp  # noqa: PLC0415 - `python -m pocket_agent.demo` imports this module and must start quickly

    timeout = aiohttp.ClientTimeout(total=_IDENTITY_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{HOST}:{port}/demo/identity", allow_redirects=False) as response,
        ):
            answer = msgspec.json.decode(await response.read(), type=dict[str, str])
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    return answer.get("instance")


async def _start(state_dir: Path, idle_seconds: float, port: int) -> DemoModel:
    """Start the process and wait until it listens: the command returns once its child does."""
    log = os.open(state_dir / "model.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "pocket_agent.demo", "--detach", "--state-dir", str(state_dir)),
            *("--idle-seconds", str(idle_seconds), "--port", str(port)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=state_dir,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            start_new_session=True,
        )
    finally:
        os.close(log)
    status = await _wait(command)
    model = await _running(state_dir) if status == 0 else None
    if model is None:
        raise _not_started(state_dir, status)
    return model


async def _wait(command: asyncio.subprocess.Process) -> int | None:
    """The exit status of a command that ends soon; None when it had to be killed."""
    try:
        async with asyncio.timeout(_START_SECONDS):
            return await command.wait()
    except TimeoutError:
        return None
    finally:
        if command.returncode is None:
            # Its group, because the half that should go on in the background may be there already.
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
            await command.wait()


def _not_started(state_dir: Path, status: int | None) -> PocketAgentError:
    tail = (state_dir / "model.log").read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
    return InternalError(
        "The demo model did not start; the end of model.log has the reason.",
        details={"status": status, "log": tail},
    )


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock file; the system frees it when its holder dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise InternalError("Another process has been starting the demo model for too long.")
            await asyncio.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
