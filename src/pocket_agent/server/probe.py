"""Probes: whoever wants to know whether clients get in, without a token and without being one."""

from collections import Counter
from typing import Final

from aiohttp import web

from pocket_agent.errors import ResourceLimitError
from pocket_agent.protocol.frame import PROBE
from pocket_agent.server.answer import refusal
from pocket_agent.server.network import source_of

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
