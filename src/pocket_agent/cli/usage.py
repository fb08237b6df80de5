"""`pocket-agent usage`: usage and cost of the agents by day, project and model."""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocket_agent.errors import FileOperationError
from pocket_agent.model import Spending
from pocket_agent.session.accounting import local_day
from pocket_agent.session.project_log import now
from pocket_agent.settings import LoadedSettings
from pocket_agent.storage import connection_beside, spending_since
from pocket_agent.storage.database import database_path

_SUMS: Final = (
    "executions",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
    "cost_usd",
)


def show_usage(loaded: LoadedSettings, *, days: int, as_json: bool, console: Console) -> None:
    """Print the usage of the last `days` days, whether or not a server is running on the same data.

    As JSON it is `{"since", "rows": [{"day", "project_id", "project", "model", ...}], "total": {...}}`.

    Raises:
        FileOperationError: there is no database, or it cannot be read.
    """
    since = (date.fromisoformat(local_day(now())) - timedelta(days=days - 1)).isoformat()
    database = database_path(loaded.settings.data.dir)
    if not database.exists():
        raise FileOperationError(f"There is no database in {loaded.settings.data.dir} (data.dir).")
    with connection_beside(database) as connection:
        connection.execute("PRAGMA query_only = ON")
        rows = spending_since(connection, since)
    if as_json:
        typer.echo(render_json(rows, since))
    elif not rows:
        typer.echo(f"No usage since {since}.")
    else:
        console.print(render_table(rows))


def render_json(rows: Sequence[Spending], since: str) -> str:
    """The rows and their sum as JSON."""
    entries = [
        {
            "day": row.day,
            "project_id": row.project_id,
            "project": _name(row),
            "model": row.model,
            **{field: getattr(row, field) for field in _SUMS},
        }
        for row in rows
    ]
    return json.dumps({"since": since, "rows": entries, "total": _total(rows)}, indent=2)


def render_table(rows: Sequence[Spending]) -> Table:
    """The rows and their sum as a table."""
    table = Table(show_footer=True)
    total = _total(rows)
    for heading in ("Day", "Project", "Model"):
        table.add_column(heading, "Total" if heading == "Day" else "", overflow="fold")
    for heading, field in zip(("Runs", "Input", "Output", "Cache read", "Cache write"), _SUMS, strict=False):
        table.add_column(heading, f"{total[field]:,}", justify="right")
    table.add_column("Cost (USD)", _money(total["cost_usd"]), justify="right")
    for row in rows:
        counts = [f"{getattr(row, field):,}" for field in _SUMS[:-1]]
        table.add_row(row.day, _plain(_name(row)), _plain(row.model or "unknown"), *counts, _money(row.cost_usd))
    return table


def _total(rows: Sequence[Spending]) -> dict[str, float]:
    return {field: sum(getattr(row, field) for row in rows) for field in _SUMS}


def _money(amount: float) -> str:
    return f"{amount:,.4f}"


def _name(row: Spending) -> str:
    """The project's name, in which characters that are not UTF-8 are replaced."""
    return row.project_name.encode("utf-8", "replace").decode()


def _plain(text: str) -> Text:
    """Text without markup and control characters."""
    return Text("".join(character if character.isprintable() else "\ufffd" for character in text))
