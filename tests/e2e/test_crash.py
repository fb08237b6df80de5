"""The server is killed with -9 again and again: the agent goes on, and nothing is lost or doubled."""

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import alive, eventually, follow, is_result, lines, numbers, run, stored, until, until_line
from tests.harness.server import ServerProcess

from pocket_agent.client import Backoff, Client, Frame
from pocket_agent.storage.database import database_path, mark_path
from pocket_agent.storage.epoch import Mark

LINES_PER_KILL = 100
QUICK = Backoff(initial=0.01, maximum=0.1)


class Follower:
    """A client that reconnects by itself, and all entries that it was given."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.client: Client | None = None

    async def work(self, server: ServerProcess, project_id: str) -> None:
        """Follow the log from its beginning until the result."""
        async with server.client(backoff=QUICK) as self.client, self.client.subscribe(project_id, 0) as stream:
            await follow(stream, self._take)

    def _take(self, frame: Frame) -> bool:
        self.frames.append(frame)
        return is_result(frame)

    @property
    def entries(self) -> int:
        """How many entries it has."""
        return len(lines(self.frames))


def permit(meter: Path, count: int) -> None:
    """Let the stand-in write so many lines more."""
    with meter.open("ab") as file:
        file.write(bytes(count))


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.soak)])
async def test_killed_at_random_points_of_a_run(
    standin_server: ServerProcess, folder: Path, tmp_path: Path, kills: int
) -> None:
    seed, count = 20, kills * LINES_PER_KILL
    print("seed", seed)
    chance = random.Random(seed)  # noqa: S311 - it has to be the same each time
    server, meter = standin_server, tmp_path / "meter"
    meter.touch()
    async with server.client() as client:
        project = await client.create_project(str(folder))
        await client.execute(project.id, f"metered {meter} {count}")
    followers = (Follower(), Follower())
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        for follower in followers:
            tasks.create_task(follower.work(server, project.id))
        await eventually(lambda: all(follower.entries > 0 for follower in followers), "both follow")
        (agent,) = server.agents()
        for _ in range(kills):
            goal = followers[0].entries + chance.randint(1, 50)
            permit(meter, 50)
            if chance.random() < 0.5:
                await eventually(lambda goal=goal: followers[0].entries >= goal, "the run goes on")
            else:
                await asyncio.sleep(chance.uniform(0, 0.02))  # within a read, a commit or a delivery
            await server.kill()
            assert agent.is_running()
            permit(meter, 50)
            await server.start()
        assert [process.pid for process in server.agents()] == [agent.pid]
        permit(meter, count)
    async with server.client() as client:
        log = await stored(client, project.id)
    assert [line.offset for line in log] == list(range(1, len(log) + 1))
    for follower in followers:
        assert numbers(follower.frames) == list(range(1, count + 1))
        assert lines(follower.frames) == log
    assert agent.is_running()


@pytest.mark.parametrize("kills", [3, pytest.param(8, marks=pytest.mark.soak)])
async def test_killed_while_a_prompt_is_taken(standin_server: ServerProcess, folder: Path, kills: int) -> None:
    """Each prompt runs once, wherever between its arrival and its first line the server is killed."""
    seed = 8
    print("seed", seed)
    chance = random.Random(seed)  # noqa: S311 - it has to be the same each time
    server = standin_server
    async with server.client(backoff=QUICK) as client:
        project = await client.create_project(str(folder))

        async def idle() -> bool:
            (found,) = await client.projects()
            return found.state == "IDLE"

        async with client.subscribe(project.id) as stream:
            for number in range(kills):
                asking = asyncio.ensure_future(
                    client.execute(project.id, f"lines 3 word-{number}", timeout=DEADLINE_SECONDS)
                )
                await asyncio.sleep(chance.uniform(0, 0.06))
                await server.kill()
                await server.start()
                receipt = await asking
                await until(stream, "prompt", execution_id=receipt.execution_id)
                # Who joins after the end is told the state first, and then what there was.
                frames = await follow(stream, is_result)
                assert numbers(frames) == [1, 2, 3], (number, frames)
                await eventually(idle, "the project is idle again")
        log = await stored(client, project.id)
    prompts = [line for line in log if line.type == "prompt"]
    assert len(prompts) == kills
    said = b"".join(line.data for line in log if line.type == "agent_message" and b'"assistant"' in line.data)
    assert [said.count(b"word-%d" % number) for number in range(kills)] == [1] * kills


async def test_nothing_is_left_of_an_ended_agent(standin_server: ServerProcess, folder: Path) -> None:
    """The agent and its children, ended by a server that did not start them."""
    server = standin_server
    async with server.client(backoff=QUICK) as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            receipt = await client.execute(project.id, "child detached lines 1 sleep 600")
            await until_line(stream, 1)
            (agent,) = server.agents()
            children = agent.children(recursive=True)
            assert len(children) == 2
            await server.kill()
            await server.start()
            killed = await client.kill(project.id)
            assert killed.execution_id == receipt.execution_id
    assert not any(alive(process) for process in (agent, *children))


async def test_an_old_copy_that_nothing_but_a_client_can_tell(standin_server: ServerProcess, folder: Path) -> None:
    """Every file has the content of a cold copy again, in its place: the mark is as old, and shows its own inode."""
    server = standin_server
    async with server.client(backoff=QUICK) as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id, 0) as stream:
            old = await run(client, stream, "lines 3")
            assert await server.stop() == 0
            copied = {path: path.read_bytes() for path in server.data_dir.glob("pocket-agent.db*")}
            await server.start()
            await run(client, stream, "lines 40")
            assert await server.stop() == 0
            mark = mark_path(database_path(server.data_dir))
            old_mark, own = (msgspec.json.decode(data, type=Mark) for data in (copied[mark], mark.read_bytes()))
            copied[mark] = msgspec.json.encode(msgspec.structs.replace(old_mark, own=own.own))
            for path in server.data_dir.glob("pocket-agent.db*"):
                path.write_bytes(copied[path])
            await server.start()
            frames = await follow(stream, lambda frame: is_result(frame) and frame.offset == lines(old)[-1].offset)
            assert [frame.gap for frame in frames if frame.type == "project_join"] == [True]
            assert stream.joined is not None
            assert stream.joined.epoch != project.epoch
            assert '"msg":"epoch renewed"' in server.log
            assert lines(frames) == await stored(client, project.id)
