"""An agent that misbehaves: it ends early, prints what it must not, does not listen, or leaves things behind."""

import asyncio
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import (
    alive,
    end_of,
    entry_types,
    eventually,
    follow,
    is_result,
    lines,
    numbers,
    run,
    stored,
    until,
    until_line,
)
from tests.harness.server import STANDIN, ServerProcess, running_server, write_standin

from pocket_agent.client import Client, Frame, Subscription
from pocket_agent.errors import ClaudeNotFoundError, ValidationError
from pocket_agent.protocol.push import ProjectStateData
from pocket_agent.storage.database import database_path

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Scene:
    """A project of its own on a server that the tests of this module share."""

    server: ServerProcess
    client: Client
    stream: Subscription
    folder: Path

    async def run(self, prompt: str) -> list[Frame]:
        """Give a prompt and follow it to its end."""
        return await run(self.client, self.stream, prompt)

    async def state(self) -> ProjectStateData:
        """The project as it is now."""
        (found,) = [found for found in await self.client.projects() if found.id == self.stream.project_id]
        return found

    def family(self) -> list[psutil.Process]:
        """The project's CLI process, and all that it has started."""
        (agent,) = [process for process in self.server.agents() if process.cwd() == str(self.folder)]
        return [agent, *agent.children(recursive=True)]

    async def start(self, prompt: str) -> str:
        """Give a prompt whose first line is numbered, and wait for that."""
        receipt = await self.client.execute(self.stream.project_id, prompt, timeout=DEADLINE_SECONDS)
        await until_line(self.stream, 1)
        return receipt.execution_id


@asynccontextmanager
async def scene_on(server: ServerProcess, folder: Path) -> AsyncIterator[Scene]:
    """A new project, followed from its beginning."""
    folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(server.client())
        project = await client.create_project(str(folder))
        stream = await stack.enter_async_context(client.subscribe(project.id, 0))
        yield Scene(server, client, stream, folder)


