"""Middleware of every request: host name, proxies, limits; and probes, which need no token."""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from pocket_agent.errors import ForbiddenError, RateLimitedError, ResourceLimitError
from pocket_agent.events import ConnectionRejected, Observer, SettingIgnored
from pocket_agent.protocol.frame import PROBE
from pocket_agent.server.acceptor import HttpConnection
from pocket_agent.server.address import LOCAL_NAME
from pocket_agent.server.answer import refusal
from pocket_agent.server.limits import Admission
from pocket_agent.server.peer import PEER, Peer, Proxies, parse_address, source_of
from pocket_agent.settings import CurrentSettings, is_loopback

# ----------------------------------------------------------------------
# Probes: programs without a token that check whether clients can connect.

MAX_PROBES: Final = 8
MAX_PROBES_OF_SOURCE: Final = 2  # of one address, so that one client cannot exclude the others
_SECONDS: Final = 2.0  # the limit for a probe to answer the close frame; many just disconnect


def is_probe(request: web.Request) -> bool:
    """Whether a program, not a page, requests the subprotocol of a probe."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    return "Origin" not in request.headers and [word.strip() for word in offered] == [PROBE]


class Probes:
    """Opens a WebSocket for a probe and closes it at once.

    Probes have limits of their own, so that a server at its limit of connections still answers them.
    """

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    async def answer(self, request: web.Request, address: str) -> web.StreamResponse:
        """Accept and close the WebSocket of a probe from this address."""
        source = source_of(address)
        if self._open.total() >= MAX_PROBES or self._open[source] >= MAX_PROBES_OF_SOURCE:
            return refusal(ResourceLimitError("There are too many probes already."))
        self._open[source] += 1
        try:
            socket = web.WebSocketResponse(protocols=(PROBE,), compress=False, max_msg_size=1, timeout=_SECONDS)
            await socket.prepare(request)
            await socket.close(message=b"probe")
        finally:
            self._open -= Counter([source])
        return socket


# ----------------------------------------------------------------------
# The checks of every request: its address, its host name, and its rate.

_MISDIRECTED: Final = 421  # the request is for another host than this server (RFC 9110, section 15.5.20)
_ANSWER_SECONDS: Final = 60.0  # the limit for sending a response
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")  # a DNS name in lower case

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Hosts:
    """The host names of this server, against DNS rebinding: pages at a name that an attacker has pointed here.

    Any IP address is accepted, since the DNS cannot redirect a page with an address as its host.

    Args:
        settings: the configured names.
        auth: whether clients need a token. Without one, the machine's name in its network is not accepted: another
            party controls the address of that name.
    """

    def __init__(self, settings: CurrentSettings, *, auth: bool) -> None:
        self._settings = settings
        self._auth = auth
        self._certified: frozenset[str] = frozenset()
        self.renew()

    def renew(self) -> None:
        """Apply changed settings."""
        server = self._settings.current.server
        addresses = (server.public_url, self._settings.current.notifications.base_url)
        names = {"localhost", server.host, self._settings.current.metrics.host, *server.allowed_hosts}
        names |= {urlsplit(address).hostname or "" for address in addresses if address is not None}
        names.add((self._settings.current.monitoring.server_name or "").lower())
        if self._auth:
            own = socket.gethostname().lower()
            names |= {own, f"{own}.local", LOCAL_NAME}
        self._names = frozenset(names - {""})

    def certify(self, names: Iterable[str]) -> list[str]:
        """Accept the names of the server's certificate (in lower case), and no longer those of the one before.

        A name with a `*` is not accepted, since it includes hosts of other owners. Without tokens no name is: in a
        private network any party can define it.

        Returns:
            Names with a `*` that match no accepted name.
        """
        if not self._auth:
            return []
        found = set(names)
        self._certified = frozenset(name for name in found if _NAME.fullmatch(name))
        known = {name.partition(".")[2] for name in self._names | self._certified} - {""}
        return sorted(name for name in found if "*" in name and name.partition(".")[2] not in known)

    def check(self, host: str) -> None:
        """Raise ForbiddenError for a `Host` header (in lower case) that does not name this server."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            name = ""
        by_address = parse_address(name) is not None and (self._auth or is_loopback(name))
        if not by_address and name not in self._names | self._certified:
            raise ForbiddenError("Host not allowed; add it to server.allowed_hosts, or set server.public_url.")


class Guard:
    """A middleware for all routes of an application.

    `hosts` are the accepted host names, None for any; `observer` gets a ConnectionRejected event for a refused request.
    """

    def __init__(
        self, settings: CurrentSettings, hosts: Hosts | None, admission: Admission, observer: Observer
    ) -> None:
        self._settings = settings
        self._hosts = hosts
        self._proxies = Proxies(self._settings.current.server.trusted_proxies, self._settings.current.server.forwarded)
        self._admission = admission
        self._observer = observer
        self._warned = False

    def renew(self) -> None:
        """Apply changed settings from the next request on."""
        self._proxies = Proxies(self._settings.current.server.trusted_proxies, self._settings.current.server.forwarded)
        self._warned = False
        self._admission.renew()
        if self._hosts is not None:
            self._hosts.renew()

    def add_to(self, application: web.Application) -> None:
        @web.middleware
        async def guarded(request: web.Request, handler: Handle) -> web.StreamResponse:
            return await self._pass(request, handler)

        application.middlewares.append(guarded)
        application.on_response_prepare.append(_anonymous)

    async def _pass(self, request: web.Request, handler: Handle) -> web.StreamResponse:
        if isinstance(request.protocol, HttpConnection):
            request.protocol.heard()
        peer = self._peer(request)
        request[PEER] = peer
        try:
            self._admission.request(peer.address)
        except RateLimitedError as error:  # counted by the admission, which reports them together
            return _last(refusal(error))
        try:
            if self._hosts is not None:
                self._hosts.check(peer.host if len(request.headers.getall("Host", [])) == 1 else "")
        except ForbiddenError as error:
            self._observer.emit(ConnectionRejected("host", peer.address))
            return _last(refusal(error, _MISDIRECTED))
        response = await handler(request)
        if not isinstance(response, web.WebSocketResponse):
            await _send(request, response)
        return response

    def _peer(self, request: web.Request) -> Peer:
        remote = request.remote or ""
        direct = Peer(remote, request.secure, request.headers.get("Host", "").lower(), direct=remote)
        forwarded = {name: ", ".join(request.headers.getall(name)) for name in _FORWARDED if name in request.headers}
        if forwarded and not self._warned and not self._proxies.trusts(direct.address):
            self._warned = True
            reason = f"{direct.address} forwards requests, but is not a trusted proxy (docs/deployment/proxy.md)"
            self._observer.emit(SettingIgnored("server.trusted_proxies", reason))
        return self._proxies.origin_of(direct, forwarded)


async def _anonymous(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)


def _last(response: web.Response) -> web.Response:
    response.force_close()
    return response


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await response.prepare(request)
            await response.write_eof()
    except ConnectionError:  # the client has disconnected
        return
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
