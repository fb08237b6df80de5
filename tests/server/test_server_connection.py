"""One connection: pings, slow readers, many requests at a time, and how it ends."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from pocket_agent.errors import FileOperationError
from pocket_agent.events import (
    ConnectionClosed,
    ConnectionOpened,
    ConsumerDropped,
    PongReceived,
    RequestFaulted,
    RequestHandled,
)
from pocket_agent.hub import Channel, Hub
from pocket_agent.model import Device, Entry, Milliseconds, project_of
from pocket_agent.server.connection import Connection
from pocket_agent.server.peer import Peer
from pocket_agent.settings import Settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import eventually
from tests.server.room import Recorder, Room, Wire, open_room, until

DEVICE = Device("d-1", "test", "", Milliseconds(0))


class Transport:
    """A transport whose buffer is as full as the test says, and takes `takes` bytes each time when it is asked."""

    def __init__(self) -> None:
        self.waiting = self.takes = self.asked = 0
        self.closing = False
        self.written: list[bytes] = []
        self.ends = socket.socketpair()

    def get_write_buffer_size(self) -> int:
        """Bytes that nobody has taken."""
        self.asked += 1
        self.waiting -= self.takes
        return self.waiting

    def is_closing(self) -> bool:
        """Whether it takes no more."""
        return self.closing

    def write(self, data: bytes) -> None:
        """Take some."""
        self.written.append(data)

    def abort(self) -> None:
        """End at once."""
        self.closing = True

    def get_extra_info(self, name: str) -> socket.socket:
        """A socket whose kernel buffer is empty."""
        assert name == "socket"
        return self.ends[0]


class Socket:
    """The part of a WebSocket that a connection closes."""

    def __init__(self) -> None:
        self.closes: list[tuple[int, bytes]] = []

    async def close(self, *, code: int, message: bytes, drain: bool) -> None:
        """Note it."""
        self.closes.append((code, message))


class Bench:
    """A connection whose transport is in the test's hands."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.socket = Socket()
        self.seen = Recorder()
        self.connection = Connection(
            cast("web.WebSocketResponse[Any]", self.socket),
            cast("asyncio.Transport", self.transport),
            DEVICE,
            Peer("127.0.0.1", secure=False, host="127.0.0.1"),
            Hub(),
            Settings(),
            self.seen,
        )

    def hurry(self) -> None:
        """Let the connection give up soon."""
        self.connection._settings = Settings.model_validate({"websocket": {"write_timeout": 0.2}})

    def channel(self, *, fault: Exception | None = None) -> Channel:
        """A channel whose entries only the store has."""

        async def read_page(_: int) -> Sequence[Entry]:
            await asyncio.sleep(0)
            if fault is not None:
                raise fault
            return []

        return Channel(project_of("p-1"), 5, max_bytes=1024, read_page=read_page, snapshot=list)


@contextlib.asynccontextmanager
async def serving(bench: Bench) -> AsyncIterator[asyncio.TaskGroup]:
    """The connection's tasks may run."""
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        bench.connection._tasks = group
        yield group


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A connection in the test's hands."""
    made = Bench()
    yield made
    for end in made.transport.ends:
        end.close()


async def test_a_transport_that_closes_with_bytes_left_does_not_stop_the_loop(bench: Bench) -> None:
    """The connection used to look again and again whether there was room, without letting others run."""
    async with serving(bench):
        bench.transport.waiting = 2**30
        bench.connection.join(bench.channel(), 0)
        await asyncio.sleep(0)
        bench.transport.closing = True
    assert bench.connection._serving is None


async def test_a_client_whose_entries_are_gone_is_told_to_join_again(bench: Bench) -> None:
    async with serving(bench):
        bench.connection.join(bench.channel(), 0)
    ((code, reason),) = bench.socket.closes
    assert code == 4008
    assert b"join again" in reason


async def test_a_disk_that_cannot_be_read_ends_the_connection_and_nothing_else(bench: Bench) -> None:
    async with serving(bench):
        bench.connection.join(bench.channel(fault=FileOperationError("The disk " + "ä" * 100)), 0)
    ((code, reason),) = bench.socket.closes
    assert code == 1011
    assert reason.decode().startswith("The disk ä"), "cut between characters"
    assert len(reason) <= 123


