"""Values as rows: projects, executions, approvals, processes, sessions, the entries of logs, and spending."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from operator import methodcaller
from typing import Any, Final, Generic, TypeVar

import msgspec

from pocket_agent import model
from pocket_agent.errors import InternalError, ProjectExistsError, ProjectNotFoundError
from pocket_agent.model import (
    MAX_OFFSET,
    Approval,
    ConversationRecord,
    Direction,
    Entry,
    Execution,
    Milliseconds,
    Spending,
)
from pocket_agent.storage.database import MAIN_CONVERSATION, OPEN_APPROVAL, OPEN_EXECUTION, snapshot

# ----------------------------------------------------------------------
# A table has one column for each field of its value, by the field's name.

Value = TypeVar("Value", bound=msgspec.Struct)
Codec = tuple[Callable[[Any], object], Callable[[Any], object]]
"""From a field to its column, and back."""

FLAG: Final[Codec] = (int, bool)


class Table(Generic[Value]):
    """The SQL of one table and its value.

    Args:
        value: a Struct; its fields name the columns.
        key: the columns of the primary key.
        fixed: fields that never change once stored. Indexed ones belong here: SQLite would
            rewrite their indexes at each update.
        codecs: for the fields whose values are not SQLite's own.
        computed: fields that are read by an expression instead of their column.

    Attributes:
        columns: the quoted names of the columns, in the order of the fields.
    """

    def __init__(
        self,
        name: str,
        value: type[Value],
        *,
        key: str = "id",
        fixed: frozenset[str] = frozenset(),
        codecs: Mapping[str, Codec] | None = None,
        computed: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._value = value
        fields = value.__struct_fields__
        given = codecs or {}
        self._codecs = [(index, *given[field]) for index, field in enumerate(fields) if field in given]
        self.columns = ", ".join((computed or {}).get(field, f"[{field}]") for field in fields)
        marks = ", ".join("?" * len(fields))
        updates = ", ".join(f"[{field}] = excluded.[{field}]" for field in fields if field not in fixed)
        # S608, here and below: the text is made of names and conditions of this package, never of input.
        self._insert = f"INSERT INTO {name}({self.columns}) VALUES ({marks})"  # noqa: S608 - see above
        self._upsert = f"{self._insert} ON CONFLICT({key}) DO UPDATE SET {updates}"

    def row(self, value: Value) -> list[object]:
        row = list(msgspec.structs.astuple(value))
        for index, encode, _ in self._codecs:
            row[index] = encode(row[index])
        return row

    def insert(self, connection: sqlite3.Connection, value: Value) -> None:
        """Insert a new value. Raises sqlite3.IntegrityError when its key is there."""
        connection.execute(self._insert, self.row(value))

    def put(self, connection: sqlite3.Connection, value: Value) -> None:
        """Insert a value, or update all of it except the `fixed` fields."""
        connection.execute(self._upsert, self.row(value))

    def find(self, connection: sqlite3.Connection, rest: str, *parameters: object) -> list[Value]:
        """The values of a query; `rest` is what follows the name of the table."""
        query = f"SELECT {self.columns} FROM {self._name} {rest}"  # noqa: S608 - see above
        return [self._decode(row) for row in connection.execute(query, parameters).fetchall()]

    def first(self, connection: sqlite3.Connection, rest: str, *parameters: object) -> Value | None:
        """The first value of a query; see `find`."""
        found = self.find(connection, f"{rest} LIMIT 1", *parameters)
        return found[0] if found else None

    def _decode(self, row: tuple[Any, ...]) -> Value:
        fields = list(row)
        for index, _, decode in self._codecs:
            fields[index] = decode(fields[index])
        return self._value(*fields)


# ----------------------------------------------------------------------
# Projects, executions, approvals, processes, sessions and devices as rows.


def _word(value: Any) -> object:
    return value.value


def _json(type_: Any) -> Codec:
    return msgspec.json.encode, msgspec.json.Decoder(type_).decode


_SURROGATES: Final = ("utf-8", "surrogatepass")
"""Names that are not UTF-8 have surrogates (os.fsdecode), which SQLite's TEXT refuses."""
PATH: Final[Codec] = (methodcaller("encode", *_SURROGATES), methodcaller("decode", *_SURROGATES))
_USAGE: Final = _json(tuple[model.ModelUsage, ...])
_PROMPT_CHARACTERS: Final = 200

