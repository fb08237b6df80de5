"""Confined agents: the real CLI works as ever, and finds nothing of the server's."""

import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.claude import require_claude
from tests.harness.follow import alive, until
from tests.harness.recorder import RecordingModel, system
from tests.harness.repository import git, repository
from tests.harness.scene import Scene, init_of, is_over, one_said_by_cli, scene, sleeper, texts
from tests.harness.server import running_server
from tests.harness.tool import require_tool

from pocket_agent.client import Backoff
from pocket_agent.demo.demo_process import child_environment
from pocket_agent.model import ExecuteOptions
from pocket_agent.protocol.requests import WorktreeRequest

BASH = ExecuteOptions(allowed_tools=("Bash",))
SLEEP = "demo:bash=touch begun.txt; sleep 600"
SCOPE = ("systemd-run", *(() if os.geteuid() == 0 else ("--user",)), "--scope", "--quiet", "--collect")
GIT = "git -c user.name=a -c user.email=a@b"


@contextlib.asynccontextmanager
async def confined(folder: Path, mode: str, model: RecordingModel | None = None, **env: str) -> AsyncIterator[Scene]:
    """Two clients on a project with a hook and an MCP server, whose agent is the real CLI."""
    binary, bwrap = require_claude(), require_tool("bwrap")
    home, project = folder / "claude-home", folder / "project"
    home.mkdir()
    (project / ".claude").mkdir(parents=True)
    hooks = {"SessionStart": [{"hooks": [{"type": "command", "command": "touch ran-hook"}]}]}
    (project / ".claude" / "settings.json").write_text(json.dumps({"hooks": hooks}))
    servers = {"planted": {"command": "/bin/sh", "args": ["-c", "touch ran-server"]}}
    (project / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))
    model = model or RecordingModel()
    known = {
        "PA_CLAUDE_BINARY": str(binary),
        "PA_CLAUDE_CONFINEMENT": mode,
        "PATH": f"{bwrap.parent}:{os.environ['PATH']}",
        **child_environment(await model.start(), home),
        **env,
    }
    try:
        async with running_server(folder, env=known) as server, scene(server, project) as here:
            yield here
    finally:
        await model.stop()


def look(data: Path, server: int) -> str:
    """A command that tries to get at the server's data, by path and by way of its process."""
    ways = [f"{data}", *(f"/proc/{server}/{name}" for name in ("environ", "fd/1", f"root{data}", "cwd/"))]
    return f"demo:bash=({GIT} init; {GIT} commit --allow-empty -m one; echo ---; ls -A {' '.join(ways)}; " + (
        "cat " + " ".join([f"{data}/pocket-agent.db", *ways[1:3]]) + "; mktemp) > seen.txt 2>&1"
    )


async def test_an_agent_in_a_worktree_commits_where_only_its_project_can_be_written(tmp_path: Path) -> None:
    async with confined(tmp_path, "project") as here:
        repository(here.folder)
        made = await here.first.create_conversation(here.project_id, worktree=WorktreeRequest(branch="mine"))
        assert isinstance(made.conversation_id, str)
        async with here.first.subscribe(made.conversation_id) as stream:
            prompt = f"demo:bash={GIT} commit --allow-empty -m from-the-agent"
            await here.first.execute(made.conversation_id, prompt, options=BASH)
            await until(stream, "project_state", state="EXECUTING")
            await until(stream, "project_state", state="IDLE")
        assert git(here.folder, "log", "-1", "--format=%s", "mine") == "from-the-agent"
        await here.first.delete_conversation(made.conversation_id, discard=True)


@pytest.mark.parametrize("mode", ["data", "project"])
async def test_hooks_servers_git_and_tools_work_and_the_servers_data_is_not_there(tmp_path: Path, mode: str) -> None:
    async with confined(tmp_path, mode, SECRET_OF_SERVER="known-to-the-server") as here:
        process = here.server.process
        assert process is not None
        first = await here.run(look(here.server.data_dir, process.pid), BASH)
        (agent,) = here.server.agents()
        again = await here.run("demo:text twice", BASH)
        assert init_of(again)["session_id"] == init_of(first)["session_id"]
        assert here.server.agents() == [agent], "the process stays warm"
        assert (await here.first.health()).checks["claude"].message is None
    folder = here.folder
    assert {path.name for path in folder.glob("ran-*")} == {"ran-hook", "ran-server"}
    made, _, seen = (folder / "seen.txt").read_text("utf-8").partition("---")
    assert "one" in made
    assert (folder / ".git" / "HEAD").exists()
    for secret in ("known-to-the-server", "SQLite", "pocket-agent.db-wal", "spool"):
        assert secret not in seen.replace(f"{here.server.data_dir}/pocket-agent.db: No such", ""), seen
    assert "/tmp" in seen.splitlines()[-1], "temporary files can be made"
    assert list((tmp_path / "claude-home" / ".claude" / "projects").rglob("*.jsonl")), "the session can be resumed"


