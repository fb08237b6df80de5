"""Getting in and out over HTTP: pairing codes, cookies, sessions."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pocket_agent.events import ConnectionRejected, DevicePaired, DeviceRevoked, DeviceRotated, LogDeclaration
from pocket_agent.model import Milliseconds, project_of
from pocket_agent.server.auth import hash_token
from pocket_agent.server.pairing import hash_code, new_code, new_pairing
from tests.server.room import Room, Wire, open_room


async def start(room: Room, name: str | None = None, **allowed: Any) -> str:
    """A code that lets one device in."""
    pairing, code = new_pairing(name, **allowed)
    await room.store.add_pairing(pairing)
    return code


class Browser:
    """What a page of the server can do: send its origin and the cookies that it has."""

    def __init__(self, room: Room, http: aiohttp.ClientSession) -> None:
        self.room = room
        self.http = http

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, Any, aiohttp.ClientResponse]:
        """The status, the JSON, and the answer with its headers."""
        sent = {"Origin": self.room.url, "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, (str, bytes)) else json.dumps(body)
        async with self.http.post(self.room.url + path, data=content, headers=sent) as answer:
            return answer.status, await answer.json(), answer

    async def pair(self, code: str, name: str = "phone") -> tuple[int, Any]:
        """Show a code."""
        status, data, _ = await self.post("/api/pair", {"code": code, "name": name})
        return status, data

    async def session(self) -> tuple[int, Any]:
        """Ask who one is."""
        async with self.http.get(f"{self.room.url}/api/session") as answer:
            return answer.status, await answer.json()

    @contextlib.asynccontextmanager
    async def wire(self, **headers: str) -> AsyncIterator[Wire]:
        """A WebSocket of a page."""
        async with self.http.ws_connect(
            f"{self.room.url}/ws", headers={"Origin": self.room.url, **headers}, max_msg_size=0
        ) as socket:
            yield Wire(socket)


@contextlib.asynccontextmanager
async def browser(room: Room) -> AsyncIterator[Browser]:
    """One with no cookies yet."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Browser(room, http)


async def test_a_browser_pairs_comes_in_and_goes(room: Room) -> None:
    code = await start(room)
    async with browser(room) as page:
        assert (await page.session())[0] == 401
        status, data = await page.pair(code)
        assert status == 200
        device = data["device"]
        assert device == {"id": device["id"], "name": "phone", "view_only": False, "projects": None}
        assert "token" not in data
        assert await page.session() == (200, {"device": device, "enroll": "offered"})
        async with page.wire() as wire:
            await wire.works()
            status, data, _ = await page.post("/api/logout", {})
            assert (status, data) == (200, {})
            assert await wire.closed() == 4009
        assert (await page.session())[0] == 401
        assert len(page.http.cookie_jar) == 0
    assert [device.name for device in await room.store.devices()] == ["test"]
    assert room.seen.of(DevicePaired) == [DevicePaired("phone", "127.0.0.1")]
    assert room.seen.of(DeviceRevoked) == [DeviceRevoked("phone", "phone")]


async def test_a_browser_renews_its_cookie_and_comes_back(room: Room) -> None:
    async with browser(room) as page, aiohttp.ClientSession() as thief:
        _, data = await page.pair(await start(room))
        (stolen,) = [f"{cookie.key}={cookie.value}" for cookie in page.http.cookie_jar]
        old = {"Origin": room.url, "Cookie": stolen}
        async with page.wire() as wire:
            await wire.works()
            status, answered, _ = await page.post("/api/rotate", {})
            assert (status, answered) == (200, data)
            assert await wire.closed() == 1001, "whoever has the new one is to come back"
        assert await page.session() == (200, {**data, "enroll": "offered"})
        async with page.wire() as wire:
            await wire.works()
        async with thief.get(f"{room.url}/api/session", headers=old) as answer:
            assert answer.status == 401
    assert room.seen.of(DeviceRotated) == [DeviceRotated("phone", "phone")]
    (noted,) = [record for record in room.trail.records if record.action == "device_rotate"]
    assert (noted.by, noted.details) == ("phone", {"device_id": data["device"]["id"]})


async def test_what_a_device_does_over_http_is_in_the_audit_log_and_the_log(room: Room) -> None:
    code = await start(room)
    async with browser(room) as page:
        _, data = await page.pair(code)
        await page.post("/api/enroll", {})
        await page.post("/api/rotate", {})
        await page.post("/api/logout", {})
    noted = [record for record in room.trail.records if record.by == "phone"]
    assert [record.action for record in noted] == ["pair", "device_enroll", "device_rotate", "logout"]
    assert {(record.device_id, record.address, record.outcome) for record in noted} == {
        (data["device"]["id"], "127.0.0.1", "ok")
    }
    assert code not in str(noted)
    told = [event.log_as.message for event in room.seen.events if isinstance(event.log_as, LogDeclaration)]
    assert [message for message in told if message.startswith("device ")] == [
        *("device paired", "device rotated", "device revoked")
    ]


