"""What goes wrong shows in /health, on the socket and in the log, and is over when it is over."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.harness import DEADLINE_SECONDS
from tests.harness.disk import failing_disk, fill, small_disk
from tests.harness.follow import eventually, until
from tests.harness.server import ServerProcess, free_port, running_server, write_standin

from pocket_agent.protocol.requests import CheckData
from pocket_agent.server.answer import without_ids
from pocket_agent.storage.database import database_path

OFTEN = {"PA_HEALTH_INTERVAL": "100ms", "PA_HEALTH_LOW_DISK": "0", "PA_HEALTH_LOOP_LAG": "1h"}
"""Settings that make faults show soon, and only those that a test makes."""


class Answer(NamedTuple):
    """What an endpoint said."""

    status: int
    text: str

    @property
    def health(self) -> dict[str, Any]:
        """The body of /health."""
        found: dict[str, Any] = json.loads(self.text)
        return found


async def get(server: ServerProcess, path: str) -> Answer:
    """Ask an endpoint."""
    address = f"http://127.0.0.1:{server.port}{path}"
    async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as http, http.get(address) as answer:
        return Answer(answer.status, await answer.text())


def changes(server: ServerProcess, check: str) -> list[dict[str, Any]]:
    """The fields of the log's lines about a check."""
    lines = [json.loads(line) for line in server.log.splitlines() if '"msg":"health changed"' in line]
    return [line["fields"] for line in lines if line["fields"]["check"] == check]


async def becomes(server: ServerProcess, check: str, status: str, message: str = "") -> Answer:
    """Wait until a check has this status and message; returns what /health said then.

    The log and the socket have to say the same as /health, and no answer may name a path.
    """
    found = Answer(0, "")
    public = without_ids({check: CheckData("healthy", message)})[check].message or ""

    async def shows() -> bool:
        nonlocal found
        found = await get(server, "/health")
        result = found.health["checks"][check]
        return result["status"] == status and public in result.get("message", "")

    await eventually(shows, f"{check} is {status}: {message}")
    await eventually(
        lambda: [change["status"] for change in changes(server, check)][-1:] == [status], "the log has a line of it"
    )
    assert str(server.folder) not in found.text
    assert (found.status == 200) == (found.health["status"] == "healthy")
    async with server.client() as client:

        async def says_so() -> bool:
            reply = (await client.health()).checks[check]
            assert reply.status == status
            return message in (reply.message or "")  # a figure that /health leaves out may still change

        await eventually(says_so, f"clients get for {check}: {message}")
    return found


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that looks often."""
    async with running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), **OFTEN}) as started:
        assert (await becomes(started, "claude", "healthy")).health["status"] == "healthy"
        yield started


async def test_the_cli_is_removed_and_put_back(server: ServerProcess, tmp_path: Path) -> None:
    program = Path(server.env["PA_CLAUDE_BINARY"])
    program.rename(tmp_path / "elsewhere")
    answer = await becomes(server, "claude", "unhealthy", "npm install")
    assert (answer.status, answer.health["status"]) == (503, "degraded")
    assert (await get(server, "/readyz")).status == 200, "viewing works"
    (tmp_path / "elsewhere").rename(program)
    answer = await becomes(server, "claude", "healthy")
    assert (answer.status, answer.health["status"]) == (200, "healthy")
    assert [change.get("previous") for change in changes(server, "claude")] == [None, "healthy", "unhealthy"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("exec sleep 600", "says nothing for 10 s"),
        ("kill -SEGV $$", "crashes (Segmentation fault)"),
        ("exit 127", "ends with exit code 127"),
    ],
)
async def test_the_cli_hangs_or_crashes(server: ServerProcess, tmp_path: Path, body: str, message: str) -> None:
    program = Path(server.env["PA_CLAUDE_BINARY"])
    program.rename(tmp_path / "elsewhere")
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n{body}\n")
    broken.chmod(0o700)
    broken.rename(program)
    answer = await becomes(server, "claude", "unhealthy", message)
    assert (answer.status, answer.health["status"]) == (503, "degraded")
    (tmp_path / "elsewhere").rename(program)
    await becomes(server, "claude", "healthy")


async def test_a_cli_that_hangs_does_not_keep_the_server_from_stopping(server: ServerProcess, tmp_path: Path) -> None:
    hanging, note = tmp_path / "hanging", tmp_path / "note"
    hanging.write_text(f"#!/bin/sh\necho $$ > {note}.new; mv {note}.new {note}; exec sleep 600\n")
    hanging.chmod(0o700)
    hanging.rename(server.env["PA_CLAUDE_BINARY"])
    await eventually(note.exists, "it is asked for its version")
    pid = int(note.read_text())
    assert await server.stop() == 0
    assert not psutil.pid_exists(pid)


async def test_the_disk_is_full(tmp_path: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), **OFTEN, "PA_HEALTH_LOW_DISK": "12MiB"}
    with small_disk(tmp_path / "data"):
        async with running_server(tmp_path, env=env) as server:
            await becomes(server, "disk", "healthy")
            filler = fill(server.data_dir, leave=10 * 2**20)
            answer = await becomes(server, "disk", "warning", "Low disk space")
            assert answer.health["status"] == "degraded"
            assert (await get(server, "/readyz")).status == 200
            filler.unlink()
            await becomes(server, "disk", "healthy")
            filler = fill(server.data_dir)
            await becomes(server, "disk", "unhealthy", "The disk is full: 0 MiB free.")
            answer = await becomes(server, "storage", "unhealthy")
            assert (answer.status, answer.health["status"]) == (503, "unhealthy")
            ready = await get(server, "/readyz")
            assert (ready.status, ready.text.count("\n")) == (503, 1)
            filler.unlink()
            await becomes(server, "storage", "healthy")
            assert (await becomes(server, "disk", "healthy")).status == 200
            assert (await get(server, "/readyz")).status == 200


async def test_the_disk_fails_and_turns_read_only(tmp_path: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), **OFTEN}
    with failing_disk(tmp_path / "data") as disk:
        async with running_server(tmp_path, env=env) as server:
            await becomes(server, "storage", "healthy")
            disk.fail()
            answer = await becomes(server, "storage", "unhealthy")
            assert (answer.status, answer.health["status"]) == (503, "unhealthy")
            assert (await get(server, "/readyz")).text.startswith("storage: ")
            assert (await get(server, "/livez")) == (200, "ok\n")
            await server.kill()
            disk.replace()
            await server.start()
            assert (await becomes(server, "storage", "healthy")).status == 200


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=300)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


async def test_another_program_locks_the_database(server: ServerProcess) -> None:
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOCK, database_path(server.data_dir), stdin=pipe, stdout=pipe
    )
    try:
        assert other.stdin is not None
        assert other.stdout is not None
        assert await other.stdout.readline() == b"locked\n"
        assert (await get(server, "/livez")) == (200, "ok\n"), "at once, not when the database is free"
        answer = await becomes(server, "storage", "unhealthy", "locked by another program")
        assert (answer.status, answer.health["status"]) == (503, "unhealthy")
        ready = await get(server, "/readyz")
        assert ready.status == 503
        assert ready.text.startswith("storage: ")
        assert other.returncode is None
        other.stdin.close()
        assert await other.wait() == 0
    finally:
        if other.returncode is None:
            other.kill()
            await other.wait()
    assert (await becomes(server, "storage", "healthy")).status == 200
    assert (await get(server, "/readyz")) == (200, "ok\n")
    with sqlite3.connect(database_path(server.data_dir)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_the_loop_is_blocked_for_a_while(tmp_path: Path) -> None:
    """A stopped process is late by all the time that it was stopped; `LoopMonitor` forgets it after a minute."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), **OFTEN, "PA_HEALTH_LOOP_LAG": "5s"}
    async with running_server(tmp_path, env=env) as server:
        await becomes(server, "event_loop", "healthy")
        await block(server)
        answer = await becomes(server, "event_loop", "warning", "within the last minute")
        assert (answer.status, answer.health["status"]) == (503, "degraded")
        assert (await get(server, "/readyz")).status == 200


