"""Who is at the other end of an HTTP request, and under which name it reached the server."""

from dataclasses import dataclass
from typing import Final

from aiohttp import web


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
