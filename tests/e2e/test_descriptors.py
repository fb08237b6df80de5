"""Connections that say nothing take all descriptors that a server may have: it goes on serving, and recovers."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.harness.absence import absent
from tests.harness.follow import eventually, numbers, run
from tests.harness.server import ServerProcess, free_port, started, write_standin

BARE = 1100
LIMIT = 1024


@pytest.fixture
def own_files() -> Iterator[None]:
    """Enough descriptors for the test itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * BARE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        absent("a hard limit of open files that lets a test open enough connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted) if soft >= 0 else soft, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connect(port: int, stack: contextlib.ExitStack) -> None:
    """A connection that sends nothing; one that is dropped at once is none."""
    bare = stack.enter_context(socket.socket())
    bare.setblocking(False)
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_connect(bare, ("127.0.0.1", port))


@pytest.mark.usefixtures("own_files")
async def test_it_serves_while_bare_connections_come_and_after(tmp_path: Path, folder: Path) -> None:
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    server.tls_port = free_port()  # a handshake that never begins is bare, too
    server.wrapper = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$0" "$@"')
    async with started(server):
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        before = process.num_fds()
        async with server.client() as client:
            project = await client.create_project(str(folder))
            with contextlib.ExitStack() as held:
                for number in range(BARE):
                    await connect(server.port if number % 2 else server.tls_port, held)
                    if number % 100 == 0:
                        assert len(await client.projects()) == 1
                assert process.num_fds() < LIMIT
                async with server.client() as another, another.subscribe(project.id) as stream:
                    assert numbers(await run(another, stream, "lines 3")) == [1, 2, 3]
            async with client.subscribe(project.id) as stream:
                assert numbers(await run(client, stream, "lines 2")) == [1, 2]
            for agent in server.agents():
                assert agent.rlimit(psutil.RLIMIT_NOFILE) == (LIMIT, LIMIT)
        await eventually(lambda: process.num_fds() < before + 20, "the descriptors are free again")
        assert '"msg":"background task faulted"' not in server.log
        assert await server.stop() == 0


async def test_the_soft_limit_is_raised_for_the_server_alone(tmp_path: Path, folder: Path) -> None:
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    server.wrapper = ("sh", "-c", f'ulimit -Sn {LIMIT}; ulimit -Hn 4096; exec "$0" "$@"')
    async with started(server), server.client() as client:
        assert server.process is not None
        assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (4096, 4096)
        project = await client.create_project(str(folder))
        async with client.subscribe(project.id) as stream:
            await run(client, stream, "lines 1")
        (agent,) = server.agents()
        assert agent.rlimit(psutil.RLIMIT_NOFILE) == (LIMIT, 4096)


async def test_a_limit_that_leaves_too_few_connections_is_logged(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, env={"PA_CLAUDE_BINARY": str(write_standin(tmp_path))})
    server.wrapper = ("sh", "-c", 'ulimit -n 200; exec "$0" "$@"')
    async with started(server):
        assert "limits.max_connections" in server.log
        assert "at most 200 files may be open" in server.log
