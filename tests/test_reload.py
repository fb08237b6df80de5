"""SIGHUP on a whole server: what changes, what waits for a restart, and what is refused."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pocket_agent.errors import ProjectLimitError
from pocket_agent.server.connection import CLOSE_REVOKED, CLOSE_UNAUTHORIZED
from tests.harness import DEADLINE_SECONDS
from tests.harness.server import ServerProcess, free_port, running_server, write_standin
from tests.notification.receiver import receiving
from tests.server.room import until
from tests.storage.sample import write_lock


class Rig:
    """A server with a settings file, of which it can be told."""

    def __init__(self, server: ServerProcess, config: Path, metrics_port: int) -> None:
        self.server = server
        self.config = config
        self.metrics_port = metrics_port

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The lines of the log with this message."""
        file = self.server.folder / "app.log"
        found = [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]
        return [line for line in found if line["msg"] == message]

    async def reload(self, settings: str | None, message: str = "settings reloaded") -> dict[str, Any]:
        """Write the file (None: leave it), send SIGHUP, and wait for what the log says of it."""
        before = len(self.lines(message))
        if settings is not None:
            self.config.write_text(settings)
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGHUP)
        await until(lambda: len(self.lines(message)) > before)
        return self.lines(message)[-1]

    async def metric(self, sample: str) -> float:
        """A value that a scrape finds."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            text = await answer.text()
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"pocket_agent_{sample} ")))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A server that reads a settings file."""
    config, port = tmp_path / "config.yaml", free_port()
    config.write_text("limits: {max_projects: 1}\n")
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_LOGGING_OUTPUT": str(tmp_path / "app.log"),
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(port),
    }
    async with running_server(tmp_path, env=env, flags=[f"--config={config}"]) as server:
        yield Rig(server, config, port)


async def test_limits_change_and_what_needs_a_restart_is_named(rig: Rig, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    async with rig.server.client() as client:
        await client.create_project(str(folders[0]))
        with pytest.raises(ProjectLimitError):
            await client.create_project(str(folders[1]))
        told = await rig.reload("limits: {max_projects: 2, max_connections: 7}\n")
        assert told["level"] == "info"
        assert told["fields"] == {"changed": ["limits.max_connections", "limits.max_projects"], "needs_restart": []}
        await client.create_project(str(folders[1]))
        with pytest.raises(ProjectLimitError):
            await client.create_project(str(folders[2]))
        assert await rig.metric('limit{limit="connections"}') == 7
        told = await rig.reload(
            f"limits: {{max_projects: 3}}\ndata: {{dir: {tmp_path}}}\nwebsocket: {{tail_size: 8MiB}}\n"
        )
        assert told["level"] == "warning"
        assert told["fields"]["needs_restart"] == ["websocket.tail_size"], "the flag --data-dir is stronger"
        await client.create_project(str(folders[2]))
    assert await rig.metric('settings_reloads_total{outcome="applied"}') == 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("limits:\n  max_projects: 2\n  max_connections: many\n", "config.yaml:3"),
        ("limits: {max_projects: 2}\nserver: [\n", "config.yaml"),
        ("limits: {max_projects: 2}\nno_such: 1\n", "config.yaml:2"),
        ("limits: {max_projects: 2}\nnotifications: {urls: ['nosuch://secret']}\n", "Address 1 (nosuch)"),
        ("limits: {max_projects: 2}\nclaude: {max_spool: 1MiB, max_line: 1KiB}\n", "claude.max_line"),
    ],
)
async def test_what_cannot_be_used_changes_nothing_and_is_counted(
    rig: Rig, tmp_path: Path, broken: str, reason: str
) -> None:
    told = await rig.reload(broken, "settings not reloaded")
    assert told["level"] == "error"
    assert reason in told["fields"]["reason"]
    assert "secret" not in told["fields"]["reason"]
    assert rig.lines("settings reloaded") == []
    assert await rig.metric('settings_reloads_total{outcome="refused"}') == 1
    assert await rig.metric('limit{limit="projects"}') == 1, "all or nothing"
    assert (await rig.reload("limits: {max_projects: 4}\n"))["fields"]["changed"] == ["limits.max_projects"]


