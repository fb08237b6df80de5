"""The k6 scripts with the real k6: the project's own, and the monitoring guide's as it stands."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import WSMsgType, web
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.harness.server import ServerProcess, free_port, write_standin
from tests.harness.tool import require_tool

SCRIPT = Path(str(files("pocket_agent.monitoring"))) / "templates" / "k6" / "load-test.js"
GUIDE = Path(__file__).with_name("guide-load-test.js")
"""The script of the monitoring guide, to the byte."""
GUIDE_URL = "wss://localhost:8443/ws"
STAGES = [("2m0s", 10), ("5m0s", 50), ("2m0s", 100), ("5m0s", 100), ("2m0s", 0)]
SHORT = ("--stage=500ms:3", "--stage=1s:3", "--stage=0s:0")


class Run(NamedTuple):
    """How a run of k6 ended.

    Attributes:
        status: 99 when a threshold was crossed.
        summary: what --summary-export wrote; empty when nothing was run.
        output: what k6 said.
    """

    status: int
    summary: dict[str, Any]
    output: str

    @property
    def checks(self) -> dict[str, tuple[int, int]]:
        """How often each check passed and failed."""
        found = self.summary["root_group"]["checks"]
        found = found.values() if isinstance(found, dict) else found
        return {check["name"]: (check["passes"], check["fails"]) for check in found}

    def metric(self, name: str, value: str) -> float:
        """A value of a metric."""
        return float(self.summary["metrics"][name][value])


async def start(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """k6, which talks to nobody but its target."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "K6_NO_USAGE_REPORT": "true",
        "K6_BINARY_PROVISIONING": "false",
        **(env or {}),
    }
    return await asyncio.create_subprocess_exec(
        str(require_tool("k6")),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )


def run_flags(folder: Path) -> list[str]:
    """`run` without k6's own HTTP server, and with a summary."""
    return ["run", "--quiet", "--address=", f"--summary-export={folder / 'summary.json'}"]


async def end_of(process: asyncio.subprocess.Process, folder: Path) -> Run:
    """How it ended."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        output, _ = await process.communicate()
    summary = folder / "summary.json"
    assert process.returncode is not None
    text = output.decode()
    return Run(process.returncode, json.loads(summary.read_text("utf-8")) if summary.exists() else {}, text)


async def run(folder: Path, script: Path, *flags: str, env: Mapping[str, str] | None = None) -> Run:
    """Run a script to its end."""
    return await end_of(await start(folder, *run_flags(folder), *flags, str(script), env=env), folder)


def towards(server: ServerProcess, **env: str) -> dict[str, str]:
    """What the script needs to know of a server, and a pace that suits a short run."""
    return {
        "PA_URL": server.url,
        "PA_TOKEN": server.token,
        "LOAD_INTERVAL_MS": "50",
        "LOAD_MAX_P95_MS": "300000",
        **env,
    }


async def inspected(folder: Path, script: Path, *flags: str) -> dict[str, Any]:
    """What k6 makes of a script's options."""
    found = await end_of(await start(folder, "inspect", *flags, str(script)), folder)
    assert found.status == 0, found.output
    options: dict[str, Any] = json.loads(found.output)  # so that there is no warning either
    return options


def stages(options: dict[str, Any]) -> list[tuple[str, int]]:
    return [(stage["duration"], stage["target"]) for stage in options["stages"]]


async def test_the_script_has_the_stages_of_the_guide(tmp_path: Path) -> None:
    options = await inspected(tmp_path, SCRIPT)
    assert stages(options) == STAGES == stages(await inspected(tmp_path, GUIDE))
    assert set(options["thresholds"]) == {"checks", "round_trip_ms", "sockets_opened"}
    assert options["insecureSkipTLSVerify"] is False


async def test_the_stages_can_be_scaled(tmp_path: Path) -> None:
    options = await inspected(tmp_path, SCRIPT, "-e", "LOAD_TIME_SCALE=0.01", "-e", "LOAD_PEAK_USERS=20")
    assert stages(options) == [("1.2s", 2), ("3s", 10), ("1.2s", 20), ("3s", 20), ("1.2s", 0)]


async def test_a_value_that_is_none_is_named(tmp_path: Path) -> None:
    found = await run(tmp_path, SCRIPT, "-e", "LOAD_PEAK_USERS=many")
    assert found.status != 0
    assert "LOAD_PEAK_USERS must be a number above 0, not many" in found.output


async def test_a_run_with_long_lived_sockets(standin_server: ServerProcess, tmp_path: Path) -> None:
    found = await run(tmp_path, SCRIPT, *SHORT, env=towards(standin_server))
    assert found.status == 0, found.output
    answered, failed = found.checks["received project list"]
    assert answered > 3
    assert failed == 0
    # Each user opened one socket and kept it.
    assert found.checks["status is 101"] == (3, 0)
    assert found.checks["socket stayed open"] == (3, 0)
    assert found.checks["each request was answered"] == (3, 0)
    assert found.metric("ws_sessions", "count") == found.metric("sockets_opened", "count") == 3
    async with standin_server.client() as client:
        # This request, too, is one that the server received.
        assert (await client.stats()).messages.received == answered + 1