async def test_a_program_renews_its_token(room: Room) -> None:
    bearer = {"Authorization": f"Bearer {room.token}"}
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{room.url}/api/rotate", headers=bearer, json={}) as answer:
            assert answer.status == 200
            assert "Set-Cookie" not in answer.headers
            token = (await answer.json())["token"]
        async with http.post(f"{room.url}/api/rotate", headers=bearer, json={}) as answer:
            assert answer.status == 401
    assert await room.status({"Authorization": f"Bearer {token}"}) == 101


async def test_the_cookie_is_for_this_server_and_no_script(room: Room) -> None:
    async with browser(room) as page:
        _, _, answer = await page.post("/api/pair", {"code": await start(room), "name": "phone"})
        (cookie,) = answer.headers.getall("Set-Cookie")
        name, _, rest = cookie.partition("=")
        assert name == f"pocket_agent_{room.store.instance}"
        token, *attributes = [part.strip() for part in rest.split(";")]
        assert token.startswith("pa_")
        assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=34560000"} == set(attributes)


async def test_a_program_gets_its_token_and_no_cookie(room: Room) -> None:
    body = {"code": await start(room), "name": "script", "token": True}
    async with aiohttp.ClientSession() as http, http.post(f"{room.url}/api/pair", json=body) as answer:
        assert answer.status == 200
        assert "Set-Cookie" not in answer.headers
        data = await answer.json()
    _, found = await room.store.devices()
    assert found.last_address == "127.0.0.1", "known before it connects, so that who has made the code can look"
    bearer = {"Authorization": f"Bearer {data['token']}"}
    assert await room.status(bearer) == 101
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{room.url}/api/session", headers=bearer) as answer:
            assert (answer.status, await answer.json()) == (200, {"device": data["device"]})
            assert "Set-Cookie" not in answer.headers
        async with http.post(f"{room.url}/api/logout", headers=bearer, json={}) as answer:
            assert answer.status == 200
    assert await room.status(bearer) == 401


async def test_what_a_pairing_allows_is_the_devices(room: Room) -> None:
    code = await start(room, "kitchen", view_only=True, projects=(project_of("p-1"),))
    async with browser(room) as page:
        _, data = await page.pair(code, "what it calls itself")
        assert data["device"] | {"id": ""} == {"id": "", "name": "kitchen", "view_only": True, "projects": ["p-1"]}
        assert await page.session() == (200, {**data, "enroll": "offered"})


async def test_a_name_that_is_taken_gets_a_number(room: Room) -> None:
    for expected in ("test 2", "test 3"):
        async with browser(room) as page:
            assert (await page.pair(await start(room), "test"))[1]["device"]["name"] == expected


@pytest.mark.parametrize("spelling", [str.lower, lambda code: code.replace("-", ""), lambda code: f" {code} "])
async def test_a_code_may_be_typed_as_one_likes(room: Room, spelling: Any) -> None:
    async with browser(room) as page:
        assert (await page.pair(spelling(await start(room))))[0] == 200


def test_letters_that_look_like_digits_are_these() -> None:
    assert hash_code("OIL0-1111-0000") == hash_code("0110-1III-ooOO")
    assert len({new_code() for _ in range(1000)}) == 1000


async def test_a_code_works_once(room: Room) -> None:
    code = await start(room)
    async with browser(room) as page, browser(room) as thief:
        assert (await page.pair(code))[0] == 200
        status, data = await thief.pair(code)
        assert (status, data["data"]["code"]) == (401, "UNAUTHORIZED")
        assert (await thief.session())[0] == 401
    assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["unauthorized"]


async def test_a_code_that_many_show_at_once_lets_in_one(room: Room) -> None:
    code = await start(room)
    async with browser(room) as page:
        results = await asyncio.gather(*(page.pair(code, f"racer {number}") for number in range(5)))
    assert sorted(status for status, _ in results) == [200, 401, 401, 401, 401]
    assert len(await room.store.devices()) == 2


async def test_a_code_expires(room: Room) -> None:
    pairing, code = new_pairing()
    assert pairing.expires_at - pairing.created_at == 300_000
    past = msgspec.structs.replace(pairing, expires_at=Milliseconds(pairing.created_at - 1))
    await room.store.add_pairing(past)
    async with browser(room) as page:
        assert (await page.pair(code))[0] == 401
    assert len(await room.store.devices()) == 1


