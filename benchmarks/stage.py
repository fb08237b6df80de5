"""The parts of a benchmark: a server with a writing CLI, and the process of readers."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from tests.harness.server import ServerProcess, free_port

from benchmarks import writer
from benchmarks.reader import Task
from pocket_agent.model import ConversationRecord, Direction, Entry, Milliseconds, ProjectId, ProjectState, project_of
from pocket_agent.storage import Change, Store
from pocket_agent.storage.database import database_path

ROOT = Path(__file__).resolve().parents[1]
_SECONDS = 300.0
_BATCH = 1000
_AGE = 2 * 3_600_000
"""Milliseconds; entries of a log are one apart."""


@contextlib.asynccontextmanager
async def server(folder: Path, *, tls: bool = False, env: dict[str, str] | None = None) -> AsyncIterator[ServerProcess]:
    """A server whose CLI is the writer."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "claude"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{writer.__file__}" "$@"\n')
    program.chmod(0o700)
    made = ServerProcess(
        folder,
        env={
            "PA_CLAUDE_BINARY": str(program),
            "PA_LOG_LEVEL": "info",
            "PA_MAX_CONNECTIONS": "2000",
            "PA_STORAGE_MAX_ENTRIES": "0",
            **(env or {}),
        },
    )
    made.wrapper = ("env",)  # a process that has been started as a user starts one, not forked
    if tls:
        made.tls_port = free_port()
    try:
        await made.start()
        yield made
    finally:
        await made.clean_up()


async def project(made: ServerProcess, name: str = "project") -> str:
    """The id of a new project."""
    folder = made.folder / name
    folder.mkdir()
    async with made.client() as client:
        return (await client.create_project(str(folder))).id


async def fill(made: ServerProcess, path: Path, lines: Iterable[tuple[str, dict[str, Any]]]) -> ProjectId:
    """Write the log of a new project at `path` before its server starts; each line is an entry's type and content."""
    path.mkdir(parents=True)
    at = int(time.time() * 1000) - _AGE  # of today, so that nothing is too old to be kept
    entries = (
        Entry(offset, Milliseconds(at + offset), Direction.CLAUDE, kind, json.dumps(content).encode())
        for offset, (kind, content) in enumerate(lines, 1)
    )
    store = Store.open(database_path(made.data_dir))
    try:
        number = await store.next_project_number()
        project_id = project_of(f"00000000-0000-4000-8000-{number:012d}")
        while batch := tuple(islice(entries, _BATCH)):
            project = ConversationRecord(
                number=number,
                id=project_id,
                path=str(path),
                real_path=str(path.resolve()),
                name=path.name,
                state=ProjectState.IDLE,
                session_id=None,
                epoch="0123abcd",
                head=batch[-1].offset,
                first=1,
                created_at=Milliseconds(at),
                last_active=Milliseconds(at),
            )
            await store.commit(Change(record=project, entries=batch))
    finally:
        await store.close()
    return project_id


class Readers:
    """The process of readers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_SECONDS):
            return (await self._process.stdout.readline()).decode().strip()

    async def report(self) -> dict[str, Any]:
        """What it measured."""
        report: dict[str, Any] = json.loads(await self.line())
        return report


@contextlib.asynccontextmanager
async def module(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A module of the benchmarks as a process, ended when it is not needed any more."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        limit=1 << 26,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def readers(task: Task) -> AsyncIterator[Readers]:
    """Readers that have joined."""
    async with module("benchmarks.reader", msgspec.json.encode(task).decode()) as process:
        made = Readers(process)
        said = await made.line()
        assert said == "joined", said
        yield made


def task_of(made: ServerProcess, connections: int, project_id: str, *, sampled: int = 0) -> Task:
    """Readers of a project, over TLS when the server has it."""
    request = json.dumps({"type": "project_join", "project_id": project_id})
    return Task(
        port=made.tls_port or made.port,
        connections=connections,
        token=made.token,
        request=request,
        end='"result":"done"',
        sampled=sampled,
        ca=str(made.data_dir / "tls" / "cert.pem") if made.tls_port is not None else None,
    )
