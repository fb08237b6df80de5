"""`pocket-agent resume`: from the server to the terminal, with all turns."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, follow
from tests.harness.recorder import RecordingModel, said
from tests.harness.repository import repository
from tests.harness.scene import is_over, scene
from tests.harness.server import ServerProcess, running_server
from tests.harness.sessions import Machine, name_of
from tests.harness.standin import SESSION
from tests.harness.terminal import in_terminal, prepare_home

from pocket_agent.demo.demo_process import child_environment


async def run(data_dir: Path, environment: Mapping[str, str], *arguments: str, folder: Path) -> tuple[int | None, str]:
    """The exit status and the output of `pocket-agent resume`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pocket_agent.cli", "resume", f"--data-dir={data_dir}", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], **environment},
        cwd=folder,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.parametrize("named", ["by its directory", "by its id"])
async def test_a_conversation_goes_on_in_the_terminal(tmp_path: Path, folder: Path, named: str) -> None:
    home = tmp_path / "user"
    prepare_home(home, folder)
    model = RecordingModel()
    environment = child_environment(await model.start(), home)
    env = {"PA_CLAUDE_BINARY": str(require_claude()), **environment}
    try:
        async with running_server(tmp_path / "server", env=env) as server:
            settings = {**env, "PA_SERVER_PORT": str(server.port), "PA_SERVER_TLS_ENABLED": "false"}
            target = str(folder)
            assert (await run(server.data_dir, settings, folder=folder))[0] == 1  # it is no project yet
            async with scene(server, folder) as here:
                await here.run("demo:text a quince")
                (agent,) = server.agents()
                project = (await here.first.projects())[0]
                if named == "by its id":
                    target = project.id
                    await here.second.new_session(here.project_id)
                    await here.run("demo:text a medlar")
                    status, text = await run(server.data_dir, settings, "--print", folder=folder)
                    assert (status, "several sessions" in text) == (1, True), text
                    (agent,) = server.agents()
                session = (await here.first.projects())[0].session_id
                flags = ["--print", target]
                status, text = await run(server.data_dir, settings, *flags, folder=tmp_path)
                assert (status, text) == (0, f"cd {folder} && claude --resume={session}\n"), text
                await eventually(lambda: not agent.is_running() or agent.status() == "zombie", "the agent has ended")
                argv = [sys.executable, "-m", "pocket_agent.cli", "resume", f"--data-dir={server.data_dir}", target]
                async with in_terminal(argv, tmp_path, home, settings) as terminal:
                    await terminal.prompt("demo:text a rowan")
                    await eventually(lambda: bool(model.saw("a rowan")), "the model is asked")
                    assert terminal.session_id == session
                    status, text = await run(server.data_dir, settings, *flags, folder=tmp_path)
                    assert (status, "Another terminal" in text) == (1, True), text
        before = "a medlar" if named == "by its id" else "a quince"
        assert before in said(model.saw("a rowan")[0])
    finally:
        await model.stop()


def settings_of(server: ServerProcess) -> dict[str, str]:
    """The settings with which a command finds the server and its agents."""
    return {
        "PA_CLAUDE_BINARY": server.env["PA_CLAUDE_BINARY"],
        "PA_SERVER_PORT": str(server.port),
        "PA_SERVER_TLS_ENABLED": "false",
    }


async def test_the_conversation_that_has_the_session_is_the_one_that_ends(
    standin_server: ServerProcess, folder: Path
) -> None:
    server = standin_server
    machine = Machine(server.home / ".claude", folder)
    settings = settings_of(server)
    async with server.client() as client:
        project = await client.create_project(str(folder))
        begun = await client.request("conversation_create", {}, project_id=project.id)
        other = str(json.loads(begun.payload)["conversation_id"])
        async with client.subscribe(other, since=0) as stream:
            await client.execute(other, "hello")
            await follow(stream, lambda frame: frame.data.get("type") == "result")
    machine.write(machine.prompt("hello")).rename(machine.path().with_name(f"{SESSION}.jsonl"))
    machine.write(machine.prompt("of another"), number=2)
    (agent,) = server.agents()
    status, text = await run(server.data_dir, settings, "--print", other, folder=folder.parent)
    assert (status, text) == (0, f"cd {folder} && claude --resume={SESSION}\n"), text
    await is_over(agent)
    shown = folder.parent / "shown"
    shown.write_text('#!/bin/sh\necho "$CLAUDE_CONFIG_DIR $@"\n')
    shown.chmod(0o700)
    settings |= {"PA_CLAUDE_BINARY": str(shown), "PA_CLAUDE_ENVIRONMENT": '{"CLAUDE_CONFIG_DIR": "/sessions"}'}
    status, text = await run(server.data_dir, settings, other, folder=folder)
    assert (status, text) == (0, f"/sessions --resume={SESSION}\n"), "where the server's agents keep their sessions"


async def test_the_directory_of_a_worktree_means_its_conversation(standin_server: ServerProcess, folder: Path) -> None:
    server = standin_server
    repository(folder)
    settings = settings_of(server)
    async with server.client() as client:
        project = await client.create_project(str(folder))
        begun = await client.request("conversation_create", {"worktree": {}}, project_id=project.id)
        state = json.loads(begun.payload)
        async with client.subscribe(state["conversation_id"], since=0) as stream:
            await client.execute(state["conversation_id"], "hello")
            await follow(stream, lambda frame: frame.data.get("type") == "result")
    machine = Machine(server.home / ".claude", Path(state["path"]))
    machine.write(machine.prompt("of another"), number=2)
    machine.write(machine.prompt("hello")).rename(machine.path().with_name(f"{SESSION}.jsonl"))
    (inside := machine.project / "inside").mkdir()
    for place, target in ((inside, ()), (folder.parent, (str(machine.project),))):
        status, text = await run(server.data_dir, settings, "--print", *target, folder=place)
        assert (status, text) == (0, f"cd {machine.project} && claude --resume={SESSION}\n"), text


async def test_sessions_that_cannot_be_resumed_as_they_are(standin_server: ServerProcess, folder: Path) -> None:
    """A title with control characters, a directory that is gone, and a conversation without a session."""
    server = standin_server
    machine = Machine(server.home / ".claude", folder)
    gone = folder / "gone"
    machine.write(machine.prompt("one \x1b[2Jtwo \x9b2J\u202ethree"))
    machine.write(machine.prompt("begun elsewhere", gone), number=2, directory=gone)
    settings = settings_of(server)
    async with server.client() as client:
        project = await client.create_project(str(folder))
        begun = await client.request("conversation_create", {}, project_id=project.id)
    other = str(json.loads(begun.payload)["conversation_id"])
    status, text = await run(server.data_dir, settings, "--session", name_of(2), folder=folder)
    assert (status, f"{gone} does not exist" in text, "Traceback" in text) == (1, True, False), text
    status, text = await run(server.data_dir, settings, "--print", other, folder=folder)
    assert (status, "has no session yet" in text) == (1, True), text
    argv = [sys.executable, "-m", "pocket_agent.cli", "resume", f"--data-dir={server.data_dir}"]
    async with in_terminal(argv, folder, server.home, settings) as terminal:
        await terminal.shows("one \u241b[2Jtwo <U+009B>2J<U+202E>three")
