"""A small real WebSocket server that keeps a log, speaks the protocol, and hangs up when told to."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import WSCloseCode, web

from tests.harness import DEADLINE_SECONDS

Json = dict[str, Any]
Handler = Callable[["Peer", Json], Awaitable[Json | None]]


class Peer:
    """One connection as the server sees it."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.request = request
        self.joined = False

    async def send(self, kind: str, data: Json, **envelope: Any) -> None:
        """Send a frame, unless the connection is gone."""
        frame = {"type": kind, "timestamp": "2026-01-31T12:00:00.000Z", **envelope, "data": data}
        with contextlib.suppress(ConnectionError):
            await self.socket.send_str(json.dumps(frame))

    async def hang_up(self, code: int = 1001) -> None:
        """End the connection, without a goodbye for 1006."""
        if code == WSCloseCode.ABNORMAL_CLOSURE:
            transport = self.request.transport
            if transport is not None:
                transport.abort()
        else:
            await self.socket.close(code=code)


class ScriptedServer:
    """Project `p` with a log of entries `{"n": offset}`; every request is kept in `requests`."""

    project = "p"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.epoch = "e1"
        self.entries: list[Json] = []
        self.first = 1
        self.peers: list[Peer] = []
        self.requests: list[Json] = []
        self.handlers: dict[str, Handler] = {}
        self.connections = 0
        self.refuse: int | None = None
        self.agents: list[str] = []
        self.token: str | None = None
        self.extra_join: Json = {}
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'ws' if self._tls is None else 'wss'}://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        app = web.Application()
        app.router.add_get("/ws", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away: every connection is aborted and the port is closed."""
        for peer in list(self.peers):
            await peer.hang_up(1006)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def append(self, **data: Any) -> int:
        """Store an entry, then send it to whoever has joined."""
        offset = len(self.entries) + 1
        self.entries.append({"n": offset, **data})
        for peer in [peer for peer in self.peers if peer.joined]:
            await self._send_entry(peer, offset)
        return offset

    async def push(self, kind: str, data: Json, **envelope: Any) -> None:
        """Send a frame that is no entry to everybody."""
        for peer in list(self.peers):
            await peer.send(kind, data, **envelope)

    async def hang_up(self, code: int = 1001) -> None:
        """End every connection."""
        for peer in list(self.peers):
            await peer.hang_up(code)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self.refuse is not None:
            return web.Response(status=self.refuse)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        socket = web.WebSocketResponse(max_msg_size=1024 * 1024, timeout=0.2)
        await socket.prepare(request)
        peer = Peer(socket, request)
        self.agents.append(request.headers.get("User-Agent", ""))
        self.connections += 1
        self.peers.append(peer)
        try:
            async for message in socket:
                await self._answer(peer, json.loads(message.data))
        finally:
            self.peers.remove(peer)
        return socket

    async def _answer(self, peer: Peer, frame: Json) -> None:
        self.requests.append(frame)
        kind = frame["type"]
        handler = self.handlers.get(kind)
        if handler is not None:
            reply = await handler(peer, frame)
            if reply is not None:
                await peer.send(reply.pop("type", kind), reply["data"], request_id=frame.get("request_id"))
            return
        match kind:
            case "project_join":
                await self._join(peer, frame)
            case "project_leave":
                peer.joined = False
                await peer.send(kind, {"project_id": self.project}, request_id=frame.get("request_id"))
            case _:
                error = {"code": "INVALID_MESSAGE", "message": f"no {kind} here"}
                await peer.send("error", error, request_id=frame.get("request_id"))

    async def _join(self, peer: Peer, frame: Json) -> None:
        since = frame["data"].get("since")
        start, recovered = len(self.entries), False
        if since is not None:
            known = since if isinstance(since, dict) else {"epoch": self.epoch, "offset": since}
            offset = known["offset"] if isinstance(known["offset"], int) else self.first - 1
            recovered = known["epoch"] == self.epoch and self.first - 1 <= offset <= len(self.entries)
            start = offset if recovered else self.first - 1
        reply = {
            "project_id": self.project,
            "state": "IDLE",
            "session_id": None,
            "epoch": self.epoch,
            "offset": len(self.entries),
            "recovered": recovered,
            "approvals": [],
            "queue": [],
            **self.extra_join,
        }
        peer.joined = False
        await peer.send("project_join", reply, request_id=frame["request_id"], project_id=self.project)
        await peer.send("project_state", {"id": self.project, "state": "IDLE"}, project_id=self.project)
        offset = start
        while offset < len(self.entries):
            offset += 1
            await self._send_entry(peer, offset)
        peer.joined = True

    async def _send_entry(self, peer: Peer, offset: int) -> None:
        data = self.entries[offset - 1]
        await peer.send("agent_message", data, project_id=self.project, offset=offset)


@contextlib.asynccontextmanager
async def scripted_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    """A started server, stopped at the end."""
    server = ScriptedServer(tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true, with a generous bound."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - another task, or the client, makes it true
            await asyncio.sleep(0.002)
