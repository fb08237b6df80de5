"""`pocket-agent audit`: verifies the audit log; and appends what other commands change."""

import getpass
import sqlite3
from collections.abc import Mapping

import typer

from pocket_agent.audit import EMPTY, AuditRecord, Head, append, audit_path, timestamp, verify
from pocket_agent.cli.common import print_json
from pocket_agent.cli.storage import open_database
from pocket_agent.errors import FileOperationError, ValidationError
from pocket_agent.settings import LoadedSettings, printable
from pocket_agent.storage import advance_audit_head, audit_head
from pocket_agent.storage.database import database_path


def note(loaded: LoadedSettings, connection: sqlite3.Connection, action: str, details: Mapping[str, object]) -> None:
    """Append what a command has done; a server may be writing to the same log.

    A failure is reported on standard error, and the command goes on: a new token that it did not show would be lost.
    """
    if not loaded.settings.audit.enabled:
        return
    record = AuditRecord(timestamp(), action, by=f"{getpass.getuser()} (command)", details=details)
    try:
        head = append(audit_path(loaded.settings.data.dir), [record], _known(connection))
    except OSError as error:
        typer.echo(f"The audit log cannot be written ({error.strerror}), so it lacks this change.", err=True)
        return
    advance_audit_head(connection, head.seq, head.digest)


def check(loaded: LoadedSettings, *, as_json: bool) -> None:
    """Print the extent of the audit log.

    Raises:
        FileOperationError: there is no log, or it cannot be read.
        ValidationError: a record was changed, removed or inserted.
    """
    path = audit_path(loaded.settings.data.dir)
    if not path.exists() and not database_path(loaded.settings.data.dir).exists():
        raise FileOperationError(
            f"There is no audit log at {path}: no server has run with this data directory (data.dir, --data-dir)."
        )
    with open_database(loaded) as connection:
        known = _known(connection)
    try:
        found = verify(path, known)
    except OSError as error:
        missing = " It was removed: the database knows records of it." if known != EMPTY else ""
        raise FileOperationError(f"{path} cannot be read: {error.strerror}.{missing}") from error
    if as_json:
        print_json({name: getattr(found, name) for name in ("records", "first", "last", "torn", "problems")})
    elif not found.problems:
        span = f", from {printable(found.first or '')} to {printable(found.last or '')}" if found.records else ""
        typer.echo(f"{found.records} records{span}; none was changed, removed or inserted.")
        if found.torn:
            typer.echo(f"Crashes have cut off {found.torn} records; the log has a record of each crash.")
    if found.problems:
        raise ValidationError("\n".join(["The audit log is not as it was written:", *found.problems]))


def _known(connection: sqlite3.Connection) -> Head:
    found = audit_head(connection)
    return Head(*found) if found is not None else EMPTY