PROJECT: Final = Table(
    "conversation",
    ConversationRecord,
    codecs={
        "path": PATH,
        "real_path": PATH,
        "name": PATH,
        "state": (_word, model.ProjectState),
        "fork": FLAG,
        "queue_hold": _json(model.QueueHold | None),
        "archived": FLAG,
        "worktree": _json(model.Worktree | None),
        "transcript": _json(model.TranscriptMark | None),
        "last_line": _json(model.LastLine | None),
    },
)
EXECUTION: Final = Table(
    "execution",
    Execution,
    fixed=frozenset({"id", "conversation_id", "prompt_id", "created_at"}),
    codecs={
        "options": _json(model.ExecuteOptions),
        "status": (_word, model.ExecutionStatus),
        "usage": _USAGE,
        "incomplete": FLAG,
        "stop": (lambda stop: stop and stop.value, lambda stored: stored and model.StopRequest(stored)),
        "paused_for": (lambda reason: reason and reason.value, lambda stored: stored and model.HoldReason(stored)),
    },
)
SUMMARY: Final = Table(
    "execution",
    model.ExecutionSummary,
    codecs={"status": (_word, model.ExecutionStatus), "usage": _USAGE, "incomplete": FLAG},
    computed={"prompt": f"substr(prompt, 1, {_PROMPT_CHARACTERS})"},
)
APPROVAL: Final = Table(
    "approval",
    Approval,
    key="conversation_id, id",
    fixed=frozenset({"id", "conversation_id", "created_at"}),
    codecs={"status": (_word, model.ApprovalStatus), "delivered": FLAG},
)
PROCESS: Final = Table(
    "process",
    model.ProcessRecord,
    fixed=frozenset({"id", "conversation_id", "started_at"}),
    codecs={"account": _json(model.Account)},
)
SESSION: Final = Table(
    "session", model.SessionRecord, key="project_id, id", fixed=frozenset({"id", "project_id", "created_at"})
)
_FIXED: Final = frozenset({"project_id"})
TRUST: Final = Table("trust", model.Trust, key="project_id", fixed=_FIXED, codecs={"digests": _json(tuple[str, ...])})
_PROJECTS: Final = _json(tuple[model.ProjectId, ...] | None)
_DEVICE: Final = {"view_only": FLAG, "projects": _PROJECTS, "credential": (_word, model.Credential)}
DEVICE: Final = Table("device", model.Device, codecs=_DEVICE)
PAIRING: Final = Table("pairing", model.Pairing, key="code_hash", codecs={"view_only": FLAG, "projects": _PROJECTS})

# `first` and `log_bytes` are the store's own; what identifies a project never changes.
_OWN: Final = frozenset({"number", "id", "path", "real_path", "created_at", "first"})
_MOVING: Final = [
    (index, field) for index, field in enumerate(ConversationRecord.__struct_fields__) if field not in _OWN
]
_MOVE: Final = (
    "UPDATE conversation SET "  # noqa: S608 - made of the model's names
    + ", ".join(f"[{field}] = ?" for _, field in _MOVING)
    + ", log_bytes = log_bytes + ? WHERE number = ? AND id = ? AND head = ?"
)


def projects(connection: sqlite3.Connection) -> list[ConversationRecord]:
    """The main conversations of all projects, the oldest first."""
    return PROJECT.find(connection, f"WHERE {MAIN_CONVERSATION} ORDER BY number")


def conversations(connection: sqlite3.Connection) -> list[ConversationRecord]:
    """All conversations of all projects, the oldest first."""
    return PROJECT.find(connection, "ORDER BY number")


def next_project_number(connection: sqlite3.Connection) -> int:
    """Count up and return the number of a new project, inside the caller's transaction."""
    query = "UPDATE meta SET value = value + 1 WHERE key = 'project_number' RETURNING value"
    number: int = connection.execute(query).fetchone()[0]
    return number


