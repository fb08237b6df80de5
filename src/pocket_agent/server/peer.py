"""Who is at the other end of an HTTP request, and under which name it reached the server."""

from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a request.

    Attributes:
        address: its IP address; empty where the transport tells none.
        secure: whether it came by TLS.
        host: the `Host` that it asked for, in lower case, with the port if it named one.
    """

    address: str
    secure: bool
    host: str

    @property
    def origin(self) -> str:
        """The web origin under which it reached the server (RFC 6454, section 6.2)."""
        return f"{'https' if self.secure else 'http'}://{self.host}"


def peer_of(request: web.Request) -> Peer:
    """The other end of a request."""
    return Peer(request.remote or "", request.secure, request.headers.get("Host", "").lower())
