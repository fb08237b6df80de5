"""Questions of an MCP server (`elicitor`), asked by an agent of the real CLI."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pocket_agent.client import Frame
from pocket_agent.model import ExecuteOptions
from tests.harness import elicitor
from tests.harness.follow import until
from tests.harness.scene import Asked, Scene, said_by_cli

_SERVERS: Final = {"crm": {"command": sys.executable, "args": ["-S", str(Path(elicitor.__file__))]}}
OPTIONS: Final = ExecuteOptions(mcp_config=json.dumps({"mcpServers": _SERVERS}), allowed_tools=("mcp__crm__ask",))
FORM: Final[dict[str, Any]] = {
    "message": "Whom is this for?",
    "requestedSchema": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "title": "Name", "description": "As on the invoice", "minLength": 1},
            "size": {"type": "integer", "title": "Size", "minimum": 1},
            "kind": {"type": "string", "title": "Kind", "enum": ["new", "old"], "default": "new"},
            "tags": {"type": "array", "title": "Tags", "items": {"type": "string", "enum": ["red", "blue"]}},
            "urgent": {"type": "boolean", "title": "Urgent", "default": True},
        },
        "required": ["name"],
    },
}


def asking(question: Mapping[str, object]) -> str:
    """The prompt that has the model call the tool whose server asks the user."""
    return f"demo:use=mcp__crm__ask {json.dumps(question)}"


async def ask(here: Scene, question: Mapping[str, object]) -> Asked:
    """Have the server ask, and wait for the question."""
    receipt = await here.first.execute(here.project_id, asking(question), options=OPTIONS)
    asked = (await until(here.one, "approval_requested"))[-1]
    return Asked(receipt.execution_id, str(asked.data["approval_id"]), asked)


def answer_of(frames: Sequence[Frame]) -> dict[str, Any]:
    """What the MCP server got, as its tool returns it."""
    blocks = [block for line in said_by_cli(frames, "user") for block in line["message"]["content"]]
    parts = [part for block in blocks if block["type"] == "tool_result" for part in block["content"]]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    (answer,) = [json.loads(text) for text in texts if text.startswith("{")]
    return dict(answer)
