"""`pocket-agent monitoring`: write the monitoring stack, check it, run it."""
# ruff: noqa: PLC0415 - rich and the renderers are slow to import, and other commands do not need them

import contextlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pocket_agent.errors import FileOperationError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pocket_agent.monitoring import Outcome
    from pocket_agent.monitoring.launcher import Ended, Launch

monitoring = typer.Typer(help="The monitoring stack: write it, check it, run it.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the rendered stack.", file_okay=False)]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).", dir_okay=False)]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Data directory of the server.", file_okay=False)]

_STYLES: Final = {"ok": "green", "failed": "bold red", "skipped": "dim"}
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@monitoring.command("render")
def render_command(
    directory: Directory,
    force: Annotated[bool, typer.Option("--force", help="Also overwrite edited files.")] = False,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Settings file of another server for the stack to monitor; repeatable.", dir_okay=False
        ),
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Render the configuration of the whole stack into DIR, from the server's settings."""
    from pocket_agent.monitoring import SERVICE_FILE, WatchedServer, render_stack, write
    from pocket_agent.settings import load_settings

    first = load_settings(config=config, environ=os.environ, flags={"data.dir": data_dir})
    # Settings in the environment apply to the first server only.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PA_")}
    others = [load_settings(config=file, environ=plain, flags={}) for file in also or ()]
    servers = [WatchedServer(loaded.settings, (loaded.file or SERVICE_FILE).absolute()) for loaded in (first, *others)]
    typer.echo(_summary(directory, write(directory, render_stack(servers), force=force)))


def _summary(directory: Path, outcome: "Outcome") -> str:
    counts = (f"{len(outcome.written)} files written", f"{len(outcome.unchanged)} unchanged")
    lines = [f"{directory}: {', '.join(counts)}, {len(outcome.removed)} removed"]
    if outcome.kept:
        lines.append("Kept, because they were edited (--force overwrites them):")
        lines += [f"  {path}" for path in outcome.kept]
    if outcome.abandoned:
        lines.append("No longer part of the stack, but kept because they were edited:")
        lines += [f"  {path}" for path in outcome.abandoned]
    return "\n".join(lines)


@monitoring.command("check")
def check_command(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check a rendered stack with the installed programs that will read it."""
    from rich.console import Console
    from rich.text import Text

    from pocket_agent.monitoring import validate
    from pocket_agent.monitoring.launcher import FILE

    if not (directory / FILE).exists():
        raise FileOperationError(
            f"{directory} contains no monitoring stack; render one: pocket-agent monitoring render {directory}"
        )
    with progress("Checking ..."):
        results = list(validate(directory))
    if as_json:
        typer.echo(json.dumps([result._asdict() for result in results], indent=1))
    else:
        rows = [(Text(one.status, style=_STYLES[one.status]), one.name, Text(one.message)) for one in results]
        print_rows(rows, Console())
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


def progress(text: str) -> contextlib.AbstractContextManager[object]:
    """Show a spinner on standard error, if it is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    return console.status(text) if console.is_terminal else contextlib.nullcontext()


def print_rows(rows: Sequence[tuple["Text", str, "Text"]], console: "Console") -> None:
    """Print a status, a name and a message per row, as columns; nothing in them is taken for markup.

    On a terminal a message is folded to its column. Otherwise lines are not broken, whatever the width
    (COLUMNS or 80), so that paths and commands can be copied and searched.
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
    """Run the installed programs of a rendered stack in the foreground, until Ctrl-C."""
    import asyncio

    from pocket_agent.monitoring.launcher import installed, read_launches, refuse_taken_ports

    directory = directory.resolve()
    present, absent = installed(read_launches(directory))
    for launch in absent:
        typer.echo(f"{launch.program.name}: not installed ({launch.program.package})", err=True)
    if not present:
        raise FileOperationError("No program of the stack is installed.")
    refuse_taken_ports([launch for launch, _ in present])
    for launch, path in present:
        typer.echo(f"{launch.program.name}: {launch.url} ({path})", err=True)
    ended = asyncio.run(_run(directory, present))
    if ended is not None:
        typer.echo(f"{ended}, so the other programs were stopped.", err=True)
        raise typer.Exit(1)


async def _run(directory: Path, present: "Sequence[tuple[Launch, str]]") -> "Ended | None":
    """Run until a signal; returns the program that ended by itself, or None after a signal."""
    import asyncio

    from pocket_agent.monitoring.launcher import running

    width = max(len(launch.program.name) for launch, _ in present)
    unread = False
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        async with running(present, directory, lambda name, line: typer.echo(f"{name:<{width}} | {line}")) as ended:
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
