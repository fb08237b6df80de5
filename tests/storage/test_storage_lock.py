"""One server per data directory, and the next one as soon as it lets go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.database import DataLock, lock_owner


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
    copies = [os.dup(descriptor) for descriptor in lock._descriptors]
    lock.release()
    try:
        DataLock.acquire(database).release()
    finally:
        for copy in copies:
            os.close(copy)


def test_a_lock_file_that_was_deleted_lets_no_other_in(tmp_path: Path) -> None:
    database = tmp_path / "pocket-agent.db"
    lock = DataLock.acquire(database)
    database.with_name("pocket-agent.db.lock").unlink()
    for _ in range(2):
        with pytest.raises(FileOperationError, match="Another server"):
            DataLock.acquire(database)
    lock.release()
    DataLock.acquire(database).release()


def test_who_has_it_is_seen_without_touching_it(tmp_path: Path) -> None:
    database = tmp_path / "pocket-agent.db"
    assert lock_owner(database) is None
    lock = DataLock.acquire(database)
    assert lock_owner(database) == os.getpid()
    lock.release()
    assert lock_owner(database) is None, "the file stays, and tells nothing"


def test_a_process_that_got_the_number_of_a_gone_owner_has_nothing(tmp_path: Path) -> None:
    database = tmp_path / "pocket-agent.db"
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        database.with_name("pocket-agent.db.lock").write_text(f"{other.pid}\n", "ascii")
        assert lock_owner(database) is None
    finally:
        other.communicate()


@pytest.mark.parametrize("text", ["", "nobody", "99999999999999999999", "-1", "\u00e9"])
def test_nonsense_in_the_file_is_nobody(tmp_path: Path, text: str) -> None:
    database = tmp_path / "pocket-agent.db"
    database.with_name("pocket-agent.db.lock").write_text(text, "utf-8")
    assert lock_owner(database) is None
