"""Moves the write-ahead log into the database in a thread of its own, so that no commit waits for it.

A checkpoint flushes the disk twice, which takes milliseconds; left to SQLite it happens inside a commit.
A "passive" one lets the writer go on meanwhile (https://www.sqlite.org/c3ref/wal_checkpoint_v2.html).
Under a load without any pause the log is never moved to its end, and so never begins anew; when it has
grown past a bound, the writer moves the rest itself.
"""

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Final

from pocket_agent.storage.connection import LOG_LIMIT_BYTES
from pocket_agent.storage.mark import write_mark

TURN_COMMITS: Final = 300
"""Commits between two checkpoints: near the 1000 pages that SQLite uses by default."""

TURN_BYTES: Final = 4 * 2**20
"""Growth of the log's file that calls for a checkpoint before that."""


class Checkpointer:
    """Owns a connection and the thread "store-checkpoint"."""

    def __init__(self, connection: sqlite3.Connection, database: Path) -> None:
        """Start the thread; the connection is used by nobody else, and closed by `close`."""
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
        # The file keeps its length when the log begins anew: only what is new beyond it counts.
        try:
            length = self._file.stat().st_size
        except FileNotFoundError:  # deleted: the next transaction of the writer finds that, too
            return
        self._seen_bytes = min(self._seen_bytes, length)
        if self._commits >= TURN_COMMITS or length - self._seen_bytes >= TURN_BYTES:
            self._commits = 0
            self._seen_bytes = length
            self._wake.set()

    def suspend(self) -> None:
        """Close the connection when no checkpoint is under way; there is none before `resume`. Blocking."""
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
            with self._turn:
                pages = checkpoint(self._connection)
                with contextlib.suppress(sqlite3.Error):
                    write_mark(self._database, self._connection)
            if pages * self._page_bytes > LOG_LIMIT_BYTES:
                self._help = True


def checkpoint(connection: sqlite3.Connection) -> int:
    """Move what can be moved without waiting for anybody; returns the length of the log in pages.

    A disk that refuses is not reported here: what was committed is safe in the log, the next checkpoint
    tries again, and the next commit or health check tells.
    """
    try:
        length: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    except sqlite3.Error:
        return 0
    return length
