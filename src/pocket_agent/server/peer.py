"""The other end of an HTTP request: its address, the proxies before it, and the web page that it comes from."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from pocket_agent.errors import ForbiddenError
from pocket_agent.settings import CurrentSettings, is_loopback

# ----------------------------------------------------------------------
# IP addresses: which networks they are in, and what counts as one source.

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV6_SITE: Final = 64
"""Bits of an IPv6 address that its owner cannot choose at will (RFC 6177)."""


def parse_address(text: str) -> Address | None:
    """An address without its zone, an IPv4 one also where it is written as IPv6; None when it is none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or the network of an IPv6 one."""
    found = parse_address(address)
    if isinstance(found, ipaddress.IPv6Address) and not found.is_loopback:
        return str(ipaddress.ip_network((found, _IPV6_SITE), strict=False))
    return str(found) if found is not None else address


class Networks:
    """A set of networks."""

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
    """The other end of a request; of one that a trusted proxy has passed on, whoever asked the proxy.

    Attributes:
        address: its IP address; empty where the transport tells none.
        secure: whether it came by TLS.
        host: the `Host` that it asked for, in lower case, with the port if it named one.
        direct: the address at the other end of the connection, which is the proxy's if there is one.
    """

    address: str
    secure: bool
    host: str
    direct: str = ""

    @property
    def origin(self) -> str:
        """The web origin under which it reached the server (RFC 6454, section 6.2)."""
        return f"{'https' if self.secure else 'http'}://{self.host}"


PEER: Final = web.RequestKey("peer", Peer)
"""Where the guard leaves it in a request."""


# ----------------------------------------------------------------------
# The headers of reverse proxies; only those of trusted proxies count.

_MAX_HOPS: Final = 20
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_CHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_PAIR: Final = re.compile(rf'\s*({_CHAR}+)=(?:"((?:[^"\\]|\\.)*)"|((?:{_CHAR}|[:\[\]])*))\s*')
"""A pair of RFC 7239, section 4; colons and brackets are let through unquoted, as many send them."""


class Hop(NamedTuple):
    """What one proxy tells of whom it got a request from; None where it does not."""

    address: str | None
    scheme: str | None = None
    host: str | None = None


class Proxies:
    """The reverse proxies that may speak for others.

    Args:
        trusted: their addresses.
        form: which headers they write; others may come from the client.
    """

    def __init__(self, trusted: Sequence[str], form: Literal["x-forwarded", "forwarded"]) -> None:
        self._trusted = Networks(trusted)
        self._form = form

    def trusts(self, address: str) -> bool:
        """Whether this is a trusted proxy."""
        return address in self._trusted

    def origin_of(self, direct: Peer, headers: Mapping[str, str]) -> Peer:
        """Whom a request comes from: the last address on its way that is no trusted proxy.

        Read from the near end, since the far one is the client's to write. What is not understood
        ends the reading there: the request then comes from the proxy that passed it on.

        Args:
            direct: the other end of the connection.
            headers: of the request; several of one name are joined by commas, as aiohttp's `getall` in order.
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
    """The value that the nearest proxy has written."""
    return header.rpartition(",")[2].strip() or None


def _address(text: str) -> str | None:
    """An address, with or without a port; None for anything else, such as `unknown`."""
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
# The web pages that may connect: the server's own, and those of configured origins.

_OWN_SITE = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` that a page of the server itself, or a person, causes."""


class Origins:
    """Knows pages by the `Origin` that browsers send with what a page's script or form asks for."""

    def __init__(self, settings: CurrentSettings) -> None:
        self._settings = settings

    def check(self, peer: Peer, headers: Mapping[str, str]) -> None:
        """Refuse pages of other sites (RFC 6455 section 10.2); programs send no Origin.

        Raises:
            ForbiddenError: the page is neither the server's own nor configured.
        """
        origin = headers.get("Origin")
        if origin is not None and not self._known(peer, origin.rstrip("/").lower()):
            raise ForbiddenError("Pages of this origin may not connect (server.allowed_origins).")

    def check_own(self, peer: Peer, headers: Mapping[str, str]) -> None:
        """Refuse all but the server's own pages, and programs that send no Origin: for what a cookie is made by.

        Raises:
            ForbiddenError: another site's page, a configured one too.
        """
        origin = headers.get("Origin")
        if headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE or (
            origin is not None and not self._own(peer, origin.lower())
        ):
            raise ForbiddenError("Only the server's own pages may do this.")

    def is_own(self, peer: Peer, headers: Mapping[str, str]) -> bool:
        """Whether a page of the server itself asks; false for programs, which send no Origin."""
        origin = headers.get("Origin")
        return origin is not None and self._own(peer, origin.lower())

    def _known(self, peer: Peer, origin: str) -> bool:
        allowed = {allowed.rstrip("/").lower() for allowed in self._settings.current.server.allowed_origins}
        return origin in allowed or self._own(peer, origin)

    def _own(self, peer: Peer, origin: str) -> bool:
        if origin == self._settings.current.server.public_url:
            return True
        if origin != peer.origin:
            return False
        try:
            host = urlsplit(origin).hostname or ""
        except ValueError:  # such as a bracket that is never closed
            return False
        # Without tokens a name that an attacker points at loopback must not count as the server's own.
        return bool(host) and (self._settings.current.server.auth or is_loopback(host))
