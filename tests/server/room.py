"""The server in the test's own process: its real parts on a free port, with its inside within reach."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

from pocket_agent.audit import AuditLog, AuditRecord
from pocket_agent.claude.command_line import build_environment
from pocket_agent.claude.installation import Installer
from pocket_agent.claude.process import boot_id, kill_leftovers
from pocket_agent.claude.spool import SpoolWatcher
from pocket_agent.claude.transcripts import Transcripts
from pocket_agent.client import Client
from pocket_agent.conversation.agent import AgentContext
from pocket_agent.conversation.conversation import Conversation
from pocket_agent.conversation.conversation_log import Draft, entry_draft, now
from pocket_agent.events import Event, Observer
from pocket_agent.hub import Hub
from pocket_agent.model import Device
from pocket_agent.observability import Losses, Observability
from pocket_agent.observability.catalogue import METRIC_LABEL_OVERFLOW
from pocket_agent.projects import Projects
from pocket_agent.server.auth import hash_token, new_token
from pocket_agent.server.connection import Connection
from pocket_agent.server.http import Endpoint
from pocket_agent.settings import LiveSettings, load_settings
from pocket_agent.storage import Store
from tests.harness import DEADLINE_SECONDS
from tests.harness.server import write_standin


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        """What was told of this kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Noted(AuditLog):
    """A trail that keeps what is noted."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []

    def append(self, record: AuditRecord) -> None:
        """Keep it."""
        self.records.append(record)


class Wire:
    """A WebSocket without a library's manners: sends what it is given, returns frames as plain values."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self.socket = socket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def send(self, frame: object) -> None:
        """Send a text frame: bytes or text as they are, other values as JSON."""
        text = frame if isinstance(frame, (str, bytes)) else json.dumps(frame)
        await self.socket.send_frame(text.encode() if isinstance(text, str) else text, aiohttp.WSMsgType.TEXT)

    async def frame(self) -> dict[str, Any]:
        """The next text frame."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, f"{message.type} {message.data} {message.extra}"
        text = message.data if isinstance(message.data, str) else message.data.decode()
        return msgspec.json.decode(text, type=dict[str, Any])

    async def answer(self, request_id: str | None) -> dict[str, Any]:
        """The next frame that answers this request; None is an error that names none."""
        while True:
            frame = await self.frame()
            if request_id is None and frame["type"] == "error" and "request_id" not in frame:
                return frame
            if request_id is not None and frame.get("request_id") == request_id:
                return frame

    async def ask(self, kind: str, data: object = None, **fields: object) -> dict[str, Any]:
        """Send a request and give its answer, an error too."""
        request_id = f"ask-{kind}"
        await self.send({"type": kind, "data": data, "request_id": request_id, **fields})
        return await self.answer(request_id)

    async def works(self) -> None:
        """A valid request is answered, so that the connection lives."""
        assert (await self.ask("project_list"))["type"] == "project_list_response"

    async def closed(self) -> int | None:
        """The code with which the server closes; frames before that are dropped."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.socket.closed:
                await self.socket.receive()
        return self.socket.close_code


