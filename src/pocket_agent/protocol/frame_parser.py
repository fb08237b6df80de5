"""Parse the frames of clients: the envelope, then the data as the request of its type."""

import json
from typing import Annotated, Final, cast

import msgspec
from msgspec import Meta, Struct

from pocket_agent.errors import InvalidMessageError, ValidationError
from pocket_agent.model import project_of
from pocket_agent.protocol.requests import MAX_REQUEST_ID, REQUESTS, ProjectRequest, Request


class _RequestEnvelope(Struct, frozen=True):
    type: str
    project_id: Annotated[str, Meta(max_length=200)] | None = None
    conversation_id: Annotated[str, Meta(max_length=200)] | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")
    request_id: str | None = None


class ClientFrame(Struct, frozen=True):
    """A decoded frame.

    Attributes:
        project_id: that of its envelope, of its data, or of its `conversation_id`.
        conversation_id: that of its envelope; else `project_id`, for the main conversation.
    """

    type: str
    request: Request
    project_id: str | None
    conversation_id: str | None
    request_id: str | None


class _RequestId(Struct, frozen=True):
    request_id: str | None = None


_NULL: Final = msgspec.Raw(b"null")
_envelope = msgspec.json.Decoder(_RequestEnvelope)
_request_id = msgspec.json.Decoder(_RequestId)
_payloads: Final = {name: msgspec.json.Decoder(kind) for name, kind in REQUESTS.items()}


def request_id_of(frame: bytes | str) -> str | None:
    """The `request_id` of a frame that may be invalid in every other way, so that its error can name it."""
    found: object
    try:
        found = _request_id.decode(frame).request_id
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        found = _request_id_leniently(frame)
    return found if isinstance(found, str) and len(found) <= MAX_REQUEST_ID else None


def _request_id_leniently(frame: bytes | str) -> object:
    """For JSON that msgspec refuses: escaped lone surrogates, and numbers beyond a float."""
    try:
        read = json.loads(frame, parse_int=float)
        found = read.get("request_id") if isinstance(read, dict) else None
        str(found).encode()  # the error's frame has to be able to hold it
    except (ValueError, RecursionError):
        return None
    return cast("object", found)


def decode(frame: bytes | str) -> ClientFrame:
    """Decode a text frame as a typed request.

    Raises:
        InvalidMessageError: not JSON, not an object, no `type`, or a type that does not exist.
        ValidationError: its `data` does not fit its type, or it names two projects or a conversation of another one.
    """
    try:
        envelope = _envelope.decode(frame)
    except msgspec.ValidationError as error:
        raise InvalidMessageError(f"Not a message of this protocol: {error}.") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidMessageError(f"Not valid JSON: {error}.") from error
    except RecursionError as error:
        raise InvalidMessageError("The message is nested too deeply.") from error
    if envelope.request_id is not None and len(envelope.request_id) > MAX_REQUEST_ID:
        raise InvalidMessageError(f"request_id is longer than {MAX_REQUEST_ID} characters.")
    decoder = _payloads.get(envelope.type)
    if decoder is None:
        raise InvalidMessageError(f"Unknown message type {envelope.type[:100]!r}.")
    try:
        request = decoder.decode(b"{}" if envelope.data == _NULL else envelope.data)
    except msgspec.MsgspecError as error:
        raise ValidationError(f"{envelope.type}: {error}.") from error
    except RecursionError as error:
        raise InvalidMessageError("The message is nested too deeply.") from error
    inner = request.project_id if isinstance(request, ProjectRequest) else None
    project_id = inner if envelope.project_id is None else envelope.project_id
    if inner not in {None, project_id}:
        raise ValidationError("project_id of the frame and data.project_id name two different projects.")
    conversation_id = envelope.conversation_id
    if conversation_id is None:
        conversation_id = project_id
    elif project_id is None:
        project_id = project_of(conversation_id)
    elif project_of(conversation_id) != project_id:
        raise ValidationError("conversation_id is not the id of a conversation of project_id.")
    return ClientFrame(envelope.type, request, project_id, conversation_id, envelope.request_id)