def put_project(connection: sqlite3.Connection, project: ConversationRecord, *, entries: int, size: int) -> None:
    """Insert a project or update it after appending entries, inside the caller's transaction.

    Args:
        project: as it is with the entries.
        entries: how many entries the change appends: the stored head must be `project.head - entries`.
        size: the sum of the bytes of their data.

    Raises:
        InternalError: the stored head is another one.
        ProjectNotFoundError: the project was deleted.
        ProjectExistsError: another project has this directory.
    """
    row = PROJECT.row(project)
    values = [row[index] for index, _ in _MOVING]
    follows = (project.number, project.id, project.head - entries)
    if not connection.execute(_MOVE, (*values, size, *follows)).rowcount:
        _insert_project(connection, project, entries=entries, size=size)


def _insert_project(connection: sqlite3.Connection, project: ConversationRecord, *, entries: int, size: int) -> None:
    known = connection.execute(
        "SELECT head FROM conversation WHERE number = ? OR id = ?", (project.number, project.id)
    ).fetchone()
    if known is not None:
        raise InternalError(
            "The change does not follow the end of the project's log.",
            details={"stored_head": known[0], "head": project.head, "entries": entries},
        )
    gone = connection.execute("SELECT 1 FROM deleted_conversation WHERE number = ?", (project.number,))
    if gone.fetchone() is not None:
        raise ProjectNotFoundError("The project was deleted.")
    if project.number < 1 or project.head != entries or project.first != 1:
        raise InternalError("A new project needs a number of the store and a log from offset 1.")
    try:
        PROJECT.insert(connection, project)
    except sqlite3.IntegrityError as fault:
        if "real_path" in str(fault):
            raise ProjectExistsError("This directory is a project already.") from fault
        raise
    connection.execute("UPDATE conversation SET log_bytes = ? WHERE number = ?", (size, project.number))


def require_project(connection: sqlite3.Connection, project_id: str) -> None:
    """Raise ProjectNotFoundError when the project does not exist (any more)."""
    if connection.execute("SELECT 1 FROM conversation WHERE id = ?", (project_id,)).fetchone() is None:
        raise ProjectNotFoundError("The project was deleted.")


def open_executions(connection: sqlite3.Connection, conversation_id: str) -> list[Execution]:
    """The executions of a conversation that are not final, in the order of their position."""
    where = f"WHERE conversation_id = ? AND {OPEN_EXECUTION} ORDER BY position"
    return EXECUTION.find(connection, where, conversation_id)


def makers(connection: sqlite3.Connection, project_id: str, ids: Sequence[str]) -> dict[str, str]:
    """The devices that gave the prompts of these executions of a project, by their ids."""
    marks = ", ".join("?" * len(ids))
    of_project = "(conversation_id = ? OR substr(conversation_id, 1, ?) = ?)"
    query = f'SELECT id, "by" FROM execution WHERE id IN ({marks}) AND {of_project}'  # noqa: S608 - only marks are added
    place = (project_id, len(project_id) + 1, f"{project_id}.")
    return dict(connection.execute(query, (*ids, *place)).fetchall())


def open_approvals(connection: sqlite3.Connection, conversation_id: str) -> list[Approval]:
    """The approvals of a conversation that are pending, or answered but not delivered; the oldest first."""
    where = f"WHERE conversation_id = ? AND {OPEN_APPROVAL} ORDER BY created_at, rowid"
    return APPROVAL.find(connection, where, conversation_id)


# ----------------------------------------------------------------------
# The entries of all logs in one clustered table: append several, read a page, find a time.
#
# Every step of a statement releases Python's global lock and has to acquire it again. Under a busy event loop
# 1000 inserts of one row took five times as long as the same rows in inserts of many, so a run of entries
# is appended with few statements. Reading row by row showed no such cost.

OFFSET_BITS: Final = 40
"""id = number << OFFSET_BITS | offset; MAX_OFFSET of the model fills these bits."""

# Rows per INSERT, the largest first. At most three statements of a size, five sizes to prepare.
_RUNS: Final = (256, 64, 16, 4, 1)
_INSERT: Final = {
    rows: "INSERT INTO entry(id, timestamp, direction, type, data) VALUES "  # noqa: S608 - only marks are added
    + ", ".join(["(?, ?, ?, ?, ?)"] * rows)
    for rows in _RUNS
}

