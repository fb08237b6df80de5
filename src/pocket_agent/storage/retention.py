"""Retention: deletes what is old, a batch per turn of the writer so that commits go in between."""

import sqlite3
import time
from collections.abc import Callable
from typing import Final

import msgspec

from pocket_agent.errors import ProjectNotFoundError
from pocket_agent.model import MAX_OFFSET, Milliseconds
from pocket_agent.storage.database import OPEN_EXECUTION
from pocket_agent.storage.tables import entry_key, timestamp_of

KEPT_EXECUTIONS: Final = 1000
"""Final executions that stay however short the log is: a re-sent prompt_id must find its own."""

_TURN_BYTES: Final = 8 * 2**20
"""Data deleted in one turn: the pages of long entries have to be read to be freed."""

_FINAL: Final = f"NOT ({OPEN_EXECUTION})"
_RESOLVED: Final = "(status = 'cancelled' OR (status IN ('allow', 'deny') AND delivered = 1))"

_SETTLE_SECONDS: Final = 3600.0
"""How long the wall clock has to stay ahead before entries are deleted by it."""
_TOLERANCE_SECONDS: Final = 60.0
"""How far the wall clock may run ahead of the time that passed and still be believed at once."""


def _uptime() -> float:
    """A monotonic clock, which counts the time of a suspended machine where the system does."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class SettledClock:
    """The wall clock for decisions that delete data: a jump forward counts only after it has lasted an hour.

    A jump back counts at once, since less is deleted by it.

    Args:
        known: seconds since the Unix epoch that were believed before this run of the server; a wall clock
            that is ahead of them at the start is a jump, too.
        wall: the wall clock, in seconds since the Unix epoch.
        uptime: monotonic clock.
    """

    def __init__(
        self, known: float, *, wall: Callable[[], float] = time.time, uptime: Callable[[], float] = _uptime
    ) -> None:
        self._wall = wall
        self._uptime = uptime
        self._believed = known
        self._read_at = uptime()
        self._jump: float | None = None
        """Since when the wall clock has been ahead, by `_uptime`; None while it is believed."""
        self._base = 0.0
        """The wall clock less the uptime at that time: constant until the next jump."""

    def now(self) -> float:
        """The believed time, in seconds since the Unix epoch; call it at least once a minute."""
        wall, uptime = self._wall(), self._uptime()
        self._believed += uptime - self._read_at
        self._read_at = uptime
        base = wall - uptime
        if wall <= self._believed + _TOLERANCE_SECONDS:
            self._believed, self._jump = wall, None
        elif self._jump is None or abs(base - self._base) > _TOLERANCE_SECONDS:
            self._jump, self._base = uptime, base
        elif uptime - self._jump >= _SETTLE_SECONDS:
            self._believed, self._jump = wall, None
        return self._believed


class Retention(msgspec.Struct, frozen=True):
    """How much of a log is kept; 0 means unlimited. The newest entry always stays.

    Attributes:
        max_entries: entries.
        max_bytes: the sum of the entries' data.
        older_than: entries from before this time are deleted.
        batch: rows that one turn deletes at most.
    """

    max_entries: int
    max_bytes: int
    older_than: Milliseconds
    batch: int


class Pruned(msgspec.Struct, frozen=True):
    """The result of a turn: the log's first offset now, and whether another turn is needed."""

    first: int
    more: bool


_Rows = list[tuple[int, Milliseconds, int]]


def prune(connection: sqlite3.Connection, number: int, rule: Retention) -> Pruned:
    """Delete one batch of a conversation's oldest entries, inside the caller's transaction.

    Raises:
        ProjectNotFoundError: the conversation was deleted.
    """
    row = connection.execute(
        "SELECT id, first, head, log_bytes FROM conversation WHERE number = ?", (number,)
    ).fetchone()
    if row is None:
        raise ProjectNotFoundError("The project was deleted.")
    conversation_id, first, head, stored = row
    count, freed = _overdue(_oldest(connection, number, rule.batch), rule, head=head, stored=stored)
    if count:
        connection.execute(
            "DELETE FROM entry WHERE id BETWEEN ? AND ?",
            (entry_key(number, first), entry_key(number, first + count - 1)),
        )
        connection.execute(
            "UPDATE conversation SET first = ?, log_bytes = ?, last_line = CASE "
            "WHEN json_extract(CAST(last_line AS TEXT), '$.offset') < ? THEN x'6e756c6c' ELSE last_line END "  # null
            "WHERE number = ?",
            (first + count, stored - freed, first + count, number),
        )
        # A batch that ended early (at _TURN_BYTES) goes on, one that found nothing ends.
        return Pruned(first + count, more=True)
    old = head >= first and _prune_records(
        connection, conversation_id, Milliseconds(timestamp_of(connection, number, first)), rule.batch
    )
    return Pruned(first, more=old)


