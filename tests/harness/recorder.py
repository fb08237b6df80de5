"""The scripted model inside the test, so that it can be asked what the CLI sent to it."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from pocket_agent.demo.demo_process import child_environment
from pocket_agent.demo.scripted_model import ScriptedModel
from tests.harness.claude import require_claude


class RecordingModel(ScriptedModel):
    """A scripted model that keeps the bodies of the requests for messages.

    Attributes:
        bodies: oldest first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[dict[str, Any]] = []

    async def _messages(self, http: web.Request) -> web.StreamResponse:
        self.bodies.append(json.loads(await http.read()))
        return await super()._messages(http)

    def saw(self, text: str) -> list[dict[str, Any]]:
        """The requests that mention `text` anywhere in their messages."""
        return [body for body in self.bodies if text in said(body)]


@contextlib.asynccontextmanager
async def scripted(folder: Path) -> AsyncIterator[dict[str, str]]:
    """The environment of a server whose agents are the real CLI, and talk to a model in the process of the test.

    That of `--demo` is a process of its own, which takes more processor time to start than the server.
    """
    model = ScriptedModel()
    home = folder / "claude-home"
    home.mkdir()
    try:
        yield {"PA_CLAUDE_BINARY": str(require_claude()), **child_environment(await model.start(), home)}
    finally:
        await model.stop()


def said(body: dict[str, Any]) -> str:
    """The messages of a request as one text, to look for words in it."""
    return json.dumps(body["messages"], ensure_ascii=False)


def system(body: dict[str, Any]) -> str:
    """The system prompt of a request."""
    prompt = body.get("system", "")
    return prompt if isinstance(prompt, str) else "\n".join(block["text"] for block in prompt)
