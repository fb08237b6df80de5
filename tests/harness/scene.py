"""A project that two clients watch, which most stories begin with."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.follow import end_of, run, until
from tests.harness.recorder import RecordingModel
from tests.harness.server import ServerProcess

from pocket_agent.client import Client, Frame, Subscription
from pocket_agent.model import ExecuteOptions


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
        """Give a prompt and follow it to its end on the first stream."""
        if options is None:
            return await run(self.first, self.one, prompt)
        receipt = await self.first.execute(self.project_id, prompt, options=options)
        return await end_of(self.one, receipt.execution_id)

    async def ask(self, prompt: str) -> str:
        """Give a prompt that needs an approval; returns the id of the approval."""
        await self.first.execute(self.project_id, prompt)
        return str((await until(self.one, "approval_requested"))[-1].data["approval_id"])

    async def approve_and_run(self, prompt: str) -> list[Frame]:
        """Give a prompt, allow its tool and follow it to its end."""
        await self.first.approve(self.project_id, await self.ask(prompt))
        return await self.done()

    async def done(self) -> list[Frame]:
        """The rest of what runs, on the first stream."""
        frames = await until(self.one, "agent_message", type="result")
        return [*frames, *await until(self.one, "project_state", pending_approvals=0)]


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


def said_by_cli(frames: Sequence[Frame], kind: str) -> list[dict[str, Any]]:
    """The CLI's lines of one type among the frames."""
    return [frame.data for frame in frames if frame.type == "agent_message" and frame.data["type"] == kind]


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
