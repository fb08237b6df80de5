"""HTTP: the WebSocket endpoint, the health endpoints, and the web client."""

import asyncio
import time
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Final, Literal

import msgspec
from aiohttp import WSMsgType, web

from pocket_agent import errors
from pocket_agent.audit import AuditLog
from pocket_agent.claude.transcripts import Transcripts
from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import FileOperationError, PocketAgentError, UnauthorizedError
from pocket_agent.events import ConnectionRejected, Observer
from pocket_agent.hub import Hub
from pocket_agent.model import USER_PREFIX, Device
from pocket_agent.policy import Policy
from pocket_agent.projects import Projects
from pocket_agent.protocol.frame import encode_data, encode_frame, timestamp
from pocket_agent.protocol.push import ChallengeData, ProvedData
from pocket_agent.server.answer import HEADERS, answer, refusal, without_ids
from pocket_agent.server.api import Api
from pocket_agent.server.audited_handler import AuditedHandler
from pocket_agent.server.auth import Authenticator
from pocket_agent.server.connection import CLOSE_GOING_AWAY, CLOSE_REVOKED, CLOSE_UNAUTHORIZED, Connection
from pocket_agent.server.devices import REVOKED, Devices
from pocket_agent.server.guard import Guard, Hosts, Probes, is_probe
from pocket_agent.server.handlers import Handlers, Report
from pocket_agent.server.limits import Admission, Quotas
from pocket_agent.server.pages import Runbooks, Site, read_runbooks
from pocket_agent.server.peer import PEER, Origins, Peer, client_kind
from pocket_agent.server.proof import WEBSOCKET, Nonces, proven_by, signed_text
from pocket_agent.server.terminal_approvals import TerminalApprovals
from pocket_agent.server.terminal_sessions import TerminalSessions
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Store

_KEEP_ALIVE_SECONDS: Final = 1.0
_PROOF_SECONDS: Final = 10.0  # the limit for a page to prove that its cookie is its own
_STOPPING: Final = "The server is stopping."
_REVOCATION_SECONDS: Final = 0.25
"""The interval of checks for revoked devices, which a command of another process may have deleted."""


