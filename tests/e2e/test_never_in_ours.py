"""One test for each fault that docs/protocol.md lists as seen in existing servers of this kind."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import (
    alive,
    end_of,
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
from tests.harness.raw import PING, PONG, raw_client
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.errors import ProcessActiveError, ValidationError
from pocket_agent.storage import tables


@pytest.fixture
async def pinging_server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server that pings each second, and waits as long for the answer."""
    env = {
        "PA_CLAUDE_BINARY": str(write_standin(tmp_path)),
        "PA_PING_INTERVAL": "1s",
        "PA_PONG_TIMEOUT": "1s",
    }
    async with running_server(tmp_path, env=env) as server:
        yield server


async def test_a_request_acts_on_the_project_it_names(standin_server: ServerProcess, tmp_path: Path) -> None:
    async with standin_server.client() as client:
        projects = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            projects.append((await client.create_project(str(tmp_path / name))).id)
        joined, named = projects
        async with client.subscribe(joined), standin_server.client() as other, other.subscribe(named) as stream:
            receipt = await client.execute(named, "lines 1")
            assert receipt.project_id == named
            assert numbers(await end_of(stream, receipt.execution_id)) == [1]
            assert await stored(client, joined) == []
            await client.set_model(named, "opus")
            models = {project.id: project.model for project in await client.projects()}
            assert models == {joined: None, named: "opus"}


async def test_a_second_execute_queues(standin_server: ServerProcess, folder: Path) -> None:
    async with standin_server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, "ask Bash")
            asked = (await until(stream, "approval_requested"))[-1]
            second = await client.execute(project.id, "lines 3")
            assert (second.status, second.position) == ("queued", 1)
            assert (await client.projects())[0].state == "EXECUTING"
            await client.approve(project.id, asked.data["approval_id"])
            frames = await end_of(stream, second.execution_id)
            assert numbers(frames) == [1, 2, 3]
            assert frames[-1].data["state"] == "IDLE"


async def test_a_running_project_is_not_deleted(standin_server: ServerProcess, folder: Path) -> None:
    async with standin_server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, "lines 1 sleep 600")
            await until_line(stream, 1)
            with pytest.raises(ProcessActiveError):
                await client.delete_project(project.id)
            (agent,) = standin_server.agents()
            assert alive(agent)
            await client.kill(project.id)
            await client.delete_project(project.id)
            assert await client.projects() == []


async def test_a_quick_exit_after_the_result_is_success(standin_server: ServerProcess, folder: Path) -> None:
    async with standin_server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            for _ in range(10):
                frames = await run(client, stream, "lines 1 leave")
                assert frames[-1].data["state"] == "IDLE"
            assert (await client.stats()).executions.success == 10


async def test_long_runs_and_long_lines(standin_server: ServerProcess, folder: Path) -> None:
    """More than 100 lines; a line over 64 KiB; a line over 1 MB."""
    async with standin_server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            frames = await run(client, stream, "lines 1000 long 70000 long 1500000 lines 3")
        assert numbers(frames) == [*range(1, 1001), 1, 2, 3]
        assert [len(text) for frame in frames if len(text := frame.data.get("text", "")) > 200] == [70000, 1500000]
        assert frames[-1].data["state"] == "IDLE"


async def test_a_negative_offset_is_refused(standin_server: ServerProcess, folder: Path) -> None:
    async with standin_server.client() as client:
        project = await client.create_project(str(folder))
        for data in ({"since": -1}, {"before": -1}, {"since": {"offset": -5}}, {"limit": -1}):
            with pytest.raises(ValidationError):
                await client.request("get_messages", data, project_id=project.id)
        assert (await client.messages(project.id)).messages == []


async def test_sigterm_with_a_client(standin_server: ServerProcess, folder: Path) -> None:
    async with raw_client(standin_server) as client:
        await client.request("project_list", request_id="1")
        await client.reply("1")
        stopping = asyncio.ensure_future(standin_server.stop())
        frame = await client.frame()
        assert frame is not None
        assert frame.close_code == 1001
        assert await stopping == 0
    assert "Traceback" not in standin_server.log


async def test_a_kill_always_works_and_leaves_no_children(standin_server: ServerProcess, folder: Path) -> None:
    async with standin_server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            for _ in range(20):
                receipt = await client.execute(project.id, "child detached lines 1 sleep 600")
                await until_line(stream, 1)
                (agent,) = standin_server.agents()
                family = [agent, *agent.children(recursive=True)]
                assert len(family) == 3
                assert (await client.kill(project.id)).execution_id == receipt.execution_id
                assert not any(alive(process) for process in family)


async def test_bad_json_does_not_kill_the_connection(standin_server: ServerProcess) -> None:
    async with raw_client(standin_server) as client:
        for bad in (b"{", b"nonsense", b"[]", b"\xff\xfe", b'{"type": 1}', b""):
            await client.send(bad)
            frame = await client.frame()
            assert frame is not None
            assert frame.json["data"]["code"] == "INVALID_MESSAGE"
        await client.request("project_list", request_id="good")
        assert (await client.reply("good"))["data"] == {"projects": [], "total": 0}


