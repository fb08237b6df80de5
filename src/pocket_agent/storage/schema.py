"""The tables, as numbered migrations; the only place that defines them.

`PRAGMA user_version` holds the number of the last migration. A migration is never edited once it
was released: the next change is the next number.
"""

import sqlite3
from typing import Final

from pocket_agent.errors import FileOperationError, SchemaTooNewError
from pocket_agent.storage.transaction import transaction

APPLICATION_ID: Final = 0x504B4154
"""In the header of the file: tells our database from any other ("PKAT")."""

OPEN_EXECUTION: Final = "status IN ('queued', 'starting', 'running')"
OPEN_APPROVAL: Final = "(status = 'pending' OR (status IN ('allow', 'deny') AND delivered = 0))"
"""Conditions of partial indexes. SQLite uses such an index only for a query that repeats them word for
word (https://www.sqlite.org/partialindex.html), so queries are built from these."""

_INITIAL: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID",
    "INSERT INTO meta(key, value) VALUES ('project_number', 0), ('clean', 1), ('backup', 0)",
    # Paths are bytes: a directory's name need not be UTF-8.
    """CREATE TABLE project (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        path BLOB NOT NULL,
        real_path BLOB NOT NULL UNIQUE,
        name BLOB NOT NULL,
        state TEXT NOT NULL,
        session_id TEXT,
        epoch TEXT NOT NULL,
        head INTEGER NOT NULL,
        first INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        last_active INTEGER NOT NULL,
        model TEXT,
        permission_mode TEXT,
        fork INTEGER NOT NULL,
        log_bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # Kept after its rows are swept, so that a late change can never bring a project back.
    """CREATE TABLE deleted_project (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        swept INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # id = project.number << 40 | offset: one clustered key, so a page is one range of neighbours.
    """CREATE TABLE entry (
        id INTEGER PRIMARY KEY,
        timestamp INTEGER NOT NULL,
        direction TEXT NOT NULL,
        type TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT""",
    # Almost every entry is the CLI's: the others are found by this index, at no cost to the many.
    "CREATE INDEX entry_direction ON entry(direction, id) WHERE direction <> 'claude'",
    """CREATE TABLE execution (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL,
        prompt_id TEXT,
        prompt TEXT NOT NULL,
        options BLOB NOT NULL,
        status TEXT NOT NULL,
        position INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        started_at INTEGER,
        finished_at INTEGER,
        spool_offset INTEGER,
        waited_ms INTEGER NOT NULL,
        "by" TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX execution_position ON execution(project_id, position)",
    f"CREATE INDEX execution_open ON execution(project_id, position) WHERE {OPEN_EXECUTION}",
    "CREATE UNIQUE INDEX execution_prompt ON execution(project_id, prompt_id) WHERE prompt_id IS NOT NULL",
    """CREATE TABLE approval (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        execution_id TEXT,
        request_id TEXT NOT NULL,
        request BLOB NOT NULL,
        status TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        resolved_at INTEGER,
        "by" TEXT,
        answer BLOB,
        delivered INTEGER NOT NULL,
        PRIMARY KEY (project_id, id)
    ) STRICT""",
    f"CREATE INDEX approval_open ON approval(project_id, created_at) WHERE {OPEN_APPROVAL}",
    "CREATE INDEX approval_resolved ON approval(project_id, resolved_at)",
    """CREATE TABLE process (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL,
        pid INTEGER NOT NULL,
        start_time TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        consumed INTEGER NOT NULL,
        options BLOB NOT NULL,
        started_at INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX process_project ON process(project_id, started_at)",
    """CREATE TABLE session (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_active INTEGER NOT NULL,
        title TEXT NOT NULL,
        PRIMARY KEY (project_id, id)
    ) STRICT""",
    "CREATE INDEX session_last_active ON session(project_id, last_active)",
    """CREATE TABLE device (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        token_hash TEXT NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        last_seen INTEGER
    ) STRICT""",
)

_CORRELATION: Final = (
    "ALTER TABLE execution ADD COLUMN correlation_id TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE execution ADD COLUMN traceparent TEXT",
)

_ACCOUNT: Final = (
    "ALTER TABLE execution ADD COLUMN code TEXT",
    "ALTER TABLE execution ADD COLUMN session_id TEXT",
    "ALTER TABLE execution ADD COLUMN model TEXT",
    "ALTER TABLE execution ADD COLUMN usage BLOB NOT NULL DEFAULT x'5b5d'",  # []
    "ALTER TABLE execution ADD COLUMN incomplete INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE process ADD COLUMN account BLOB NOT NULL DEFAULT x'7b7d'",  # {}
    # No part of a project: it stays when the project or its executions go.
    """CREATE TABLE spending (
        day TEXT NOT NULL,
        project_id TEXT NOT NULL,
        project_name BLOB NOT NULL,
        model TEXT NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cache_creation_tokens INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        executions INTEGER NOT NULL,
        PRIMARY KEY (day, project_id, model)
    ) STRICT, WITHOUT ROWID""",
)

_PAIRING: Final = (
    "ALTER TABLE device ADD COLUMN last_address TEXT",
    "ALTER TABLE device ADD COLUMN view_only INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE device ADD COLUMN projects BLOB NOT NULL DEFAULT x'6e756c6c'",  # null
    """CREATE TABLE pairing (
        code_hash TEXT PRIMARY KEY,
        name TEXT,
        view_only INTEGER NOT NULL,
        projects BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # Tells the cookies of servers on one host apart, whose ports browsers do not look at.
    "INSERT INTO meta(key, value) VALUES ('instance', lower(hex(randomblob(4))))",
)

_HOLD: Final = (
    "ALTER TABLE project ADD COLUMN queue_hold BLOB NOT NULL DEFAULT x'6e756c6c'",  # null
    "ALTER TABLE execution ADD COLUMN stop TEXT",
    "ALTER TABLE execution ADD COLUMN started_tick INTEGER",
    "ALTER TABLE approval ADD COLUMN created_tick INTEGER",
)

_AUTHORITY: Final = (
    "ALTER TABLE execution ADD COLUMN device_id TEXT",
    "ALTER TABLE execution ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE device ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE device ADD COLUMN paired_by TEXT",
    "ALTER TABLE device ADD COLUMN credential TEXT NOT NULL DEFAULT 'either'",
    "ALTER TABLE device ADD COLUMN public_key BLOB",
    # Nobody knows who made the codes that wait; they live for five minutes.
    "DELETE FROM pairing",
    "ALTER TABLE pairing ADD COLUMN id TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE pairing ADD COLUMN device_id TEXT",
    "ALTER TABLE pairing ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
)

_TRUST: Final = (
    # Not a column of `project`, whose row is written with each batch of lines.
    """CREATE TABLE trust (
        project_id TEXT PRIMARY KEY,
        digests BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "ALTER TABLE process ADD COLUMN claims TEXT NOT NULL DEFAULT ''",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    *(_INITIAL, _CORRELATION, _ACCOUNT, _PAIRING, _HOLD, _AUTHORITY, _TRUST),
)
"""Migration n (counted from 1) is the statements that lead from version n - 1 to n."""


def migrate(connection: sqlite3.Connection, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> None:
    """Bring the database to the newest version, each migration in a transaction of its own.

    Raises:
        SchemaTooNewError: a newer version of this program wrote the database.
        FileOperationError: the database belongs to another program.
        sqlite3.Error: the disk refused.
    """
    while check_version(connection, migrations) < len(migrations):
        with transaction(connection):
            number = check_version(connection, migrations) + 1
            for statement in migrations[number - 1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")


def check_version(connection: sqlite3.Connection, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> int:
    """The number of the last migration that the database has had; 0 for an empty one.

    Raises: as `migrate`.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION_ID and (application or version or tables):
        raise FileOperationError(
            "The file is a database of another program. Choose another data directory.",
            details={"reason": "foreign_database"},
        )
    if version > len(migrations):
        raise SchemaTooNewError(
            f"The database has schema version {version}, this program knows up to {len(migrations)}. "
            "Update Pocket Agent Server, or restore a backup that this version made.",
            details={"reason": "schema_too_new", "found": version, "supported": len(migrations)},
        )
    return version
