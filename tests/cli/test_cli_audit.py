"""`pocket-agent audit`, and what the server and commands beside it write into one log."""

import getpass
import json
import stat
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pocket_agent.audit import EMPTY, AuditRecord, append
from pocket_agent.cli.main import main
from tests.harness.server import ServerProcess, running_server, write_standin


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but the test's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "PA_CONFIG"):
        monkeypatch.delenv(name, raising=False)


class Commands:
    """Calls `pocket-agent` on one data directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.data_dir = data_dir

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """The exit status and what was printed, on both streams."""
        self._monkeypatch.setattr(sys, "argv", ["pocket-agent", *arguments, f"--data-dir={self.data_dir}"])
        self._capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    @property
    def log(self) -> Path:
        """The audit log."""
        return self.data_dir / "audit.log"

    def records(self) -> list[dict[str, Any]]:
        """What it says."""
        return [json.loads(line) for line in self.log.read_bytes().splitlines()]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Commands:
    """The commands."""
    return Commands(monkeypatch, capsys, tmp_path / "data")


def test_commands_are_noted_and_the_log_is_whole(call: Commands) -> None:
    _, token, _ = call("devices", "add", "phone", "--print-token")
    call("devices", "rename", "phone", "kitchen")
    call("devices", "rotate", "kitchen", "--print-token")
    _, link, _ = call("pair", "--name=tablet", "--view-only")
    call("devices", "revoke", "kitchen")
    assert [record["action"] for record in call.records()] == [
        *("device_add", "device_rename", "device_rotate", "pairing_start", "device_revoke")
    ]
    assert {record["by"] for record in call.records()} == {f"{getpass.getuser()} (command)"}
    assert stat.S_IMODE(call.log.stat().st_mode) == 0o600
    text = call.log.read_text()
    assert token.strip() not in text
    assert link.partition("#")[2].strip() not in text
    status, out, _ = call("audit", "verify")
    assert status == 0
    assert out.startswith("5 records, from ")
    assert json.loads(call("audit", "verify", "--json")[1])["problems"] == []


@pytest.mark.parametrize("keep", [slice(1, None), slice(0, -1), slice(0, 0)])
def test_a_log_that_was_cut_is_told(call: Commands, keep: slice) -> None:
    for name in ("a", "b", "c"):
        call("devices", "add", name, "--print-token")
    lines = call.log.read_bytes().splitlines(keepends=True)
    call.log.write_bytes(b"".join(lines[keep]))
    status, out, err = call("audit", "verify")
    assert (status, out) == (1, "")
    assert "The audit log is not as it was written" in err
    assert json.loads(call("audit", "verify", "--json")[1])["problems"]


def test_a_log_that_was_removed_is_told(call: Commands) -> None:
    assert "There is no audit log at" in call("audit", "verify")[2]
    call("devices", "add", "a", "--print-token")
    call.log.unlink()
    status, _, err = call("audit", "verify")
    assert status == 1
    assert "It was removed" in err


@pytest.mark.parametrize("word", ["\x1b]0;title\x07", "\x1b[2J", "a\nb", "\u202eevil", "x" * 5000])
def test_what_somebody_wrote_into_the_log_disturbs_no_terminal(call: Commands, word: str) -> None:
    """His own chain from the first line on, in a log that no database knows of."""
    call("devices", "list")
    append(call.log, [AuditRecord(word, word, word, by=word, details={word: word}) for _ in range(2)], EMPTY)
    for arguments in (["verify"], ["verify", "--json"]):
        status, out, err = call("audit", *arguments)
        assert (status, err) == (0, "")
        assert all(line.isprintable() for line in out.split("\n"))
    call.log.write_bytes(call.log.read_bytes() + word.encode() + b"\n" + json.dumps({"seq": 3, "time": word}).encode())
    status, _, err = call("audit", "verify")
    assert status == 1
    assert all(line.isprintable() for line in err.split("\n"))


def test_it_can_be_switched_off(call: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PA_AUDIT_ENABLED", "off")
    call("devices", "add", "a", "--print-token")
    assert not call.log.exists()


async def use(server: ServerProcess, folder: Path) -> str:
    """Create a project and run a prompt in it, try what is not allowed, and give the project's id."""
    headers = {"Authorization": f"Bearer {server.token}"}
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{server.port}/ws", headers={"Authorization": "Bearer wrong"}) as answer:
            assert answer.status == 401
        async with http.ws_connect(server.url, headers=headers) as socket:

            async def ask(kind: str, data: object) -> dict[str, Any]:
                await socket.send_json({"type": kind, "data": data, "request_id": kind})
                while True:
                    frame: dict[str, Any] = await socket.receive_json()
                    if frame.get("request_id") == kind:
                        return frame

            project_id = str((await ask("project_create", {"path": str(folder)}))["data"]["id"])
            await ask("project_join", {"project_id": project_id})
            options = {"permission_mode": "plan", "append_system_prompt": "a secret text"}
            prompt = {"prompt": "one secret", "prompt_id": "p-1", "options": options, "project_id": project_id}
            assert (await ask("execute", prompt))["type"] == "execute"
            skip = {"prompt": "x", "options": {"dangerously_skip_permissions": True}, "project_id": project_id}
            assert (await ask("execute", skip))["data"]["code"] == "FORBIDDEN"
            await ask("project_list", {})
    return project_id


async def test_the_server_and_commands_beside_it_write_one_log(call: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    async with running_server(tmp_path, env=env) as server:
        call("devices", "add", "phone", "--print-token")
        project_id = await use(server, folder)
        call("devices", "revoke", "phone")
        assert await server.stop() == 0
        server.env["PA_MAX_PROJECTS"] = "7"
        await server.start()
        assert await server.stop() == 0
    found = [(record["action"], record["outcome"]) for record in call.records()]
    for expected in (
        ("device_add", "ok"),
        ("server_start", "ok"),
        ("login", "UNAUTHORIZED"),
        ("login", "ok"),
        ("project_create", "ok"),
        ("execute", "ok"),
        ("execute", "FORBIDDEN"),
        ("device_revoke", "ok"),
        ("server_stop", "ok"),
        ("settings_change", "ok"),
    ):
        assert expected in found, found
    assert not {action for action, _ in found} & {"project_list", "project_join"}, "who only looks is not noted"
    (prompt,) = [record for record in call.records() if (record["action"], record["outcome"]) == ("execute", "ok")]
    assert (prompt["by"], prompt["address"], prompt["project_id"]) == ("test", "127.0.0.1", project_id)
    assert prompt["details"]["prompt_id"] == "p-1"
    assert prompt["details"]["execution_id"]
    assert prompt["details"]["options"] == {"permission_mode": "plan"}
    (changed,) = [record["details"] for record in call.records() if record["action"] == "settings_change"]
    assert changed == {"limits.max_projects": {"from": 100, "to": 7}}
    assert "secret" not in call.log.read_text()
    assert call("audit", "verify")[0] == 0