async def test_a_clock_that_was_set_back_makes_no_code_valid_for_longer(room: Room) -> None:
    pairing, code = new_pairing()
    hour = 3_600_000
    made = Milliseconds(pairing.created_at + hour)
    ahead = msgspec.structs.replace(pairing, created_at=made, expires_at=Milliseconds(pairing.expires_at + hour))
    await room.store.add_pairing(ahead)
    async with browser(room) as page:
        assert (await page.pair(code))[0] == 401


async def test_guesses_are_soon_refused_and_the_right_code_with_them(room: Room) -> None:
    code = await start(room)
    async with browser(room) as page:
        statuses = [(await page.pair(new_code()))[0] for _ in range(10)]
        assert statuses == [401] * 6 + [429] * 4
        status, data, answer = await page.post("/api/pair", {"code": code, "name": "phone"})
        assert (status, data["data"]["code"], answer.headers["Retry-After"]) == (429, "RATE_LIMITED", "1")
    assert await room.status({"Authorization": f"Bearer {room.token}"}) == 101, "who is in, is not concerned"


async def test_guesses_at_once_are_not_tried_together(room: Room) -> None:
    await start(room)
    async with browser(room) as page:
        statuses = await asyncio.gather(*(page.pair(new_code()) for _ in range(50)))
    assert sorted(status for status, _ in statuses)[6:] == [429] * 44


async def test_only_so_many_codes_wait(room: Room) -> None:
    codes = [await start(room) for _ in range(100)]
    with pytest.raises(Exception, match="100 pairing codes"):
        await start(room)
    async with browser(room) as page:
        assert (await page.pair(codes[0]))[0] == 200
    await start(room)


BAD_NAMES = ["", "   ", "a\nb", "\x1b[31mred", "x" * 101, "\u202etxt"]


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_bad_name_is_refused_and_the_code_stays_good(room: Room, name: str) -> None:
    code = await start(room)
    async with browser(room) as page:
        assert (await page.pair(code, name))[0] == 400
        assert (await page.pair(code, "phone"))[0] == 200


FOREIGN = {
    "another site": {"Origin": "https://evil.example"},
    "a sandboxed frame": {"Origin": "null"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "another scheme": {"Origin": "https://127.0.0.1:PORT"},
    "what the browser says": {"Sec_Fetch_Site": "cross-site"},
    "the same site": {"Sec_Fetch_Site": "same-site"},
}


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("path", ["/api/pair", "/api/logout"])
async def test_pages_of_other_sites_can_post_nothing(room: Room, case: str, path: str) -> None:
    code = await start(room)
    headers = {name: value.replace("PORT", str(room.port)) for name, value in FOREIGN[case].items()}
    async with browser(room) as page:
        assert (await page.pair(await start(room)))[0] == 200
        status, data, answer = await page.post(path, {"code": code, "name": "evil"}, **headers)
        assert (status, data["data"]["code"]) == (403, "FORBIDDEN")
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert (await page.session())[0] == 200
        async with page.http.get(f"{room.url}/api/session", headers={"Sec-Fetch-Site": "cross-site"}) as refused:
            assert refused.status == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_what_a_form_can_send_is_not_taken(room: Room, kind: str) -> None:
    code = await start(room)
    async with browser(room) as page:
        status, data, _ = await page.post("/api/pair", json.dumps({"code": code, "name": "x"}), Content_Type=kind)
        assert (status, data["data"]["code"]) == (400, "INVALID_MESSAGE")


async def test_a_cookie_without_an_origin_ends_nothing_and_opens_nothing(room: Room) -> None:
    async with browser(room) as page:
        await page.pair(await start(room))
        async with page.http.post(f"{room.url}/api/logout", json={}) as answer:
            assert answer.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page.http.ws_connect(f"{room.url}/ws")
        assert refused.value.status == 401
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page.http.ws_connect(f"{room.url}/ws", headers={"Origin": "https://evil.example"})
        assert refused.value.status == 403
        async with page.wire() as wire:
            await wire.works()


async def test_a_program_cannot_ask_for_a_cookie(room: Room) -> None:
    code = await start(room)
    body = {"code": code, "name": "x"}
    async with aiohttp.ClientSession() as http, http.post(f"{room.url}/api/pair", json=body) as answer:
        assert answer.status == 400
        assert '"token": true' in (await answer.json())["data"]["message"]


BAD_BODIES = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"code":"\xff","name":"x"}',
    "an array": b"[]",
    "null": b"null",
    "no code": b'{"name":"x"}',
    "a number": b'{"code":1,"name":"x"}',
    "deep": b"[" * 4000,
    "long": b'{"code":"' + b"x" * 5000 + b'","name":"x"}',
    "huge": b"x" * 1_000_000,
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_refused_in_words(room: Room, case: str) -> None:
    async with browser(room) as page:
        status, data, _ = await page.post("/api/pair", BAD_BODIES[case])
        assert (status, data["data"]["code"]) == (400, "INVALID_MESSAGE")
        assert (await page.pair(await start(room)))[0] == 200


