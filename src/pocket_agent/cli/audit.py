"""`pocket-agent audit`: verifies the audit log; and the records of other commands."""

import getpass
import json
import sqlite3
from collections.abc import Mapping

import typer

from pocket_agent.audit.audit_log import EMPTY, AuditRecord, Head, append, audit_path, timestamp
from pocket_agent.audit.verification import verify
from pocket_agent.errors import FileOperationError, ValidationError
from pocket_agent.settings import LoadedSettings, printable
from pocket_agent.storage import advance_audit_head, audit_head, connection_beside
from pocket_agent.storage.database import database_path


def note(loaded: LoadedSettings, connection: sqlite3.Connection, action: str, details: Mapping[str, object]) -> None:
    """Append a record of a command; a server may be writing to the same log.

    Raises:
        FileOperationError: the disk refused.
    """
    if not loaded.settings.audit.enabled:
        return
    record = AuditRecord(timestamp(), action, by=f"{getpass.getuser()} (command)", details=details)
    try:
        head = append(audit_path(loaded.settings.data.dir), [record], _known(connection))
    except OSError as error:
        raise FileOperationError(
            f"The change was made, but the audit log cannot be written: {error.strerror}."
        ) from error
    advance_audit_head(connection, head.seq, head.digest)


def check(loaded: LoadedSettings, *, as_json: bool) -> None:
    """Print the result of the verification; raises if it fails, which sets the exit status.

    Raises:
        FileOperationError: there is no log, or it cannot be read.
        ValidationError: the log was changed.
    """
    path, database = audit_path(loaded.settings.data.dir), database_path(loaded.settings.data.dir)
    if not path.exists() and not database.exists():
        raise FileOperationError(
            f"There is no audit log at {path}: no server has run with this data directory (data.dir, --data-dir)."
        )
    with connection_beside(database) as connection:
        known = _known(connection)
    try:
        verdict = verify(path, known)
    except OSError as error:
        missing = " It was removed: the database has a record of it." if known != EMPTY else ""
        raise FileOperationError(f"{path} cannot be read: {error.strerror}.{missing}") from error
    if as_json:
        found = {"records": verdict.records, "first": verdict.first, "last": verdict.last}
        typer.echo(json.dumps({**found, "torn": verdict.torn, "problems": verdict.problems}))
    elif not verdict.problems:
        first, last = printable(verdict.first or ""), printable(verdict.last or "")  # as in the file
        span = f", from {first} to {last}" if verdict.records else ""
        typer.echo(f"{verdict.records} records{span}; none was changed, removed or inserted.")
        if verdict.torn:
            typer.echo(f"Crashes have cut off {verdict.torn} records during their write; a later record reports each.")
    if verdict.problems:
        raise ValidationError("\n".join(["The audit log was changed:", *verdict.problems]))


def _known(connection: sqlite3.Connection) -> Head:
    found = audit_head(connection)
    return Head(*found) if found is not None else EMPTY