async def test_a_pipe_without_a_writer_does_not_hang(rig: Rig, tmp_path: Path) -> None:
    """In the place of the addresses of notifications, and of the settings themselves."""
    os.mkfifo(tmp_path / "pipe")
    told = await rig.reload(f"notifications: {{urls_file: {tmp_path / 'pipe'}}}\n", "settings not reloaded")
    assert "no program writes" in told["fields"]["reason"]
    rig.config.unlink()
    os.mkfifo(rig.config)
    told = await rig.reload(None, "settings not reloaded")
    assert "no program writes" in told["fields"]["reason"]
    rig.config.unlink()
    assert (await rig.reload("limits: {max_projects: 4}\n"))["fields"]["changed"] == ["limits.max_projects"]
    assert await rig.server.stop() == 0


async def test_a_database_that_is_locked_does_not_end_the_server(rig: Rig) -> None:
    with write_lock(rig.server.data_dir / "pocket-agent.db"):
        told = await rig.reload("limits: {max_projects: 3}\n")
        assert told["fields"]["changed"] == ["limits.max_projects"]
        await until(lambda: rig.lines("background task faulted") != [])
    assert await rig.metric('limit{limit="projects"}') == 3
    assert (await rig.reload("limits: {max_projects: 4}\n"))["fields"]["changed"] == ["limits.max_projects"]
    assert rig.server.process is not None
    assert rig.server.process.returncode is None


async def test_notifications_go_elsewhere(rig: Rig, tmp_path: Path, folder: Path) -> None:
    async with receiving() as receiver, rig.server.client() as client:
        project = await client.create_project(str(folder))
        urls = tmp_path / "urls"
        urls.write_text(f"{receiver.url}\n")
        told = await rig.reload(
            f"notifications: {{urls_file: {urls}, finished_after: 0, when: always, project_pause: 0}}\n"
        )
        assert "notifications.urls_file" in told["fields"]["changed"]
        await client.execute(project.id, "lines 1")
        await receiver.until(1)
        assert receiver.titles == [f"Finished: {folder.name}"]


async def test_a_name_that_the_server_goes_by_is_added_and_taken_away(rig: Rig) -> None:
    async def status() -> int:
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{rig.server.port}/livez"
            async with http.get(url, headers={"Host": "agent.example"}) as answer:
                return answer.status

    assert await status() == 421
    await rig.reload("server: {allowed_hosts: [agent.example]}\n")
    assert await status() == 200
    await rig.reload("")
    assert await status() == 421


async def test_a_user_who_may_come_in_no_more_is_disconnected(rig: Rig) -> None:
    settings = "server: {{trusted_proxies: [127.0.0.1], sso: {{header: X-User, {}: [ann@example]}}}}\n"
    await rig.reload(settings.format("users"))
    headers = {"X-User": "ann@example", "Origin": f"http://127.0.0.1:{rig.server.port}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.ws_connect(rig.server.url) as socket:
            await rig.reload(settings.format("viewers"))
            await until_denied(socket)
            await rig.reload("")
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not socket.closed:
                    await socket.receive()
        assert socket.close_code == CLOSE_REVOKED
        async with http.ws_connect(rig.server.url) as refused:
            await refused.receive()
        assert refused.close_code == CLOSE_UNAUTHORIZED


async def until_denied(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Ask for what only those who may do more than watch are given, until it is refused."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            await socket.send_json({"type": "device_list", "request_id": "r"})
            answer = json.loads((await socket.receive()).data)
            if answer["type"] == "error" and answer["data"]["code"] == "FORBIDDEN":
                return


async def test_the_audit_log_tells_from_what_to_what(rig: Rig) -> None:
    await rig.reload("limits: {max_projects: 9}\nnotifications: {urls: ['json://127.0.0.1/secret']}\n")

    def records() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (rig.server.data_dir / "audit.log").read_text().splitlines()]

    def told() -> bool:
        return any(record["action"] == "settings_change" for record in records())

    await until(told)
    (change,) = [record for record in records() if record["action"] == "settings_change"]
    assert change["details"]["limits.max_projects"] == {"from": 1, "to": 9}
    assert "secret" not in str(records())
    assert "settings_reload" in [record["action"] for record in records()]
