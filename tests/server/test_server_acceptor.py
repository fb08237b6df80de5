"""Taking connections in: from the whole listener of a server, with and without TLS."""

import asyncio
import contextlib
import dataclasses
import errno
import gzip
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pocket_agent.events import ConnectionRejected
from pocket_agent.server import acceptor
from pocket_agent.server.acceptor import bind
from pocket_agent.server.limits import Admission
from pocket_agent.server.listener import Listeners, listening
from pocket_agent.settings import LiveSettings, load_settings
from tests.harness import DEADLINE_SECONDS
from tests.harness.absence import absent
from tests.server.room import Recorder, Room, open_room, until

ATTACKER = "127.0.0.2"


@dataclasses.dataclass
class Place:
    """A server with its real listeners."""

    room: Room
    found: Listeners
    admission: Admission

    @property
    def port(self) -> int:
        """Of the main listener."""
        return int(self.found.url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def place(folder: Path, **changed: Any) -> AsyncIterator[Place]:
    """Without TLS unless the test says otherwise; `__` for the dots of settings."""
    flags: dict[str, object] = {
        "data.dir": folder / "data",
        "server.port": 0,
        "server.plain_port": "off",
        "server.tls.enabled": False,
    }
    flags |= {name.replace("__", "."): value for name, value in changed.items()}
    live = LiveSettings(load_settings(config=None, environ={}, flags=flags))
    async with open_room(folder, **changed) as room:
        admission = room.endpoint.admission
        async with listening(room.endpoint.application(), live, Recorder(), admission, room.endpoint.hosts) as found:
            yield Place(room, found, admission)


async def connect(port: int, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from one of this machine's many loopback addresses."""
    try:
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            absent("a second loopback address")
        raise


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other end closes without a word, at once or in a while."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def test_an_address_that_has_too_many_is_dropped_and_others_are_not(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"limits__exempt_addresses": ["127.0.0.1"], "limits__connections_per_address": 3}
    async with place(tmp_path, **limits) as here:
        held = [await connect(here.port, ATTACKER) for _ in range(3)]
        reader, writer = await connect(here.port, ATTACKER)
        assert await ended(reader)
        writer.close()
        async with aiohttp.ClientSession(here.found.url) as http, http.get("/livez") as answer:
            assert answer.status == 200
        assert [(event.reason, event.remote) for event in [await here.room.eventually(ConnectionRejected)]] == [
            ("rate", ATTACKER)
        ]
        held[0][1].close()
        await until(lambda: here.admission._open[ATTACKER] == 2)
        reader, writer = await connect(here.port, ATTACKER)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        for _, left in [*held, (reader, writer)]:
            left.close()
    assert here.admission.total == 0


async def test_who_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_HEAD_SECONDS", 0.2)
    async with place(tmp_path) as here:
        for beginning in (b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: 1\r\n"):
            reader, writer = await connect(here.port)
            writer.write(beginning)
            assert await ended(reader)
            writer.close()


async def test_a_head_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_HEAD_SECONDS", 0.2)
    async with place(tmp_path) as here:
        reader, writer = await connect(here.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n")

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"X-Drip: 1\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert await ended(reader)
        dripping.cancel()
        writer.close()


async def test_who_does_not_finish_tls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_HANDSHAKE_SECONDS", 0.2)
    async with place(tmp_path, server__tls__enabled=True) as here:
        for beginning in (b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await connect(here.port)
            writer.write(beginning)
            async with asyncio.timeout(DEADLINE_SECONDS):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()
        await until(lambda: here.admission.total == 0)
        context = ssl.create_default_context(cafile=str(tmp_path / "data" / "tls" / "cert.pem"))
        async with aiohttp.ClientSession() as http, http.get(f"{here.found.url}/livez", ssl=context) as answer:
            assert answer.status == 200


async def test_connections_that_are_still_arriving_do_not_hold_up_the_end(tmp_path: Path) -> None:
    async with place(tmp_path, server__tls__enabled=True) as here:
        held = [await connect(here.port) for _ in range(5)]
        await until(lambda: here.admission.total == 5)
    assert here.admission.total == 0
    for _, writer in held:
        writer.close()


async def test_a_system_without_room_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(tmp_path) as here:
        loop = asyncio.get_running_loop()
        accept, refusals = (
            loop.sock_accept,
            iter([OSError(errno.EMFILE, "no room"), OSError(errno.ECONNABORTED, "gone")]),
        )

        async def refuse(listening: socket.socket) -> Any:
            error = next(refusals, None)
            if error is not None:
                raise error
            return await accept(listening)

        monkeypatch.setattr(loop, "sock_accept", refuse)
        for _ in range(4):
            async with aiohttp.ClientSession(here.found.url) as http, http.get("/livez") as answer:
                assert answer.status == 200


async def test_a_compressed_body_is_not_unpacked(tmp_path: Path) -> None:
    """A bomb stays what it is: a few kilobytes that are no JSON."""
    bomb = gzip.compress(b" " * 100_000_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with (
        place(tmp_path) as here,
        aiohttp.ClientSession(here.found.url) as http,
        http.post("/api/pair", data=bomb, headers=headers) as answer,
    ):
        assert answer.status == 400
        assert (await answer.json())["data"]["code"] == "INVALID_MESSAGE"


async def test_a_name_of_several_addresses_is_listened_for_on_all_with_one_port() -> None:
    sockets = await bind("localhost", 0)
    assert len({one.getsockname()[1] for one in sockets}) == 1
    assert {one.getsockname()[0] for one in sockets} <= {"127.0.0.1", "::1"}
    for one in sockets:
        assert not one.getblocking()
        one.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_what_is_not_ours_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(OSError, match=r"."):
        await bind(host, 0)


async def test_what_is_no_http_is_answered_without_versions(tmp_path: Path) -> None:
    """The library's own page names Python, itself and what its parser found."""
    async with place(tmp_path) as here:
        for request in (
            b"GARBAGE\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: zz\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        ):
            reader, writer = await connect(here.port)
            writer.write(request)
            async with asyncio.timeout(DEADLINE_SECONDS):
                answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1."), request
            assert b" 400 " in answer.splitlines()[0], answer
            for told in (b"aiohttp", b"python", b"zz", b"xxx"):
                assert told not in answer.lower(), answer
