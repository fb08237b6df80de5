"""HTTP beside the WebSocket: health, limits, headers."""

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

from pocket_agent import __version__
from pocket_agent.errors import FileOperationError
from pocket_agent.events import ConnectionRejected, HealthChanged
from tests.harness import DEADLINE_SECONDS
from tests.server.room import Room, open_room, until


async def test_alive_and_ready(room: Room) -> None:
    async with aiohttp.ClientSession(room.url) as http:
        for path in ("/livez", "/readyz"):
            async with http.get(path) as answer:
                assert (answer.status, await answer.text()) == (200, "ok\n")
        room.endpoint.refuse_new_work()
        async with http.get("/livez") as answer:
            assert answer.status == 200, "it lives, it only takes nobody"
        async with http.get("/readyz") as answer:
            assert answer.status == 503


async def test_health_is_the_guides(tmp_path: Path) -> None:
    async with (
        open_room(tmp_path, health__low_disk=0) as room,
        aiohttp.ClientSession(room.url) as http,
        http.get("/health") as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "application/json"
        health = await answer.json()
    assert list(health) == ["status", "version", "uptime", "timestamp", "checks"]
    assert (health["status"], health["version"]) == ("healthy", __version__)
    assert isinstance(health["uptime"], int)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", health["timestamp"])
    assert {"claude", "disk", "storage"} <= set(health["checks"])
    assert all(check == {"status": "healthy"} for check in health["checks"].values())


async def test_head_tells_the_status_alone(tmp_path: Path) -> None:
    async with open_room(tmp_path, standin=False) as room, aiohttp.ClientSession(room.url) as http:
        for path, status in (("/livez", 200), ("/readyz", 200), ("/health", 503)):
            async with http.head(path) as answer:
                assert (answer.status, await answer.read()) == (status, b"")


async def test_the_socket_tells_the_same(tmp_path: Path) -> None:
    async with open_room(tmp_path, standin=False) as room, aiohttp.ClientSession(room.url) as http:
        async with http.get("/health") as answer:
            health = await answer.json()
        async with room.wire() as wire:
            reply = (await wire.ask("health_check"))["data"]
    assert (reply["status"], reply["version"]) == (health["status"], health["version"]) == ("degraded", __version__)
    assert reply["checks"].pop("certificate") == {"status": "healthy", "message": "TLS is off."}
    assert health["checks"].pop("certificate") == {"status": "healthy"}  # what is well is no outsider's business
    assert reply["checks"] == health["checks"]


async def test_not_ready_says_why_in_a_line(tmp_path: Path) -> None:
    async with (
        open_room(tmp_path, limits__min_free_disk=2**50) as room,
        aiohttp.ClientSession(room.url) as http,
        http.get("/readyz") as answer,
    ):
        assert answer.status == 503
        assert re.fullmatch(r"disk: The disk is full: \d+ MiB free\.\n", await answer.text())


async def test_without_a_cli_it_is_not_healthy(tmp_path: Path) -> None:
    async with (
        open_room(tmp_path, standin=False) as room,
        aiohttp.ClientSession(room.url) as http,
        http.get("/health") as answer,
    ):
        assert answer.status == 503
        health = await answer.json()
    assert health["status"] == "degraded"
    assert health["checks"]["claude"]["status"] == "unhealthy"
    assert "npm install" in health["checks"]["claude"]["message"]
    assert str(tmp_path) not in health["checks"]["claude"]["message"]
    assert health["checks"]["storage"] == {"status": "healthy"}


@pytest.mark.parametrize(
    ("full", "low", "disk"), [(2**50, 0, "unhealthy"), (0, 2**50, "warning"), (2**50, 2**50, "unhealthy")]
)
async def test_a_disk_that_fills(tmp_path: Path, full: int, low: int, disk: str) -> None:
    async with (
        open_room(tmp_path, limits__min_free_disk=full, health__low_disk=low) as room,
        aiohttp.ClientSession(room.url) as http,
        http.get("/health") as answer,
    ):
        assert answer.status == 503
        health = await answer.json()
    assert (health["status"], health["checks"]["disk"]["status"]) == ("degraded", disk)


async def test_a_store_that_fails_is_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise FileOperationError("The disk does not answer.")

    async with open_room(tmp_path, health__interval=0.01) as room, aiohttp.ClientSession(room.url) as http:
        monkeypatch.setattr(room.store, "check", fail)
        await until(lambda: any(event.status == "unhealthy" for event in room.seen.of(HealthChanged)))
        async with http.get("/health") as answer:
            assert answer.status == 503
            health = await answer.json()
    assert health["status"] == "unhealthy"
    assert health["checks"]["storage"] == {"status": "unhealthy", "message": "The disk does not answer."}


@pytest.mark.parametrize(
    "path", ["/nothing", "/ws/", "/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/metrics", "/%00"]
)
async def test_other_paths_are_not_found(room: Room, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert (await reader.read()).split()[1] == b"404"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_only_reading(room: Room, method: str) -> None:
    async with aiohttp.ClientSession(room.url) as http, http.request(method, "/health") as answer:
        assert answer.status == 405


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/ws"])
async def test_headers_that_keep_pages_apart(room: Room, path: str) -> None:
    async with aiohttp.ClientSession(room.url) as http, http.get(path) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/livez", "/health", "/nothing", "/api/session"])
async def test_nobody_is_told_which_versions_run_here(room: Room, path: str) -> None:
    async with aiohttp.ClientSession() as http:
        for headers in ({}, {"Host": "evil.example"}):
            async with http.get(room.url + path, headers=headers) as answer:
                assert "Server" not in answer.headers
                assert "aiohttp" not in str(answer.headers).lower()


async def test_a_refusal_names_its_reason(room: Room) -> None:
    async with aiohttp.ClientSession(room.url) as http:
        async with http.get("/ws") as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert (await answer.json())["data"]["code"] == "UNAUTHORIZED"
        async with http.get("/ws", headers={"Origin": "https://evil.example"}) as answer:
            assert answer.status == 403
            assert (await answer.json())["data"]["code"] == "FORBIDDEN"
        async with http.get("/ws", headers={"Authorization": f"Bearer {room.token}"}) as answer:
            assert answer.status == 400, "a token, but no handshake"


async def test_no_more_connections_than_allowed(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_connections=2) as room:
        token = {"Authorization": f"Bearer {room.token}"}
        async with room.wire() as one, room.wire():
            async with aiohttp.ClientSession(room.url) as http, http.get("/ws", headers=token) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
                assert (await answer.json())["data"]["code"] == "RESOURCE_LIMIT"
            assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["limit"]
            await one.works()
        await room.until_connections(0)
        assert await room.status(token) == 101


async def test_many_handshakes_at_once_do_not_pass_the_limit_together(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_connections=3) as room, aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {room.token}"}
        opened = await asyncio.gather(
            *(http.ws_connect(f"{room.url}/ws", headers=headers) for _ in range(20)), return_exceptions=True
        )
        sockets = [one for one in opened if isinstance(one, aiohttp.ClientWebSocketResponse)]
        refusals = [one.status for one in opened if isinstance(one, aiohttp.WSServerHandshakeError)]
        assert len(sockets) == 3
        assert refusals == [503] * 17
        await asyncio.gather(*(socket.close() for socket in sockets))


async def test_a_handshake_that_fails_frees_its_place(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__max_connections=1) as room, aiohttp.ClientSession(room.url) as http:
        token = {"Authorization": f"Bearer {room.token}"}
        for _ in range(3):
            async with http.get("/ws", headers=token) as answer:
                assert answer.status == 400
            async with http.get("/ws") as answer:
                assert answer.status == 401
        assert await room.status(token) == 101


async def test_nobody_comes_in_while_it_stops(room: Room) -> None:
    room.endpoint.refuse_new_work()
    token = {"Authorization": f"Bearer {room.token}"}
    async with aiohttp.ClientSession(room.url) as http, http.get("/ws", headers=token) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["stopping"]


@pytest.mark.parametrize(
    "request_line",
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"],
)
async def test_what_is_no_http_is_refused_and_harms_nobody(room: Room, request_line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    writer.write(request_line)
    writer.write_eof()
    async with asyncio.timeout(DEADLINE_SECONDS):
        answer = await reader.read()
    assert answer == b"" or answer.split()[1] in {b"400", b"404", b"505"}
    writer.close()
    await writer.wait_closed()
    async with room.wire() as wire:
        await wire.works()
