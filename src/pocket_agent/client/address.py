"""Where the server is, and how to be let in."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pocket_agent.client.fault import UnreachableError


@dataclass(frozen=True)
class Address:
    """Where the server is, and how to be let in.

    Attributes:
        url: ws:// or wss://, with the path.
        token: the device's token; None for a server without authentication.
        tls: how to check the server's certificate; None trusts the system's authorities.
        agent: what this client calls itself (User-Agent).
        heartbeat_seconds: a ping each so many seconds; without a pong in half of it the link is dead.
        connect_seconds: the bound for one attempt to connect.
        check: called before each attempt; raises UnreachableError where the token must not go now.
    """

    url: str
    token: str | None
    tls: ssl.SSLContext | None
    agent: str
    heartbeat_seconds: float
    connect_seconds: float
    check: Callable[[], None] | None = None


def tls_context(given: ssl.SSLContext | Path | str | None) -> ssl.SSLContext | None:
    """A context as it is, or one that trusts the certificate in a file; None stays None.

    Raises:
        UnreachableError: the file cannot be used.
    """
    if given is None or isinstance(given, ssl.SSLContext):
        return given
    try:
        return ssl.create_default_context(cafile=str(given))
    except (OSError, ssl.SSLError) as error:
        raise UnreachableError(f"The certificate file {given} cannot be used: {error}.") from error