class Room:
    """A server whose listener is open.

    Attributes:
        url: its HTTP address.
        token: a device's token.
        seen: what its observer was told.
        losses: what telemetry let go of.
        metrics: what was counted.
        core: reads what the core keeps.
        loop: measures nothing here.
        history: takes readings when it is told to.
    """

    def __init__(self, folder: Path, flags: dict[str, object], store: Store, watcher: SpoolWatcher) -> None:
        self.folder = folder
        self._flags = flags
        self.live = live = LiveSettings(load_settings(config=None, environ={}, flags=flags))
        self.settings = settings = live.current
        self.store = store
        self.seen = Recorder()
        self.token = new_token()
        self.catalogued = True
        self._others: list[Observer] = []
        # The lag of the event loop is not measured: the load of the machine must not fail a test.
        self.observed = observed = Observability(live, {}, Losses(), others=[self.seen, self])
        observer = observed.observer
        child = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        installer = Installer(settings.claude.binary, (), build_environment(child, {}))
        self.transcripts = Transcripts(folder / ".claude", settings.claude.max_line)
        spool = settings.data.dir / "spool"
        context = AgentContext(live, installer, spool, watcher, child, observer, transcripts=self.transcripts)
        self.hub = Hub()
        self.projects = Projects(store, self.hub, context, live, observer)
        observed.attach(self.hub, self.projects, store, installer)
        self.losses, self.metrics, self.loop = observed.losses, observed.metrics, observed.loop
        self.core, self.health, self.history = observed.core, observed.health, observed.history
        self.inspector, self.report = observed.checks, observed.report
        self.trail = Noted()
        self.endpoint = Endpoint(
            store, self.hub, self.projects, self.report, live, observer, self.trail, self.transcripts
        )
        self.devices, self.handlers = self.endpoint.devices, self.endpoint.handlers
        self.authenticator = self.endpoint.authenticator
        self.port = 0

    def reload(self, **changed: object) -> None:
        """Change settings of the projects (`__` for the dots of their keys) while the server runs."""
        self._flags |= _dotted(changed)
        self.live.loaded = load_settings(config=None, environ={}, flags=self._flags)
        self.projects.renew()

    def observe(self, observer: Observer) -> None:
        """Tell somebody else of what happens from here on."""
        self._others.append(observer)

    def emit(self, event: Event) -> None:
        """Tell those who came later."""
        for observer in self._others:
            observer.emit(event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        """A client with the token."""
        return Client(f"ws://127.0.0.1:{self.port}/ws", token=self.token)

    @contextlib.asynccontextmanager
    async def wire(self, **options: Any) -> AsyncIterator[Wire]:
        """A bare connection with the token."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{self.url}/ws", headers=headers, max_msg_size=0, **options) as socket,
        ):
            yield Wire(socket)

    async def status(self, headers: Mapping[str, str]) -> int:
        """The HTTP status that a handshake with exactly these extra headers gets."""
        async with aiohttp.ClientSession() as http:
            try:
                async with http.ws_connect(f"{self.url}/ws", headers=dict(headers)) as socket:
                    if (await self._first(socket)) == aiohttp.WSMsgType.TEXT:
                        return 101
                    assert socket.close_code is not None
                    return socket.close_code
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    async def _first(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> aiohttp.WSMsgType:
        await socket.send_str('{"type":"project_list"}')
        async with asyncio.timeout(DEADLINE_SECONDS):
            return (await socket.receive()).type

    def connection(self) -> Connection:
        """The server's side of the one connection."""
        (found,) = self.endpoint.connections()
        return found

    async def project(self, name: str = "project", *, entries: int = 0, size: int = 20) -> Conversation:
        """A project with a log of this many entries."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        session = await self.projects.create(str(folder))
        await self.grow(session, entries, size=size)
        return session

    async def grow(self, conversation: Conversation, count: int, *, size: int = 20) -> None:
        """Append entries as the agent's lines would be."""
        head = conversation.state.record.head
        drafts: list[Draft] = [
            entry_draft("agent_message", {"n": head + number, "text": "x" * size}) for number in range(1, count + 1)
        ]
        await conversation.state.log.write(drafts)

    async def eventually(self, kind: type[Event]) -> Any:
        """Wait until something of this kind has happened, and give the last of it."""
        await until(lambda: bool(self.seen.of(kind)))
        return self.seen.of(kind)[-1]

    async def until_connections(self, count: int) -> None:
        """Wait until so many are connected."""
        await until(lambda: len(self.hub.sinks) == count)


def _dotted(settings: Mapping[str, object]) -> dict[str, object]:
    return {name.replace("__", "."): value for name, value in settings.items()}


@contextlib.asynccontextmanager
async def open_room(
    folder: Path, *, standin: bool = True, agents_stay: object = False, **changed: object
) -> AsyncIterator[Room]:
    """A server with these settings (`__` for the dots of their keys), closed with all its agents at the end.

    With `agents_stay` those that execute go on, as after a crash, for the next server on the same folder.
    """
    binary = write_standin(folder) if standin else folder / "nothing-here"
    flags: dict[str, object] = {"data.dir": folder / "data", "claude.binary": binary}
    flags |= _dotted(changed)
    store = Store.open(folder / "data" / "pocket-agent.db")
    watcher = SpoolWatcher()
    room = Room(folder, flags, store, watcher)
    await store.remove_device("d-1")  # of an earlier run on the same data
    await store.add_device(Device(id="d-1", name="test", token_hash=hash_token(room.token), created_at=now()))
    try:
        async with room.projects.running(), _listening(room), asyncio.TaskGroup() as group:
            loops = [
                group.create_task(loop)
                for loop in (
                    room.endpoint.keep_alive(),
                    room.endpoint.push_statistics(),
                    room.endpoint.watch_devices(),
                    room.health.run(),
                )
            ]
            try:
                yield room
            finally:
                for loop in loops:
                    loop.cancel()
                await room.projects.close_idle()
        strange = [
            sample
            for family in room.metrics.registry.collect()
            for sample in family.samples
            if sample.name == METRIC_LABEL_OVERFLOW.name and sample.value > 0
        ]
        assert not (strange and room.catalogued), f"the catalogue knows everything that happens here: {strange}"
        for project in [] if agents_stay else await store.conversations():
            record = await store.process(project.id)
            if record is not None:
                await kill_leftovers(record.pid, record.start_time, boot_id(), record.id)
    finally:
        room.transcripts.close()
        watcher.close()
        await store.close()


@contextlib.asynccontextmanager
async def _listening(room: Room) -> AsyncIterator[None]:
    runner = web.AppRunner(room.endpoint.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        room.port = runner.addresses[0][1]
        yield
    finally:
        await room.endpoint.close_all()
        await runner.cleanup()
