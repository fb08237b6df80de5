"""`python -m pocket_agent.demo`: the scripted model as a process that exits when it gets no requests."""

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_agent.demo.demo_process import DEFAULT_IDLE_SECONDS, HOST, ModelRecord, read_record, write_record
from pocket_agent.demo.scenario import keywords

if TYPE_CHECKING:
    from pocket_agent.demo.scripted_model import ScriptedModel

_READY = b"1"


def main(arguments: list[str] | None = None) -> int:
    """Run the model until it was idle for long enough, or until SIGTERM or SIGINT.

    Returns:
        The exit status; with `--detach` 0 once the detached process listens, 1 when it failed.
    """
    options = _parser().parse_args(arguments)
    options.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not options.detach:
        asyncio.run(_serve(options, None))
        return 0
    reader, writer = os.pipe()
    if os.fork():
        # The caller waits here until the model has started, and keeps no child.
        os.close(writer)
        return 0 if os.read(reader, 1) == _READY else 1
    os.close(reader)
    asyncio.run(_serve(options, writer))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pocket_agent.demo",
        description="A scripted model for the Claude Code CLI, on a loopback port.",
        epilog="A word of the prompt chooses the answer:\n" + keywords(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="keeps model.json and model.log")
    parser.add_argument("--port", type=int, default=0, help="port to listen on, unless an earlier port is known")
    parser.add_argument("--idle-seconds", type=float, default=DEFAULT_IDLE_SECONDS, help="exit after this time")
    parser.add_argument("--detach", action="store_true", help="continue in the background once it listens")
    return parser


async def _serve(options: argparse.Namespace, ready: int | None) -> None:
    # Here, so that --help and the waiting half of --detach do not load the HTTP library.
    from pocket_agent.demo.scripted_model import ScriptedModel  # noqa: PLC0415 - see above

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    model = ScriptedModel()
    base_url = await _listen(model, options.state_dir, options.port)
    print(f"The demo model (pid {os.getpid()}) listens on {base_url}", flush=True)
    if ready is not None:
        os.write(ready, _READY)
        os.close(ready)
    try:
        await _until_idle(model, options.idle_seconds, stop)
    finally:
        await model.stop()
        print(f"The demo model (pid {os.getpid()}) ends", flush=True)


async def _listen(model: "ScriptedModel", state_dir: Path, port: int) -> str:
    """Listen on the port of the record, where agents find a restarted model; else on another port."""
    record = read_record(state_dir)
    for candidate in (record.port if record else port, port, 0):
        try:
            base_url = await model.start(HOST, candidate)
        except OSError as problem:
            print(f"Port {candidate}: {problem.strerror}", flush=True)
            continue
        record = ModelRecord(pid=os.getpid(), port=int(base_url.rpartition(":")[2]), instance=model.instance)
        write_record(state_dir, record)
        return base_url
    raise SystemExit("The demo model found no port to listen on.")


async def _until_idle(model: "ScriptedModel", idle_seconds: float, stop: asyncio.Event) -> None:
    while (left := idle_seconds - model.idle_seconds) > 0 and not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), left)


if __name__ == "__main__":
    sys.exit(main())