async def test_a_transport_that_takes_nothing_is_given_up_on(bench: Bench) -> None:
    bench.hurry()
    bench.transport.waiting = 2**30
    async with serving(bench):
        bench.connection.join(bench.channel(), 0)
        await until(lambda: bool(bench.socket.closes))
        bench.transport.closing = True
    assert bench.socket.closes[0][0] == 4008
    assert len(bench.seen.of(ConsumerDropped)) == 1
    assert bench.transport.written == []


async def test_a_transport_that_takes_a_little_is_waited_for(bench: Bench) -> None:
    bench.hurry()
    bench.transport.waiting, bench.transport.takes = 2**30, 1
    loop = asyncio.get_running_loop()
    longer = loop.time() + 0.4  # than the time in which it may take nothing
    async with serving(bench):
        bench.connection.join(bench.channel(fault=FileOperationError("reached the store")), 0)
        await until(lambda: loop.time() > longer)
        asked = bench.transport.asked
        await until(lambda: bench.transport.asked > asked)
        assert bench.seen.of(ConsumerDropped) == []
        bench.transport.waiting = 0
    assert bench.socket.closes[0][1] == b"reached the store"


async def test_a_silent_client_is_pinged_and_then_given_up(bench: Bench) -> None:
    began = bench.connection._opened
    bench.connection.keep_alive(began + 29)
    assert bench.transport.written == []
    bench.connection.keep_alive(began + 31)
    assert bench.transport.written == [b"\x89\x00"]
    bench.connection.keep_alive(began + 60)
    patient = bench.transport.closing
    bench.connection.keep_alive(began + 62)
    assert (patient, bench.transport.closing) == (False, True)
    assert bench.transport.written == [b"\x89\x00"], "one ping is enough"


async def test_a_client_that_has_much_to_read_may_be_late_with_its_pong(bench: Bench) -> None:
    began = bench.connection._opened
    bench.connection.keep_alive(began + 31)
    bench.transport.waiting = 2**30
    bench.connection.keep_alive(began + 600)
    assert not bench.transport.closing


async def test_a_client_that_takes_what_is_before_the_ping_is_alive(bench: Bench) -> None:
    began = bench.connection._opened
    bench.connection.write(b"x" * 1000, 1)
    bench.transport.waiting = 1000
    bench.connection.keep_alive(began + 31)
    for number in range(1, 11):
        bench.transport.waiting -= 90
        bench.connection.keep_alive(began + 31 + 25 * number)
    assert not bench.transport.closing
    bench.connection.keep_alive(began + 31 + 25 * 10 + 31)
    assert bench.transport.closing, "it has stopped to take any"


class Watched:
    """A handler that is asked how things are."""

    def __init__(self) -> None:
        self.asked = 0

    def renew_watch(self, connection: Connection) -> None:
        """Note it."""
        self.asked += 1
        connection.write(b"now", 1)


async def test_a_congested_watcher_is_told_how_things_are_once_it_has_room(bench: Bench) -> None:
    connection, handler = bench.connection, Watched()
    connection._handler = cast("Any", handler)
    connection._hub.watchers[connection] = None
    bench.transport.waiting = 2**30
    async with serving(bench):
        for _ in range(60):
            assert not connection.notify(b"x" * 2**20, 1)
            await asyncio.sleep(0)
        assert (bench.transport.written, handler.asked) == ([], 0), "nothing piles up meanwhile"
        bench.transport.waiting = 0
    assert (bench.transport.written, handler.asked) == ([b"now"], 1)
    assert connection.notify(b"y", 1)


async def test_a_congested_client_that_watches_nothing_is_closed_when_much_waits(bench: Bench) -> None:
    limit = bench.connection._limit
    async with serving(bench):
        bench.transport.waiting = limit + 1
        assert bench.connection.notify(b"x", 1)
        bench.transport.waiting = 2 * limit + 1
        assert not bench.connection.notify(b"x", 1)
    assert [code for code, _ in bench.socket.closes] == [4008]


async def test_what_an_inbound_message_inflates_to_is_bounded(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__message_size=4096) as room, room.wire(compress=15) as wire:
        assert wire.socket.compress
        await wire.works()
        await wire.socket.send_str(json.dumps({"type": "project_list", "data": {"x": "x" * 10_000_000}}))
        assert await wire.closed() == 1009


