"""What every request passes: the host name that it asks for, proxies, limits; and probes, which need no token."""

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
# Probes: programs that check without a token whether clients can connect.

MOST: Final = 8
"""Probes at a time."""
MOST_OF_A_SOURCE: Final = 2
"""Those of them that may come from one address, so that nobody keeps the others out."""
_SECONDS: Final = 2.0
"""How long a probe may take to answer the close frame; many just hang up."""


def is_probe(request: web.Request) -> bool:
    """Whether it asks for the subprotocol of a probe; a page of a browser is none."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    return "Origin" not in request.headers and [word.strip() for word in offered] == [PROBE]


class Probes:
    """Opens a WebSocket for a probe and closes it at once.

    A probe counts among no clients: a server that is full still shows that it answers. It has a handful of places
    of its own, and gets nothing there that an HTTP request would not get.
    """

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    async def answer(self, request: web.Request, address: str) -> web.StreamResponse:
        """Show that a client would be answered.

        Args:
            request: a probe's.
            address: where it comes from.
        """
        source = source_of(address)
        if self._open.total() >= MOST or self._open[source] >= MOST_OF_A_SOURCE:
            return refusal(ResourceLimitError("There are too many probes already."))
        self._open[source] += 1
        try:
            socket = web.WebSocketResponse(protocols=(PROBE,), compress=False, max_msg_size=1, timeout=_SECONDS)
            await socket.prepare(request)
            await socket.close(message=b"probe")
        finally:
            self._open[source] -= 1
            if not self._open[source]:
                del self._open[source]
        return socket


# ----------------------------------------------------------------------
# The checks of every request: its source, its host name, and the number of requests before it.

_MISDIRECTED: Final = 421
"""The request is for another host than this server (RFC 9110, section 15.5.20)."""
_ANSWER_SECONDS: Final = 60.0
"""How long an answer may take until the client has taken it."""
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
"""A DNS name as `Host` shows it, in lower case."""

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Hosts:
    """The names of this server, against pages whose name an attacker lets point here (DNS rebinding).

    Any IP address will do: a page that has one in its own address came from there, whoever answers now.

    Args:
        settings: name the server.
        auth: whether tokens are asked for. Without, the machine's name in its network is none of ours:
            what it points to is not for us to say.
    """

    def __init__(self, settings: CurrentSettings, *, auth: bool) -> None:
        self._settings = settings
        self._auth = auth
        self._certified: frozenset[str] = frozenset()
        self.renew()

    def renew(self) -> None:
        """Take over settings that have changed."""
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
        """Go by the names of the server's own certificate, too, instead of those of the one before.

        A name with a `*` stands for hosts of others as well, which may point here what they like, so it
        counts for none. Without tokens none counts: in a private network anybody may say what a name is.

        Args:
            names: in lower case.

        Returns:
            Names with a `*` that fit none of the server's, so that clients may ask in vain.
        """
        found = set(names)
        if not self._auth:
            return []
        self._certified = frozenset(name for name in found if _NAME.fullmatch(name))
        known = {name.partition(".")[2] for name in self._names | self._certified} - {""}
        return sorted(name for name in found if "*" in name and name.partition(".")[2] not in known)

    def check(self, host: str) -> None:
        """Refuse a request for another host.

        Args:
            host: the `Host` that was asked for, in lower case.

        Raises:
            ForbiddenError: it is none of ours.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            name = ""
        if name in self._names or name in self._certified:
            return
        if parse_address(name) is not None and (self._auth or is_loopback(name)):
            return
        raise ForbiddenError("This server does not go by that name (server.allowed_hosts, server.public_url).")


class Guard:
    """A middleware for all routes of an application.

    Args:
        settings: name the trusted proxies.
        hosts: by which names the application may be asked for; None for any.
        admission: how many requests there may be.
        observer: is told of what was refused.
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
        """Take over settings that have changed, from the next request on."""
        self._proxies = Proxies(self._settings.current.server.trusted_proxies, self._settings.current.server.forwarded)
        self._warned = False
        self._admission.renew()
        if self._hosts is not None:
            self._hosts.renew()

    def add_to(self, application: web.Application) -> None:
        """Guard all routes of an application."""

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
        except RateLimitedError as error:  # counted by the admission, and told together
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
        told = {name: ", ".join(request.headers.getall(name)) for name in _FORWARDED if name in request.headers}
        if told and not self._warned and not self._proxies.trusts(direct.address):
            self._warned = True
            reason = f"{direct.address} forwards requests, but is not trusted to say whose (docs/deployment/proxy.md)"
            self._observer.emit(SettingIgnored("server.trusted_proxies", reason))
        return self._proxies.origin_of(direct, told)


async def _anonymous(_: web.Request, response: web.StreamResponse) -> None:
    """Do not tell strangers which versions of which programs they could try holes of."""
    response.headers.popall("Server", None)


def _last(response: web.Response) -> web.Response:
    """An answer behind which the connection ends."""
    response.force_close()
    return response


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    """Send an answer, to a client that takes it within a bound."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await response.prepare(request)
            await response.write_eof()
    except ConnectionError:  # it has gone, as clients may
        return
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