async def block(server: ServerProcess) -> None:
    """Keep the loop from turning, for longer than it may be late."""
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(6)  # this is the fault
    finally:
        server.process.send_signal(signal.SIGCONT)


def write_certificate(folder: Path, lasts: timedelta) -> tuple[Path, Path]:
    """A certificate that ends so much from now, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    end = datetime.now(UTC) + lasts
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(end - timedelta(days=365))
    certificate = builder.not_valid_after(end).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


async def test_the_certificate_ends(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, -timedelta(hours=1))
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), **OFTEN, "PA_TLS_CERT": str(cert), "PA_TLS_KEY": str(key)}
    server = ServerProcess(tmp_path, env=env)
    server.tls_port = free_port()
    try:
        await server.start()
        answer = await becomes(server, "certificate", "unhealthy", "The certificate expired on")
        assert (answer.status, answer.health["status"]) == (503, "degraded")
        assert (await get(server, "/readyz")).status == 200
        for lasts, status, message in (
            (timedelta(days=3), "warning", "Renew it, then send SIGHUP."),
            (timedelta(days=90), "healthy", ""),
        ):
            write_certificate(tmp_path, lasts)
            assert server.process is not None
            server.process.send_signal(signal.SIGHUP)
            answer = await becomes(server, "certificate", status, message)
        assert answer.health["status"] == "healthy"
        assert [change.get("previous") for change in changes(server, "certificate")] == [None, "unhealthy", "warning"]
    finally:
        await server.clean_up()


async def test_a_queue_is_full(tmp_path: Path, folder: Path) -> None:
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), **OFTEN, "PA_LIMITS_MAX_QUEUED_PROMPTS": "1"}
    async with running_server(tmp_path, env=env) as server, server.client() as client:
        project = await client.create_project(str(folder))
        await becomes(server, "queue", "healthy")
        await client.execute(project.id, "ask Bash")
        queued = await client.execute(project.id, "a-secret-prompt")
        answer = await becomes(server, "queue", "warning", f"The queue of project {project.id} is full (1 prompts).")
        assert (answer.status, answer.health["status"]) == (503, "degraded")
        assert "secret" not in server.log + answer.text
        await client.cancel_prompt(project.id, queued.execution_id)
        assert (await becomes(server, "queue", "healthy")).status == 200
        await client.kill(project.id)


async def test_a_prompt_cannot_start(server: ServerProcess, folder: Path, tmp_path: Path) -> None:
    program = Path(server.env["PA_CLAUDE_BINARY"])
    async with server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, "ask Bash leave")
            asked = (await until(stream, "approval_requested"))[-1]
            queued = await client.execute(project.id, "lines 3")
            program.rename(tmp_path / "elsewhere")
            await client.approve(project.id, asked.data["approval_id"])
            message = f"Project {project.id}: execution {queued.execution_id} cannot start (CLAUDE_NOT_FOUND)."
            await becomes(server, "queue", "unhealthy", message)
            (tmp_path / "elsewhere").rename(program)
            await until(stream, "prompt", execution_id=queued.execution_id)
        await becomes(server, "queue", "healthy")
