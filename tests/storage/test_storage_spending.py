"""The history of spending: summed with the change that it belongs to, and kept when its project goes."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from pocket_agent.errors import InternalError
from pocket_agent.model import Account, ConversationRecord, ExecutionId, ExecutionStatus, ModelUsage, Spending
from pocket_agent.storage import Change, Store, connection_beside, spending_since
from pocket_agent.storage.database import MIGRATIONS, migrate
from tests.storage.sample import create, execution, process


def spent(project: ConversationRecord, day: str = "2026-03-10", model: str = "opus", cost_usd: float = 0.5) -> Spending:
    """What one turn used."""
    return Spending(day, project.project_id, project.name, model, 1, 2, 3, 4, cost_usd, 1)


def history(database: Path, since: str = "2026-01-01") -> list[Spending]:
    """All of it, from another connection."""
    with connection_beside(database) as connection:
        return spending_since(connection, since)


async def test_what_was_spent_adds_up_by_day_project_and_model(store: Store, database: Path) -> None:
    one = await create(store)
    two = await create(store)
    for project, day, model in [
        (one, "2026-03-10", "opus"),
        (one, "2026-03-10", "opus"),
        (one, "2026-03-10", "haiku"),
        (two, "2026-03-10", "opus"),
        (one, "2026-03-11", "opus"),
    ]:
        await store.commit(Change(record=project, spent=(spent(project, day, model),)))
    rows = history(database)
    assert [(row.day, row.cost_usd) for row in rows] == [
        ("2026-03-11", 0.5),
        ("2026-03-10", 1.0),
        ("2026-03-10", 0.5),
        ("2026-03-10", 0.5),
    ]
    assert rows[1] == Spending("2026-03-10", one.project_id, one.name, "opus", 2, 4, 6, 8, 1.0, 2)
    assert dict(await store.spent_usd(9))["2026-03-10"] == 2.0
    assert history(database, "2026-03-11") == rows[:1]


async def test_a_change_that_is_refused_spends_nothing(store: Store) -> None:
    project = await create(store)
    wrong = msgspec.structs.replace(project, head=7)
    with pytest.raises(InternalError):
        await store.commit(Change(record=wrong, spent=(spent(project),)))
    assert await store.spent_usd(9) == []


async def test_it_outlives_its_project(store: Store, database: Path) -> None:
    project = await create(store)
    await store.commit(Change(record=project, spent=(spent(project),)))
    await store.delete_project(project)
    await store.check()
    assert [row.project_id for row in history(database)] == [project.id]


async def test_figures_of_executions_and_processes_come_back_as_they_were(store: Store) -> None:
    project = await create(store)
    usage = (ModelUsage("claude-opus-5-5[1m]", 1, 2, 3, 4, 0.1), ModelUsage("other"))
    ended = execution(
        project, 1, ExecutionStatus.ERROR, usage=usage, model="claude-opus-5-5[1m]", code="X", incomplete=True
    )
    account = Account(0.25, "opus", usage, usage[0], {"": "m-1", "t": "m-2"}, {"t": "Bash"})
    record = msgspec.structs.replace(process(project), account=account)
    await store.commit(Change(record=project, executions=(ended,), process=record))
    assert await store.execution(ended.id) == ended
    assert await store.process(project.id) == record


async def test_the_newest_executions_come_first_and_page_by_page(store: Store) -> None:
    project = await create(store)
    other = await create(store)
    made = [execution(project, number, ExecutionStatus.SUCCESS, prompt="é" * 500) for number in range(1, 6)]
    await store.commit(Change(record=project, executions=tuple(made)))
    foreign = execution(other, 9, ExecutionStatus.SUCCESS)
    await store.commit(Change(record=other, executions=(foreign,)))
    page = await store.executions(project.id, before=None, limit=2)
    assert [found.id for found in page] == ["e5", "e4"]
    assert page[0].prompt == "é" * 200
    page = await store.executions(project.id, before=page[-1].id, limit=10)
    assert [found.id for found in page] == ["e3", "e2", "e1"]
    assert await store.executions(project.id, before=foreign.id, limit=10) == [], "another project's is unknown here"
    assert await store.executions(project.id, before=ExecutionId("none"), limit=10) == []


async def test_the_last_that_ran_is_found(store: Store) -> None:
    project = await create(store)
    assert await store.last_finished(project.id) is None
    ran = execution(project, 1, ExecutionStatus.SUCCESS, started_at=5)
    rows = (
        ran,
        execution(project, 2, ExecutionStatus.CANCELLED),
        execution(project, 3, ExecutionStatus.RUNNING, started_at=6),
    )
    await store.commit(Change(record=project, executions=rows))
    assert await store.last_finished(project.id) == ran


def test_what_an_older_version_stored_has_used_nothing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as connection:
        migrate(connection, MIGRATIONS[:2])
        connection.execute(
            "INSERT INTO execution(id, project_id, prompt, options, status, position, created_at, waited_ms, [by]) "
            "VALUES ('e', 'p', 'x', x'7b7d', 'success', 1, 1, 0, 'me')"
        )
        migrate(connection)
        row = connection.execute("SELECT usage, incomplete, model FROM execution").fetchone()
    assert row == (b"[]", 0, None)
