"""A client of the server: connect, reconnect with recovery, request, subscribe."""

from pocket_agent.client.client import Client, Status
from pocket_agent.client.client_errors import (
    CertificateError,
    ConnectionLostError,
    ProtocolViolationError,
    UnreachableError,
)
from pocket_agent.client.subscription import StreamState, Subscription
from pocket_agent.client.websocket_client import Backoff, Frame

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
