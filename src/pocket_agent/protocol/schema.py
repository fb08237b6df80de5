"""The protocol as one JSON Schema, made of the types that the server itself uses."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from pocket_agent import __version__
from pocket_agent.errors import PocketAgentError
from pocket_agent.protocol.push import PUSHES, REPLY_TYPES, ErrorData, ProjectListData, ProjectStateData
from pocket_agent.protocol.request import MAX_REQUEST_ID, REQUESTS

Json = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

ENTRY_TYPES: Final = frozenset(
    {
        "agent_message",
        "approval_cancelled",
        "approval_requested",
        "approval_resolved",
        "error",
        "process_killed",
        "prompt",
        "session_reset",
    }
)
"""Frames that are entries of a project's log when they bear an `offset`."""

AGENT_MESSAGE: Final = "agent_message"


class _ProjectList(msgspec.Struct):
    """Reply to `project_list`."""

    projects: list[ProjectStateData]
    total: int


def error_codes() -> Mapping[str, str]:
    """Every wire code with what it means, in the order of errors.py."""
    return {kind.code: _first_line(kind) for kind in _errors(PocketAgentError)}


def _errors(root: type[PocketAgentError]) -> Iterator[type[PocketAgentError]]:
    for kind in root.__subclasses__():
        if kind.__module__ != PocketAgentError.__module__:
            continue  # a client's own errors never cross the wire
        if "code" in vars(kind) or kind.code not in {parent.code for parent in PocketAgentError.__subclasses__()}:
            yield kind
        yield from _errors(kind)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def protocol_schema() -> Json:
    """A JSON Schema (draft 2020-12) that every frame of both directions fits.

    `$defs/ClientFrame` and `$defs/ServerFrame` are the two directions; beside them stands a frame and
    its data for each type. Annotations: `x-replies` maps each request to the type of its reply, `x-entries`
    names the types that are stored in a project's log, `x-error-codes` says what each code means.
    """
    definitions = _payloads()
    requests = {f"{kind}.request": _request(name, kind) for name, kind in _request_names().items()}
    pushes = {f"{name}.frame": _push(name) for name in [*PUSHES, AGENT_MESSAGE]}
    definitions |= requests | pushes
    definitions["ClientFrame"] = {
        "description": "What a client may say.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in requests],
    }
    definitions["ServerFrame"] = {
        "description": "What the server may say: replies and pushes.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in pushes],
    }
    return {
        "$schema": DIALECT,
        "title": "The wire protocol of Pocket Agent Server",
        "description": f"Made by pocket-agent {__version__}; JSON text frames, one message a frame.",
        "anyOf": [{"$ref": "#/$defs/ClientFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        "$defs": definitions,
        "x-replies": {name: REPLY_TYPES.get(name, name) for name in REQUESTS},
        "x-entries": sorted(ENTRY_TYPES),
        "x-error-codes": dict(error_codes()),
    }
