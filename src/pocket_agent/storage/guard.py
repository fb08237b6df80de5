"""Notices that the write-ahead log was deleted under the server, and goes over to a new one without a loss.

A program that deletes `-wal` (a cleaner, a backup that is put back) leaves the open connections with a file that
has no name: all that was committed since the last checkpoint, and all that is committed from then on, would be gone
with the process.
"""

import sqlite3
from pathlib import Path

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.checkpointer import Checkpointer
from pocket_agent.storage.connection import Synchronous, connect
from pocket_agent.storage.reader import Reader


class LogGuard:
    """Compares the write-ahead log by name with the one that is open. Used by the writer's thread.

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
        self._log = database.with_name(database.name + "-wal")
        self._reader = reader
        self._checkpointer = checkpointer
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._inode = self._log.stat().st_ino

    def check(self, writing: sqlite3.Connection) -> sqlite3.Connection:
        """Make sure that the open log is the one on the disk; returns the connection to go on with.

        Raises:
            FileOperationError: another program has made a log of its own in its place, or the disk refused.
            sqlite3.Error: the log could not be moved into the database.
        """
        return writing if self.is_in_place() else self._replace(writing)

    def is_in_place(self) -> bool:
        """Whether the open log is the one on the disk; False when it was deleted.

        Raises:
            FileOperationError: another program has made a log of its own in its place.
        """
        try:
            found = self._log.stat().st_ino
        except FileNotFoundError:
            return False
        if found != self._inode:
            raise FileOperationError(
                "The write-ahead log of the database was replaced by another program: nothing is stored any more. "
                "Stop the server, and restore a backup if clients miss anything after the next start.",
                details={"reason": "log_replaced"},
            )
        return True

    def _replace(self, writing: sqlite3.Connection) -> sqlite3.Connection:
        """Move the deleted log into the database, and open it anew with a new log."""
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
            writing.close()
            writing = connect(self._database, busy_timeout=self._busy_timeout, synchronous=self._synchronous)
            # The first to write makes the log; it has to be there before others look for it.
            writing.execute("BEGIN IMMEDIATE")
            writing.execute("UPDATE meta SET value = value WHERE key = 'clean'")
            writing.execute("COMMIT")
            self._inode = self._log.stat().st_ino
            moving = connect(self._database, busy_timeout=self._busy_timeout)
            reading = connect(self._database, busy_timeout=self._busy_timeout)
            reading.execute("PRAGMA query_only = ON")
        finally:
            self._checkpointer.resume(moving)
            self._reader.resume(reading)
        return writing
