"""Turns an answer into the bytes of the Messages API: a JSON message, or server-sent events; pure.

The events and their order: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
JSON is written in ASCII, so that any text, even a lone surrogate, is valid on the wire.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pocket_agent.demo.reply import Block, Failure, Message, Text, Thinking, ToolUse

_CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True)
class Usage:
    """Token counts of one request: made up, but plausible, never zero, and the same each time."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Envelope:
    """What surrounds the blocks: the message's id (without prefix), the model that was asked, usage."""

    id: str
    model: str
    usage: Usage


@dataclass(frozen=True)
class Chunk:
    """A piece of the response, and how many seconds to wait before it is sent."""

    data: bytes
    pause_seconds: float = 0.0


def count_tokens(size_bytes: int) -> int:
    """About how many tokens a text of that size is."""
    return max(1, size_bytes // _CHARACTERS_PER_TOKEN)


def usage(request_bytes: int, message: Message) -> Usage:
    """The token counts of answering a request of `request_bytes` with `message`.

    Most of a request is what the CLI sends every time, so most of it counts as read from the cache.
    """
    total = count_tokens(request_bytes)
    return Usage(
        input_tokens=max(1, total // 32),
        cache_creation_input_tokens=max(1, total // 16),
        cache_read_input_tokens=max(1, total - total // 32 - total // 16),
        output_tokens=max(1, sum(_size(block) for block in message.blocks) // _CHARACTERS_PER_TOKEN),
    )


def error_body(failure: Failure) -> bytes:
    """The JSON of an error response."""
    return _json({"type": "error", "error": {"type": failure.type, "message": failure.message}})


def whole(message: Message, envelope: Envelope) -> bytes:
    """The response to a request that does not stream."""
    head = _head(envelope, envelope.usage.output_tokens)
    content = [
        {**_opening(block, envelope.id, index), **_complete(block)} for index, block in enumerate(message.blocks)
    ]
    return _json({**head, "content": content, "stop_reason": message.stop_reason})


def pause_seconds(message: Message) -> float:
    """How long the streamed answer would take."""
    return sum(chunk.pause_seconds for block in message.blocks for chunk in _deltas(0, block))


def events(message: Message, envelope: Envelope) -> Iterator[Chunk]:
    """The server-sent events of a streamed response, in order."""
    yield _event("message_start", {"message": _head(envelope, 1)})
    yield _event("ping", {})
    for index, block in enumerate(message.blocks):
        opening = _opening(block, envelope.id, index)
        yield _event("content_block_start", {"index": index, "content_block": opening})
        yield from _deltas(index, block)
        yield _event("content_block_stop", {"index": index})
    delta = {"stop_reason": message.stop_reason, "stop_sequence": None}
    yield _event("message_delta", {"delta": delta, "usage": {"output_tokens": envelope.usage.output_tokens}})
    yield _event("message_stop", {})


def _head(envelope: Envelope, output_tokens: int) -> dict[str, object]:
    counts = envelope.usage
    return {
        "id": f"msg_{envelope.id}",
        "type": "message",
        "role": "assistant",
        "model": envelope.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": counts.input_tokens,
            "cache_creation_input_tokens": counts.cache_creation_input_tokens,
            "cache_read_input_tokens": counts.cache_read_input_tokens,
            "output_tokens": output_tokens,
        },
    }


def _opening(block: Block, message_id: str, index: int) -> dict[str, object]:
    match block:
        case Text():
            return {"type": "text", "text": ""}
        case Thinking():
            return {"type": "thinking", "thinking": "", "signature": ""}
        case ToolUse():
            return {"type": "tool_use", "id": f"toolu_{message_id}_{index}", "name": block.name, "input": {}}


def _complete(block: Block) -> dict[str, object]:
    match block:
        case Text():
            return {"text": block.text}
        case Thinking():
            return {"thinking": block.text, "signature": _signature(block)}
        case ToolUse():
            return {"input": dict(block.input)}


def _deltas(index: int, block: Block) -> Iterator[Chunk]:
    match block:
        case Text():
            for piece in _pieces(block.text, block.delta_characters):
                yield _delta(index, {"type": "text_delta", "text": piece}, block.delta_seconds)
        case Thinking():
            for piece in _pieces(block.text, len(block.text) or 1):
                yield _delta(index, {"type": "thinking_delta", "thinking": piece})
            yield _delta(index, {"type": "signature_delta", "signature": _signature(block)})
        case ToolUse():
            text = json.dumps(dict(block.input))
            for piece in _pieces(text, max(1, (len(text) + 1) // 2)):
                yield _delta(index, {"type": "input_json_delta", "partial_json": piece})


def _pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _signature(block: Thinking) -> str:
    return base64.b64encode(hashlib.sha256(block.text.encode()).digest()).decode()


def _size(block: Block) -> int:
    return len(json.dumps(dict(block.input))) if isinstance(block, ToolUse) else len(block.text)


def _delta(index: int, delta: Mapping[str, object], pause: float = 0.0) -> Chunk:
    return _event("content_block_delta", {"index": index, "delta": dict(delta)}, pause)


def _event(name: str, fields: Mapping[str, object], pause: float = 0.0) -> Chunk:
    data = json.dumps({"type": name, **fields})
    return Chunk(f"event: {name}\ndata: {data}\n\n".encode("ascii"), pause)


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value).encode("ascii")
