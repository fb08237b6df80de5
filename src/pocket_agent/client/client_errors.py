"""Errors of the client, and error frames as the exceptions that they name."""

from collections.abc import Iterator
from typing import Final

import msgspec

from pocket_agent import errors
from pocket_agent.errors import PocketAgentError
from pocket_agent.protocol.push import ErrorData


class UnreachableError(PocketAgentError, ConnectionError):
    """No server answers at the address, or another program does."""


class CertificateError(UnreachableError):
    """The server's certificate is not one that this client trusts."""


class ConnectionLostError(PocketAgentError, ConnectionError):
    """The connection ended before the reply came; whether the request was carried out is not known."""


class ProtocolViolationError(PocketAgentError):
    """The server sent something that the protocol rules out, such as a log with a hole in it."""


def _tree(root: type[PocketAgentError]) -> Iterator[type[PocketAgentError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_CLASSES: Final[dict[str, type[PocketAgentError]]] = {
    **{kind.code: kind for kind in _tree(PocketAgentError) if "code" in vars(kind)},
    errors.InternalError.code: errors.InternalError,
}
"""The class that defines each wire code; a class that inherits its code is not on the wire."""
_decode_error = msgspec.json.Decoder(ErrorData).decode


def error_from(payload: bytes) -> PocketAgentError:
    """The exception of the `data` of an `error` frame.

    A code that this version does not know becomes a PocketAgentError with the code in front of its message.

    Raises:
        ProtocolViolationError: `payload` is not the data of an error frame.
    """
    try:
        data = _decode_error(payload)
    except msgspec.MsgspecError as error:
        raise ProtocolViolationError(f"The server sent an unreadable error: {error}.") from error
    kind = _CLASSES.get(data.code)
    if kind is None:
        return PocketAgentError(f"{data.code}: {data.message}", details=data.details)
    return kind(data.message, details=data.details)


def copy_error(error: PocketAgentError) -> PocketAgentError:
    """A copy of an exception, since one instance must not be raised in two tasks."""
    copy = type(error)(error.message, details=error.details)
    copy.__cause__ = error
    return copy
