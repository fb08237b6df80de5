"""IP addresses: which networks they are in, and what counts as one source."""

import ipaddress
from collections.abc import Iterable
from typing import Final

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
