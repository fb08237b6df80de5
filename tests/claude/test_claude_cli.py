"""The real CLI through the spool, against the scripted model."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pocket_agent.claude import control
from pocket_agent.claude.command_line import build_argv, build_environment
from pocket_agent.claude.process import ClaudeProcess, adopt, spawn
from pocket_agent.claude.spool import Spool, SpoolReader, SpoolWatcher, SpoolWriter
from pocket_agent.claude.stream import CliMessage, Kind, Line, LineFramer, peek
from pocket_agent.demo.demo_process import child_environment
from pocket_agent.demo.scripted_model import ScriptedModel
from pocket_agent.model import ExecuteOptions
from tests.claude.conftest import alive
from tests.harness import DEADLINE_SECONDS
from tests.harness.claude import require_claude


class Conversation:
    """One CLI process as a session of the server sees it."""

    def __init__(self, spool: Spool, process: ClaudeProcess, watcher: SpoolWatcher, *, resync: bool = False) -> None:
        self.process = process
        self._spool = spool
        self._reader = SpoolReader(spool, 0, watcher)
        self._writer = SpoolWriter(spool, resync=resync)
        self._framer = LineFramer(1 << 24)
        self._read: list[CliMessage] = []

    async def send(self, line: bytes) -> None:
        await self._writer.write(line)

    async def until(self, kind: Kind) -> CliMessage:
        """The next line of a kind; the ones before it are dropped."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                while self._read:
                    message = self._read.pop(0)
                    assert message.kind is not Kind.GARBAGE, message.excerpt
                    if message.kind is kind:
                        return message
                assert await self._reader.wait_for_growth(self.process.exited), self._spool.error_tail()
                for line in self._framer.feed(self._reader.read()):
                    assert isinstance(line, Line)
                    self._read.append(peek(line.data))

    async def prompt(self, text: str) -> CliMessage:
        await self.send(control.user_message(text, str(uuid.uuid4())))
        return await self.until(Kind.RESULT)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class Bench:
    """What every process of a test shares."""

    def __init__(self, root: Path, url: str, watcher: SpoolWatcher) -> None:
        self.binary = str(require_claude())
        self.project = root / "project"
        self.spools = root / "spool"
        home = root / "home"
        for folder in (self.project, self.spools, home):
            folder.mkdir()
        clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environment = build_environment(clean, child_environment(url, home))
        self._watcher = watcher
        self._open: list[Conversation] = []

    def spool(self) -> Spool:
        spool = Spool(self.spools, uuid.uuid4().hex)
        spool.create()
        return spool

    async def start(self, options: ExecuteOptions | None = None, *, resume: str | None = None) -> Conversation:
        argv = build_argv(self.binary, options or ExecuteOptions(), resume=resume)
        spool = self.spool()
        return self.follow(spool, await spawn(argv, cwd=self.project, environment=self.environment, spool=spool))

    def follow(self, spool: Spool, process: ClaudeProcess, *, resync: bool = False) -> Conversation:
        self._open.append(Conversation(spool, process, self._watcher, resync=resync))
        return self._open[-1]

    async def close(self) -> None:
        for conversation in self._open:
            conversation.close()
            assert await conversation.process.terminate(idle=False)


@pytest.fixture
async def bench(tmp_path: Path, watcher: SpoolWatcher) -> AsyncIterator[Bench]:
    """A project, and the scripted model; no process outlives the test."""
    require_claude()
    model = ScriptedModel()
    value = Bench(tmp_path, await model.start(), watcher)
    yield value
    await value.close()
    await model.stop()


async def test_prompt_approval_interrupt_and_resume(bench: Bench) -> None:
    first = await bench.start()
    await first.send(control.initialize("i"))
    answer = await first.until(Kind.CONTROL_RESPONSE)
    assert answer.response is not None
    assert (answer.request_id, answer.response.succeeded) == ("i", True)

    await first.send(control.user_message("demo:bash=echo one > made.txt", str(uuid.uuid4())))
    request = control.parse_permission_request(await first.until(Kind.CONTROL_REQUEST))
    assert request is not None
    assert (request.tool_name, b"echo one > made.txt" in bytes(request.input)) == ("Bash", True)
    await first.send(control.allow(request.request_id, b'{"command":\n"echo two > made.txt"}'))
    result = await first.until(Kind.RESULT)
    assert (result.is_error, (bench.project / "made.txt").read_text()) == (False, "two\n")
    assert result.usage is not None
    assert result.usage.output_tokens

    # An idle process ends by itself when it is interrupted, and its session goes on in another one.
    assert await first.process.terminate(idle=True)
    assert first.process.exit_code == 0
    second = await bench.start(ExecuteOptions(model="--verbose"), resume=result.session_id)
    await second.send(control.user_message("hello again", str(uuid.uuid4())))
    init = await second.until(Kind.INIT)
    assert (init.session_id, init.model) == (result.session_id, "--verbose")
    assert (await second.until(Kind.RESULT)).session_id == result.session_id


