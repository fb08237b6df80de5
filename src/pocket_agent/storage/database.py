"""The database file: opened privately and in WAL mode, migrated, locked by one server; its transactions and faults."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, Self

import psutil

from pocket_agent.errors import FileOperationError, InternalError, PocketAgentError, SchemaTooNewError


def database_path(data_dir: Path) -> Path:
    """The database's file."""
    return data_dir / "pocket-agent.db"


def mark_path(database: Path) -> Path:
    """The file next to the database that shows whether an old copy was put back, see `epoch.Mark`."""
    return database.with_name(database.name + ".mark")


# ----------------------------------------------------------------------
# Errors of SQLite and of the file system as errors that an operator can act on.

# SQLite codes -> (reason for programs, message for people).
_REASON: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_FULL: (
        *("disk_full", "The disk is full: nothing was stored. Free some space in the data directory's file system."),
    ),
    sqlite3.SQLITE_BUSY: (
        *("busy", "The database is locked by another program: nothing was stored. Close it and try again."),
    ),
    sqlite3.SQLITE_LOCKED: ("busy", "The database is locked: nothing was stored. Try again."),
    sqlite3.SQLITE_READONLY: (
        *("read_only", "The database cannot be written: its file or its file system is read-only."),
    ),
    sqlite3.SQLITE_PERM: ("permission", "The server may not open its database: check who owns the file."),
    sqlite3.SQLITE_AUTH: ("permission", "The server may not open its database: check who owns the file."),
    sqlite3.SQLITE_CANTOPEN: (
        *("cannot_open", "The database cannot be opened: check that the data directory exists and belongs to you."),
    ),
    sqlite3.SQLITE_CORRUPT: ("corrupt", "The database is damaged. Restore a backup of it."),
    sqlite3.SQLITE_NOTADB: (
        "not_a_database",
        "The file is not a database, or is damaged. Restore a backup, or choose another data directory.",
    ),
    sqlite3.SQLITE_IOERR: (
        *("io_error", "The disk refused a read or a write of the database: it may be full or failing."),
    ),
}


def error_of(fault: sqlite3.Error | OSError) -> PocketAgentError:
    """Turn a fault into an error of the tree, with the fault as its `__cause__`.

    A fault of the disk or of the file is a FileOperationError, whose `details["reason"]` is stable;
    anything else (a broken constraint, wrong SQL) is a fault of the server: an InternalError.
    """
    # The primary result code is the low byte of an extended one (https://www.sqlite.org/rescode.html); errors that
    # the Python module raises by itself have none.
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF
    if "closed database" in str(fault):  # `FileGuard` could not open it anew
        code = sqlite3.SQLITE_CANTOPEN
    error: PocketAgentError
    if isinstance(fault, OSError):
        text = f"The data directory refused an operation: {fault.strerror or 'input or output error'}."
        error = FileOperationError(text, details={"reason": "io_error"})
    elif code in _REASON:
        reason, text = _REASON[code]
        error = FileOperationError(text, details={"reason": reason})
    else:
        error = InternalError("The store refused a change that contradicts itself.")
    error.__cause__ = fault
    return error


@contextmanager
def faults_mapped() -> Iterator[None]:
    """Raise faults inside the block as `error_of` maps them."""
    try:
        yield
    except (sqlite3.Error, OSError) as fault:
        raise error_of(fault) from fault


# ----------------------------------------------------------------------
# Explicit transactions: the connections of the store are in autocommit mode.


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: commits at the end, rolls back when an exception leaves it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several reads that see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        roll_back(connection)


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction without a trace, unless SQLite did so already (it does when a disk is full)."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


# ----------------------------------------------------------------------
# The schema as numbered migrations, the only place that defines it.
#
# `PRAGMA user_version` holds the number of the last migration. A migration is never edited once it
# was released: the next change is the next number.

APPLICATION_ID: Final = 0x504B4154
"""In the header of the file: distinguishes this program's database from others ("PKAT")."""

OPEN_EXECUTION: Final = "status IN ('queued', 'starting', 'running', 'steering', 'waiting', 'interrupted')"
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
    """CREATE INDEX execution_open ON execution(project_id, position)
        WHERE status IN ('queued', 'starting', 'running')""",
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
    # Distinguishes the cookies of servers on one host, whose ports browsers ignore.
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
    # Open codes have no known maker; they live for five minutes.
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

