"""The protocol as one JSON Schema, generated from the types that the server uses."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from pocket_agent import __version__
from pocket_agent.errors import PocketAgentError
from pocket_agent.protocol.push import ENTRIES, ErrorData
from pocket_agent.protocol.requests import FRAMES, MAX_REQUEST_ID, REQUESTS

Json = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

AGENT_MESSAGE: Final = "agent_message"

ENTRY_TYPES: Final = frozenset({AGENT_MESSAGE, *ENTRIES})
"""Frames that are entries of a conversation's log when they have an `offset`."""


def error_codes() -> Mapping[str, str]:
    """Every wire code and its meaning, in the order of errors.py."""
    codes: dict[str, str] = {}
    for kind in _descendants(PocketAgentError):
        # A class that inherits its code comes after the one that defines it; those of the client are not on the wire.
        if kind.__module__ == PocketAgentError.__module__:
            codes.setdefault(kind.code, first_line(kind))
    return codes


def _descendants(root: type[PocketAgentError]) -> Iterator[type[PocketAgentError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _descendants(kind)


def first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def protocol_schema() -> Json:
    """A JSON Schema (draft 2020-12) that every frame of both directions fits.

    `$defs/ClientFrame` and `$defs/ServerFrame` are the two directions; the other definitions are a frame and its data
    for each type. Annotations: `x-replies` maps each request to the type of its reply, `x-entries` names the types
    that are stored in a project's log, `x-error-codes` has the meaning of each code.
    """
    definitions = _payloads()
    requests = {f"{name}.request": _request(name, definitions) for name in REQUESTS}
    pushes = {f"{name}.frame": _push(name) for name in [*FRAMES, AGENT_MESSAGE]}
    definitions |= requests | pushes
    for direction, about, frames in (
        ("ClientFrame", "Frames of a client.", requests),
        ("ServerFrame", "Frames of the server: replies and pushes.", pushes),
    ):
        definitions[direction] = {"description": about, "oneOf": [{"$ref": f"#/$defs/{name}"} for name in frames]}
    return {
        "$schema": DIALECT,
        "title": "The wire protocol of Pocket Agent Server",
        "description": f"Made by pocket-agent {__version__}; JSON text frames, one message a frame.",
        "anyOf": [{"$ref": "#/$defs/ClientFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        "$defs": definitions,
        "x-replies": {name: kind.spec.reply for name, kind in REQUESTS.items()},
        "x-entries": sorted(ENTRY_TYPES),
        "x-error-codes": dict(error_codes()),
    }


def _payloads() -> Json:
    """The schema of each `data` and of its parts, by the name of the type."""
    kinds = [*REQUESTS.values(), *dict.fromkeys(FRAMES.values())]
    _, definitions = msgspec.json.schema_components(kinds, schema_hook=_any_value, ref_template="#/$defs/{name}")
    definitions[ErrorData.__name__]["properties"]["code"]["enum"] = list(error_codes())
    return definitions


def _any_value(kind: type) -> Json:
    if kind is object:
        return {"description": "Any JSON value."}
    raise NotImplementedError(kind)  # msgspec then reports the type


def _request(name: str, definitions: Json) -> Json:
    payload = REQUESTS[name].__name__
    data: Json = {"$ref": f"#/$defs/{payload}"}
    needed = bool(definitions[payload]["required"])
    return {
        "title": name,
        "description": first_line(REQUESTS[name]),
        "type": "object",
        "properties": {
            "type": {"const": name},
            "project_id": {"type": ["string", "null"]},
            "request_id": {"type": ["string", "null"], "maxLength": MAX_REQUEST_ID},
            "data": data if needed else {"anyOf": [data, {"type": "null"}]},
        },
        "required": ["type", "data"] if needed else ["type"],
    }


def _push(name: str) -> Json:
    if name == AGENT_MESSAGE:
        about = "A line of the Claude Code CLI, byte for byte."
        data: Json = {"type": "object", "description": about}
    else:
        about = first_line(FRAMES[name])
        data = {"$ref": f"#/$defs/{FRAMES[name].__name__}"}
    properties: Json = {
        "type": {"const": name},
        "project_id": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
        "request_id": {"type": "string"},
        "data": data,
    }
    if name in ENTRY_TYPES:
        properties["offset"] = {"type": "integer", "minimum": 1}
        properties["size"] = {"type": "integer", "minimum": 1}
        properties["cut"] = {"type": "array", "items": {"type": "string"}}
    return {
        "title": name,
        "description": about,
        "type": "object",
        "properties": properties,
        "required": ["type", "timestamp", "data"],
    }
