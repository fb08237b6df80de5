"""The server is killed, or stopped, and started again: neither the agent nor a client misses anything."""

import asyncio
from pathlib import Path

import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually, follow, lines, stored, until
from tests.harness.raw import CLOSE, raw_client
from tests.harness.scene import Scene, init_of, is_over, rest, said_by_cli, scene, state_after
from tests.harness.server import ServerProcess

from pocket_agent.client import Client, Frame


async def restart(server: ServerProcess) -> None:
    """kill -9 and start again."""
    await server.kill()
    await server.start()


async def play(here: Scene, point: str) -> list[list[Frame]]:
    """Two prompts, one with a tool that the second client allows; the server is killed at `point`.

    Returns:
        What the first and the second client have been given in all.
    """
    server, project_id = here.server, here.project_id
    # More than a moment, so that the tool and the answer are under way when the server dies.
    await here.first.execute(project_id, "demo:bash=touch made.txt; sleep 1", prompt_id="tool")
    last = await here.first.execute(project_id, "demo:slow=1500ms", prompt_id="answer")
    if point == "after the prompt":
        await restart(server)
    two = await until(here.two, "approval_requested")
    if point == "before the approval":
        await restart(server)
    await here.second.approve(project_id, two[-1].data["approval_id"])
    if point == "during the tool":
        await eventually((here.folder / "made.txt").exists, "the tool runs")
        await restart(server)
    two += await until(here.two, "prompt", execution_id=last.execution_id)
    two += await follow(here.two, lambda frame: frame.data.get("event", {}).get("type") == "content_block_delta")
    if point == "during the answer":
        await restart(server)
    two += await rest(here.two, last.execution_id)
    one = await until(here.one, "prompt", execution_id=last.execution_id)
    one += await rest(here.one, last.execution_id)
    return [one, two]


@pytest.mark.parametrize("point", ["after the prompt", "before the approval", "during the tool", "during the answer"])
async def test_kill_9_loses_nothing(demo_server: ServerProcess, folder: Path, point: str) -> None:
    async with scene(demo_server, folder) as here:
        await here.run("demo:text")
        agent = demo_server.agent(here.project_id)
        seen = await play(here, point)
        log = await stored(here.first, here.project_id)
        assert [line.offset for line in log] == list(range(1, len(log) + 1))
        assert lines(seen[1]) == log
        assert lines(seen[0]) == [line for line in log if line.offset >= lines(seen[0])[0].offset]
        assert lines(seen[0])[0].type == "prompt"
        assert demo_server.agent(here.project_id) == agent, "the agent went on, and was adopted"
        results = said_by_cli(seen[1], "result")
        assert [line["is_error"] for line in results] == [False] * 3
        assert results[-1]["result"].split() == [f"{number:05}" for number in range(1, 16)]
        assert [state_after(frames) for frames in seen] == ["IDLE", "IDLE"]
        # Nothing ran twice, and asking for it again does not run it again.
        assert [frame.data["prompt"] for frame in seen[1] if frame.type == "prompt"][1:] == [
            "demo:bash=touch made.txt; sleep 1",
            "demo:slow=1500ms",
        ]
        again = await here.second.execute(here.project_id, "demo:slow=1500ms", prompt_id="answer")
        assert again.status == "started"
        assert await stored(here.first, here.project_id) == log
    assert (folder / "made.txt").exists()


async def test_a_graceful_stop_leaves_the_work_and_ends_what_idles(
    demo_server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "idle").mkdir()
    async with scene(demo_server, folder) as here, scene(demo_server, tmp_path / "idle") as other:
        session = init_of(await other.run("demo:text"))["session_id"]
        idle = demo_server.agent(other.project_id)
        receipt = await here.first.execute(here.project_id, "demo:bash=touch made.txt", prompt_id="once")
        seen = await until(here.one, "approval_requested")
        working = demo_server.agent(here.project_id)

        async with raw_client(demo_server) as raw:
            stopping = asyncio.ensure_future(demo_server.stop())
            async with asyncio.timeout(DEADLINE_SECONDS):
                while (frame := await raw.frame()) is not None and frame.opcode != CLOSE:
                    pass
            assert frame is not None
            assert frame.close_code == 1001
            await raw.send(frame.payload, CLOSE)
        assert await stopping == 0
        assert working.is_running()
        await is_over(idle)

        await demo_server.start()
        again = await here.second.execute(here.project_id, "demo:bash=touch made.txt", prompt_id="once")
        assert again.execution_id == receipt.execution_id
        assert demo_server.agent(here.project_id) == working
        await here.second.approve(here.project_id, seen[-1].data["approval_id"])
        seen += await rest(here.one, receipt.execution_id)
        assert lines(seen) == await stored(here.first, here.project_id)
        assert init_of(await other.run("demo:text"))["session_id"] == session
    assert (folder / "made.txt").exists()


async def test_a_stop_with_clients_connected_exits_0_and_they_come_back(
    demo_server: ServerProcess, folder: Path
) -> None:
    async with scene(demo_server, folder) as here, Client(demo_server.url, token=demo_server.token) as quiet:
        for _ in range(2):
            assert await demo_server.stop() == 0
            await demo_server.start()
            assert state_after(await here.run("demo:text")) == "IDLE"
            assert [project.id for project in await quiet.projects()] == [here.project_id]
        assert "Traceback" not in demo_server.log