UNASKED = {"PA_EXECUTIONS_RESUME_INTERRUPTED": "never"}
"""An execution whose process is lost ends in an error; `test_conversation_pause.py` has the other ways."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    """One server for the tests that leave it alone."""
    folder = tmp_path_factory.mktemp("shared")
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(folder)),
        "PA_CLAUDE_TERMINATE_GRACE": "1s",
        "PA_CLAUDE_INTERRUPT_GRACE": "1s",
        "PA_CLAUDE_MAX_LINE": "1MiB",
        **UNASKED,
    }
    async with running_server(folder, env=env) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def scene(shared_server: ServerProcess, tmp_path: Path) -> AsyncIterator[Scene]:
    """A project of the test's own."""
    async with scene_on(shared_server, tmp_path / "project") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def own_server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server for a test that kills it, or replaces its CLI."""
    async with running_server(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), **UNASKED}) as server:
        yield server


def failure(frames: list[Frame]) -> dict[str, object]:
    """The data of the only `error` entry, after which the project is in ERROR."""
    assert frames[-1].data["state"] == "ERROR"
    (error,) = [frame for frame in frames if frame.type == "error"]
    assert error.offset is not None
    return error.data


async def works(scene: Scene) -> None:
    """The next prompt is carried out, once and whole."""
    frames = await scene.run("lines 3")
    assert frames[-1].data["state"] == "IDLE"
    assert entry_types(frames) == ["agent_message/system", *["agent_message/user"] * 3, "agent_message/result"]


async def test_it_exits_early(scene: Scene) -> None:
    error = failure(await scene.run("lines 2 stderr out-of-cheese exit 7"))
    assert error["code"] == "EXECUTION_FAILED"
    assert "exit code 7" in str(error["message"])
    assert isinstance(error["details"], dict)
    assert error["details"]["stderr"] == "out-of-cheese"
    await works(scene)


async def test_it_crashes(scene: Scene) -> None:
    frames = await scene.run("lines 2 crash")
    assert numbers(frames) == [1, 2]
    error = failure(frames)
    assert error["code"] == "EXECUTION_FAILED"
    assert f"{-signal.SIGSEGV}" in str(error["message"])
    await works(scene)


async def test_it_exits_with_0_and_without_a_result(scene: Scene) -> None:
    error = failure(await scene.run("lines 2 exit 0"))
    assert error["code"] == "EXECUTION_FAILED"
    assert "exit code 0" in str(error["message"])
    await works(scene)


async def test_it_prints_garbage(scene: Scene) -> None:
    frames = await scene.run("lines 1 garbage lines 1")
    assert frames[-1].data["state"] == "IDLE"
    errors = [frame.data for frame in frames if frame.type == "error"]
    assert [error["code"] for error in errors] == ["INVALID_MESSAGE"] * 4
    assert errors[0]["details"]["excerpt"] == "not json"
    assert entry_types(frames) == [
        "agent_message/system",
        "agent_message/user",
        *["error"] * 4,
        "agent_message/user",
        "agent_message/result",
    ]


async def test_it_prints_a_line_of_100_megabytes(scene: Scene) -> None:
    assert scene.server.process is not None
    server = psutil.Process(scene.server.process.pid)
    before = server.memory_info().rss
    frames = await scene.run("lines 1 long 100000000 lines 1")
    assert frames[-1].data["state"] == "IDLE"
    (error,) = [frame.data for frame in frames if frame.type == "error"]
    assert error["code"] == "RESOURCE_LIMIT"
    assert "claude.max_line" in error["message"]
    assert numbers(frames) == [1, 1]
    assert server.memory_info().rss - before < 32 * 2**20


async def test_it_ignores_sigterm(scene: Scene) -> None:
    execution_id = await scene.start("stubborn child lines 1 sleep 600")
    family = scene.family()
    assert len(family) == 2
    assert (await scene.client.kill(scene.stream.project_id)).execution_id == execution_id
    assert not any(alive(process) for process in family)
    frames = await until(scene.stream, "project_state", state="IDLE")
    assert "process_killed" in entry_types(frames)
    await works(scene)


async def test_it_leaves_children_when_it_is_killed(scene: Scene) -> None:
    await scene.start("child detached lines 1 sleep 600")
    family = scene.family()
    assert len(family) == 3
    await scene.client.kill(scene.stream.project_id)
    assert not any(alive(process) for process in family)


@pytest.mark.parametrize("end", ["exit 0", "exit 1", "crash", "leave"])
async def test_it_leaves_children_when_it_ends(scene: Scene, end: str) -> None:
    await scene.client.execute(scene.stream.project_id, f"child detached lines 1 ask Bash {end}")
    asked = (await until(scene.stream, "approval_requested"))[-1]
    family = scene.family()
    assert len(family) == 3
    await scene.client.approve(scene.stream.project_id, asked.data["approval_id"])
    await eventually(lambda: not any(alive(process) for process in family), "all are gone")


async def test_it_ends_after_each_result(scene: Scene) -> None:
    """Also when the next prompt comes before the end of its process was noticed: it runs once."""
    seen: list[Frame] = []
    for number in range(10):
        frames = await scene.run(f"lines 2 word-{number} leave")
        assert frames[-1].data["state"] == "IDLE", frames[-1]
        seen += frames
    said = [frame.payload for frame in seen if frame.offset is not None and b'"assistant"' in frame.payload]
    assert len(said) == 10
    assert all(b"word-%d" % number in text for number, text in enumerate(said))


async def test_it_ends_after_each_result_with_a_queue(scene: Scene) -> None:
    receipts = [await scene.client.execute(scene.stream.project_id, f"lines 2 word-{n} leave") for n in range(5)]
    for number, receipt in enumerate(receipts):
        frames = await end_of(scene.stream, receipt.execution_id)
        assert numbers(frames) == [1, 2]
        said = [b"word-%d" % number in frame.payload for frame in frames if frame.offset is not None]
        assert said.count(True) == 1
        assert not [frame.data for frame in frames if frame.type == "error"]


async def test_it_prints_a_result_for_nobody(scene: Scene, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    await scene.run(f"after metered {gate} 1 result lines 2")
    gate.write_bytes(b"1")
    frames = await until_line(scene.stream, 2)
    said = [f"agent_message/{kind}" for kind in ("user", "result", "user", "user")]
    assert entry_types(frames) == said, "the first is of the gate"
    assert (await scene.state()).state == "IDLE"
    await works(scene)


async def test_it_prints_after_its_result(scene: Scene) -> None:
    await scene.client.execute(scene.stream.project_id, "lines 1 after lines 50")
    assert numbers(await until_line(scene.stream, 50)) == [1, *range(1, 51)]
    assert (await scene.state()).state == "IDLE"
    await works(scene)


async def test_it_ends_while_an_approval_waits(scene: Scene) -> None:
    receipt = await scene.client.execute(scene.stream.project_id, "ask Bash")
    await until(scene.stream, "approval_requested")
    (agent,) = scene.family()
    agent.kill()
    frames = await until(scene.stream, "project_state", state="ERROR")
    assert entry_types(frames) == ["approval_cancelled", "error"]
    error = failure(frames)
    assert error["code"] == "EXECUTION_FAILED"
    assert isinstance(error["details"], dict)
    assert error["details"]["execution_id"] == receipt.execution_id
    assert frames[-1].data["pending_approvals"] == 0
    await works(scene)


async def test_it_is_stopped_and_killed(scene: Scene) -> None:
    """SIGSTOP: a process that is not scheduled ends all the same."""
    await scene.start("lines 1 sleep 600")
    (agent,) = scene.family()
    agent.suspend()
    await scene.client.kill(scene.stream.project_id)
    assert not alive(agent)
    await works(scene)


async def test_it_does_not_listen_to_an_interrupt(scene: Scene) -> None:
    await scene.start("mute stubborn lines 1 sleep 600")
    (agent,) = scene.family()
    await scene.client.interrupt(scene.stream.project_id)
    frames = await follow(
        scene.stream, lambda frame: frame.type == "project_state" and frame.data["state"] != "EXECUTING"
    )
    assert frames[-1].data["state"] == "IDLE"
    assert not alive(agent)
    await works(scene)


async def test_it_answers_no_control_request(own_server: ServerProcess, tmp_path: Path) -> None:
    await own_server.kill()
    program = tmp_path / "mute"
    program.write_text(f'#!/bin/sh\nSTANDIN_MUTE=1 exec "{sys.executable}" -S "{STANDIN}" "$@"\n')
    program.chmod(0o700)
    own_server.env["PA_CLAUDE_BINARY"] = str(program)
    await own_server.start()
    async with scene_on(own_server, tmp_path / "project") as scene:
        await works(scene)
        (agent,) = own_server.agents()
        with pytest.raises(ValidationError):
            await scene.client.set_model(scene.stream.project_id, "opus")
        await works(scene)
        assert own_server.agents() == [agent]


async def test_it_is_missing_and_comes_back(own_server: ServerProcess, tmp_path: Path) -> None:
    program = Path(own_server.env["PA_CLAUDE_BINARY"])
    async with scene_on(own_server, tmp_path / "project") as scene:
        program.rename(tmp_path / "elsewhere")
        with pytest.raises(ClaudeNotFoundError, match="PA_CLAUDE_BINARY"):
            await scene.client.execute(scene.stream.project_id, "lines 1")

        async def shows() -> bool:
            health = await scene.client.health()
            return health.status == "degraded" and not health.claude.available

        await eventually(shows, "the health of the server shows that it is missing")  # it looks every few seconds
        assert (await scene.client.messages(scene.stream.project_id)).messages == []
        (tmp_path / "elsewhere").rename(program)
        await works(scene)


async def test_it_is_missing_when_a_queued_prompt_is_due(own_server: ServerProcess, tmp_path: Path) -> None:
    """The prompt keeps its place until the CLI is back."""
    program = Path(own_server.env["PA_CLAUDE_BINARY"])
    async with scene_on(own_server, tmp_path / "project") as scene:
        await scene.client.execute(scene.stream.project_id, "ask Bash leave")
        asked = (await until(scene.stream, "approval_requested"))[-1]
        queued = await scene.client.execute(scene.stream.project_id, "lines 3")
        assert queued.status == "queued"
        program.rename(tmp_path / "elsewhere")
        await scene.client.approve(scene.stream.project_id, asked.data["approval_id"])
        told = (await until(scene.stream, "error", code="CLAUDE_NOT_FOUND"))[-1]
        assert told.offset is None
        (tmp_path / "elsewhere").rename(program)
        assert numbers(await end_of(scene.stream, queued.execution_id)) == [1, 2, 3]


async def test_it_is_replaced_by_a_newer_version(own_server: ServerProcess, tmp_path: Path) -> None:
    program = Path(own_server.env["PA_CLAUDE_BINARY"])
    newer = tmp_path / "newer"
    newer.write_text(f'#!/bin/sh\nSTANDIN_VERSION=9.10.0 exec "{sys.executable}" -S "{STANDIN}" --newer "$@"\n')
    newer.chmod(0o700)
    async with scene_on(own_server, tmp_path / "project") as scene:
        frames = await scene.run("lines 1 leave")
        assert "--newer" not in frames[1].data["argv"]
        assert (await scene.client.health()).claude.version == "9.9.9"
        newer.replace(program)
        frames = await scene.run("lines 1")
        init = next(frame.data for frame in frames if frame.data.get("subtype") == "init")
        assert "--newer" in init["argv"]

        async def is_new() -> bool:
            return (await scene.client.health()).claude.version == "9.10.0"

        await eventually(is_new, "the health check tells the new version")


async def test_it_ends_while_the_server_is_down(own_server: ServerProcess, tmp_path: Path) -> None:
    meter = tmp_path / "meter"
    meter.write_bytes(bytes(10))
    async with scene_on(own_server, tmp_path / "project") as scene:
        await scene.client.execute(scene.stream.project_id, f"child metered {meter} 1000")
        await until_line(scene.stream, 10)
        family = scene.family()
        agent = family[0]
        await own_server.kill()
        meter.write_bytes(bytes(500))
        (spool,) = (own_server.data_dir / "spool").glob("*.out")
        await eventually(lambda: b'"number": 500,' in spool.read_bytes(), "it writes on")
        agent.kill()
        await eventually(lambda: not alive(agent), "it is gone")
        await own_server.start()
        frames = await until(scene.stream, "error", code="EXECUTION_FAILED")
        log = await stored(scene.client, scene.stream.project_id)
        assert numbers(frames) == list(range(11, 501))
        assert lines(frames) == log[-491:]
        assert (await scene.state()).state == "ERROR"
        assert not any(alive(process) for process in family)
        await works(scene)


async def test_it_finishes_while_the_server_is_down(own_server: ServerProcess, tmp_path: Path) -> None:
    """A run that ended well counts as one, even if its process is gone too."""
    meter = tmp_path / "meter"
    meter.touch()
    async with scene_on(own_server, tmp_path / "project") as scene:
        receipt = await scene.client.execute(scene.stream.project_id, f"lines 1 metered {meter} 500 leave")
        await until_line(scene.stream, 1)
        (agent,) = own_server.agents()
        await own_server.kill()
        meter.write_bytes(bytes(500))
        await eventually(lambda: not alive(agent), "it has ended")
        await own_server.start()
        frames = await follow(scene.stream, is_result)
        assert numbers(frames) == list(range(1, 501))
        assert (await scene.state()).state == "IDLE"
        log = await stored(scene.client, scene.stream.project_id)
        assert lines(frames) == log[-501:]
        assert receipt.status == "started"
        await works(scene)


async def test_the_machine_reboots(own_server: ServerProcess, tmp_path: Path) -> None:
    """After a reboot the recorded pid is somebody else's: it is neither adopted nor harmed."""
    async with scene_on(own_server, tmp_path / "project") as scene:
        await scene.start("lines 1 sleep 600")
        (agent,) = own_server.agents()
        await own_server.kill()
        agent.kill()
        stranger = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
        try:
            with closing(sqlite3.connect(database_path(own_server.data_dir))) as database, database:
                database.execute("UPDATE process SET pid = ?, boot_id = 'another boot'", (stranger.pid,))
            await own_server.start()
            await until(scene.stream, "error", code="EXECUTION_FAILED")
            await works(scene)
            assert alive(psutil.Process(stranger.pid))
            assert stranger.pid not in [process.pid for process in own_server.agents()]
        finally:
            stranger.kill()
            await stranger.wait()


async def test_its_output_is_gone(own_server: ServerProcess, tmp_path: Path) -> None:
    """Somebody cleaned up the spool while the server was down: an error, and the process does not stay."""
    async with scene_on(own_server, tmp_path / "project") as scene:
        await scene.start("lines 1 sleep 600")
        (agent,) = own_server.agents()
        await own_server.kill()
        for file in (own_server.data_dir / "spool").iterdir():
            file.unlink()
        await own_server.start()
        await until(scene.stream, "error", code="EXECUTION_FAILED")
        await eventually(lambda: not alive(agent), "it is ended")
        await works(scene)
