"""`pocket-agent notify`: where notifications go, and whether they arrive."""

import asyncio
from pathlib import Path

import pytest
import typer

from pocket_agent.cli.notify import show_notifications
from pocket_agent.settings import LoadedSettings, load_settings
from tests.harness.server import free_port
from tests.notification.receiver import receiving


def load(folder: Path, *urls: str) -> LoadedSettings:
    """Settings with these addresses."""
    flags = {"data.dir": folder, "notifications.urls": list(urls), "notifications.base_url": "https://agent.example"}
    return load_settings(config=None, environ={}, flags=flags)


async def test_a_test_message_arrives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with receiving() as receiver:
        await asyncio.to_thread(show_notifications, load(tmp_path, receiver.url), test=True)
        assert receiver.titles == ["Pocket Agent: a test"]
        assert "https://agent.example/" in receiver.got[0]["message"]
    assert capsys.readouterr().out.splitlines() == [
        "Sent: approvals wanted, executions finished, executions failed; unwatched.",
        "1 (json): sent",
    ]


async def test_one_that_does_not_arrive_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with receiving() as receiver:
        dead = f"json://me:hunter2@127.0.0.1:{free_port()}/secret"
        with pytest.raises(typer.Exit) as caught:
            await asyncio.to_thread(show_notifications, load(tmp_path, dead, receiver.url), test=True)
        assert caught.value.exit_code == 1
    out = capsys.readouterr().out
    assert out.splitlines()[1:] == ["1 (json): not sent: refused, or no answer", "2 (json): sent"]
    assert "secret" not in out


async def test_without_test_nothing_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with receiving() as receiver:
        show_notifications(load(tmp_path, receiver.url), test=False)
        assert receiver.got == []
    assert capsys.readouterr().out.splitlines()[1:] == ["1 (json)"]


def test_nobody_is_notified(tmp_path: Path) -> None:
    with pytest.raises(typer.Exit):
        show_notifications(load(tmp_path), test=True)
