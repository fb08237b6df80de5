"""The client of an HTTP request: its address, the proxies before it, and the web page that sent it."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from pocket_agent.errors import ForbiddenError
from pocket_agent.events import ClientKind
from pocket_agent.settings import CurrentSettings, is_loopback

# ----------------------------------------------------------------------
# IP addresses: their networks, and the sources that limits count.

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV6_SITE: Final = 64
"""Bits of an IPv6 address that its owner cannot choose (RFC 6177)."""


def parse_address(text: str) -> Address | None:
    """Parse an address, without its zone; IPv4 in the syntax of IPv6 is IPv4. None for other text."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def source_of(address: str) -> str:
    """The source that limits count: an IPv4 address, or the network of an IPv6 one."""
    found = parse_address(address)
    if isinstance(found, ipaddress.IPv6Address) and not found.is_loopback:
        return str(ipaddress.ip_network((found, _IPV6_SITE), strict=False))
    return str(found) if found is not None else address


class Networks:
    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def __contains__(self, address: str) -> bool:
        found = parse_address(address)
        return found is not None and any(found in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)


# ----------------------------------------------------------------------
# The peer of an HTTP request, and the host name by which it reached the server.


@dataclass(frozen=True, slots=True)
class Peer:
    """The client of a request; behind a trusted proxy, the client of the proxy."""

    address: str  # its IP address; empty where the transport has none
    secure: bool  # it used TLS
    host: str  # the `Host` header in lower case, with the port if there is one
    direct: str = ""  # the address at the other end of the connection, which may be a proxy

    @property
    def origin(self) -> str:
        """The web origin by which it reached the server (RFC 6454, section 6.2)."""
        return f"{'https' if self.secure else 'http'}://{self.host}"


_CLIENTS: Final[tuple[tuple[re.Pattern[str], ClientKind], ...]] = (
    (re.compile(r"pocket-agent/\S+ \(chat\)"), "chat"),
    (re.compile(r"pocket-agent/"), "library"),
    (re.compile(r"Mozilla/"), "web"),  # as every browser calls itself
)


def client_kind(user_agent: str) -> ClientKind:
    """The kind of a client, by the header `User-Agent`."""
    return next((kind for pattern, kind in _CLIENTS if pattern.match(user_agent)), "other")


PEER: Final = web.RequestKey("peer", Peer)  # the key in a request, set by the guard

# ----------------------------------------------------------------------
# The headers of trusted reverse proxies.

_MAX_HOPS: Final = 20
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_CHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_PAIR: Final = re.compile(rf'\s*({_CHAR}+)=(?:"((?:[^"\\]|\\.)*)"|((?:{_CHAR}|[:\[\]])*))\s*')
"""A pair of RFC 7239, section 4; colons and brackets may be unquoted, as many proxies send them."""


class Hop(NamedTuple):
    """The client of one proxy, by its headers; None where they do not name it."""

    address: str | None
    scheme: str | None = None
    host: str | None = None


class Proxies:
    """The trusted reverse proxies; `form` names the headers that they write, since others may be the client's."""

    def __init__(self, trusted: Sequence[str], form: Literal["x-forwarded", "forwarded"]) -> None:
        self._trusted = Networks(trusted)
        self._form = form

    def trusts(self, address: str) -> bool:
        return address in self._trusted

    def origin_of(self, direct: Peer, headers: Mapping[str, str]) -> Peer:
        """The client of a request: the last address on its way that is not a trusted proxy.

        Read from the near end, since a client can write the far one. A hop that cannot be parsed ends the reading:
        the client is then the proxy that forwarded it.

        `direct` is the other end of the connection; headers of one name are joined by commas, in order.
        """
        if not self.trusts(direct.address):
            return direct
        hops = self._forwarded(headers) if self._form == "forwarded" else self._x_forwarded(headers)
        found = direct
        for hop in hops:
            if hop.scheme in {"http", "https"}:
                found = replace(found, secure=hop.scheme == "https")
            if hop.host is not None and _HOST.fullmatch(hop.host):
                found = replace(found, host=hop.host.lower())
            if hop.address is None:
                break
            found = replace(found, address=hop.address)
            if not self.trusts(hop.address):
                break
        return found

    def _x_forwarded(self, headers: Mapping[str, str]) -> Iterator[Hop]:
        scheme, host = (_last(headers.get(f"X-Forwarded-{name}", "")) for name in ("Proto", "Host"))
        addresses = [part.strip() for part in headers.get("X-Forwarded-For", "").split(",")][-_MAX_HOPS:]
        for number, text in enumerate(reversed(addresses)):
            yield Hop(_address(text), scheme, host) if number == 0 else Hop(_address(text))

    def _forwarded(self, headers: Mapping[str, str]) -> Iterator[Hop]:
        elements = list(_elements(headers.get("Forwarded", "")))[-_MAX_HOPS:]
        for element in reversed(elements):
            yield Hop(_address(element.get("for", "")), element.get("proto", "").lower() or None, element.get("host"))


