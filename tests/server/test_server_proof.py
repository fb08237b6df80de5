"""A cookie counts only together with the key of the page's origin."""

import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pocket_agent.errors import UnauthorizedError, ValidationError
from pocket_agent.model import Credential, Device, Milliseconds
from pocket_agent.server.auth import hash_token, new_device, new_token, read_cookies
from pocket_agent.server.pairing import new_pairing
from pocket_agent.server.proof import Nonces, proven_by, read_key, signed_text
from tests.server.room import Room, Wire


def encoded(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """What a browser keeps in IndexedDB."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.der = der
        self.public = encoded(der)
        self.name = hashlib.sha256(der).hexdigest()

    def sign(self, origin: str, action: str, nonce: str) -> str:
        """As WebCrypto signs: r and s."""
        r, s = decode_dss_signature(self._key.sign(signed_text(origin, action, nonce), ec.ECDSA(SHA256())))
        return encoded(r.to_bytes(32) + s.to_bytes(32))


class Page:
    """A page of the server, with its cookies and its key."""

    def __init__(self, room: Room, http: aiohttp.ClientSession) -> None:
        self.room = room
        self.http = http
        self.key = Key()

    async def post(self, path: str, body: object, *, proof: str | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        headers = {"Origin": self.room.url} | ({"Pocket-Agent-Proof": proof} if proof is not None else {})
        async with self.http.post(self.room.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def session(self, key: str | None = None) -> tuple[int, Any]:
        """Who one is, to the page that holds a key of this name."""
        headers = {"Pocket-Agent-Key": key} if key is not None else {}
        async with self.http.get(f"{self.room.url}/api/session", headers=headers) as answer:
            return answer.status, await answer.json()

    async def proof(self, action: str) -> str:
        """A header for one request."""
        nonce = (await self.session())[1]["nonce"]
        return f"{nonce} {self.key.sign(self.room.url, action, nonce)}"

    def cookie(self) -> str:
        """What the browser would send along, to any port of this host."""
        (cookie,) = self.http.cookie_jar
        return f"{cookie.key}={cookie.value}"


@contextlib.asynccontextmanager
async def paired(room: Room, *, bound: bool = True) -> AsyncIterator[Page]:
    """A page that was let in."""
    pairing, code = new_pairing()
    await room.store.add_pairing(pairing)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        page = Page(room, http)
        body = {"code": code, "name": "phone"} | ({"key": page.key.public} if bound else {})
        status, data = await page.post("/api/pair", body)
        assert (status, data.get("bound", False)) == (200, bound)
        yield page


@contextlib.asynccontextmanager
async def thief(room: Room, cookie: str, query: str = "?proof=1") -> AsyncIterator[Wire]:
    """Somebody with the cookie, who can send any header that the page could."""
    headers = {"Origin": room.url, "Cookie": cookie}
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{room.url}/ws{query}", headers=headers) as socket:
        yield Wire(socket)


async def enter(wire: Wire, key: Key, origin: str) -> dict[str, Any]:
    """Prove to be the page; the next frame."""
    challenge = await wire.frame()
    assert challenge["type"] == "challenge"
    signature = key.sign(origin, "GET /ws", challenge["data"]["nonce"])
    await wire.send({"type": "prove", "data": {"signature": signature}})
    return await wire.frame()


async def test_a_page_comes_in_with_its_cookie_and_its_key(room: Room) -> None:
    async with paired(room) as page, thief(room, page.cookie()) as wire:
        answer = await enter(wire, page.key, room.url)
        (_, device) = await room.store.devices()
        assert (answer["type"], answer["data"]) == ("prove", {"device_id": device.id})
        assert (device.credential, device.public_key) == (Credential.COOKIE, page.key.der)
        await wire.works()
        (shown,) = [found for found in (await wire.ask("device_list"))["data"]["devices"] if found["current"]]
        assert (shown["credential"], shown["bound"]) == ("cookie", True)


async def test_the_cookie_alone_opens_nothing(room: Room) -> None:
    """Whoever listens on another port of the host gets it from the browser."""
    async with paired(room) as page:
        value = page.cookie().partition("=")[2]
        for scheme in ("Bearer", "bearer"):
            assert await room.status({"Authorization": f"{scheme} {value}"}) == 401, "a cookie is no token"
        async with thief(room, page.cookie(), "") as wire:
            assert await wire.closed() == 4001
        other = Key()
        challenges = []
        for frame in (
            {"type": "project_list", "request_id": "r"},
            {"type": "prove", "data": {"signature": ""}},
            {"type": "prove", "data": {"signature": "not base64"}},
            {"type": "prove", "data": {"signature": "A" * 86}},
            {"type": "prove", "data": {}},
            {"type": "prove"},
            "{",
            b"\xff",
        ):
            async with thief(room, page.cookie()) as wire:
                challenges.append((await wire.frame())["data"]["nonce"])
                await wire.send(frame)
                assert await wire.closed() == 4001, frame
        assert len(set(challenges)) == len(challenges)
        async with thief(room, page.cookie()) as wire:
            challenge = await wire.frame()
            for key, origin, nonce in (
                (other, room.url, challenge["data"]["nonce"]),
                (page.key, "http://127.0.0.1:1", challenge["data"]["nonce"]),
                (page.key, room.url, challenges[0]),
            ):
                signature = key.sign(origin, "GET /ws", nonce)
                await wire.send({"type": "prove", "data": {"signature": signature}})
            assert await wire.closed() == 4001
        for path in ("/api/rotate", "/api/logout"):
            assert (await page.post(path, {}))[0] == 401
        assert (await page.post("/api/enroll", {"key": other.public}))[0] == 401
        assert room.endpoint.connections() == []
    assert len(await room.store.devices()) == 2


async def test_nothing_is_said_before_the_proof(room: Room) -> None:
    async with paired(room) as page, thief(room, page.cookie()) as wire:
        assert (await wire.frame())["type"] == "challenge"
        await room.project("secret")
        assert room.endpoint.connections() == []
        await wire.send({"type": "project_list", "request_id": "r"})
        assert await wire.closed() == 4001


async def test_a_page_signs_out_and_renews_its_cookie_by_a_proof(room: Room) -> None:
    async with paired(room) as page:
        before = page.cookie()
        proof = await page.proof("POST /api/rotate")
        status, data = await page.post("/api/rotate", {}, proof=proof)
        assert (status, "token" in data) == (200, False)
        assert page.cookie() != before
        assert (await page.post("/api/rotate", {}, proof=proof))[0] == 401, "a nonce is good once"
        assert (await page.post("/api/logout", {}, proof=await page.proof("POST /api/rotate")))[0] == 401
        async with thief(room, page.cookie()) as wire:
            assert (await enter(wire, page.key, room.url))["type"] == "prove"
            assert (await page.post("/api/logout", {}, proof=await page.proof("POST /api/logout")))[0] == 200
            assert await wire.closed() == 4009
    assert [device.name for device in await room.store.devices()] == ["test"]


async def test_of_several_cookies_the_one_of_the_pages_key_counts(room: Room) -> None:
    """A page of another port can toss in a cookie that is good, its own: the victim would work in its name."""
    async with paired(room) as page, paired(room) as other, paired(room, bound=False) as loose:
        tossed = f"{other.cookie()}; {loose.cookie()}; {page.cookie()}"
        async with thief(room, tossed) as wire:
            answer = await enter(wire, page.key, room.url)
        device = next(found for found in await room.store.devices() if found.public_key == page.key.der)
        assert answer["data"]["device_id"] == device.id
        headers = {"Cookie": tossed, "Pocket-Agent-Key": page.key.name}
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{room.url}/api/session", headers=headers) as shown,
        ):
            assert (await shown.json())["device"]["id"] == device.id


async def test_a_page_that_has_lost_its_key_hears_that(room: Room) -> None:
    async with paired(room) as page:
        assert (await page.session(page.key.name))[0] == 200
        for key in ("none", Key().name):
            status, data = await page.session(key)
            assert status == 401
            assert "key" in data["data"]["message"]


async def test_a_browser_is_out_when_another_device_replaces_its_secret_by_a_token(room: Room) -> None:
    async with paired(room) as page, room.wire() as wire:
        (_, device) = await room.store.devices()
        token = (await wire.ask("device_rotate", {"device_id": device.id}))["data"]["token"]
        (_, device) = await room.store.devices()
        assert (device.credential, device.public_key) == (Credential.TOKEN, None)
        assert (await page.session(page.key.name))[0] == 401
        name = page.cookie().partition("=")[0]
        for cookie in (page.cookie(), f"{name}={token}"):
            async with thief(room, cookie, "") as other:
                assert await other.closed() == 4001, "a cookie that is no token, and a token that is no cookie"
    assert await room.status({"Authorization": f"Bearer {token}"}) == 101


async def test_a_browser_without_keys_is_let_in_and_shown_as_such(room: Room) -> None:
    async with paired(room, bound=False) as page:
        async with thief(room, page.cookie(), "") as wire:
            await wire.works()
            (shown,) = [found for found in (await wire.ask("device_list"))["data"]["devices"] if found["current"]]
            assert (shown["credential"], shown["bound"]) == ("cookie", False)
        assert await room.status({"Authorization": f"Bearer {page.cookie().partition('=')[2]}"}) == 401
        status, data = await page.session("none")
        assert (status, data.get("bound", False)) == (200, False)
        # It may get a key later, for example by TLS that was set up meanwhile.
        status, data = await page.post("/api/enroll", {"key": page.key.public})
        assert (status, data["bound"]) == (200, True)
        async with thief(room, page.cookie()) as wire:
            assert (await enter(wire, page.key, room.url))["type"] == "prove"


async def test_a_cookie_of_an_older_version_is_traded_once(room: Room) -> None:
    """It was a bearer token as well, which ends with the trade."""
    token = new_token()
    old = Device("old", "old", hash_token(token), Milliseconds(1), credential=Credential.EITHER)
    await room.store.add_device(old)
    cookie = f"pocket_agent_{room.store.instance}={token}"
    assert await room.status({"Authorization": f"Bearer {token}"}) == 101
    async with thief(room, cookie, "") as wire:
        assert await wire.closed() == 4001
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        page = Page(room, http)
        headers = {"Origin": room.url, "Cookie": cookie}
        async with http.get(f"{room.url}/api/session", headers=headers) as answer:
            assert (await answer.json())["enroll"] == "required"
        http.cookie_jar.clear()
        async with http.post(f"{room.url}/api/enroll", json={"key": page.key.public}, headers=headers) as answer:
            assert answer.status == 200
        http.cookie_jar.clear_domain("x")
        async with thief(room, page.cookie()) as wire:
            assert (await enter(wire, page.key, room.url))["data"] == {"device_id": "old"}
        async with http.post(f"{room.url}/api/enroll", json={}, headers={"Origin": room.url}) as answer:
            assert answer.status == 401, "a bound one is not traded for a loose one"
    assert await room.status({"Authorization": f"Bearer {token}"}) == 401


def test_what_a_key_and_a_signature_cannot_be() -> None:
    wrong = ec.generate_private_key(ec.SECP384R1()).public_key()
    for text in (
        "",
        "x",
        "é",
        "A" * 5000,
        encoded(Key().der[:-1]),
        encoded(wrong.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
    ):
        with pytest.raises(ValidationError, match="key"):
            read_key(text)
    key = Key()
    device, _ = new_device("phone", public_key=read_key(key.public))
    signed = signed_text("http://x", "GET /ws", "n")
    assert proven_by([device], key.sign("http://x", "GET /ws", "n"), signed) is device
    for signature in ("", "A", "A" * 86, "!" * 86, "\udcff" * 86):
        with pytest.raises(UnauthorizedError):
            proven_by([device], signature, signed)


def test_a_nonce_is_this_servers_and_good_once() -> None:
    nonces = Nonces()
    nonce = nonces.new()
    for strange in ("", "x", Nonces().new(), nonce[:-1], f"9{nonce}", nonce.replace(".", "", 1), "\udcff.é"):
        assert not nonces.take(strange), strange
    assert nonces.take(nonce)
    assert not nonces.take(nonce)


def test_all_cookies_of_a_name_are_read() -> None:
    for header, values in (
        ("", []),
        ("a=1", ["1"]),
        ("a=1; a=2;a=1", ["1", "2"]),
        ("b=a=1; a; xa=3; a=", ["", ""][:1]),
    ):
        assert read_cookies(header, "a") == values, header
    assert json.dumps(read_cookies("a=1=2", "a")) == '["1=2"]'
