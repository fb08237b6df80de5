"""The entries of all logs in one clustered table: append a run of them, read a page, find a time.

Every step of a statement gives up Python's global lock and has to win it back. Under a busy event loop
1000 inserts of one row took five times as long as the same rows in inserts of many, so a run of entries
is appended with few statements. Reading row by row showed no such cost.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from pocket_agent.model import MAX_OFFSET, Direction, Entry, Milliseconds
from pocket_agent.storage.transaction import snapshot

OFFSET_BITS: Final = 40
"""id = number << OFFSET_BITS | offset; MAX_OFFSET of the model fills these bits."""

# Rows per INSERT, the largest first. At most three statements of a size, five sizes to prepare.
_RUNS: Final = (256, 64, 16, 4, 1)
_INSERT: Final = {
    rows: "INSERT INTO entry(id, timestamp, direction, type, data) VALUES "  # noqa: S608 - only marks are added
    + ", ".join(["(?, ?, ?, ?, ?)"] * rows)
    for rows in _RUNS
}

# "direction <> 'claude'" stands beside the equality because SQLite takes a partial index only for a
# query that repeats its condition; direction must be a literal for the same reason.
_FILTER: Final[dict[Direction | None, str]] = {
    None: "",
    Direction.CLAUDE: " AND direction = 'claude'",
    Direction.CLIENT: " AND direction = 'client' AND direction <> 'claude'",
    Direction.SERVER: " AND direction = 'server' AND direction <> 'claude'",
}

_DIRECTION: Final = {direction.value: direction for direction in Direction}


def key(number: int, offset: int) -> int:
    """The clustered key of an entry."""
    return number << OFFSET_BITS | offset


def append(connection: sqlite3.Connection, number: int, entries: Sequence[Entry]) -> None:
    """Insert entries of the project with this number, inside the caller's transaction.

    Raises:
        sqlite3.Error: the disk refused, or an entry of this offset is there.
    """
    done = 0
    for rows in _RUNS:
        while len(entries) - done >= rows:
            values: list[object] = []
            for entry in entries[done : done + rows]:
                values += (
                    number << OFFSET_BITS | entry.offset,
                    entry.timestamp,
                    entry.direction.value,
                    entry.type,
                    entry.data,
                )
            connection.execute(_INSERT[rows], values)
            done += rows


def page_query(direction: Direction | None, *, newest: bool) -> str:
    """The query of a page: parameters (lowest key, highest key, limit), both keys included."""
    order = "DESC" if newest else "ASC"
    return (
        "SELECT id, timestamp, direction, type, data FROM entry "  # noqa: S608 - constants of this module
        f"WHERE id BETWEEN ? AND ?{_FILTER[direction]} ORDER BY id {order} LIMIT ?"
    )


def read(
    connection: sqlite3.Connection,
    number: int,
    *,
    low: int,
    high: int,
    limit: int,
    max_bytes: int,
    direction: Direction | None = None,
    newest: bool = False,
) -> list[Entry]:
    """The entries between two offsets, both included: the oldest ones, or the newest; ascending.

    Args:
        limit: at most so many entries.
        max_bytes: at most so many bytes of data together, but one entry always.
        direction: only entries of this one.
        newest: the page ends at `high` instead of beginning at `low`.

    Raises:
        sqlite3.Error: the disk refused, or the database is damaged.
    """
    low, high = max(low, 0), min(high, MAX_OFFSET)
    if low > high:
        return []
    entries: list[Entry] = []
    found = connection.execute(
        page_query(direction, newest=newest), (key(number, low), key(number, high), max(limit, 1))
    )
    # An open cursor would hold a snapshot, and with it the write-ahead log.
    with closing(found):
        for identity, timestamp, name, kind, data in found:
            max_bytes -= len(data)
            if entries and max_bytes < 0:
                break
            entries.append(Entry(identity & MAX_OFFSET, timestamp, _DIRECTION[name], kind, data))
    if newest:
        entries.reverse()
    return entries


def offset_at(connection: sqlite3.Connection, number: int, timestamp: Milliseconds) -> int:
    """The last stored offset whose timestamp is before the given one; 0 when there is none.

    A binary search by key: the times of a log never go back.
    """
    with snapshot(connection):
        row = connection.execute("SELECT first, head FROM project WHERE number = ?", (number,)).fetchone()
        if row is None:
            return 0
        first, head = row
        low, high = first, head + 1
        while low < high:
            middle = (low + high) // 2
            if timestamp_of(connection, number, middle) < timestamp:
                low = middle + 1
            else:
                high = middle
        return low - 1 if low > first else 0


def timestamp_of(connection: sqlite3.Connection, number: int, offset: int) -> int:
    """The time of an entry that is stored."""
    row = connection.execute("SELECT timestamp FROM entry WHERE id = ?", (key(number, offset),)).fetchone()
    timestamp: int = row[0]
    return timestamp