@pytest.mark.parametrize("mode", ["data", "project"])
async def test_it_outlives_the_server_and_is_interrupted_and_killed_by_the_next(tmp_path: Path, mode: str) -> None:
    async with confined(tmp_path, mode) as here:
        server = here.server
        receipt = await here.first.execute(here.project_id, SLEEP, options=BASH)
        await until(here.one, "prompt", execution_id=receipt.execution_id)
        (agent,) = server.agents()
        tool = await sleeper(agent)
        await server.kill()
        await server.start()
        assert server.agents() == [agent]
        quick = Backoff(initial=0.01, maximum=0.1)
        async with server.client(backoff=quick) as client, client.subscribe(here.project_id) as stream:
            await client.interrupt(here.project_id)
            seen = await until(stream, "project_state", state="IDLE")
            assert one_said_by_cli(seen, "result")["terminal_reason"] == "aborted_tools"
            await is_over(tool)
            receipt = await client.execute(here.project_id, "demo:text after it", options=BASH)
            await until(stream, "prompt", execution_id=receipt.execution_id)
            assert "a plain answer" in texts(await until(stream, "project_state", state="IDLE"))
            assert server.agents() == [agent]
            await client.execute(here.project_id, SLEEP, options=BASH)
            tool = await sleeper(agent)
            await client.kill(here.project_id)
        assert not any(alive(process) for process in (agent, tool))


@pytest.mark.parametrize("by", ["rlimit", "systemd"])
@pytest.mark.parametrize("mode", ["data", "project"])
async def test_texts_by_descriptors_reach_a_confined_agent_which_the_next_server_adopts(
    tmp_path: Path, mode: str, by: str
) -> None:
    """Also in a scope of systemd, which is around bwrap."""
    if by == "systemd" and subprocess.run([*SCOPE, "true"], capture_output=True, check=False).returncode:  # noqa: ASYNC221 - before anything runs
        pytest.skip("a systemd that makes scopes")
    servers = {"given": {"command": "/bin/sh", "args": ["-c", "touch ran-given"]}}
    options = ExecuteOptions(
        allowed_tools=("Bash",),
        append_system_prompt="PLUM-SECRET",
        mcp_config=json.dumps({"mcpServers": servers}),
        strict_mcp_config=True,
    )
    model = RecordingModel()
    limits = {"PA_CLAUDE_LIMITS_BY": by, "PA_CLAUDE_LIMITS_PROCESSES": "5000"}
    async with confined(tmp_path, mode, model, **limits) as here:
        server = here.server
        receipt = await here.first.execute(here.project_id, SLEEP, options=options)
        await until(here.one, "prompt", execution_id=receipt.execution_id)
        (agent,) = server.agents()
        tool = await sleeper(agent)
        assert (here.folder / "ran-given").exists()
        assert any("PLUM-SECRET" in system(body) for body in model.bodies)
        groups = Path(f"/proc/{agent.pid}/cgroup").read_text("utf-8")
        assert (".scope" in groups.splitlines()[-1]) == (by == "systemd"), groups
        await server.kill()
        await server.start()
        assert server.agents() == [agent]
        async with server.client() as client:
            await client.kill(here.project_id)
        assert not any(alive(process) for process in (agent, tool))


async def test_what_is_asked_for_and_not_possible_keeps_the_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bwrap").write_text("#!/bin/sh\necho No permissions to create a namespace >&2; exit 1\n")
    (tmp_path / "bin" / "bwrap").chmod(0o700)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    with pytest.raises(AssertionError, match=r"confinement: data is not possible: bubblewrap does not work here"):
        async with running_server(tmp_path, env={"PATH": path, "PA_CLAUDE_CONFINEMENT": "data"}):
            pass
    async with running_server(tmp_path / "default", env={"PATH": path}) as server, server.client() as client:
        assert (await client.health()).checks["claude"].message == "Agents are not confined (claude.confinement)."
        assert "Agents are not confined: bubblewrap does not work here: No permissions" in server.log