async def test_a_client_that_joined_nothing_and_takes_nothing_is_given_up_on(bench: Bench) -> None:
    """What all clients are told would otherwise pile up for it, for ever."""
    bench.hurry()
    bench.transport.waiting = 2**30
    async with serving(bench):
        bench.connection.keep_alive(bench.connection._opened)
        await until(lambda: bool(bench.socket.closes))
        bench.transport.closing = True
    assert bench.socket.closes[0][0] == 4008


async def test_a_transport_that_is_closing_takes_no_frames(bench: Bench) -> None:
    bench.transport.closing = True
    bench.connection.write(b"x", 1)
    bench.connection.keep_alive(bench.connection._opened + 31)
    assert bench.transport.written == []


async def test_viewers_who_answer_pings_stay(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"timeouts__ping_interval": 0.05, "timeouts__pong_timeout": 0.05}
    async with open_room(tmp_path, **settings) as room, room.wire(autoping=False) as wire:
        for _ in range(2):
            message = await wire.socket.receive()
            assert message.type is aiohttp.WSMsgType.PING
            await wire.socket.pong(message.data)
        await wire.works()
        assert room.seen.of(ConnectionClosed) == []


async def test_a_client_that_does_not_answer_pings_is_gone(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"timeouts__ping_interval": 0.05, "timeouts__pong_timeout": 0.05}
    async with open_room(tmp_path, **settings) as room, room.wire(autoping=False) as wire:
        assert (await wire.socket.receive()).type is aiohttp.WSMsgType.PING
        closed = await room.eventually(ConnectionClosed)
        assert (closed.code, closed.initiator) == (1006, "server")


async def test_a_clients_ping_is_answered(room: Room) -> None:
    async with room.wire(autoping=False) as wire:
        await wire.socket.ping(b"are you there")
        message = await wire.socket.receive()
        assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"are you there")
        await wire.works()


async def test_a_client_that_pings_is_pinged_too(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"timeouts__ping_interval": 0.05, "timeouts__pong_timeout": 30}
    async with open_room(tmp_path, **settings) as room, room.wire(autoping=False) as wire:

        async def measured() -> bool:
            await wire.socket.ping(b"mine")
            message = await wire.socket.receive()
            if message.type is aiohttp.WSMsgType.PING:
                await wire.socket.pong(message.data)
            return bool(room.seen.of(PongReceived))

        await eventually(measured, "its round trip is measured")


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "web"),
        ("pocket-agent/1.2.3 (chat)", "chat"),
        ("pocket-agent/1.2.3 (python)", "library"),
        ("pocket-agent/1.2.3 (chatter)", "library"),
        ("curl/8.0", "other"),
        ("", "other"),
    ],
)
async def test_the_kind_of_a_client(room: Room, agent: str, kind: str) -> None:
    async with room.wire(headers={"User-Agent": agent}) as wire:
        await wire.works()
        await wire.socket.close()
    closed = await room.eventually(ConnectionClosed)
    assert [room.seen.of(ConnectionOpened)[0].client, closed.client] == [kind, kind]


async def test_who_closes_is_noted(room: Room) -> None:
    async with room.wire() as wire:
        await wire.works()
        await wire.socket.close(code=1000)
    closed = await room.eventually(ConnectionClosed)
    assert (closed.device, closed.code, closed.initiator) == ("test", 1000, "client")
    assert closed.connection_id == room.seen.of(ConnectionOpened)[0].connection_id


async def test_a_stopping_server_says_goodbye(room: Room) -> None:
    async with room.wire() as one, room.wire() as two:
        await one.works()
        await two.works()
        closing = asyncio.ensure_future(room.endpoint.close_all())
        assert await one.closed() == await two.closed() == 1001
        await closing
    await room.until_connections(0)
    assert {event.initiator for event in room.seen.of(ConnectionClosed)} == {"server"}


async def test_a_revoked_device_is_closed_at_once(room: Room) -> None:
    async with room.wire() as wire:
        await wire.works()
        await room.store.remove_device("d-1")
        assert await wire.closed() == 4009


