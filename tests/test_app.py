"""The whole server as a process: its log, its secrets, its certificate, its ports, its end."""

import asyncio
import json
import os
import signal
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from pocket_agent.cli.device import make_device
from pocket_agent.client import Client
from pocket_agent.server.self_signed import make_self_signed
from pocket_agent.settings import load_settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.server import ServerProcess, free_port, running_server, write_standin

MARKER = "the-marker-of-a-secret-prompt"
ODD = 'x\n{"level":"error","msg":"forged"}\x1b[31m'


def log_lines(server: ServerProcess) -> list[dict[str, Any]]:
    """Every line of the log file, read as JSON."""
    file = server.folder / "app.log"
    text = file.read_bytes() if file.exists() else b""
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


async def logged(server: ServerProcess, message: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until the log has so many lines with this message."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = [line for line in log_lines(server) if line["msg"] == message]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server whose log is a file."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_LOGGING_OUTPUT": str(tmp_path / "app.log")}
    async with running_server(tmp_path, env=env) as started:
        yield started


async def test_the_log_is_json_and_holds_no_secret_and_no_forged_line(server: ServerProcess) -> None:
    folder = server.folder / "odd\n\x1b[31mname"
    folder.mkdir()
    device = make_device(load_settings(config=None, environ={}, flags={"data.dir": server.data_dir}), "my phone")
    async with server.client() as client, Client(server.url, token=device) as phone:
        project = await client.create_project(str(folder))
        assert project.path == str(folder)
        async with client.subscribe(project.id) as stream:
            await phone.execute(project.id, f"{MARKER} stderr {MARKER} garbage ask Bash")
            async with asyncio.timeout(DEADLINE_SECONDS):
                async for frame in stream:
                    if frame.type == "approval_requested":
                        await client.deny(project.id, frame.data["approval_id"], MARKER)
                    if frame.type == "project_state" and frame.data["state"] == "IDLE" and frame.data["offset"] > 3:
                        break
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with http.ws_connect(server.url, headers=headers) as socket:
            for kind in ("project_list", "no_such_type\n\x1b[31m", "project_create"):
                request = {"type": kind, "request_id": ODD, "project_id": ODD, "data": {"path": ODD}}
                await socket.send_json(request)
                assert json.loads((await socket.receive()).data)["request_id"] == ODD
        async with http.get(f"http://127.0.0.1:{server.port}/ws", headers={"Authorization": "Bearer " + ODD[:1]}):
            pass
    assert await server.stop() == 0
    lines = log_lines(server)
    assert {"timestamp", "level", "msg", "service", "environment", "version"} <= set(lines[0])
    assert all(line["service"] == "pocket-agent-server" for line in lines), "every line is the server's own"
    assert any(line.get("correlation_id") == ODD for line in lines), "what a client chose stays inside its field"
    messages = [line["msg"] for line in lines]
    assert "forged" not in messages
    for expected in (
        "server ready",
        "connection opened",
        "connection rejected",
        "project created",
        "execution started",
        "line rejected",
        "approval requested",
        "approval resolved",
        "Execution completed",
        "connection closed",
        "server stopping",
        "server stopped",
    ):
        assert expected in messages
    everything = (server.folder / "app.log").read_text() + server.log
    for secret in (MARKER, server.token, device):
        assert secret not in everything
    assert "Traceback" not in everything


async def test_the_token_of_the_first_start_is_shown_once(tmp_path: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_LOGGING_OUTPUT": str(tmp_path / "app.log")}
    server = ServerProcess(tmp_path, env=env)
    for file in server.data_dir.iterdir():
        file.unlink()  # nobody has made a device yet
    try:
        await server.start()
        kept = server.data_dir / "first-device.txt"  # standard error is no terminal: a journal would keep it
        assert str(kept) in server.log
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        (token,) = [word for word in kept.read_text().split() if word.startswith("pa_")]
        async with Client(server.url, token=token) as client:
            assert await client.projects() == []
        assert await server.stop() == 0
        await server.start()
        assert token not in server.log
        assert "/pair#" not in server.log
        assert not kept.exists()
        assert token not in (tmp_path / "app.log").read_text()
        stored = b"".join(file.read_bytes() for file in server.data_dir.iterdir() if file.is_file())
        assert token.encode() not in stored, "only its hash is kept"
        assert await server.stop() == 0
    finally:
        await server.clean_up()


async def test_what_it_keeps_is_its_owners_alone(server: ServerProcess, folder: Path) -> None:
    async with server.client() as client:
        project = await client.create_project(str(folder))
        await client.execute(project.id, "sleep 600")
        found = [server.data_dir, *server.data_dir.rglob("*")]
        assert len(found) > 4
        for path in found:
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        await client.kill(project.id)


async def test_sighup_brings_a_new_certificate_and_its_names_to_new_connections(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def renew(name: str) -> int:
        certificate, private = make_self_signed([name])
        cert.write_bytes(certificate)
        key.write_bytes(private)
        return x509.load_pem_x509_certificate(certificate).serial_number

    async def served() -> int:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return x509.load_der_x509_certificate(found).serial_number

    async def answers(name: str) -> int:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http,
            http.get(f"https://127.0.0.1:{port}/livez", headers={"Host": name}) as answer,
        ):
            return answer.status

    first = renew("first.example")
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PA_TLS_CERT": str(cert),
        "PA_TLS_KEY": str(key),
        "PA_SERVER_PLAIN_PORT": "off",
        "PA_METRICS_ENABLED": "false",
        "PA_LOGGING_OUTPUT": str(tmp_path / "app.log"),
    }
    server = ServerProcess(tmp_path, env=env)
    process = await asyncio.create_subprocess_exec(
        *server_command(), f"--port={port}", f"--data-dir={server.data_dir}", env=env, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await logged(server, "server ready")
        assert await served() == first
        assert (await answers("first.example"), await answers("second.example")) == (200, 421)
        second = renew("second.example")
        assert await served() == first
        process.send_signal(signal.SIGHUP)
        await logged(server, "certificate loaded", 2)
        assert await served() == second
        assert (await answers("first.example"), await answers("second.example")) == (421, 200)
        key.write_text("broken")
        process.send_signal(signal.SIGHUP)
        (refused,) = await logged(server, "settings not reloaded")
        assert str(key) in refused["fields"]["reason"]
        assert await served() == second, "the old one stays"
        assert await answers("second.example") == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def server_command() -> list[str]:
    """`pocket-agent serve`."""
    return [sys.executable, "-m", "pocket_agent.cli", "serve"]


async def refused(tmp_path: Path, *flags: str, **env: str) -> str:
    """What `serve` says when it cannot start."""
    process = await asyncio.create_subprocess_exec(
        *server_command(),
        f"--data-dir={tmp_path / 'other'}",
        *flags,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PA_METRICS_ENABLED": "false", **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, errors = await process.communicate()
    assert process.returncode == 1
    text = errors.decode()
    assert "Traceback" not in text
    return text


async def test_why_it_does_not_start_is_said_in_a_sentence(tmp_path: Path) -> None:
    missing = await refused(
        tmp_path, f"--port={free_port()}", PA_TLS_CERT="/nowhere/c.pem", PA_TLS_KEY="/nowhere/k.pem"
    )
    assert "/nowhere/c.pem" in missing
    unknown = await refused(tmp_path, PA_SERVER_PROT="1")
    assert "PA_SERVER_PROT" in unknown
    open_to_all = await refused(tmp_path, "--no-auth", "--host=0.0.0.0")
    assert "loopback" in open_to_all


async def test_its_end_is_graceful_and_leaves_working_agents_alone(server: ServerProcess, folder: Path) -> None:
    async with server.client() as client:
        project = await client.create_project(str(folder))
        await client.execute(project.id, "sleep 600")
        (agent,) = server.agents()
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": f"Bearer {server.token}"}
            async with http.ws_connect(server.url, headers=headers) as socket:
                stopping = asyncio.ensure_future(server.stop())
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while not socket.closed:
                        await socket.receive()
                assert socket.close_code == 1001
                assert await stopping == 0
    assert agent.is_running()
    (stopped,) = await logged(server, "server stopped")
    assert stopped["fields"] == {"agents_left_running": 1}


async def test_a_data_directory_that_others_may_enter_is_closed_to_them(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    server.data_dir.chmod(0o755)
    try:
        await server.start()
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    finally:
        await server.clean_up()
