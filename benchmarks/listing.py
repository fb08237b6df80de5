"""`project_list` with 100 projects, at concurrency 50, the server on one core, against a bare aiohttp reply."""

import asyncio
import contextlib
import time
from pathlib import Path

import aiohttp
import psutil

from benchmarks import stage
from benchmarks.row import Row, median

_PROJECTS = 100
_CONCURRENCY = 50
_ROUNDS = 3


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure requests a second."""
    seconds = max(0.2, 2 * scale)
    async with stage.server(folder) as made:
        async with made.client() as client:
            for number in range(_PROJECTS):
                path = folder / f"project-{number}"
                path.mkdir()
                await client.create_project(str(path))
        _, size = await _ask(made.url, made.token, 0.1)
        async with stage.module("benchmarks.reply", str(size)) as bare:
            assert made.process is not None
            assert bare.stdout is not None
            port = int(await bare.stdout.readline())
            _pin(made.process.pid, 0)
            _pin(bare.pid, 0)
            _pin(psutil.Process().pid, 1)
            rates, bare_rates = [], []
            try:
                for _ in range(_ROUNDS):
                    rates.append((await _ask(made.url, made.token, seconds))[0])
                    bare_rates.append((await _ask(f"ws://127.0.0.1:{port}/ws", "", seconds))[0])
            finally:
                _pin(psutil.Process().pid, None)
    rate, bare_rate = median(rates), median(bare_rates)
    ratio = rate / bare_rate
    return [
        Row("project_list: size of a reply", size, "bytes"),
        Row("project_list: 100 projects, 50 at a time", rate, "requests/s"),
        Row("project_list: a bare reply of that size", bare_rate, "requests/s"),
        Row("project_list: against the bare reply", ratio, "x", "at least 0.12", ratio >= 0.12),
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