async def test_requests_of_one_connection_do_not_wait_for_each_other(room: Room) -> None:
    """Questions overtake what waits for a project's turn."""
    session = await room.project()
    async with room.wire() as wire, session.loops.mutex:
        await wire.send(
            {
                "type": "execute",
                "project_id": session.state.record.id,
                "data": {"prompt": "hello"},
                "request_id": "slow",
            }
        )
        await wire.works()
        assert session.state.record.head == 0


async def test_requests_under_way_are_bounded(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire, room.wire() as other:
        async with session.loops.mutex:
            for number in range(40):
                await wire.send({"type": "agent_kill", "project_id": project_id, "request_id": f"{number}"})
            await wire.send({"type": "project_list", "request_id": "behind"})
            await until(lambda: room.hub.received == 33)
            await other.works()
            assert room.hub.received == 34, "the rest is not read before there is room"
        answered: set[str] = set()
        while len(answered) < 41:
            answered.add((await wire.frame())["request_id"])
        await wire.works()


async def test_what_a_client_asked_is_done_though_it_is_gone(room: Room, tmp_path: Path) -> None:
    session = await room.project()
    async with session.loops.mutex:
        async with room.wire() as wire:
            data = {"prompt": "hello"}
            await wire.send({"type": "execute", "project_id": session.state.record.id, "data": data})
            await until(lambda: room.hub.received == 1)
        await asyncio.sleep(0)
    await until(lambda: session.state.record.head > 0 and session.state.current is None)
    await room.until_connections(0)


def transport_of(wire: Wire) -> asyncio.Transport:
    """The client's side of a connection."""
    connection = wire.socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    return connection.transport


def vanish(wire: Wire) -> None:
    """The client is gone without a word."""
    transport_of(wire).abort()


async def stall(room: Room, wire: Wire) -> None:
    """Let a client ask much and read nothing, until the server reads no more from it."""
    transport_of(wire).pause_reading()
    frame = b'{"type":"get_messages","data":{"limit":1000,"since":0}}'
    before, same = -1, 0
    while same < 5:  # once alone may be a pause of a busy machine
        same = same + 1 if room.hub.received == before else 0
        before = room.hub.received
        for _ in range(10):
            await wire.send(frame)
        await asyncio.sleep(0.05)


async def test_who_asks_and_does_not_read_is_not_read_either(tmp_path: Path) -> None:
    async with open_room(tmp_path, websocket__send_buffer=65536, websocket__write_timeout=1.0) as room:
        session = await room.project(entries=500, size=1000)
        project_id = session.state.record.id
        async with room.wire() as other, room.wire() as wire:
            await other.works()
            await wire.ask("project_join", project_id=project_id)
            slow = next(iter(session.state.log.channel._cursors)).sink
            assert isinstance(slow, Connection)
            await stall(room, wire)
            assert slow._transport.get_write_buffer_size() < 4 * 2**20, "what waits for it is bounded"
            await other.works()
            await room.eventually(ConsumerDropped)
            await until(lambda: slow._close_code == 4008)
            await other.works()
            vanish(wire)


async def test_a_fault_of_a_handler_is_told_and_ends_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> object:
        raise ZeroDivisionError("a secret detail")

    async with room.wire() as wire:
        with monkeypatch.context() as patch:
            patch.setattr(room.report, "stats", fail)
            answer = await wire.ask("server_stats")
        assert answer["data"]["code"] == "INTERNAL_ERROR"
        assert "secret" not in answer["data"]["message"]
        (fault,) = room.seen.of(RequestFaulted)
        assert isinstance(fault.error, ZeroDivisionError)
        assert fault.correlation_id == "ask-server_stats"
        await wire.works()


async def test_every_request_is_reported(room: Room) -> None:
    async with room.wire() as wire:
        await wire.works()
        await wire.ask("get_messages", project_id="nobody")
        await wire.send("nonsense")
        await wire.answer(None)
    handled = room.seen.of(RequestHandled)
    assert [(event.type, event.code) for event in handled] == [
        ("project_list", None),
        ("get_messages", "PROJECT_NOT_FOUND"),
        ("invalid", "INVALID_MESSAGE"),
    ]
    assert all(event.duration >= 0 for event in handled)
