"""`pocket-agent doctor`: checks the server and its monitoring, and prints how to fix what is wrong."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import typer
from rich.console import Console
from rich.text import Text

from pocket_agent import __version__
from pocket_agent.cli.common import claude_candidates, print_json
from pocket_agent.cli.monitoring import print_rows, progress
from pocket_agent.errors import ConfigurationError
from pocket_agent.monitoring.doctor import Context, Result, Status, examine, failed, printable
from pocket_agent.settings import LoadedSettings

_STYLES: Final[Mapping[Status, str]] = {"failed": "bold red", "warning": "yellow", "ok": "green", "skipped": "dim"}


def run_doctor(
    read_settings: Callable[[], LoadedSettings],
    environment: Mapping[str, str],
    *,
    alerts: bool,
    as_json: bool,
    console: Console | None = None,
) -> None:
    """Run the checks and print their results; exits with status 1 when a check failed."""
    findings = _findings(read_settings, environment, alerts=alerts)
    worst = next((status for status in ("failed", "warning") if any(item.status == status for item in findings)), "ok")
    if as_json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        print_json({"status": worst, "version": __version__, "findings": listed})
    else:
        console = console or Console()
        print_rows([_row(finding) for finding in findings], console)
        counts = Counter(finding.status for finding in findings)
        summary = ", ".join(f"{counts[status]} {status}" for status in _STYLES if counts[status])
        console.print(Text(f"\n{summary}"), soft_wrap=True)
    if worst == "failed":
        raise typer.Exit(1)


def _findings(
    read_settings: Callable[[], LoadedSettings], environment: Mapping[str, str], *, alerts: bool
) -> list[Result]:
    """The results; settings that cannot be used are the only one, since every other check needs them."""
    try:
        loaded = read_settings()
    except ConfigurationError as error:
        fix = "docs/settings.md lists all of them; pocket-agent config shows where each comes from."
        return [failed("settings", error.message, fix)]
    context = Context(loaded, environment, claude_candidates())
    with progress("Checking ..."):
        return asyncio.run(examine(context, alerts=alerts))


def _row(finding: Result) -> tuple[Text, str, Text]:
    said = Text(printable(finding.message))
    if finding.fix:
        said.append(f"\nfix: {printable(finding.fix)}", style="bold")
    return Text(finding.status, style=_STYLES[finding.status]), printable(finding.name), said
