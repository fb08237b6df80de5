"""`pocket-agent monitoring up`: the installed programs of a rendered stack, in the foreground."""

import asyncio
import signal
from pathlib import Path

import typer

from pocket_agent.config.settings import Settings
from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.group import Ended, installed, programs, running


def run_stack(directory: Path, settings: Settings) -> None:
    """Run until a signal, or until a program ends by itself, which ends the rest with status 1.

    Raises:
        FileOperationError: there is no rendered stack.
    """
    if not (directory / "prometheus" / "prometheus.yml").exists():
        raise FileOperationError(f"{directory} holds no stack; write one: pocket-agent monitoring render {directory}")
    ended = asyncio.run(_run(directory.resolve(), settings))
    if ended is not None:
        typer.echo(f"{ended.name} ended by itself ({ended.code}); so the rest was ended, too.", err=True)
        raise typer.Exit(1)


async def _run(directory: Path, settings: Settings) -> Ended | None:
    there, absent = installed(programs(settings, directory))
    for program in absent:
        typer.echo(f"{program.name}: not installed", err=True)
    for program, _ in there:
        typer.echo(f"{program.name}: {program.url}", err=True)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with running(there, directory, lambda name, line: typer.echo(f"{name} | {line}")) as ended:
        waits = {asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(ended.get())}
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
    return next((result for wait in done if isinstance(result := wait.result(), Ended)), None)
