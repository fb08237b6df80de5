"""What is generated out of the JSON Schema: docs/protocol.md and webui/src/wire/generated.ts.

scripts/generate.py writes both.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from pocket_agent.protocol.json_schema import (
    AGENT_MESSAGE,
    ENTRY_TYPES,
    error_codes,
    first_line,
    protocol_schema,
)
from pocket_agent.protocol.push import PUSHES
from pocket_agent.protocol.requests import FRAMES, REQUESTS

# ----------------------------------------------------------------------
# docs/protocol.md: prose by hand, every table out of the types.

Json = dict[str, Any]

_DOCUMENT_HEAD: Final = """\
# The protocol

This page is made of the server's own types (`make generate`), and a test
fails when it differs from them. `pocket-agent schema` prints the same as a JSON Schema.

## Connecting

A WebSocket at `wss://HOST:8443/ws`, or `ws://127.0.0.1:8080/ws` on the machine itself. Text frames, each
one JSON object; at most `limits.message_size` (1 MiB by default) from a client. A program sends its
device's token as `Authorization: Bearer TOKEN`; without a valid one the handshake is answered with 401.
`pocket-agent devices add NAME` makes a token. A page of the server itself sends the cookie that it got by pairing.
The server pings, and ends a connection that does not answer.

A program that only wants to know whether clients get in offers the subprotocol `pocket-agent.probe`: it needs no
token, and gets 101 and a close frame (1000), or 503 when the server is stopping or too many probe it at once. It
counts among no connections.

## Pairing

`pocket-agent pair`, and the request `pairing_start`, give a code that works once, within five minutes. Over HTTP:

| request | body | answer |
|---|---|---|
| `POST /api/pair` | `{"code", "name", "key"?}` | 200 `{"device": {"id", "name", "view_only", "projects"}}`, a cookie. |
| `POST /api/pair` | `{"code", "name", "token": true}` | The same with `"token"`, and no cookie: for programs. |
| `GET /api/session` | | 200 `{"device", "bound"?, "enroll"?, "nonce"?}`: whose token or cookie it is. |
| `POST /api/enroll` | `{"key"}` | 200 `{"device", "bound"}` and a new cookie, for one that has no key yet. |
| `POST /api/rotate` | `{}` | 200 `{"device"}` and a new cookie, or `"token"` where one was shown; the old one ends. |
| `POST /api/logout` | `{"kill"?}` | 200 `{}`: the device is no more. |

Bodies are `application/json`. A page must be the server's own (`Origin`). What is refused is answered with the
frame of an error, `{"type": "error", "data": {"code", "message"}}`: 400, 401 (no such code, token or cookie), 403
(another site's page), 429 (too many failures; `Retry-After`).

`rotate` and `logout` withdraw the device's queued prompts and end its pairing codes; `withdrawn` and `running` in the
answer say how many prompts that were, and which of its executions go on (see `device_revoke`).

### In a browser

A cookie's value is no token. Browsers send it to every port of the host, so it counts only together with a key of the
page's origin: an ECDSA P-256 key that the page makes with WebCrypto (not extractable) and keeps in IndexedDB. `key` is
its public half (SubjectPublicKeyInfo in DER, base64url without padding). With `key`, `bound` is true from then on, and:

- The page opens `/ws?proof=1`. The first frame of the server is `challenge` with a `nonce`; the first frame of the page
  has to be `{"type": "prove", "data": {"signature"}}` within 10 s. The answer is `prove`, and then everything is as for
  a program. Without the proof the server closes with 4001 and has said nothing else.
- `rotate` and `logout` need the header `Pocket-Agent-Proof: NONCE SIGNATURE`, with the `nonce` of `GET /api/session`,
  which is good once, for a minute.
- `Pocket-Agent-Key: NAME` on `GET /api/session` says which key the page holds (the SHA-256 of its DER in hexadecimal,
  or `none`). Of several cookies of the same name the one of that key counts.

Signed (SHA-256, r and s, base64url without padding) are four lines joined by a line feed: `pocket-agent proof`, the
page's origin, `METHOD PATH` (`GET /ws` for the WebSocket), the nonce. A page that can hold no key (without TLS and not
at a name of localhost, or where IndexedDB is off) leaves `key` out: its cookie alone lets it in, and `device_list`
shows `bound: false`. `enroll` is `required` for a cookie from before this rule, which opens no WebSocket and is traded
once, and `offered` for one without a key.

A device may be allowed less than everything. One that only watches gets `FORBIDDEN` for every request that changes
something. One that sees only some projects gets `PROJECT_NOT_FOUND` for the others, hears nothing of them, and gets
`FORBIDDEN` for what concerns the whole server.

## Frames

A client sends `{"type", "project_id"?, "data"?, "request_id"?}`. Unknown fields are ignored. The project of
a request is the frame's `project_id`, else `data.project_id`, else the one project that the connection has
joined. A connection may join several.

The server sends `{"type", "project_id"?, "timestamp", "request_id"?, "offset"?, "data"}`. `data` is always an
object, `timestamp` is RFC 3339 in UTC with milliseconds. Every request gets exactly one reply, which echoes its
`request_id`, or one `error`. Requests that wait for a project may be overtaken by others; match by
`request_id`. Ignore types and fields that you do not know.
"""

_LOG: Final = """
## The log, and how to miss nothing

