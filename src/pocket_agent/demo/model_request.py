"""Reads a request of the Messages API: the last prompt, and the progress of its answer; pure.

The model has no state, so all that a scenario needs is in the messages. The CLI (2.1.330) adds to a prompt: text blocks
that begin with `<system-reminder>`, notes such as `[Request interrupted by user]`, messages of the role `system` within
the conversation, and it joins consecutive user messages (observed in its requests).
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

import msgspec

_ADDED_BY_CLI: Final = (
    "<system-reminder>",
    "<local-command-",
    "<command-",
    "[Request interrupted by user",
    "Tool loaded.",
    "This session is being continued from a previous conversation",
    # Prompts of the server, which continue the one before.
    "A usage limit stopped you before",
    "Your process was lost before",
)
_NOTIFICATION: Final = re.compile(
    r'<task-notification>.*<summary>Background command "(demo:.*)" [a-z]+.*</summary>', re.DOTALL
)
"""How the CLI (2.1.330) reports to the model that a background command ended, by the command's description."""
_SUMMARY: Final = "<analysis>A demo.</analysis>\n<summary>The user tried the demo model.</summary>"
_DIRECTORY: Final = re.compile(r"^ *-? *(?:Primary w|W)orking directory: (.+)$", re.MULTILINE)

_LEAST_VALUES: Final[dict[object, object]] = {"array": [], "boolean": False, "integer": 0, "number": 0}


class Block(msgspec.Struct):
    """A content block, with the fields that scenarios use."""

    type: str
    text: str = ""
    content: "str | list[Block]" = ""
    is_error: bool | None = None


class Turn(msgspec.Struct):
    """One message of the conversation."""

    role: str
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        return [Block("text", self.content)] if isinstance(self.content, str) else self.content


class _Tool(msgspec.Struct):
    name: str


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _OutputConfig(msgspec.Struct):
    format: dict[str, object] | None = None


class ModelRequest(msgspec.Struct):
    """The body of `POST /v1/messages`, with the fields that are used."""

    model: str
    messages: list[Turn]
    max_tokens: int = 0
    stream: bool = False
    system: str | list[Block] = ""
    tools: list[_Tool] = []
    metadata: _Metadata | None = None
    output_config: _OutputConfig | None = None


@dataclass(frozen=True)
class ToolResult:
    """The text that a tool returned, and whether it failed or was refused."""

    text: str
    is_error: bool


@dataclass(frozen=True)
class Question:
    """The input of a scenario.

    Attributes:
        prompt: the last text of the user; empty without one.
        step: the number of answers that the model has given to this prompt.
        results: of the tools of the latest answer.
        tools: the names of the tools that may be used.
        directory: the CLI's working directory; None when the request does not have it.
        key: identifies this prompt of this conversation in each request about it.
    """

    prompt: str
    step: int = 0
    results: tuple[ToolResult, ...] = ()
    tools: frozenset[str] = frozenset()
    directory: str | None = None
    key: str = ""


def decode(body: bytes) -> ModelRequest:
    """The request in a body; raises ValueError, with the wrong field, for anything else."""
    # The standard parser first: unlike msgspec's it accepts the lone surrogates that JavaScript sends.
    return msgspec.convert(json.loads(body), ModelRequest)


def question(request: ModelRequest) -> Question:
    """The input of a scenario out of a request."""
    position, prompt = _last_prompt(request.messages)
    later = request.messages[position + 1 :]
    return Question(
        prompt=prompt,
        step=sum(turn.role == "assistant" for turn in later),
        results=_results(later),
        tools=frozenset(tool.name for tool in request.tools),
        directory=_directory(request),
        key=_key(request, position, prompt),
    )


def is_side_request(request: ModelRequest) -> bool:
    """Whether the CLI sends a request for itself (a title, a check of a model's name, a summary), not for the user.

    The turns of a user always offer tools. A request by `curl` has neither tools nor the CLI's metadata, and is not a
    side request.
    """
    if _asks_for_summary(request):
        return True
    structured = request.output_config is not None and request.output_config.format is not None
    return not request.tools and (structured or request.metadata is not None or request.max_tokens == 1)


def side_answer(request: ModelRequest) -> str:
    """An answer to a side request: a summary, an object that fits its schema, or a word."""
    if _asks_for_summary(request):
        return _SUMMARY
    config = request.output_config
    if config is None or config.format is None:
        return "Demo"
    return json.dumps(_example(config.format.get("schema")))


def _asks_for_summary(request: ModelRequest) -> bool:
    """Whether the CLI compacts the conversation (`/compact`, or by itself when it is too long)."""
    prompt = _last_prompt(request.messages)[1]
    return "<analysis>" in prompt and "<summary>" in prompt


def _example(schema: object) -> object:
    """The smallest value that fits a JSON schema, as far as the CLI's schemas need it."""
    if not isinstance(schema, dict):
        return "Demo"
    if choices := schema.get("enum"):
        return choices[0]
    if schema.get("type") == "object":
        return {name: _example(part) for name, part in schema.get("properties", {}).items()}
    return _LEAST_VALUES.get(schema.get("type"), "Demo")


def _last_prompt(turns: list[Turn]) -> tuple[int, str]:
    for position in range(len(turns) - 1, -1, -1):
        if turns[position].role != "user":
            continue
        # The last block: after a failed answer the CLI joins the old prompt and the new one.
        for block in reversed(turns[position].blocks):
            if block.type != "text":
                continue
            if not block.text.lstrip().startswith(_ADDED_BY_CLI):
                # Before it joins them, the CLI ends the old prompt with a newline.
                return position, block.text.removesuffix("\n")
            if notified := _NOTIFICATION.search(block.text):
                return position, notified[1]
    return len(turns), ""


def _results(turns: list[Turn]) -> tuple[ToolResult, ...]:
    for turn in reversed(turns):
        found = [block for block in turn.blocks if block.type == "tool_result"]
        if found:
            return tuple(ToolResult(_plain(block.content), bool(block.is_error)) for block in found)
    return ()


def _plain(content: str | list[Block]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content if block.text)


def _directory(request: ModelRequest) -> str | None:
    # The latest note: the CLI repeats it when a session is resumed in another directory.
    notes = [_plain(turn.content) for turn in reversed(request.messages) if turn.role in {"system", "user"}]
    for note in [*notes, _plain(request.system)]:
        if "orking directory: " in note and (found := _DIRECTORY.search(note)):
            return found[1].strip()
    return None


def _key(request: ModelRequest, position: int, prompt: str) -> str:
    session = request.metadata.user_id if request.metadata else None
    return hashlib.sha256(json.dumps([session, position, prompt]).encode()).hexdigest()[:16]
