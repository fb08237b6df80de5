"""pocket_agent.monitoring.doctor.agent: a CLI that is missing, old or hangs, and one that nobody is logged in to."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from pocket_agent.claude import installation
from pocket_agent.monitoring.doctor.machine_checks import check_agent
from pocket_agent.monitoring.doctor.result import Context
from pocket_agent.settings import load_settings
from tests.harness.claude import require_claude
from tests.harness.clinic import Findings
from tests.harness.server import write_standin


async def look(
    binary: Path | None,
    home: Path,
    *candidates: Path,
    demo: bool = False,
    path: str = "",
    data: Path = Path("/data"),
    **further: str,
) -> Findings:
    """What is found of a CLI."""
    flags = {"data.dir": data, "claude.binary": binary, "demo": demo or None}
    environment = {"HOME": str(home), "PATH": path, **further}
    loaded = load_settings(config=None, environ={"HOME": "/"}, flags=flags)
    return Findings(await check_agent(Context(loaded, environment, candidates)))


def program(folder: Path, body: str) -> Path:
    """A program of the shell."""
    file = folder / "claude"
    file.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    file.chmod(0o700)
    return file


async def test_one_that_answers(tmp_path: Path) -> None:
    findings = await look(write_standin(tmp_path), tmp_path, path=os.environ["PATH"])
    assert [(finding.name, finding.status) for finding in findings][:1] == [("claude", "ok")]


async def test_how_agents_are_confined(tmp_path: Path) -> None:
    standin, path = write_standin(tmp_path), os.environ["PATH"]
    program = tmp_path / "bin" / "bwrap"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    program.chmod(0o700)
    finding = (await look(standin, tmp_path, path=f"{program.parent}:{path}")).of("confinement")
    assert (finding.status, finding.message) == ("ok", "data (claude.confinement)")
    program.write_text("#!/bin/sh\necho No namespaces. >&2; exit 1")
    finding = (await look(standin, tmp_path, path=f"{program.parent}:{path}")).of("confinement")
    assert (finding.status, "not work here: No namespaces" in finding.message) == ("warning", True)
    assert "apt install bubblewrap" in finding.fix


async def test_it_is_found_where_the_server_finds_it(tmp_path: Path) -> None:
    standin = write_standin(tmp_path)
    assert (await look(None, tmp_path, standin, path=os.environ["PATH"])).of("claude").status == "ok"
    assert (await look(None, tmp_path)).of("claude").status == "failed"


async def test_a_missing_one(tmp_path: Path) -> None:
    finding = (await look(tmp_path / "none", tmp_path)).of("claude")
    assert (finding.status, finding.message) == ("failed", "claude.binary is not a program that can be run")
    assert "npm install" in finding.fix


async def test_one_that_is_too_old(tmp_path: Path) -> None:
    finding = (await look(program(tmp_path, "echo 1.0.0"), tmp_path)).of("claude")
    oldest = ".".join(map(str, installation.MINIMUM_VERSION))
    assert (finding.status, f"version 1.0.0; {oldest} or newer is needed" in finding.message) == ("failed", True)


async def test_one_with_known_vulnerabilities(tmp_path: Path) -> None:
    finding = (await look(program(tmp_path, "echo 2.1.179"), tmp_path, path=os.environ["PATH"])).of("claude")
    assert finding.status == "warning"
    assert "version 2.1.179: GHSA-gfvf-j8jh-jxxw (CVE-2026-103012): a stored" in finding.message
    assert "Update it to 2.1.260 or newer." in finding.fix


async def test_one_that_crashes(tmp_path: Path) -> None:
    finding = (await look(program(tmp_path, "exit 3"), tmp_path)).of("claude")
    assert (finding.status, "ends with exit code 3" in finding.message) == ("failed", True)
    assert "by hand" in finding.fix


async def test_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation.ask_version, "__kwdefaults__", {"seconds": 0.5})
    finding = (await look(program(tmp_path, "exec sleep 600"), tmp_path, path=os.environ["PATH"])).of("claude")
    assert (finding.status, "says nothing for 0.5 s" in finding.message) == ("failed", True)


async def test_the_real_one_without_a_login(tmp_path: Path) -> None:
    findings = await look(require_claude(), tmp_path, path=os.environ["PATH"])
    assert findings.of("claude").status == "ok"
    assert findings.of("claude login").status == "warning"


async def test_the_real_one_with_a_key(tmp_path: Path) -> None:
    findings = await look(require_claude(), tmp_path, path=os.environ["PATH"], ANTHROPIC_API_KEY="a-word")
    assert [finding.name for finding in findings] == ["claude", "confinement"]


async def test_the_demo_needs_no_login(tmp_path: Path) -> None:
    findings = await look(require_claude(), tmp_path, demo=True, path=os.environ["PATH"])
    assert [finding.name for finding in findings] == ["claude", "confinement"]


@pytest.mark.parametrize(("argument", "warned"), [("--demo", False), ("--no-tls", True)])
async def test_a_server_that_was_started_as_a_demo_needs_no_login(tmp_path: Path, argument: str, warned: bool) -> None:
    """The settings that doctor reads do not have the flags of `serve`."""
    holder = (
        "import os, sys; lock = open(sys.argv[1], 'w'); print(os.getpid(), file=lock, flush=True); print(); input()"
    )
    lock = tmp_path / "pocket-agent.db.lock"
    command = [sys.executable, "-u", "-c", holder, str(lock), argument]
    server = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert server.stdout is not None
    try:
        await server.stdout.readline()
        findings = await look(require_claude(), tmp_path, path=os.environ["PATH"], data=tmp_path)
    finally:
        server.kill()
        await server.wait()
    assert ("claude login" in {finding.name for finding in findings}) == warned
