"""`pocket-agent usage`: tokens and cost by day, project and model."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocket_agent.cli.common import print_json
from pocket_agent.cli.storage import open_database
from pocket_agent.conversation.accounting import local_day
from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import FileOperationError
from pocket_agent.model import Spending
from pocket_agent.settings import LoadedSettings
from pocket_agent.storage import spending_since
from pocket_agent.storage.database import database_path

_SUMS: Final = {
    "executions": "Executions",
    "input_tokens": "Input",
    "output_tokens": "Output",
    "cache_read_tokens": "Cache read",
    "cache_creation_tokens": "Cache write",
    "cost_usd": "Cost (USD)",
}
"""Fields that are summed, with the headings of their columns."""


def show_usage(loaded: LoadedSettings, *, days: int, as_json: bool) -> None:
    """Print the usage of the last `days` days, today included; the server may be running.

    The JSON is `{"since", "rows": [{"day", "project_id", "project", "model", ...}], "total": {...}}`.

    Raises:
        FileOperationError: there is no database, or it cannot be read.
    """
    since = (date.fromisoformat(local_day(now())) - timedelta(days=days - 1)).isoformat()
    if not database_path(loaded.settings.data.dir).exists():
        raise FileOperationError(f"There is no database in {loaded.settings.data.dir} (data.dir).")
    with open_database(loaded) as connection:
        connection.execute("PRAGMA query_only = ON")
        rows = spending_since(connection, since)
    if as_json:
        entries = [
            {"day": row.day, "project_id": row.project_id, "project": _name(row), "model": row.model}
            | {field: getattr(row, field) for field in _SUMS}
            for row in rows
        ]
        print_json({"since": since, "rows": entries, "total": _total(rows)})
    elif not rows:
        typer.echo(f"Nothing was used since {since}.")
    else:
        Console().print(_render_table(rows))


def _render_table(rows: Sequence[Spending]) -> Table:
    table = Table(show_footer=True)
    total = _total(rows)
    for heading in ("Day", "Project", "Model"):
        table.add_column(heading, "Total" if heading == "Day" else "", overflow="fold")
    for field, heading in _SUMS.items():
        table.add_column(heading, _number(total[field], field), justify="right")
    for row in rows:
        numbers = [_number(getattr(row, field), field) for field in _SUMS]
        table.add_row(row.day, _plain(_name(row)), _plain(row.model or "unknown"), *numbers)
    return table


def _total(rows: Sequence[Spending]) -> dict[str, float]:
    return {field: sum(getattr(row, field) for row in rows) for field in _SUMS}


def _number(value: float, field: str) -> str:
    return f"{value:,.4f}" if field == "cost_usd" else f"{value:,}"


def _name(row: Spending) -> str:
    """The project's name, in which bytes that are not UTF-8 are replaced, since they cannot be printed."""
    return row.project_name.encode("utf-8", "replace").decode()


def _plain(text: str) -> Text:
    """Text without markup and without terminal control sequences."""
    return Text("".join(character if character.isprintable() else "\ufffd" for character in text))
