"""pocket_agent.monitoring.doctor.exposition: a scrape that is refused, is another program's, or tells of losses."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from aiohttp import web

from pocket_agent.monitoring.doctor import server_checks
from pocket_agent.monitoring.doctor.probes import read_samples, total
from pocket_agent.monitoring.doctor.result import Context
from pocket_agent.monitoring.doctor.server_checks import check_metrics
from pocket_agent.observability.catalogue import series
from pocket_agent.settings import LoadedSettings, MetricsSettings
from tests.harness.clinic import Findings
from tests.harness.follow import eventually
from tests.harness.prometheus import running_prometheus
from tests.harness.server import ServerProcess, free_port, running_server, write_standin
from tests.harness.stack import load


def settings_of(server: ServerProcess, environment: Mapping[str, str] | None = None) -> LoadedSettings:
    """The settings that a server was started with; or with other ones."""
    given = {"HOME": str(server.home), **{key: value for key, value in server.env.items() if "METRICS" in key}}
    return load({**given, **(environment or {})}, server.data_dir, server.port)


async def look(loaded: LoadedSettings) -> Findings:
    """What is found of the metrics."""
    return Findings(await check_metrics(Context(loaded, {})))


def metered(folder: Path, **further: str) -> dict[str, str]:
    """The environment of a server with metrics."""
    claude = str(write_standin(folder))
    return {"PA_CLAUDE_BINARY": claude, "PA_METRICS_ENABLED": "true", "PA_METRICS_PORT": str(free_port()), **further}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server with metrics."""
    async with running_server(tmp_path, env=metered(tmp_path)) as started:
        yield started


async def test_the_servers_own(server: ServerProcess) -> None:
    findings = await look(settings_of(server))
    assert [(finding.name, finding.status) for finding in findings] == [
        ("metrics", "ok"), ("series", "ok"), ("open files", "ok"),
    ]  # fmt: skip
    assert findings.of("series").message.startswith(f"{series(MetricsSettings())} in a scrape")


async def test_the_most_that_settings_can_make_is_not_too_many(tmp_path: Path) -> None:
    many = {
        "PA_METRICS_MODELS": ",".join(f"model-{number}" for number in range(8)),
        "PA_METRICS_PROJECTS": ",".join(f"project-{number}" for number in range(8)),
    }
    async with running_server(tmp_path, env=metered(tmp_path, **many)) as server:
        assert (await look(settings_of(server))).of("series").status == "ok"


async def test_of_another_revision(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "find_revision", lambda: "0123456789ab")
    finding = (await look(settings_of(server))).of("server revision")
    assert (finding.status, finding.message.endswith("is running, 0123456789ab is installed")) == ("warning", True)


async def test_they_are_switched_off(server: ServerProcess) -> None:
    finding = (await look(settings_of(server, {"PA_METRICS_ENABLED": "false"}))).of("metrics")
    assert (finding.status, "metrics.enabled" in finding.fix) == ("warning", True)


async def test_they_are_at_any_free_port(server: ServerProcess) -> None:
    finding = (await look(settings_of(server, {"PA_METRICS_PORT": "0"}))).of("metrics")
    assert (finding.status, "metrics.port" in finding.fix) == ("warning", True)


async def test_nobody_answers(server: ServerProcess) -> None:
    finding = (await look(settings_of(server, {"PA_METRICS_PORT": str(free_port())}))).of("metrics")
    assert (finding.status, "connection refused" in finding.message) == ("failed", True)


async def test_a_wrong_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("right\n", "utf-8")
    async with running_server(tmp_path, env=metered(tmp_path, PA_METRICS_TOKEN_FILE=str(file))) as server:
        loaded = settings_of(server)
        assert (await look(loaded)).of("metrics").status == "ok"
        file.write_text("wrong\n", "utf-8")
        finding = (await look(loaded)).of("metrics")
        assert (finding.status, finding.message.endswith("refuses the token")) == ("failed", True)
        assert f"{file} has another token" in finding.fix
        file.unlink()
        finding = (await look(loaded)).of("metrics")
        assert (finding.status, "cannot be read: No such file" in finding.message) == ("failed", True)
        finding = (await look(settings_of(server, {"PA_METRICS_TOKEN_FILE": ""}))).of("metrics")
        assert (finding.status, "metrics.token_file" in finding.fix) == ("failed", True)


