"""`pocket-agent monitoring up`: the installed programs of a rendered stack, in the foreground."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.group import Ended, installed, refuse_taken_ports, running
from pocket_agent.monitoring.local import Launch, read_launches

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_stack(directory: Path) -> None:
    """Run until a signal, or until a program ends by itself, which ends the rest with status 1.

    Raises:
        FileOperationError: there is no rendered stack, or nothing of it is installed.
        ConfigurationError: a port is taken.
    """
    directory = directory.resolve()
    there, absent = installed(read_launches(directory))
    for launch in absent:
        _tell(f"{launch.program.name}: not installed ({launch.program.package})")
    if not there:
        raise FileOperationError("Nothing of the stack is installed here.")
    refuse_taken_ports([launch for launch, _ in there])
    for launch, path in there:
        _tell(f"{launch.program.name}: {launch.url} ({path})")
    ended = asyncio.run(_run(directory, there))
    if ended is not None:
        _tell(f"{ended}, so the rest was ended, too.")
        raise typer.Exit(1)


def _tell(line: str) -> None:
    typer.echo(line, err=True)


async def _run(directory: Path, there: Sequence[tuple[Launch, str]]) -> Ended | None:
    """Run; returns the program that ended by itself, or None after a signal."""
    width = max(len(launch.program.name) for launch, _ in there)
    unread = False
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        async with running(there, directory, lambda name, line: typer.echo(f"{name:<{width}} | {line}")) as ended:
            signalled = asyncio.create_task(stopped.wait())
            first = asyncio.create_task(ended.get())
            try:
                await asyncio.wait((signalled, first), return_when=asyncio.FIRST_COMPLETED)
                return first.result() if first.done() and not stopped.is_set() else None
            finally:
                signalled.cancel()
                first.cancel()
    except* BrokenPipeError:
        unread = True
    if unread:
        raise BrokenPipeError  # by itself, for who knows what to do with it
    return None
