"""What the scripted model may answer, as plain values; `stream` turns them into the API's events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DELTA_CHARACTERS: Final = 24
"""How much text one delta carries unless a scenario says otherwise; a real model sends a few words."""


@dataclass(frozen=True)
class Text:
    """A text block.

    Attributes:
        text: the whole text.
        delta_characters: how many characters (code points) each delta carries.
        delta_seconds: how long to wait before each delta.
    """

    text: str
    delta_characters: int = DELTA_CHARACTERS
    delta_seconds: float = 0.0


@dataclass(frozen=True)
class Thinking:
    """A thinking block."""

    text: str


@dataclass(frozen=True)
class ToolUse:
    """A request to use one of the CLI's tools; `input` is a JSON object."""

    name: str
    input: Mapping[str, object]


Block = Text | Thinking | ToolUse


@dataclass(frozen=True)
class Message:
    """An answer: the blocks of one assistant message, in order."""

    blocks: tuple[Block, ...]

    @property
    def stop_reason(self) -> str:
        """`tool_use` when the CLI has to do something before the model goes on, else `end_turn`."""
        return "tool_use" if any(isinstance(block, ToolUse) for block in self.blocks) else "end_turn"


@dataclass(frozen=True)
class Failure:
    """An error of the API.

    Attributes:
        status: the HTTP status.
        type: the API's error type (https://docs.anthropic.com/en/api/errors).
    """

    status: int
    type: str
    message: str


@dataclass(frozen=True)
class Clearing:
    """A failure of the first `times` requests of a prompt, and the message that follows it."""

    failure: Failure
    times: int
    then: Message


Reply = Message | Failure | Clearing


def say(text: str) -> Message:
    """An answer of one plain text block."""
    return Message((Text(text),))
