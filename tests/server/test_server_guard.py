"""What every request passes: the names of the server, and how many requests there may be."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pocket_agent.app import _scraped_hosts
from pocket_agent.errors import ForbiddenError
from pocket_agent.events import ConnectionRejected
from pocket_agent.observability.exposition import ScrapeToken
from pocket_agent.server.address import page_urls
from pocket_agent.server.guard import Hosts
from pocket_agent.settings import Settings, load_settings
from tests.harness import DEADLINE_SECONDS
from tests.server.room import Room, open_room

OWN = socket.gethostname().lower()
HOSTS = [
    # host, with tokens, without
    ("localhost", True, True),
    ("localhost:8443", True, True),
    ("localhost.", True, True),
    ("127.0.0.1:8443", True, True),
    ("127.8.9.1", True, True),
    ("[::1]:8443", True, True),
    ("192.168.1.5:8443", True, False),
    ("[fd00::5]:8443", True, False),
    ("agent.example", True, True),
    ("agent.example:444", True, True),
    ("named.example", True, True),
    ("told.example", True, True),
    ("probed.example", True, True),
    ("box.local", True, True),
    (OWN, True, False),
    (f"{OWN}.local:8443", True, False),
    ("evil.example", False, False),
    ("evil.example:8443", False, False),
    ("localhost.evil.example", False, False),
    ("127.0.0.1.evil.example", False, False),
    ("127.0.0.1@evil.example", False, False),
    ("0x7f000001", False, False),
    ("2130706433", False, False),
    ("127.1", False, False),
    ("", False, False),
    ("[::1", False, False),
    (":8443", False, False),
    ("xn--evil", False, False),
]


@pytest.mark.parametrize("auth", [True, False])
@pytest.mark.parametrize(("host", "with_tokens", "without"), HOSTS)
def test_a_server_goes_by_its_own_names_alone(host: str, with_tokens: bool, without: bool, auth: bool) -> None:
    flags = {
        "server.host": "box.local",
        "server.allowed_hosts": ["named.example"],
        "server.public_url": "https://agent.example",
        "notifications.base_url": "https://told.example:444/",
        "monitoring.server_name": "probed.example",
    }
    hosts = Hosts(load_settings(config=None, environ={}, flags=flags).settings, auth=auth)
    if with_tokens if auth else without:
        hosts.check(host)
    else:
        with pytest.raises(ForbiddenError, match="allowed_hosts"):
            hosts.check(host)


@pytest.mark.parametrize("path", ["/", "/ws", "/livez", "/readyz", "/health", "/api/session", "/nothing"])
async def test_no_route_answers_a_rebound_name(room: Room, path: str) -> None:
    host = f"rebound.example:{room.port}"
    headers = {"Host": host, "Origin": f"http://{host}", "Authorization": f"Bearer {room.token}"}
    async with aiohttp.ClientSession() as http, http.get(room.url + path, headers=headers) as answer:
        assert answer.status == 421
        assert (await answer.json())["data"]["code"] == "FORBIDDEN"
    assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["host"]


async def test_a_post_to_a_rebound_name_pairs_nobody(room: Room) -> None:
    async with room.wire() as wire:
        code = (await wire.ask("pairing_start"))["data"]["code"]
    host = f"rebound.example:{room.port}"
    headers = {"Host": host, "Origin": f"http://{host}"}
    body = {"code": code, "name": "evil"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{room.url}/api/pair", json=body, headers=headers) as answer,
    ):
        assert answer.status == 421
    assert len(await room.store.devices()) == 1


@pytest.mark.parametrize("hosts", [[], ["127.0.0.1", "evil.example"], ["evil.example", "127.0.0.1"]])
async def test_no_host_and_two_hosts_are_none(room: Room, hosts: list[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    writer.write(f"GET /livez HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE_SECONDS):
        status = (await reader.read()).split()[1]
    assert status in {b"400", b"421"}
    writer.close()
    await writer.wait_closed()


async def test_without_tokens_a_rebound_name_does_not_get_in(tmp_path: Path) -> None:
    """The page of an attacker whose name now stands for 127.0.0.1."""
    async with open_room(tmp_path, server__auth=False) as room:
        host = f"rebound.example:{room.port}"
        assert await room.status({"Host": host, "Origin": f"http://{host}"}) == 421
        assert await room.status({"Host": host}) == 421
        assert await room.status({"Origin": room.url}) == 101


def test_metrics_are_scraped_by_loopback_names_unless_they_ask_for_a_token() -> None:
    hosts = _scraped_hosts(Settings(), None)
    assert hosts is not None
    hosts.check("127.0.0.1:9090")
    hosts.check("localhost:9090")
    with pytest.raises(ForbiddenError):
        hosts.check("rebound.example:9090")
    assert _scraped_hosts(Settings(), ScrapeToken("x", Path("/x"))) is None


FEW: dict[str, Any] = {"limits__requests_per_second": 0.1, "limits__exempt_addresses": []}


@pytest.mark.usefixtures("without_refill")
async def test_too_many_requests_from_one_address_wait(tmp_path: Path) -> None:
    async with open_room(tmp_path, **FEW) as room, aiohttp.ClientSession(room.url) as http:
        statuses = []
        for _ in range(6):
            async with http.get("/livez") as answer:
                statuses.append(answer.status)
                if answer.status == 429:
                    assert int(answer.headers["Retry-After"]) >= 1
                    assert (await answer.json())["data"]["code"] == "RATE_LIMITED"
                    assert answer.headers["Connection"] == "close"
        assert statuses[0] == 200
        assert statuses[2:] == [429] * 4
        told = await room.eventually(ConnectionRejected)
        assert (told.reason, told.remote) == ("rate", "127.0.0.1")
        assert sum(event.count for event in room.seen.of(ConnectionRejected)) <= 5


async def test_clients_of_a_proxy_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with (
        open_room(tmp_path, **FEW, server__trusted_proxies=["127.0.0.1"]) as room,
        aiohttp.ClientSession(room.url) as http,
    ):
        for number in range(5):
            async with http.get("/livez", headers={"X-Forwarded-For": f"203.0.113.{number}"}) as answer:
                assert answer.status == 200


async def test_this_machine_is_not_limited(room: Room) -> None:
    async with aiohttp.ClientSession(room.url) as http:
        for _ in range(300):
            async with http.get("/livez") as answer:
                assert answer.status == 200


def test_the_plain_listener_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Without tokens it is none of ours: what it points to is not for us to say."""
    settings = load_settings(config=None, environ={}, flags={"data.dir": tmp_path}).settings
    Hosts(settings, auth=True).check("pocket-agent.localhost:8080")
    for auth, host in ((False, "pocket-agent.localhost:8080"), (True, "other.localhost:8080")):
        with pytest.raises(ForbiddenError):
            Hosts(settings, auth=auth).check(host)
    assert page_urls(settings, 8443, "http://127.0.0.1:8080")[-1] == "http://pocket-agent.localhost:8080"
