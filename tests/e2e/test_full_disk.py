"""The disk of the data directory is full: work is refused, the log stays whole, and all recovers by itself."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.harness.disk import fill, small_disk
from tests.harness.follow import eventually, lines, numbers, run, stored, until, until_line
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.errors import ResourceLimitError

MEBIBYTE = 2**20


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server whose data directory is small."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_LIMITS_MIN_FREE_DISK": "4MiB"}
    with small_disk(tmp_path / "data"):
        async with running_server(tmp_path, env=env) as running:
            assert running.data_dir == tmp_path / "data"
            yield running


async def health(server: ServerProcess) -> tuple[int, str]:
    """The status of /health, and its text."""
    address = f"http://127.0.0.1:{server.port}/health"
    async with aiohttp.ClientSession() as http, http.get(address) as answer:
        return answer.status, await answer.text()


async def test_executions_are_refused_when_little_is_left(server: ServerProcess, folder: Path) -> None:
    async with server.client() as client:
        project = await client.create_project(str(folder))
        filler = fill(server.data_dir, leave=2 * MEBIBYTE)
        with pytest.raises(ResourceLimitError, match=r"limits\.min_free_disk"):
            await client.execute(project.id, "lines 1")

        async def is_told() -> bool:
            status, text = await health(server)
            return status == 503 and "disk is full" in text

        await eventually(is_told, "/health tells")  # it looks every few seconds
        assert await stored(client, project.id) == []
        filler.unlink()
        async with client.subscribe(project.id) as stream:
            assert numbers(await run(client, stream, "lines 3")) == [1, 2, 3]


async def test_it_fills_during_a_run(server: ServerProcess, folder: Path, tmp_path: Path) -> None:
    meter = tmp_path / "meter"
    meter.write_bytes(bytes(100))
    async with server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id, 0) as stream:
            await client.execute(project.id, f"metered {meter} 20000")
            frames = await until_line(stream, 100)
            filler = fill(server.data_dir)
            meter.write_bytes(bytes(20000))
            await eventually(lambda: '"msg":"storage failed"' in server.log, "the store is refused")
            log = await stored(client, project.id)  # reading works
            assert [line.offset for line in log] == list(range(1, len(log) + 1))

            async def is_unwell() -> bool:
                return (await health(server))[0] == 503

            await eventually(is_unwell, "/health tells")
            filler.unlink()
            frames += await until(stream, "project_state", state="IDLE")
        log = await stored(client, project.id)
    assert numbers(frames) == list(range(1, 20001))
    assert lines(frames) == log


async def test_it_is_killed_while_the_disk_is_full(server: ServerProcess, folder: Path, tmp_path: Path) -> None:
    """What could not be stored is still in the agent's output, and the next server takes it in."""
    meter = tmp_path / "meter"
    meter.write_bytes(bytes(100))
    async with server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id, 0) as stream:
            await client.execute(project.id, f"metered {meter} 20000")
            frames = await until_line(stream, 100)
            filler = fill(server.data_dir)
            meter.write_bytes(bytes(20000))
            await eventually(lambda: '"msg":"storage failed"' in server.log, "the store is refused")
            await server.kill()
            filler.unlink()
            await server.start()
            frames += await until(stream, "agent_message", type="result")
        log = await stored(client, project.id)
    assert numbers(frames) == list(range(1, 20001))
    assert lines(frames) == log


async def test_the_log_of_the_database_is_deleted_under_it(standin_server: ServerProcess, folder: Path) -> None:
    server = standin_server
    log = server.data_dir / "pocket-agent.db-wal"
    async with server.client() as client:
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            for _ in range(3):
                log.unlink()
                assert numbers(await run(client, stream, "lines 3")) == [1, 2, 3]
        before = await stored(client, project.id)
        await server.kill()
        await server.start()
        assert await stored(client, project.id) == before
        log.unlink()
    assert await server.stop() == 0
    await server.start()
    async with server.client() as client:
        assert await stored(client, project.id) == before