async def test_denial_model_change_and_a_long_prompt(bench: Bench) -> None:
    conversation = await bench.start()
    await conversation.send(control.user_message("demo:bash=echo one > made.txt", str(uuid.uuid4())))
    request = control.parse_permission_request(await conversation.until(Kind.CONTROL_REQUEST))
    assert request is not None
    await conversation.send(control.deny(request.request_id, "not today"))
    result = await conversation.until(Kind.RESULT)
    assert len(result.permission_denials or ()) == 1
    assert not (bench.project / "made.txt").exists()
    for request_id, line, succeeded in (
        ("m", control.set_model("m", "another-model"), True),
        ("p", control.set_permission_mode("p", "acceptEdits"), True),
        ("n", control.set_permission_mode("n", "nonsense"), False),
        ("e", control.interrupt("e"), True),
    ):
        await conversation.send(line)
        answer = await conversation.until(Kind.CONTROL_RESPONSE)
        assert answer.response is not None
        assert (answer.request_id, answer.response.succeeded) == (request_id, succeeded)
    await conversation.send(control.user_message("x" * 2_000_000, str(uuid.uuid4())))
    init = await conversation.until(Kind.INIT)
    assert (init.model, init.permission_mode) == ("another-model", "acceptEdits")
    assert not (await conversation.until(Kind.RESULT)).is_error


async def test_a_lost_conversation_is_recognised(bench: Bench) -> None:
    conversation = await bench.start(resume=str(uuid.uuid4()))
    assert (await conversation.until(Kind.RESULT)).lost_conversation


async def test_terminating_ends_a_running_tool_that_left_its_session(bench: Bench) -> None:
    conversation = await bench.start(ExecuteOptions(allowed_tools=("Bash",)))
    command = "(setsid tail -f /dev/null & echo $! > escaped); echo $$ > running; tail -f /dev/null"
    await conversation.send(control.user_message(f"demo:bash={command}", str(uuid.uuid4())))
    approving = asyncio.ensure_future(approve_all(conversation))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (bench.project / "running").exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.01)
    approving.cancel()
    await asyncio.wait({approving})
    assert await conversation.process.terminate(idle=False)
    for name in ("escaped", "running"):
        assert not alive(int((bench.project / name).read_text()))


async def approve_all(conversation: Conversation) -> None:
    while True:
        request = control.parse_permission_request(await conversation.until(Kind.CONTROL_REQUEST))
        assert request is not None
        await conversation.send(control.allow(request.request_id, request.input))


SPAWNER = """
import asyncio, json, sys
from pathlib import Path
from pocket_agent.claude.process import spawn
from pocket_agent.claude.spool import Spool

async def main() -> None:
    given = json.load(sys.stdin)
    spool = Spool(Path(given["directory"]), given["id"])
    child = await spawn(given["argv"], cwd=Path(given["cwd"]), environment=given["environment"], spool=spool)
    print(child.pid, child.start_time, child.boot_id, flush=True)
    await child.wait()

asyncio.run(main())
"""


def spawned_by_a_server_that_was_killed(bench: Bench, spool: Spool) -> tuple[int, str, str]:
    given = {
        "directory": str(spool.directory),
        "id": spool.id,
        "argv": build_argv(bench.binary, ExecuteOptions(), resume=None),
        "cwd": str(bench.project),
        "environment": bench.environment,
    }
    argv = [sys.executable, "-c", SPAWNER]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(given))
        server.stdin.close()
        pid, start_time, boot = server.stdout.readline().split()
        server.send_signal(signal.SIGKILL)
    return int(pid), start_time, boot


async def test_the_agent_outlives_its_server_and_is_adopted(bench: Bench) -> None:
    spool = bench.spool()
    pid, start_time, boot = spawned_by_a_server_that_was_killed(bench, spool)
    process = adopt(pid, start_time, boot)
    assert process is not None
    conversation = bench.follow(spool, process, resync=True)
    result = await conversation.prompt("hello")
    assert (result.is_error, bool(result.session_id)) == (False, True)
    assert await process.terminate(idle=True)
    assert not alive(pid)
