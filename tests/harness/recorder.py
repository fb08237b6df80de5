"""The scripted model inside the test, so that it can be asked what the CLI sent to it."""

import json
from typing import Any

from aiohttp import web

from pocket_agent.demo.scripted_model import ScriptedModel


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


def said(body: dict[str, Any]) -> str:
    """The messages of a request as one text, to look for words in it."""
    return json.dumps(body["messages"], ensure_ascii=False)


def system(body: dict[str, Any]) -> str:
    """The system prompt of a request."""
    prompt = body.get("system", "")
    return prompt if isinstance(prompt, str) else "\n".join(block["text"] for block in prompt)