class Endpoint:
    """All routes, and the parts of the server behind them."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        projects: Projects,
        report: Report,
        settings: CurrentSettings,
        observer: Observer,
        trail: AuditLog,
        transcripts: Transcripts,
    ) -> None:
        self.authenticator = Authenticator(store, settings)
        self.devices = Devices(store, hub, projects, settings, observer)
        terminal = TerminalSessions(projects, transcripts)
        self.terminal_approvals = TerminalApprovals(projects, transcripts, Policy(settings), observer)
        self.handlers = Handlers(
            projects, store, hub, settings, report, self.devices, terminal, self.terminal_approvals
        )
        self._audited = AuditedHandler(self.handlers, trail)
        self._report = report
        self._hub = hub
        self._settings = settings
        self._observer = observer
        self._origins = Origins(settings)
        self._nonces = Nonces()
        parts = (store, self.authenticator, self._origins, observer, self.devices, trail)
        self._api = Api(*parts, Policy(settings), self._nonces)
        self.admission = Admission(settings)
        self.hosts = Hosts(settings, auth=settings.current.server.auth)
        self._guard = Guard(settings, self.hosts, self.admission, observer)
        self._quotas = Quotas(settings)
        self._probes = Probes()
        self._stopping = False
        self._opening: Counter[str] = Counter()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 * 1024)
        self._guard.add_to(application)
        application.router.add_get("/ws", self._websocket)
        self._api.add_to(application.router)
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/health", self._health)
        Runbooks(read_runbooks()).add_to(application)
        Site().add_to(application.router)
        return application

    def connections(self) -> list[Connection]:
        return [sink for sink in self._hub.sinks if isinstance(sink, Connection)]

    def renew(self) -> None:
        """Apply changed settings."""
        self._guard.renew()
        self._quotas.renew()

    def is_watched(self, conversation_id: str) -> bool:
        """Whether a connected user sees a conversation, and may answer approvals."""
        return any(connection.attends(conversation_id) for connection in self.connections())

    def refuse_new_work(self) -> None:
        """Refuse connections, prompts and new projects: the server is stopping."""
        self._stopping = True
        self.handlers.refuse_new_work()

    async def close_all(self) -> None:
        """Close all connections with 1001, so that clients reconnect later."""
        await asyncio.gather(
            *(connection.close(CLOSE_GOING_AWAY, "the server is restarting") for connection in self.connections())
        )

    async def keep_alive(self) -> None:
        """Ping silent clients and report refused ones, until cancelled."""
        while True:
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
            at = time.monotonic()
            for connection in self.connections():
                connection.keep_alive(at)
            for source, count in self.admission.refused():
                self._observer.emit(ConnectionRejected("rate", source, count))

    async def push_statistics(self) -> None:
        """Send the statistics that clients requested at an interval, until cancelled."""
        while True:
            at = time.monotonic()
            waits = [_KEEP_ALIVE_SECONDS]
            for connection in self.connections():
                for kind, feed in connection.feeds.items():
                    if feed.due <= at and not connection.congested:
                        feed.due = at + feed.interval
                        data = feed.read()
                        if data is not None:
                            connection.send(kind, data)
                    waits.append(feed.due - at)
            await asyncio.sleep(max(0.05, min(waits)))

    async def watch_devices(self) -> None:
        """Close the connections of devices that were revoked, and withdraw their prompts, until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._watch_connections())
            loops.create_task(self._watch_prompts())

    async def _watch_prompts(self) -> None:
        """Separate from `_watch_connections`, since it may wait for a project."""
        while True:
            await asyncio.sleep(_REVOCATION_SECONDS)
            with suppress(FileOperationError):
                await self.devices.withdraw_void()

    async def _watch_connections(self) -> None:
        while True:
            await asyncio.sleep(_REVOCATION_SECONDS)
            for connection in self.connections():
                if connection.device.id.startswith(USER_PREFIX):
                    _update(connection, self.authenticator.user(connection.device.name))
            connections = [connection for connection in self.connections() if connection.device.token_hash]
            if not connections:
                continue
            try:
                present = await self.authenticator.devices()
            except FileOperationError:
                continue  # an unreadable database does not revoke devices
            for connection in connections:
                _update(connection, present.get(connection.device.id))

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        peer = request[PEER]
        if is_probe(request):
            if self._stopping:
                return refusal(_FullError(_STOPPING))
            return await self._probes.answer(request, peer.address)
        remote = peer.address
        try:
            self._origins.check(peer, request.headers)
            ambient = self._origins.is_own(peer, request.headers)
            shown = await self._bound(request, peer) if ambient and request.query.get("proof") == "1" else []
            device = shown[0] if shown else await self.authenticator.device(peer, request.headers, ambient=ambient)
            # No await until it is counted, so that parallel requests cannot exceed the limit.
            self._refuse_when_full(device, remote)
        except UnauthorizedError as error:
            self._observer.emit(ConnectionRejected("unauthorized", remote))
            return await self._unauthorized(request, error)
        except (errors.RateLimitedError, errors.ForbiddenError) as error:
            throttled = isinstance(error, errors.RateLimitedError)
            self._observer.emit(ConnectionRejected("throttled" if throttled else "origin", remote))
            return refusal(error)
        except _FullError as error:
            return refusal(error)
        self._opening[device.id] += 1
        with ExitStack() as place:
            place.callback(self._release, device)
            return await self._serve(request, device, peer, place, shown)

    async def _bound(self, request: web.Request, peer: Peer) -> list[Device]:
        """The devices of a page's cookies that are bound to a key; raises UnauthorizedError without one."""
        found = [device for device, _ in await self.authenticator.cookies(peer, request.headers)]
        if bound := [device for device in found if device.public_key is not None]:
            return bound
        raise UnauthorizedError("No cookie that belongs to a key.")

    def _release(self, device: Device) -> None:
        self._opening -= Counter([device.id])

    def _refuse_when_full(self, device: Device, remote: str) -> None:
        limits = self._settings.current.limits
        own = self._opening[device.id]
        message = ""
        if self._stopping:
            message = _STOPPING
        elif self._opening.total() >= limits.max_connections:
            message = f"There are {limits.max_connections} connections already (limits.max_connections)."
        elif own >= limits.connections_per_device and not self.admission.exempts(remote):
            message = f"This device has {own} connections already (limits.connections_per_device)."
        if message:
            self._observer.emit(ConnectionRejected("stopping" if self._stopping else "limit", remote))
            raise _FullError(message)

    async def _serve(
        self, request: web.Request, device: Device, peer: Peer, place: ExitStack, shown: list[Device]
    ) -> web.StreamResponse:
        # Text stays bytes: the protocol decodes frames once, and refuses invalid UTF-8.
        socket: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
            autoping=False,
            compress=True,  # `max_msg_size` limits the decompressed size of messages, too
            max_msg_size=self._settings.current.limits.message_size + 1,  # aiohttp's own bound is exclusive
            decode_text=False,
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        if self._stopping:  # since it was accepted, so that `close_all` did not see it
            await socket.close(code=CLOSE_GOING_AWAY, message=b"the server is restarting")
            return socket
        if shown:
            try:
                device = await self._proven(socket, request.headers["Origin"], shown)
            except UnauthorizedError:
                self._observer.emit(ConnectionRejected("unauthorized", peer.address))
                await socket.close(code=CLOSE_UNAUTHORIZED, message=b"unauthorized")
                return socket
        quota = None if self.admission.exempts(peer.address) else self._quotas.of(device.id)
        client = client_kind(request.headers.get("User-Agent", ""))
        connection = Connection(
            socket, transport, device, peer, self._hub, self._settings, self._observer, quota, client=client
        )
        async with asyncio.TaskGroup() as tasks:
            # The client must not wait for a database that is locked.
            tasks.create_task(self.authenticator.seen(device, peer.address))
            await connection.serve(self._audited)
            place.close()  # a client that reconnects must not wait for the database, either
            tasks.create_task(self.authenticator.seen(device, peer.address))
        return socket

    async def _proven(
        self, socket: "web.WebSocketResponse[Literal[False]]", origin: str, shown: list[Device]
    ) -> Device:
        """Have a page prove that a cookie is its own, before any other frame; raises UnauthorizedError."""
        nonce = self._nonces.new()
        challenge = encode_frame("challenge", encode_data(ChallengeData(nonce)), now())
        try:
            async with asyncio.timeout(_PROOF_SECONDS):
                await socket.send_frame(challenge, WSMsgType.TEXT)
                message = await socket.receive()
                if message.type is not WSMsgType.TEXT:
                    raise UnauthorizedError("The first frame is not a proof.")
                proof = msgspec.json.decode(message.data, type=_Prove)
        except (TimeoutError, ConnectionError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise UnauthorizedError("The first frame is not a proof.") from error
        device = proven_by(shown, proof.data.signature, signed_text(origin, WEBSOCKET, nonce))
        await socket.send_frame(encode_frame("prove", encode_data(ProvedData(device.id)), now()), WSMsgType.TEXT)
        return device

    async def _unauthorized(self, request: web.Request, error: UnauthorizedError) -> web.StreamResponse:
        """401 for a program; a page's script sees only the code of a close frame."""
        if "Origin" not in request.headers:
            return refusal(error)
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.close(code=CLOSE_UNAUTHORIZED, message=b"unauthorized")
        return socket

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=HEADERS)

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = "stopping" if self._stopping else await self._report.unready()
        if reason is not None:
            return web.Response(status=503, text=f"{reason}\n", headers=HEADERS)
        return web.Response(text="ok\n", headers=HEADERS)

    async def _health(self, _: web.Request) -> web.Response:
        health = await self._report.health()
        body = {
            "status": health.status,
            "version": health.version,
            "uptime": health.uptime,
            "timestamp": timestamp(now()),
            "checks": without_ids(health.checks),
        }
        response = answer(body)
        response.set_status(200 if health.status == "healthy" else 503)
        return response


def _update(connection: Connection, device: Device | None) -> None:
    """Close the connection of a device without access now, or apply the device's current permissions."""
    if device is None or device.token_hash != connection.device.token_hash:
        connection.end(CLOSE_REVOKED, REVOKED)
    else:
        connection.device = device


class _Proof(msgspec.Struct, frozen=True):
    signature: str


class _Prove(msgspec.Struct, frozen=True, tag_field="type", tag="prove"):
    data: _Proof


class _FullError(PocketAgentError):
    code = "RESOURCE_LIMIT"