Each project has one log of entries, numbered by `offset` from 1 without gaps within an *epoch*. A frame with an
`offset` is an entry, stored before anybody sees it, and the same bytes for everybody. The types are:
{entries}. Everything else is live only: partial text (`agent_message` whose data has the type
`stream_event`), `project_state`, `queue_state`, `project_joined`, `project_left`, `server_stats`.

Keep the `epoch` of the last reply to `project_join`, and the `offset` and the `timestamp` of the last entry. After a
reconnect, join with `since: {{"epoch", "offset", "timestamp"}}`; the time may be left out, and shows the server a log
that was put back to an older state:

- `recovered: true`: each later entry comes once, in order, then what is new.
- `recovered: false`: the epoch is another one (a restored backup, an old copy), or the entries after yours were
  pruned. What comes is the log from its first entry that is still stored; show it instead of what you have.

`since` may also be a bare offset (0 for everything) or an RFC 3339 time. Without it, only what happens from now on
comes. The reply also carries what still waits for somebody (`approvals`, `queue`) and the message that is being
written (`partial`). After it comes one `project_state`, then the entries. Joining again moves your place.

The server never waits for a client: one that reads slowly is served from the store at its own pace, and closed
with 4008 only when it has taken nothing for `websocket.write_timeout`. It reconnects with `since`.

A prompt that is sent again with the same `prompt_id`, because its reply was lost, is the same prompt: it runs once.
"""

_CLOSES: Final = """
## Close codes

| code | meaning | what to do |
|---|---|---|
| 1001 | The server stops or restarts; agents go on. | Reconnect, with `since`. |
| 1008 | Against a policy of the server. | Mend the client. |
| 1009 | A frame larger than `limits.message_size`. | Reconnect; do not send it again. |
| 1011 | The server could not read its store. | Reconnect, with `since`; its log tells more. |
| 4001 | The token is not valid. | Ask for another one. |
| 4008 | The client took nothing for too long. | Reconnect, with `since`. |
| 4009 | The device was revoked, or its token or the certificate replaced. | Pair again. |

After any other end, such as 1006, reconnect with growing, random pauses.
"""


def render_protocol_document() -> str:
    """The whole of docs/protocol.md."""
    definitions: Json = protocol_schema()["$defs"]
    entries = ", ".join(f"`{name}`" for name in sorted(ENTRY_TYPES))
    parts = [_DOCUMENT_HEAD, "\n## Requests\n\n| request | reply | what it does |\n|---|---|---|\n"]
    for name, kind in REQUESTS.items():
        parts.append(f"| [`{name}`](#{name}) | `{kind.spec.reply}` | {first_line(kind)} |\n")
    for name, kind in REQUESTS.items():
        parts.append(f"\n### `{name}`\n\n{first_line(kind)}\n" + _fields(kind.__name__, definitions))
    parts += ["\n## What the server sends\n", _push_sections(definitions)]
    parts += ["\n## Parts of these\n", _parts(definitions), _LOG.format(entries=entries), _error_section(), _CLOSES]
    return "".join(parts)


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
    """The objects that the tables above refer to."""
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
    """A type in words."""
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
    """A link to the heading of a type; GitHub makes anchors by lowering it and leaving punctuation out."""
    name = _BY_FRAME.get(payload)
    if name is None:
        return f"[{payload}](#{payload.lower()})"
    return f"[`{name}`](#{'-'.join([name, *_roles(name)])}) data"


def _bounds(form: Json, key: str, unit: str) -> str:
    return f" of at most {form[key]} {unit}" if key in form else ""


_BY_FRAME: Final = {kind.__name__: name for name, kind in reversed(list(FRAMES.items()))}
"""The first frame that carries each payload, to link to."""


def _error_section() -> str:
    rows = [f"| `{code}` | {about} |\n" for code, about in error_codes().items()]
    head = """
## Errors

`error` answers a request (with its `request_id`), or tells of an execution that failed (an entry). `message` is for
a person, `details` for programs. The connection goes on.

| code | meaning |
|---|---|
"""
    return head + "".join(rows)


# ----------------------------------------------------------------------
# The wire as TypeScript declarations for the web client, out of the JSON Schema.

_TYPESCRIPT_HEAD: Final = """\
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
        _TYPESCRIPT_HEAD,
        *(_declaration(name, definition) for name, definition in payloads.items()),
        _map("Requests", "The data of each request by its type.", _type_names(REQUESTS)),
        _map("Replies", "The data of the reply to each request.", replies),
        _map(
            "Pushes", "The data of what the server says by its type; `agent_message` is the CLI's line.", _push_names()
        ),
        _union("ErrorCode", "What `code` of an error may be.", error_codes()),
        _set("REPEATABLE", "Requests to send again when the connection ended before their reply came.", repeatable),
        _union("EntryType", "Frames that are entries of a log when they have an offset.", sorted(ENTRY_TYPES)),
    ]
    return "\n".join(parts)


def _type_names(kinds: Any) -> dict[str, str]:
    return {name: kind.__name__ for name, kind in kinds.items()}


def _push_names() -> dict[str, str]:
    return {**_type_names(FRAMES), "agent_message": "Readonly<Record<string, unknown>>"}


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