async def test_a_socket_is_replaced_after_a_while(standin_server: ServerProcess, tmp_path: Path) -> None:
    env = towards(standin_server, LOAD_SOCKET_SECONDS="0.2")
    found = await run(tmp_path, SCRIPT, "--stage=1s:1", "--stage=1s:1", env=env)
    assert found.status == 0, found.output
    assert found.metric("sockets_opened", "count") > 1


async def test_a_token_that_is_refused_fails_the_run(standin_server: ServerProcess, tmp_path: Path) -> None:
    found = await run(tmp_path, SCRIPT, "--stage=1s:1", env=towards(standin_server, PA_TOKEN="not one"))
    assert found.status == 99
    assert found.checks["status is 101"][0] == 0
    assert "HTTP status 401" in found.output


async def test_a_dead_port_fails_the_run(tmp_path: Path) -> None:
    with socket.socket() as reserved:  # bound, so that nobody else takes it, and not listening
        reserved.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{reserved.getsockname()[1]}/ws"
        found = await run(tmp_path, SCRIPT, "--stage=1s:2", env={"PA_URL": url})
    assert found.status == 99
    assert "connection refused" in found.output


async def test_a_server_that_dies_fails_the_run(standin_server: ServerProcess, tmp_path: Path) -> None:
    flags = [*run_flags(tmp_path), "--stage=1s:2", "--stage=60s:2"]
    process = await start(tmp_path, *flags, str(SCRIPT), env=towards(standin_server))
    async with standin_server.client() as client:

        async def under_way() -> bool:
            stats = await client.stats()
            return stats.connections.active == 3 and stats.messages.received > 50

        await eventually(under_way, "both users are there")
        await standin_server.kill()
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        while b"connection refused" not in await process.stdout.readline():
            pass  # the first user has not tried to come back yet
    # k6 ends a run early when it is told to, and judges it all the same.
    process.terminate()
    found = await end_of(process, tmp_path)
    assert found.status != 0
    passed, failed = found.checks["socket stayed open"]
    assert passed == 0
    assert failed > 0


@contextlib.asynccontextmanager
async def answering(kind: str, delay_seconds: float = 0.0) -> AsyncIterator[str]:
    """The address of a server that answers with messages of this type, each after a while."""

    async def attend(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await asyncio.sleep(delay_seconds)
                asked = json.loads(message.data)["request_id"]
                await socket.send_json({"type": kind, "data": {}, "request_id": asked})
        return socket

    application = web.Application()
    application.router.add_get("/ws", attend)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"ws://127.0.0.1:{port}/ws"
    finally:
        await runner.cleanup()


async def test_an_answer_that_takes_too_long_fails_the_run(tmp_path: Path) -> None:
    async with answering("project_list_response", delay_seconds=0.05) as url:
        env = {"PA_URL": url, "LOAD_MAX_P95_MS": "20"}
        found = await run(tmp_path, SCRIPT, "--stage=1s:1", "--stage=1s:1", env=env)
    assert found.status == 99
    assert found.checks["received project list"][1] == 0
    assert "thresholds on metrics 'round_trip_ms' have been crossed" in found.output


async def test_an_error_for_an_answer_fails_the_run(tmp_path: Path) -> None:
    async with answering("error") as url:
        found = await run(tmp_path, SCRIPT, "--stage=1s:1", env={"PA_URL": url})
    assert found.status == 99
    assert found.checks["received project list"][0] == 0
    assert "thresholds on metrics 'checks' have been crossed" in found.output


@pytest.fixture
async def tls_server(tmp_path: Path) -> ServerProcess:
    """A server that will speak TLS and ask for no token; not started yet."""
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}, flags=["--no-auth"])
    server.tls_port = free_port()
    return server


async def test_the_certificate_is_checked_unless_told_otherwise(tls_server: ServerProcess, tmp_path: Path) -> None:
    certificate = str(tls_server.data_dir / "tls" / "cert.pem")
    try:
        await tls_server.start()
        url = {"PA_URL": f"wss://127.0.0.1:{tls_server.tls_port}/ws"}
        refused = await run(tmp_path, SCRIPT, "--stage=1s:1", env=url)
        assert refused.status == 99
        assert "certificate" in refused.output
        for trust in ({"LOAD_INSECURE": "1"}, {"SSL_CERT_FILE": certificate}):
            trusted = await run(tmp_path, SCRIPT, "--stage=1s:1", env={**url, **trust})
            assert trusted.status == 0, trusted.output
            assert trusted.metric("sockets_opened", "count") > 0
    finally:
        await tls_server.clean_up()


async def test_the_script_of_the_guide_as_it_stands(tls_server: ServerProcess, tmp_path: Path) -> None:
    text = GUIDE.read_text("utf-8")
    assert text.count(GUIDE_URL) == 1
    script = tmp_path / "load-test.js"
    script.write_text(text.replace(GUIDE_URL, f"wss://localhost:{tls_server.tls_port}/ws"), "utf-8")
    try:
        await tls_server.start()
        # Each iteration takes the ten seconds for which the script keeps its socket.
        found = await run(tmp_path, script, "--vus=3", "--iterations=3", "--insecure-skip-tls-verify")
    finally:
        await tls_server.clean_up()
    assert found.status == 0, found.output
    assert found.checks == {"received project list": (3, 0), "status is 101": (3, 0)}
