"""What has happened so far in a load test: plain counts and times, in bounded memory."""

from collections import Counter
from typing import Final

from pocket_agent.client import (
    CertificateError,
    ConnectionLostError,
    Frame,
    ProtocolViolationError,
    UnreachableError,
)
from pocket_agent.errors import PocketAgentError
from pocket_agent.load.histogram import Histogram
from pocket_agent.load.plan import Kind

NOT_SENT: Final = "NOT_SENT"
"""Too many requests were waiting for their answers already."""

_OWN_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (TimeoutError, "TIMEOUT"),
    (ConnectionLostError, "CONNECTION_LOST"),
    (CertificateError, "CERTIFICATE"),
    (UnreachableError, "UNREACHABLE"),
    (ProtocolViolationError, "PROTOCOL_VIOLATION"),
)


def fault_code(error: PocketAgentError | TimeoutError) -> str:
    """The wire code of an error that the server sent, or a name for what happened on the way to it."""
    for kind, code in _OWN_CODES:
        if isinstance(error, kind):
            return code
    assert isinstance(error, PocketAgentError)
    return error.code


class Tally:
    """Counts and times.

    Attributes:
        scheduled: requests that were due.
        latency: for each kind, from when a request was due to its answer, or until it was given up.
        sent_late: from when a request was due to when it was sent.
        connecting: how long each connection took to open.
        answered: requests that had an answer, by kind.
        failed: requests that failed, by kind.
        errors: the same, by code.
        said: what the first error of each code said.
        pushes: messages that came besides the answers.
        received_bytes: the size of the answers and pushes.
        opened: connections that were opened.
        unopened: those that could not be, by code.
        reconnects: how often an open connection ended and came back.
    """

    def __init__(self) -> None:
        self.scheduled = 0
        self.latency = {kind: Histogram() for kind in Kind}
        self.sent_late = Histogram()
        self.connecting = Histogram()
        self.answered: Counter[Kind] = Counter()
        self.failed: Counter[Kind] = Counter()
        self.errors: Counter[str] = Counter()
        self.said: dict[str, str] = {}
        self.pushes = 0
        self.received_bytes = 0
        self.opened = 0
        self.unopened: Counter[str] = Counter()
        self.reconnects = 0

    def replied(self, kind: Kind, reply: Frame) -> None:
        """Count the answer to a request."""
        self.answered[kind] += 1
        self.received_bytes += len(reply.raw)

    def pushed(self, frame: Frame) -> None:
        """Count a message that nobody asked for."""
        self.pushes += 1
        self.received_bytes += len(frame.raw)

    def fault(self, kind: Kind, error: PocketAgentError | TimeoutError) -> None:
        """Count a request that failed."""
        self._fault(kind, fault_code(error), str(error))

    def not_sent(self, kind: Kind) -> None:
        """Count a request that could not be sent, since too many were waiting."""
        self._fault(kind, NOT_SENT, "Too many requests were waiting for their answers.")

    def connected(self, seconds: float) -> None:
        """Count a connection that was opened."""
        self.opened += 1
        self.connecting.record(seconds)

    def unconnected(self, error: PocketAgentError) -> None:
        """Count a connection that could not be opened."""
        code = fault_code(error)
        self.unopened[code] += 1
        self.said.setdefault(code, str(error))

    def _fault(self, kind: Kind, code: str, text: str) -> None:
        self.failed[kind] += 1
        self.errors[code] += 1
        self.said.setdefault(code, text)
