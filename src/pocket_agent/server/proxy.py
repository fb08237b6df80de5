"""What reverse proxies tell of the requests that they pass on; only those that are trusted are listened to."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, NamedTuple

from pocket_agent.server.network import Networks, parse_address
from pocket_agent.server.peer import Peer

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
