"""One server per data directory, and the next one as soon as it lets go."""

import os
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.lock import DataLock


def test_one_at_a_time(tmp_path: Path) -> None:
    database = tmp_path / "pocket-agent.db"
    lock = DataLock.acquire(database)
    with pytest.raises(FileOperationError, match=f"process {os.getpid()}"):
        DataLock.acquire(database)
    lock.release()
    lock.release()
    DataLock.acquire(database).release()


def test_a_child_that_is_being_started_does_not_keep_it(tmp_path: Path) -> None:
    """Between fork and exec it has a copy of the descriptor, whatever close-on-exec says."""
    database = tmp_path / "pocket-agent.db"
    lock = DataLock.acquire(database)
    assert lock._descriptor is not None
    copy = os.dup(lock._descriptor)
    lock.release()
    try:
        DataLock.acquire(database).release()
    finally:
        os.close(copy)
