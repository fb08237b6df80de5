"""HTTP: the WebSocket endpoint, the health endpoints, and the web client."""

import asyncio
import time
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Final, Literal

import msgspec
from aiohttp import WSMsgType, web

from pocket_agent.audit.audit_log import AuditLog
from pocket_agent.errors import (
    FileOperationError,
    ForbiddenError,
    PocketAgentError,
    RateLimitedError,
    UnauthorizedError,
)
from pocket_agent.events import ConnectionRejected, Observer
from pocket_agent.hub import Hub
from pocket_agent.model import USER_PREFIX, Device
from pocket_agent.policy import Policy
from pocket_agent.protocol.frame import encode_data, encode_frame, timestamp
from pocket_agent.protocol.push import ChallengeData, ProvedData
from pocket_agent.server.answer import HEADERS, refusal, without_ids
from pocket_agent.server.api import Api
from pocket_agent.server.audited_handler import AuditedHandler
from pocket_agent.server.auth import Authenticator
from pocket_agent.server.connection import (
    CLOSE_GOING_AWAY,
    CLOSE_REVOKED,
    CLOSE_UNAUTHORIZED,
    Connection,
)
from pocket_agent.server.devices import REVOKED, Devices
from pocket_agent.server.guard import Guard, Hosts, Probes, is_probe
from pocket_agent.server.handlers import Handlers, Report
from pocket_agent.server.limits import Admission, Quotas
from pocket_agent.server.pages import Runbooks, Site, read_runbooks
from pocket_agent.server.peer import PEER, Origins, Peer
from pocket_agent.server.proof import WEBSOCKET, Nonces, proven_by, signed_text
from pocket_agent.session.project_log import now
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Store

_KEEP_ALIVE_SECONDS: Final = 1.0
_PROOF_SECONDS: Final = 10.0
"""How long a page may take to prove that its cookie is its own."""
_STOPPING: Final = "The server is stopping."
_REVOCATION_SECONDS: Final = 0.25
"""How often it is looked whether connected devices may still be; commands change the database beside us."""