def _oldest(connection: sqlite3.Connection, number: int, limit: int) -> _Rows:
    """The oldest entries of a log: offset, time and size."""
    # length() of a blob is in the row's header: the data itself is not read.
    return connection.execute(
        "SELECT id & ?, timestamp, length(data) FROM entry WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (MAX_OFFSET, entry_key(number, 0), entry_key(number, MAX_OFFSET), limit),
    ).fetchall()


def _overdue(rows: _Rows, rule: Retention, *, head: int, stored: int) -> tuple[int, int]:
    """The number of entries to delete in this turn, from the oldest, and their bytes."""
    count = freed = 0
    for offset, timestamp, size in rows:
        too_many = rule.max_entries and head - offset + 1 > rule.max_entries
        too_large = rule.max_bytes and stored - freed > rule.max_bytes
        too_old = timestamp < rule.older_than
        if offset == head or not (too_many or too_large or too_old) or freed >= _TURN_BYTES:
            break
        count += 1
        freed += size
    return count, freed


def _prune_records(connection: sqlite3.Connection, conversation_id: str, before: Milliseconds, batch: int) -> bool:
    """Delete a batch of executions and approvals that ended before the log begins."""
    executions = connection.execute(
        "DELETE FROM execution WHERE rowid IN (SELECT rowid FROM execution WHERE conversation_id = ? "  # noqa: S608 - constants of this module
        "AND position <= (SELECT position FROM execution WHERE conversation_id = ? ORDER BY position DESC "
        f"LIMIT 1 OFFSET ?) AND {_FINAL} AND coalesce(finished_at, created_at) < ? ORDER BY position LIMIT ?)",
        (conversation_id, conversation_id, KEPT_EXECUTIONS, before, batch),
    ).rowcount
    approvals = connection.execute(
        "DELETE FROM approval WHERE rowid IN (SELECT rowid FROM approval WHERE conversation_id = ? "  # noqa: S608 - constants of this module
        f"AND resolved_at < ? AND {_RESOLVED} LIMIT ?)",
        (conversation_id, before, batch),
    ).rowcount
    return executions + approvals > 0


def delete(connection: sqlite3.Connection, number: int, conversation_id: str) -> None:
    """Delete a conversation's row, and with the main one all of its project; `sweep` deletes the rest.

    Runs inside the caller's transaction.

    Raises:
        ProjectNotFoundError: there is no such conversation.
    """
    found = connection.execute(
        "DELETE FROM conversation WHERE (number = ? AND id = ?) OR substr(id, 1, ?) = ? RETURNING number, id",
        (number, conversation_id, len(conversation_id) + 1, f"{conversation_id}."),
    ).fetchall()
    if (number, conversation_id) not in found:
        raise ProjectNotFoundError("There is no such conversation.")
    for gone in found:
        # An agent may still run: its process must not be adopted for a conversation that does not exist.
        connection.execute("DELETE FROM process WHERE conversation_id = ?", gone[1:])
        connection.execute("INSERT INTO deleted_conversation(number, id) VALUES (?, ?)", gone)
    connection.execute("DELETE FROM trust WHERE project_id = ?", (conversation_id,))


def sweep(connection: sqlite3.Connection, batch: int = 500) -> bool:
    """Delete a batch of rows of deleted conversations; returns whether more may be left."""
    row = connection.execute("SELECT number, id FROM deleted_conversation WHERE swept = 0 LIMIT 1").fetchone()
    if row is None:
        return False
    number, conversation_id = row
    if not _sweep_log(connection, number, batch) and not _sweep_records(connection, conversation_id, batch):
        connection.execute("UPDATE deleted_conversation SET swept = 1 WHERE number = ?", (number,))
    return True


def _sweep_log(connection: sqlite3.Connection, number: int, batch: int) -> bool:
    last, freed = 0, 0
    for offset, _, size in _oldest(connection, number, batch):
        if freed >= _TURN_BYTES:
            break
        last, freed = offset, freed + size
    if not last:
        return False
    connection.execute("DELETE FROM entry WHERE id BETWEEN ? AND ?", (entry_key(number, 0), entry_key(number, last)))
    return True


def _sweep_records(connection: sqlite3.Connection, conversation_id: str, batch: int) -> bool:
    deleted = 0
    for table, owner in (("execution", "conversation_id"), ("approval", "conversation_id"), ("session", "project_id")):
        deleted += connection.execute(
            f"DELETE FROM {table} WHERE rowid IN "  # noqa: S608 - the names above
            f"(SELECT rowid FROM {table} WHERE {owner} = ? LIMIT ?)",
            (conversation_id, batch),
        ).rowcount
    return deleted > 0
