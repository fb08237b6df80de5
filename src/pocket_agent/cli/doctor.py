"""`pocket-agent doctor`: what is wrong with the server and its monitoring, and how to mend it."""

import asyncio
import dataclasses
import json
from typing import Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocket_agent.config import LoadedSettings
from pocket_agent.monitoring.doctor.examination import examine
from pocket_agent.monitoring.doctor.finding import Finding

_STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def run_doctor(loaded: LoadedSettings, *, alerts: bool, as_json: bool, console: Console) -> None:
    """Examine and print; ends with status 1 when something has failed."""
    findings = asyncio.run(_collect(loaded, alerts=alerts))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        console.print(_table(findings))
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(1)


async def _collect(loaded: LoadedSettings, *, alerts: bool) -> list[Finding]:
    return [finding async for finding in examine(loaded.settings, alerts=alerts)]


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        said = Text(finding.message)  # not markup: it holds what other programs answered
        if finding.fix:
            said.append(f"\n→ {finding.fix}", style="bold")
        table.add_row(Text(finding.status, style=_STYLES[finding.status]), finding.name, said)
    return table
