"""`pocket-agent monitoring check`: what the programs of the stack say of its files."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.local import FILE
from pocket_agent.monitoring.validation import Status, check

_STYLES: Final[Mapping[Status, str]] = {"ok": "green", "failed": "bold red", "skipped": "dim"}


def check_stack(directory: Path, *, as_json: bool, console: Console) -> None:
    """Check and print; ends with status 1 when something has failed.

    Raises:
        FileOperationError: the directory holds no stack.
    """
    if not (directory / FILE).exists():
        raise FileOperationError(
            f"{directory} holds no monitoring stack; write one: pocket-agent monitoring render {directory}"
        )
    with _progress():
        checks = list(check(directory))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in checks], indent=1))
    else:
        print_rows(
            [(Text(one.status, style=_STYLES[one.status]), one.name, Text(one.message)) for one in checks], console
        )
    if any(one.status == "failed" for one in checks):
        raise typer.Exit(1)


def _progress() -> contextlib.AbstractContextManager[object]:
    """A sign of life for a person who waits, which the tests of the rules take a while for."""
    console = Console(stderr=True)
    return console.status("Asking ...") if console.is_terminal else contextlib.nullcontext()


def print_rows(rows: Sequence[tuple[Text, str, Text]], console: Console) -> None:
    """Print a status, a name and a message per row, as columns; nothing in them is taken for markup.

    On a terminal a message is folded to its column. Elsewhere no line is broken, whatever the width
    (COLUMNS or 80): a path or a command in it can be copied and found.
    """
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
