"""Which web pages may talk to the server: its own, and those of configured origins."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from pocket_agent.errors import ForbiddenError
from pocket_agent.server.peer import Peer
from pocket_agent.settings import CurrentSettings, is_loopback

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
