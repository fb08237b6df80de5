"""A prompt to a warm session: what the server adds to talking to the CLI directly.

It has to store the prompt and what the CLI says, and to wake the CLI and itself: two commits and two wake-ups.
"""

import asyncio
import contextlib
import json
import sqlite3
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from tests.harness.claude import find_claude
from tests.harness.server import ServerProcess, running_server

from benchmarks import stage, writer
from benchmarks.row import Row, median
from pocket_agent.claude import control
from pocket_agent.claude.command_line import build_argv
from pocket_agent.demo.demo_process import child_environment
from pocket_agent.demo.scripted_model import ScriptedModel
from pocket_agent.model import ExecuteOptions

_PROMPT = "demo:text"


async def run(folder: Path, scale: float) -> list[Row]:
    """Compare with the writer, and with the real CLI where there is one."""
    rounds = max(3, int(30 * scale))
    ours, theirs = await _writer(folder / "writer", rounds)
    commit = await asyncio.to_thread(_commit, folder / "commit.db", rounds)
    floor = 2 * commit + median(theirs)
    rows = [
        Row("warm prompt: a commit of SQLite", commit, "ms"),
        Row("warm prompt: two commits and two wake-ups", floor, "ms"),
        *_rows("a stand-in", ours, theirs, floor),
    ]
    claude = find_claude()
    if claude is not None:
        rows += _rows("the real CLI", *await _claude(folder / "claude", claude, rounds), floor)
    return rows


async def _writer(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    async with stage.server(folder) as made:
        ours = await _through(made, rounds)
    async with _direct([sys.executable, "-S", writer.__file__], folder, {}) as cli:
        return ours, await _times(cli, rounds)


def _commit(path: Path, rounds: int) -> float:
    """Milliseconds of a transaction that inserts one row, as durable as by default (`storage.synchronous`)."""
    times = []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE entry(data BLOB)")
        for _ in range(rounds):
            began = time.perf_counter()
            connection.execute("INSERT INTO entry VALUES (?)", (b"x" * 300,))
            times.append((time.perf_counter() - began) * 1000)
    return median(times)


async def _claude(folder: Path, claude: Path, rounds: int) -> tuple[list[float], list[float]]:
    folder.mkdir()
    async with running_server(folder, env={"PA_CLAUDE_BINARY": str(claude)}, flags=["--demo"]) as made:
        ours = await _through(made, rounds)
    model = ScriptedModel()
    home = folder / "direct-home"
    home.mkdir()
    environment = {**child_environment(await model.start(), home), "PATH": "/usr/bin:/bin"}
    try:
        argv = build_argv(str(claude), ExecuteOptions(), resume=None)
        async with _direct(argv, folder / "project", environment) as cli:
            return ours, await _times(cli, rounds)
    finally:
        await model.stop()


def _rows(what: str, ours: list[float], theirs: list[float], floor: float) -> list[Row]:
    more = median(ours) - median(theirs)
    return [
        Row(f"warm prompt, {what}: through the server", median(ours), "ms"),
        Row(f"warm prompt, {what}: directly", median(theirs), "ms"),
        Row(f"warm prompt, {what}: what the server adds", more, "ms"),
        Row(f"warm prompt, {what}: against that", more / floor, "x", "at most 30", more / floor <= 30),
    ]


async def _through(made: ServerProcess, rounds: int) -> list[float]:
    """Milliseconds from `execute` to the CLI's first line at the client; the first, cold, does not count."""
    times = []
    project_id = await stage.project(made)
    async with made.client() as client, client.subscribe(project_id) as stream:
        for _ in range(rounds + 1):
            began = time.perf_counter()
            asking = asyncio.ensure_future(client.execute(project_id, _PROMPT))
            given, first = False, 0.0
            async for frame in stream:
                given = given or frame.type == "prompt"  # a line before it belongs to the prompt before
                if given and frame.type == "agent_message" and not first:
                    first = time.perf_counter() - began
                if frame.type == "project_state" and first and frame.data["state"] == "IDLE":
                    break
            await asking
            times.append(first * 1000)
            await asyncio.sleep(0.1)  # the CLI prints a little more after its result
    return times[1:]


@contextlib.asynccontextmanager
async def _direct(argv: list[str], cwd: Path, environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=cwd,
        env=environment,
        limit=1 << 24,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _times(cli: asyncio.subprocess.Process, rounds: int) -> list[float]:
    """Milliseconds from writing a prompt to the first line; the first, cold, does not count."""
    assert cli.stdin is not None
    assert cli.stdout is not None
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        cli.stdin.write(control.user_message(_PROMPT, str(uuid.uuid4())))
        text = await cli.stdout.readline()
        times.append((time.perf_counter() - began) * 1000)
        while json.loads(text)["type"] != "result":
            text = await cli.stdout.readline()
        await asyncio.sleep(0.1)
        while True:  # what the CLI prints after its result belongs to no prompt
            try:
                async with asyncio.timeout(0.05):
                    await cli.stdout.readline()
            except TimeoutError:
                break
    return times[1:]
