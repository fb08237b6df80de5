"""`pocket-agent doctor`: checks the server and its monitoring, and prints fixes."""

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import typer
from rich.console import Console
from rich.text import Text

from pocket_agent import __version__
from pocket_agent.cli.monitoring import print_rows, progress
from pocket_agent.cli.serve import claude_candidates
from pocket_agent.errors import ConfigurationError
from pocket_agent.monitoring.doctor import Context, Result, Status, examine, failed
from pocket_agent.settings import LoadedSettings

_STYLES: Final[Mapping[Status, str]] = {"failed": "bold red", "warning": "yellow", "ok": "green", "skipped": "dim"}


def run_doctor(
    read_settings: Callable[[], LoadedSettings],
    environment: Mapping[str, str],
    *,
    alerts: bool,
    as_json: bool,
    console: Console,
) -> None:
    """Run the checks and print the results; exits with status 1 if one has failed."""
    findings = _findings(read_settings, environment, alerts=alerts)
    worst = next((status for status in ("failed", "warning") if any(item.status == status for item in findings)), "ok")
    if as_json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        typer.echo(json.dumps({"status": worst, "version": __version__, "findings": listed}, indent=1))
    else:
        print_rows([_row(finding) for finding in findings], console)
        console.print(_summary(findings), soft_wrap=True)
    if worst == "failed":
        raise typer.Exit(1)


def _findings(
    read_settings: Callable[[], LoadedSettings], environment: Mapping[str, str], *, alerts: bool
) -> list[Result]:
    """The results of all checks; invalid settings are the only result, since the checks need settings."""
    try:
        loaded = read_settings()
    except ConfigurationError as error:
        fix = "docs/settings.md lists all settings; pocket-agent config shows the source of each."
        return [failed("settings", error.message, fix)]
    context = Context(loaded, environment, claude_candidates())
    with progress("Checking ..."):
        return asyncio.run(examine(context, alerts=alerts))


def _row(finding: Result) -> tuple[Text, str, Text]:
    said = Text(_printable(finding.message))
    if finding.fix:
        said.append(f"\nfix: {_printable(finding.fix)}", style="bold")
    return Text(finding.status, style=_STYLES[finding.status]), _printable(finding.name), said


def _printable(text: str) -> str:
    """Without control characters, except line breaks."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def _summary(findings: Sequence[Result]) -> Text:
    counts = Counter(finding.status for finding in findings)
    parts = [f"{counts[status]} {status}" for status in _STYLES if counts[status]]
    return Text("\n" + ", ".join(parts))
