"""The client against a real WebSocket server on loopback that refuses, hangs up and goes away."""

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from pocket_agent.client import (
    Backoff,
    CertificateError,
    Client,
    ConnectionLostError,
    Frame,
    ProtocolViolationError,
    Status,
    UnreachableError,
)
from pocket_agent.errors import ForbiddenError, ProjectNestingError, UnauthorizedError, ValidationError
from pocket_agent.server.self_signed import make_self_signed
from tests.client.scripted import Json, Peer, ScriptedServer, scripted_server, until

QUICK = Backoff(initial=0.001, maximum=0.01)


def connect(server: ScriptedServer, **options: Any) -> Client:
    return Client(server.url, backoff=QUICK, **options)


async def test_a_request_is_answered_with_its_own_reply(server: ScriptedServer) -> None:
    held: list[tuple[Peer, str]] = []

    async def answer(peer: Peer, frame: Json) -> Json | None:
        held.append((peer, frame["request_id"]))
        if len(held) == 2:
            for who, request_id in reversed(held):
                await who.send("project_state", {"echo": request_id}, request_id=request_id)
        return None

    server.handlers["project_create"] = answer
    async with connect(server) as client:
        first, second = await asyncio.gather(
            client.request("project_create", {"path": "/a"}), client.request("project_create", {"path": "/b"})
        )
    sent = {frame["data"]["path"]: frame["request_id"] for frame in server.requests}
    assert first.data == {"echo": sent["/a"]}
    assert second.data == {"echo": sent["/b"]}
    assert first.type == "project_state"
    assert first.request_id == sent["/a"]
    assert b'"echo"' in first.raw


async def test_the_token_and_the_name_are_sent(server: ScriptedServer) -> None:
    server.token = "secret"
    async with connect(server, token="secret", name="a test"):
        assert server.agents[0].endswith("(a test)")


@pytest.mark.parametrize(("token", "word"), [("wrong", "does not know this token"), (None, "wants a token")])
async def test_a_refused_token_says_what_to_do(server: ScriptedServer, token: str | None, word: str) -> None:
    server.token = "secret"
    with pytest.raises(UnauthorizedError, match=word):
        async with connect(server, token=token):
            pass


@pytest.mark.parametrize(("status", "kind"), [(403, ForbiddenError), (503, UnreachableError), (404, UnreachableError)])
async def test_a_refused_connection_is_an_error_of_its_kind(
    server: ScriptedServer, status: int, kind: type[Exception]
) -> None:
    server.refuse = status
    with pytest.raises(kind):
        async with connect(server):
            pass


async def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        port = unused.getsockname()[1]
        with pytest.raises(ConnectionError, match=f"Cannot reach ws://127.0.0.1:{port}"):
            async with Client(f"ws://127.0.0.1:{port}/ws"):
                pass


async def test_a_server_that_never_answers_the_handshake() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    gone = asyncio.Event()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(UnreachableError, match="did not answer in"):
            async with Client(f"ws://127.0.0.1:{port}/ws", connect_timeout=0.05):
                pass
        await gone.wait()