async def test_prometheus_has_the_port(tmp_path: Path) -> None:
    """Debian's package starts it on 9090: the server cannot start then, and Prometheus scrapes itself."""
    server = ServerProcess(tmp_path, env=metered(tmp_path))
    async with running_prometheus(tmp_path / "prometheus", {}) as prometheus:
        port = prometheus.url.rpartition(":")[2]
        finding = (await look(settings_of(server, {"PA_METRICS_PORT": port}))).of("metrics")
    assert finding.status == "failed"
    assert f"port {port} is taken by Prometheus itself, prometheus (process " in finding.message
    assert "--web.listen-address=127.0.0.1:9091" in finding.fix
    assert "/etc/default/prometheus" in finding.fix


@pytest.fixture
async def exporter() -> AsyncIterator[tuple[int, list[str]]]:
    """Another program with metrics; gives its port and what it tells."""
    port, text = free_port(), [""]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text[0])

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port, text
    await runner.cleanup()


async def test_another_program_has_the_port(tmp_path: Path, exporter: tuple[int, list[str]]) -> None:
    port, text = exporter
    text[0] = "up 1\n"
    finding = (await look(settings_of(ServerProcess(tmp_path), {"PA_METRICS_PORT": str(port)}))).of("metrics")
    assert (finding.status, f"port {port} is taken by another program, " in finding.message) == ("failed", True)


async def test_more_series_than_there_may_be(tmp_path: Path, exporter: tuple[int, list[str]]) -> None:
    port, text = exporter
    text[0] = "pocket_agent_build_info 1\n" + "".join(f'of_a_user{{id="{number}"}} 1\n' for number in range(600))
    loaded = settings_of(ServerProcess(tmp_path), {"PA_METRICS_PORT": str(port)})
    finding = (await look(loaded)).of("series")
    assert finding.status == "warning"
    assert "601 in a scrape, more than 500; most are of of_a_user (600)" in finding.message


async def test_few_files_may_be_open(tmp_path: Path, exporter: tuple[int, list[str]]) -> None:
    port, text = exporter
    loaded = settings_of(ServerProcess(tmp_path), {"PA_METRICS_PORT": str(port)})
    for used, status in ((10, "warning"), (240, "failed")):
        text[0] = f"pocket_agent_build_info 1\nprocess_open_fds {used}\nprocess_max_fds 256\n"
        finding = (await look(loaded)).of("open files")
        assert (finding.status, finding.message.startswith(f"{used} of 256")) == (status, True)


async def test_lines_of_the_log_were_lost(tmp_path: Path) -> None:
    """The log goes to a device that is always full."""
    env = metered(tmp_path, PA_LOGGING_OUTPUT="/dev/full")
    async with running_server(tmp_path, env=env) as server:

        async def is_told() -> bool:
            return any(finding.name == "telemetry" for finding in await look(settings_of(server)))

        await eventually(is_told, "lost lines are counted")
        finding = (await look(settings_of(server))).of("telemetry")
    assert finding.status == "warning"
    assert " of logs" in finding.message
    assert finding.fix == "See pocket-agent runbook TelemetryDropped"


def test_samples_are_read_and_another_page_has_none() -> None:
    text = '# HELP a b\na 1\nb{x="1",y="a \\"b\\" } c"} 2.5 1700000000\nc{le="+Inf"} NaN\n'
    samples = read_samples(text)
    assert [(sample.name, sample.labels) for sample in samples] == [
        ("a", {}),
        ("b", {"x": "1", "y": 'a "b" } c'}),
        ("c", {"le": "+Inf"}),
    ]
    assert total(samples, "b") == 2.5
    for other in (
        "",
        "<!doctype html>\n<title>a</title>\n",
        "{}",
        "d\n",
        "e one\n",
        "{} 1\n",
        'a{b="c',
        "a{b} 1\n",
        "\0",
    ):
        assert read_samples(other) == [], other
