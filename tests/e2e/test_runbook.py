"""The runbooks at work: each query and each command of a diagnosis, against a server and a stack that run."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from tests.harness import DEADLINE_SECONDS, manual
from tests.harness.clinic import Clinic, open_clinic
from tests.harness.tool import ROOT, require_tool

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLDER = ROOT / "docs" / "runbooks"
GUIDE = ROOT / "docs" / "monitoring.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "README")
SYSTEM = ("systemctl ", "timedatectl", "journalctl -k", "journalctl -u prometheus", "journalctl --disk-usage")
"""What is asked of a machine that runs services, which the one of the tests need not be."""
LOG = "journalctl -u pocket-agent -o cat"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clinic(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clinic]:
    """A server with its stack; it has carried out something, so that there is something to be seen."""
    for name in ("jq", "curl", "openssl", "lsof", "ss", "prometheus", "promtool", "amtool", "prometheus-alertmanager"):
        require_tool(name)
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "project").mkdir()
    async with open_clinic(folder) as opened:
        usual = opened.server.home / ".local" / "share"
        usual.mkdir(parents=True)
        (usual / "pocket-agent").symlink_to(opened.server.data_dir)
        async with opened.server.client() as client:
            project = await client.create_project(str(folder / "project"))
            await client.execute(project.id, "lines 3")
            await client.execute(project.id, "fail")
        await opened.recovers()
        yield opened


async def test_prometheus_answers_each_query(clinic: Clinic) -> None:
    queries = [query for page in PAGES for query in manual.queries(page.read_text("utf-8"))]
    for query in queries:
        data = await clinic.stack.prometheus.get("query", query=query)  # raises when it is refused
        assert data["resultType"] in {"vector", "scalar"}, query


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
async def test_each_command_of_a_diagnosis_works(clinic: Clinic, page: Path) -> None:
    lines = [line for section, line in manual.shell_lines(page.read_text("utf-8")) if section == "Diagnosis"]
    await run(clinic, [line for line in lines if not line.startswith(SYSTEM)])


async def test_each_command_of_the_guide_works(clinic: Clinic) -> None:
    lines = list(manual.typed(GUIDE.read_text("utf-8")))
    assert len(lines) >= 10
    await run(clinic, lines)


async def run(clinic: Clinic, lines: list[str]) -> None:
    """Carry out commands; the first that fails is told."""
    script = "\n".join(here(clinic, line) for line in lines)
    assert clinic.server.tls_port is not None
    path = f"{Path(sys.executable).parent}:{ROOT / '.tools' / 'usr' / 'bin'}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-u", "-o", "pipefail", "-c", f"trap 'echo \"$BASH_COMMAND: $?\" >&2' ERR\n{script}"),
        env={**clinic.environment, "PATH": path, "PA_SERVER_PORT": str(clinic.server.tls_port)},
        cwd=clinic.server.folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        said, wrong = await process.communicate()
    assert wrong.decode() == "", f"{script}\n{said.decode()}"


def here(clinic: Clinic, line: str) -> str:
    """A command as it is said to this server, and not to one with the usual addresses."""
    assert clinic.server.tls_port is not None
    ports = {
        "8443": str(clinic.server.tls_port),
        "8080": str(clinic.server.port),
        "9090": clinic.environment["PA_METRICS_PORT"],
        "9091": clinic.environment["PA_MONITORING_PROMETHEUS_PORT"],
        "9093": clinic.environment["PA_MONITORING_ALERTMANAGER_PORT"],
        "9115": clinic.environment["PA_MONITORING_BLACKBOX_PORT"],
    }
    line = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: ports[found[0]], line)
    for name in ("prometheus", "alertmanager", "blackbox"):
        line = line.replace(f"/etc/prometheus/{name}.yml", f"{clinic.stack.folder}/{name}/{name}.yml")
    line = line.replace("MOUNTPOINT", str(clinic.server.folder)).replace("/proc/PID/", f"/proc/{os.getpid()}/")
    return line.replace(LOG, f"grep '^{{' {clinic.server.folder}/server.log")


async def test_an_alert_leads_to_its_page(clinic: Clinic) -> None:
    data = await clinic.stack.prometheus.get("rules", type="alert")
    links = {rule["annotations"]["runbook_url"] for group in data["groups"] for rule in group["rules"]}
    assert len(links) == len(PAGES)
    async with aiohttp.ClientSession() as http:
        for link in links:
            assert link.startswith(f"https://127.0.0.1:{clinic.server.tls_port}/docs/runbooks/")
            async with http.get(link, ssl=False) as answer:
                text = await answer.text()
                assert (answer.status, f"<h1>{link.rpartition('/')[2]}</h1>" in text) == (200, True), link