class Endpoint:
    """What the listeners serve.

    Attributes:
        admission: how many connections and requests there may be.
        hosts: the names by which it may be asked for.
    """

    def __init__(
        self,
        handlers: Handlers,
        store: Store,
        authenticator: Authenticator,
        devices: Devices,
        report: Report,
        hub: Hub,
        settings: CurrentSettings,
        observer: Observer,
        trail: AuditLog,
    ) -> None:
        self._handlers = handlers
        self._audited = AuditedHandler(handlers, trail)
        self._authenticator = authenticator
        self._report = report
        self._hub = hub
        self._settings = settings
        self._observer = observer
        self._devices = devices
        self._origins = Origins(settings)
        self._nonces = Nonces()
        self._api = Api(store, authenticator, self._origins, observer, devices, trail, Policy(settings), self._nonces)
        self.admission = Admission(settings)
        self.hosts = Hosts(settings, auth=settings.current.server.auth)
        self._guard = Guard(settings, self.hosts, self.admission, observer)
        self._quotas = Quotas(settings)
        self._probes = Probes()
        self._stopping = False
        self._opening: Counter[str] = Counter()

    def application(self) -> web.Application:
        """The aiohttp application with all routes."""
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
        """Everybody who is connected."""
        return [sink for sink in self._hub.sinks if isinstance(sink, Connection)]

    def renew(self) -> None:
        """Take over settings that have changed."""
        self._guard.renew()
        self._quotas.renew()

    def is_watched(self, project_id: str) -> bool:
        """Whether somebody looks at a project, by a client that is connected, and could answer for it."""
        return any(connection.attends(project_id) for connection in self.connections())

    def refuse_new_work(self) -> None:
        """The server is stopping: nobody comes in, nothing begins."""
        self._stopping = True
        self._handlers.refuse_new_work()

    async def close_all(self) -> None:
        """Tell every client to come back later."""
        await asyncio.gather(
            *(connection.close(CLOSE_GOING_AWAY, "the server is restarting") for connection in self.connections())
        )

    async def keep_alive(self) -> None:
        """Ping the silent, for as long as it runs."""
        while True:
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
            at = time.monotonic()
            for connection in self.connections():
                connection.keep_alive(at)
            for source, count in self.admission.refused():
                self._observer.emit(ConnectionRejected("rate", source, count))

    async def push_figures(self) -> None:
        """Send figures to who asked for them again and again, for as long as it runs."""
        while True:
            at = time.monotonic()
            waits = [_KEEP_ALIVE_SECONDS]
            for connection in self.connections():
                for kind, feed in connection.feeds.items():
                    if feed.due <= at and not connection.congested:
                        data = feed.take(at)
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
        """A loop of its own: it may wait for a project, and that must not delay the closing of connections."""
        while True:
            await asyncio.sleep(_REVOCATION_SECONDS)
            with suppress(FileOperationError):  # a database that cannot be read says nothing about devices
                await self._devices.withdraw_void()

    async def _watch_connections(self) -> None:
        while True:
            await asyncio.sleep(_REVOCATION_SECONDS)
            self._watch_users()
            connections = [connection for connection in self.connections() if connection.device.token_hash]
            if not connections:
                continue
            try:
                present = await self._authenticator.devices()
            except FileOperationError:
                continue  # a database that cannot be read tells nothing about devices
            for connection in connections:
                device = present.get(connection.device.id)
                if device is None or device.token_hash != connection.device.token_hash:
                    connection.end(CLOSE_REVOKED, REVOKED)
                else:
                    connection.device = device

    def _watch_users(self) -> None:
        """Close the connections of users whom the settings let in no more; what others may can have changed."""
        for connection in self.connections():
            if connection.device.id.startswith(USER_PREFIX):
                user = self._authenticator.user(connection.device.name)
                if user is None:
                    connection.end(CLOSE_REVOKED, REVOKED)
                else:
                    connection.device = user

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        peer = request[PEER]
        if is_probe(request):
            return (
                refusal(_FullError(_STOPPING)) if self._stopping else await self._probes.answer(request, peer.address)
            )
        remote = peer.address
        try:
            self._origins.check(peer, request.headers)
            ambient = self._origins.is_own(peer, request.headers)
            shown = await self._bound(request, peer) if ambient and request.query.get("proof") == "1" else []
            device = shown[0] if shown else await self._authenticator.device(peer, request.headers, ambient=ambient)
            # Counted without an await in between, so that many at once do not pass the limit together.
            self._refuse_when_full(device, remote)
        except UnauthorizedError as error:
            self._observer.emit(ConnectionRejected("unauthorized", remote))
            return await self._unauthorized(request, error)
        except RateLimitedError as error:
            self._observer.emit(ConnectionRejected("throttled", remote))
            return refusal(error)
        except ForbiddenError as error:
            self._observer.emit(ConnectionRejected("origin", remote))
            return refusal(error)
        except _FullError as error:
            return refusal(error)
        self._opening[device.id] += 1
        with ExitStack() as place:
            place.callback(self._give_back, device)
            return await self._serve(request, device, peer, place, shown)

    async def _bound(self, request: web.Request, peer: Peer) -> list[Device]:
        """The devices of which a page may prove to be one.

        Raises:
            UnauthorizedError: there are none.
        """
        found = [device for device, _ in await self._authenticator.cookies(peer, request.headers)]
        if bound := [device for device in found if device.public_key is not None]:
            return bound
        raise UnauthorizedError("No cookie that belongs to a key.")

    def _give_back(self, device: Device) -> None:
        self._opening[device.id] -= 1
        if not self._opening[device.id]:
            del self._opening[device.id]

    def _refuse_when_full(self, device: Device, remote: str) -> None:
        full = self._full()
        limit = self._settings.current.limits.connections_per_device
        if full is None and self._opening[device.id] >= limit and not self.admission.exempts(remote):
            full = "limit", _FullError(f"This device has {limit} connections already (limits.connections_per_device).")
        if full is not None:
            reason, error = full
            self._observer.emit(ConnectionRejected(reason, remote))
            raise error

    def _full(self) -> "tuple[Literal['stopping', 'limit'], _FullError] | None":
        """Why nobody gets in now."""
        if self._stopping:
            return "stopping", _FullError(_STOPPING)
        limit = self._settings.current.limits.max_connections
        if self._opening.total() >= limit:
            return "limit", _FullError(f"There are {limit} connections already (limits.max_connections).")
        return None

    async def _serve(
        self, request: web.Request, device: Device, peer: Peer, place: ExitStack, shown: list[Device]
    ) -> web.StreamResponse:
        # Text stays bytes: frames are decoded once, by the protocol, which refuses bad UTF-8 by itself.
        socket: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
            autoping=False,
            # Inbound, what a message inflates to is bounded by `max_msg_size`, too.
            compress=True,
            max_msg_size=self._settings.current.limits.message_size + 1,  # aiohttp's own bound is exclusive
            decode_text=False,
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        if self._stopping:  # since it was let in, so that `close_all` did not see it
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
        connection = Connection(socket, transport, device, peer, self._hub, self._settings, self._observer, quota)
        async with asyncio.TaskGroup() as beside:
            # A client that only watches must not wait for a database that is locked.
            beside.create_task(self._authenticator.seen(device, peer.address))
            await connection.serve(self._audited)
            place.close()  # who comes again must not wait for the database either
            beside.create_task(self._authenticator.seen(device, peer.address))
        return socket

    async def _proven(
        self, socket: "web.WebSocketResponse[Literal[False]]", origin: str, shown: list[Device]
    ) -> Device:
        """Let a page prove that a cookie is its own, before anything else is read or said.

        Raises:
            UnauthorizedError: it did not.
        """
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
        """A program sees the status; a page's script only sees the code of a close frame."""
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
        return web.Response(
            status=200 if health.status == "healthy" else 503,
            body=encode_data(body),
            content_type="application/json",
            headers=HEADERS,
        )


class _Proof(msgspec.Struct, frozen=True):
    signature: str


class _Prove(msgspec.Struct, frozen=True, tag_field="type", tag="prove"):
    data: _Proof


class _FullError(PocketAgentError):
    """No room for another connection now."""

    code = "RESOURCE_LIMIT"
