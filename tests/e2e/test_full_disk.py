"""The disk of the data directory is full: work is refused, the log stays whole, and all recovers by itself."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.harness.absence import absent
from tests.harness.follow import eventually, lines, numbers, run, stored, until, until_line
from tests.harness.server import ServerProcess, running_server, write_standin

from pocket_agent.errors import ResourceLimitError

MEBIBYTE = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The data directory as a file system of 24 MiB, with the agents' output elsewhere."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(data)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        absent("a small file system, which only root can mount")
    try:
        spool = tmp_path / "spool"
        spool.mkdir(mode=0o700)
        (data / "spool").symlink_to(spool)
        yield data
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


@pytest.fixture
async def server(tmp_path: Path, small_disk: Path) -> AsyncIterator[ServerProcess]:
    """A server whose data directory is that small."""
    env = {"PA_CLAUDE_BINARY": str(write_standin(tmp_path)), "PA_LIMITS_MIN_FREE_DISK": "4MiB"}
    async with running_server(tmp_path, env=env) as running:
        assert running.data_dir == small_disk
        yield running


def fill(data: Path, *, leave: int = 0) -> Path:
    """A file that takes all space but so many bytes."""
    filler = data / "filler"
    free = os.statvfs(data).f_bavail * os.statvfs(data).f_frsize
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - leave)
    return filler


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
        status, text = await health(server)
        assert status == 503
        assert "disk is full" in text
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
