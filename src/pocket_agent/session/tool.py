"""Follows the tool calls of an agent: which began, and how each ended."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from pocket_agent.claude.stream import ApiMessage, ContentBlock, ToolResultMeta

Outcome = Literal["success", "error", "denied"]

_MAX_RUNNING: Final = 500
"""Calls whose result is awaited; the oldest are forgotten, since nobody tells of one that never ends."""
_NAME_CHARACTERS: Final = 200


class Completed(NamedTuple):
    """A tool call that is over."""

    tool: str
    outcome: Outcome


class ToolTrack:
    """Pairs the calls with their results.

    Attributes:
        running: the tools that run, by the id of the call.
        completed: the calls that ended, in order.
        changed: whether `running` is another one than it was.
    """

    def __init__(self, running: Mapping[str, str]) -> None:
        self.running = dict(running)
        self.completed: list[Completed] = []
        self.changed = False

    def called(self, message: ApiMessage) -> None:
        """The model calls tools."""
        for block in message.blocks:
            if block.type == "tool_use" and block.id:
                self.changed = True
                self.running[block.id] = (block.name or "")[:_NAME_CHARACTERS]
                if len(self.running) > _MAX_RUNNING:
                    del self.running[next(iter(self.running))]

    def returned(self, message: ApiMessage, meta: Sequence[ToolResultMeta] | None) -> None:
        """Tools gave their results; one whose call was not seen, or is over already, is nobody's."""
        for block in message.blocks:
            if block.type != "tool_result" or block.tool_use_id is None:
                continue
            tool = self.running.pop(block.tool_use_id, None)
            if tool is not None:
                self.changed = True
                self.completed.append(Completed(tool, _outcome(block, meta or ())))


def _outcome(block: ContentBlock, meta: Sequence[ToolResultMeta]) -> Outcome:
    """How a call ended; one that was stopped by an interrupt was denied its end, and did not fail."""
    if not block.is_error:
        return "success"
    stopped = any(about.id == block.tool_use_id and about.non_execution_kind for about in meta)
    return "denied" if stopped else "error"