MAIN_CONVERSATION: Final = "instr(id, '.') = 0"
"""The condition of the main conversations, whose id is that of their project (`model.project_of`)."""

_CONVERSATIONS: Final = (
    # A project's row becomes that of its main conversation. Only main ones have a directory of their own, and SQLite
    # cannot drop the constraint of a column. Entries belong to the number, which stays.
    """CREATE TABLE conversation (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        path BLOB NOT NULL,
        real_path BLOB NOT NULL,
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
        log_bytes INTEGER NOT NULL DEFAULT 0,
        queue_hold BLOB NOT NULL DEFAULT x'6e756c6c',
        title TEXT,
        archived INTEGER NOT NULL DEFAULT 0,
        worktree BLOB NOT NULL DEFAULT x'6e756c6c'
    ) STRICT""",
    """INSERT INTO conversation(number, id, path, real_path, name, state, session_id, epoch, head, first, created_at,
        last_active, model, permission_mode, fork, log_bytes, queue_hold)
        SELECT number, id, path, real_path, name, state, session_id, epoch, head, first, created_at,
        last_active, model, permission_mode, fork, log_bytes, queue_hold FROM project""",
    "DROP TABLE project",
    f"CREATE UNIQUE INDEX conversation_real_path ON conversation(real_path) WHERE {MAIN_CONVERSATION}",
    "ALTER TABLE deleted_project RENAME TO deleted_conversation",
    "ALTER TABLE execution RENAME COLUMN project_id TO conversation_id",
    "ALTER TABLE approval RENAME COLUMN project_id TO conversation_id",
    "ALTER TABLE process RENAME COLUMN project_id TO conversation_id",
)

_PAUSE: Final = (
    "ALTER TABLE execution ADD COLUMN paused_for TEXT",
    "ALTER TABLE execution ADD COLUMN paused_at INTEGER",
    "ALTER TABLE execution ADD COLUMN continuations INTEGER NOT NULL DEFAULT 0",
    "DROP INDEX execution_open",
    f"CREATE INDEX execution_open ON execution(conversation_id, position) WHERE {OPEN_EXECUTION}",
)

_TRANSCRIPT: Final = (
    "ALTER TABLE conversation ADD COLUMN transcript BLOB NOT NULL DEFAULT x'6e756c6c'",  # null
)

_LAST_LINE: Final = ("ALTER TABLE conversation ADD COLUMN last_line BLOB NOT NULL DEFAULT x'6e756c6c'",)  # null

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    *(_INITIAL, _CORRELATION, _ACCOUNT, _PAIRING, _HOLD, _AUTHORITY, _TRUST, _CONVERSATIONS, _PAUSE, _TRANSCRIPT),
    _LAST_LINE,
)
"""Migration n (counted from 1) is the statements that lead from version n - 1 to n."""


