"""A scripted stand-in for the Messages API of Anthropic, which the real CLI talks to."""

import asyncio
import base64
import hashlib
import json
import math
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from aiohttp import ClientConnectionResetError, web
from aiohttp.typedefs import Handler

from pocket_agent.demo.model_request import ModelRequest, decode, is_side_request, question, side_answer
from pocket_agent.demo.scenario import (
    Block,
    Clearing,
    Failure,
    Limit,
    Message,
    Reply,
    Text,
    Thinking,
    ToolUse,
    choose,
    say,
)
from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import is_loopback

_CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True)
class Usage:
    """Token counts of one request: invented, but plausible, never zero, and reproducible."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Envelope:
    """The message's id without its prefix, its model and its usage."""

    id: str
    model: str
    usage: Usage


@dataclass(frozen=True)
class Chunk:
    """A part of the response, and the pause before it is sent."""

    data: bytes
    pause_seconds: float = 0.0


def count_tokens(size_bytes: int) -> int:
    """The approximate number of tokens of a text."""
    return max(1, size_bytes // _CHARACTERS_PER_TOKEN)


def usage(request_bytes: int, message: Message) -> Usage:
    """The token counts of a request; most of it is repeated each time, so most counts as read from the cache."""
    total = count_tokens(request_bytes)
    return Usage(
        input_tokens=max(1, total // 32),
        cache_creation_input_tokens=max(1, total // 16),
        cache_read_input_tokens=max(1, total - total // 32 - total // 16),
        output_tokens=max(1, sum(_size(block) for block in message.blocks) // _CHARACTERS_PER_TOKEN),
    )


def error_body(failure: Failure) -> bytes:
    return _json({"type": "error", "error": {"type": failure.type, "message": failure.message}})


def whole(message: Message, envelope: Envelope) -> bytes:
    """The response to a request that does not stream."""
    head = _head(envelope, envelope.usage.output_tokens)
    content = [
        {**_opening(block, envelope.id, index), **_complete(block)} for index, block in enumerate(message.blocks)
    ]
    return _json({**head, "content": content, "stop_reason": message.stop_reason})


def pause_seconds(message: Message) -> float:
    """The time that the streamed answer would take."""
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
    return {
        "id": f"msg_{envelope.id}",
        "type": "message",
        "role": "assistant",
        "model": envelope.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**asdict(envelope.usage), "output_tokens": output_tokens},
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


_MAX_BODY_BYTES: Final = 64 * 2**20
_MAX_RECORDS: Final = 10_000
_WRITE_BYTES: Final = 16 * 1024
_MAX_COUNTED_PROMPTS: Final = 1_000
_JSON: Final = "application/json"
_WINDOWS: Final = {"5h": 5 * 3600, "7d": 7 * 86_400}
"""The windows of the usage limits of a subscription, in seconds, by their part of the header's name."""
_UNIFIED: Final = "anthropic-ratelimit-unified-"
_LIMITED: Final = Failure(429, "rate_limit_error", "This request would exceed your account's rate limit.")


@dataclass(frozen=True)
class RequestRecord:
    """A request that the model answered, for the assertions of tests.

    Attributes:
        path: without its query.
        model: as requested; empty without one.
        scenario: its name; `side` for requests of the CLI for itself; empty for others.
        stream: whether server-sent events were requested.
    """

    path: str
    model: str = ""
    scenario: str = ""
    stream: bool = False


class ScriptedModel:
    """The Messages API on a loopback port; each reply depends on the request alone.

    Its only state is the number of tries of each overloaded prompt, and the usage limit of the account. As with the
    real API, headers of each response have that limit. The CLI (2.1.332) reads them with a login, not with a key.
    """

    def __init__(self) -> None:
        self.instance: Final = uuid.uuid4().hex
        """A random id of this server, which `GET /demo/identity` returns."""
        self._runner: web.AppRunner | None = None
        self._records: deque[RequestRecord] = deque(maxlen=_MAX_RECORDS)
        self._tries: Counter[str] = Counter()
        self._limits: dict[str, float] = {}
        self._limited_until = 0.0
        self._running = 0
        self._last_active = time.monotonic()

    @property
    def requests(self) -> list[RequestRecord]:
        """The latest requests, oldest first."""
        return list(self._records)

    @property
    def idle_seconds(self) -> float:
        """The time since the last request; 0 while one is being answered."""
        return 0.0 if self._running else time.monotonic() - self._last_active

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and return the URL for `ANTHROPIC_BASE_URL`; port 0 is any free port.

        Raises:
            ConfigurationError: the host is not a loopback address, or the model runs already.
            OSError: the port is taken.
        """
        if not is_loopback(host):
            raise ConfigurationError(f"The demo model listens on loopback addresses only, not on {host!r}.")
        if self._runner is not None:
            raise ConfigurationError("The demo model runs already.")
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[self._watch])
        app.on_response_prepare.append(self._add_usage)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_get("/demo/identity", self._identity)
        app.router.add_route("*", "/{path:.*}", self._other)
        # A client that disconnects cancels its handler, which ends a slow answer to an interrupted CLI.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{runner.addresses[0][1]}"

    def lift_limit(self) -> None:
        """Reset the usage limit of the account."""
        self._limited_until = 0.0

    async def stop(self) -> None:
        """Stop listening and end the running answers; does nothing when the model does not run."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _messages(self, http: web.Request) -> web.StreamResponse:
        body = await http.read()
        try:
            request = decode(body)
        except ValueError as problem:
            return _failure(Failure(400, "invalid_request_error", f"The request cannot be read: {problem}"))
        scenario, key, reply = _answer(request)
        self._records.append(RequestRecord(http.path, request.model, scenario, request.stream))
        outcome = self._settle(reply, key)
        if isinstance(outcome, Failure):
            return _failure(outcome)
        envelope = Envelope(uuid.uuid4().hex[:24], request.model, usage(len(body), outcome))
        if request.stream:
            return await _stream(http, outcome, envelope)
        await asyncio.sleep(pause_seconds(outcome))
        return web.Response(body=whole(outcome, envelope), content_type=_JSON)

    async def _add_usage(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers with the usage limits to an answer of the model; each request uses one percent."""
        if request.path != "/v1/messages":
            return
        at, limited = time.time(), response.status == _LIMITED.status
        resets = {name: (at // length + 1) * length for name, length in _WINDOWS.items()}
        used = dict.fromkeys(_WINDOWS, len(self._records) % 90 / 100)
        if limited:
            resets["5h"], used["5h"] = self._limited_until, 1.0
        values: dict[str, object] = {
            "status": "rejected" if limited else "allowed",
            "representative-claim": "five_hour",
            "reset": round(resets["5h"]),
        }
        for name in _WINDOWS:
            values |= {f"{name}-utilization": used[name], f"{name}-reset": round(resets[name])}
        response.headers.update({f"{_UNIFIED}{name}": str(value) for name, value in values.items()})

    def _settle(self, reply: Reply, key: str) -> Message | Failure:
        if isinstance(reply, Limit) and key not in self._limits:
            if len(self._limits) > _MAX_COUNTED_PROMPTS:
                self._limits.clear()
            # The header has whole seconds, and the limit is over at that time.
            self._limits[key] = self._limited_until = float(math.ceil(time.time() + reply.seconds))
        if time.time() < self._limited_until:
            return _LIMITED
        if isinstance(reply, Limit):
            return reply.then
        if not isinstance(reply, Clearing):
            return reply
        if len(self._tries) > _MAX_COUNTED_PROMPTS:
            self._tries.clear()
        self._tries[key] += 1
        return reply.failure if self._tries[key] <= reply.times else reply.then

    async def _identity(self, _request: web.Request) -> web.Response:
        return web.json_response({"instance": self.instance})

    async def _other(self, request: web.Request) -> web.Response:
        """Answer the CLI's requests at its start (`HEAD /`, `HEAD /api/hello`) with an empty object."""
        self._records.append(RequestRecord(request.path))
        if request.method in {"GET", "HEAD"}:
            return web.json_response({})
        return _failure(Failure(404, "not_found_error", "The demo model has no such endpoint."))

    async def _count_tokens(self, request: web.Request) -> web.Response:
        size = len(await request.read())
        self._records.append(RequestRecord(request.path))
        return web.json_response({"input_tokens": count_tokens(size)})

    @web.middleware
    async def _watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._running += 1
        try:
            return await handler(request)
        finally:
            self._running -= 1
            self._last_active = time.monotonic()


def _answer(request: ModelRequest) -> tuple[str, str, Reply]:
    """The scenario's name, the key of the prompt, and the reply."""
    if is_side_request(request):
        return "side", "", say(side_answer(request))
    asked = question(request)
    name, reply = choose(asked)
    return name, asked.key, reply


async def _stream(http: web.Request, message: Message, envelope: Envelope) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    try:
        await response.prepare(http)
        waiting = bytearray()
        for chunk in events(message, envelope):
            if waiting and (chunk.pause_seconds or len(waiting) >= _WRITE_BYTES):
                await response.write(bytes(waiting))
                waiting.clear()
            if chunk.pause_seconds:
                await asyncio.sleep(chunk.pause_seconds)
            waiting += chunk.data
        await response.write(bytes(waiting))
        await response.write_eof()
    except ClientConnectionResetError:
        pass  # the CLI was interrupted or has ended
    return response


def _failure(failure: Failure) -> web.Response:
    return web.Response(status=failure.status, body=error_body(failure), content_type=_JSON)
