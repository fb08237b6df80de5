"""docs/protocol.md and webui/src/wire/generated.ts, generated from the JSON Schema by scripts/generate.py."""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pocket_agent.protocol.json_schema import AGENT_MESSAGE, ENTRY_TYPES, Json, error_codes, first_line, protocol_schema
from pocket_agent.protocol.push import PUSHES
from pocket_agent.protocol.requests import FRAMES, LIMITED_MODES, REQUESTS

# ----------------------------------------------------------------------
# docs/protocol.md: protocol.md has the prose, every table comes from the types.


def render_protocol_document() -> str:
    """The whole of docs/protocol.md."""
    definitions: Json = protocol_schema()["$defs"]
    index, requests = "", ""
    for name, kind in REQUESTS.items():
        index += f"| [`{name}`](#{name}) | `{kind.spec.reply}` | {first_line(kind)} |\n"
        requests += f"\n### `{name}`\n\n{first_line(kind)}\n{_fields(kind.__name__, definitions)}"
    return string.Template(Path(__file__).with_name("protocol.md").read_text("utf-8")).substitute(
        index=index,
        requests=requests,
        pushes=_push_sections(definitions),
        parts=_parts(definitions),
        entries=", ".join(f"`{name}`" for name in sorted(ENTRY_TYPES)),
        errors="".join(f"| `{code}` | {about} |\n" for code, about in error_codes().items()),
    )


def _push_sections(definitions: Json) -> str:
    about = "A line of the Claude Code CLI, byte for byte; see its own documentation of stream-json."
    blocks = [f"\n### `{AGENT_MESSAGE}`: push, entry\n\n{about}\nPartial text has no `offset`.\n"]
    for name, kind in FRAMES.items():
        heading = f"\n### `{name}`: {', '.join(_roles(name))}\n\n{_about(kind)}\n"
        blocks.append(heading + _fields(kind.__name__, definitions))
    return "".join(blocks)


def _roles(name: str) -> list[str]:
    is_reply = name == "error" or any(kind.spec.reply == name for kind in REQUESTS.values())
    roles = {"reply": is_reply, "push": name in PUSHES, "entry": name in ENTRY_TYPES}
    return [role for role, applies in roles.items() if applies]


def _about(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())


def _parts(definitions: Json) -> str:
    shown = {kind.__name__ for kind in [*REQUESTS.values(), *FRAMES.values()]}
    blocks = []
    for name, schema in definitions.items():
        if name not in shown and "." not in name and "properties" in schema:
            blocks.append(f"\n### {name}\n\n{schema['description']}\n{_fields(name, definitions)}")
        elif "enum" in schema:
            values = ", ".join(f"`{value}`" for value in schema["enum"])
            blocks.append(f"\n### {name}\n\n{schema['description']} One of {values}.\n")
    return "".join(blocks)


def _fields(name: str, definitions: Json) -> str:
    schema = definitions[name]
    if not schema["properties"]:
        return "\nNo data.\n"
    rows = []
    for field, form in schema["properties"].items():
        optional = "may be left out"
        if form.get("default") is not None:
            optional = f"`{json.dumps(form['default'])}` if left out"
        rows.append(f"| `{field}` | {_form(form)} | {'' if field in schema['required'] else optional} |\n")
    return "\n| field | value | |\n|---|---|---|\n" + "".join(rows)


def _form(form: Json) -> str:
    if "anyOf" in form:
        return " or ".join(_form(option) for option in form["anyOf"])
    if "$ref" in form:
        return _link(form["$ref"].rsplit("/", 1)[-1])
    if "enum" in form:
        values = [f"`{json.dumps(value)}`" for value in form["enum"]]
        return " or ".join(values) if len(values) < 10 else "one of the [error codes](#errors)"
    kind = form.get("type", "any JSON")
    if kind == "array":
        return f"list of {_form(form['items'])}{_bounds(form, 'maxItems', 'items')}"
    if kind in {"integer", "number"} and "maximum" in form:
        return f"{kind} from {form['minimum']} to {form['maximum']}"
    uuid = " (a UUID)" if "pattern" in form else ""
    return f"{kind}{_bounds(form, 'maxLength', 'characters')}{uuid}"


def _link(payload: str) -> str:
    """A link to the heading of a type; GitHub's anchors are lower case, without punctuation."""
    name = _BY_FRAME.get(payload)
    if name is None:
        return f"[{payload}](#{payload.lower()})"
    return f"[`{name}`](#{'-'.join([name, *_roles(name)])}) data"


def _bounds(form: Json, key: str, unit: str) -> str:
    return f" of at most {form[key]} {unit}" if key in form else ""


_BY_FRAME: Final = {kind.__name__: name for name, kind in reversed(list(FRAMES.items()))}
"""The first frame that carries each payload, to link to."""


# ----------------------------------------------------------------------
# The wire as TypeScript declarations for the web client.

_TYPESCRIPT_HEAD: Final = """\
// Generated from the server's types by `make generate`; do not edit.
"""
_PRIMITIVES: Final = {"integer": "number"} | {name: name for name in ("string", "number", "boolean", "null")}


def render_typescript() -> str:
    """The text of webui/src/wire/generated.ts."""
    definitions: Json = protocol_schema()["$defs"]
    payloads = [name for name in definitions if "." not in name and name not in {"ClientFrame", "ServerFrame"}]
    requests = {name: kind.__name__ for name, kind in REQUESTS.items()}
    replies = {name: kind.spec.data.__name__ for name, kind in REQUESTS.items()}
    pushes = {name: kind.__name__ for name, kind in FRAMES.items()} | {
        AGENT_MESSAGE: "Readonly<Record<string, unknown>>"
    }
    repeatable = [name for name, kind in REQUESTS.items() if kind.spec.repeatable]
    parts = [
        _TYPESCRIPT_HEAD,
        *(_declaration(name, definitions[name]) for name in payloads),
        _map("Requests", "The data of each request by its type.", requests),
        _map("Replies", "The data of the reply to each request.", replies),
        _map("Pushes", "The data of each frame by its type; `agent_message` is the CLI's line.", pushes),
        _union("ErrorCode", "The `code` of an error.", error_codes()),
        _set("REPEATABLE", "Requests to send again when the connection ended before their reply came.", repeatable),
        _set("LIMITED_MODES", "The permission modes for a device that is limited to some projects.", LIMITED_MODES),
        _union("EntryType", "Frames that are entries of a log when they have an offset.", sorted(ENTRY_TYPES)),
    ]
    return "\n".join(parts)


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
        return str(schema["$ref"]).removeprefix("#/$defs/")
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


def _set(name: str, about: str, values: Sequence[str]) -> str:
    lines = "".join(f"  {json.dumps(value)},\n" for value in values)
    return f"{_comment(about)}export const {name}: ReadonlySet<string> = new Set([\n{lines}]);\n"


def _comment(text: str) -> str:
    lines = [line.strip() for line in text.strip().replace("*/", "* /").splitlines()]
    if len(lines) < 2:
        return "".join(f"/** {line} */\n" for line in lines)
    body = "".join(f" * {line}".rstrip() + "\n" for line in lines)
    return f"/**\n{body} */\n"
