"""`pocket-agent loadtest` as it is called: what it refuses, what it reports, and its exit status."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.harness.follow import SECONDS, eventually
from tests.harness.server import ServerProcess, free_port, running_server, write_standin

NOWHERE = "ws://127.0.0.1:1/ws"


class Outcome(NamedTuple):
    """How a call ended."""

    status: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """The report on standard output."""
        report: dict[str, Any] = json.loads(self.out)
        return report


async def start(server: ServerProcess, *arguments: str, token: str | None = None) -> asyncio.subprocess.Process:
    """`pocket-agent loadtest` with a device's token."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(server.home), "PA_TOKEN": token or server.token}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pocket_agent.cli",
        "loadtest",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )


async def end_of(process: asyncio.subprocess.Process) -> Outcome:
    """What it said and how it ended."""
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


async def call(server: ServerProcess, *arguments: str, token: str | None = None) -> Outcome:
    """Run it to its end."""
    return await end_of(await start(server, *arguments, token=token))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server with the stand-in, metrics, and room for one waiting prompt; one project is there."""
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_METRICS_ENABLED": "true",
        "PA_METRICS_PORT": str(free_port()),
        "PA_LIMITS_MAX_QUEUED_PROMPTS": "1",
    }
    async with running_server(tmp_path, env=env) as made:
        (tmp_path / "project").mkdir()
        async with made.client() as client:
            await client.create_project(str(tmp_path / "project"))
        yield made


async def test_a_report_that_agrees_with_the_server(server: ServerProcess) -> None:
    metrics = f"--metrics-url=http://127.0.0.1:{server.env['PA_METRICS_PORT']}/metrics"
    outcome = await call(
        server, server.url, "--connections=4", "--rate=40", "--duration=2s", "--ramp=0s", "--json=-", metrics
    )
    assert outcome.status == 0, outcome.err
    report = outcome.report
    requests = report["requests"]
    assert (requests["scheduled"], requests["answered"], requests["failed"]) == (80, 80, 0)
    kinds = {kind: figures["requests"] for kind, figures in requests["kinds"].items()}
    assert kinds == {"list": 40, "join": 8, "history": 32}
    assert report["connections"]["opened"] == 4
    changed = {series: after - before for series, (before, after) in report["server"]["metrics"].items()}
    assert changed['pocket_agent_messages_received_total{type="get_messages"}'] == kinds["history"]
    assert changed['pocket_agent_messages_received_total{type="project_join"}'] == kinds["join"]
    assert changed['pocket_agent_messages_received_total{type="project_list"}'] == kinds["list"]
    assert changed["pocket_agent_connections_total"] == 3  # the first is open when the metrics are read before
    # On standard error is what people read.
    assert "Load test of" in outcome.err
    assert "ok      failed requests" in outcome.err


async def test_the_server_of_the_settings_with_its_token_and_metrics(server: ServerProcess, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    settings = {
        "server": {"port": server.port, "tls": {"enabled": False}},
        "data": {"dir": str(server.data_dir)},
        "metrics": {"port": int(server.env["PA_METRICS_PORT"])},
    }
    config.write_text(json.dumps(settings), "utf-8")
    file = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pocket_agent.cli",
        *("loadtest", f"--config={config}", "--rate=20", "--duration=1s", f"--json={file}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(server.home)},
    )
    outcome = await end_of(process)
    assert outcome.status == 0, outcome.err
    assert "Load test of" in outcome.out
    report = json.loads(file.read_text("utf-8"))
    assert report["server"]["metrics"]
    assert report["server"]["notes"] == []


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (["--max-p95=0"], 1),
        (["--max-p99=0"], 1),
        (["--max-p95=1000000", "--max-p99=1000000", "--max-error-ratio=0"], 0),
    ],
)
async def test_limits_of_latency(server: ServerProcess, limits: list[str], status: int) -> None:
    outcome = await call(server, server.url, "--rate=20", "--duration=500ms", "--ramp=0s", *limits)
    assert outcome.status == status, outcome.err
    assert ("FAILED" in outcome.out) is (status == 1)


@pytest.mark.parametrize(("limit", "status"), [([], 1), (["--max-error-ratio=1"], 0)])
async def test_errors_of_the_server_count(server: ServerProcess, limit: list[str], status: int) -> None:
    flags = ["--mix=execute=1", "--allow-executions", "--prompt=sleep 60", "--rate=20", "--duration=1s", "--ramp=0s"]
    outcome = await call(server, server.url, *flags, *limit, "--json=-")
    assert outcome.status == status, outcome.err
    report = outcome.report
    # One runs, one waits, all others are refused; the one that waits is taken back.
    assert report["requests"]["errors"] == {"RESOURCE_LIMIT": 18}
    assert report["withdrawn"] == 1
    assert "limits.max_queued_prompts" in outcome.err
    async with server.client() as client:
        (project,) = await client.projects()
        assert project.queue_depth == 0


async def test_what_is_refused_before_anything_is_sent(server: ServerProcess) -> None:
    for flags, says in [
        (["--mix=list=1,execute=1"], "--allow-executions"),
        (["--mix=dance=1"], "dance=1"),
        (["--connections=0"], "--connections"),
        (["--rate=0"], "--rate"),
        (["--duration=soon"], "--duration"),
        (["--duration=1s", "--ramp=2s"], "--ramp"),
        (["--metrics-url=http://server.invalid/metrics"], "--remote"),
    ]:
        outcome = await call(server, NOWHERE, *flags)
        assert outcome.status == 2, flags
        assert says in outcome.err, flags
        assert "Traceback" not in outcome.err
    outcome = await call(server, "wss://server.invalid:8443/ws")
    assert outcome.status == 2
    assert "--remote" in outcome.err


async def test_a_server_that_cannot_be_reached(server: ServerProcess) -> None:
    outcome = await call(server, NOWHERE, "--duration=1s")
    assert outcome.status == 2
    assert outcome.err.startswith(f"pocket-agent: Cannot reach {NOWHERE}")
    outcome = await call(server, server.url, "--duration=1s", token="not one")
    assert outcome.status == 2
    assert "token" in outcome.err


async def test_metrics_that_cannot_be_read_are_told_and_nothing_more(server: ServerProcess) -> None:
    nobody = f"--metrics-url=http://127.0.0.1:{free_port()}/metrics"
    outcome = await call(server, server.url, "--duration=500ms", "--rate=20", "--json=-", nobody)
    assert outcome.status == 0, outcome.err
    assert outcome.report["server"]["metrics"] is None
    (note,) = outcome.report["server"]["notes"]
    assert "cannot be read" in note


async def test_a_report_that_cannot_be_written(server: ServerProcess, tmp_path: Path) -> None:
    outcome = await call(server, server.url, "--duration=500ms", "--rate=20", f"--json={tmp_path / 'no' / 'file'}")
    assert outcome.status == 2
    assert "Load test of" in outcome.out
    assert "cannot be written" in outcome.err


async def test_ctrl_c_gives_the_report_so_far(server: ServerProcess) -> None:
    process = await start(server, server.url, "--rate=50", "--duration=10m", "--ramp=0s", "--json=-")
    asked = 0
    async with server.client() as client:

        async def under_way() -> bool:
            nonlocal asked
            asked += 1
            return (await client.stats()).messages.received - asked > 50

        await eventually(under_way, "the load is there")
    process.send_signal(signal.SIGINT)
    outcome = await end_of(process)
    assert outcome.status == 130, outcome.err
    assert outcome.report["interrupted"] is True
    requests = outcome.report["requests"]
    assert requests["answered"] > 0
    assert requests["answered"] + requests["unfinished"] == requests["scheduled"]
    assert outcome.report["server"]["stats_after"]["messages"]["received"] > 50
    assert "interrupted" in outcome.err
