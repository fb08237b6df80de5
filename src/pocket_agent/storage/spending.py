"""The history of spending: what each project used of each model, day by day. Also for commands beside the server."""

import sqlite3
from typing import Final

from pocket_agent.model import Spending
from pocket_agent.storage.record import PATH
from pocket_agent.storage.table import Table

SPENDING: Final = Table("spending", Spending, key="day, project_id, model", codecs={"project_name": PATH})

_KEY: Final = frozenset({"day", "project_id", "project_name", "model"})
_SUMS: Final = [field for field in Spending.__struct_fields__ if field not in _KEY]
_ADD: Final = (
    f"INSERT INTO spending({SPENDING.columns}) "  # noqa: S608 - made of the model's names
    f"VALUES ({', '.join('?' * len(Spending.__struct_fields__))}) ON CONFLICT(day, project_id, model) DO UPDATE SET "
    + ", ".join(f"{field} = {field} + excluded.{field}" for field in _SUMS)
    + ", project_name = excluded.project_name"
)


def add(connection: sqlite3.Connection, spent: Spending) -> None:
    """Add to what the project used of the model that day, inside the caller's transaction."""
    connection.execute(_ADD, SPENDING.row(spent))


def cost_of(connection: sqlite3.Connection, day: str) -> float:
    """What all projects have cost in a day (YYYY-MM-DD), in United States dollars."""
    row = connection.execute("SELECT total(cost_usd) FROM spending WHERE day = ?", (day,)).fetchone()
    cost: float = row[0]
    return cost


def spending_since(connection: sqlite3.Connection, day: str) -> list[Spending]:
    """All that was used from a day (YYYY-MM-DD) on; the newest day first, and the dearest first within it."""
    return SPENDING.find(connection, "WHERE day >= ? ORDER BY day DESC, cost_usd DESC, project_id, model", day)
