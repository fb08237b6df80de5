"""A thread with a connection of its own: readers never wait for the writer, nor the loop for them."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar, cast

from pocket_agent.errors import InternalError
from pocket_agent.storage.fault import error_of
from pocket_agent.storage.writer import deliver

Result = TypeVar("Result")
_Item = tuple[Callable[[sqlite3.Connection], object], asyncio.Future[object] | None]


class Reader:
    """Runs jobs one after the other on its connection, in its thread."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        """Start the thread.

        Args:
            connection: used by nobody else from now on, and closed by `close`.
            name: the thread's.
        """
        self._connection = connection
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False
        self._resumed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a job and return its result.

        Raises:
            InternalError: the store is closed.
            FileOperationError: the disk refused, or the database is damaged.
        """
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._closing:
                raise InternalError("The store is closed.")
            self._queue.put((job, future))
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
            except sqlite3.Error as fault:
                error = error_of(fault)
            except Exception as fault:  # noqa: BLE001 - raised in the coroutine that waits for it
                error = fault
            if future is not None:
                deliver([(future, result, error)])