def _last(header: str) -> str | None:
    return header.rpartition(",")[2].strip() or None


def _address(text: str) -> str | None:
    """An address, with or without a port; None for other text, such as `unknown`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    found = parse_address(text)
    return str(found) if found is not None else None


def _elements(header: str) -> Iterator[Mapping[str, str]]:
    """The elements of a `Forwarded` header; one that is malformed is empty, and so are those before it."""
    position, pairs = 0, dict[str, str]()
    while position < len(header):
        match = _PAIR.match(header, position)
        if match is None:
            yield {}
            position = _next_element(header, position)
            pairs = {}
            continue
        quoted, plain = match.group(2), match.group(3)
        pairs.setdefault(match.group(1).lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain)
        position = match.end()
        separator = header[position : position + 1]
        position += 1
        if separator != ";":
            yield pairs if separator in {"", ","} else {}
            pairs = {}
            if separator not in {"", ","}:
                position = _next_element(header, position)
    if pairs:
        yield pairs


def _next_element(header: str, position: int) -> int:
    comma = header.find(",", position)
    return len(header) if comma < 0 else comma + 1


# ----------------------------------------------------------------------
# The web pages that may connect: the server's own, and those of server.allowed_origins.

_OWN_SITE = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` for requests of the server's own pages, and of users."""


class Origins:
    """Checks the `Origin` header, which browsers send with requests of a page's script or form."""

    def __init__(self, settings: CurrentSettings) -> None:
        self._settings = settings

    def check(self, peer: Peer, headers: Mapping[str, str]) -> None:
        """Raise ForbiddenError for pages of other sites (RFC 6455 section 10.2); programs send no Origin."""
        allowed = {origin.rstrip("/").lower() for origin in self._settings.current.server.allowed_origins}
        origin = headers.get("Origin", "").rstrip("/").lower()
        if "Origin" in headers and origin not in allowed and not self._own(peer, origin):
            raise ForbiddenError("Pages of this origin may not connect (server.allowed_origins).")

    def check_own(self, peer: Peer, headers: Mapping[str, str]) -> None:
        """Raise ForbiddenError for pages of any other site, for requests that set a cookie; programs send no Origin."""
        foreign = "Origin" in headers and not self.is_own(peer, headers)
        if foreign or headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE:
            raise ForbiddenError("Only the server's own pages may do this.")

    def is_own(self, peer: Peer, headers: Mapping[str, str]) -> bool:
        """Whether a page of the server sent the request; false for programs, which send no Origin."""
        origin = headers.get("Origin")
        return origin is not None and self._own(peer, origin.lower())

    def _own(self, peer: Peer, origin: str) -> bool:
        if origin == self._settings.current.server.public_url:
            return True
        if origin != peer.origin:
            return False
        try:
            host = urlsplit(origin).hostname or ""
        except ValueError:  # such as a bracket without its end
            return False
        # Without tokens a name that an attacker points at loopback must not count as the server's own.
        return bool(host) and (self._settings.current.server.auth or is_loopback(host))
