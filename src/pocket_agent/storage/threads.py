"""The threads of the store: one writes, one reads, one moves the write-ahead log into the database."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Concatenate, Final, ParamSpec, TypeVar, cast

from pocket_agent.distribution import Distribution
from pocket_agent.errors import FileOperationError, InternalError
from pocket_agent.storage.database import LOG_LIMIT_BYTES, Synchronous, connect, error_of, roll_back
from pocket_agent.storage.epoch import set_meta, write_mark

# ----------------------------------------------------------------------
# The writer: changes that arrive during a commit are the next commit.
#
# There is no timer. An idle writer commits a single change at once. A busy one gathers a batch while the disk works,
# so batches grow with the load.
#
# The thread ends only at `close`. A batch that raises any exception is refused, and the next one is tried.

Result = TypeVar("Result")
P = ParamSpec("P")
Job = Callable[[sqlite3.Connection], object]
"""Runs inside a transaction; must bear to be run again after that was rolled back."""

Outcome = tuple[asyncio.Future[object], object, Exception | None]


class Writer:
    """Owns the connection that writes, and the thread "store-writer".

    Args:
        connection: used only by this thread from now on, and closed by `close`.
        after_commit: called in the thread, with the connection, after each batch.
        durations: counts the seconds of each transaction, from BEGIN to the end of COMMIT.
        secure: called in the thread before each transaction, and after it before any caller gets its result;
            returns the connection to go on with, and raises when a commit would not survive the process.

    Attributes:
        commits: transactions committed since the start.
        changes: jobs in them.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        after_commit: Callable[[sqlite3.Connection], None],
        durations: Distribution | None = None,
        secure: Callable[[sqlite3.Connection], sqlite3.Connection] | None = None,
    ) -> None:
        self.commits = 0
        self.changes = 0
        self.durations = Distribution() if durations is None else durations
        self._connection = connection
        self._after_commit = after_commit
        self._secure = secure
        self._wake = threading.Condition()
        self._pending: list[tuple[Job, asyncio.Future[object] | None]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(
        self, job: Callable[Concatenate[sqlite3.Connection, P], Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Run a job in the next transaction; returns its result when that is committed.

        The job runs even if the caller is cancelled while it waits.

        Raises:
            InternalError: the store is closed.
            FileOperationError: the disk refused; nothing of the job is stored.
            Exception: what the job raised; nothing of it is stored.
        """
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if not self._put(lambda connection: job(connection, *args, **kwargs), future):
            raise InternalError("The store is closed.")
        return cast(Result, await future)

    def chore(self, job: Job) -> None:
        """Run a job in the background, again and again as long as it returns true.

        Other jobs run in between. A chore that fails, or is left at the end, is dropped: its owner submits it
        again at the next start.
        """
        self._put(job, None)

    def close(self, last: Callable[[sqlite3.Connection], None]) -> None:
        """Do what is pending, then `last` (outside any transaction), and end the thread. Blocking.

        Raises:
            sqlite3.Error: `last` failed; the connection is closed all the same.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        try:
            last(self._connection)
        finally:
            self._connection.close()

    def _put(self, job: Job, future: asyncio.Future[object] | None) -> bool:
        with self._wake:
            if not self._closing:
                self._pending.append((job, future))
                self._wake.notify()
            return not self._closing

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._pending:
                    if self._closing:
                        return
                    self._wake.wait()
                batch, self._pending = self._pending, []
            try:
                self._do(batch)
            except Exception as error:  # noqa: BLE001 - the border of the thread: without it no job is ever answered
                deliver([(future, None, _carried(error)) for _, future in batch if future is not None])

    def _do(self, batch: Sequence[tuple[Job, asyncio.Future[object] | None]]) -> None:
        jobs = [job for job, _ in batch]
        done = list(zip(batch, self._commit(jobs), strict=True))
        outcomes = [(future, result, error) for (_, future), (result, error) in done if future is not None]
        if outcomes:
            deliver(outcomes)
        with self._wake:
            if not self._closing:
                self._pending += [(job, None) for (job, future), (result, _) in done if future is None and result]
        self._after_commit(self._connection)

    def _commit(self, jobs: Sequence[Job]) -> list[tuple[object, Exception | None]]:
        """Run the jobs in one transaction; when one fails, again with a savepoint around each."""
        started = time.perf_counter()
        committing = False
        try:
            self._ensure_secure()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                results: list[tuple[object, Exception | None]] = [(job(self._connection), None) for job in jobs]
            except Exception:  # noqa: BLE001 - found again, and handed to its owner, by _each
                roll_back(self._connection)
                self._connection.execute("BEGIN IMMEDIATE")
                results = self._each(jobs)
            committing = True
            self._connection.execute("COMMIT")
            committing = False
            self._ensure_secure()
        except Exception as fault:  # noqa: BLE001 - raised in the coroutines that wait
            # The transaction as a whole is refused: a lock, a full disk. So is every job in it.
            self._abandon()
            if committing:
                self._void()
            return [(None, _carried(fault)) for _ in jobs]
        self.commits += 1
        self.changes += sum([error is None for _, error in results])
        self.durations.observe(time.perf_counter() - started)
        return results

    def _abandon(self) -> None:
        # SQLite rolls back by itself what it cannot roll back on request; otherwise the next BEGIN fails.
        with contextlib.suppress(sqlite3.Error):
            roll_back(self._connection)

    def _ensure_secure(self) -> None:
        if self._secure is not None:
            self._connection = self._secure(self._connection)

    def _void(self) -> None:
        """Overwrite what a refused transaction has left in the write-ahead log.

        When a commit fails in its last step, the flush of the disk, its pages are in the log, whole and marked
        as committed. SQLite forgets them, but the next process to open the database after a kill would not. The
        next transaction is written over them, so a small one is made at once. That its own flush fails, too,
        does no harm: its pages are in their place already.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            set_meta(self._connection, voided=time.time_ns())
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._abandon()

    def _each(self, jobs: Sequence[Job]) -> list[tuple[object, Exception | None]]:
        results: list[tuple[object, Exception | None]] = []
        for job in jobs:
            self._connection.execute("SAVEPOINT job")
            try:
                results.append((job(self._connection), None))
            except Exception as error:
                if not self._connection.in_transaction:
                    # A full disk can end the whole transaction: the jobs before this one are lost too.
                    raise
                self._connection.execute("ROLLBACK TO job")
                results.append((None, _carried(error)))
            self._connection.execute("RELEASE job")
        return results


def _carried(error: Exception) -> Exception:
    return error_of(error) if isinstance(error, sqlite3.Error | OSError) else error


def deliver(outcomes: Sequence[Outcome]) -> None:
    """Resolve futures from another thread, with one call into their loop."""
    with contextlib.suppress(RuntimeError):  # the loop was closed while the job ran, and its callers with it
        outcomes[0][0].get_loop().call_soon_threadsafe(_resolve, outcomes)


def _resolve(outcomes: Sequence[Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


# ----------------------------------------------------------------------
# The reader, with a connection of its own: it never waits for the writer, and the event loop never waits for it.

_Item = tuple[Callable[[sqlite3.Connection], object], asyncio.Future[object] | None]


class Reader:
    """Runs jobs one after the other on its connection, in the thread `name`; `close` closes the connection."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False
        self._resumed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(
        self, job: Callable[Concatenate[sqlite3.Connection, P], Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Run a job and return its result.

        Raises:
            InternalError: the store is closed.
            FileOperationError: the disk refused, or the database is damaged.
        """
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._closing:
                raise InternalError("The store is closed.")
            self._queue.put((lambda connection: job(connection, *args, **kwargs), future))
        return cast(Result, await future)

    def suspend(self) -> None:
        """Close the connection once the jobs before are done; jobs wait until `resume`. Blocking."""
        closed = threading.Event()
        self._resumed.clear()

        def close(connection: sqlite3.Connection) -> None:
            connection.close()
            closed.set()
            self._resumed.wait()

        self._queue.put((close, None))
        closed.wait()

    def resume(self, connection: sqlite3.Connection | None) -> None:
        """Go on with another connection; without one, every job is refused."""
        if connection is not None:
            self._connection = connection
        self._resumed.set()

    def close(self) -> None:
        """Do what is pending and end the thread. Blocking."""
        with self._lock:
            self._closing = True
            self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            job, future = item
            result: object = None
            error: Exception | None = None
            try:
                result = job(self._connection)
            except Exception as fault:  # noqa: BLE001 - raised in the coroutine that waits for it
                error = error_of(fault) if isinstance(fault, sqlite3.Error) else fault
            if future is not None:
                deliver([(future, result, error)])


# ----------------------------------------------------------------------
# The checkpointer: moves the write-ahead log into the database, so that no commit waits for it.
#
# A checkpoint flushes the disk twice, which takes milliseconds; left to SQLite it happens inside a commit.
# A "passive" one does not stop the writer (https://www.sqlite.org/c3ref/wal_checkpoint_v2.html).
# Under a load without any pause the log is never moved to its end, and so never begins anew; when it has
# grown past a bound, the writer moves the rest itself.

TURN_COMMITS: Final = 300
"""Commits between two checkpoints: near the 1000 pages that SQLite uses by default."""

TURN_BYTES: Final = 4 * 2**20
"""Growth of the log's file that calls for a checkpoint before that."""


class Checkpointer:
    """Owns a connection and the thread "store-checkpoint"."""

    def __init__(self, connection: sqlite3.Connection, database: Path) -> None:
        """Start the thread; the connection is used only by it, and closed by `close`."""
        self._connection = connection
        self._page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
        self._database = database
        self._file = database.with_name(database.name + "-wal")
        self._seen_bytes = 0
        self._commits = 0
        self._help = False
        self._wake = threading.Event()
        self._closing = False
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-checkpoint", daemon=True)
        self._thread.start()

    def after_commit(self, writer: sqlite3.Connection) -> None:
        """Called in the writer's thread, with its connection, after each commit."""
        if self._help:
            self._help = False
            checkpoint(writer)
        self._commits += 1
        # The file keeps its length when the log starts anew: only growth beyond that length counts.
        try:
            length = self._file.stat().st_size
        except FileNotFoundError:  # deleted, which the guard finds before the next transaction
            return
        self._seen_bytes = min(self._seen_bytes, length)
        if self._commits >= TURN_COMMITS or length - self._seen_bytes >= TURN_BYTES:
            self._commits = 0
            self._seen_bytes = length
            self._wake.set()

    def suspend(self) -> None:
        """Close the connection once no checkpoint runs; none starts before `resume`. Blocking."""
        self._turn.acquire()
        self._connection.close()

    def resume(self, connection: sqlite3.Connection | None) -> None:
        """Go on with another connection; without one, every checkpoint fails."""
        if connection is not None:
            self._connection = connection
        self._turn.release()

    def close(self) -> None:
        """End the thread. Blocking."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closing:
                return
            # Whatever it raises (SQLite's SQLITE_NOMEM is a MemoryError): the thread stays for the next checkpoint.
            with self._turn, contextlib.suppress(Exception):
                self._help = checkpoint(self._connection) * self._page_bytes > LOG_LIMIT_BYTES
                write_mark(self._database, self._connection)


def checkpoint(connection: sqlite3.Connection) -> int:
    """Move what can be moved without waiting for a reader or writer; returns the length of the log in pages.

    An error of the disk is not reported here: committed data is safe in the log, the next checkpoint
    tries again, and the next commit or health check reports the error.
    """
    try:
        length: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    except sqlite3.Error:
        return 0
    return length


# ----------------------------------------------------------------------
# The guard: detects that the files were deleted or replaced under the server, before a commit goes to a file without a
# name, which would be lost with the process.
#
# When a program deletes `-wal` or `-shm` (a cleaner, a backup that is put back), all connections are opened anew
# without a loss. Without the database itself nothing is stored until it is in its place again.


class FileGuard:
    """Compares the files by name with those that are open. Used by the writer's thread.

    Args:
        database: the database's file; all connections are open, and the log is there.
        reader: gets another connection together with the writer.
        checkpointer: gets another one, too.
        busy_timeout: of new connections, in seconds.
        synchronous: of the writer's new connection.
    """

    def __init__(
        self,
        database: Path,
        reader: Reader,
        checkpointer: Checkpointer,
        *,
        busy_timeout: float,
        synchronous: Synchronous,
    ) -> None:
        self._database = database
        self._logs = [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm")]
        self._reader = reader
        self._checkpointer = checkpointer
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._open = _inode(database), self._log_inodes()
        self._is_closed = False

    def check(self, writing: sqlite3.Connection) -> sqlite3.Connection:
        """Make sure that the open files are those on the disk; returns the connection to go on with.

        Raises:
            FileOperationError: the database is gone, another program has replaced a file, or the disk refused.
            sqlite3.Error: the log could not be moved into the database.
        """
        return writing if self.is_in_place() else self._replace(writing)

    def is_in_place(self) -> bool:
        """Whether the open files are those on the disk; False when a log was deleted.

        Raises:
            FileOperationError: the database is gone, or another program has replaced a file.
        """
        database, logs = self._open
        if _inode(self._database) != database:
            raise FileOperationError(
                "The database was deleted, moved or replaced by another program: nothing is stored any more. Put it "
                "back in its place, or stop the server and restore a backup.",
                details={"reason": "database_replaced"},
            )
        if self._is_closed:
            return False
        found = self._log_inodes()
        if any(new not in {None, known} for new, known in zip(found, logs, strict=True)):
            raise FileOperationError(
                "The write-ahead log of the database was replaced by another program: nothing is stored any more. "
                "Stop the server, and restore a backup if clients miss anything after the next start.",
                details={"reason": "log_replaced"},
            )
        return found == logs

    def _log_inodes(self) -> list[tuple[int, int] | None]:
        return [_inode(path) for path in self._logs]

    def _replace(self, writing: sqlite3.Connection) -> sqlite3.Connection:
        """Move the deleted log into the database, and open it anew with a new log; may be tried again."""
        if not self._is_closed:
            busy, length, moved = writing.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            if busy or moved != length:
                raise FileOperationError(
                    "The write-ahead log was deleted, and could not be moved into the database: nothing was stored.",
                    details={"reason": "log_deleted"},
                )
        self._reader.suspend()
        self._checkpointer.suspend()
        reading = moving = None
        try:
            self._is_closed = True
            writing.close()
            with contextlib.ExitStack() as undo:
                writing = connect(self._database, busy_timeout=self._busy_timeout, synchronous=self._synchronous)
                undo.callback(writing.close)
                # The first write creates the log; it has to be there before the others open it.
                writing.execute("BEGIN IMMEDIATE")
                writing.execute("UPDATE meta SET value = value WHERE key = 'clean'")
                writing.execute("COMMIT")
                self._open = self._open[0], self._log_inodes()
                moving = connect(self._database, busy_timeout=self._busy_timeout)
                reading = connect(self._database, busy_timeout=self._busy_timeout)
                reading.execute("PRAGMA query_only = ON")
                undo.pop_all()
            self._is_closed = False
        finally:
            self._checkpointer.resume(moving)
            self._reader.resume(reading)
        return writing


def _inode(path: Path) -> tuple[int, int] | None:
    """The device and inode of a file; None when it is gone."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
