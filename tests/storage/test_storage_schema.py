"""Migrations, and the files that are refused: from the future, or of another program."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from pocket_agent.errors import FileOperationError, ProjectExistsError, SchemaTooNewError
from pocket_agent.model import ConversationId
from pocket_agent.storage import Store, connection_beside, device_table, tables
from pocket_agent.storage.database import APPLICATION_ID, MIGRATIONS, check_version, migrate
from tests.storage.sample import create


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an empty file."""
    with closing(sqlite3.connect(tmp_path / "raw.db", isolation_level=None)) as connection:
        yield connection


def test_an_empty_file_gets_every_migration_once(raw: sqlite3.Connection) -> None:
    migrate(raw)
    migrate(raw)
    assert check_version(raw) == len(MIGRATIONS)
    assert raw.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_later_migration_keeps_what_is_stored(raw: sqlite3.Connection) -> None:
    first = ("CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
    second = ("ALTER TABLE t ADD COLUMN b DEFAULT 2",)
    migrate(raw, (first,))
    migrate(raw, (first, second))
    assert raw.execute("SELECT a, b FROM t").fetchall() == [(1, 2)]
    assert check_version(raw, (first, second)) == 2


def test_a_migration_that_fails_leaves_the_version_before(raw: sqlite3.Connection) -> None:
    first = ("CREATE TABLE t (a)",)
    broken = ("INSERT INTO t VALUES (1)", "INSERT INTO nowhere VALUES (1)")
    with pytest.raises(sqlite3.OperationalError):
        migrate(raw, (first, broken))
    assert check_version(raw, (first,)) == 1
    assert raw.execute("SELECT * FROM t").fetchall() == []


async def test_a_newer_database_is_refused_with_both_versions(database: Path) -> None:
    await Store.open(database).close()
    newer = len(MIGRATIONS) + 1
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(SchemaTooNewError, match=rf"version {newer}.*up to {len(MIGRATIONS)}") as caught:
        Store.open(database)
    assert caught.value.details["found"] == newer
    assert caught.value.details["supported"] == len(MIGRATIONS)
    # The refusal let go of the lock.
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    await Store.open(database).close()


def test_a_database_of_another_program_is_refused_and_left_alone(database: Path) -> None:
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE theirs (a)")
    before = database.read_bytes()
    with pytest.raises(FileOperationError, match="another program"):
        Store.open(database)
    assert database.read_bytes() == before


async def test_a_command_beside_the_server_sees_and_changes_the_same(store: Store, database: Path) -> None:
    await create(store, entries=1)
    with connection_beside(database) as connection:
        assert connection.execute("SELECT count(*) FROM entry").fetchone() == (1,)


async def test_a_command_beside_a_server_does_not_migrate_underneath_it(store: Store, database: Path) -> None:
    await store._writer.submit(_age)
    with pytest.raises(FileOperationError, match="Another server"), connection_beside(database):
        pytest.fail("an older server's database was opened")


def _age(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) - 1}")


def test_projects_become_main_conversations_with_their_logs(raw: sqlite3.Connection) -> None:
    migrate(raw, MIGRATIONS[:7])
    raw.execute(
        "INSERT INTO project(number, id, path, real_path, name, state, epoch, head, first, created_at, last_active, "
        "fork, log_bytes, queue_hold) "
        "VALUES (3, 'p', x'2f70', x'2f70', x'70', 'IDLE', 'e', 2, 1, 5, 6, 0, 9, x'6e756c6c')"
    )
    raw.execute("INSERT INTO deleted_project(number, id, swept) VALUES (2, 'gone', 0)")
    raw.execute(
        "INSERT INTO execution(id, project_id, prompt, options, status, position, created_at, waited_ms, [by]) "
        "VALUES ('x', 'p', 'hello', x'7b7d', 'queued', 1, 5, 0, 'phone')"
    )
    raw.execute("INSERT INTO process VALUES ('s', 'p', 1, '1', 'b', 0, x'7b7d', 5, x'7b7d', '')")
    migrate(raw)
    (project,) = tables.conversations(raw)
    assert (project.id, project.project_id, project.head, project.is_main) == ("p", "p", 2, True)
    assert (project.title, project.archived, project.worktree) == (None, False, None)
    assert raw.execute("SELECT log_bytes FROM conversation").fetchone() == (9,)
    assert [found.conversation_id for found in tables.open_executions(raw, "p")] == ["p"]
    assert device_table.process_of(raw, "p") is not None
    assert raw.execute("SELECT number, id FROM deleted_conversation").fetchall() == [(2, "gone")]
    other = msgspec.structs.replace(project, number=4, id=ConversationId("p.1"), head=0)
    tables.put_project(raw, other, entries=0, size=0)
    with pytest.raises(ProjectExistsError):
        tables.put_project(raw, msgspec.structs.replace(other, number=5, id=ConversationId("q")), entries=0, size=0)
