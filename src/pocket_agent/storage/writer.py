"""The one thread that writes: what arrived during a commit is the next commit.

There is no timer. An idle writer commits a lone change at once; a busy one gathers a batch while the
disk works, so batches grow with the load by themselves.

The thread ends at `close` alone. A batch that meets any exception is refused, and the next one is tried.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from pocket_agent.distribution import Distribution
from pocket_agent.errors import InternalError
from pocket_agent.storage.epoch import set_meta
from pocket_agent.storage.fault import error_of
from pocket_agent.storage.transaction import roll_back

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], object]
"""Runs inside a transaction; must bear to be run again after that was rolled back."""

Outcome = tuple[asyncio.Future[object], object, Exception | None]


class Writer:
    """Owns the connection that writes, and the thread "store-writer".

    Attributes:
        commits: transactions committed since the start.
        changes: jobs in them.
        durations: the seconds spent in each, from BEGIN to the end of COMMIT.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        after_commit: Callable[[sqlite3.Connection], None],
        durations: Distribution | None = None,
        secure: Callable[[sqlite3.Connection], sqlite3.Connection] | None = None,
    ) -> None:
        """Start the thread.

        Args:
            connection: used by nobody else from now on, and closed by `close`.
            after_commit: called in the thread, with the connection, after each batch.
            durations: where the time of each transaction is counted.
            secure: called in the thread before each transaction, and after it before any caller is told of it;
                returns the connection to go on with, and raises when a commit would not survive the process.
        """
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

    async def submit(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a job in the next transaction; returns its result when that is committed.

        A caller that is cancelled meanwhile does not take the job back.

        Raises:
            InternalError: the store is closed.
            FileOperationError: the disk refused; nothing of the job is stored.
            Exception: what the job raised; nothing of it is stored.
        """
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if not self._put(job, future):
            raise InternalError("The store is closed.")
        return cast(Result, await future)

    def chore(self, job: Job) -> None:
        """Run a job that nobody waits for, again and again as long as it returns true.

        Other jobs go in between. A chore that fails, or is left at the end, is dropped: whoever gave it
        gives it again at the next start.
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
            except Exception as error:  # noqa: BLE001 - the border of the thread: without it nothing is ever answered
                deliver([(future, None, _carried(error)) for _, future in batch if future is not None])

    def _do(self, batch: Sequence[tuple[Job, asyncio.Future[object] | None]]) -> None:
        jobs = [job for job, _ in batch]
        results = self._commit(jobs)
        outcomes: list[Outcome] = []
        again: list[tuple[Job, asyncio.Future[object] | None]] = []
        for (job, future), (result, error) in zip(batch, results, strict=True):
            if future is not None:
                outcomes.append((future, result, error))
            elif result:
                again.append((job, None))
        if outcomes:
            deliver(outcomes)
        with self._wake:
            if not self._closing:
                self._pending += again
        self._after_commit(self._connection)

    def _commit(self, jobs: Sequence[Job]) -> list[tuple[object, Exception | None]]:
        """Run the jobs in one transaction; when one fails, again with a savepoint around each."""
        started = time.perf_counter()
        committing = False
        try:
            self._ensure_secure()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                results = self._all(jobs)
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
        try:
            roll_back(self._connection)
        except sqlite3.Error:
            # SQLite rolls back by itself what it cannot roll back on request; the next BEGIN tells.
            return

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

    def _all(self, jobs: Sequence[Job]) -> list[tuple[object, Exception | None]]:
        return [(job(self._connection), None) for job in jobs]

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
    try:
        outcomes[0][0].get_loop().call_soon_threadsafe(_resolve, outcomes)
    except RuntimeError:
        # The loop was closed while the job ran: nobody waits any more.
        return


def _resolve(outcomes: Sequence[Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
