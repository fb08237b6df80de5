"""`pocket-agent monitoring`: write the monitoring stack, check it, run it."""
# ruff: noqa: PLC0415 - rich and the renderers are slow to import, and other commands do without

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pocket_agent.cli.common import AsJson, ReadSettings, print_json, settings_command
from pocket_agent.errors import FileOperationError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pocket_agent.monitoring import Outcome
    from pocket_agent.monitoring.launcher import Ended, Launch

monitoring = typer.Typer(help="Write, check and run the monitoring stack.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the rendered stack.", file_okay=False)]

_STYLES: Final = {"ok": "green", "failed": "bold red", "skipped": "dim"}
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@settings_command(monitoring, "render")
def render_command(
    read: ReadSettings,
    directory: Directory,
    force: Annotated[bool, typer.Option("--force", help="Also overwrite files that were changed by hand.")] = False,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Settings file of a further server that the stack watches; repeatable.", dir_okay=False
        ),
    ] = None,
) -> None:
    """Write the configuration of the whole stack into DIR, out of the server's settings."""
    from pocket_agent.monitoring import SERVICE_FILE, WatchedServer, render_stack, write
    from pocket_agent.settings import load_settings

    first = read()
    # The variables PA_* belong to the first server.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PA_")}
    others = [load_settings(config=file, environ=plain, flags={}) for file in also or ()]
    servers = [WatchedServer(loaded.settings, (loaded.file or SERVICE_FILE).absolute()) for loaded in (first, *others)]
    typer.echo(_summary(directory, write(directory, render_stack(servers), force=force)))


def _summary(directory: Path, outcome: "Outcome") -> str:
    written, unchanged, removed = map(len, (outcome.written, outcome.unchanged, outcome.removed))
    lines = [f"{directory}: {written} files written, {unchanged} unchanged, {removed} removed"]
    for heading, paths in (
        ("Left alone, since they were changed by hand (--force overwrites them):", outcome.kept),
        ("Not part of the stack any more, and changed by hand, so they are still there:", outcome.abandoned),
    ):
        lines += [heading, *(f"  {path}" for path in paths)] if paths else []
    return "\n".join(lines)


@monitoring.command("check")
def check_command(directory: Directory, as_json: AsJson = False) -> None:
    """Check a rendered stack with the programs that will read it, as far as they are installed."""
    from rich.console import Console
    from rich.text import Text

    from pocket_agent.monitoring import validate
    from pocket_agent.monitoring.doctor import printable
    from pocket_agent.monitoring.launcher import FILE

    if not (directory / FILE).exists():
        raise FileOperationError(
            f"{directory} holds no monitoring stack; write one: pocket-agent monitoring render {directory}"
        )
    with progress("Checking ..."):
        results = list(validate(directory))
    if as_json:
        print_json([result._asdict() for result in results])
    else:
        rows = [
            (Text(one.status, style=_STYLES[one.status]), one.name, Text(printable(one.message))) for one in results
        ]
        print_rows(rows, Console())
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


def progress(text: str) -> contextlib.AbstractContextManager[object]:
    """Show a spinner; does nothing when standard error is not a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    return console.status(text) if console.is_terminal else contextlib.nullcontext()


def print_rows(rows: Sequence[tuple["Text", str, "Text"]], console: "Console") -> None:
    """Print a status, a name and a message per row, as columns; nothing in them is taken for markup.

    On a terminal a message is folded to its column. Elsewhere no line is broken, whatever the width
    (COLUMNS or 80): a path or a command in it can be copied and found.
    """
    from rich.table import Table
    from rich.text import Text

    if console.is_terminal:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for status, name, message in rows:
            table.add_row(status, Text(name), message)
        console.print(table)
        return
    first = max((len(status) for status, _, _ in rows), default=0)
    second = max((len(name) for _, name, _ in rows), default=0)
    for status, name, message in rows:
        lines = ("\n" + " " * (first + second + 4)).join(message.plain.split("\n"))
        console.print(Text(f"{status.plain:<{first}}  {name:<{second}}  {lines}"), soft_wrap=True)


@monitoring.command("up")
def up_command(directory: Directory) -> None:
    """Run what is installed of a rendered stack in the foreground; Ctrl-C ends it.

    A program that ends is started again. Only if Prometheus or Alertmanager does not keep running, the command ends,
    with status 1.
    """
    import asyncio

    from pocket_agent.monitoring.launcher import installed, read_launches, refuse_taken_ports

    directory = directory.resolve()
    present, absent = installed(read_launches(directory))
    for launch in absent:
        typer.echo(f"{launch.program.name}: not installed ({launch.program.package})", err=True)
    if not present:
        raise FileOperationError("Nothing of the stack is installed here.")
    refuse_taken_ports([launch for launch, _ in present])
    for launch, path in present:
        typer.echo(f"{launch.program.name}: {launch.url} ({path})", err=True)
    ended = asyncio.run(_run(directory, present))
    if ended is not None:
        typer.echo(
            f"{ended} and does not keep running. Without it no alert is sent, so the other programs were stopped.\n"
            f"Its output above has the reason; pocket-agent monitoring check {directory} checks its configuration.",
            err=True,
        )
        raise typer.Exit(1)


async def _run(directory: Path, present: "Sequence[tuple[Launch, str]]") -> "Ended | None":
    """Run until a signal; returns the program that was given up, or None after a signal."""
    import asyncio

    from pocket_agent.monitoring.launcher import running

    width = max(len(launch.program.name) for launch, _ in present)
    unread = False
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        async with running(
            present,
            directory,
            lambda name, line: typer.echo(f"{name:<{width}} | {line}"),
            lambda text: typer.echo(text, err=True),
        ) as ended:
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
        raise BrokenPipeError  # by itself, as `main` handles it
    return None
