"""The audit log through crashes, a full disk, floods and changes of settings: nothing is lost without a word."""

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.disk import fill, small_disk
from tests.harness.follow import eventually, run
from tests.harness.server import ServerProcess, free_port, running_server, write_standin

from pocket_agent.audit import EMPTY, Head, Verification, verify
from pocket_agent.errors import PocketAgentError
from pocket_agent.storage import audit_head, connection_beside
from pocket_agent.storage.database import database_path

FLOOD = 1000
TRIED: dict[str, dict[str, object]] = {
    "approval_respond": {"approval_id": "a" * 200, "behavior": "deny"},
    "prompt_cancel": {"execution_id": "e" * 200},
    "prompt_edit": {"execution_id": "e" * 200, "prompt": "x"},
}
"""What is refused and noted, and needs no disk."""
COUNTED = r'errors_total{code="FILE_OPERATION",operation="storage"} (\S+)'


def path_of(server: ServerProcess) -> Path:
    """Where its log is."""
    return server.data_dir / "audit.log"


def records(server: ServerProcess) -> list[dict[str, Any]]:
    """What the log says; what is no record is left out."""
    found = []
    for line in path_of(server).read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def actions(server: ServerProcess) -> list[str]:
    """What was done."""
    return [record["action"] for record in records(server)]


def verdict(server: ServerProcess) -> Verification:
    """What `pocket-agent audit verify` finds."""
    with connection_beside(database_path(server.data_dir)) as connection:
        known = audit_head(connection)
    return verify(path_of(server), Head(*known) if known is not None else EMPTY)


async def until_noted(server: ServerProcess, action: str, count: int = 1) -> None:
    """Wait until it was written so often."""
    await eventually(lambda: actions(server).count(action) >= count, f"{action} is noted")


async def test_a_server_that_is_killed_in_the_middle_of_a_line_goes_on(tmp_path: Path, folder: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path, env=env) as server:
        async with server.client() as client:
            project = await client.create_project(str(folder))
            async with client.subscribe(project.id) as stream:
                await run(client, stream, "lines 1")
        await until_noted(server, "execute")
        await server.kill()
        assert verdict(server).problems == ()
        with path_of(server).open("ab") as log:
            log.write(b'{"seq":99,"time":"2030-01-0')
        assert any("has no end" in problem for problem in verdict(server).problems)
        await server.start()
        await until_noted(server, "server_start", 2)
        assert await server.stop() == 0
        found = verdict(server)
        assert (found.problems, found.torn) == ((), 1)
        assert [action for action in actions(server) if action in {"execute", "torn", "server_stop"}] == [
            *("execute", "torn", "server_stop")
        ]


async def test_a_full_disk_stops_nobody_and_is_told_and_counted(tmp_path: Path, folder: Path) -> None:
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_LIMITS_MIN_FREE_DISK": "0",
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(metrics := free_port()),
    }
    with small_disk(tmp_path / "data"):
        async with running_server(tmp_path, env=env) as server, server.client() as client:
            project = await client.create_project(str(folder))
            async with client.subscribe(project.id) as stream:
                await run(client, stream, "lines 1")
            await until_noted(server, "execute")
            filler = fill(server.data_dir, leave=16384)  # for what is being written just now
            for kind, data in TRIED.items():
                for _ in range(19):
                    with pytest.raises(PocketAgentError):
                        await client.request(kind, data, project_id=project.id)
            await eventually(lambda: '"msg":"audit failed"' in server.log, "the log tells")
            assert len(await client.projects()) == 1
            async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{metrics}/metrics") as answer:
                counted = re.search(COUNTED, await answer.text())
            assert counted is not None
            assert float(counted[1]) >= 1
            filler.unlink()
            for kind in TRIED:
                await until_noted(server, kind, 19)
            assert await server.stop() == 0
            found = verdict(server)
            assert (found.problems, found.torn) == ((), 0)
            assert "records_lost" not in actions(server)


async def test_a_flood_of_wrong_tokens_writes_a_few_lines_and_their_number(tmp_path: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_LOG_LEVEL": "error"}
    async with running_server(tmp_path, env=env) as server:
        base = f"http://127.0.0.1:{server.port}"
        async with aiohttp.ClientSession() as http:

            async def guess(number: int) -> int:
                headers = {"Authorization": f"Bearer pa_{number}"}
                async with http.get(f"{base}{('/ws', '/api/session')[number % 2]}", headers=headers) as answer:
                    return answer.status

            statuses = set()
            for start in range(0, FLOOD, 50):
                statuses |= set(await asyncio.gather(*map(guess, range(start, start + 50))))
            assert statuses == {401, 429}
            body = {"code": "AAAA-AAAA-AAAA", "name": "guess", "token": True}
            async with http.post(f"{base}/api/pair", json=body) as answer:
                assert answer.status == 401
        await until_noted(server, "pair")
        assert await server.stop() == 0
        refused = [record for record in records(server) if record["outcome"] != "ok"]
        assert len(refused) < 60
        told = sum(record["details"]["count"] for record in refused)
        told += sum(
            count
            for record in records(server)
            for found in (record.get("details", {}).get("left_out", {}), record.get("details", {}))
            for kind, count in found.items()
            if kind.startswith("login ")
        )
        assert told == FLOOD + 1
        assert {record["address"] for record in refused} == {"127.0.0.1"}
        assert {record["action"] for record in refused} == {"login", "pair"}
        assert verdict(server).problems == ()


async def test_settings_that_are_read_again_are_told_and_those_that_cannot_be(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("logging:\n  format: json\n")
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path, env=env, flags=[f"--config={config}"]) as server:
        assert server.process is not None
        config.write_text("logging:\n  format: text\n")
        server.process.send_signal(signal.SIGHUP)
        await until_noted(server, "settings_change")
        config.write_text("logging:\n  format: no-such-thing\n")
        server.process.send_signal(signal.SIGHUP)
        await until_noted(server, "settings_reload", 2)
        assert await server.stop() == 0
        (changed,) = [record["details"] for record in records(server) if record["action"] == "settings_change"]
        assert changed == {"logging.format": {"from": "json", "to": "text"}}
        outcomes = [record["outcome"] for record in records(server) if record["action"] == "settings_reload"]
        assert outcomes == ["ok", "VALIDATION_FAILED"]


async def test_the_last_that_it_tells_is_that_it_was_switched_off(tmp_path: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path, env=env) as server:
        assert await server.stop() == 0
        server.env["PA_AUDIT_ENABLED"] = "off"
        for _ in range(2):
            await server.start()
            assert await server.stop() == 0
        last = records(server)[-1]
        assert (last["action"], last["details"]) == ("settings_change", {"audit.enabled": {"from": True, "to": False}})
        server.env.pop("PA_AUDIT_ENABLED")
        await server.start()
        assert await server.stop() == 0
        assert [action for action in actions(server)[-4:] if action != "settings_change"] == [
            *("server_start", "server_stop")
        ]
        assert verdict(server).problems == ()


async def test_the_device_that_the_first_start_makes_is_told(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    with connection_beside(database_path(server.data_dir)) as connection:
        connection.execute("DELETE FROM device")
    try:
        await server.start()
        assert await server.stop() == 0
        made = [record for record in records(server) if record.get("details", {}).get("first")]
        assert [record["action"] for record in made] == ["device_add", "pairing_start"]
        assert made[0]["details"]["name"] == "first"
    finally:
        await server.clean_up()