async def test_strange_fields_are_ignored_and_nul_is_no_crash(room: Room) -> None:
    async with browser(room) as page:
        status, _, _ = await page.post("/api/pair", {"code": "\0" * 20, "name": "x", "view_only": False})
        assert status == 401


async def test_a_cookie_of_another_name_does_not_count_and_a_foreign_one_does_not_lock_out(room: Room) -> None:
    async with browser(room) as page:
        await page.pair(await start(room))
        (cookie,) = page.http.cookie_jar
        name, value = cookie.key, cookie.value
    for header in (f"other={value}", f"{name}=x; {name}=y", f"x{name}={value}", f"{name}", f"{name}={value}x"):
        headers = {"Origin": room.url, "Cookie": header}
        async with aiohttp.ClientSession() as http, http.get(f"{room.url}/api/session", headers=headers) as answer:
            assert answer.status == 401
        assert await room.status(headers) == 4001
    # A page of another port set a cookie of the same name, for a longer path, so that it comes first.
    for header in (f"a=b; {name}={value};c=d", f"{name}=x; {name}={value}", f"{name}={value}; {name}=x"):
        assert await room.status({"Origin": room.url, "Cookie": header}) == 101, header


async def test_a_stale_cookie_does_not_keep_one_from_pairing_again(room: Room) -> None:
    async with browser(room) as page:
        _, data = await page.pair(await start(room))
        await room.store.remove_device(data["device"]["id"])
        for _ in range(20):
            assert (await page.session())[0] == 401
        assert (await page.pair(await start(room)))[0] == 200
        assert (await page.session())[0] == 200


async def test_two_servers_on_one_host_do_not_disturb_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with open_room(tmp_path / "a") as one, open_room(tmp_path / "b") as two, browser(one) as page:
        other = Browser(two, page.http)
        first = (await page.pair(await start(one)))[1]
        second = (await other.pair(await start(two)))[1]
        assert await page.session() == (200, {**first, "enroll": "offered"})
        assert await other.session() == (200, {**second, "enroll": "offered"})


async def test_without_tokens_the_session_is_the_local_device(tmp_path: Path) -> None:
    async with open_room(tmp_path, server__auth=False) as room, browser(room) as page:
        assert (await page.session())[1]["device"]["name"] == "local"
        assert (await page.post("/api/logout", {}))[0] == 200
        assert (await page.session())[0] == 200


async def test_a_cookie_that_somebody_has_copied_is_no_use_when_it_is_over(room: Room) -> None:
    """Replayed after the logout of its owner, as a cookie and as a token."""
    async with browser(room) as page:
        _, _, answer = await page.post("/api/pair", {"code": await start(room), "name": "phone"})
        copied = answer.headers["Set-Cookie"].partition(";")[0]
        assert await room.status({"Origin": room.url, "Cookie": copied}) == 101
        assert (await page.post("/api/logout", {}))[0] == 200
    assert await room.status({"Origin": room.url, "Cookie": copied}) == 4001
    assert await room.status({"Authorization": f"Bearer {copied.partition('=')[2]}"}) == 401
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{room.url}/api/session", headers={"Cookie": copied}) as refused,
    ):
        assert refused.status == 401
        assert "Set-Cookie" not in refused.headers
    assert [event.reason for event in room.seen.of(ConnectionRejected)] == ["unauthorized"] * 3


async def test_a_token_that_was_rotated_is_no_use(room: Room) -> None:
    old = room.token
    device = (await room.store.devices())[0]
    async with room.wire() as wire:
        await room.store.remove_device(device.id)
        await room.store.add_device(msgspec.structs.replace(device, token_hash=hash_token("pa_new")))
        assert await wire.closed() == 4009
    assert await room.status({"Authorization": f"Bearer {old}"}) == 401
    assert await room.status({"Authorization": "Bearer pa_new"}) == 101


async def test_a_replaced_token_closes_what_it_had_opened(room: Room) -> None:
    async with browser(room) as page:
        _, data = await page.pair(await start(room))
        async with page.wire() as wire:
            await wire.works()
            device = next(device for device in await room.store.devices() if device.id == data["device"]["id"])
            await room.store.remove_device(device.id)
            await room.store.add_device(msgspec.structs.replace(device, token_hash="0" * 64))
            assert await wire.closed() == 4009


@pytest.mark.parametrize("path", ["/api/pair", "/api/session", "/api/logout"])
async def test_answers_keep_pages_apart(room: Room, path: str) -> None:
    async with aiohttp.ClientSession() as http:
        method = "GET" if path == "/api/session" else "POST"
        async with http.request(method, room.url + path) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with http.options(room.url + path, headers={"Origin": "https://evil.example"}) as answer:
            assert answer.status == 405
            assert "Access-Control-Allow-Origin" not in answer.headers
