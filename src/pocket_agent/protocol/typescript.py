"""The wire as TypeScript declarations for the web client, out of the JSON Schema. `python -m` prints them."""

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

from pocket_agent.protocol.request import FRAMES, REQUESTS
from pocket_agent.protocol.schema import ENTRY_TYPES, error_codes, protocol_schema

Json = dict[str, Any]

_HEAD: Final = """\
// Made of the server's own types by `make generate`; do not edit.
"""
_PRIMITIVES: Final = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}
_REFERENCE: Final = "#/$defs/"


def render_typescript() -> str:
    """The text of webui/src/wire/generated.ts."""
    schema = protocol_schema()
    definitions: Json = schema["$defs"]
    frames = [name for name in definitions if name.endswith((".request", ".frame"))]
    payloads = {
        name: definition
        for name, definition in definitions.items()
        if name not in {*frames, "ClientFrame", "ServerFrame"}
    }
    replies = {name: kind.spec.data.__name__ for name, kind in REQUESTS.items()}
    repeatable = [name for name, kind in REQUESTS.items() if kind.spec.repeatable]
    parts = [
        _HEAD,
        *(_declaration(name, definition) for name, definition in payloads.items()),
        _map("Requests", "The data of each request by its type.", _names(REQUESTS)),
        _map("Replies", "The data of the reply to each request.", replies),
        _map("Pushes", "The data of what the server says by its type; `agent_message` is the CLI's line.", _pushes()),
        _union("ErrorCode", "What `code` of an error may be.", error_codes()),
        _set("REPEATABLE", "Requests to send again when the connection ended before their reply came.", repeatable),
        _union("EntryType", "Frames that are entries of a log when they have an offset.", sorted(ENTRY_TYPES)),
    ]
    return "\n".join(parts)


def _names(kinds: Any) -> dict[str, str]:
    return {name: kind.__name__ for name, kind in kinds.items()}


def _pushes() -> dict[str, str]:
    return {**_names(FRAMES), "agent_message": "Readonly<Record<string, unknown>>"}


def _declaration(name: str, definition: Json) -> str:
    about = _comment(str(definition.get("description", "")))
    if "enum" in definition:
        return f"{about}export type {name} = {_enum(definition)};\n"
    required = set(definition.get("required", ()))
    fields = "".join(
        f"  readonly {field}{'' if field in required else '?'}: {_type(value)};\n"
        for field, value in definition.get("properties", {}).items()
    )
    if not fields:
        return f"{about}export type {name} = Readonly<Record<string, never>>;\n"
    return f"{about}export interface {name} {{\n{fields}}}\n"


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REFERENCE)
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return _enum(schema)
    kind = schema.get("type")
    if kind == "array":
        return f"readonly {_element(schema.get('items', {}))}[]"
    if kind == "object":
        return f"Readonly<Record<string, {_type(schema.get('additionalProperties', {}))}>>"
    return _PRIMITIVES.get(str(kind), "unknown")


def _element(schema: Json) -> str:
    text = _type(schema)
    return f"({text})" if "|" in text or text.startswith("readonly ") else text


def _enum(schema: Json) -> str:
    return " | ".join(json.dumps(value) for value in schema["enum"])


def _map(name: str, about: str, members: dict[str, str]) -> str:
    lines = "".join(f"  readonly {key}: {value};\n" for key, value in members.items())
    return f"{_comment(about)}export interface {name} {{\n{lines}}}\n"


def _union(name: str, about: str, values: Any) -> str:
    lines = "".join(f"\n  | {json.dumps(value)}" for value in values)
    return f"{_comment(about)}export type {name} ={lines};\n"


def _set(name: str, about: str, values: list[str]) -> str:
    lines = "".join(f"  {json.dumps(value)},\n" for value in values)
    return f"{_comment(about)}export const {name}: ReadonlySet<string> = new Set<keyof Requests>([\n{lines}]);\n"


def _comment(text: str) -> str:
    lines = list(_lines(text))
    if not lines:
        return ""
    if len(lines) == 1:
        return f"/** {lines[0]} */\n"
    body = "".join(f" * {line}".rstrip() + "\n" for line in lines)
    return f"/**\n{body} */\n"


def _lines(text: str) -> Iterator[str]:
    """The lines of a docstring without its indentation; none can end the comment that they stand in."""
    for line in text.strip().splitlines():
        yield line.strip().replace("*/", "* /")


if __name__ == "__main__":
    sys.stdout.write(render_typescript())