# "direction <> 'claude'" repeats the condition of the partial index: SQLite uses that index for no other
# query. The direction must be a literal for the same reason.
_FILTER: Final[dict[Direction | None, str]] = {
    None: "",
    Direction.CLAUDE: " AND direction = 'claude'",
    Direction.CLIENT: " AND direction = 'client' AND direction <> 'claude'",
    Direction.SERVER: " AND direction = 'server' AND direction <> 'claude'",
}

_DIRECTION: Final = {direction.value: direction for direction in Direction}


def entry_key(number: int, offset: int) -> int:
    """The clustered key of an entry."""
    return number << OFFSET_BITS | offset


def append_entries(connection: sqlite3.Connection, number: int, entries: Sequence[Entry]) -> None:
    """Insert entries of the project with this number, inside the caller's transaction."""
    done = 0
    for rows in _RUNS:
        while len(entries) - done >= rows:
            values: list[object] = []
            for entry in entries[done : done + rows]:
                key = entry_key(number, entry.offset)
                values += (key, entry.timestamp, entry.direction.value, entry.type, entry.data)
            connection.execute(_INSERT[rows], values)
            done += rows


def page_query(direction: Direction | None, *, newest: bool) -> str:
    """The query of a page: parameters (lowest key, highest key, limit), both keys included."""
    order = "DESC" if newest else "ASC"
    return (
        "SELECT id, timestamp, direction, type, data FROM entry "  # noqa: S608 - constants of this module
        f"WHERE id BETWEEN ? AND ?{_FILTER[direction]} ORDER BY id {order} LIMIT ?"
    )


def read_entries(
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
    """A page of the entries between two offsets, both included; ascending.

    Args:
        limit: entries at most.
        max_bytes: bytes of data at most, but always one entry if there is one.
        direction: only entries of this one.
        newest: the page ends at `high` instead of beginning at `low`.
    """
    low, high = max(low, 0), min(high, MAX_OFFSET)
    if low > high:
        return []
    entries: list[Entry] = []
    found = connection.execute(
        page_query(direction, newest=newest), (entry_key(number, low), entry_key(number, high), max(limit, 1))
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
        row = connection.execute("SELECT first, head FROM conversation WHERE number = ?", (number,)).fetchone()
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
    row = connection.execute("SELECT timestamp FROM entry WHERE id = ?", (entry_key(number, offset),)).fetchone()
    timestamp: int = row[0]
    return timestamp


# ----------------------------------------------------------------------
# The history of spending: what each project used of each model, day by day. The CLI's commands read it too.

SPENDING: Final = Table("spending", Spending, key="day, project_id, model", codecs={"project_name": PATH})

_KEY: Final = frozenset({"day", "project_id", "project_name", "model"})
_SUMS: Final = [field for field in Spending.__struct_fields__ if field not in _KEY]
_ADD: Final = (
    f"INSERT INTO spending({SPENDING.columns}) "  # noqa: S608 - made of the model's names
    f"VALUES ({', '.join('?' * len(Spending.__struct_fields__))}) ON CONFLICT(day, project_id, model) DO UPDATE SET "
    + ", ".join(f"{field} = {field} + excluded.{field}" for field in _SUMS)
    + ", project_name = excluded.project_name"
)


def add_spending(connection: sqlite3.Connection, spent: Spending) -> None:
    """Add to what the project used of the model that day, inside the caller's transaction."""
    connection.execute(_ADD, SPENDING.row(spent))


def cost_by_day(connection: sqlite3.Connection, days: int) -> list[tuple[str, float]]:
    """What all projects have cost in each of the last days (YYYY-MM-DD) that have costs, in dollars; oldest first."""
    query = "SELECT day, total(cost_usd) FROM spending GROUP BY day ORDER BY day DESC LIMIT ?"
    return connection.execute(query, (days,)).fetchall()[::-1]


def spending_since(connection: sqlite3.Connection, day: str) -> list[Spending]:
    """All that was used from a day (YYYY-MM-DD) on; the newest day first, and the dearest first within it."""
    return SPENDING.find(connection, "WHERE day >= ? ORDER BY day DESC, cost_usd DESC, project_id, model", day)
