"""The addresses of the server, as users and links write them."""

import ipaddress
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

import psutil

from pocket_agent.settings import Settings, is_loopback

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_FAR: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Reserved addresses (RFC 5737, RFC 3849), whose route is the default route."""


def in_url(host: str) -> str:
    """A host in the syntax of URLs (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def base_url(scheme: str, host: str, port: int) -> str:
    """The start of a URL, without the default port."""
    return f"{scheme}://{in_url(host)}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def reachable_hosts(host: str) -> list[str]:
    """The addresses of a listener on `host`, those for other machines first."""
    try:
        listening = ipaddress.ip_address(host)
    except ValueError:
        return [host]
    if not listening.is_unspecified:
        return [host]
    found = {address for address in _interface_addresses() if address.version == 4 or listening.version == 6}
    outward = _outward_addresses()
    return [str(address) for address in sorted(found, key=lambda address: _rank(address, outward))]


LOCAL_NAME: Final = "pocket-agent.localhost"
"""The plain listener's own host name. Browsers resolve it to loopback (RFC 6761, section 6.3) and separate its cookies
from those of `localhost` and `127.0.0.1`, which pages of other programs' ports get."""


def local_page(url: str) -> str:
    """The address of the plain listener for a browser; programs may not be able to resolve it."""
    return url.replace("//127.0.0.1", f"//{LOCAL_NAME}", 1)


def page_urls(settings: Settings, port: int, plain_url: str | None) -> list[str]:
    """The URLs of the server's pages, without a slash at the end, the best link for another device first.

    `port` is that of the main listener, `plain_url` the plain listener on loopback, if there is one.
    """
    server = settings.server
    scheme = "https" if server.tls.enabled else "http"
    urls = [server.public_url] if server.public_url is not None else []
    urls += [base_url(scheme, host, port) for host in reachable_hosts(server.host)]
    if plain_url is not None:
        urls.append(local_page(plain_url) if server.auth else plain_url)
    return list(dict.fromkeys(urls))


def _interface_addresses() -> Iterator[_Address]:
    for addresses in psutil.net_if_addrs().values():
        for found in addresses:
            if found.family in {socket.AF_INET, socket.AF_INET6}:
                address = ipaddress.ip_address(found.address.partition("%")[0])
                if not address.is_link_local:  # needs the name of an interface, which a URL cannot contain
                    yield address


def _outward_addresses() -> set[_Address]:
    """The source addresses of the default route, not those of bridges for containers and virtual machines.

    Connecting a UDP socket sends nothing: the kernel finds the route and takes its source address.
    """
    found: set[_Address] = set()
    for family, far in _FAR.items():
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            found.add(ipaddress.ip_address(probe.getsockname()[0]))
    return found


def _rank(address: _Address, outward: Collection[_Address]) -> tuple[bool, int, bool, int]:
    return is_loopback(str(address)), address.version, address not in outward, int(address)
