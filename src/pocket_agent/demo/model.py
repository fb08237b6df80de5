"""The scripted model as a loopback HTTP server."""

import asyncio
import ipaddress
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientConnectionResetError, web
from aiohttp.typedefs import Handler

from pocket_agent.demo import stream
from pocket_agent.demo.conversation import Request, decode, is_side_request, question, side_answer
from pocket_agent.demo.reply import Clearing, Failure, Message, Reply, say
from pocket_agent.demo.scenario import choose
from pocket_agent.errors import ConfigurationError

_MAX_BODY_BYTES: Final = 64 * 2**20
_MAX_RECORDS: Final = 10_000
_WRITE_BYTES: Final = 16 * 1024
_MAX_COUNTED_PROMPTS: Final = 1_000
_JSON: Final = "application/json"


@dataclass(frozen=True)
class RequestRecord:
    """A request that the model answered, for assertions of tests.

    Attributes:
        path: the path without its query.
        model: the model that was asked for; empty when the request named none.
        scenario: which one answered; `side` for requests of the CLI about itself; empty for others.
        stream: whether server-sent events were asked for.
    """

    path: str
    model: str = ""
    scenario: str = ""
    stream: bool = False


class ScriptedModel:
    """Speaks the Messages API on a loopback port; each reply follows from the request alone.

    The one thing that it remembers is how often an overloaded prompt was tried.
    """

    def __init__(self) -> None:
        self.instance: Final = uuid.uuid4().hex
        """A random id of this server, which `GET /demo/identity` tells."""
        self._runner: web.AppRunner | None = None
        self._records: deque[RequestRecord] = deque(maxlen=_MAX_RECORDS)
        self._tries: Counter[str] = Counter()
        self._running = 0
        self._last_active = time.monotonic()

    @property
    def requests(self) -> list[RequestRecord]:
        """The latest requests, oldest first."""
        return list(self._records)

    @property
    def idle_seconds(self) -> float:
        """For how long there has been no request; 0 while one is being answered."""
        return 0.0 if self._running else time.monotonic() - self._last_active

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and return the base URL for `ANTHROPIC_BASE_URL`.

        Args:
            host: a loopback address.
            port: 0 for any free one.

        Raises:
            ConfigurationError: the host is not a loopback address, or the model runs already.
            OSError: the port is taken.
        """
        if not _is_loopback(host):
            raise ConfigurationError(f"The demo model listens on loopback addresses only, not on {host!r}.")
        if self._runner is not None:
            raise ConfigurationError("The demo model runs already.")
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[self._watch])
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_get("/demo/identity", self._identity)
        app.router.add_route("*", "/{path:.*}", self._other)
        # A client that goes away cancels its handler, so a slow answer to an interrupted CLI ends.
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

    async def stop(self) -> None:
        """Stop listening and end what is being answered; does nothing when it does not run."""
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
        envelope = stream.Envelope(uuid.uuid4().hex[:24], request.model, stream.usage(len(body), outcome))
        if request.stream:
            return await _stream(http, outcome, envelope)
        await asyncio.sleep(stream.pause_seconds(outcome))
        return web.Response(body=stream.whole(outcome, envelope), content_type=_JSON)

    def _settle(self, reply: Reply, key: str) -> Message | Failure:
        if not isinstance(reply, Clearing):
            return reply
        if len(self._tries) > _MAX_COUNTED_PROMPTS:
            self._tries.clear()
        self._tries[key] += 1
        return reply.failure if self._tries[key] <= reply.times else reply.then

    async def _identity(self, _request: web.Request) -> web.Response:
        return web.json_response({"instance": self.instance})

    async def _other(self, request: web.Request) -> web.Response:
        """Whatever the CLI asks for at its start (`HEAD /`, `HEAD /api/hello`): an empty answer will do."""
        self._records.append(RequestRecord(request.path))
        if request.method in {"GET", "HEAD"}:
            return web.json_response({})
        return _failure(Failure(404, "not_found_error", "The demo model has no such endpoint."))

    async def _count_tokens(self, request: web.Request) -> web.Response:
        size = len(await request.read())
        self._records.append(RequestRecord(request.path))
        return web.json_response({"input_tokens": stream.count_tokens(size)})

    @web.middleware
    async def _watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._running += 1
        try:
            return await handler(request)
        finally:
            self._running -= 1
            self._last_active = time.monotonic()


def _answer(request: Request) -> tuple[str, str, Reply]:
    """The scenario's name, the key of the prompt, and the reply."""
    if is_side_request(request):
        return "side", "", say(side_answer(request))
    asked = question(request)
    name, reply = choose(asked)
    return name, asked.key, reply


async def _stream(http: web.Request, message: Message, envelope: stream.Envelope) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    try:
        await response.prepare(http)
        waiting = bytearray()
        for chunk in stream.events(message, envelope):
            if waiting and (chunk.pause_seconds or len(waiting) >= _WRITE_BYTES):
                await response.write(bytes(waiting))
                waiting.clear()
            if chunk.pause_seconds:
                await asyncio.sleep(chunk.pause_seconds)
            waiting += chunk.data
        await response.write(bytes(waiting))
        await response.write_eof()
    except ClientConnectionResetError:
        # The CLI was interrupted or ended; there is nobody left to answer.
        return response
    return response


def _failure(failure: Failure) -> web.Response:
    body = stream.error_body(failure)
    return web.Response(status=failure.status, body=body, content_type=_JSON)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
