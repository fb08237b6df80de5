"""Reverse proxies: what is believed of where a request comes from, and of whom it is."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.errors import ConfigurationError
from pocket_agent.events import ConnectionOpened, SettingIgnored
from pocket_agent.server.peer import Networks, Peer, Proxies, parse_address
from pocket_agent.settings import load_settings
from tests.harness.follow import eventually
from tests.server.room import Room, open_room

NEAR = Peer("10.0.0.1", secure=False, host="inner:8080", direct="10.0.0.1")
TRUSTED = ["10.0.0.0/8", "::1"]


def origin(headers: dict[str, str], *, direct: Peer = NEAR, form: Any = "x-forwarded") -> tuple[str, bool, str]:
    """Where a request comes from: address, whether by TLS, and the host that it asked for."""
    found = Proxies(TRUSTED, form).origin_of(direct, headers)
    assert found.direct == direct.direct, "who is at the other end stays known"
    return found.address, found.secure, found.host


def x(forwarded_for: str, **more: str) -> dict[str, str]:
    """The headers that most proxies write."""
    return {"X-Forwarded-For": forwarded_for} | {f"X-Forwarded-{name.title()}": value for name, value in more.items()}


UNTOUCHED = ("10.0.0.1", False, "inner:8080")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, UNTOUCHED),
        (x("203.0.113.9"), ("203.0.113.9", False, "inner:8080")),
        (x("203.0.113.9", proto="https", host="Agent.example"), ("203.0.113.9", True, "agent.example")),
        (x("203.0.113.9:5123"), ("203.0.113.9", False, "inner:8080")),
        (x("[2001:db8::9]:5123"), ("2001:db8::9", False, "inner:8080")),
        (x("2001:db8::9"), ("2001:db8::9", False, "inner:8080")),
        (x("::ffff:203.0.113.9"), ("203.0.113.9", False, "inner:8080")),
        # A client that writes the header itself is behind what the proxy adds.
        (x("6.6.6.6, 203.0.113.9"), ("203.0.113.9", False, "inner:8080")),
        (x("10.0.0.7, 203.0.113.9"), ("203.0.113.9", False, "inner:8080")),
        (x("127.0.0.1, 203.0.113.9"), ("203.0.113.9", False, "inner:8080")),
        # Proxies behind proxies.
        (x("203.0.113.9, 10.0.0.7"), ("203.0.113.9", False, "inner:8080")),
        (x("6.6.6.6, 203.0.113.9, 10.0.0.8, 10.0.0.7"), ("203.0.113.9", False, "inner:8080")),
        (x("10.0.0.8, 10.0.0.7"), ("10.0.0.8", False, "inner:8080")),
        # What is not understood is not believed.
        (x("unknown"), UNTOUCHED),
        (x(""), UNTOUCHED),
        (x(","), UNTOUCHED),
        (x("203.0.113.9, unknown"), UNTOUCHED),
        (x("203.0.113.9, evil"), UNTOUCHED),
        (x("203.0.113.9\x00"), UNTOUCHED),
        (x("203.0.113.9", proto="gopher"), ("203.0.113.9", False, "inner:8080")),
        (x("203.0.113.9", proto="http, https"), ("203.0.113.9", True, "inner:8080")),
        (x("203.0.113.9", host="evil.example/path"), ("203.0.113.9", False, "inner:8080")),
        (x("203.0.113.9", host="a@b"), ("203.0.113.9", False, "inner:8080")),
        (x("203.0.113.9", host="evil.example, agent.example"), ("203.0.113.9", False, "agent.example")),
        # The header that this proxy does not write is the client's.
        ({"Forwarded": "for=6.6.6.6;proto=https"}, UNTOUCHED),
    ],
)
def test_x_forwarded(headers: dict[str, str], found: tuple[str, bool, str]) -> None:
    assert origin(headers) == found


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("for=203.0.113.9", ("203.0.113.9", False, "inner:8080")),
        ("For=203.0.113.9;Proto=https;Host=agent.example", ("203.0.113.9", True, "agent.example")),
        ('for="203.0.113.9:47011"', ("203.0.113.9", False, "inner:8080")),
        ('for="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", False, "inner:8080")),
        ('for="\\[2001:db8::9\\]"', ("2001:db8::9", False, "inner:8080")),
        ("for=6.6.6.6, for=203.0.113.9;proto=https", ("203.0.113.9", True, "inner:8080")),
        # The innermost proxy was reached in plain, the outer one by TLS: the client's side counts.
        ("for=203.0.113.9;proto=https, for=10.0.0.7;proto=http", ("203.0.113.9", True, "inner:8080")),
        ("for=_hidden, for=10.0.0.7", ("10.0.0.7", False, "inner:8080")),
        ("for=unknown", UNTOUCHED),
        ("proto=https", ("10.0.0.1", True, "inner:8080")),
        ("", UNTOUCHED),
        (";;;,,,===", UNTOUCHED),
        # A client's part must not swallow the proxy's.
        ('for="6.6.6.6, for=203.0.113.9', ("203.0.113.9", False, "inner:8080")),
        ('for=6.6.6.6;x=", for=203.0.113.9;proto=https', ("203.0.113.9", True, "inner:8080")),
        ('for=6.6.6.6;x=", for="203.0.113.9"', UNTOUCHED),
        ('for=6.6.6.6;x="\\, for=203.0.113.9', ("203.0.113.9", False, "inner:8080")),
    ],
)
def test_forwarded(header: str, found: tuple[str, bool, str]) -> None:
    assert origin({"Forwarded": header}, form="forwarded") == found


def test_who_is_no_proxy_speaks_for_nobody() -> None:
    stranger = Peer("203.0.113.66", secure=False, host="box", direct="203.0.113.66")
    for form in ("x-forwarded", "forwarded"):
        headers = x("127.0.0.1", proto="https", host="localhost") | {"Forwarded": "for=127.0.0.1"}
        assert origin(headers, direct=stranger, form=form) == ("203.0.113.66", False, "box")


@given(st.text(max_size=200), st.sampled_from(["x-forwarded", "forwarded"]))
def test_whatever_stands_there_leads_to_an_address_or_to_the_proxy(header: str, form: str) -> None:
    headers = {"X-Forwarded-For": header, "X-Forwarded-Host": header, "X-Forwarded-Proto": header, "Forwarded": header}
    address, _, host = origin(headers, form=form)
    assert parse_address(address) is not None
    assert "/" not in host
    assert "@" not in host


@given(st.text(alphabet='for=;,"\\ 16.x[]:', max_size=60))
def test_a_forged_beginning_never_hides_what_the_proxy_wrote(forged: str) -> None:
    found = origin({"Forwarded": f"{forged}, for=203.0.113.9"}, form="forwarded")[0]
    assert found in {"203.0.113.9", "10.0.0.1"}
    assert origin({"X-Forwarded-For": f"{forged}, 203.0.113.9"})[0] == "203.0.113.9"


def test_networks_know_an_ipv4_address_that_is_written_as_ipv6() -> None:
    networks = Networks(["10.0.0.0/8", "2001:db8::/32"])
    assert "::ffff:10.1.2.3" in networks
    assert "2001:db8::1%eth0" in networks
    assert "11.0.0.1" not in networks
    assert "nonsense" not in networks
    assert "" not in networks


@pytest.mark.parametrize("forwarded", ["X-Forwarded-For", "Forwarded"])
async def test_a_forged_address_is_not_seen(tmp_path: Path, forwarded: str) -> None:
    """By default nobody is a proxy; it is said once that somebody seems to be one."""
    async with open_room(tmp_path) as room:
        for value in ("203.0.113.9", "for=203.0.113.9"):
            async with room.wire(headers={forwarded: value}) as wire:
                await wire.works()
        assert {event.remote for event in room.seen.of(ConnectionOpened)} == {"127.0.0.1"}

        async def seen() -> bool:
            return {device.last_address for device in await room.store.devices()} == {"127.0.0.1"}

        await eventually(seen, "the address is noted")  # nobody who comes in waits for the database
        (told,) = room.seen.of(SettingIgnored)
        assert told.setting == "server.trusted_proxies"


async def test_behind_a_proxy_its_clients_are_seen(tmp_path: Path) -> None:
    changed: dict[str, Any] = {"server__trusted_proxies": ["127.0.0.1"], "server__allowed_hosts": ["agent.example"]}
    headers = x("6.6.6.6, 203.0.113.9", proto="https", host="agent.example")
    async with open_room(tmp_path, **changed) as room:
        async with room.wire(headers={**headers, "Origin": "https://agent.example"}) as wire:
            await wire.works()
        assert [event.remote for event in room.seen.of(ConnectionOpened)] == ["203.0.113.9"]
        assert await room.status({**headers, "Origin": room.url, "Authorization": f"Bearer {room.token}"}) == 403
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{room.url}/livez", headers=x("203.0.113.9", host="evil.example")) as answer:
                assert answer.status == 421
            # Two headers of one name are one list, in order.
            both = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "203.0.113.10")]
            async with http.get(f"{room.url}/ws", headers=both) as answer:
                assert answer.status == 401
        assert room.seen.of(SettingIgnored) == []


async def test_the_cookie_is_secure_when_the_page_came_by_tls(tmp_path: Path) -> None:
    changed: dict[str, Any] = {"server__trusted_proxies": ["127.0.0.1"], "server__allowed_hosts": ["agent.example"]}
    async with open_room(tmp_path, **changed) as room, aiohttp.ClientSession() as http:
        pairing = await pairing_code(room)
        headers = x("203.0.113.9", proto="https", host="agent.example") | {"Origin": "https://agent.example"}
        body = {"code": pairing, "name": "phone"}
        async with http.post(f"{room.url}/api/pair", json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            (cookie,) = answer.headers.getall("Set-Cookie")
    assert cookie.startswith(f"__Host-pocket_agent_{room.store.instance}=")
    assert "Secure" in cookie.split("; ")


async def pairing_code(room: Room) -> str:
    """A code that lets one device in."""
    async with room.wire() as wire:
        return str((await wire.ask("pairing_start"))["data"]["code"])


SSO: dict[str, Any] = {
    "server__trusted_proxies": ["127.0.0.1"],
    "server__allowed_hosts": ["agent.example"],
    "server__sso__header": "X-User",
    "server__sso__users": ["ann@example.org"],
    "server__sso__viewers": ["bob@example.org"],
}
PAGE = x("203.0.113.9", proto="https", host="agent.example") | {"Origin": "https://agent.example"}


async def test_a_proxy_may_sign_people_in(tmp_path: Path) -> None:
    async with open_room(tmp_path, **SSO) as room, aiohttp.ClientSession() as http:
        ann, bob = ({**PAGE, "X-User": f"{name}@example.org"} for name in ("ann", "bob"))
        for headers, view_only in ((ann, False), (bob, True)):
            async with http.get(f"{room.url}/api/session", headers=headers) as answer:
                device = (await answer.json())["device"]
                assert (device["name"], device["view_only"]) == (headers["X-User"], view_only)
                assert "Set-Cookie" not in answer.headers
            assert await room.status(headers) == 101
        assert [event.device for event in room.seen.of(ConnectionOpened)] == ["ann@example.org", "bob@example.org"]
        assert len(await room.store.devices()) == 1, "they are no devices of ours"


@pytest.mark.parametrize(
    "headers",
    [
        {**PAGE, "X-User": "eve@example.org"},
        {**PAGE, "X-User": ""},
        {**PAGE, "X-User": "ann@example.org, eve@example.org"},
        {**PAGE, "X-Other": "ann@example.org"},
    ],
)
async def test_whom_it_does_not_name_is_not_let_in(tmp_path: Path, headers: dict[str, str]) -> None:
    async with open_room(tmp_path, **SSO) as room:
        assert await room.status(headers) == 4001


async def test_only_a_trusted_proxy_signs_people_in_and_only_for_its_own_pages(tmp_path: Path) -> None:
    ann = {"X-User": "ann@example.org"}
    async with open_room(tmp_path, **{**SSO, "server__trusted_proxies": ["10.0.0.1"]}) as room:
        assert await room.status({**ann, "Origin": room.url}) == 4001
    (tmp_path / "two").mkdir()
    async with open_room(tmp_path / "two", **SSO) as room:
        assert await room.status({**PAGE, **ann, "Origin": "https://evil.example"}) == 403
        page = {name: value for name, value in PAGE.items() if name != "Origin"}
        assert await room.status({**page, **ann}) == 401, "a program shows a token"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"server.sso.header": "X-User", "server.sso.users": ["a"]}, "read from trusted proxies only"),
        ({"server.sso.header": "X-User", "server.trusted_proxies": ["10.0.0.1"]}, "no user would have access"),
        ({"server.sso.users": ["a"]}, "users require the header"),
        ({"server.trusted_proxies": ["proxy.example"]}, "not an IP address or a network"),
        ({"server.sso.header": "X User"}, "the name of a header"),
        ({"server.public_url": "https://agent.example/path"}, "more than a scheme"),
        ({"server.allowed_hosts": ["https://agent.example"]}, "not an IP address or a host name"),
    ],
)
def test_settings_that_would_let_in_anybody_are_refused(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_settings(config=None, environ={}, flags=flags)


async def test_single_sign_on_counts_on_the_servers_own_pages_alone(tmp_path: Path) -> None:
    """The proxy adds the user's name to what a page of another site asks for, too, a configured one included."""
    allowed = {**SSO, "server__allowed_origins": ["https://other.example"]}
    async with open_room(tmp_path, **allowed) as room:
        own = {**PAGE, "X-User": "ann@example.org"}
        assert await room.status(own) == 101
        assert await room.status({**own, "Origin": "https://other.example"}) == 4001
        assert await room.status({"Origin": "https://other.example", "Authorization": f"Bearer {room.token}"}) == 101
