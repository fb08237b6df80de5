"""`pocket-agent usage`: what was used, by day, project and model."""

import json
import sys
from pathlib import Path

import pytest

from pocket_agent.cli.main import main
from pocket_agent.conversation.accounting import local_day
from pocket_agent.conversation.conversation_log import now
from pocket_agent.model import Spending, project_of
from pocket_agent.storage import Store
from pocket_agent.storage.database import database_path
from pocket_agent.storage.tables import add_spending

TODAY = local_day(now())


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Call `pocket-agent usage` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["pocket-agent", "usage", *arguments])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0


def rows(*changes: tuple[str, str, str, float]) -> list[Spending]:
    """Rows by day, name of the project, model and cost."""
    return [
        Spending(day, project_of(f"id-{len(name)}"), name, model, 1000, 2, 3, 4, cost, 1)
        for day, name, model, cost in changes
    ]


async def fill(store: Store, spent: list[Spending]) -> None:
    """Store a history."""
    for row in spent:
        await store._writer.submit(lambda connection, row=row: add_spending(connection, row))  # type: ignore[misc]


async def test_the_table_of_a_running_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = Store.open(database_path(tmp_path))
    await fill(store, rows((TODAY, "[b]\x1b[31m shop", "claude-opus-5-5", 1.25), ("2020-01-01", "old", "opus", 9.0)))
    call(monkeypatch, f"--data-dir={tmp_path}")
    await store.close()
    out = capsys.readouterr().out
    assert TODAY in out
    assert "claude-opus-5-5" in out
    assert "[b]\ufffd[31m shop" in out, "nothing in a name is obeyed"
    assert "1,000" in out
    assert out.count("1.2500") == 2, "the row and the total"
    assert "old" not in out


async def test_for_programs_and_of_a_stopped_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = Store.open(database_path(tmp_path))
    await fill(
        store, rows((TODAY, "caf\udce9", "opus", 0.5), (TODAY, "shop", "", 0.25), ("2020-01-01", "old", "x", 9.0))
    )
    await store.close()
    call(monkeypatch, f"--data-dir={tmp_path}", "--days=1", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["since"] == TODAY
    assert [(row["project"], row["model"], row["cost_usd"]) for row in told["rows"]] == [
        ("caf?", "opus", 0.5),
        ("shop", "", 0.25),
    ]
    assert told["total"] == {
        "executions": 2,
        "input_tokens": 2000,
        "output_tokens": 4,
        "cache_read_tokens": 6,
        "cache_creation_tokens": 8,
        "cost_usd": 0.75,
    }
    call(monkeypatch, f"--data-dir={tmp_path}", "--days=36500", "--json")
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 3


async def test_nothing_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await Store.open(database_path(tmp_path)).close()
    call(monkeypatch, f"--data-dir={tmp_path}", "--days=1")
    assert capsys.readouterr().out == f"Nothing was used since {TODAY}.\n"


def test_no_database_is_not_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["pocket-agent", "usage", f"--data-dir={tmp_path}"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "no database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