async def test_a_stalled_viewer_slows_nobody(standin_server: ServerProcess, folder: Path) -> None:
    """See test_slow_consumer.py for the whole of it."""
    async with standin_server.client() as client, raw_client(standin_server, receive_buffer=4096) as stalled:
        project = await client.create_project(str(folder))
        await stalled.request("project_join", project_id=project.id, request_id="1")
        await stalled.reply("1")
        async with client.subscribe(project.id, 0) as stream:
            await client.execute(project.id, "long 65536 " * 150)
            frames = await follow(stream, is_result)
        assert lines(frames) == await stored(client, project.id)
        assert (await client.health()).connections.active == 2


async def test_a_viewer_who_only_watches_stays(pinging_server: ServerProcess, folder: Path) -> None:
    """It outlives several pings that it answers; one that does not answer is cut meanwhile."""
    async with raw_client(pinging_server) as watching, raw_client(pinging_server) as deaf:
        answered = 0
        async with asyncio.timeout(DEADLINE_SECONDS):
            while answered < 4:
                frame = await watching.frame()
                assert frame is not None, "the watching client was cut"
                if frame.opcode == PING:
                    await watching.send(frame.payload, PONG)
                    answered += 1
            while await deaf.receive():
                pass

        async def is_alone() -> bool:
            await watching.request("health_check", request_id="1")
            return bool((await watching.reply("1"))["data"]["connections"]["active"] == 1)

        await eventually(is_alone, "the one that was cut is not counted any more")


async def test_ten_entries_of_a_long_log_are_read_by_key(standin_server: ServerProcess, folder: Path) -> None:
    """The newest ten cost what they cost in a short log: the store goes to them by the key."""
    async with standin_server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await run(client, stream, "lines 5000")
        page = await client.messages(project.id, limit=10)
        assert [message.offset for message in page.messages] == list(range(4994, 5004))
    assert page.metadata.has_more
    await standin_server.stop()
    with closing(sqlite3.connect(standin_server.data_dir / "pocket-agent.db")) as database:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        (number,) = database.execute("SELECT number FROM conversation").fetchone()
        database.set_progress_handler(count, 1)  # called for each instruction of SQLite's machine
        found = tables.read_entries(database, number, low=0, high=5003, limit=10, max_bytes=2**30, newest=True)
    assert len(found) == 10
    assert 0 < steps < 1000


async def test_a_long_run_does_not_pin_the_loop(standin_server: ServerProcess, folder: Path) -> None:
    """Another client is answered in the middle of a flood that has no end, and can end it."""
    async with standin_server.client() as client, standin_server.client() as other:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, "lines 10000000")
            await until_line(stream, 1)
            for _ in range(5):
                await other.health()
                assert [found.state for found in await other.projects()] == ["EXECUTING"]
            await client.kill(project.id)


async def test_approvals_are_not_denied_by_a_timer(tmp_path: Path, folder: Path) -> None:
    """Neither the execution's timeout nor the idle time ends the wait."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path))}
    settings = "timeouts: {execution: 1h, idle: 1h}"
    async with running_server(tmp_path, env=env, settings=settings) as server, server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, "ask Bash")
            asked = (await until(stream, "approval_requested"))[-1]
            await server.reload("timeouts: {execution: 1s, idle: 1s}")
            await asyncio.sleep(2.5)  # longer than both
            assert (await client.projects())[0].pending_approvals == 1
            await server.reload(settings)
            await client.approve(project.id, asked.data["approval_id"])
            frames = await until(stream, "project_state", state="IDLE")
    assert b'"allow"' in next(frame.payload for frame in frames if b'"answer"' in frame.payload)


async def test_a_second_device_does_not_replace_the_first(standin_server: ServerProcess, folder: Path) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(standin_server.client()) for _ in range(5)]
        project = await clients[0].create_project(str(folder))
        streams = [await stack.enter_async_context(client.subscribe(project.id, 0)) for client in clients]
        await clients[-1].execute(project.id, "lines 10")
        seen = [lines(await follow(stream, is_result)) for stream in streams]
        assert seen == [await stored(clients[0], project.id)] * 5
        assert (await clients[0].health()).connections.active == 5


async def test_a_forged_address_changes_nothing(tmp_path: Path) -> None:
    """The limit of connections holds whatever X-Forwarded-For says, and the log tells the true address."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_MAX_CONNECTIONS": "3"}
    async with running_server(tmp_path, env=env) as server, AsyncExitStack() as stack:
        for number in range(3):
            forged = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
            await stack.enter_async_context(raw_client(server, headers=forged))
        with pytest.raises(AssertionError, match=r"HTTP/1\.1 503"):
            await stack.enter_async_context(raw_client(server, headers={"X-Forwarded-For": "203.0.113.9"}))
    assert "203.0.113" not in server.log
    assert '"remote":"127.0.0.1"' in server.log