def migrate(connection: sqlite3.Connection, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> None:
    """Bring the database to the newest version, each migration in its own transaction; raises as `check_version`."""
    while check_version(connection, migrations) < len(migrations):
        with transaction(connection):
            number = check_version(connection, migrations) + 1
            for statement in migrations[number - 1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")


def check_version(connection: sqlite3.Connection, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> int:
    """The number of the last migration that the database has had; 0 for an empty one.

    Raises:
        SchemaTooNewError: a newer version of this program wrote the database.
        FileOperationError: the database belongs to another program.
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


# ----------------------------------------------------------------------
# Opening the file: private from its first moment, with this application's id, in WAL mode.

Synchronous = Literal["normal", "full"]

PRIVATE: Final = 0o600
LOG_LIMIT_BYTES: Final = 64 * 2**20
"""What the file of the write-ahead log is cut back to when the log begins anew."""

_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables


def create_private(path: Path) -> None:
    """Create an empty file that only its owner may read, whatever the umask.

    SQLite gives its -wal and -shm files the mode of the database file (os_unix.c, findCreateFileMode).

    Raises:
        FileExistsError: the file is there already.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        os.fchmod(descriptor, PRIVATE)
    finally:
        os.close(descriptor)


def tighten(path: Path) -> None:
    """Make the database's files readable for their owner only, if they ever were readable to others."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists() and file.stat().st_mode & 0o077:
            file.chmod(PRIVATE)


def connect(path: Path, *, busy_timeout: float, synchronous: Synchronous = "normal") -> sqlite3.Connection:
    """Open an existing database file. The connection may be handed to another thread.

    Args:
        path: the file; it must exist (see `create_private`).
        busy_timeout: seconds to wait for a lock of another program.
        synchronous: "normal" may lose the last commits when the power fails, never the consistency;
            "full" flushes each commit. https://www.sqlite.org/pragma.html#pragma_synchronous

    Raises:
        SchemaTooNewError: a newer version of this program wrote the database.
        FileOperationError: the file cannot be used, or belongs to another program.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise FileOperationError(
            f"Python was built with SQLite {sqlite3.sqlite_version}; 3.37 or newer is needed.",
            details={"reason": "sqlite_too_old"},
        )
    with faults_mapped():
        if path.exists() and not path.is_file():
            raise FileOperationError(
                f"{path.name} is a directory or a special file, not the database. Put the database in its place.",
                details={"reason": "not_a_database"},
            )
        if not path.exists() or path.stat().st_size == 0:
            # SQLite would delete the write-ahead log, which may have it all.
            _refuse_lost(mark_path(path), path.with_name(path.name + "-wal"))
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            # Before anything is changed: a file of another program stays as it is.
            if check_version(connection) == 0:
                _refuse_lost(mark_path(path))
            _prepare(connection, synchronous)
        except BaseException:
            connection.close()
            raise
    return connection


def _refuse_lost(*traces: Path) -> None:
    """Refuse a database without contents next to files that show that it had some."""
    found = [trace.name for trace in traces if trace.exists() and trace.stat().st_size > 0]
    if found:
        raise FileOperationError(
            f"The database was deleted or emptied, but other files of it are there ({', '.join(found)}). Put it back, "
            "or restore a backup; to start without its contents, delete these files, too.",
            details={"reason": "database_lost"},
        )


def _prepare(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise FileOperationError(
            "The file system of the data directory cannot share memory between programs, "
            "which the database needs (a network drive?). Choose a local directory.",
            details={"reason": "no_wal"},
        )
    set_synchronous(connection, synchronous)
    # The store checkpoints in a thread of its own, so that no commit waits for a flush of the disk.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
    connection.execute("PRAGMA trusted_schema = OFF")


def set_synchronous(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    """Choose what a commit waits for; see `connect`."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    # fsync alone does not reach the platter on macOS; on other systems this has no effect.
    connection.execute(f"PRAGMA fullfsync = {'ON' if synchronous == 'full' else 'OFF'}")


# ----------------------------------------------------------------------
# One server per data directory: an advisory lock that ends with its process, however it ends.


def _lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def lock_owner(database: Path) -> int | None:
    """The process that has the lock, without touching it; None when it is free, or when that cannot be known.

    The file alone proves nothing, since it stays: its process may be gone, and the pid used again.
    """
    path = _lock_path(database)
    try:
        pid = int(path.read_text("ascii"))
        held = any(path.samefile(opened.path) for opened in psutil.Process(pid).open_files())
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if held else None


class DataLock:
    """Holds the locks on `FILE.lock` next to the database and on their folder.

    The lock file stays; only the lock on it counts. A user may take it for a leftover and delete it, which leaves
    the lock on the folder.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = list(descriptors)

    @classmethod
    def acquire(cls, database: Path) -> Self:
        """Take the lock.

        Raises:
            FileOperationError: another server has it; the message has its pid.
            OSError: the lock file cannot be opened.
        """
        path = _lock_path(database)
        with ExitStack() as undo:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, folder)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
            undo.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _lock_folder(folder)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            except BlockingIOError:
                owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise FileOperationError(
                    f"Another server (process {owner or 'unknown'}) uses this data directory. "
                    "Stop it, or start this one with another --data-dir.",
                    details={"reason": "data_in_use"},
                ) from None
            undo.pop_all()
        return cls((folder, descriptor))

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        while self._descriptors:
            # Closing alone would leave the lock to a child that is just being started: until it runs its
            # program, it has a copy of every descriptor (flock(2)).
            descriptor = self._descriptors.pop()
            with suppress(OSError):  # the folder's file system may have no locks
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _lock_folder(folder: int) -> None:
    """Lock an open folder, unless its file system has no locks for folders (EBADF, EINVAL, EOPNOTSUPP)."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
