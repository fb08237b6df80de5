"""`project_list` with 100 projects, at concurrency 50, the server on one core."""

import asyncio
import contextlib
import time
from pathlib import Path

import aiohttp
import psutil

from benchmarks import stage
from benchmarks.row import Row

_PROJECTS = 100
_CONCURRENCY = 50


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure requests a second."""
    seconds = max(0.5, 5 * scale)
    async with stage.server(folder) as made:
        async with made.client() as client:
            for number in range(_PROJECTS):
                path = folder / f"project-{number}"
                path.mkdir()
                await client.create_project(str(path))
        assert made.process is not None
        _pin(made.process.pid, 0)
        _pin(psutil.Process().pid, 1)
        try:
            rate, size = await _ask(made.url, made.token, seconds)
        finally:
            _pin(psutil.Process().pid, None)
    return [
        Row("project_list: size of a reply", size, "bytes"),
        Row("project_list: 100 projects, 50 at a time", rate, "requests/s", "at least 8,000", rate >= 8000),
    ]


def _pin(pid: int, core: int | None) -> None:
    """Keep a process on one core, where the system can."""
    process = psutil.Process(pid)
    if hasattr(process, "cpu_affinity"):
        with contextlib.suppress(OSError, ValueError):
            process.cpu_affinity([] if core is None else [core])


async def _ask(url: str, token: str, seconds: float) -> tuple[float, int]:
    """Each of the connections asks again as soon as it has its answer."""
    answers, size = 0, 0
    headers = {"Authorization": f"Bearer {token}"}
    request = b'{"type":"project_list"}'
    async with aiohttp.ClientSession(headers=headers) as http, contextlib.AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(http.ws_connect(url, max_msg_size=0, decode_text=False))
            for _ in range(_CONCURRENCY)
        ]
        begin = time.perf_counter()

        async def one(socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
            nonlocal answers, size
            while time.perf_counter() - begin < seconds:
                await socket.send_frame(request, aiohttp.WSMsgType.TEXT)
                size = len((await socket.receive()).data)
                answers += 1

        await asyncio.gather(*(one(socket) for socket in sockets))
        return answers / (time.perf_counter() - begin), size
