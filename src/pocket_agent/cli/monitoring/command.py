"""The flags of `pocket-agent monitoring`. Cheap to import: what it needs is imported when it runs."""
# ruff: noqa: PLC0415 - rich and the renderers are slow to import, and other commands do without

import os
from pathlib import Path
from typing import Annotated

import typer

monitoring = typer.Typer(help="The monitoring stack: write it, check it, run it.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the rendered stack.", file_okay=False)]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).", dir_okay=False)]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the server keeps its data.", file_okay=False)]


@monitoring.command("render")
def render_command(
    directory: Directory,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that you changed, too.")] = False,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Settings file of a further server that the stack watches; repeatable.", dir_okay=False
        ),
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Write the configuration of the whole stack into DIR, out of the server's settings."""
    from pocket_agent.cli.monitoring.render import write_stack

    write_stack(directory, config=config, data_dir=data_dir, also=also or [], environ=os.environ, force=force)


@monitoring.command("check")
def check_command(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check a rendered stack with the programs that will read it, as far as they are installed."""
    from rich.console import Console

    from pocket_agent.cli.monitoring.check import check_stack

    check_stack(directory, as_json=as_json, console=Console())


@monitoring.command("up")
def up_command(directory: Directory) -> None:
    """Run what is installed of a rendered stack in the foreground; Ctrl-C ends it."""
    from pocket_agent.cli.monitoring.up import run_stack

    run_stack(directory)
