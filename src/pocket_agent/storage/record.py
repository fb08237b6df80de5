"""Projects, executions, approvals, processes, sessions and devices as rows."""

import sqlite3
from typing import Any, Final

import msgspec

from pocket_agent.errors import InternalError, ProjectExistsError, ProjectNotFoundError
from pocket_agent.model import (
    Account,
    Approval,
    ApprovalStatus,
    Credential,
    Device,
    ExecuteOptions,
    Execution,
    ExecutionStatus,
    ExecutionSummary,
    ModelUsage,
    Pairing,
    ProcessRecord,
    Project,
    ProjectId,
    ProjectState,
    QueueHold,
    Session,
    StopRequest,
    Trust,
)
from pocket_agent.storage.schema import OPEN_APPROVAL, OPEN_EXECUTION
from pocket_agent.storage.table import FLAG, Codec, Table


def _path_out(path: str) -> bytes:
    # Names that are not UTF-8 reach us with surrogates (os.fsdecode), which SQLite's TEXT refuses.
    return path.encode("utf-8", "surrogatepass")


def _path_in(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogatepass")


def _word(value: Any) -> object:
    return value.value


PATH: Final[Codec] = (_path_out, _path_in)
_USAGE: Final[Codec] = (msgspec.json.encode, msgspec.json.Decoder(tuple[ModelUsage, ...]).decode)
_PROMPT_CHARACTERS: Final = 200

PROJECT: Final = Table(
    "project",
    Project,
    codecs={
        "path": PATH,
        "real_path": PATH,
        "name": PATH,
        "state": (_word, ProjectState),
        "fork": FLAG,
        "queue_hold": (msgspec.json.encode, msgspec.json.Decoder(QueueHold | None).decode),
    },
)
EXECUTION: Final = Table(
    "execution",
    Execution,
    fixed=frozenset({"id", "project_id", "prompt_id", "created_at"}),
    codecs={
        "options": (msgspec.json.encode, msgspec.json.Decoder(ExecuteOptions).decode),
        "status": (_word, ExecutionStatus),
        "usage": _USAGE,
        "incomplete": FLAG,
        "stop": (lambda stop: stop and stop.value, lambda stored: stored and StopRequest(stored)),
    },
)
SUMMARY: Final = Table(
    "execution",
    ExecutionSummary,
    codecs={"status": (_word, ExecutionStatus), "usage": _USAGE, "incomplete": FLAG},
    computed={"prompt": f"substr(prompt, 1, {_PROMPT_CHARACTERS})"},
)
APPROVAL: Final = Table(
    "approval",
    Approval,
    key="project_id, id",
    fixed=frozenset({"id", "project_id", "created_at"}),
    codecs={"status": (_word, ApprovalStatus), "delivered": FLAG},
)
PROCESS: Final = Table(
    "process",
    ProcessRecord,
    fixed=frozenset({"id", "project_id", "started_at"}),
    codecs={"account": (msgspec.json.encode, msgspec.json.Decoder(Account).decode)},
)
SESSION: Final = Table("session", Session, key="project_id, id", fixed=frozenset({"id", "project_id", "created_at"}))
TRUST: Final = Table(
    "trust",
    Trust,
    key="project_id",
    fixed=frozenset({"project_id"}),
    codecs={"digests": (msgspec.json.encode, msgspec.json.Decoder(tuple[str, ...]).decode)},
)
_PROJECTS: Final[Codec] = (msgspec.json.encode, msgspec.json.Decoder(tuple[ProjectId, ...] | None).decode)
DEVICE: Final = Table(
    "device",
    Device,
    codecs={"view_only": FLAG, "projects": _PROJECTS, "credential": (_word, Credential)},
)
PAIRING: Final = Table("pairing", Pairing, key="code_hash", codecs={"view_only": FLAG, "projects": _PROJECTS})

# `first` and `log_bytes` are the store's own; what identifies a project never changes.
_OWN: Final = frozenset({"number", "id", "path", "real_path", "created_at", "first"})
_MOVING: Final = [(index, field) for index, field in enumerate(Project.__struct_fields__) if field not in _OWN]
_MOVE: Final = (
    "UPDATE project SET "  # noqa: S608 - made of the model's names
    + ", ".join(f"[{field}] = ?" for _, field in _MOVING)
    + ", log_bytes = log_bytes + ? WHERE number = ? AND id = ? AND head = ?"
)


def projects(connection: sqlite3.Connection) -> list[Project]:
    """All projects, the oldest first."""
    return PROJECT.find(connection, "ORDER BY number")


def put_project(connection: sqlite3.Connection, project: Project, *, entries: int, size: int) -> None:
    """Insert a project or move it on by some entries.

    Args:
        connection: inside a transaction.
        project: as it is after them.
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


def _insert_project(connection: sqlite3.Connection, project: Project, *, entries: int, size: int) -> None:
    known = connection.execute(
        "SELECT head FROM project WHERE number = ? OR id = ?", (project.number, project.id)
    ).fetchone()
    if known is not None:
        raise InternalError(
            "The change does not follow the end of the project's log.",
            details={"stored_head": known[0], "head": project.head, "entries": entries},
        )
    gone = connection.execute("SELECT 1 FROM deleted_project WHERE number = ?", (project.number,))
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
    connection.execute("UPDATE project SET log_bytes = ? WHERE number = ?", (size, project.number))


def require_project(connection: sqlite3.Connection, project_id: str) -> None:
    """Refuse a change of a project that is not there (any more).

    Raises:
        ProjectNotFoundError: there is none.
    """
    if connection.execute("SELECT 1 FROM project WHERE id = ?", (project_id,)).fetchone() is None:
        raise ProjectNotFoundError("The project was deleted.")


def open_executions(connection: sqlite3.Connection, project_id: str) -> list[Execution]:
    """The executions of a project that are not final, in the order of their position."""
    where = f"WHERE project_id = ? AND {OPEN_EXECUTION} ORDER BY position"
    return EXECUTION.find(connection, where, project_id)


def open_approvals(connection: sqlite3.Connection, project_id: str) -> list[Approval]:
    """The approvals of a project that are pending, or answered but not delivered; the oldest first."""
    where = f"WHERE project_id = ? AND {OPEN_APPROVAL} ORDER BY created_at, rowid"
    return APPROVAL.find(connection, where, project_id)
