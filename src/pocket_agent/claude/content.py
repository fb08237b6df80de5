"""The parts of a line that tell of models and tools: what the API's messages hold, as far as it is needed.

Everything else in them is skipped: texts, inputs and outputs of tools are never made into objects.
"""

from typing import Final

import msgspec

_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "input_json"}


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens, named as in the Messages API; the four do not overlap."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class Block(msgspec.Struct, frozen=True, gc=False):
    """A content block; which fields are set depends on its type.

    Attributes:
        id, name: of a `tool_use`, the call and its tool.
        tool_use_id, is_error: of a `tool_result`, the call and whether it failed (absent: it did not).
    """

    type: str = ""
    id: str | None = None
    name: str | None = None
    tool_use_id: str | None = None
    is_error: bool | None = None


class ApiMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of the Messages API, of either side.

    Attributes:
        model: who wrote it; `<synthetic>` when the CLI itself did.
        usage: as it was when the message began (2.1.330); `output_tokens` is not the final figure.
        content: its blocks, or a bare text.
    """

    id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    content: list[Block] | str = ""

    @property
    def blocks(self) -> list[Block]:
        """Its blocks; none for a bare text."""
        return self.content if isinstance(self.content, list) else []


class Delta(msgspec.Struct, frozen=True, gc=False):
    """The `delta` of a `content_block_delta` event; which field is set depends on its type."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class StreamEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of the Messages API's stream, inside a `stream_event` line.

    Attributes:
        message: of a `message_start`, the message that begins.
        usage: of a `message_delta`, the figures so far, which replace those before.
    """

    type: str = ""
    index: int | None = None
    delta: Delta | None = None
    message: ApiMessage | None = None
    usage: Usage | None = None

    @property
    def delta_kind(self) -> str | None:
        """Of an event that brings text: "text", "thinking" or "input_json"."""
        return _DELTAS.get(self.delta.type) if self.delta is not None else None

    @property
    def delta_text(self) -> str | None:
        """Of an event that brings text: the text."""
        if self.delta is None:
            return None
        match self.delta_kind:
            case "text":
                return self.delta.text
            case "thinking":
                return self.delta.thinking
            case "input_json":
                return self.delta.partial_json
        return None


class ToolResultMeta(msgspec.Struct, frozen=True, gc=False):
    """What the CLI (2.1.330) says of a tool call beside its result.

    Attributes:
        id: the call.
        non_execution_kind: why it did not run to its end: `user-rejected` when an interrupt stopped it,
            else the kind of permission that refused it; None when it ran.
    """

    id: str = ""
    non_execution_kind: str | None = None


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Who began a turn, when that was not a prompt: `task-notification`, `channel`, ..."""

    kind: str = ""


class Task(msgspec.Struct, frozen=True, gc=False):
    """One of the `tasks` of a `background_tasks_changed` (2.1.330)."""

    task_id: str = ""
    task_type: str = ""
    description: str = ""


class PromptOutcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a prompt that did not get to the model (2.1.330): `blocked_by_hook`, `stopped_by_hook`."""

    kind: str = ""
    reason: str = ""
