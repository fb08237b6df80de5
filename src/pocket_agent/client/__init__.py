"""A client of the server: connect, reconnect with recovery, request, subscribe."""

from pocket_agent.client.backoff import Backoff
from pocket_agent.client.client import Client, Status
from pocket_agent.client.fault import (
    CertificateError,
    ConnectionLostError,
    ProtocolViolationError,
    UnreachableError,
)
from pocket_agent.client.frame import Frame
from pocket_agent.client.subscription import StreamState, Subscription

__all__ = [
    "Backoff",
    "CertificateError",
    "Client",
    "ConnectionLostError",
    "Frame",
    "ProtocolViolationError",
    "Status",
    "StreamState",
    "Subscription",
    "UnreachableError",
]
