"""A project that two clients watch, which most stories begin with."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from pocket_agent.client import Client, Frame, Subscription
from pocket_agent.demo.demo_process import child_environment
from pocket_agent.model import ExecuteOptions
from tests.harness.claude import require_claude
from tests.harness.follow import eventually, follow, until
from tests.harness.recorder import RecordingModel
from tests.harness.server import ServerProcess, running_server


class Asked(NamedTuple):
    """An execution that waits for an approval; `frame` is the request's."""

    execution_id: str
    approval_id: str
    frame: Frame


@dataclass
class Scene:
    """Two clients with a stream each.

    Attributes:
        server: what runs it all.
        folder: the directory of the project.
        project_id: the project.
        first, second: the clients.
        one, two: the streams of the first and the second, from the beginning of the log.
    """

    server: ServerProcess
    folder: Path
    project_id: str
    first: Client
    second: Client
    one: Subscription
    two: Subscription

    async def run(self, prompt: str, options: ExecuteOptions | None = None) -> list[Frame]:
        """Give a prompt and follow it to its last line on the first stream; see `whole`."""
        receipt = await self.first.execute(self.project_id, prompt, options=options)
        return await whole(self.one, receipt.execution_id)

    async def ask(self, prompt: str) -> Asked:
        """Give a prompt that needs an approval, and wait for the request."""
        receipt = await self.first.execute(self.project_id, prompt)
        seen = await until(self.one, "approval_requested")
        return Asked(receipt.execution_id, str(seen[-1].data["approval_id"]), seen[-1])

    async def allow(self, asked: Asked) -> list[Frame]:
        """Allow what was asked, and follow the execution to its last line on the first stream."""
        await self.first.approve(self.project_id, asked.approval_id)
        return await rest(self.one, asked.execution_id)


async def whole(stream: Subscription, execution_id: str) -> list[Frame]:
    """All frames of an execution, from the entry of its prompt to its last line."""
    begin = await until(stream, "prompt", execution_id=execution_id)
    return [begin[-1], *await rest(stream, execution_id)]


async def rest(stream: Subscription, execution_id: str) -> list[Frame]:
    """The frames up to the end of an execution that has begun.

    The CLI (2.1.330) says after the `result` that it is done with the prompt, and nothing more then; the
    server sends the new state of the project behind the result. Either may come first. A client that joins again gets
    the present state before the frames that it missed, among them older states.
    """
    missing = {"line", "state"}
    is_next = False  # another prompt has begun since the last state, which is EXECUTING for that one then

    def last(frame: Frame) -> bool:
        nonlocal is_next
        data = frame.data
        if frame.type == "prompt":
            is_next = True
        elif frame.type == "project_state" and data["state"] != "EXECUTING":
            missing.discard("state")
            is_next = False
        elif frame.type == "project_state" and not is_next:
            missing.add("state")
        elif data.get("command_uuid") == execution_id and data["state"] in {"completed", "cancelled"}:
            missing.discard("line")
        return not missing

    return await follow(stream, last)


@contextlib.asynccontextmanager
async def scene(server: ServerProcess, folder: Path) -> AsyncIterator[Scene]:
    """Make `folder` a project and let two clients join it."""
    async with server.client() as first, server.client() as second:
        project = await first.create_project(str(folder))
        async with first.subscribe(project.id, since=0) as one, second.subscribe(project.id, since=0) as two:
            yield Scene(server, folder, project.id, first, second, one, two)


@dataclass
class Stage:
    """A server whose agents are the real CLI, and the model that they talk to."""

    server: ServerProcess
    model: RecordingModel


CLOSED: Final = "http://127.0.0.1:9"
"""No program listens on the discard port, so a request that is not for the model fails."""


@contextlib.asynccontextmanager
async def own_stage(folder: Path, *, subscription: bool = False, **env: str) -> AsyncIterator[Stage]:
    """A server with the real CLI, and a scripted model in the test's own process.

    With `subscription` the CLI has a login, which is a word, instead of a key, and takes it for that of a subscription.
    """
    binary = require_claude()
    (folder / "claude-home").mkdir()
    model = RecordingModel()
    env = {**child_environment(await model.start(), folder / "claude-home"), "PA_CLAUDE_BINARY": str(binary), **env}
    if subscription:
        del env["ANTHROPIC_API_KEY"]
        env |= {"CLAUDE_CODE_OAUTH_TOKEN": "demo", "HTTPS_PROXY": CLOSED, "HTTP_PROXY": CLOSED}
    try:
        async with running_server(folder, env=env) as server:
            yield Stage(server, model)
    finally:
        await model.stop()


def said_by_cli(frames: Sequence[Frame], kind: str) -> list[dict[str, Any]]:
    """The CLI's lines of one type among the frames."""
    return [frame.data for frame in frames if frame.type == "agent_message" and frame.data["type"] == kind]


def state_after(frames: Sequence[Frame]) -> str:
    """The last state of the project among the frames."""
    return [str(frame.data["state"]) for frame in frames if frame.type == "project_state"][-1]


def one_said_by_cli(frames: Sequence[Frame], kind: str) -> dict[str, Any]:
    """The CLI's only line of one type among the frames."""
    (line,) = said_by_cli(frames, kind)
    return line


def init_of(frames: Sequence[Frame]) -> dict[str, Any]:
    """The line with which the CLI begins the only turn among the frames."""
    (line,) = [line for line in said_by_cli(frames, "system") if line["subtype"] == "init"]
    return line


def texts(frames: Sequence[Frame]) -> str:
    """What the agent answered among the frames: the text blocks of its complete lines."""
    blocks = [block for line in said_by_cli(frames, "assistant") for block in line["message"]["content"]]
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


async def sleeper(process: psutil.Process) -> psutil.Process:
    """The `sleep` below a CLI process, as soon as there is one: a tool that runs."""
    found: list[psutil.Process] = []

    def look() -> bool:
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # the shell's own helpers come and go
                if child.name() == "sleep":
                    found.append(child)
        return bool(found)

    await eventually(look, "the command of the tool runs")
    return found[0]


async def is_over(process: psutil.Process) -> None:
    """Wait until a process has ended, reaped or not."""

    def look() -> bool:
        try:
            return process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await eventually(look, f"process {process.pid} is gone")