async def test_tls_with_the_servers_own_certificate_and_without(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file, content in zip((cert, key), make_self_signed([]), strict=True):
        file.write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with scripted_server(tls=context) as server:
        async with connect(server, ssl=cert) as client, client.subscribe("p") as stream:
            await server.hang_up(1006)
            await server.append()
            while (await anext(stream)).offset != 1:
                pass
            assert server.connections == 2
        with pytest.raises(CertificateError, match="not trusted"):
            async with connect(server):
                pass


async def test_an_unreadable_certificate_file(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with pytest.raises(UnreachableError, match=r"none\.pem cannot be used"):
        Client("wss://127.0.0.1:1/ws", ssl=missing)


async def test_an_error_frame_becomes_the_exception_of_its_code(server: ScriptedServer) -> None:
    async def refuse(peer: Peer, frame: Json) -> Json:
        return {"type": "error", "data": frame["data"]["say"]}

    server.handlers["project_create"] = refuse
    async with connect(server) as client:
        known = {"code": "PROJECT_NESTING", "message": "inside another", "details": {"parent": "x"}}
        with pytest.raises(ProjectNestingError, match="inside another") as caught:
            await client.request("project_create", {"say": known})
        assert caught.value.details == {"parent": "x"}
        with pytest.raises(ValidationError, match="no"):
            await client.request("project_create", {"say": {"code": "VALIDATION_FAILED", "message": "no"}})
        with pytest.raises(Exception, match="NEW_CODE: hm"):
            await client.request("project_create", {"say": {"code": "NEW_CODE", "message": "hm"}})
        with pytest.raises(ProtocolViolationError):
            await client.request("project_create", {"say": {"message": "no code"}})


async def test_a_reply_that_never_comes_times_out(server: ScriptedServer) -> None:
    async def silent(peer: Peer, frame: Json) -> None:
        return None

    server.handlers["health_check"] = silent
    async with connect(server) as client:
        with pytest.raises(TimeoutError, match="No reply to health_check"):
            await client.request("health_check", timeout=0.02)


async def test_what_may_be_repeated_is_repeated_after_a_lost_connection(server: ScriptedServer) -> None:
    calls: list[Json] = []

    async def lose_twice(peer: Peer, frame: Json) -> Json | None:
        calls.append(frame["data"])
        if len(calls) < 3:
            await peer.hang_up(1006)
            return None
        return {"data": {"project_id": "p", "execution_id": "x", "status": "started", "position": 0}}

    server.handlers["execute"] = lose_twice
    async with connect(server) as client:
        reply = await client.execute("p", "hello")
    assert reply.execution_id == "x"
    assert len(calls) == 3
    assert len({call["prompt_id"] for call in calls}) == 1


async def test_what_may_not_be_repeated_says_that_the_connection_was_lost(server: ScriptedServer) -> None:
    calls: list[Json] = []

    async def lose(peer: Peer, frame: Json) -> None:
        calls.append(frame)
        await peer.hang_up(1006)

    server.handlers["project_create"] = lose
    server.handlers["execute"] = lose
    async with connect(server) as client:
        with pytest.raises(ConnectionLostError):
            await client.create_project("/x")
        with pytest.raises(ConnectionLostError):
            await client.request("execute", {"prompt": "no id"}, project_id="p")
    assert len(calls) == 2


async def test_a_request_that_is_too_big_is_not_sent_again(server: ScriptedServer) -> None:
    async with connect(server) as client:
        with pytest.raises(ConnectionLostError, match="larger than the server allows"):
            await client.execute("p", "x" * 2_000_000)
        await until(lambda: server.connections == 2)
        assert server.requests == []


async def test_a_request_made_while_offline_waits_and_is_sent_once(server: ScriptedServer) -> None:
    seen: list[Status] = []

    async def answer(peer: Peer, frame: Json) -> Json:
        return {"data": {"project_id": "p", "execution_id": "x", "status": "started", "position": 0}}

    server.handlers["execute"] = answer
    async with connect(server, on_status=seen.append) as client:
        await server.stop()
        await until(lambda: any(status.attempt > 1 for status in seen))
        assert not client.online
        waiting = asyncio.create_task(client.execute("p", "later"))
        await server.start()
        assert (await waiting).execution_id == "x"
    assert [frame["data"]["prompt"] for frame in server.requests] == ["later"]
    assert seen[0].online
    assert seen[-1].online
    assert all(status.reason for status in seen if not status.online)


@pytest.mark.parametrize("code", [4001, 4009])
async def test_a_client_whose_access_ended_does_not_come_back(server: ScriptedServer, code: int) -> None:
    async with connect(server) as client, client.subscribe("p") as stream:
        await server.hang_up(code)
        with pytest.raises(UnauthorizedError):
            while True:
                await anext(stream)
        with pytest.raises(UnauthorizedError):
            await client.health()
    assert server.connections == 1


async def test_a_token_that_was_revoked_while_offline_ends_the_client(server: ScriptedServer) -> None:
    server.token = "secret"
    async with connect(server, token="secret") as client, client.subscribe("p") as stream:
        server.token = "another"
        await server.hang_up()
        with pytest.raises(UnauthorizedError):
            while True:
                await anext(stream)


async def test_a_frame_that_is_no_frame_ends_the_client_with_an_error(server: ScriptedServer) -> None:
    async with connect(server) as client, client.subscribe("p") as stream:
        await server.peers[0].socket.send_str('{"no": "type"}')
        with pytest.raises(ProtocolViolationError, match="unreadable frame"):
            while True:
                await anext(stream)


async def test_pushes_of_no_stream_go_to_their_listener(server: ScriptedServer) -> None:
    pushes: list[Frame] = []
    async with connect(server, on_push=pushes.append) as client:
        await until(lambda: len(server.peers) == 1)
        await server.push("project_state", {"id": "q"}, project_id="q")
        await until(lambda: len(pushes) == 1)
        assert client.online
    assert pushes[0].project_id == "q"


async def test_leaving_while_offline_ends_everything_that_waits(server: ScriptedServer) -> None:
    seen: list[Status] = []
    async with asyncio.TaskGroup() as group:
        async with connect(server, on_status=seen.append) as client:
            await server.stop()
            await until(lambda: len(seen) > 1)
            waiting = group.create_task(_outcome(client))
            await asyncio.sleep(0)
        assert isinstance(await waiting, ConnectionLostError)


async def _outcome(client: Client) -> BaseException | None:
    try:
        await client.health()
    except ConnectionLostError as error:
        return error
    return None


async def test_an_error_in_the_block_arrives_as_it_is(server: ScriptedServer) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with connect(server):
            raise KeyError("mine")


async def test_cancelling_the_block_cancels_it(server: ScriptedServer) -> None:
    entered = asyncio.Event()

    async def block() -> None:
        async with connect(server):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_lone_surrogates_reach_the_server_as_they_are(server: ScriptedServer) -> None:
    async def answer(peer: Peer, frame: Json) -> Json:
        return {"data": {"project_id": "p", "execution_id": "x", "status": "started", "position": 0}}

    server.handlers["execute"] = answer
    async with connect(server) as client:
        await client.execute("p", "a\ud800b")
    assert server.requests[0]["data"]["prompt"] == "a\ud800b"


async def test_a_dead_link_is_noticed_by_the_missing_pong() -> None:
    """A server that completes the handshake, then never reads or writes again."""
    opened: list[asyncio.StreamWriter] = []

    async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()  # noqa: S324 - RFC 6455
        accept = base64.b64encode(digest).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        opened.append(writer)

    seen: list[Status] = []
    listener = await asyncio.start_server(freeze, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        url = f"ws://127.0.0.1:{port}/ws"
        async with Client(url, heartbeat=0.05, backoff=QUICK, on_status=seen.append):
            await until(lambda: len(seen) >= 3)
        for writer in opened:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    assert [status.online for status in seen[:3]] == [True, False, True]
