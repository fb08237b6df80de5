"""The log file of a whole session with the real CLI: its form, what leads through it, and what is never in it."""

import signal
from pathlib import Path

import aiohttp
import pytest
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, until
from tests.harness.log import Line, read
from tests.harness.scene import Scene, scene
from tests.harness.server import ServerProcess, running_server, started
from tests.harness.story import UNHURRIED, story

from pocket_agent.client import Client
from pocket_agent.errors import ValidationError

SECRET = "the-marker-of-a-secret-prompt"
FORGED = 'line\r\n{"timestamp":"2024-01-01T12:00:00.123Z","level":"error","msg":"server ready"}\x1b[31m'
STEPS = [
    "execution queued",
    "execution started",
    "first message received",
    "approval requested",
    "approval resolved",
    "tool completed",
    "Execution completed",
]


def environment(log: Path, **further: str) -> dict[str, str]:
    return {"PA_CLAUDE_BINARY": str(require_claude()), "PA_LOGGING_OUTPUT": str(log), **further}


def of(lines: list[Line], msg: str) -> list[Line]:
    return [line for line in lines if line["msg"] == msg]


async def test_a_session_has_a_line_for_each_execution_and_none_for_each_frame(tmp_path: Path, folder: Path) -> None:
    log = tmp_path / "app.log"
    env = environment(log, PA_LOG_LEVEL="info")
    async with running_server(tmp_path, env=env, flags=["--demo"], settings=UNHURRIED) as server:
        client = await story(server, folder)
        await server.stop()
    lines = read(log)
    ended = [line["fields"]["status"] for line in [*of(lines, "Execution completed"), *of(lines, "Execution failed")]]
    assert sorted(ended) == ["error", "killed", "success", "success", "success", "timeout"]
    assert client.got.total() > 100 > len(lines)
    (timeout,) = [line for line in of(lines, "Execution failed") if line["fields"]["status"] == "timeout"]
    assert timeout["level"] == "warning"
    assert timeout["duration_ms"] >= 1000
    good = [line for line in of(lines, "Execution completed") if line["fields"]["status"] == "success"]
    for line in good:
        assert {"session_id", "model", "prompt_tokens", "completion_tokens"} <= line["fields"].keys()
        assert line["fields"]["prompt_tokens"] > 0
        assert line["fields"]["completion_tokens"] > 0
    told = [result["model_usage_since_last_result"].values() for result in client.results]
    written = sum(usage["outputTokens"] for usages in told for usage in usages)
    assert sum(line["fields"]["completion_tokens"] for line in good) <= written


async def asked(here: Scene, request_id: str, prompt: str) -> None:
    """Give a prompt under a request id of one's own, and allow what it asks for."""
    headers = {"Authorization": f"Bearer {here.server.token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(here.server.url, headers=headers) as socket:
        frame = {"type": "execute", "request_id": request_id, "project_id": here.project_id, "data": {"prompt": prompt}}
        await socket.send_json(frame)
        seen = await until(here.one, "approval_requested")
        await here.second.approve(here.project_id, str(seen[-1].data["approval_id"]))
        await until(here.one, "project_state", state="IDLE")


async def test_one_id_leads_from_the_request_to_the_result(tmp_path: Path, folder: Path) -> None:
    log = tmp_path / "app.log"
    async with (
        running_server(tmp_path, env=environment(log, PA_LOG_LEVEL="debug"), flags=["--demo"]) as server,
        scene(server, folder) as here,
    ):
        await asked(here, "req-123", f"demo:bash=touch {SECRET}")
        await eventually(lambda: bool(of(read(log), "Execution completed")), "the result is in the log")
        path = [line for line in read(log) if line.get("correlation_id") == "req-123"]
    assert [line["msg"] for line in path if line["msg"] in STEPS] == STEPS
    assert {"request handled", "storage committed", "process spawned"} <= {line["msg"] for line in path}
    assert {line["project_id"] for line in path} == {here.project_id}
    # What another request did meanwhile has its own.
    (answered,) = [line for line in of(read(log), "request handled") if line["fields"]["type"] == "approval_respond"]
    assert answered["correlation_id"] != "req-123"


async def test_nobody_forges_a_line_and_nothing_secret_is_in_one(tmp_path: Path, folder: Path) -> None:
    log = tmp_path / "app.log"
    async with (
        running_server(tmp_path, env=environment(log, PA_LOG_LEVEL="debug"), flags=["--demo"]) as server,
        scene(server, folder) as here,
    ):
        device = server.add_device("evil")
        await asked(here, FORGED, f"demo:bash=touch {SECRET}")
        async with Client(server.url, token=device) as client:
            with pytest.raises(ValidationError):
                await client.set_permission_mode(here.project_id, SECRET)
        tokens = (server.token, device)
        await server.stop()
    lines = read(log)  # each parses, and is one of the known messages
    assert len(of(lines, "server ready")) == 1
    assert FORGED in {line.get("correlation_id") for line in lines}, "it is told, and harms nobody"
    text = log.read_text("utf-8")
    assert "\x1b" not in text
    assert SECRET not in text
    assert not [token for token in tokens if token in text]


async def test_the_level_changes_while_it_runs(tmp_path: Path, folder: Path) -> None:
    log, config = tmp_path / "app.log", tmp_path / "config.yaml"
    config.write_text(f"logging: {{level: warning, output: {log}}}\n")
    server = ServerProcess(
        tmp_path, env={"PA_CLAUDE_BINARY": str(require_claude())}, flags=["--demo", f"--config={config}"]
    )
    del server.env["PA_LOG_LEVEL"]  # it is stronger than the file
    async with started(server), scene(server, folder) as here:
        await here.run("demo:text")
        assert of(read(log), "Execution completed") == []
        config.write_text(f"logging: {{level: debug, output: {log}}}\n")
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        await eventually(lambda: bool(of(read(log), "settings reloaded")), "the settings are read again")
        await here.run("demo:text")
        await eventually(lambda: len(of(read(log), "Execution completed")) == 1, "the next execution is told of")
        assert of(read(log), "execution started")
