"""pocket_agent.monitoring.doctor.server: a server that is there, is not, is stopped, or is another one."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from pocket_agent import __version__
from pocket_agent.monitoring.doctor import server_checks
from pocket_agent.monitoring.doctor.result import Context
from pocket_agent.monitoring.doctor.server_checks import check_server
from pocket_agent.settings import LoadedSettings
from tests.harness.clinic import Findings
from tests.harness.follow import eventually
from tests.harness.server import ServerProcess, free_port, running_server, write_standin
from tests.harness.stack import load


def settings_of(server: ServerProcess, *, port: int | None = None, **environment: str) -> LoadedSettings:
    """The settings that a server was started with; or with other ones."""
    given = {"HOME": str(server.home), "PA_SERVER_TLS_ENABLED": "false", "PA_SERVER_PLAIN_PORT": "off", **environment}
    return load(given, server.data_dir, port or server.port)


async def look(loaded: LoadedSettings) -> Findings:
    """What is found of a server."""
    return Findings(await check_server(Context(loaded, {})))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that looks at itself often."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_HEALTH_INTERVAL": "100ms"}
    async with running_server(tmp_path, env=env) as started:
        yield started


async def test_one_that_is_well(server: ServerProcess) -> None:
    findings = await look(settings_of(server))
    assert {finding.status for finding in findings} == {"ok"}
    assert findings.of("server").message == f"answers at http://127.0.0.1:{server.port}"
    assert {"health: claude", "health: disk", "health: storage"} <= {finding.name for finding in findings}


async def test_one_whose_own_checks_fail(server: ServerProcess) -> None:
    Path(server.env["PA_CLAUDE_BINARY"]).unlink()

    async def is_told() -> bool:
        return "health: claude" in (await look(settings_of(server))).failures

    await eventually(is_told, "the server has seen it")
    finding = (await look(settings_of(server))).of("health: claude")
    assert "npm install" in finding.message
    assert finding.fix == "See pocket-agent runbook HealthCheckFailing"


async def test_one_of_another_version(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "__version__", "99.0.0")
    finding = (await look(settings_of(server))).of("server version")
    assert (finding.status, finding.message) == ("warning", f"{__version__} is running, 99.0.0 is installed")


async def test_one_that_does_not_run(tmp_path: Path) -> None:
    """The file of the lock stays, and means nothing."""
    server = ServerProcess(tmp_path)
    await server.start()
    await server.kill()
    assert (server.data_dir / "pocket-agent.db.lock").exists()
    finding = (await look(settings_of(server))).of("server")
    assert (finding.status, "connection refused" in finding.message) == ("failed", True)
    assert finding.fix == "Start it: pocket-agent serve, or systemctl start pocket-agent."
    await server.clean_up()


async def test_one_that_is_stopped(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "_HEALTH_SECONDS", 0.5)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        finding = (await look(settings_of(server))).of("server")
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert finding.status == "failed"
    assert f"(process {server.process.pid}) is stopped (SIGSTOP): no answer within 0.5 s" in finding.message
    assert finding.fix == f"Resume it: kill -CONT {server.process.pid}"


async def test_one_that_was_started_with_another_port(server: ServerProcess) -> None:
    assert server.process is not None
    other = free_port()
    finding = (await look(settings_of(server, port=other))).of("server")
    assert finding.status == "failed"
    text = f"(process {server.process.pid}) has the data directory and listens on {server.port}, not on {other}"
    assert text in finding.message
    assert "--config" in finding.fix


async def test_one_that_was_started_without_tls(server: ServerProcess) -> None:
    finding = (await look(settings_of(server, PA_SERVER_TLS_ENABLED="true"))).of("server")
    assert finding.status == "failed"
    assert finding.message == f"answers at http://127.0.0.1:{server.port}, not at https://127.0.0.1:{server.port}"
    assert "--no-tls" in finding.fix


async def test_one_that_was_started_with_tls(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    server.tls_port = free_port()
    try:
        await server.start()
        finding = (await look(settings_of(server, port=server.tls_port))).of("server")
    finally:
        await server.clean_up()
    assert (
        finding.message == f"answers at https://127.0.0.1:{server.tls_port}, not at http://127.0.0.1:{server.tls_port}"
    )


async def test_one_at_any_free_port_cannot_be_found(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    server.port = 0
    assert [finding.status for finding in await look(settings_of(server))] == ["skipped"]


@pytest.fixture
async def stranger() -> AsyncIterator[int]:
    """Another program that speaks HTTP; gives its port."""
    port = free_port()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


async def test_another_program_at_its_port(tmp_path: Path, stranger: int) -> None:
    """It answers with 200 to whatever it is asked, and is no server of ours all the same."""
    finding = (await look(settings_of(ServerProcess(tmp_path), port=stranger))).of("server")
    assert finding.status == "failed"
    assert f"port {stranger} is taken by another program, " in finding.message
    assert "server.port" in finding.fix


async def test_another_program_at_the_port_of_the_plain_listener(tmp_path: Path, stranger: int) -> None:
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    server.tls_port = free_port()
    given = {"PA_SERVER_TLS_ENABLED": "true"}
    try:
        await server.start()
        own = settings_of(server, port=server.tls_port, PA_SERVER_PLAIN_PORT=str(server.port), **given)
        assert (await look(own)).of("plain listener").status == "ok"
        taken = settings_of(server, port=server.tls_port, PA_SERVER_PLAIN_PORT=str(stranger), **given)
        finding = (await look(taken)).of("plain listener")
    finally:
        await server.clean_up()
    assert (finding.status, f"port {stranger} is taken by another program" in finding.message) == ("warning", True)


async def test_one_that_is_stopping_takes_no_work(tmp_path: Path) -> None:
    port = free_port()

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "healthy", "version": __version__, "checks": {}}, status=200)

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=503, text="stopping\n")

    application = web.Application()
    application.router.add_get("/health", health)
    application.router.add_get("/readyz", ready)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        finding = (await look(settings_of(ServerProcess(tmp_path), port=port))).of("readiness")
    finally:
        await runner.cleanup()
    assert (finding.status, finding.message) == ("failed", "the server accepts no executions now: stopping")
